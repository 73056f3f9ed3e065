"""The JSON Schema of the settings, so that an editor completes and checks ``convstat.toml`` as one writes."""

from __future__ import annotations

from typing import Any

from convstat.budgets.tables import table_schema
from convstat.config.project import DEVICES, DTYPES, EXISTING, KEYS, MISSING, MODEL_KEYS
from convstat.grammar import widths

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


def config_schema() -> Schema:
    """Make the schema of the table, in the dialect of draft 2020-12; its keys are those that are read."""
    types: dict[str, Schema] = {
        "model": _TEXTS,
        "input": _TEXTS,
        "models": {"type": "array", "items": _model(), "minItems": 1},
        "batch": {"type": "integer", "minimum": 1},
        "device": {"enum": list(DEVICES)},
        "dtype": {"enum": list(DTYPES)},
        "weights": {"type": "string", "pattern": widths.PATTERN},
        "activations": {"type": "string", "pattern": f"^{widths.ONE}$"},
        "counters": _TEXTS,
        "per": _TEXT,
        "format": _TEXT,
        "base": _TEXT,
        "missing-baseline": {"enum": list(MISSING)},
        "existing": {"enum": list(EXISTING)},
        "budget": {"type": "array", "items": {"anyOf": [_TEXT, table_schema()]}, "minItems": 1},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of convstat",
        "description": "convstat.toml, or the table [tool.convstat] of pyproject.toml",
        "type": "object",
        "properties": {key: {"description": about, **types[key]} for key, about in KEYS.items()},
        "additionalProperties": False,
    }


def _model() -> Schema:
    """One table of ``models``."""
    types: dict[str, Schema] = {
        "model": _TEXTS,
        "input": _TEXTS,
        "overrides": {"type": "object"},
        "config": _TEXT,
        "batch": {"type": "integer", "minimum": 1},
        "device": {"enum": list(DEVICES)},
        "dtype": {"enum": list(DTYPES)},
        "weights": {"type": "string", "pattern": widths.PATTERN},
        "activations": {"type": "string", "pattern": f"^{widths.ONE}$"},
        "per": _TEXT,
    }
    return {
        "type": "object",
        "properties": {key: {"description": about, **types[key]} for key, about in MODEL_KEYS.items()},
        "required": ["model"],
        "additionalProperties": False,
    }
