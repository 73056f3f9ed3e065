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
from convstat.layers.base import Layer
from convstat.spec import shipped
from convstat.spec.inputs import DTYPES
from convstat.spec.items import GROUPS, MERGES, MODIFIERS, SHORTCUTS, is_merge
from convstat.spec.load import Map, Scalar

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NAME = "^[A-Za-z_][A-Za-z0-9_-]*$"
_VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
_EXPRESSION: Schema = {"$ref": "#/$defs/expression"}
_VALUE: Schema = {"$ref": "#/$defs/value"}
_LAYERS: Schema = {"$ref": "#/$defs/layers"}
_KNOWN_LAYERS: Schema = {"$ref": "#/$defs/known.layers"}
_REFERENCES: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


def spec_schema() -> Schema:
    """Give the JSON Schema (draft 2020-12) of a spec.

    >>> spec_schema()["required"]
    ['input', 'layers']
    """
    layers.load_plugins()
    return {
        "$schema": DIALECT,
        "title": "convstat spec, version 1",
        "description": "A network whose params and MACs convstat counts. See: convstat docs spec",
        "type": "object",
        "properties": _properties(),
        "required": ["input", "layers"],
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
                "description": "What a variable or a parameter can be",
                "anyOf": [_EXPRESSION, {"type": "null"}, {"type": "array", "items": _EXPRESSION}],
            },
            "sizes": {
                "description": "The sizes of one sample: channels, height, width",
                "type": "array",
                "items": _EXPRESSION,
                "minItems": 1,
            },
            "layers": {"type": "array", "items": {"$ref": "#/$defs/item"}},
            "item": {"anyOf": [_known_item(_LAYERS), _own_item()]},
            "known.layers": {"type": "array", "items": {"$ref": "#/$defs/known.item"}},
            "known.item": _known_item(_KNOWN_LAYERS),
            **{f"layer.{name}": _layer(kind) for name, kind in layers.KINDS.items()},
            **{f"block.{name}": _shipped(name) for name in shipped.NAMES},
        },
    }


def _properties() -> Schema:
    one_input = {
        "anyOf": [
            {"$ref": "#/$defs/sizes"},
            {
                "type": "object",
                "properties": {"shape": {"$ref": "#/$defs/sizes"}, "dtype": {"enum": list(DTYPES)}},
                "required": ["shape"],
                "additionalProperties": False,
            },
        ]
    }
    several = {
        "type": "object",
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": one_input,
        "minProperties": 1,
    }
    read = {"description": "The sizes of the input, or several inputs by name", "anyOf": [one_input, several]}
    block = {
        "type": "object",
        "properties": {
            "params": {
                "description": "Parameters and their defaults; null: must be given",
                "anyOf": [_named(_VALUE, _VARIABLE), {"type": "null"}],
            },
            "inputs": {"description": "The names of what comes in, where it is several", **_REFERENCES},
            "layers": _LAYERS,
            "note": {"type": "string"},
        },
        "required": ["layers"],
        "additionalProperties": False,
    }
    variant = {
        "type": ["object", "null"],
        "properties": {"input": read, "note": {"type": "string"}},
        "additionalProperties": _VALUE,
    }
    budget = {"anyOf": [{"type": "string"}, table_schema([key for key in BUDGET_KEYS if key != "model"])]}
    return {
        "convstat": {"description": "The version of the grammar", "const": 1},
        "name": {"description": "What the model is called", "type": "string"},
        "note": {"description": "A remark", "type": "string"},
        "input": read,
        "vars": {
            "description": "Variables, which can be set from outside: alpha=0.5",
            "anyOf": [_named(_VALUE, _VARIABLE), {"type": "null"}],
        },
        "blocks": {
            "description": "Lists of layers with a name and parameters",
            "anyOf": [_named({"anyOf": [block, _LAYERS]}, _NAME), {"type": "null"}],
        },
        "layers": _LAYERS,
        "models": {
            "description": "Variants: net.yaml#small",
            "anyOf": [_named(variant, _NAME), {"type": "null"}],
        },
        "outputs": {"description": "What comes out, where it is not the last item alone", **_REFERENCES},
        "budget": {
            "description": "Limits that convstat check enforces: macs<=600M",
            "anyOf": [budget, {"type": "array", "items": budget, "minItems": 1}],
        },
    }


def _named(value: Schema, pattern: str) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": pattern}, "additionalProperties": value}


def _modifiers() -> Schema:
    return {
        "name": {"description": "What the item is called", "type": "string", "pattern": _NAME},
        "from": {"description": "The earlier items that it takes; prev is the one above", **_REFERENCES},
        "repeat": {"description": "How often; inside, i counts from 0 and n is how often", **_EXPRESSION},
        "when": {"description": "Where false, the item is left out", **_EXPRESSION},
        "share": {"description": "The earlier layer whose weights it uses", "type": "string"},
        "frozen": {"description": "Where true, its parameters do not train", **_EXPRESSION},
        "note": {"description": "A remark", "type": "string"},
    }


def _known_item(lists: Schema) -> Schema:
    """An item that is a layer, a shipped block or a group; ``lists`` are the lists of layers in a group."""
    operations: Schema = {name: {"$ref": f"#/$defs/layer.{kind.kind()}"} for name, kind in layers.NAMES.items()}
    operations.update({name: {"$ref": f"#/$defs/block.{name}"} for name in shipped.NAMES})
    operations["residual"] = {
        "description": "A body whose output is added to what comes in",
        "type": "object",
        "properties": {
            "shortcut": {"anyOf": [{"enum": list(SHORTCUTS)}, lists, {"type": "null"}]},
            "body": lists,
        },
        "required": ["body"],
        "additionalProperties": False,
    }
    operations["parallel"] = {
        "description": "Paths that start from the same place, and how their ends are merged",
        "type": "object",
        "properties": {
            "merge": {"enum": list(MERGES)},
            "paths": {
                "anyOf": [_named(lists, _NAME), {"type": "array", "items": lists, "minItems": 2}],
            },
        },
        "required": ["merge", "paths"],
        "additionalProperties": False,
    }
    return {
        "anyOf": [
            {"description": "A layer or a block without arguments", "enum": [*layers.NAMES, *shipped.NAMES]},
            {
                "type": "object",
                "properties": {**_modifiers(), **operations},
                "additionalProperties": False,
                "not": {"propertyNames": {"enum": list(MODIFIERS)}},
            },
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
    """What may stand behind the name of a layer: nothing, its arguments, or the value of the first of them."""
    properties: Schema = {}
    for name, argument in kind.arguments.items():
        written = _loosened(argument.kind.schema())
        about = argument.kind.describe() + (", follows from the input" if argument.infer is not None else "")
        properties[name] = {"description": about, **written}
        if argument.short:
            properties[argument.short] = {"description": f"{name}: {about}", **written}
    choices: list[Schema] = [{"type": "null"}]
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
    arguments: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        arguments["allOf"] = required
    first = (kind.__doc__ or kind.kind()).strip().splitlines()[0]
    return {"description": first, "anyOf": [*choices, arguments]}


def _shipped(name: str) -> Schema:
    """What may stand behind the name of a shipped block."""
    tree = shipped.tree(name)
    params = tree.get("params") if tree is not None else None
    entries = list(params) if isinstance(params, Map) else []
    required = [key.text for key, value in entries if isinstance(value, Scalar) and value.is_null]
    properties: Schema = {}
    for key, value in entries:
        default = value.text if isinstance(value, Scalar) else ""
        properties[key.text] = {"description": "required" if key.text in required else f"default: {default}", **_VALUE}
    return {
        "description": "A block that comes with convstat: convstat list blocks",
        "anyOf": [
            _VALUE,
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False},
        ],
    }


def _loosened(schema: Schema) -> Schema:
    """The schema of an argument, with an expression wherever a value may stand."""
    return {"anyOf": [_inner(schema), {"type": "string"}]}


def _inner(schema: Schema) -> Schema:
    if "anyOf" in schema:
        return {"anyOf": [_inner(choice) for choice in schema["anyOf"]]}
    if schema.get("type") == "array":
        items = {"anyOf": [_inner(schema["items"]), {"type": "string"}]} if "items" in schema else {}
        return {**schema, **({"items": items} if items else {})}
    return schema


__all__ = ["DIALECT", "spec_schema"]
