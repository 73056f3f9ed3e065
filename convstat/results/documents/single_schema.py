"""The JSON Schema of what ``explain``, ``formula`` and ``identify`` write."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_COUNT: Schema = {"type": "integer", "minimum": 0}
_INTEGER: Schema = {"type": "integer"}
_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_FIGURES: Schema = {
    "type": "object",
    "properties": {"params": {"type": ["integer", "null"]}, "macs": {"type": ["integer", "null"]}},
    "required": ["params", "macs"],
}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _model(**more: Schema) -> Schema:
    inputs = _list({"$ref": "#/$defs/input"})
    return _object(name=_TEXT, source=_TEXT, inputs=inputs, batch={"type": "integer", "minimum": 1}, **more)


def explanation_schema() -> Schema:
    """The schema of ``convstat.explanation/1``."""
    formula = {"anyOf": [_object(names=_TEXT, values=_TEXT), {"type": "null"}]}
    step = _object(about=_TEXT, formula=formula, value=_INTEGER, times=_COUNT)
    derived = _object(value=_COUNT, steps=_list(step))
    shapes = _list(_list(_COUNT))
    verdicts = ["convention", "defect", "blindness", "normalisation", "environment", "unexplained"]
    cause = _object(code=_TEXT, verdict={"enum": verdicts}, text=_TEXT, params=_INTEGER, macs=_INTEGER, calls=_COUNT)
    counter = _object(
        name=_TEXT,
        variant=_TEXT,
        version=_TEXT_OR_NULL,
        predicted={"anyOf": [_FIGURES, {"type": "null"}]},
        difference={**_FIGURES, "description": "predicted - convstat = sum of causes"},
        causes=_list(cause),
        error=_TEXT_OR_NULL,
        note=_TEXT_OR_NULL,
    )
    layer = _object(
        name=_TEXT,
        type=_TEXT,
        arguments={"type": "object"},
        calls=_list(_object(name=_TEXT, input_shapes=shapes, output_shapes=shapes)),
        params=derived,
        macs=derived,
        flops=_COUNT,
        other={"type": "object", "additionalProperties": derived},
        counters=_list(counter),
    )
    return _object(
        schema={"const": "convstat.explanation/1"},
        model=_model(kind=_TEXT, overrides={"type": "object"}),
        layers=_list(layer),
    )


def formula_schema() -> Schema:
    """The schema of ``convstat.formula/1``."""
    values = {"type": "object", "additionalProperties": _INTEGER}
    term = _object(
        about=_TEXT,
        symbols={
            **_TEXT_OR_NULL,
            "description": "products, quotients and sums of the names in values; null: no formula",
        },
        numbers=_TEXT_OR_NULL,
        values=values,
        value=_INTEGER,
        times=_COUNT,
    )
    figure = _object(value=_COUNT, terms=_list(term))
    shapes = _list(_list(_COUNT))
    layer = _object(
        name=_TEXT,
        type=_TEXT,
        input_shapes=shapes,
        output_shapes=shapes,
        shares=_TEXT_OR_NULL,
        macs=figure,
        params=figure,
    )
    return _object(
        schema={"const": "convstat.formula/1"},
        model=_model(kind=_TEXT, overrides={"type": "object"}),
        totals=_object(params=_COUNT, macs=_COUNT, flops=_COUNT),
        layers=_list(layer),
        symbols={"type": "object", "additionalProperties": _TEXT},
    )


def kind_formula_schema() -> Schema:
    """The schema of ``convstat.formula-kind/1``."""
    form = _object(about=_TEXT, symbols=_TEXT, needs=_list(_TEXT), usual={"type": "boolean"})
    return _object(
        schema={"const": "convstat.formula-kind/1"},
        name=_TEXT,
        about=_TEXT,
        macs=_list(form),
        params=_list(form),
        symbols={"type": "object", "additionalProperties": _TEXT},
        why=_list(_TEXT),
        special=_list(_object(case=_TEXT, text=_TEXT)),
        output=_TEXT_OR_NULL,
        sources=_list(_TEXT),
        use=_TEXT_OR_NULL,
    )


def identification_schema() -> Schema:
    """The schema of ``convstat.identification/1``."""
    candidate = _object(
        counter=_TEXT,
        version=_TEXT_OR_NULL,
        figure=_TEXT,
        value={"type": "number"},
        distance={"type": "number", "description": "the figure minus the number, as a part of the number"},
        reading={**_TEXT_OR_NULL, "description": "how the figure is that number; null for a near miss"},
        note=_TEXT_OR_NULL,
    )
    return _object(
        schema={"const": "convstat.identification/1"},
        number=_object(text=_TEXT, value={"type": "number"}),
        model=_model(),
        matches=_list(candidate),
        near=_list(candidate),
        silent=_list(_object(counter=_TEXT, reason=_TEXT)),
        looked_at=_COUNT,
    )
