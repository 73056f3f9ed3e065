"""The settings of a project: ``convstat.toml`` read, with its schema, and what it says of a model."""
