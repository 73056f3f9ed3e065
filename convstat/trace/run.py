"""Run any model for its trace: without weights where that is possible, and as it is where it is not.

What is tried, in turn, until one way works:

1. ``meta``: the constructor and the forward pass on the meta device; nothing is allocated or computed.
2. ``meta``, stripped: constructors that compute run on CPU, their parameters move to meta as they are registered.
3. ``fake``: fake tensors, for what meta has no kernel for.
4. ``cpu``: a real run, if the weights fit into the memory that is there.

The way that was taken is reported with the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from convstat.errors import ConvstatError, DeviceError
from convstat.sources.recipe import Example, Recipe, failed
from convstat.trace.answers import Answers
from convstat.trace.calls import Trace
from convstat.trace.placing import EndlessError, place, placed, stored_bytes, stripped
from convstat.trace.record import record

ExampleOf = Callable[[nn.Module, Example | None], Example]
"""Makes the arguments of a forward pass, from the module and from what the entry point gave along with it."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A model that ran: its trace, the way it ran, and what it ran on."""

    trace: Trace
    way: str
    module: nn.Module
    example: Example
    device: str
    notes: tuple[str, ...] = ()


class _UnfitError(Exception):
    """A way that cannot be tried for this model; the message says why."""


def run(recipe: Recipe, example_of: ExampleOf, *, device: str = "auto", train: bool = False) -> Traced:
    """Make the model and record one forward pass; raises SourceError in the user's own words if no way works."""
    ways = _WAYS if device == "auto" else {"meta": _WAYS["meta"]} if device == "meta" else {device: _real(device)}
    if recipe.needs_cpu:
        if device not in ("auto", "cpu"):
            raise DeviceError(f"{recipe.source} only runs on the CPU", help="leave --device out")
        ways = {"cpu": _WAYS["cpu"]}
    failures: dict[str, BaseException] = {}
    for way, attempt in ways.items():
        try:
            traced = attempt(recipe, example_of, train)
        except ConvstatError as error:
            # A constructor that fails on meta raises through users_code; the next way may still make it.
            if not isinstance(error.__cause__, Exception) or isinstance(error.__cause__, EndlessError):
                raise
            failures[way] = error
        except _UnfitError as error:
            failures[way] = error
        except EndlessError as error:
            raise failed(f"{recipe.source} does not end", error) from error
        except Exception as error:
            failures[way] = error
        else:
            tried = [f"{name} did not work: {_reason(error)}" for name, error in failures.items()]
            return replace(traced, notes=(*recipe.notes, *tried, *traced.notes))
    raise _give_up(recipe, failures)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _give_up(recipe: Recipe, failures: dict[str, BaseException]) -> ConvstatError:
    """Show the failure that says most: that of the last way that was really tried."""
    tried = [error for error in failures.values() if not isinstance(error, _UnfitError)]
    error = tried[-1]
    unfit = [f"{way}: {error}" for way, error in failures.items() if isinstance(error, _UnfitError)]
    if isinstance(error, ConvstatError):
        return error
    help = [f"a real run was not tried: {reason}" for reason in unfit]
    if "meta" in str(error).lower() and unfit:
        help.append("its control flow depends on values; give a smaller input, or run it with --device cpu")
    else:
        help.append("give the inputs that its forward takes: --input x=1x3x224x224, --input ids=1x128:int64")
    return failed(f"{recipe.source} does not run", error, help=tuple(help))


def _meta(recipe: Recipe, example_of: ExampleOf, train: bool) -> Traced:
    with torch.device("meta"), stripped(None):
        module, given = recipe.make()
    return _on_meta(recipe, module, given, example_of, train, "meta")


def _stripped(recipe: Recipe, example_of: ExampleOf, train: bool) -> Traced:
    with stripped("meta"):
        module, given = recipe.make()
    return _on_meta(recipe, module, given, example_of, train, "meta, built on cpu without weights")


def _on_meta(
    recipe: Recipe, module: nn.Module, given: Example | None, example_of: ExampleOf, train: bool, way: str
) -> Traced:
    example = example_of(module, given)
    example = Example(place(example.args, "meta"), place(dict(example.kwargs), "meta"))
    with ExitStack() as stack:
        stack.enter_context(placed(module, "meta"))
        stack.enter_context(declared_operators())
        answers = stack.enter_context(Answers(values=recipe.assume_values))
        trace = record(module, example.args, example.kwargs, train=train)
    return Traced(trace, way, module, example, "meta", answers.notes)


def _fake(recipe: Recipe, example_of: ExampleOf, train: bool) -> Traced:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), stripped(None):
        module, given = recipe.make()
        if any(not _is_fake(t) for t in (*module.parameters(), *module.buffers())):
            raise _UnfitError("the module was made before, with real tensors")
        example = example_of(module, given)
        trace = record(module, example.args, example.kwargs, train=train)
    return Traced(trace, "fake tensors", module, example, "cpu")


def _is_fake(tensor: torch.Tensor) -> bool:
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor) or isinstance(tensor.data, FakeTensor)


def _real(device: str) -> Callable[[Recipe, ExampleOf, bool], Traced]:
    def attempt(recipe: Recipe, example_of: ExampleOf, train: bool) -> Traced:
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("there is no CUDA device on this machine", help="use --device auto, cpu or meta")
        _check_room(recipe)
        with torch.device(device), stripped(None):
            module, given = recipe.make()
        with placed(module, device), _limited_memory():
            example = example_of(module, given)
            example = Example(place(example.args, device), place(dict(example.kwargs), device))
            trace = record(module, example.args, example.kwargs, train=train)
        return Traced(trace, device, module, example, device)

    return attempt


def _check_room(recipe: Recipe) -> None:
    """Refuse a real run of a model whose weights alone do not fit; made without them first, to find out."""
    if recipe.needs_cpu:
        return
    try:
        with stripped("meta"):
            module, _ = recipe.make()
    except Exception:
        return
    needed, free = stored_bytes(module), available_memory()
    if free is not None and needed > 0.7 * free:
        raise _UnfitError(f"its weights take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free")


def available_memory() -> int | None:
    """The bytes of memory that are free, as the system says; None where it does not."""
    from pathlib import Path

    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Let allocations fail with an exception before the system ends the process for taking all memory."""
    free = available_memory()
    try:
        import resource
    except ImportError:
        free = None
    if free is None:
        yield
        return
    from pathlib import Path

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + int(0.9 * free)
    if before[1] != resource.RLIM_INFINITY:
        limit = min(limit, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def declared_operators() -> Iterator[None]:
    """Let torchvision call its operators where they are declared only: on meta their answers come from us."""
    import sys

    extension: Any = sys.modules.get("torchvision.extension")
    if extension is None:
        yield
        return
    before = extension._has_ops
    extension._has_ops = lambda: True
    try:
        yield
    finally:
        extension._has_ops = before


_WAYS: dict[str, Callable[[Recipe, ExampleOf, bool], Traced]] = {
    "meta": _meta,
    "meta, built on cpu without weights": _stripped,
    "fake tensors": _fake,
    "cpu": _real("cpu"),
}
