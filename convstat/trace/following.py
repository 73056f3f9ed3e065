"""Follow the memory of one run: see each storage when it is allocated, and when it is released.

The program itself decides how long a tensor lives: a residual keeps its branch alive, a view keeps the storage that it
shares, the graph of the backward pass keeps what it saves, and a name in the caller's frame keeps the outputs. So the
run is not modelled but made. On the meta device a storage has a size and takes no memory, and lives as long as it
would elsewhere. A weak reference to each storage tells when it is released.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from convstat.lifetimes import Kernel, Kind, Lifetimes, Phase, Storage
from convstat.patches.dispatch import Watching
from convstat.patches.doors import key_of
from convstat.patches.kernels_of import completed
from convstat.patches.room import patch, replaced
from convstat.trace.describe import ModuleTable, dtype_name, leaves
from convstat.trace.record import operator

PLAIN = ("kernels", "statistics", "sums")
"""What can be taken as it is seen on meta: the kernels that run there, the statistics that batch norm returns in
evaluation, and sums of gradients, which are allocated where somebody looks on."""


class Following(Watching):  # type: ignore[no-untyped-call]
    """Sees the storages that kernels allocate on one kind of device, and is told of their release.

    ``plainly`` names what is taken as it is seen on meta, and not as it is elsewhere: see :data:`PLAIN`.
    Tensors on another device, as the counts of steps that optimizers keep on the CPU, take none of its memory.
    """

    def __init__(self, table: ModuleTable, device: str, plainly: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.plainly = plainly
        self.marked: dict[int, int] = {}
        self.table = table
        self.device = device
        self.found = Lifetimes()
        self.phase: Phase = "before"
        self._alive: dict[int, tuple[weakref.ref[Any], Storage]] = {}
        self._ignored: dict[int, torch.Tensor] = {}
        self._sums: dict[int, tuple[int, int]] = {}
        self._inside: list[int] = []
        self._made_in: dict[int, int] = {}

    @patch
    def following(self) -> Iterator[None]:
        """Follow what runs for as long as this is entered."""
        with replaced(nn.Module, "__call__", self._call(nn.Module.__call__)), self:
            yield

    def _call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            self._inside.append(self.table.index(module))
            try:
                return original(module, *args, **kwargs)
            finally:
                self._inside.pop()

        return call

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        op = operator(func)[0]
        if op.startswith("profiler."):
            # Marks around the step of an optimizer.
            return func(*args, **kwargs)
        module = self._place()
        self.found.kernels.append(Kernel(op, self.phase, module))
        result = func(*args, **kwargs)
        if "statistics" not in self.plainly:
            result = completed(op, args, result)
        # What a checkpoint computes again in the backward pass are activations too.
        kind: Kind = "activations" if self.phase == "forward" or self._inside else "temporaries"
        for value in (result,) if isinstance(result, torch.Tensor) else leaves(result):
            if isinstance(value, torch.Tensor):
                self._see(value, op, module, kind)
        if op == "aten.add" and self.phase == "backward" and not self._inside and "sums" not in self.plainly:
            self._sums_up(args, result)
        return result

    def _sums_up(self, args: Any, result: torch.Tensor) -> None:
        """Look for gradients of one tensor that are summed up, which torch does in place where nobody looks on.

        Where a mode like this one is active, the engine allocates the sum. Without one it adds to the first gradient,
        if that has no gaps and is nobody else's: it would then be released right after. A view is never only its own,
        because it holds its base. A sum inside the formula of a derivative, which few have, is not told apart from
        these.
        """
        first, second = key_of(args[0]), key_of(result)
        if first is None or second is None or first not in self._alive or args[0].shape != result.shape:
            return
        if _is_dense(args[0]) and not args[0]._is_view():
            self._sums[first] = len(self.found.kernels), second

    def _place(self) -> int | None:
        """The module that runs, or whose forward kernel is gone back through."""
        if self._inside:
            inside = self._inside[-1]
            if self.phase == "forward":
                # The node of the graph that will go back through this kernel was made a moment ago.
                self._made_in.setdefault(_sequence_number() - 1, inside)
            return inside
        node = torch._C._current_autograd_node()
        return None if node is None else self._made_in.get(node._sequence_nr())

    def _see(self, tensor: torch.Tensor, op: str, module: int | None, kind: Kind) -> None:
        if tensor.device.type != self.device or (key := key_of(tensor)) is None or key in self._ignored:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if (known := self._alive.get(key)) is not None:
            if known[1].size == size:
                return
            # It was resized in place.
            self._released(key)
        alive = Storage(
            size, len(self.found.kernels), self.phase, module, op, tuple(tensor.shape), dtype_name(tensor.dtype), kind
        )
        self._alive[key] = weakref.ref(storage, lambda _: self._released(key)), alive
        self.found.storages.append(alive)

    def _released(self, key: int) -> None:
        released, now = self._alive.pop(key)[1], len(self.found.kernels)
        moment, other = self._sums.pop(key, (-1, 0))
        if moment == now and other in self._alive:
            # It is the sum from now on.
            reference, allocated = self._alive[other]
            self._alive[other] = reference, released
            self.found.storages.remove(allocated)
            released.kind = allocated.kind
        else:
            released.freed = now

    def take(self, tensors: Iterable[Any], kind: Kind, module: int | None = None) -> None:
        """Take tensors that are there, as what they are; one that was allocated before is that from now on."""
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                self._see(tensor, "", module, kind)
                if (known := self._alive.get(key_of(tensor) or 0)) is not None:
                    known[1].kind = kind

    def mark(self, gradient: torch.Tensor) -> None:
        """Note when what a kernel has allocated was handed over as the gradient of a parameter."""
        if (known := self._alive.get(key_of(gradient) or 0)) is not None:
            self.marked.setdefault(id(known[1]), len(self.found.kernels))

    def ignore(self, tensors: Iterable[Any]) -> None:
        """Leave out of account tensors that are elsewhere on another kind of device."""
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and (key := key_of(tensor)) is not None:
                self._ignored[key] = tensor

    def again(self) -> None:
        """Another batch begins, which is nothing new."""

    def keep(self) -> None:
        """Say of what the forward pass leaves alive that it is saved for the backward pass."""
        for _, storage in self._alive.values():
            if storage.kind == "activations":
                storage.kind = "saved"


_sequence_number = torch._C._autograd._get_sequence_nr


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements fill their part of the storage without gaps, in whatever order of its dimensions."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True
