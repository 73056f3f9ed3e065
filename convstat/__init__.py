"""convstat: what a network costs, exactly, and why other counters say otherwise."""

__version__ = "0.1.0"
