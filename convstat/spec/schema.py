"""The JSON Schema of a spec, for editors: made from the layer table, the grammar and the shipped blocks.

A schema knows neither the variables nor the blocks of a file, so wherever an expression may stand it takes any text,
and in a file with blocks or variables an item that is no layer may be one of them (``item``); in one without, it may
not (``known.item``). The reader of specs knows the rest.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from convstat import layers
from convstat.budgets.tables import BUDGET_KEYS, table_schema
from convstat.grammar import basis, widths
from convstat.layers.base import Layer
from convstat.spec import shipped
from convstat.spec.compile import DTYPES
from convstat.spec.items import GROUPS, MERGES, MODIFIERS, SHORTCUTS, is_merge

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NAME = "^[A-Za-z_][A-Za-z0-9_-]*$"
_VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
_TEXT: Schema = {"type": "string"}
_NULL: Schema = {"type": "null"}
_EXPRESSION: Schema = {"$ref": "#/$defs/expression"}
_VALUE: Schema = {"$ref": "#/$defs/value"}
_LAYERS: Schema = {"$ref": "#/$defs/layers"}
_KNOWN_LAYERS: Schema = {"$ref": "#/$defs/known.layers"}
_REFERENCES: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


def spec_schema() -> Schema:
    """Give the JSON Schema (draft 2020-12) of a spec.

    >>> spec_schema()["anyOf"]
    [{'required': ['input', 'layers']}, {'required': ['parts']}]
    """
    layers.load_plugins()
    return {
        "$schema": DIALECT,
        "title": "convstat spec, version 1",
        "description": "A network whose params and MACs convstat counts. See: convstat docs spec",
        "type": "object",
        "properties": _properties(),
        "anyOf": [{"required": ["input", "layers"]}, {"required": ["parts"]}],
        "additionalProperties": False,
        "if": {"anyOf": [{"required": ["blocks"]}, {"required": ["vars"]}]},
        "else": {"properties": {"layers": {"$ref": "#/$defs/known.layers"}}},
        "$defs": {
            "expression": {
                "description": "A number, or an expression: + - * / // % **, comparisons, and or not, a if t else b,"
                " min max ceil floor round8 abs",
                "type": ["number", "string", "boolean"],
            },
            "value": {
                "description": "A value of a variable or a parameter",
                "anyOf": [_EXPRESSION, _NULL, _list(_EXPRESSION)],
            },
            "sizes": {"description": "The sizes of one sample: channels, height, width", **_list(_EXPRESSION, 1)},
            "layers": _list({"$ref": "#/$defs/item"}),
            "item": {"anyOf": [_known_item(_LAYERS), _own_item()]},
            "known.layers": _list({"$ref": "#/$defs/known.item"}),
            "known.item": _known_item(_KNOWN_LAYERS),
            **{f"layer.{name}": _layer(kind) for name, kind in layers.KINDS.items()},
            **{f"block.{name}": _shipped(name) for name in shipped.NAMES},
        },
    }


def _properties() -> Schema:
    sizes = {"$ref": "#/$defs/sizes"}
    one_input = {"anyOf": [sizes, _object({"shape": sizes, "dtype": {"enum": list(DTYPES)}}, ["shape"])]}
    several = {**_named(one_input, _NAME), "minProperties": 1}
    read = {"description": "The sizes of the input, or several inputs by name", "anyOf": [one_input, several]}
    params = {
        "description": "Parameters and their defaults; null marks a required parameter",
        "anyOf": [_named(_VALUE, _VARIABLE), _NULL],
    }
    inputs = {"description": "The names of the inputs, if there are several", **_REFERENCES}
    block = _object({"params": params, "inputs": inputs, "layers": _LAYERS, "note": _TEXT}, ["layers"])
    per = {
        "description": "The divisor of MACs/pixel: input, output, luma420, samples420, element, block:128+8, or "
        "block:{B}+{E} with expressions in braces",
        "type": "string",
        "pattern": basis.pattern(),
    }
    variant = {
        "type": ["object", "null"],
        "properties": {"input": read, "per": per, "note": _TEXT},
        "additionalProperties": _VALUE,
    }
    part = _object(
        {
            "input": read,
            "calls": {"description": "How often it is called (default: 1)", **_EXPRESSION},
            "layers": _LAYERS,
            "same": {"description": "The part above whose layers and weights it uses", **_TEXT},
            "outputs": {"description": "The names of its outputs, unless the last item is the only one", **_REFERENCES},
            "note": _TEXT,
        },
        ["input"],
    )
    budget = {"anyOf": [_TEXT, table_schema([key for key in BUDGET_KEYS if key != "model"])]}
    return {
        "convstat": {"description": "The version of the grammar", "const": 1},
        "name": {"description": "The name of the model", **_TEXT},
        "note": {"description": "A remark", **_TEXT},
        "input": read,
        "per": per,
        "vars": {
            "description": "Variables, which can be set on the command line: alpha=0.5",
            "anyOf": [_named(_VALUE, _VARIABLE), _NULL],
        },
        "blocks": {
            "description": "Named lists of layers with parameters",
            "anyOf": [_named({"anyOf": [block, _LAYERS]}, _NAME), _NULL],
        },
        "layers": _LAYERS,
        "parts": {
            "description": "A model in parts, each called so many times: an encoder, a decoder, the planes of a codec",
            **_named(part, _NAME),
            "minProperties": 1,
        },
        "models": {"description": "Variants: net.yaml#small", "anyOf": [_named(variant, _NAME), _NULL]},
        "outputs": {"description": "The names of the outputs, unless the last item is the only one", **_REFERENCES},
        "budget": {
            "description": "Limits that convstat check enforces: macs<=600M",
            "anyOf": [budget, _list(budget, 1)],
        },
    }


def _named(value: Schema, pattern: str) -> Schema:
    """The schema of a mapping with names of the user's choice."""
    return {"type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": value}


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    """The schema of a mapping with these keys and no others."""
    needed = {} if required is None else {"required": required}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, **({"minItems": least} if least else {})}


def _modifiers() -> Schema:
    return {
        "name": {"description": "The name of the item", **_TEXT, "pattern": _NAME},
        "from": {"description": "The earlier items to use as inputs; prev is the preceding one", **_REFERENCES},
        "repeat": {
            "description": "The number of repetitions; inside, i counts from 0 and n is this number",
            **_EXPRESSION,
        },
        "when": {"description": "If false, the item is omitted", **_EXPRESSION},
        "share": {"description": "The earlier layer whose weights this layer uses", **_TEXT},
        "frozen": {"description": "If true, the parameters are not trainable", **_EXPRESSION},
        "weights": {
            "description": "The width of the stored weights: int8, or int8+int16 with that of biases",
            "type": "string",
            "pattern": widths.PATTERN,
        },
        "note": {"description": "A remark", **_TEXT},
    }


def _known_item(lists: Schema) -> Schema:
    """An item that is a layer, a shipped block or a group; ``lists`` are the lists of layers in a group."""
    operations: Schema = {name: {"$ref": f"#/$defs/layer.{kind.kind()}"} for name, kind in layers.NAMES.items()}
    operations.update({name: {"$ref": f"#/$defs/block.{name}"} for name in shipped.NAMES})
    shortcut = {"anyOf": [{"enum": list(SHORTCUTS)}, lists, _NULL]}
    paths = {"anyOf": [_named(lists, _NAME), _list(lists, 2)]}
    operations["residual"] = {
        "description": "A body whose output is added to its input",
        **_object({"shortcut": shortcut, "body": lists}, ["body"]),
    }
    operations["parallel"] = {
        "description": "Paths with a common input, and how their outputs are merged",
        **_object({"merge": {"enum": list(MERGES)}, "paths": paths}, ["merge", "paths"]),
    }
    modifiers_alone = {"propertyNames": {"enum": list(MODIFIERS)}}
    return {
        "anyOf": [
            {"description": "A layer or a block without arguments", "enum": [*layers.NAMES, *shipped.NAMES]},
            {**_object({**_modifiers(), **operations}), "not": modifiers_alone},
        ]
    }


def _own_item() -> Schema:
    """An item that is a block of the file, or a variable that names a layer: one word beside the modifiers."""
    call = {
        "description": "A block of this file",
        "anyOf": [_VALUE, {"type": "object", "additionalProperties": _VALUE}],
    }
    layer = {"enum": [*layers.KINDS, *GROUPS]}
    # JSON Schema cannot count the words that are no modifiers: with k modifiers there are at most k + 1 words.
    counted = [
        {"maxProperties": count + 1, "anyOf": [{"required": list(some)} for some in combinations(MODIFIERS, count)]}
        for count in range(len(MODIFIERS) + 1)
    ]
    return {
        "anyOf": [
            {"description": "A block of this file without arguments", "type": "string", "not": layer},
            {
                "type": "object",
                "properties": _modifiers(),
                "propertyNames": {"pattern": _NAME, "not": layer},
                "additionalProperties": call,
                "not": {"propertyNames": {"enum": list(MODIFIERS)}},
                "anyOf": counted,
            },
        ]
    }


def _layer(kind: type[Layer]) -> Schema:
    """The schema of the value of a layer: nothing, its arguments, or the value of the first of them."""
    properties: Schema = {}
    for name, argument in kind.arguments.items():
        written = _loosened(argument.kind.schema())
        about = argument.kind.describe() + (", inferred from the input" if argument.infer is not None else "")
        properties[name] = {"description": about, **written}
        if argument.short:
            properties[argument.short] = {"description": f"{name}: {about}", **written}
    choices: list[Schema] = [_NULL]
    if is_merge(kind):
        choices.append(_REFERENCES)
        properties["inputs"] = _REFERENCES
    elif (scalar := kind.scalar_argument()) is not None:
        choices.append(_loosened(kind.arguments[scalar].kind.schema()))
    required = []
    for name, argument in kind.arguments.items():
        if argument.required:
            names = [name, argument.short] if argument.short else [name]
            required.append({"anyOf": [{"required": [word]} for word in names]})
    arguments = _object(properties)
    if required:
        arguments["allOf"] = required
    first = (kind.__doc__ or kind.kind()).strip().splitlines()[0]
    return {"description": first, "anyOf": [*choices, arguments]}


def _shipped(name: str) -> Schema:
    """The schema of the value of a shipped block."""
    defaults = shipped.defaults(name)
    required = [key for key, default in defaults.items() if default is None]
    properties: Schema = {
        key: {"description": "required" if default is None else f"default: {default}", **_VALUE}
        for key, default in defaults.items()
    }
    return {
        "description": "A block included with convstat: convstat list blocks",
        "anyOf": [_VALUE, _object(properties, required)],
    }


def _loosened(schema: Schema) -> Schema:
    """The schema of an argument, with an expression wherever a value may stand."""
    return {"anyOf": [_inner(schema), _TEXT]}


def _inner(schema: Schema) -> Schema:
    if "anyOf" in schema:
        return {"anyOf": [_inner(choice) for choice in schema["anyOf"]]}
    if schema.get("type") == "array":
        items = {"anyOf": [_inner(schema["items"]), _TEXT]} if "items" in schema else {}
        return {**schema, **({"items": items} if items else {})}
    return schema
