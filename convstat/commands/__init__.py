"""One file per verb of the command line: a function from what was asked to a frozen result."""
