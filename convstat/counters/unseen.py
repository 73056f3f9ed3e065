"""Find the layers whose products a counter of modules has not priced, or not all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from convstat.counters.ptflops.pytorch import PRODUCTS
from convstat.trace import ModuleInfo, Trace


def unpriced(trace: Trace, priced: Mapping[int, int], known: Callable[[ModuleInfo], bool]) -> dict[str, str]:
    """Say why, by path; ``priced`` has how many products of each module were, ``known`` which modules have a rule."""
    ran = Counter(owner.index for kernel, owner in trace.kernels() if kernel.op in PRODUCTS)
    found: dict[str, str] = {}
    for index, times in ran.items():
        info, seen = trace.modules[index], priced.get(index, 0)
        if not info.registered:
            found.setdefault(info.path, "unregistered")
        elif times > seen:
            named = "no_rule" if info.type.startswith("torch.") else "functional_unseen"
            found.setdefault(info.path, "hook_unseen" if seen else "holds_others" if known(info) else named)
    return found


def parameters(trace: Trace) -> dict[int, tuple[ModuleInfo, int]]:
    """Every parameter of the model by its key: the module that holds it first, and its size."""
    found: dict[int, tuple[ModuleInfo, int]] = {}
    for info in trace.modules:
        for parameter in info.parameters:
            if info.registered:
                found.setdefault(parameter.key, (info, parameter.numel))
    return found


def is_packed(info: ModuleInfo) -> bool:
    """Whether what the trace calls the module's parameters is no parameter to torch: the kernel's own form of them."""
    return ".quantized." in info.type


__all__ = ["is_packed", "parameters", "unpriced"]
