"""The JSON Schema of ``convstat.diff/1``; its references are those of the schema of reports."""

from __future__ import annotations

from typing import Any

from convstat.results.diff import COUNTS, STATUSES

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def diff_schema() -> Schema:
    """Make the schema of one diff."""
    counts = _object(dict.fromkeys(COUNTS, _COUNT))
    grown = _object({name: {"type": "integer"} for name in COUNTS})
    ratios = _object({name: {"type": ["number", "null"]} for name in COUNTS})
    place = {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]}
    side = _object(
        {
            "label": _TEXT,
            "commit": _TEXT_OR_NULL,
            "name": {**_TEXT_OR_NULL, "description": "null where there is no such model"},
            "source": _TEXT_OR_NULL,
            "inputs": _list({"$ref": "#/$defs/input"}),
            "batch": {"type": ["integer", "null"]},
            "overrides": {"type": "object"},
            "layers": _COUNT,
            "totals": {"$ref": "#/$defs/totals"},
            "uncounted": _list({"$ref": "#/$defs/uncounted"}),
            "rests_on": _TEXT_OR_NULL,
        },
        optional=("rests_on",),
    )
    layer = _object(
        {
            "name": _TEXT,
            "old_name": {**_TEXT_OR_NULL, "description": "its name in the base, where that was another"},
            "type": _TEXT,
            "status": {"enum": list(STATUSES)},
            "old": {"anyOf": [counts, {"type": "null"}]},
            "new": {"anyOf": [counts, {"type": "null"}]},
            "delta": grown,
            "changes": _list(
                _object(
                    {
                        "argument": _TEXT,
                        "old": {},
                        "new": {},
                        "block": {
                            **_TEXT_OR_NULL,
                            "description": "the block whose argument it is; null where it is the layer's own",
                        },
                        "text": {**_TEXT, "examples": ["kernel_size: 3 -> 5"]},
                    }
                )
            ),
            "source": place,
        }
    )
    return _object(
        {
            "schema": {"const": "convstat.diff/1"},
            "state": {"enum": ["new", "removed", "changed", "unchanged"]},
            "base": side,
            "head": side,
            "delta": {**grown, "description": "head - base; the sum over the layers"},
            "vs_base": {**ratios, "description": "head / base; null where the base has none"},
            "summary": _object(dict.fromkeys(STATUSES, _COUNT)),
            "layers": _list(layer),
            "notes": _list(_TEXT),
        }
    )


def _object(properties: Schema, *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}
