"""Predict torchinfo from a trace: its rows of modules, the mult-adds of each, and its way to add up parameters.

It makes a row for each call of a module, in the order in which the calls begin, and inserts rows for the containers
that were not called themselves. A row whose module had one before is *recursive*, and its parameters do not count.
The innermost modules count with all their parameters; one that holds others counts with what is left over when those
of the rows below it are taken away, recursive ones not being taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.innermost import is_innermost
from convstat.counters.ptflops.pytorch import PRODUCTS
from convstat.trace import (
    Call,
    DictInfo,
    KernelCall,
    ListInfo,
    ModuleCall,
    ModuleInfo,
    ParameterInfo,
    TensorInfo,
    Trace,
    Value,
)


def predict(trace: Trace) -> Prediction:
    """Say what torchinfo will answer."""
    terms, because = Ledger(), dict[str, str]()
    tree = _Tree(trace)
    try:
        if any(value is None for value in trace.root.args):
            raise PredictedFailure("TypeError: it adds up the sizes of the inputs, and here one is None")
        for module_call in trace.module_calls():
            _multiply(module_call, tree, terms, because)
    except PredictedFailure as failure:
        return Prediction(None, None, failure=str(failure))
    for call, owner in trace.kernels():
        if call.op in PRODUCTS:
            because.setdefault(owner.path, _why_unseen(owner, tree))
    macs = terms.macs
    _Rows(tree).enter(terms)
    return Prediction(terms.params, macs, terms.terms(), because)


class _Tree:
    """The modules as torchinfo knows them."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.modules = trace.modules

    def is_leaf(self, info: ModuleInfo) -> bool:
        """Whether it holds no others."""
        return is_innermost(info, self.modules)

    def parameters(self, info: ModuleInfo) -> dict[int, tuple[str, ParameterInfo]]:
        """All parameters from here on downwards by their keys, each once, with their dotted names."""
        found: dict[int, tuple[str, ParameterInfo]] = {}
        for path, module in self._below(info, "", set()):
            for parameter in module.parameters:
                found.setdefault(parameter.key, (path + parameter.name, parameter))
        return found

    def _below(self, info: ModuleInfo, path: str, seen: set[int]) -> Iterator[tuple[str, ModuleInfo]]:
        if info.index in seen:
            return
        seen.add(info.index)
        yield path, info
        for child in info.children:
            yield from self._below(self.modules[child], f"{path}{child}.", seen)


def _multiply(call: ModuleCall, tree: _Tree, terms: Ledger, because: dict[str, str]) -> None:
    info = tree.modules[call.module]
    if not info.registered:
        return
    size = _size(call.output, info)
    named = tree.parameters(info).values()
    if any(name in ("weight", "bias") for name, _ in named) and not size and "Conv" not in _kind(info):
        raise PredictedFailure(f"IndexError: list index out of range: {info.path or 'the model'} returns no sizes")
    if not tree.is_leaf(info):
        return
    multiplies = any(kernel.op in PRODUCTS for kernel in _kernels(call))
    for name, parameter in named:
        if name in ("weight", "bias"):
            times = prod(size[:1] + size[2:]) if "Conv" in _kind(info) else size[0]
        elif "weight" in name or "bias" in name:
            times = prod(size[:2])
        else:
            continue
        code = "param_reuse" if not multiplies else "bias" if "bias" in name else None
        terms.add(info.path, code, macs=parameter.numel * times)
        if code is None:
            because.setdefault(info.path, _why_mispriced(call, info))


def _kind(info: ModuleInfo) -> str:
    return info.type.rpartition(".")[2]


def _kernels(call: Call) -> Iterator[KernelCall]:
    for child in call.children:
        if isinstance(child, KernelCall):
            yield child
        else:
            yield from _kernels(child)


def _size(output: Value, info: ModuleInfo) -> tuple[int, ...]:
    """The sizes that torchinfo takes an output to have: those of the first tensor that it finds in it."""
    if isinstance(output, DictInfo):
        if not output.items:
            raise PredictedFailure(f"IndexError: {info.path or 'the model'} returns an empty dict")
        return _first_size(output.items[-1][1])
    if output is None or isinstance(output, (TensorInfo, tuple, ListInfo)):
        return _first_size(output)
    raise PredictedFailure(
        f"TypeError: Model contains a layer with an unsupported input or output type: {info.path or 'the model'}"
    )


def _first_size(value: Value) -> tuple[int, ...]:
    if isinstance(value, TensorInfo):
        return value.shape
    if isinstance(value, DictInfo):
        return _first_size(value.items[0][1]) if value.items else ()
    items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else ()
    return _first_size(items[0]) if items else ()


def _why_mispriced(call: ModuleCall, info: ModuleInfo) -> str:
    kinds = [kind.rpartition(".")[2] for kind in (info.type, *info.bases)]
    first = call.args[0] if call.args else None
    dims = len(first.shape) if isinstance(first, TensorInfo) else 0
    if any(kind.startswith("ConvTranspose") for kind in kinds):
        return "transposed_output"
    if "_ConvNd" in kinds:
        named = {parameter.name for parameter in info.parameters}
        return "weight_names" if not named <= {"weight", "bias"} or "Conv" not in kinds[0] else "unbatched"
    if "RNNCellBase" in kinds:
        return "cell_width"
    if "RNNBase" in kinds:
        return "unbatched" if dims == 2 else "rnn_names"
    return "positions_ignored"


def _why_unseen(info: ModuleInfo, tree: _Tree) -> str:
    if not info.registered:
        return "unregistered"
    return "holds_others" if info.type.startswith("torch.") and not tree.is_leaf(info) else "functional_unseen"


@dataclass(eq=False, slots=True)
class _Row:
    module: int
    depth: int
    parent: _Row | None
    recursive: bool = False
    below: list[_Row] = field(default_factory=list)


class _Rows:
    """The rows, and what their parameters come to."""

    def __init__(self, tree: _Tree) -> None:
        self.tree = tree
        self.places: dict[int, tuple[int, _Row | None]] = {}
        self._visit(0, 0, None)
        self.seen: set[int] = set()
        self.rows = [self._row(call) for call in self._begun(tree.trace.root) if tree.modules[call.module].registered]
        self._insert_containers()
        for position, row in enumerate(self.rows):
            for other in self.rows[position + 1 :]:
                if other.depth <= row.depth:
                    break
                row.below.append(other)
        self.counts = {
            row.module: sum(p.numel for _, p in tree.parameters(tree.modules[row.module]).values()) for row in self.rows
        }
        self.known: dict[int, int] = {}

    def _visit(self, module: int, depth: int, parent: _Row | None) -> None:
        """Where a module hangs in several places, torchinfo knows the last one."""
        self.places[module] = depth, parent
        row = _Row(module, depth, parent)
        for child in self.tree.modules[module].entries:
            self._visit(child, depth + 1, row)

    def _begun(self, call: Call) -> Iterator[ModuleCall]:
        if isinstance(call, KernelCall):
            return
        if isinstance(call, ModuleCall):
            yield call
        for child in call.children:
            yield from self._begun(child)

    def _row(self, call: ModuleCall) -> _Row:
        row = _Row(call.module, *self.places[call.module], recursive=call.module in self.seen)
        self.seen.add(call.module)
        return row

    def _insert_containers(self) -> None:
        """Put a row before those of modules whose parents were not called: lists, mostly."""
        open_rows: dict[int, _Row] = {}
        done: list[_Row] = []
        for row in self.rows:
            above: dict[int, _Row] = {}
            parent = row.parent
            while parent is not None and parent.depth > 0:
                above[parent.depth] = parent
                parent = parent.parent
            for depth in range(1, row.depth):
                same = depth in open_rows and open_rows[depth].module == above[depth].module
                before = done[-1] if done else self.rows[-1]
                if same or above[depth] is before:
                    continue
                above[depth].recursive |= above[depth].module in self.seen
                self.seen.add(above[depth].module)
                done.append(above[depth])
                open_rows[depth] = above[depth]
            open_rows = {depth: other for depth, other in open_rows.items() if depth < row.depth}
            open_rows[row.depth] = row
            done.append(row)
        self.rows = done

    def _left_over(self, row: _Row) -> int:
        known = self.known.get(id(row))
        if known is None:
            known = self.counts[row.module] - sum(
                self.counts[other.module] if self._is_leaf(other) else self._left_over(other)
                for other in row.below
                if not other.recursive
            )
            self.known[id(row)] = known
        return known

    def _is_leaf(self, row: _Row) -> bool:
        return self.tree.is_leaf(self.tree.modules[row.module])

    def enter(self, terms: Ledger) -> None:
        """Enter every parameter once, and then what torchinfo counts otherwise."""
        owners = {p.key: (info, p.numel) for info in reversed(self.tree.modules) for p in info.parameters}
        for info, numel in owners.values():
            if info.registered:
                terms.add(info.path, None, params=numel)
        claimed: set[int] = set()
        rows = [row for row in self.rows if not row.recursive]
        # What the innermost rows count is theirs; then, from the inside out, what the others are to count.
        for row in sorted(rows, key=lambda row: (not self._is_leaf(row), -row.depth)):
            info = self.tree.modules[row.module]
            numels = {key: parameter.numel for key, (_, parameter) in self.tree.parameters(info).items()}
            owed = sum(numel for key, numel in numels.items() if key not in claimed)
            claimed |= set(numels)
            if self._is_leaf(row):
                terms.add(info.path, "tied_per_module", params=self.counts[row.module] - owed)
            else:
                more = max(self._left_over(row), 0) - owed
                terms.add(info.path, "shared_again" if more > 0 else "tied_subtracted", params=more)
