"""The one room for whatever replaces something in the process for a while, and puts it back."""
