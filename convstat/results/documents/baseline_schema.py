"""The JSON Schema of a baseline file, which is written by ``convstat baseline`` and read by ``convstat check``."""

from __future__ import annotations

from typing import Any

from convstat.results.baseline import COUNTS, SCHEMA

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_OTHER: Schema = {"type": "object", "additionalProperties": _COUNT}


def baseline_schema() -> Schema:
    """Make the schema; what is zero or empty may be left away in a layer."""
    shapes = _list(_list(_COUNT))
    counts = dict.fromkeys(COUNTS, _COUNT)
    layer = {"name": _TEXT, "type": _TEXT, "arguments": {"type": "object"}, "in": shapes, "out": shapes}
    asked = {
        "batch": {"type": "integer", "minimum": 1},
        "dtype": _TEXT,
        "inputs": _list(_TEXT),
        "overrides": {"type": "object"},
        "per": _TEXT,
    }
    return _object(
        {
            "schema": {"const": SCHEMA},
            "asked": _object(asked),
            "convention": _TEXT,
            "inputs": _list(_object({"dtype": _TEXT, "name": _TEXT, "shape": _list(_COUNT)})),
            "layers": _list(_object(layer, {**counts, "other": _OTHER, "shares": _TEXT})),
            "mode": _TEXT,
            "name": _TEXT,
            "pixel_basis": _TEXT,
            "pixels": _COUNT,
            "target": _TEXT,
            "totals": _object({**counts, "other": _OTHER}),
            "uncounted": _list(_object({"calls": _COUNT, "layers": _list(_TEXT), "op": _TEXT})),
        },
        {"rests_on": _TEXT},
    )


def _object(properties: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "properties": properties | (optional or {}), "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
