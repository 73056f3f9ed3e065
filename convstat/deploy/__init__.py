"""The form in which a network is deployed: batch norms folded, parallel branches merged, and its memory planned.

:func:`~convstat.deploy.graphs.fuse` gives the fused graph of a spec, and what was done; a Python model is fused where
it is run. :func:`~convstat.deploy.operators.program` makes the operators of TensorFlow Lite,
:mod:`~convstat.deploy.planner` places their tensors in an arena, and :mod:`~convstat.deploy.patches` divides the first
ones into patches.
"""
