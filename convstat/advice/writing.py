"""Changes as calls of constructors: for models that are no text, and layers that are written on the command line."""

from __future__ import annotations

from typing import Any

from convstat.advice.effect import Effect
from convstat.advice.net import Net
from convstat.layers.base import Layer
from convstat.results.advice import TextEdit

ARGUMENT = "argument"
"""What the place of a layer on the command line is called."""


def constructors(net: Net, effect: Effect, prefix: str = "") -> tuple[TextEdit, ...]:
    """The constructor calls of the layers that changes replace, and of those that replace them."""
    edits: dict[Any, TextEdit] = {}
    for name in sorted(effect.layers, key=lambda name: net.order[name]):
        call, new = net.calls[name], effect.layers[name]
        assert call.layer is not None
        if call.layer.functional or new == (call.layer,) or call.place in edits:
            continue
        place = str(call.place) if prefix else ARGUMENT
        after = tuple(constructor(layer, prefix) for layer in new)
        edits[call.place] = TextEdit(place, (constructor(call.layer, prefix),), _together(after, prefix))
    return tuple(edits.values())


def _together(calls: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    """What stands in one place: nothing is an identity, and several are a sequence."""
    if not prefix or len(calls) == 1:
        return calls
    return (f"{prefix}Sequential({', '.join(calls)})",) if calls else (f"{prefix}Identity()",)


def constructor(layer: Layer, prefix: str = "") -> str:
    """The call that makes a layer.

    >>> from convstat.layers import Conv2d
    >>> conv = Conv2d.create({"out_channels": 8, "kernel_size": 3, "bias": False}, ((1, 4, 8, 8),))
    >>> constructor(conv, "nn.")
    'nn.Conv2d(4, 8, kernel_size=3, bias=False)'
    """
    words = []
    positional = True
    for number, (name, value) in enumerate(layer.written().items()):
        positional = positional and number < 2 and list(layer.arguments)[number] == name
        shown = repr(tuple(value) if isinstance(value, list) else value)
        words.append(shown if positional and name.endswith(("channels", "features")) else f"{name}={shown}")
    return f"{prefix}{layer.kind()}({', '.join(words)})"
