"""What is likely a mistake in a model, and what a change of its layers would save.

``net`` is a model as the calls of its layers and what each takes from which; ``graphs`` makes it of a spec and
``modules`` of a Python model. ``mistakes``, ``savings`` and ``unused`` find changes, ``effect`` counts what they save,
``gather`` puts together those that are one edit, and ``shortest`` finds the fewest that reach a budget. Edits of a
spec's text are written by ``graphs``, calls of constructors by ``writing``.
"""
