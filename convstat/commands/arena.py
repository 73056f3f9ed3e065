"""The memory of a target on a microcontroller."""

from __future__ import annotations

from convstat.results.arena import Arena
from convstat.targets import analysis
from convstat.targets.arena import deployed_as, of_subject
from convstat.targets.request import NOBODY, Listener, Request


def arena(request: Request, *, listener: Listener = NOBODY) -> Arena:
    """Fold the batch norms of a target, take it for int8, and plan its arena."""
    return of_subject(analysis.prepare(deployed_as(request), listener=listener), listener=listener)
