"""Load the part of a tool that counts, without the rest of its package and what that needs or does.

``import deepspeed`` brings in a training engine, sets up logging and looks for accelerators;
``import calflops`` needs accelerate, huggingface_hub and transformers. Neither is used to count a model.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from convstat.counters.adapter import loading
from convstat.patches.depth import KernelDepth
from convstat.patches.imports import given, load_parts
from convstat.patches.room import ours, patch, replaced_globals, undone


def _folder(package: str) -> str:
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}")
    return next(iter(spec.submodule_search_locations))


@cache
def _deepspeed() -> ModuleType:
    from importlib.util import find_spec, module_from_spec, spec_from_file_location
    from pathlib import Path

    # It waits for the device before it takes the time, says when it starts, and asks for the version of torch,
    # which is one that convstat runs with. Its layer for mixtures of experts is named in printed tables only.
    silent = SimpleNamespace(info=_nothing, warning=_nothing)
    timers = ("FORWARD_GLOBAL_TIMER", "BACKWARD_GLOBAL_TIMER", "STEP_GLOBAL_TIMER")
    rest: dict[str, Mapping[str, Any]] = {
        "deepspeed.accelerator": {"get_accelerator": lambda: SimpleNamespace(synchronize=_nothing)},
        "deepspeed.utils": {"logger": silent},
        "deepspeed.utils.timer": dict.fromkeys(timers, ""),
        "deepspeed.utils.torch": {"required_torch_version": lambda **_: True},
        "deepspeed.moe.layer": {"MoE": type("MoE", (), {})},
    }
    if find_spec("einops") is None:
        rest["einops"] = {"einsum": _nothing}
    path = Path(_folder("deepspeed"), "profiling", "flops_profiler", "profiler.py")
    spec = spec_from_file_location("deepspeed.profiling.flops_profiler.profiler", path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module at {path}")
    module = module_from_spec(spec)
    with given("deepspeed.profiling", rest):
        spec.loader.exec_module(module)
    return module


def _nothing(*_: Any, **__: Any) -> None:
    pass


@cache
def _calflops() -> tuple[ModuleType, ModuleType, ModuleType]:
    folder = _folder("calflops")
    counter, pipeline, operators = load_parts("calflops", folder, "flops_counter", "calculate_pipline", "pytorch_ops")
    return counter, pipeline, operators


def deepspeed() -> ModuleType:
    """DeepSpeed's module of the flops profiler."""
    with loading("deepspeed.profiling.flops_profiler"):
        return _deepspeed()


def calflops() -> tuple[ModuleType, ModuleType, ModuleType]:
    """calflops' modules: what counts, what sums up, and what replaces functions."""
    with loading("calflops"):
        return _calflops()


@patch
def counting(owner: ModuleType, state: ModuleType, device: str) -> Iterator[None]:
    """Let a tool count: what it keeps in globals is emptied afterwards, also when it fails.

    ``owner`` replaces functions, ``state`` keeps what they add. Calls of other threads go straight through, and on meta
    those inside a kernel: there kernels are written in Python and call ``torch.mm`` and friends, which a tool would
    take for the model's.
    """
    kernels = KernelDepth() if device == "meta" else None
    wrap = vars(owner)["wrapFunc"]

    def blind(function: Any, *args: Any) -> Any:
        counted = wrap(function, *args)

        def call(*args: Any, **kwargs: Any) -> Any:
            inside = kernels is not None and kernels.depth
            return function(*args, **kwargs) if inside or not ours() else counted(*args, **kwargs)

        # By this attribute the tool finds the function again that it has replaced.
        call.__str__ = function.__str__  # type: ignore[method-assign]
        return call

    def empty() -> None:
        for name in ("module_flop_count", "module_mac_count", "old_functions"):
            vars(state)[name].clear()

    einops = sys.modules.get("einops")
    with ExitStack() as stack:
        stack.enter_context(undone(empty))
        if kernels is not None:
            stack.enter_context(kernels)
        stack.enter_context(replaced_globals(owner, wrapFunc=blind))
        if einops is not None and hasattr(einops, "einsum"):
            stack.enter_context(replaced_globals(einops, einsum=einops.einsum))
        yield
