"""Run a peer: its output captured, its wishes granted, nothing left behind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from convstat.counters.base import CounterFailure
from convstat.errors import ConvstatError
from convstat.patches.quiet import redirected, unwarned
from convstat.patches.room import patch
from convstat.text.printable import plain

if TYPE_CHECKING:
    import torch


LONGEST = 1_000
"""Characters of a reason; an exception may have a whole model in its message."""


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
    from convstat.trace.record import set_mode

    printed = io.StringIO()
    with preserved(model), compiler_not_loaded(), followed(), redirected(printed, "stdout", "stderr"), unwarned():
        set_mode(model, train=False)
        with torch.enable_grad():
            yield printed


def refusal_of_eval(model: torch.nn.Module) -> str | None:
    """What a model says that cannot be switched to eval mode, as one that was exported; counters that call it fail."""
    from torch import nn

    from convstat.patches.preserve import preserved

    kind = type(model)
    is_own = kind.eval is not nn.Module.eval or kind.train is not nn.Module.train
    if not is_own and not {"eval", "train"} & set(vars(model)):
        return None
    with preserved(model):
        try:
            model.eval()
        except Exception as error:
            return first_line(error)
    return None


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
    if isinstance(error, ConvstatError):
        # A name of ours says nothing to who asked.
        return error.diagnostics[0].message
    try:
        message = plain(str(error).strip().partition("\n")[0])
    except BaseException:
        message = ""
    if len(message) > LONGEST:
        message = f"{message[:LONGEST]}..."
    if isinstance(error, CounterFailure) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
