"""torchinfo: the rows of its summary."""
