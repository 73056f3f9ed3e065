"""The JSON Schema of the settings, so that an editor completes and checks ``convstat.toml`` as one writes."""

from __future__ import annotations

from typing import Any

from convstat.config import BUDGET_KEYS, DEVICES, DTYPES, KEYS
from convstat.limits import COMPARISONS, LEVELS, METRICS, SCOPES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_AMOUNT: Schema = {"type": ["number", "string"]}


def config_schema() -> Schema:
    """Make the schema of the table, in the dialect of draft 2020-12; its keys are those that are read."""
    types: dict[str, Schema] = {
        "model": _TEXTS,
        "input": _TEXTS,
        "batch": {"type": "integer", "minimum": 1},
        "device": {"enum": list(DEVICES)},
        "dtype": {"enum": list(DTYPES)},
        "counters": _TEXTS,
        "per": _TEXT,
        "format": _TEXT,
        "budget": {"type": "array", "items": {"anyOf": [_TEXT, _budget()]}, "minItems": 1},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of convstat",
        "description": "convstat.toml, or the table [tool.convstat] of pyproject.toml",
        "type": "object",
        "properties": {key: {"description": about, **types[key]} for key, about in KEYS.items()},
        "additionalProperties": False,
    }


def _budget() -> Schema:
    """The long form of a budget, one table."""
    types: dict[str, Schema] = {
        "metric": {"enum": list(METRICS)},
        **dict.fromkeys(COMPARISONS, _AMOUNT),
        "on": _TEXT,
        "per": {"enum": list(SCOPES)},
        "level": {"enum": list(LEVELS)},
        "why": _TEXT,
        "model": _TEXT,
    }
    return {
        "type": "object",
        "properties": {key: {"description": about, **types[key]} for key, about in BUDGET_KEYS.items()},
        "required": ["metric"],
        "anyOf": [{"required": [key]} for key in COMPARISONS],
        "additionalProperties": False,
    }
