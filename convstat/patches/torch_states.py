"""What torch keeps for the process and for each of its threads: how it is read, and how it is put back."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as registration
from torch.utils import _device, _python_dispatch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from convstat.patches.states import (
    PYTHONS,
    Changes,
    State,
    attributes,
    functions_of,
    nothing_said,
    read_and_set,
    same_functions,
    states_kept,
)

_C: Any = torch._C
_autograd: Any = torch.autograd
_overrides: Any = torch.overrides

_flags = partial(read_and_set, _C)
"""Flags that torch's compiled part keeps."""


# Modes.


def _modes() -> Any:
    return _get_current_dispatch_mode_stack(), list(_overrides._get_current_function_mode_stack())


def _restore_modes(before: Any) -> None:
    dispatching, functions = before
    if (now := _get_current_dispatch_mode_stack()) != dispatching:
        for mode in reversed(now):
            _python_dispatch._pop_mode(getattr(mode, "_mode_key", None))
        for mode in dispatching:
            _python_dispatch._push_mode(mode)
    if _overrides._get_current_function_mode_stack() != functions:
        while _overrides._len_torch_function_stack():
            _overrides._pop_mode()
        for mode in functions:
            _overrides._push_mode(mode)


def _say_modes(before: Any, after: Any) -> str | None:
    known = {id(mode) for stack in before for mode in stack}
    new = [mode for stack in after for mode in stack if id(mode) not in known]
    # The one of the default device is a state of its own.
    left = dict.fromkeys(type(mode).__qualname__ for mode in new if type(mode) is not _device.DeviceContext)
    if left:
        them = "them" if len(left) > 1 else "it"
        return f"it enters {' and '.join(left)} and does not leave {them}; convstat left {them} instead"
    return None if new else "it leaves modes of torch that it did not enter; convstat entered them again"


_device_lifts = _flags(("_only_lift_cpu_tensors", "_set_only_lift_cpu_tensors"))


def _default_device() -> Any:
    context = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)
    return vars(_device)["CURRENT_DEVICE"], getattr(context, "device_context", None), *_device_lifts[0]()


def _restore_default_device(before: Any) -> None:
    device, context, *lifts = before
    vars(_device)["CURRENT_DEVICE"] = device
    if (holder := getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)) is not None:
        holder.device_context = context
    _device_lifts[1](lifts)


_kept_guards: list[Any] = []
"""Inference mode is left by objects alone, and the one that would leave it is the model's."""


def _restore_inference(before: bool) -> None:
    guard = _C._InferenceMode(before)
    guard.__enter__()
    _kept_guards.append(guard)


_AUTOCAST = ("cpu", "cuda")


def _nesting() -> int:
    torch.autocast_increment_nesting()
    return int(torch.autocast_decrement_nesting())


def _autocast() -> Any:
    devices = [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _AUTOCAST]
    return devices, torch.is_autocast_cache_enabled(), _nesting()


def _restore_autocast(before: Any) -> None:
    devices, is_caching, nesting = before
    for device, (is_on, dtype) in zip(_AUTOCAST, devices, strict=True):
        torch.set_autocast_enabled(device, is_on)
        torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_cache_enabled(is_caching)
    for _ in range(_nesting() - nesting):
        torch.autocast_decrement_nesting()
    if not nesting:
        torch.clear_autocast_cache()


# Differentiation.


_top_hooks: Any = getattr(_C._autograd, "_top_saved_tensors_default_hooks", None)
"""What tells the hooks on saved tensors; torch 2.4 has no such function, and there they stay as they are left."""


def _hooks() -> Any:
    """The top ones; what is below cannot be read, and what is above is what was entered since."""
    return None if _top_hooks is None else _top_hooks(*_OF_HOOKS)


def _takes_a_flag() -> bool:
    try:
        _top_hooks(False)
    except TypeError:
        return False
    return True


_OF_HOOKS = (False,) if _takes_a_flag() else ()


def _restore_hooks(before: Any) -> None:
    while not _same_hooks(before, _hooks()) and _hooks() is not None:
        _C._autograd._pop_saved_tensors_default_hooks()


def _same_hooks(before: Any, after: Any) -> bool:
    if before is None or after is None:
        return before is after
    return all(one is other for one, other in zip(before, after, strict=True))


def _restore_levels(before: int) -> None:
    while forward_ad._current_level > before:
        _autograd.forward_ad.exit_dual_level()


_LEAVES = {"Vmap": "_vmap", "Grad": "_grad", "Jvp": "_jvp", "Functionalize": "_func"}
"""How the levels of ``torch.func`` begin the names of the functions that leave them."""


def _levels() -> int:
    return len(_C._functorch.get_interpreter_stack() or ())


def _leave_levels(before: int) -> None:
    while _levels() > before:
        kind = _C._functorch.get_interpreter_stack()[-1].key().name
        getattr(_C._functorch, f"{_LEAVES[kind]}_decrement_nesting")()


def _profiles() -> bool:
    return bool(_autograd._profiler_enabled())


def _restore_profiler(before: bool) -> None:
    if not before:
        _autograd._disable_profiler()


# Arithmetic.


def _flushes() -> bool:
    # The processor does it in this thread, for numbers of Python's too.
    return _SMALLEST / _TWO == 0.0


_SMALLEST, _TWO = sys.float_info.min, 2.0


_OF_BACKENDS = [
    (backend, op)
    for backend, ops in (("generic", "all"), ("cuda", "all matmul conv rnn"), ("mkldnn", "all matmul conv rnn"))
    for op in ops.split()
    if hasattr(_C, "_get_fp32_precision_getter")
]
"""What newer versions ask for each backend and operator; one that is not set is that of the one before it."""


def _precisions() -> Any:
    return torch.get_float32_matmul_precision(), [_C._get_fp32_precision_getter(*place) for place in _OF_BACKENDS]


def _restore_precisions(before: Any) -> None:
    usual, found = before
    if torch.get_float32_matmul_precision() != usual:
        torch.set_float32_matmul_precision(usual)
    for place, value in zip(_OF_BACKENDS, found, strict=True):
        if _C._get_fp32_precision_getter(*place) != value:
            _C._set_fp32_precision_setter(*place, value)


def _reductions() -> Any:
    """What matrix products on a GPU may do; newer versions give a pair."""
    matmul: Any = torch.backends.cuda.matmul
    return [getattr(matmul, name, None) for name in _REDUCTIONS]


_REDUCTIONS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


def _restore_reductions(before: Any) -> None:
    for name, value in zip(_REDUCTIONS, before, strict=True):
        if value is not None:
            setattr(torch.backends.cuda.matmul, name, value)


# Older versions of torch import it where they need it, and what stands for the module is not the attribute.
_EINSUM: Any = import_module("torch.backends.opt_einsum")


def _einsum() -> Any:
    """Of what stands for the module, to which flags are assigned, and of the module itself, whose functions do."""
    return [(owner.enabled, owner.strategy) for owner in (_EINSUM.m, _EINSUM)]


def _restore_einsum(before: Any) -> None:
    for owner, (enabled, strategy) in zip((_EINSUM.m, _EINSUM), before, strict=True):
        vars(owner).update(enabled=enabled, strategy=strategy)


# Hooks, and the rest.


def _tables() -> Any:
    found = {name: value for name, value in vars(registration).items() if name.startswith("_global_")}
    return {name: (value, dict(value)) if isinstance(value, dict) else value for name, value in found.items()}


def _restore_tables(before: Any) -> None:
    for name, value in before.items():
        if isinstance(value, tuple):
            table, entries = value
            table.clear()
            table.update(entries)
        else:
            setattr(registration, name, value)


def _printing() -> Any:
    options: Any = torch._tensor_str.PRINT_OPTS
    return options, dict(vars(options))


def _restore_printing(before: Any) -> None:
    options, values = before
    torch._tensor_str.PRINT_OPTS = options
    vars(options).update(values)


def _gpu() -> Any:
    """Reading it would initialise CUDA, so it is only asked where that is in use."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    return torch.cuda.current_device(), torch.cuda.current_stream()


def _restore_gpu(before: Any) -> None:
    if before is not None:
        torch.cuda.set_device(before[0])
        torch.cuda.set_stream(before[1])


def _group() -> bool:
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())


def _say_group(before: bool, after: bool) -> str | None:
    return "it made the process a part of a group (`torch.distributed`), and left it so" if after else None


def _randomness() -> Any:
    running = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count() if running else 0)
    return torch.get_rng_state(), [(device, torch.cuda.get_rng_state(device)) for device in devices]


def _restore_randomness(before: Any) -> None:
    state, devices = before
    torch.set_rng_state(state)
    for device, found in devices:
        torch.cuda.set_rng_state(found, device)


RANDOM = State("the random states of torch", _randomness, _restore_randomness, nothing_said, lambda *_: False)
"""What torch draws from. To compare it would take as long as to put it back."""

MODES = State("modes (`TorchFunctionMode`, `TorchDispatchMode`)", _modes, _restore_modes, _say_modes)

THREADS: tuple[State, ...] = (
    MODES,
    State("the default device", _default_device, _restore_default_device),
    State("`torch.inference_mode`", torch.is_inference_mode_enabled, _restore_inference),
    State("`torch.set_grad_enabled`", torch.is_grad_enabled, torch._C._set_grad_enabled),
    State("`torch.set_default_dtype`", torch.get_default_dtype, torch.set_default_dtype),
)
"""What decides, in the thread that runs a model, how that runs."""

TORCHS: tuple[State, ...] = (
    *THREADS,
    State("`torch.autocast`", _autocast, _restore_autocast),
    State("`torch.autograd.graph.saved_tensors_hooks`", _hooks, _restore_hooks, None, _same_hooks),
    State("levels of `torch.autograd.forward_ad`", lambda: forward_ad._current_level, _restore_levels),
    State("levels of `torch.func`", _levels, _leave_levels),
    State("gradients in forward mode", *_flags(("_is_fwd_grad_enabled", "_set_fwd_grad_enabled"))),
    State(
        "`torch.autograd.set_multithreading_enabled`",
        *_flags(("_is_multithreading_enabled", "_set_multithreading_enabled")),
    ),
    State(
        "`torch.autograd.set_detect_anomaly`",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda before: torch.set_anomaly_enabled(*before),
    ),
    State("profilers of torch that are on", _profiles, _restore_profiler),
    State("`torch.set_num_threads`", torch.get_num_threads, torch.set_num_threads),
    State("`torch.set_num_interop_threads`", torch.get_num_interop_threads),
    State(
        "`torch.use_deterministic_algorithms`",
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda before: torch.use_deterministic_algorithms(before[0], warn_only=before[1]),
    ),
    State(
        "`torch.utils.deterministic.fill_uninitialized_memory`",
        *_flags(("_get_deterministic_fill_uninitialized_memory", "_set_deterministic_fill_uninitialized_memory")),
    ),
    State("`torch.set_flush_denormal`", _flushes, torch.set_flush_denormal),
    State("`torch.set_float32_matmul_precision` and `fp32_precision`", _precisions, _restore_precisions),
    State("reductions of `torch.backends.cuda.matmul`", _reductions, _restore_reductions),
    State(
        "`torch.backends.cudnn`",
        *_flags(
            *((f"_get_cudnn_{name}", f"_set_cudnn_{name}") for name in ("enabled", "benchmark", "deterministic")),
            ("_get_cudnn_allow_tf32", "_set_cudnn_allow_tf32"),
        ),
    ),
    State(
        "`torch.backends.mkldnn` and `nnpack`",
        *_flags(
            *((f"_get_{name}", f"_set_{name}") for name in ("mkldnn_enabled", "mkldnn_deterministic")),
            ("_get_onednn_allow_tf32", "_set_onednn_allow_tf32"),
            ("_get_nnpack_enabled", "_set_nnpack_enabled"),
        ),
    ),
    State(
        "backends of scaled dot-product attention",
        *_flags(
            *((f"_get_{name}_sdp_enabled", f"_set_sdp_use_{name}") for name in ("flash", "mem_efficient", "math")),
            ("_get_cudnn_sdp_enabled", "_set_sdp_use_cudnn"),
            ("_get_overrideable_sdp_enabled", "_set_sdp_use_overrideable"),
            ("_get_math_sdp_allow_fp16_bf16_reduction", "_set_math_sdp_allow_fp16_bf16_reduction"),
            ("_get_sdp_priority_order", "_set_sdp_priority_order"),
        ),
    ),
    State("the engine of quantized kernels", *_flags(("_get_qengine", "_set_qengine"))),
    State("`torch.backends.opt_einsum`", _einsum, _restore_einsum),
    State("hooks of all modules", _tables, _restore_tables),
    State("`torch.set_printoptions`", _printing, _restore_printing),
    State("`torch.set_warn_always`", torch.is_warn_always_enabled, torch.set_warn_always),
    State(
        "`torch.__future__`",
        *attributes(torch.__future__, "_overwrite_module_params_on_conversion", "_swap_module_params_on_conversion"),
    ),
    State(
        "`torch.multiprocessing.set_sharing_strategy`",
        torch.multiprocessing.get_sharing_strategy,
        torch.multiprocessing.set_sharing_strategy,
    ),
    State(
        "the functions of `torch`, `torch.nn.functional`, `torch.Tensor` and `nn.Module`",
        *functions_of(torch, functional, torch.Tensor, torch.nn.Module),
        nothing_said,
        same_functions,
    ),
    State("the current GPU and its stream", _gpu, _restore_gpu),
    State("process groups", _group, None, _say_group),
)
"""What torch keeps, in the order in which it is put back: first what would have a say in how the rest is."""

STATES = (*PYTHONS, *TORCHS)
"""All that is put back around whatever a model does."""


def modes_left() -> AbstractContextManager[Changes]:
    """Leave the modes that are entered inside and not left there; those that were left are entered again."""
    return states_kept((MODES,))
