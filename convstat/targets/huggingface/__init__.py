"""Models of transformers and diffusers from their configs: the class that a config names, built without weights.

Nothing is fetched: a config is a file, or the default of a model type; and no code runs that a config brings along.
"""
