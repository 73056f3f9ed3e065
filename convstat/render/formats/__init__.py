"""One file per format that is text, and the table of all formats."""
