"""Documents of JSON that convstat writes and reads back: their schemas, and what is refused before it is used."""
