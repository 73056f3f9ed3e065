"""A compiled spec: every name resolved and every expression compiled, with no size known yet.

The records are named tuples: defining a dozen dataclasses would take longer than reading most specs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from convstat.errors import Mark, SourceText
from convstat.layers.base import Layer
from convstat.spec.expressions import Expression

PREV = "prev"
"""The reference to the output of the item above."""

INPUT = "input"
"""The reference to the first input, whatever its name."""


class Ref(NamedTuple):
    """A reference to an earlier item or an input, by name."""

    name: str
    mark: Mark


class LayerCall(NamedTuple):
    """A layer kind with its arguments, by torch's names."""

    kind: type[Layer]
    arguments: Mapping[str, Expression]


class BlockCall(NamedTuple):
    """A block with its arguments."""

    block: str
    arguments: Mapping[str, Expression]


class Residual(NamedTuple):
    """A body whose output is added to its input, or to the output of a shortcut."""

    shortcut: str
    shortcut_items: tuple[Item, ...]
    body: tuple[Item, ...]
    mark: Mark


class Parallel(NamedTuple):
    """Paths with the same input, and how their outputs are merged."""

    merge: str
    paths: tuple[tuple[str, tuple[Item, ...]], ...]


class Choice(NamedTuple):
    """An item whose layer is the value of a variable or parameter (``- activation``)."""

    written: Expression
    compile: Any
    """Compiles the arguments for a name; made by the compiler, remembers what it made."""


class Broken(NamedTuple):
    """An invalid item, already reported; its output is unknown."""


Action = LayerCall | BlockCall | Residual | Parallel | Choice | Broken


class Item(NamedTuple):
    """One item of a list of layers. ``sources`` is None where it takes the output of the item above."""

    action: Action
    name: str
    position: int
    mark: Mark
    sources: tuple[Ref, ...] | None = None
    repeat: Expression | None = None
    when: Expression | None = None
    share: Ref | None = None
    frozen: Expression | None = None
    note: str | None = None
    weights: str | None = None
    needs_shape: bool = False

    def lists(self) -> Iterator[tuple[str, tuple[Item, ...]]]:
        """The lists of layers inside it, each with the prefix of its items' names."""
        if isinstance(self.action, Residual):
            yield "", self.action.body
            yield "shortcut.", self.action.shortcut_items
        elif isinstance(self.action, Parallel):
            yield from ((f"{name}.", items) for name, items in self.action.paths)


class Block(NamedTuple):
    """A named list of layers with parameters; a parameter without a default must be given."""

    name: str
    inputs: tuple[str, ...]
    params: Mapping[str, Expression | None]
    items: tuple[Item, ...]
    reads: frozenset[str]
    """The variables that it reads itself."""
    calls: tuple[str, ...]
    chooses: bool
    """Whether it also calls what a variable or a parameter names."""
    mark: Mark
    shipped: bool = False


class InputPlan(NamedTuple):
    """One input: its sizes without the batch, and its dtype where it was written."""

    name: str
    sizes: tuple[Expression, ...]
    dtype: str | None
    mark: Mark


class PerPlan(NamedTuple):
    """What MACs/pixel divide by: the basis as it is written, and its expressions by their offsets."""

    text: str
    sizes: Mapping[int, Expression]
    mark: Mark


class Variant(NamedTuple):
    """The variables of a variant, in the order in which they can be worked out, its inputs and its basis."""

    variables: Mapping[str, Expression]
    inputs: tuple[InputPlan, ...]
    per: PerPlan | None = None


class PartPlan(NamedTuple):
    """A part of a model: a network of its own, how often it is called, and the part whose weights it uses."""

    name: str
    plan: Plan
    calls: Expression | None
    same: str | None
    mark: Mark


class Plan(NamedTuple):
    """A whole spec. ``variants[None]`` is the file without a variant.

    A model in ``parts`` has no items and no inputs of its own.
    """

    source: SourceText
    name: str
    variants: Mapping[str | None, Variant]
    blocks: Mapping[str, Block]
    items: tuple[Item, ...]
    note: str | None = None
    outputs: tuple[Ref, ...] = ()
    budget: tuple[tuple[str, Mark], ...] = ()
    read_beside_input: frozenset[str] = frozenset()
    """Variables that are read anywhere but in the sizes of the inputs."""
    sets_widths: bool = False
    """Whether any item says in which width its weights are stored."""
    unused_blocks: tuple[tuple[str, Mark], ...] = ()
    parts: tuple[PartPlan, ...] = ()

    def reads(self, block: Block) -> list[str]:
        """The variables read by a block and by those it calls; one that chooses may call any block of the spec."""
        found: set[str] = set()
        met: set[str] = set()
        to_look_at = [block]
        while to_look_at:
            one = to_look_at.pop()
            if one.name not in met:
                met.add(one.name)
                found |= one.reads
                to_look_at += [self.blocks[name] for name in one.calls if name in self.blocks]
                if one.chooses:
                    to_look_at += [other for other in self.blocks.values() if not other.shipped]
        return sorted(found)

    @property
    def single(self) -> Item | None:
        """The only item, if it is one layer or block; its arguments can be overridden by their bare names."""
        only = len(self.items) == 1 and isinstance(self.items[0].action, (LayerCall, BlockCall))
        return self.items[0] if only else None
