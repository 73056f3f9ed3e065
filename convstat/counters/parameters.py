"""The parameters of a model, each once: what most counters start from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from convstat.counters.base import Ledger
from convstat.trace.calls import Call, KernelCall, ModuleCall, ModuleInfo, ParameterInfo, Trace


class Held(NamedTuple):
    """A parameter, the module that holds it first, and the layer that it is counted in.

    That is the module's own path where the module is called, and else the layer that reads the parameter:
    attention uses the weight of its ``out_proj`` without calling it.
    """

    parameter: ParameterInfo
    info: ModuleInfo
    layer: str


def held(trace: Trace) -> Iterator[Held]:
    """Every parameter of the registered modules, each tensor once, in the order of the modules."""
    layers = _layers(trace)
    seen: set[int] = set()
    for info in trace.modules:
        if not info.registered:
            continue
        for parameter in info.parameters:
            if parameter.key not in seen:
                seen.add(parameter.key)
                reader = layers.get(trace.uses.get(parameter.key, -1), info.path)
                yield Held(parameter, info, layers.get(info.index, reader))


def enter(trace: Trace, terms: Ledger) -> None:
    """Enter every parameter once, as convstat counts them."""
    for parameter, _, layer in held(trace):
        terms.add(layer, None, params=parameter.numel)


def _layers(trace: Trace) -> dict[int, str]:
    """The layer of each module that is called: its path, or that of what is around it where it is not registered."""
    found: dict[int, str] = {}
    stack: list[tuple[Call, str]] = [(trace.root, "")]
    while stack:
        call, layer = stack.pop()
        if isinstance(call, ModuleCall):
            info = trace.modules[call.module]
            layer = info.path if info.registered else layer
            found.setdefault(call.module, layer)
        if isinstance(call, KernelCall):
            if call.owner is not None and not call.backward and trace.modules[call.owner].registered:
                # A part of a scripted module is not called through Python, and has a layer of its own.
                found.setdefault(call.owner, trace.modules[call.owner].path)
        else:
            stack.extend((child, layer) for child in reversed(call.children))
    return found


def is_packed(info: ModuleInfo) -> bool:
    """Whether what the trace calls the module's parameters is no parameter to torch: the kernel's own form of them."""
    return ".quantized." in info.type
