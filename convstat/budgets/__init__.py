"""Limits on what a model costs: their grammar, their table form in settings and specs, and how they are judged."""
