"""Budgets in their long form, a table: in the settings, and in the list of a spec.

::

    metric = "macs"                 the metric to limit
    max = "300M"                    or min, or exact; "+2%" is relative to a base
    on = "backbone.**%Conv2d"       the layers that it is for
    per = "layer"                   total, each (or layer: the same), share
    level = "warn"
    why = "30 ms on the phone"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from convstat.budgets.limits import (
    COMPARISONS,
    LEVELS,
    METRICS,
    SCOPES,
    Limit,
    LimitError,
    known_metrics,
    make,
    split_metric,
)
from convstat.errors import ConfigError, ConvstatError, Diagnostic, Mark, did_you_mean

BUDGET_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "metric": "the metric to limit; macs_per_pixel[block:128+8] says what to divide by",
        "max": "the largest value allowed; +2% or +10k is relative to the base",
        "min": "the smallest value allowed",
        "exact": "the only value allowed",
        "on": "the layers that it applies to, a pattern: * within a level, ** across levels; %Type for a layer type",
        "per": "total (the sum), each or layer (every such layer) or share (their share of the whole model)",
        "level": "error, warn or off",
        "why": "the reason for the limit, printed when it is exceeded",
        "model": "the models that it applies to, a pattern of paths",
    }
)
"""Every key of a budget's table, and what it means."""

PER = (*SCOPES, "layer")
"""What the key per takes; layer is another word for each."""


def read_table(
    table: Mapping[str, object], mark: Mark, marks: Mapping[str, Mark], error: type[ConvstatError] = ConfigError
) -> list[Limit]:
    """Read the long form, whose keys are known; one limit for each of max, min and exact. Raises ``error``."""
    problems: list[Diagnostic] = []

    def word(key: str, choices: Sequence[str] | None = None, default: str | None = None) -> str | None:
        value = table.get(key, default)
        place = marks.get(key, mark)
        if value is None or (isinstance(value, str) and value and (choices is None or value in choices)):
            return value
        help = () if choices is None else (*did_you_mean(str(value), choices), f"it is one of {', '.join(choices)}")
        problems.append(Diagnostic(f"{key} of a budget cannot be '{value}'", place, help=help))
        return None

    level = word("level", LEVELS, "error") or "error"
    scope = {"layer": "each"}.get(written := word("per", PER, "total") or "total", written)
    why, model, on, metric = word("why"), word("model"), word("on"), word("metric")
    bounds = [key for key in COMPARISONS if key in table]
    if "metric" not in table:
        problems.append(Diagnostic("a budget needs a metric", mark, help=(known_metrics(),)))
    if not bounds:
        problems.append(Diagnostic("a budget needs max, min or exact", mark, help=('for example max = "5M"',)))
    limits = []
    for key in bounds if metric else ():
        value = table[key]
        place = marks.get(key, mark)
        if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
            problems.append(Diagnostic(f"{key} of a budget must be a number or a string such as '5M'", place))
            continue
        amount = value if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else str(value)
        try:
            name, per = split_metric(str(metric))
            limit = make(name, scope, on, COMPARISONS[key], amount, place, level, why, model, per)
            limits.append(replace(limit, on_mark=marks.get("on")))
        except LimitError as problem:
            at = {"metric": "metric", "per": "metric", "scope": "per", "on": "on"}
            place = marks.get(at.get(problem.part, key), mark)
            problems.append(Diagnostic(str(problem), place, help=problem.help))
    if problems:
        # A wrong metric is wrong for max and for min: say it once.
        raise error(list(dict.fromkeys(problems)))
    return limits


def table_schema(keys: Sequence[str] = tuple(BUDGET_KEYS)) -> dict[str, Any]:
    """Make the JSON Schema of a table with these keys."""
    text: dict[str, Any] = {"type": "string", "minLength": 1}
    types: dict[str, dict[str, Any]] = {
        "metric": {"anyOf": [{"enum": list(METRICS)}, {"type": "string", "pattern": r"^macs_per_pixel\[.+\]$"}]},
        **{key: {"type": ["number", "string"]} for key in COMPARISONS},
        "on": text,
        "per": {"enum": list(PER)},
        "level": {"enum": list(LEVELS)},
        "why": text,
        "model": text,
    }
    return {
        "type": "object",
        "properties": {key: {"description": BUDGET_KEYS[key], **types[key]} for key in keys},
        "required": ["metric"],
        "anyOf": [{"required": [key]} for key in COMPARISONS],
        "additionalProperties": False,
    }
