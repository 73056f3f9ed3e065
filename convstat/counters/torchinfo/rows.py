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

from convstat.counters import layer_work, parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.innermost import is_innermost
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.uthop.modules import integer
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
    terms, tree = Ledger(), _Tree(trace)
    work = Work(trace, terms)
    for module_call in trace.module_calls():
        _multiply(module_call, tree, work)
    work.unseen(trace.root, lambda kernel: _why_unseen(kernel, tree, work))
    macs = terms.macs
    _Rows(tree).enter(terms)
    return Prediction(terms.params, macs, terms.terms(), fused=fused_modules(trace))


def kept_of(name: str) -> str:
    """The attribute under which the adapter notes how many elements of a pruned parameter its mask keeps."""
    return f"{name.removesuffix('_orig')}: kept"


class _Tree:
    """The modules as torchinfo knows them."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.modules = trace.modules
        self.kept = {
            parameter.key: kept
            for info in trace.modules
            for parameter in info.parameters
            if isinstance(kept := info.attributes.get(kept_of(parameter.name)), int)
        }
        """What pruning has left of parameters, by key."""

    def is_leaf(self, info: ModuleInfo) -> bool:
        """Whether it holds no others."""
        return is_innermost(info, self.modules)

    def numel(self, parameter: ParameterInfo) -> int:
        """The size of a parameter as torchinfo has it: without what is masked."""
        return self.kept.get(parameter.key, parameter.numel)

    def parameters(self, info: ModuleInfo) -> dict[int, tuple[str, ParameterInfo]]:
        """All parameters from here on downwards by their keys, each once, with their dotted names."""
        found: dict[int, tuple[str, ParameterInfo]] = {}
        for path, module in self._below(info, "", set()):
            for parameter in () if parameters.is_packed(module) else module.parameters:
                found.setdefault(parameter.key, (path + parameter.name, parameter))
        return found

    def _below(self, info: ModuleInfo, path: str, seen: set[int]) -> Iterator[tuple[str, ModuleInfo]]:
        if info.index in seen:
            return
        seen.add(info.index)
        yield path, info
        for child in info.children:
            yield from self._below(self.modules[child], f"{path}{child}.", seen)


def _multiply(call: ModuleCall, tree: _Tree, work: Work) -> None:
    info = tree.modules[call.module]
    if not info.registered or layer_work.is_scripted(info):
        return
    size = _size(call.output, info)
    named = tree.parameters(info).values()
    names = {_name(parameter, info) if name == parameter.name else name for name, parameter in named}
    if {"weight", "bias"} & names and not size and "Conv" not in _kind(info):
        raise PredictedFailure(f"IndexError: list index out of range: {info.path or 'the model'} returns no sizes")
    if not tree.is_leaf(info):
        return
    weights = biases = 0
    for _, parameter in named:
        times = _times(_name(parameter, info), size, info)
        if "bias" in parameter.name:
            biases += parameter.numel * times
        else:
            weights += parameter.numel * times
        work.terms.add(info.path, "pruned", macs=(tree.numel(parameter) - parameter.numel) * times)
    layer = _Layer.of(call, info) if weights else None
    if layer is None:
        work.terms.add(info.path, "param_reuse", macs=weights + biases)
    else:
        work.terms.add(info.path, "bias", macs=biases)
        layer.enter(weights, call, work)


def _name(parameter: ParameterInfo, info: ModuleInfo) -> str:
    """A parameter's name: that of one with a mask is what it had before it was pruned."""
    name = parameter.name.removesuffix("_orig")
    return name if any(buffer.name == f"{name}_mask" for buffer in info.buffers) else parameter.name


def _times(name: str, size: tuple[int, ...], info: ModuleInfo) -> int:
    """How often torchinfo takes a parameter to be used, by its name, the module's class and the output's sizes."""
    if name in ("weight", "bias"):
        return prod(size[:1] + size[2:]) if "Conv" in _kind(info) else size[0]
    return prod(size[:2]) if "weight" in name or "bias" in name else 0


def _kind(info: ModuleInfo) -> str:
    return info.type.rpartition(".")[2]


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


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of one of torch's kinds: its products as they are, and what torchinfo's way makes of them.

    ``own`` are its products, ``causes`` amounts by which the price of its weights is otherwise, and ``rest`` the name
    of what makes the rest of that, if anything does.
    """

    own: int
    causes: tuple[tuple[str, int], ...] = ()
    rest: str | None = None

    @staticmethod
    def of(call: ModuleCall, info: ModuleInfo) -> _Layer | None:
        """The layer that is called; None where the module is of no kind that multiplies its parameters."""
        source, output = next(iter((*call.args, *call.kwargs.values())), None), call.output
        kind = layer_work.kind_of(info)
        if kind in (layer_work.RECURRENT, layer_work.CELL):
            return _recurrent(source, info, is_cell=kind == layer_work.CELL)
        if not isinstance(source, TensorInfo) or not isinstance(output, TensorInfo):
            return None
        match kind:
            case layer_work.CONV | layer_work.TRANSPOSED if layer_work.weight_shape(info):
                return _convolution(source, output, info, transposed=kind == layer_work.TRANSPOSED)
            case layer_work.LINEAR:
                own = integer(info, "in_features") * output.numel
            case layer_work.BILINEAR:
                own = (integer(info, "in1_features") + 1) * integer(info, "in2_features") * output.numel
                second = integer(info, "in2_features") * output.numel
                return _Layer(own, (("bilinear_once", -second),), _why_positions(output, info))
            case _:
                return None
        return _Layer(own, (), _why_positions(output, info))

    def enter(self, priced: int, call: ModuleCall, work: Work) -> None:
        """Split the price of the weights up; what has no name is the layer's own, and has to be what its kernels
        multiply.
        """
        info = work.trace.modules[call.module]
        causes = list(self.causes)
        own = priced - sum(amount for _, amount in causes)
        if self.rest is not None:
            causes.append((self.rest, own - self.own))
            own = self.own
        work.price(call, info.path, own, layer_work.own_kernels(work, call))
        for code, amount in causes:
            work.terms.add(info.path, code, macs=amount)


def _renamed(info: ModuleInfo) -> bool:
    """Whether the weight has another name, as that of a weight norm has."""
    names = {_name(parameter, info) for parameter in info.parameters}
    return "weight" not in names and any("weight" in name for name in names)


def _why_positions(output: TensorInfo, info: ModuleInfo) -> str | None:
    if _renamed(info):
        return "weight_names"
    if len(output.shape) == 1:
        return "unbatched"
    return "positions_ignored" if len(output.shape) > 2 and "Conv" not in _kind(info) else None


def _convolution(source: TensorInfo, output: TensorInfo, info: ModuleInfo, *, transposed: bool) -> _Layer:
    own = layer_work.convolved(source if transposed else output, info)
    causes: list[tuple[str, int]] = []
    if transposed:
        # The weight at each place of the output, and not of the input.
        weight, dims = layer_work.weight_shape(info), len(layer_work.weight_shape(info)) - 2
        places = prod(output.shape[-dims:]) * prod(output.shape[: -dims - 1])
        causes.append(("transposed_output", places * prod(weight) - own))
    rest: str | None = None
    if _renamed(info):
        rest = "weight_names"
    elif "Conv" not in _kind(info):
        rest = "positions_ignored"
    elif layer_work.is_without_batch(source, info):
        rest = "unbatched"
    return _Layer(own, tuple(causes), rest)


def _recurrent(source: Value, info: ModuleInfo, *, is_cell: bool) -> _Layer:
    steps = layer_work.steps_of(source)
    weights = sum(p.numel for p in info.parameters if "weight" in p.name)
    rest: str | None = None
    if is_cell:
        rest = "cell_width"
    elif isinstance(source, tuple):
        rest = "packed_sequences"
    elif isinstance(source, TensorInfo) and len(source.shape) == 2:
        rest = "unbatched"
    return _Layer(weights * steps, (), rest)


def _why_unseen(kernel: Kernel, tree: _Tree, work: Work) -> str:
    info = tree.modules[kernel.module]
    if info.registered and not tree.is_leaf(info) and layer_work.is_torchs(info):
        return "holds_others"
    if parameters.is_packed(info):
        return "packed_unseen"
    return layer_work.why_unseen(kernel, work, ruled=lambda info: layer_work.kind_of(info) is not None)


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
        # A scripted module takes no hooks, and gets its row before the model runs.
        begun = [index for index in self.places if layer_work.is_scripted(tree.modules[index])]
        begun += [call.module for call in self._begun(tree.trace.root) if self._is_hooked(tree.modules[call.module])]
        self.rows = [self._row(index) for index in begun]
        self._insert_containers()
        for position, row in enumerate(self.rows):
            for other in self.rows[position + 1 :]:
                if other.depth <= row.depth:
                    break
                row.below.append(other)
        self.counts = {
            row.module: sum(tree.numel(p) for _, p in tree.parameters(tree.modules[row.module]).values())
            for row in self.rows
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

    def _is_hooked(self, info: ModuleInfo) -> bool:
        return info.registered and not layer_work.is_scripted(info)

    def _row(self, module: int) -> _Row:
        row = _Row(module, *self.places[module], recursive=module in self.seen)
        self.seen.add(module)
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
        parameters.enter(self.tree.trace, terms)
        for parameter, info, _ in parameters.held(self.tree.trace):
            terms.add(info.path, "pruned", params=self.tree.numel(parameter) - parameter.numel)
            terms.add(info.path, "packed_params", params=-parameter.numel if parameters.is_packed(info) else 0)
        claimed: set[int] = set()
        rows = [row for row in self.rows if not row.recursive]
        # What the innermost rows count is theirs; then, from the inside out, what the others are to count.
        for row in sorted(rows, key=lambda row: (not self._is_leaf(row), -row.depth)):
            info = self.tree.modules[row.module]
            numels = {key: self.tree.numel(parameter) for key, (_, parameter) in self.tree.parameters(info).items()}
            owed = sum(numel for key, numel in numels.items() if key not in claimed)
            claimed |= set(numels)
            if self._is_leaf(row):
                terms.add(info.path, "tied_per_module", params=self.counts[row.module] - owed)
            else:
                more = max(self._left_over(row), 0) - owed
                terms.add(info.path, "shared_again" if more > 0 else "tied_subtracted", params=more)
