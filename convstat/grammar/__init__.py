"""The small languages in which users write: overrides and sweeps, wildcards, and paths in the names of models."""
