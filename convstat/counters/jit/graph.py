"""What ``torch.jit.trace`` makes of a model: the operators that Python calls, as far as the outputs depend on them.

fvcore and torchprofile price that graph. It is recorded here without ``torch.jit``, which cannot run on meta:

- a ``TorchFunctionMode`` sees the operators where Python calls them, before they are split into kernels:
  ``linear`` and not ``addmm``, ``matmul`` and not ``bmm``;
- sizes remember where they come from, because in the graph they are tensors, and products of them are operators;
- what is traced is told that it is, because some functions of torch then take another way;
- what no output depends on is not part of the graph.

A ``TorchDispatchMode`` sees the kernels of the same run, so that each operator knows what its kernels multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.trace import TensorInfo, Trace, Value

Products = Mapping[str, int]
"""Layer -> what kernels that ran in it multiply, by :func:`convstat.counters.products.products`."""

_NOTHING: Products = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """An operator that Python called: ``op`` is ``linear`` or ``mul_``, ``layer`` the module that it was called in.

    ``used`` says whether an output depends on it. ``of_sizes`` is true where its operands are sizes of tensors.
    ``products`` are those of the kernels that ran in it: of more than one layer where it called modules.
    """

    op: str
    args: tuple[Value, ...]
    kwargs: Mapping[str, Value]
    output: Value
    layer: str
    used: bool
    of_sizes: bool = False
    products: Products = field(default_factory=lambda: _NOTHING)

    def argument(self, position: int, name: str) -> Value:
        """An argument, by its place or its name; None where it is left out."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name)

    def shape(self, position: int, name: str) -> tuple[int, ...]:
        """The shape of an argument that is a tensor."""
        value = self.argument(position, name)
        if not isinstance(value, TensorInfo):
            raise PredictedFailure(f"TypeError: {name} of {self.op} has no shape")
        return value.shape

    def output_shape(self, position: int = 0) -> tuple[int, ...]:
        """The shape of the output, or of one of several."""
        value = self.output[position] if isinstance(self.output, tuple) else self.output
        if not isinstance(value, TensorInfo):
            raise PredictedFailure(f"TypeError: the output of {self.op} has no shape")
        return value.shape


@dataclass(frozen=True, slots=True)
class Recorded:
    """The operators of a run, and the kernels that ran outside of all: some in other threads, some in nobody's name.

    ``fused`` are the paths of modules that ran as one kernel, with all that they hold.
    """

    operators: tuple[OperatorCall, ...] = ()
    threads: Products = field(default_factory=lambda: _NOTHING)
    outside: Products = field(default_factory=lambda: _NOTHING)
    fused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JitTrace(Trace):
    """A trace that has the operators of another run of the same model as well."""

    recorded: Recorded = Recorded()


Recordings = dict[tuple[int, bool, bool], Recorded | PredictedFailure]
"""What runs recorded, or why one cannot be traced, by the trace that they belong to and how they were made."""

_kept: ContextVar[Recordings | None] = ContextVar("recordings", default=None)


@contextmanager
def keeping(recordings: Recordings) -> Iterator[None]:
    """Record each graph once for all counters that price it: as long as this is entered, look into ``recordings``."""
    token = _kept.set(recordings)
    try:
        yield
    finally:
        _kept.reset(token)


def recorded_once(key: tuple[int, bool, bool], record: Callable[[], Recorded]) -> Recorded:
    """What is kept under a key, else what ``record`` gives or raises.

    >>> runs = []
    >>> record = lambda: runs.append("run") or Recorded()
    >>> with keeping({}):
    ...     both = [recorded_once((1, True, False), record) for _ in range(2)]
    >>> both[0] is both[1], recorded_once((1, True, False), record) == Recorded(), len(runs)
    (True, True, 2)
    """
    kept = _kept.get()
    if kept is None:
        return record()
    if key not in kept:
        try:
            kept[key] = record()
        except PredictedFailure as failure:
            kept[key] = failure
    found = kept[key]
    if isinstance(found, PredictedFailure):
        raise found
    return found


def recorded_of(trace: Trace) -> Recorded:
    """The operators of a trace that has them."""
    if not isinstance(trace, JitTrace):
        raise TypeError("fvcore and torchprofile are predicted from the trace that their retrace gives")
    return trace.recorded
