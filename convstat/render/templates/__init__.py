"""Forms that others ask for, filled in with what a model determines; the rest of a form stays empty."""
