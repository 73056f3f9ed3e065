"""torchsummary: parameters and memory, read off the rows that it prints."""
