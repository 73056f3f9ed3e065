"""The layers of the vocabulary that the modules and kernels of a run are."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import nn

from convstat import layers
from convstat.errors import LayerError
from convstat.formulas.cost import Shape
from convstat.layers.base import Layer
from convstat.trace.wires import Wired


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a layer of the vocabulary."""
    return _kind(module) is not None


def _kind(module: nn.Module) -> type[Layer] | None:
    """The kind of layer that a module is, where it is exactly torch's class."""
    kind = type(module)
    found = layers.KINDS.get(kind.__name__) if kind.__module__.startswith("torch.nn.modules.") else None
    return None if found is None or found.functional else found


def layer_of(module: nn.Module, inputs: tuple[Shape, ...], output: Shape) -> Layer | None:
    """The layer that a module is on these inputs, if it is one and gives what the module gave."""
    kind = _kind(module)
    if kind is None:
        return None
    given: dict[str, Any] = {}
    for name, argument in kind.arguments.items():
        value = getattr(module, name, argument.default)
        if name == "bias":
            whole = getattr(module, "affine", True) and getattr(module, "elementwise_affine", True)
            value = value is not None and value is not False if whole else True
        given[name] = value
    return _made(kind, given, inputs, output)


def _made(kind: type[Layer], given: Mapping[str, Any], inputs: tuple[Shape, ...], output: Shape) -> Layer | None:
    try:
        layer = kind.create(given, inputs)
        return layer if layer.output_shape(inputs) == output else None
    except (LayerError, TypeError, ValueError, IndexError):
        return None


_OPERATORS: Mapping[str, str] = {
    "aten.relu": "ReLU",
    "aten.silu": "SiLU",
    "aten.gelu": "GELU",
    "aten.sigmoid": "Sigmoid",
    "aten.hardsigmoid": "Hardsigmoid",
    "aten.hardswish": "Hardswish",
    "aten.tanh": "Tanh",
    "aten.add": "add",
    "aten.mul": "mul",
}
"""Operators that are layers of the vocabulary, without the sign of those that work in place."""


def operator_of(one: Wired) -> Layer | None:
    """The layer that a kernel is, if it is one."""
    name, inputs, output = one.name.removesuffix("_"), one.input_shapes, one.output_shape
    if not inputs:
        return None
    if name == "aten.hardtanh" and one.values == (0.0, 6.0):
        return _made(layers.NAMES["ReLU6"], {}, inputs, output)
    if name == "aten.cat":
        dim = next((value for value in one.values if isinstance(value, int)), 0)
        return _made(layers.NAMES["concat"], {"dim": dim}, inputs, output)
    is_view = name in ("aten.view", "aten._unsafe_view", "aten.reshape")
    if is_view and len(inputs[0]) > 1 and output == (inputs[0][0], prod(inputs[0][1:])):
        return _made(layers.NAMES["Flatten"], {}, inputs, output)
    kind = layers.NAMES.get(_OPERATORS.get(name, ""))
    if kind is None or (kind.functional and len(inputs) < 2):
        return None
    return _made(kind, {}, inputs, output)
