"""The JSON Schema of what ``-f json`` writes.

Fields may be added within a version; none is removed or renamed without a new one.
"""

from __future__ import annotations

from convstat.results.advice import Advice
from convstat.results.arena import Arena
from convstat.results.check import Check
from convstat.results.comparison import Comparison
from convstat.results.diff import Diff
from convstat.results.documents.codec import Schema, declared
from convstat.results.explanation import Explanation
from convstat.results.formula import KindFormula, NetworkFormula
from convstat.results.identification import Identification
from convstat.results.memory import Memory
from convstat.results.mfu import Mfu
from convstat.results.ratio import RatioFormula
from convstat.results.report import Report

KINDS = (
    Report, Comparison, Check, Diff, Explanation, NetworkFormula, KindFormula, RatioFormula, Identification, Advice,
    Arena, Memory, Mfu,
)  # fmt: skip


def report_schema() -> Schema:
    """Make the schema, in the dialect of draft 2020-12."""
    definitions: dict[str, Schema] = {}
    single = [declared(kind).schema(definitions) for kind in KINDS]
    report, diff = declared(Report).schema(definitions), declared(Diff).schema(definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What convstat writes as JSON",
        "description": "One object for one result, a list for several. Counts are exact integers; flops is 2 x macs.",
        "anyOf": [
            *single,
            {"type": "array", "minItems": 2, "items": report},
            {"type": "array", "items": diff},
        ],
        "$defs": definitions,
    }
