"""A target that was counted."""

from __future__ import annotations

from typing import Any, NamedTuple

from convstat.graph import Graph
from convstat.results.report import Report


class Subject(NamedTuple):
    """A model that was counted, with what else is known of it: how counters run it, and its graph if it is a spec."""

    report: Report
    stages: Any
    graph: Graph | None = None
