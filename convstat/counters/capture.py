"""Run a peer: its output captured, its wishes granted, nothing left behind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convstat.counters.base import CounterFailure
from convstat.patches.quiet import redirected, unwarned
from convstat.patches.room import patch

if TYPE_CHECKING:
    import torch


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, None where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@patch
def running(model: torch.nn.Module) -> Iterator[io.StringIO]:
    """Run what is inside as peers are run: in eval mode, grad enabled, everything printed caught.

    Grad is enabled because the peers leave it so: without it, attention takes kernels that they do not price.
    The model, torch's state and the streams are put back, whatever happens.
    """
    import torch

    from convstat.patches.compiler import compiler_not_loaded
    from convstat.patches.preserve import preserved
    from convstat.patches.threads import followed

    printed = io.StringIO()
    with preserved(model), compiler_not_loaded(), followed(), redirected(printed, "stdout", "stderr"), unwarned():
        model.eval()
        with torch.enable_grad():
            yield printed


def device_of(inputs: tuple[Any, ...]) -> str:
    """The type of the device that the first tensor among some inputs is on, however nested; the CPU without any."""
    import torch
    from torch.utils._pytree import tree_leaves

    # A plain tuple: torch takes a subclass of one for a single value.
    return next((leaf.device.type for leaf in tree_leaves(tuple(inputs)) if isinstance(leaf, torch.Tensor)), "cpu")


def first_line(error: BaseException) -> str:
    """``ValueError: the first line of its message``; a failure of a counter is its message alone, which names its own.

    >>> first_line(ValueError("wrong\\nand more")), first_line(CounterFailure("it is broken")), first_line(KeyError())
    ('ValueError: wrong', 'it is broken', 'KeyError')
    """
    message = str(error).strip().partition("\n")[0]
    if isinstance(error, CounterFailure) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
