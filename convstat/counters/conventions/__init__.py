"""Conventions of tools that are not run: compilers, exporters and reports of devices.

Each is one file: what the tool counts, as a walk over the trace. It is a counter like the others, with a prediction
and its causes, and its rows say ``predicted``.
"""
