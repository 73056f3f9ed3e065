"""Formulas for the FLOPs of language models: those of trainers, of a server, and of papers.

Each is one file: what its formula makes of a model's hyperparameters, and why that is not what the model multiplies.
It is a counter that is predicted only, like the other conventions, for models with the config of a decoder.
"""
