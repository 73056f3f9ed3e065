"""The format for streams: one JSON object on each line, and nothing else.

The first line of a result holds what is said once, with its ``schema``; every further line is one layer, one variant
or one budget. The field ``row`` says which. Together they are the document that ``-f json`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convstat.render.base import Options, Renderer, Result
from convstat.render.formats.json import plain

PARTS: Mapping[str, Mapping[str, str]] = {
    "report": {"layers": "layer", "counters": "counter", "uncounted": "uncounted"},
    "comparison": {"rows": "variant"},
    "check": {"budgets": "budget"},
    "diff": {"layers": "layer"},
    "explanation": {"layers": "layer"},
    "formula": {"layers": "layer"},
    "identification": {"matches": "match", "near": "near"},
    "advice": {"suggestions": "suggestion"},
    "memory": {"phases": "phase", "alive": "alive", "curve": "point"},
    "arena": {"operators": "operator", "tensors": "tensor", "patches": "patches"},
    "mfu": {"rows": "utilisation"},
}
"""Which lists of a document are written line by line, and what ``row`` calls an entry."""

NAMED = ("report", "explanation", "formula", "advice", "memory", "arena", "mfu")
"""The kinds of results whose entries are named with their model."""


class JsonlRenderer(Renderer):
    """JSON Lines: the first line of each result, then its parts, each with the name of the model."""

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson")
    about = "for streams: one layer, variant or budget per line, exact integers"
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        return "".join(
            json.dumps(line, allow_nan=False, default=plain) + "\n" for result in results for line in lines_of(result)
        )


def lines_of(result: Result) -> Iterator[dict[str, Any]]:
    """Take a document apart."""
    kind = result.kind
    document = result.to_dict()
    if isinstance(document, list):
        yield from ({"row": "entry", **entry} for entry in document)
        return
    parts = PARTS[kind]
    yield {"row": kind, **{key: value for key, value in document.items() if key not in parts}}
    for key, row in parts.items():
        for entry in document.get(key, ()):
            # What an entry calls itself stays; a model that it does not name is named.
            lead = {"model": document["model"]["name"]} if kind in NAMED else {}
            yield {"row": row, **lead, **entry}
