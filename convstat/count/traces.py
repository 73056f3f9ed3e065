"""From a trace to the frozen report: convstat's own count of any ``nn.Module``.

MACs come from the kernels that really ran, parameters from the modules that hold them.
A row is one call of one module: the innermost one around each kernel.
So the convolution of a block is the row of its ``Conv2d``, and an addition in the block's own ``forward`` the block's.

- A module that is called again has a row for each call, ``name#2``; its parameters belong to the first.
- A parameter belongs to the module that holds it; where that is never called (``MultiheadAttention.out_proj``,
  a ``ParameterList``) to the call that first read it, and where nobody did, to a row marked as never called.
- Params are those of ``model.parameters()``, each tensor once, and the packed weights of quantized modules.
  A module that is made during the pass, or kept in a plain list, works but is no part of that; its row says so.
- In train mode the backward pass of each module is a row of its own, ``name (backward)``.
  What ``torch.utils.checkpoint`` runs again for it is work that is done, and has rows: ``name#2``.
- Inside a scripted module no Python runs: kernels that read a parameter are the row of the part that holds it,
  all others that of the scripted module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from operator import itemgetter
from typing import Any

from convstat.count import ops
from convstat.count.ops.attention import products_of
from convstat.count.ops.base import tensors
from convstat.count.ops.outputs import first_elements, made_by
from convstat.count.ops.unpriced import UNPRICED
from convstat.count.packed import Packed, item_bytes, unpacked
from convstat.count.pixels import pixels, positions_read
from convstat.grammar.widths import parse as parse_widths
from convstat.results.report import (
    BACKWARD,
    BACKWARD_PASS,
    NEVER_CALLED,
    ROOT,
    InputInfo,
    LayerRow,
    ModelInfo,
    Report,
    Uncounted,
)
from convstat.results.sums import total
from convstat.trace.calls import (
    Call,
    FunctionCall,
    KernelCall,
    ListInfo,
    ModuleCall,
    ModuleInfo,
    ParameterInfo,
    Shape,
    Trace,
    Unseen,
)


def count(
    trace: Trace,
    *,
    name: str,
    source: str,
    kind: str = "module",
    inputs: tuple[InputInfo, ...],
    batch: int = 1,
    per: str = "input",
    mode: str = "eval",
    overrides: Mapping[str, Any] | None = None,
    weights: str | None = None,
    activations: str | None = None,
) -> Report:
    """Count a trace: one row for each call that worked or holds parameters, and totals that are their sums."""
    walk = _Walk(trace, weights)
    walk.visit(trace.root)
    walk.see(trace.unseen)
    rows = tuple(walk.rows())
    shapes_in = [tensor.shape for tensor in tensors((*trace.root.args, *trace.root.kwargs.values()))] or [()]
    shapes_out = [tensor.shape for tensor in tensors(trace.root.output)] or [()]
    first_input = _stacked(trace.root, shapes_in)
    denominator, basis = pixels(per, first_input, shapes_out[0])
    dtypes = {parameter.dtype for module in trace.modules for parameter in module.parameters}
    return Report(
        model=ModelInfo(
            name=name,
            source=source,
            kind=kind,
            inputs=inputs,
            batch=batch,
            device=trace.device,
            mode=mode,
            dtype="+".join(sorted(dtypes)) or "none",
            overrides=dict(overrides or {}),
            weights=weights,
            activations=activations,
            notes=(*trace.notes, *walk.pricing.notes, *walk.reasons()),
        ),
        totals=total(rows, denominator, basis, positions_read(per, first_input)),
        layers=rows,
        uncounted=tuple(Uncounted(op, calls, tuple(layers)) for op, (calls, layers) in sorted(walk.uncounted.items())),
        groups=walk.groups(),
    )


def _stacked(root: ModuleCall, shapes: Sequence[Shape]) -> Shape:
    """The shape of the first input; a list of pictures, which have no batch, is taken for a batch of them."""
    first = next(iter((*root.args, *root.kwargs.values())), None)
    pictures = first.items if isinstance(first, ListInfo) else ()
    return (len(pictures), *shapes[0]) if pictures and len(shapes[0]) == 3 else shapes[0]


@dataclass(slots=True)
class _Work:
    """What one call of one module did itself, outside the modules that it called."""

    call: ModuleCall
    module: ModuleInfo
    name: str
    first: bool
    macs: int = 0
    other: dict[str, int] = field(default_factory=dict)
    is_leaf: bool = True
    params: int = 0
    trainable: int = 0
    weight_bytes: int = 0
    buffers: int = 0
    packed: int = 0
    tied: str | None = None
    note: str | None = None
    activations: int = 0
    conv_activations: int = 0

    def add(self, macs: int, other: Mapping[str, int]) -> None:
        """Add the cost of a kernel."""
        self.macs += macs
        for entry, amount in other.items():
            self.other[entry] = self.other.get(entry, 0) + amount

    def give(self, elements: int, *, convolved: bool) -> None:
        """Add what a convolution or a product gives."""
        self.activations += elements
        if convolved:
            self.conv_activations += elements

    @property
    def is_worth_a_row(self) -> bool:
        """Whether there is anything to say about it; what only calls others is said by them."""
        return bool(self.is_leaf or self.macs or self.other or self.params or self.buffers or self.tied)


@dataclass(frozen=True, slots=True)
class _Inside:
    """Where a walk is: in which call of a module, and in which function."""

    work: _Work
    function: str = ""
    macs_only: bool = False
    has_rule: bool = False


class _Walk:
    """Goes through the tree once, and gathers the work of each call and what had no rule."""

    def __init__(self, trace: Trace, weights: str | None) -> None:
        self.trace = trace
        self.widths = None if weights is None else parse_widths(weights)
        self.pricing = ops.Pricing()
        self.works: list[_Work] = []
        self.backward: dict[int, _Work] = {}
        self.parts: dict[tuple[int, int], _Work] = {}
        self.calls: dict[int, int] = {}
        self.names: dict[str, int] = {}
        self.uncounted: dict[str, tuple[int, list[str]]] = {}

    def visit(self, root: ModuleCall) -> None:
        """Visit a call of a module and everything inside it; children come before their parents in the rows."""
        # An explicit stack: nets of ten thousand layers are deeper than Python's own.
        stack: list[tuple[Iterator[Call], _Inside]] = [(iter(root.children), _Inside(self._enter(root, None)))]
        while stack:
            children, inside = stack[-1]
            call = next(children, None)
            if call is None:
                stack.pop()
                # A function on the stack shares the work of its module, which is done when the module is.
                if not stack or stack[-1][1].work is not inside.work:
                    self.works.append(inside.work)
            elif isinstance(call, KernelCall):
                if not inside.has_rule:
                    self._price(call, inside)
            elif isinstance(call, FunctionCall):
                stack.append((iter(call.children), self._into(call, inside)))
            else:
                stack.append((iter(call.children), _Inside(self._enter(call, inside.work), has_rule=inside.has_rule)))
        self.works += self.backward.values()

    def _enter(self, call: ModuleCall, parent: _Work | None) -> _Work:
        module = self.trace.modules[call.module]
        if parent is not None:
            parent.is_leaf = False
        count = self.calls[call.module] = self.calls.get(call.module, 0) + 1
        if module.registered:
            name = module.path or ROOT
            return _Work(call, module, name if count == 1 else f"{name}#{count}", first=count == 1)
        # Without a path of its own: two of them may have one name, and are told apart by number.
        name = f"({_class(module)})" if parent is None or parent.name == ROOT else f"{parent.name}.({_class(module)})"
        number = self.names[name] = self.names.get(name, 0) + 1
        held = sum(parameter.numel for parameter in module.parameters)
        note = f"not registered in the model: its {held:,} params are not part of the model" if held else None
        return _Work(call, module, name if number == 1 else f"{name}#{number}", first=True, note=note)

    def _into(self, call: FunctionCall, inside: _Inside) -> _Inside:
        """Go into a function. Attention runs other kernels on each device: what is no MAC is counted alike for all."""
        if call.has_rule:
            cost = self.pricing.price_function(call)
            if cost is None:
                self._uncount(call.name, inside.work.name)
            else:
                inside.work.add(cost.macs, cost.other)
                if cost.macs:
                    inside.work.give(first_elements(call), convolved=False)
        if call.has_rule or inside.has_rule:
            return _Inside(inside.work, call.name, inside.macs_only, has_rule=True)
        if inside.macs_only or not call.name.endswith("scaled_dot_product_attention"):
            return _Inside(inside.work, call.name, inside.macs_only)
        operands = tensors((*call.args, *call.kwargs.values()))[:3]
        if len(operands) < 3 or any(len(operand.shape) < 2 for operand in operands):
            return _Inside(inside.work, call.name)
        query, key, value = (operand.shape for operand in operands)
        inside.work.add(0, products_of(query, key, value).other)
        return _Inside(inside.work, call.name, macs_only=True)

    def _price(self, call: KernelCall, inside: _Inside) -> None:
        work = inside.work
        if call.backward:
            work = self._backward_of(0 if call.owner is None else call.owner)
        elif call.owner is not None and call.owner != work.call.module:
            work = self._part(call, call.owner, work)
        cost = self.pricing.price(call)
        if cost is None:
            self._uncount(call.op, work.name)
            return
        if cost.macs and not call.backward:
            work.give(made_by(call), convolved="conv" in call.op)
        other = cost.other
        if inside.macs_only:
            other = {}
        elif "reduction" in other and "adaptive_avg_pool" in inside.function:
            # An adaptive pooling to 1 runs as a mean: as many elements are read, and it is still a pooling.
            other = {"pool": other["reduction"]}
        elif "elementwise" in other and inside.function == "torch.nn.functional.linear":
            # Where its input does not lie in one piece, the bias is added by a kernel of its own.
            other = {"bias": other["elementwise"]}
        work.add(cost.macs, other)

    def _uncount(self, name: str, layer: str, calls: int = 1) -> None:
        before, layers = self.uncounted.get(name, (0, []))
        if layer not in layers:
            layers.append(layer)
        self.uncounted[name] = (before + calls, layers)

    def see(self, unseen: Iterable[Unseen]) -> None:
        """Take what went past the dispatcher: nothing is known of it but where it was."""
        for work in unseen:
            module = self.trace.modules[work.module]
            self._uncount(work.name, (module.path or ROOT) if module.registered else f"({_class(module)})", work.calls)

    def _backward_of(self, place: int) -> _Work:
        """The row of a module's backward pass, that of all its calls."""
        if place not in self.backward:
            module = self.trace.modules[place]
            name = f"{module.path or (ROOT if module.registered else _class(module))}{BACKWARD}"
            self.backward[place] = _Work(_NO_CALL, module, name, first=False, is_leaf=False, note=BACKWARD_PASS)
        return self.backward[place]

    def _part(self, call: KernelCall, place: int, work: _Work) -> _Work:
        """The row of a part of a scripted module, in one call of that."""
        part = self.parts.get((id(work), place))
        if part is None:
            source = call.args[:1]
            part = self._enter(ModuleCall(place, source, output=call.output), work)
            self.parts[id(work), place] = part
            self.works.append(part)
        else:
            part.call = replace(part.call, output=call.output)
        return part

    def rows(self) -> Iterator[LayerRow]:
        """The rows in the order in which the calls ended; modules that never ran stand behind those beside them."""
        idle = self._hold()
        called = [work for work in self.works if work.is_worth_a_row]
        last: dict[str, int] = {}
        for place, work in enumerate(called):
            if work.first and work.module.registered:
                last.update(dict.fromkeys(_ancestors(work.module.path), place))
        behind: dict[int, list[tuple[int, _Work]]] = {}
        for work in idle:
            around = [path for path in _ancestors(work.module.path) if path in last]
            place = last[around[-1]] if around else len(called)
            behind.setdefault(place, []).append((-len(around), work))
        for place in range(len(called) + 1):
            if place < len(called):
                yield self._row(called[place])
            for _, work in sorted(behind.get(place, ()), key=itemgetter(0)):
                yield self._row(work)

    def _hold(self) -> list[_Work]:
        """Give every parameter and buffer to the row that it belongs to; rows of what nobody called too."""
        holders = {work.module.index: work for work in self.works if work.first}
        idle: dict[int, _Work] = {}
        seen: dict[int, str] = {}
        for module in self.trace.modules:
            if not module.registered:
                continue
            own = holders.get(module.index)
            if (packed := unpacked(module)) is not None:
                self._take(packed, module, own or idle.setdefault(module.index, _idle(module)), seen)
                continue
            users = []
            for parameter in module.parameters:
                user = own or holders.get(self.trace.uses.get(parameter.key, -1))
                work = user or idle.setdefault(module.index, _idle(module))
                users.append(work)
                if parameter.key in seen:
                    work.tied = seen[parameter.key]
                    continue
                seen[parameter.key] = f"{module.path}.{parameter.name}".lstrip(".")
                work.params += parameter.numel
                work.trainable += parameter.numel if parameter.requires_grad else 0
                work.weight_bytes += self._stored(parameter)
            for buffer in module.buffers:
                if buffer.key not in seen:
                    seen[buffer.key] = module.path
                    work = own or next(iter(users), None) or idle.setdefault(module.index, _idle(module))
                    work.buffers += buffer.numel
            if not (own or module.parameters or module.buffers) and _would_be_called(module):
                idle[module.index] = _idle(module)
        return list(idle.values())

    def _take(self, packed: Packed, module: ModuleInfo, work: _Work, seen: dict[int, str]) -> None:
        """Give what a module with packed weights holds to its row, unless it is shared and has one already."""
        keys = [*(parameter.key for parameter in module.parameters), *(buffer.key for buffer in module.buffers)]
        if any(key in seen for key in keys):
            work.tied = next(seen[key] for key in keys if key in seen)
            return
        seen.update(dict.fromkeys(keys, module.path))
        work.params += packed.params
        work.trainable += packed.trainable
        work.weight_bytes += packed.stored_bytes
        work.packed += packed.params - packed.elements
        work.note = work.note or packed.note

    def _stored(self, parameter: ParameterInfo) -> int:
        """The bytes of a parameter; what is in integers already, stays as it is."""
        if self.widths is None or not parameter.dtype.startswith(("float", "bfloat")):
            return parameter.numel * item_bytes(parameter.dtype)
        return self.widths.size(parameter.name, parameter.shape)

    def _row(self, work: _Work) -> LayerRow:
        tied = f"tied to {work.tied}" if work.tied and work.first else None
        return LayerRow(
            name=work.name,
            type=_class(work.module),
            input_shapes=tuple(t.shape for t in tensors((*work.call.args, *work.call.kwargs.values()))),
            output_shapes=tuple(t.shape for t in tensors(work.call.output)),
            params=work.params,
            macs=work.macs,
            trainable_params=work.trainable,
            buffers=work.buffers,
            weight_bytes=work.weight_bytes,
            other=dict(sorted(work.other.items())),
            arguments=_arguments(work.module),
            shares=None if work.first else work.module.path or ROOT,
            note=work.note or tied,
            packed_params=work.packed,
            weights=str(self.widths) if self.widths is not None and work.params else None,
            activations=work.activations,
            conv_activations=work.conv_activations,
        )

    def reasons(self) -> Iterator[str]:
        """Why nobody knows what an operator of torch's costs."""
        for op in sorted(self.uncounted):
            reason = UNPRICED.get(op) or UNPRICED.get(op.removesuffix("_"))
            if reason is not None:
                yield f"{op} is not counted: {reason}"

    def groups(self) -> dict[str, str]:
        """The class of every module that contains others, by path."""
        return {
            path: _class(module) for module in self.trace.modules if module.children for path in module.paths if path
        }


def _ancestors(path: str) -> Iterator[str]:
    """The path of a module and of those that it stands in, the outermost first; none of the model itself.

    >>> [*_ancestors("blocks.1.bn")], [*_ancestors("")]
    (['blocks', 'blocks.1', 'blocks.1.bn'], [])
    """
    steps = path.split(".") if path else []
    return (".".join(steps[:depth]) for depth in range(1, len(steps) + 1))


_NO_CALL = ModuleCall(0, ())


def _idle(module: ModuleInfo) -> _Work:
    return _Work(_NO_CALL, module, module.path or ROOT, first=True, is_leaf=False, note=NEVER_CALLED)


def _would_be_called(module: ModuleInfo) -> bool:
    """Whether a module without parameters stands there to be called: no container, and no part of what torch compiled,
    quantized or scripted, which does the work of its parts itself.
    """
    is_part = module.type.endswith(_PARTS) or "original_name" in module.attributes
    return not (module.children or is_part)


_PARTS = ("PackedParams", ".ModuleList", ".ModuleDict", ".ParameterList", ".ParameterDict")


def _arguments(module: ModuleInfo) -> dict[str, Any]:
    """The plain attributes of a module that tell how it was made; of a class of torch.nn, those that are its arguments.

    Of any other class sizes, flags and short words: a float or a long text may be another one in each run.
    """
    from convstat.layers import NAMES

    kind = NAMES.get(_class(module)) if module.type.startswith("torch.nn.") else None
    tells = _is_size if kind is None else _is_plain
    found: dict[str, Any] = {}
    for name, value in module.attributes.items():
        if name == "bias" and kind is not None:
            found[name] = value is not None
            continue
        may_tell = name not in ("training", "original_name") if kind is None else name in kind.arguments
        if not may_tell:
            continue
        items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else (value,)
        if all(map(tells, items)) and (items or kind is not None):
            found[name] = value if items == (value,) else list(items)
    return found


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, str)) or (isinstance(value, float) and isfinite(value))


def _is_size(value: object) -> bool:
    return isinstance(value, (bool, int)) or (isinstance(value, str) and len(value) <= 40)


def _class(module: ModuleInfo) -> str:
    """The name of a module's class; of a scripted one, that of the class that it was made from."""
    written = module.attributes.get("original_name")
    return written if isinstance(written, str) else module.type.rpartition(".")[2]
