"""The layers as a tree of blocks, with repeats folded: ``0-2  3 x Bottleneck``.

Siblings that follow each other are folded where their names count on and everything in them is equal: types, shapes
and every figure. So are the calls of one module after its first (``conv#2-12``), also with others in between.
A folded line stands for all of them: its figures are their sums, and the tree adds up to the totals.

Nothing here recurses: blocks may be nested deeper than Python's own stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convstat.results.report import BACKWARD, LayerRow
from convstat.text.printable import printable

ITSELF = "(itself)"
"""The name of the line of what a block works and holds outside the layers in it."""

BACKWARD_BLOCK = "(backward)"
"""The name of the block that the backward pass is shown as."""

_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)


class Node:
    """A layer, or a block with ``children``; after folding, several that are equal.

    ``rows`` are the calls of a layer, or what a block did itself. ``names`` has one entry for each that was folded.
    ``call`` is 2 for a second call of a module and of all that is in it, and 0 where that is not one number.
    """

    __slots__ = ("call", "children", "key", "names", "path", "rows", "times")

    def __init__(self, name: str, path: str, row: LayerRow | None = None) -> None:
        self.names = [name]
        self.path = path
        self.rows = [] if row is None else [row]
        self.children: list[Node] = []
        self.times = 1
        self.key = -1
        self.call = _call_number(name)

    @property
    def name(self) -> str:
        """The name, of several the first and the last: ``conv2``, ``0-2``."""
        if len(self.names) == 1:
            return self.names[0]
        # In the backward pass, they come from the last to the first.
        first, last = sorted((self.names[0], self.names[-1]), key=_number)
        return f"{first}-{_number(last)}"

    def all_rows(self) -> list[LayerRow]:
        """The rows of this node and of everything below it, in order."""
        found: list[LayerRow] = []
        stack: list[Node | LayerRow] = [self]
        while stack:
            item = stack.pop()
            if isinstance(item, Node):
                stack += [*reversed(item.rows), *reversed(item.children)]
            else:
                found.append(item)
        return found


def path_of(row: LayerRow) -> list[str]:
    """The blocks of a row, its own name last; the backward pass is a block at the top.

    >>> path_of(LayerRow("layer1.0.conv1", "Conv2d", (), (), 0, 0))
    ['layer1', '0', 'conv1']
    """
    if row.name.endswith(BACKWARD):
        return [BACKWARD_BLOCK, *row.name.removesuffix(BACKWARD).split(".")]
    return row.name.split(".")


def build(rows: Sequence[LayerRow]) -> list[Node]:
    """Make the tree, folded."""
    top = Node("", "")
    keys: dict[Any, int] = {}
    open_blocks = [top]
    for row in rows:
        *blocks, last = path_of(row)
        common = 0
        while common < min(len(open_blocks) - 1, len(blocks)) and open_blocks[common + 1].names[0] == blocks[common]:
            common += 1
        _close(open_blocks, common + 1, keys)
        for name in blocks[common:]:
            parent = open_blocks[-1]
            block = Node(name, f"{parent.path}.{name}" if parent.path else name)
            parent.children.append(block)
            open_blocks.append(block)
        parent = open_blocks[-1]
        before = parent.children[-1] if parent.children else None
        if before is not None and before.children and before.names[0] == last.partition("#")[0]:
            before.rows.append(row)
        else:
            parent.children.append(Node(last, row.name, row))
    _close(open_blocks, 1, keys)
    _settle_and_fold(top, keys)
    return top.children


def _close(open_blocks: list[Node], keep: int, keys: dict[Any, int]) -> None:
    while len(open_blocks) > keep:
        _settle_and_fold(open_blocks.pop(), keys)


def _settle_and_fold(block: Node, keys: dict[Any, int]) -> None:
    """Give everything in a block its key, and fold what is equal; blocks in it have been through this before."""
    folded: list[Node] = []
    newest: dict[str, Node] = {}
    for node in block.children:
        if node.children:
            _settle(node, keys)
        node.key = _key(node, keys)
        # Calls of one module may lie apart, as those of other modules come between.
        module = node.names[0].partition("#")[0]
        before = newest.get(module) if node.call > 1 else folded[-1] if folded else None
        if before is not None and before.key == node.key and _counts_on(before.names[-1], node.names[0]):
            _join(before, node)
        else:
            folded.append(node)
            newest[module] = node
    block.children = folded


def _settle(block: Node, keys: dict[Any, int]) -> None:
    """Number a block by its call, and give what it did itself a line where that has figures."""
    calls = {child.call for child in block.children} | {_call_number(row.name) for row in block.rows}
    block.call = calls.pop() if len(calls) == 1 else 0
    if block.call > 1:
        block.names = [f"{name}#{block.call}" for name in block.names]
        for child in block.children:
            child.names = [name.partition("#")[0] for name in child.names]
    if any(row.params or row.macs for row in block.rows):
        itself = Node(ITSELF, block.path)
        itself.rows, block.rows = block.rows, []
        itself.key = _key(itself, keys)
        block.children.append(itself)


def _call_number(name: str) -> int:
    number = name.removesuffix(BACKWARD).partition("#")[2]
    return int(number) if number.isdigit() else 1


def _key(node: Node, keys: dict[Any, int]) -> int:
    """A number that equal nodes have in common."""
    own = tuple(
        (
            row.type, row.input_shapes, row.output_shapes, row.params, row.trainable_params, row.buffers,
            row.weight_bytes, row.macs, tuple(row.other.items()), row.note, owner(row),
        )
        for row in node.rows
    )  # fmt: skip
    inside = tuple((child.name.partition("#")[0], child.times, child.key) for child in node.children)
    return keys.setdefault((own, inside), len(keys))


def owner(row: LayerRow) -> str | None:
    """Whose parameters a row uses, seen from its own block: ``relu`` for ``layer1.0.relu#2``."""
    if row.shares is None or row.name.endswith(BACKWARD):
        return None
    block = row.name.rpartition(".")[0]
    return row.shares.removeprefix(f"{block}.") if block else row.shares


def _number(name: str) -> int:
    match = _NUMBERED.fullmatch(name)
    return int(match[2]) if match else -1


def _counts_on(before: str, name: str) -> bool:
    """Whether two names are equal but for numbers at their ends that follow each other."""
    first, second = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(name)
    return (
        first is not None and second is not None and first[1] == second[1] and abs(int(first[2]) - int(second[2])) == 1
    )


def _join(kept: Node, added: Node) -> None:
    kept.names += added.names
    stack = [(kept, added)]
    while stack:
        first, second = stack.pop()
        first.times += second.times
        first.rows += second.rows
        stack += zip(first.children, second.children, strict=True)


def walk(nodes: Sequence[Node], depth: int | None) -> Iterator[tuple[Node, int, bool, bool]]:
    """Go through a tree in order: each node, its level, whether it is shown as one line, and whether it is in a block
    that is called again, and so needs no mark of its own.
    """
    stack = [(node, 0, False) for node in reversed(nodes)]
    while stack:
        node, level, again = stack.pop()
        whole = not node.children or (depth is not None and level + 1 >= depth)
        yield node, level, whole, again
        if not whole:
            again = again or node.call > 1
            stack += [(child, level + 1, again) for child in reversed(node.children)]


def block_type(node: Node, groups: Mapping[str, str], *, again: bool) -> str:
    """The class of a block, and which module it is the call of where it is called again."""
    kind = printable(groups.get(node.path.removeprefix(f"{BACKWARD_BLOCK}."), ""))
    if node.call > 1 and not again:
        kind = f"{kind} (= {printable(node.names[0].partition('#')[0])})".lstrip()
    return kind


def output_shapes(node: Node, groups: Mapping[str, str], *, in_order: bool) -> tuple[tuple[int, ...], ...]:
    """What comes out of a node: its last layer's output where its layers follow each other, else what it did last.

    The layers of a spec follow each other, those of a Python model in a ``Sequential``; of another block nobody
    knows which of its layers made its output, unless it made that itself.
    """
    while not node.rows and node.children:
        if not in_order and groups.get(node.path) not in ("Sequential", None):
            return ()
        node = node.children[-1]
    return node.rows[-1].output_shapes if node.rows else ()


def multiplied(kind: str, times: int) -> str:
    """``3 x Bottleneck``.

    >>> multiplied("Bottleneck", 3), multiplied("Bottleneck", 1), multiplied("", 3)
    ('3 x Bottleneck', 'Bottleneck', '3 times')
    """
    if times == 1:
        return kind
    return f"{times} x {kind}" if kind else f"{times} times"
