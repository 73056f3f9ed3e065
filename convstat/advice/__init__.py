"""What is likely a mistake in a model, and what a change of one of its layers would save.

``net`` is a model as the calls of its layers and what each takes from which; ``graphs`` makes it of a spec and
``modules`` of a Python model. ``mistakes`` and ``savings`` find changes, ``effect`` counts what a change saves,
``gather`` puts together those that are one edit, and ``shortest`` finds the fewest that reach a budget.
"""
