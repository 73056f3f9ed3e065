"""The frozen results of every command, and the documents that they are saved as and read back from."""
