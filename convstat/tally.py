"""From a trace to the frozen report: convstat's own count of any ``nn.Module``.

MACs come from the kernels that really ran, parameters from the modules that hold them.
A row is one call of one module: the innermost one around each kernel.
So the convolution of a block is the row of its ``Conv2d``, and an addition in the block's own ``forward`` the block's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from convstat import kernels
from convstat.analysis import total
from convstat.kernels.base import tensors
from convstat.pixels import pixels
from convstat.report import ROOT, InputInfo, LayerRow, ModelInfo, Report, Uncounted
from convstat.trace.calls import Call, FunctionCall, KernelCall, ModuleCall, ModuleInfo, Trace

_ITEM_BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "complex64": 8,
    "complex128": 16,
    "int64": 8,
    "int32": 4,
    "int16": 2,
}


def item_bytes(dtype: str) -> int:
    """The bytes of one element: 1 for the 8-bit types, float8, int8, uint8, quint8 and bool."""
    return _ITEM_BYTES.get(dtype, 1)


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
) -> Report:
    """Count a trace: one row for each call that worked or holds parameters, and totals that are their sums."""
    walk = _Walk(trace)
    walk.visit(trace.root)
    rows = tuple(walk.rows())
    shapes_in = [tensor.shape for tensor in tensors((*trace.root.args, *trace.root.kwargs.values()))] or [()]
    shapes_out = [tensor.shape for tensor in tensors(trace.root.output)] or [()]
    denominator, basis = pixels(per, shapes_in[0], shapes_out[0])
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
        ),
        totals=total(rows, denominator, basis),
        layers=rows,
        uncounted=tuple(Uncounted(op, calls, tuple(layers)) for op, (calls, layers) in sorted(walk.uncounted.items())),
        groups=walk.groups(),
    )


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
    tied: str | None = None


class _Walk:
    """Goes through the tree once, and gathers the work of each call and what had no rule."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.works: list[_Work] = []
        self.calls: dict[int, int] = {}
        self.uncounted: dict[str, tuple[int, list[str]]] = {}

    def visit(self, root: ModuleCall) -> None:
        """Visit a call of a module and everything inside it; children come before their parents in the rows."""
        # An explicit stack: nets of ten thousand layers are deeper than Python's own.
        stack: list[tuple[Iterator[Call], _Work | None, str | None]] = []
        stack.append((iter(root.children), self._enter(root, None), None))
        while stack:
            children, work, function = stack[-1]
            call = next(children, None)
            if call is None:
                stack.pop()
                # A function on the stack shares the work of its module, which is done when the module is.
                if work is not None and (not stack or stack[-1][1] is not work):
                    self.works.append(work)
            elif isinstance(call, KernelCall):
                self._price(call, work, function)
            elif isinstance(call, FunctionCall):
                stack.append((iter(call.children), work, call.name))
            else:
                stack.append((iter(call.children), self._enter(call, work), None))

    def _enter(self, call: ModuleCall, parent: _Work | None) -> _Work:
        module = self.trace.modules[call.module]
        if parent is not None:
            parent.is_leaf = False
        count = self.calls[call.module] = self.calls.get(call.module, 0) + 1
        path = module.path or (f"{parent.name}.{_short(module.type)}" if parent and not module.registered else "")
        name = path or ROOT
        return _Work(call, module, name if count == 1 else f"{name}#{count}", first=count == 1)

    def _price(self, call: KernelCall, work: _Work | None, function: str | None) -> None:
        assert work is not None
        cost = kernels.price(call)
        if cost is None:
            calls, layers = self.uncounted.get(call.op, (0, []))
            if work.name not in layers:
                layers.append(work.name)
            self.uncounted[call.op] = (calls + 1, layers)
            return
        work.macs += cost.macs
        for entry, amount in cost.other.items():
            # An adaptive pooling to 1 runs as a mean: as many elements are read, and it is still a pooling.
            if entry == "reduction" and function is not None and "adaptive_avg_pool" in function:
                entry = "pool"
            work.other[entry] = work.other.get(entry, 0) + amount

    def rows(self) -> Iterator[LayerRow]:
        """The rows in the order in which the calls ended, then modules that hold parameters and never ran."""
        holders = {work.module.index: work for work in reversed(self.works) if work.first}
        seen: dict[int, str] = {}
        idle: list[tuple[ModuleInfo, _Work]] = []
        for module in self.trace.modules:
            holder = self._holder(module, holders)
            if holder is None:
                holder = _Work(self.trace.root, module, module.path, first=True)
                idle.append((module, holder))
            _hold(holder, module, seen)
        for work in self.works:
            if work.is_leaf or work.macs or work.other or work.params or work.buffers or work.tied:
                yield self._row(work)
        for module, work in idle:
            if module.parameters or module.buffers:
                row = self._row(work)
                yield replace(row, input_shapes=(), output_shapes=(), note="never called")

    def _holder(self, module: ModuleInfo, holders: Mapping[int, _Work]) -> _Work | None:
        """The row that a module's parameters belong to: its own if it was called, else that of who used them.

        ``MultiheadAttention`` uses its ``out_proj`` without calling it, and a ``ParameterList`` is never called.
        """
        if module.index in holders:
            return holders[module.index]
        users = (self.trace.uses.get(parameter.key) for parameter in module.parameters)
        return next((holders[user] for user in users if user is not None and user in holders), None)

    def _row(self, work: _Work) -> LayerRow:
        first = work.name.partition("#")[0]
        return LayerRow(
            name=work.name,
            type=_short(work.module.type),
            input_shapes=tuple(t.shape for t in tensors((*work.call.args, *work.call.kwargs.values()))),
            output_shapes=tuple(t.shape for t in tensors(work.call.output)),
            params=work.params,
            macs=work.macs,
            trainable_params=work.trainable,
            buffers=work.buffers,
            weight_bytes=work.weight_bytes,
            other=dict(sorted(work.other.items())),
            shares=None if work.first else first,
            note=f"tied to {work.tied}" if work.tied and work.first else None,
        )

    def groups(self) -> dict[str, str]:
        """The class of every module that contains others, by path."""
        return {
            path: _short(module.type)
            for module in self.trace.modules
            if module.children
            for path in module.paths
            if path
        }


def _hold(work: _Work, module: ModuleInfo, seen: dict[int, str]) -> None:
    """Give a row the parameters and buffers of a module; a tied parameter belongs to its first holder."""
    for parameter in module.parameters:
        if parameter.key in seen:
            work.tied = seen[parameter.key]
            continue
        seen[parameter.key] = f"{module.path}.{parameter.name}".lstrip(".")
        work.params += parameter.numel
        work.trainable += parameter.numel if parameter.requires_grad else 0
        work.weight_bytes += parameter.numel * item_bytes(parameter.dtype)
    work.buffers += sum(buffer.numel for buffer in module.buffers)


def _short(type_name: str) -> str:
    return type_name.rpartition(".")[2]
