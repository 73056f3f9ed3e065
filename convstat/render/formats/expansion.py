"""A graph as a spec: flat, every argument written out, every edge named; what was really counted.

It can be read back, and counts the same.
A path such as ``stage1.0.conv`` cannot be a name in a list, so it becomes ``stage1_0_conv``, and stands in the comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Context, Inexact
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.text.printable import printable

if TYPE_CHECKING:
    from convstat.graph import Graph, Node, Part

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
MOST_DIGITS = 1_000
"""A fraction with more digits than these is written as a quotient."""

_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "none"}


def write_spec(
    graph: Graph,
    *,
    source: str = "",
    defaults: bool = False,
    note: str | None = None,
    budget: Sequence[str] = (),
    per: str | None = None,
) -> str:
    """Write a graph as a spec; with ``defaults``, arguments that are torch's defaults are written too.

    ``note``, ``budget`` and ``per`` are those of the spec that it was made from.
    """
    return "\n".join(_lines(graph, source, defaults, note, budget, per)) + "\n"


def _lines(
    graph: Graph, source: str, defaults: bool, note: str | None, budget: Sequence[str], per: str | None
) -> Iterator[str]:
    names = _names(graph)
    if source:
        yield f"# {printable(source)}, expanded"
    yield "convstat: 1"
    yield f"name: {scalar(graph.name)}"
    if note:
        yield f"note: {scalar(note)}"
    if per is not None and graph.parts:
        yield f"per: {scalar(per)}"
    if graph.parts:
        yield "parts:"
        for part in graph.parts:
            yield f"  {part.name}:"
            yield from (f"    {line}" for line in _part(graph, part, defaults))
    else:
        yield from _network(graph, names, defaults, per)
    # Where paths became names, a pattern of paths would match other layers or none.
    paths = (path.partition(".")[2] if graph.parts else path for path in (node.name for node in graph.nodes))
    flat = any("." in path for path in paths)
    lost = [limit for limit in budget if flat and "@" in limit]
    if kept := [limit for limit in budget if limit not in lost]:
        yield f"budget: {_flow(kept)}"
    for limit in lost:
        yield f"# budget of layers by their paths, which are names here: {printable(limit)}"


def _network(graph: Graph, names: Mapping[str, str], defaults: bool, per: str | None) -> Iterator[str]:
    """The input, the layers and the outputs of a network."""
    sizes = {item.name: _sizes(item.shape, item.dtype) for item in graph.inputs}
    # The only input is called so where it has no name of its own.
    yield f"input: {_flow(sizes['input'] if list(sizes) == ['input'] else sizes)}"
    if per is not None:
        yield f"per: {scalar(per)}"
    yield "layers:"
    previous = graph.inputs[0].name
    for node in graph.nodes:
        yield from _item(node, names, previous, defaults)
        previous = node.name
    if graph.outputs != (previous,):
        yield f"outputs: [{', '.join(names[name] for name in graph.outputs)}]"


def _part(graph: Graph, part: Part, defaults: bool) -> Iterator[str]:
    """A part of a model: how often it is called, and its layers, unless they are those of another part."""
    lead = f"{part.name}."
    inputs = {name: "input" if len(part.inputs) == 1 else name.removeprefix(f"{part.name}_") for name in part.inputs}

    def short(name: str) -> str:
        return inputs.get(name) or name.partition(".")[2]

    nodes = tuple(
        replace(
            node,
            name=short(node.name),
            inputs=tuple(map(short, node.inputs)),
            owner=short(node.owner) if node.owner.startswith(lead) else "",
        )
        for node in graph.nodes
        if node.name.startswith(lead)
    )
    own = tuple(replace(item, name=inputs[item.name]) for item in graph.inputs if item.name in inputs)
    alone = replace(graph, inputs=own, nodes=nodes, outputs=tuple(map(short, part.outputs)), parts=())
    if part.runs > 1:
        yield f"calls: {part.runs}"
    lines = _network(alone, _names(alone), defaults, None)
    if part.same is None:
        yield from lines
        return
    yield f"same: {part.same}"
    yield next(lines)


def _sizes(shape: tuple[int, ...], dtype: str) -> Any:
    sizes = list(shape[1:])
    return sizes if dtype == "float32" else {"shape": sizes, "dtype": dtype}


def _item(node: Node, names: Mapping[str, str], previous: str, defaults: bool) -> Iterator[str]:
    arguments = node.layer.written(defaults=defaults)
    shape = "x".join(map(str, node.output_shape[1:]))
    path = f"{printable(node.name)} " if names[node.name] != node.name else ""
    comment = f"  # {path}-> {shape}"
    kind = node.layer.kind()
    yield f"  - {kind}: {_flow(arguments)}{comment}" if arguments else f"  - {kind}:{comment}"
    yield f"    name: {names[node.name]}"
    if node.inputs != (previous,):
        sources = [names[name] for name in node.inputs]
        yield f"    from: {sources[0] if len(sources) == 1 else '[' + ', '.join(sources) + ']'}"
    if node.is_shared:
        yield f"    share: {names[node.owner]}"
    if not node.trainable:
        yield "    frozen: true"
    if node.weights:
        yield f"    weights: {node.weights}"
    if node.note:
        yield f"    note: {scalar(node.note)}"


def _names(graph: Graph) -> dict[str, str]:
    """Give every input and node a name that can stand in one list, each a different one."""
    names = {item.name: item.name for item in graph.inputs}
    taken = set(names.values()) | {"input", "prev"}
    for node in graph.nodes:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", node.name)
        if not re.match("[A-Za-z_]", name):
            name = f"_{name}"
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        names[node.name] = unique
    return names


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return scalar(value)


def scalar(value: object) -> str:
    """Write a scalar of YAML that reads back as it was.

    >>> scalar(Fraction(1, 100000)), scalar(Fraction(1, 3)), scalar(True), scalar(None)
    ('0.00001', '1 / 3', 'true', 'null')
    >>> scalar("same"), scalar("no"), scalar("a: b")
    ('same', '"no"', '"a: b"')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        value = Fraction(repr(value))
    if isinstance(value, Fraction):
        return _decimal(value)
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and value.lower() not in _RESERVED):
        import json

        return json.dumps(value)
    return str(value)


def _decimal(value: Fraction) -> str:
    """Write a fraction with a point, one that has no end as a quotient."""
    try:
        text = f"{Context(prec=MOST_DIGITS, traps=[Inexact]).divide(value.numerator, value.denominator):f}"
    except Inexact:
        return f"{value.numerator} / {value.denominator}"
    # 1.0 stays a number with a point: a fraction that happens to be whole.
    return text if "." in text else f"{text}.0"
