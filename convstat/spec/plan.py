"""A compiled spec: every name resolved, every expression ready, no size known yet.

The records are named tuples: defining a dozen dataclasses would take longer than reading most specs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from convstat.errors import Mark, SourceText
from convstat.layers.base import Layer
from convstat.spec.load import Tree
from convstat.spec.values import Formula

PREV = "prev"
"""The name of what the item above delivers."""

INPUT = "input"
"""The name of what comes in, whatever else it is called."""


class Ref(NamedTuple):
    """The name of something earlier, as it was written."""

    name: str
    mark: Mark


class LayerCall(NamedTuple):
    """A layer kind with its arguments.

    ``constants`` holds the values where no name is in them;
    ``token`` is equal for calls that mean the same, wherever they are written.
    """

    kind: type[Layer]
    names: tuple[str, ...]
    formulas: tuple[Formula, ...]
    keys: Mapping[str, Mark]
    constants: tuple[Any, ...] | None
    token: tuple[Any, ...]


class BlockCall(NamedTuple):
    """A block with its arguments."""

    block: str
    names: tuple[str, ...]
    formulas: tuple[Formula, ...]


class Residual(NamedTuple):
    """A body whose output is added to what comes in, or to what a shortcut makes of it."""

    shortcut: str
    shortcut_items: tuple[Item, ...]
    body: tuple[Item, ...]
    mark: Mark


class Parallel(NamedTuple):
    """Paths that start from the same place, and how their ends are merged."""

    merge: str
    paths: tuple[tuple[str, tuple[Item, ...]], ...]


class Choice(NamedTuple):
    """An item whose layer is the value of a variable or parameter (``- activation``)."""

    formula: Formula
    arguments: Tree | None
    compile: Any
    """Compiles the arguments for a name; made by the compiler, remembers what it made."""


class Broken(NamedTuple):
    """An item that was not understood, which is reported: what it delivers is not known."""


Action = LayerCall | BlockCall | Residual | Parallel | Choice | Broken


class Item(NamedTuple):
    """One item of a list of layers. ``sources`` is None where it takes what the item above delivers."""

    action: Action
    name: str
    position: int
    mark: Mark
    sources: tuple[Ref, ...] | None = None
    repeat: Formula | None = None
    when: Formula | None = None
    share: Ref | None = None
    frozen: Formula | None = None
    note: str | None = None
    needs_shape: bool = False


class Block(NamedTuple):
    """A named list of layers with parameters; a parameter without a default must be given."""

    name: str
    inputs: tuple[str, ...]
    params: Mapping[str, Formula | None]
    items: tuple[Item, ...]
    reads: tuple[str, ...]
    """The variables that it reads, those of the blocks that it calls included."""
    mark: Mark
    shipped: bool = False


class InputPlan(NamedTuple):
    """One input: its sizes without the batch, and its dtype where it was written."""

    name: str
    sizes: tuple[Formula, ...]
    dtype: str | None
    mark: Mark


class Variant(NamedTuple):
    """A named variant: its variables in the order in which they can be worked out, and its inputs."""

    name: str
    variables: tuple[tuple[str, Formula], ...]
    inputs: tuple[InputPlan, ...]
    note: str | None = None


class Plan(NamedTuple):
    """A whole spec. ``variants[None]`` is the file without a variant."""

    source: SourceText
    name: str
    note: str | None
    variants: Mapping[str | None, Variant]
    blocks: Mapping[str, Block]
    items: tuple[Item, ...]
    outputs: tuple[Ref, ...]
    budget: tuple[tuple[str, Mark], ...]
    read_beside_input: frozenset[str]
    """Variables that are read anywhere but in the sizes of the inputs."""
    single: Item | None = None
    """The only item, where it is one layer or block: its arguments can then be overridden by their bare names."""
    later_names: Mapping[str, Mark] = MappingProxyType({})
    """Where each name of the top level is given, to tell a forward reference from a wrong one."""
