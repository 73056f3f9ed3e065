"""The form in which a spec is deployed: batch norms folded into the layers before them, parallel branches merged.

:func:`~convstat.deploy.graphs.fuse` gives the fused graph, and what was done. A Python model is fused where it is run.
"""
