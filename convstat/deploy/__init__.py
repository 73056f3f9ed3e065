"""The form in which a network is deployed: batch norms folded into the layers before them, parallel branches merged.

:func:`~convstat.deploy.graphs.fuse` does so to the graph of a spec, and ``modules`` to a torch model.
"""
