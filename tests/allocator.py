"""What the allocator of the CPU says of a run: every allocation and release, from the events of torch's profiler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._C._profiler import _EventType


@dataclass(frozen=True)
class Peak:
    """The most bytes that are held at once, and what is more than that with all that kernels take for themselves.

    ``numbers`` are those that are allocated outside of all kernels and alive at the peak: Python's numbers that
    autograd saves as tensors, which lie on the CPU wherever the model is.
    """

    tensors: int
    workspaces: int
    numbers: int


@dataclass(frozen=True)
class _Event:
    """An allocation, or with a negative ``size`` a release; ``kernel`` is when the kernel around it ends."""

    time: int
    address: int
    size: int
    kernel: int | None


def peak(net: nn.Module, inputs: tuple[torch.Tensor, ...], *, train: bool) -> Peak:
    """Run a net without gradients, or forward and backward, and look at what is allocated where nobody else looks on.

    A workspace is what is released before the kernel returns that allocated it.
    """
    net.train(train)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.set_grad_enabled(train),
        torch.profiler.profile(activities=activities, profile_memory=True, record_shapes=True) as profile,
    ):
        output = net(*inputs)
        if train:
            output.backward(torch.ones_like(output))
    events = _events(profile)
    workspaces, began = set[int](), dict[int, int]()
    for place, event in enumerate(events):
        if event.size > 0:
            began[event.address] = place
        elif (first := began.pop(event.address, None)) is not None:
            end = events[first].kernel
            if end is not None and event.time <= end:
                workspaces |= {first, place}
    held = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers(), *inputs))
    most = total = highest = held
    beside: dict[int, int] = {}
    numbers = 0
    for place, event in enumerate(events):
        total += event.size
        highest = max(highest, total)
        if place in workspaces:
            continue
        held += event.size
        if event.size > 0 and event.kernel is None:
            beside[event.address] = event.size
        elif event.size < 0:
            beside.pop(event.address, None)
        if held > most:
            most, numbers = held, sum(beside.values())
    return Peak(most - numbers, highest - most, numbers)


def _events(profile: Any) -> list[_Event]:
    found: list[_Event] = []
    waiting = [(event, None) for event in profile.profiler.kineto_results.experimental_event_tree()]
    while waiting:
        event, kernel = waiting.pop()
        if event.tag == _EventType.Allocation:
            fields = event.extra_fields
            found.append(_Event(event.start_time_ns, fields.ptr, fields.alloc_size, kernel))
        if kernel is None and event.tag == _EventType.TorchOp and _is_kernel(event.name):
            kernel = event.end_time_ns
        waiting += [(child, kernel) for child in event.children]
    return sorted(found, key=lambda event: event.time)


@cache
def _is_kernel(name: str) -> bool:
    """Whether an operator is one that a dispatch mode sees, and does not only call others.

    The event does not say which overload ran; those that write into ``out`` are kernels also where the others are not.
    """
    space, _, op = name.partition("::")
    if space != "aten":
        return False
    overloads = [overload for overload in getattr(torch.ops.aten, op).overloads() if not overload.endswith("out")]
    full = [name if overload == "default" else f"{name}.{overload}" for overload in overloads]
    there = [one for one in full if torch._C._dispatch_has_kernel(one)]
    return not all(torch._C._dispatch_has_kernel_for_dispatch_key(one, "CompositeImplicitAutograd") for one in there)
