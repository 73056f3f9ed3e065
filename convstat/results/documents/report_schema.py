"""The JSON Schema of what ``-f json`` writes: reports, comparisons and checks.

Fields may be added within a version; none is removed or renamed without a new one.
"""

from __future__ import annotations

from typing import Any

from convstat.results.documents.diff_schema import diff_schema
from convstat.results.documents.single_schema import (
    explanation_schema,
    formula_schema,
    identification_schema,
    kind_formula_schema,
)

Schema = dict[str, Any]

_COUNT: Schema = {"type": "integer", "minimum": 0}
_INTEGER: Schema = {"type": "integer"}
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_BOOL: Schema = {"type": "boolean"}
_SHAPE: Schema = {"type": "array", "items": _COUNT}
_NUMBER: Schema = {"type": "number"}


def report_schema() -> Schema:
    """Make the schema, in the dialect of draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What convstat writes as JSON",
        "description": "One object for one result, a list for several. Counts are exact integers; flops is 2 x macs.",
        "anyOf": [
            {"$ref": "#/$defs/report"},
            {"$ref": "#/$defs/comparison"},
            {"$ref": "#/$defs/check"},
            {"$ref": "#/$defs/diff"},
            {"$ref": "#/$defs/explanation"},
            {"$ref": "#/$defs/formula"},
            {"$ref": "#/$defs/kind_formula"},
            {"$ref": "#/$defs/identification"},
            {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/report"}},
            {"type": "array", "items": {"$ref": "#/$defs/diff"}},
        ],
        "$defs": {
            "report": _report(),
            "comparison": _comparison(),
            "check": _check(),
            "diff": diff_schema(),
            "explanation": explanation_schema(),
            "formula": formula_schema(),
            "kind_formula": kind_formula_schema(),
            "identification": identification_schema(),
            "input": _object({"name": _TEXT, "shape": _SHAPE, "dtype": _TEXT}),
            "totals": _object({**_counts(), "pixels": _COUNT, "pixel_basis": _TEXT}),
            "figures": _figures(_or_null(_INTEGER)),
            "reported": _figures(_or_null(_COUNT), memory=True),
            "uncounted": _object({"op": _TEXT, "calls": _COUNT, "layers": _TEXTS}),
            "place": _object({"file": _TEXT, "line": {"type": "integer", "minimum": 1}}),
        },
    }


def _object(properties: Schema, *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _counts() -> Schema:
    return {
        "params": _COUNT,
        "trainable_params": _COUNT,
        "buffers": _COUNT,
        "weight_bytes": _COUNT,
        "macs": _COUNT,
        "flops": _COUNT,
        "macs_per_pixel": {"type": ["number", "null"], "description": "macs / pixels; null where there are no pixels"},
        "other": {
            "type": "object",
            "additionalProperties": _COUNT,
            "description": "work that is not MACs, by name",
        },
    }


def _figures(count: Schema, *, memory: bool = False) -> Schema:
    properties: Schema = {"params": count, "macs": count}
    if memory:
        properties["memory_mib"] = _or_null({"type": "object", "additionalProperties": _NUMBER})
    return _object(properties)


def _report() -> Schema:
    model = {
        "name": _TEXT,
        "source": _TEXT,
        "kind": _TEXT,
        "inputs": _list(_ref("input")),
        "batch": {"type": "integer", "minimum": 1},
        "device": {"type": "string", "description": "where the peers ran; none where nothing had to run"},
        "mode": _TEXT,
        "dtype": _TEXT,
        "overrides": {"type": "object"},
        "notes": _TEXTS,
        "convention": {"type": "string", "description": "the counter in whose convention the figures are, by --as"},
        "counts": _TEXT,
        "rests_on": {
            "type": ["string", "null"],
            "description": "what the MACs are where they depend on data, and why: an upper bound, or those of a run",
        },
        "values": {"type": ["string", "null"], "description": "where the values of the inputs are from, if read"},
    }
    layer = {
        "name": _TEXT,
        "type": _TEXT,
        "input_shapes": _list(_SHAPE),
        "output_shapes": _list(_SHAPE),
        **_counts(),
        "arguments": {"type": "object"},
        "shares": {"type": ["string", "null"], "description": "the layer whose parameters this call uses"},
        "note": {"type": ["string", "null"]},
        "source": _or_null(_ref("place")),
    }
    cause = {
        "code": _TEXT,
        "verdict": {"enum": ["convention", "defect", "blindness", "normalisation", "environment", "unexplained"]},
        "text": _TEXT,
        "params": _INTEGER,
        "macs": _INTEGER,
        "calls": _COUNT,
        "layers": _TEXTS,
    }
    counter = {
        "name": _TEXT,
        "variant": _TEXT,
        "version": {"type": ["string", "null"]},
        "status": {
            "enum": ["ok", "failed", "unavailable", "skipped", "predicted"],
            "description": "predicted: it was not to be run, so it reported nothing; see predicted",
        },
        "device": {"type": ["string", "null"]},
        "native": {
            "type": "object",
            "additionalProperties": _COUNT,
            "description": "what the counter prints, by its own unit, where that is not MACs",
        },
        "reported": _ref("reported"),
        "predicted": _or_null(_ref("reported")),
        "difference": {
            **_ref("figures"),
            "description": "reported - convstat = sum of causes + unexplained; predicted - convstat if it was not run",
        },
        "causes": _list(_object(cause)),
        "unexplained": {**_ref("figures"), "description": "reported - predicted"},
        "error": {"type": ["string", "null"]},
        "foreseen": {"type": "boolean", "description": "whether its prediction says that it gives no answer"},
        "note": {"type": ["string", "null"], "description": "what is to be known about its figures"},
    }
    return _object(
        {
            "schema": {"const": "convstat.report/1"},
            "model": _object(model, optional=("notes", "convention", "counts", "rests_on", "values")),
            "totals": _ref("totals"),
            "layers": _list(_object(layer)),
            "counters": _list(_object(counter, optional=("foreseen", "native", "note"))),
            "uncounted": _list(_ref("uncounted")),
            "groups": {"type": "object", "additionalProperties": _TEXT},
            "calls": {
                "type": "object",
                "description": "how the blocks of a spec were called, by their paths",
                "additionalProperties": _object({"arguments": {"type": "object"}, "source": _or_null(_ref("place"))}),
            },
            "status": {
                "enum": ["complete", "upper_bound", "incomplete"],
                "description": "upper_bound: the count rests on an assumption about data; see model.rests_on",
            },
        },
        optional=("calls",),
    )


def _comparison() -> Schema:
    ratios = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
    counter = {
        "name": _TEXT,
        "variant": _TEXT,
        "version": {"type": ["string", "null"]},
        "status": {"enum": ["ok", "failed", "unavailable", "skipped"]},
        "reported": _ref("figures"),
        "error": {"type": ["string", "null"]},
    }
    row = {
        "model": _TEXT,
        "values": {"type": "object"},
        "status": {"enum": ["ok", "invalid"]},
        "reason": {"type": ["string", "null"]},
        "help": _TEXTS,
        "totals": _or_null(_ref("totals")),
        "vs_base": _or_null({**ratios, "description": "each count divided by the base's; 1 is no change"}),
        "counters": _list(_object(counter)),
    }
    return _object(
        {
            "schema": {"const": "convstat.comparison/1"},
            "models": _TEXTS,
            "axes": _list(_object({"name": _TEXT, "values": {"type": "array"}, "text": _TEXT})),
            "zipped": _BOOL,
            "constants": {"type": "object"},
            "base": {"type": ["object", "null"], "description": "the values of the first valid row"},
            "default": {"type": ["string", "null"]},
            "notes": _TEXTS,
            "rows": _list(_object(row)),
        }
    )


def _check() -> Schema:
    quotient = {"type": ["string", "null"], "pattern": r"^-?\d+(/\d+)?$"}
    number = {"type": ["number", "null"]}
    offender = {
        "layer": _TEXT,
        "type": _TEXT,
        "value": _NUMBER,
        "share": number,
        "source": _or_null(_ref("place")),
    }
    growth = {
        "layer": {"type": ["string", "null"]},
        "type": {"type": "string"},
        "status": {"type": "string"},
        "old": _NUMBER,
        "new": _NUMBER,
        "delta": _NUMBER,
        "why": {"type": "string"},
        "source": _or_null(_ref("place")),
        "layers": _COUNT,
    }
    base = {
        "state": {"enum": ["found", "new", "missing"]},
        "kind": {"enum": ["git", "baseline", "report", "target", "none"]},
        "label": _TEXT,
        "commit": {"type": ["string", "null"]},
        "totals": _or_null(_ref("totals")),
        "reason": {"type": ["string", "null"]},
    }
    budget = {
        "model": _TEXT,
        "metric": _TEXT,
        "scope": {"enum": ["total", "each", "share"]},
        "on": {"type": ["string", "null"]},
        "comparison": {"enum": ["<=", ">=", "=="]},
        "limit": {**number, "description": "null where it is relative and there is no base"},
        "actual": number,
        "headroom": {**number, "description": "negative where the limit is missed"},
        "base": {**number, "description": "the same figure of the base, where one was needed"},
        "exact": _object(dict.fromkeys(("limit", "actual", "headroom", "base"), quotient)),
        "relative": _BOOL,
        "level": {"enum": ["error", "warn", "off"]},
        "limit_text": _TEXT,
        "text": _TEXT,
        "status": {"enum": ["pass", "fail", "warn", "skip"]},
        "reason": {"type": ["string", "null"]},
        "where": _TEXT,
        "why": {"type": ["string", "null"]},
        "violations": _COUNT,
        "offenders": _list(_object(offender)),
        "growth": {
            **_list(_object(growth)),
            "description": "layers that grew since the base; the others are one row without a layer, so they add up",
        },
    }
    model = {
        "name": _TEXT,
        "source": _TEXT,
        "inputs": _list(_ref("input")),
        "batch": {"type": "integer", "minimum": 1},
        "overrides": {"type": "object"},
        "totals": _ref("totals"),
        "uncounted": _list(_ref("uncounted")),
        "rests_on": {"type": ["string", "null"]},
        "base": _or_null(_object(base)),
    }
    return _object(
        {
            "schema": {"const": "convstat.check/1"},
            "models": _list(_object(model, optional=("rests_on",))),
            "budgets": _list(_object(budget)),
            "status": {"enum": ["ok", "exceeded", "incomplete"]},
            "notes": _TEXTS,
            "removed": _TEXTS,
            "exit_code": {"enum": [0, 1, 4]},
        }
    )
