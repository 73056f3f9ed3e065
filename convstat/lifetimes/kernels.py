"""Run kernels without torch: each takes its place in the order, and allocates what it returns.

A layer writes here what its twin runs. The tensors live as long as the program of the layer holds them, as they do in
torch: a name that goes out of scope releases its tensor, and the last view of a storage the storage.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

from convstat.lifetimes import Kernel, Kind, Lifetimes, Storage
from convstat.lifetimes.tensors import (
    ITEM_BYTES,
    Memory,
    Shape,
    Tensor,
    alike,
    channels_last,
    contiguous,
    elementwise,
    viewed,
)


class Kernels:
    """Records a forward pass without gradients of a model in some ``dtype``, with the kernels of a kind of ``device``.

    ``places`` are the names of the layers, and of the modules in them, that ran.
    """

    def __init__(self, dtype: str = "float32", device: str = "cuda") -> None:
        self.dtype = dtype
        self.device = device
        self.found = Lifetimes()
        self.places: list[str] = []
        self._known: dict[str, int] = {}
        self._inside: list[int] = []
        self._alive: dict[int, weakref.ref[Memory]] = {}

    def place(self, name: str) -> int:
        """The number of a place."""
        if name not in self._known:
            self._known[name] = len(self.places)
            self.places.append(name)
        return self._known[name]

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Say what runs: a layer, or in one a module of its twin."""
        outer = f"{self.places[self._inside[-1]]}." if self._inside else ""
        self._inside.append(self.place(outer + name))
        try:
            yield
        finally:
            self._inside.pop()

    def given(self, shape: Shape, kind: Kind, dtype: str | None = None, place: str | None = None) -> Tensor:
        """Take a tensor that is there before anything runs."""
        tensor = Tensor(shape, dtype=dtype or self.dtype)
        module = None if place is None else self.place(place)
        self._see(tensor, Storage(0, 0, "before", module, "", shape, tensor.dtype, kind))
        return tensor

    def parameter(self, shape: Shape) -> Tensor:
        """A tensor whose memory is counted elsewhere, for what its shape decides."""
        return Tensor(shape, dtype=self.dtype)

    def ran(self, op: str) -> None:
        """Run a kernel that allocates nothing: one in place, or a view of parameters."""
        self.found.kernels.append(Kernel(f"aten.{op}", "forward", self._inside[-1] if self._inside else None))

    def results(self, op: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run a kernel that allocates some tensors."""
        self.ran(op)
        now = len(self.found.kernels)
        for tensor in tensors:
            module = self.found.kernels[-1].module
            storage = Storage(0, now, "forward", module, f"aten.{op}", tensor.shape, tensor.dtype, "activations")
            self._see(tensor, storage)
        return tensors

    def new(self, op: str, shape: Shape, strides: Shape | None = None, dtype: str | None = None) -> Tensor:
        """Run a kernel that allocates one tensor, contiguous unless ``strides`` are given."""
        return self.results(op, Tensor(shape, strides, dtype or self.dtype))[0]

    def _see(self, tensor: Tensor, storage: Storage) -> None:
        storage.size = prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
        key = len(self.found.storages)
        self.found.storages.append(storage)

        def released(_: object) -> None:
            storage.freed = len(self.found.kernels)
            del self._alive[key]

        self._alive[key] = weakref.ref(tensor.memory, released)

    def view(self, op: str, tensor: Tensor, shape: Shape, strides: Shape) -> Tensor:
        """Run a kernel whose result shares the storage of a tensor."""
        self.ran(op)
        return Tensor(shape, strides, tensor.dtype, tensor.memory)

    def elementwise(self, op: str, *tensors: Tensor, dtype: str | None = None) -> Tensor:
        """Run a kernel on matching elements."""
        shape, strides = elementwise(tensors)
        return self.new(op, shape, strides, dtype or self._promoted(tensors))

    def _promoted(self, tensors: Sequence[Tensor]) -> str:
        floating = [tensor.dtype for tensor in tensors if tensor.dtype in ("float32", "float16", "bfloat16")]
        return "float32" if "float32" in floating else (floating or [tensors[0].dtype])[0]

    def copied(self, op: str, tensor: Tensor, dtype: str | None = None) -> Tensor:
        """Run a kernel whose result lies as its argument does."""
        return self.new(op, tensor.shape, alike(tensor), dtype or tensor.dtype)

    def inplace(self, op: str, tensor: Tensor) -> Tensor:
        """Run a kernel that writes its result into its first argument."""
        self.ran(op)
        return tensor

    def pooled(self, op: str, tensor: Tensor, shape: Shape) -> Tensor:
        """Run a kernel that keeps channels together where they are."""
        strides = channels_last(shape) if tensor.is_channels_last else None
        return self.new(op, shape, strides, tensor.dtype)

    def pooled_with_indices(
        self, op: str, tensor: Tensor, shape: Shape, *, dense: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Run a kernel that returns elements and where they stood; contiguous ones if ``dense``."""
        strides = channels_last(shape) if tensor.is_channels_last and not dense else None
        values, indices = self.results(op, Tensor(shape, strides, tensor.dtype), Tensor(shape, strides, "int64"))
        return values, indices

    def clone(self, tensor: Tensor) -> Tensor:
        """Copy into a contiguous tensor."""
        return self.new("clone", tensor.shape, dtype=tensor.dtype)

    def contiguous(self, tensor: Tensor) -> Tensor:
        """The tensor itself where it is contiguous, else a copy."""
        return tensor if tensor.is_contiguous else self.clone(tensor)

    def reshape(self, tensor: Tensor, shape: Shape) -> Tensor:
        """A view where the strides allow it, else a copy."""
        strides = viewed(tensor.shape, tensor.strides, shape)
        if strides is not None:
            return self.view("view", tensor, shape, strides)
        return self.view("_unsafe_view", self.clone(tensor), shape, contiguous(shape))

    def permute(self, tensor: Tensor, dims: Sequence[int], op: str = "permute") -> Tensor:
        """Dimensions in another order."""
        return self.view(op, tensor, tuple(tensor.shape[d] for d in dims), tuple(tensor.strides[d] for d in dims))

    def transpose(self, tensor: Tensor, first: int, second: int, op: str = "transpose") -> Tensor:
        """Two dimensions in each other's place."""
        dims = list(range(tensor.rank))
        dims[first], dims[second] = dims[second], dims[first]
        return self.permute(tensor, dims, op)

    def unsqueeze(self, tensor: Tensor, dim: int) -> Tensor:
        """One more dimension, of size 1."""
        step = tensor.shape[dim] * tensor.strides[dim] if dim < tensor.rank else 1
        shape, strides = list(tensor.shape), list(tensor.strides)
        shape.insert(dim, 1)
        strides.insert(dim, step)
        return self.view("unsqueeze", tensor, tuple(shape), tuple(strides))

    def squeeze(self, tensor: Tensor, dim: int) -> Tensor:
        """Without a dimension of size 1."""
        shape, strides = list(tensor.shape), list(tensor.strides)
        del shape[dim], strides[dim]
        return self.view("squeeze", tensor, tuple(shape), tuple(strides))

    def select(self, tensor: Tensor, dim: int) -> Tensor:
        """One slice along a dimension, which goes."""
        shape, strides = list(tensor.shape), list(tensor.strides)
        del shape[dim], strides[dim]
        return self.view("select", tensor, tuple(shape), tuple(strides))

    def cat(self, tensors: Sequence[Tensor], dim: int) -> Tensor:
        """Tensors one after the other; channels lie together where they do in all of them."""
        shape = list(tensors[0].shape)
        shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
        whole = tuple(shape)
        strides = channels_last(whole) if all(tensor.is_channels_last for tensor in tensors) else None
        return self.new("cat", whole, strides, self._promoted(tensors))

    def linear(self, tensor: Tensor, out_features: int, bias: bool) -> Tensor:
        """``torch.nn.functional.linear``: with a bias and contiguous rows one product, else one and an addition."""
        shape = (*tensor.shape[:-1], out_features)
        rows = prod(tensor.shape[:-1])
        if tensor.rank == 2:
            self.ran("t")
            return self.new("addmm" if bias else "mm", shape)
        if bias and tensor.is_contiguous:
            flat = self.reshape(tensor, (rows, tensor.shape[-1]))
            self.ran("t")
            return self.reshape(self.new("addmm", (flat.shape[0], out_features)), shape)
        self.ran("t")
        flat = self.reshape(tensor, (rows, tensor.shape[-1]))
        product = self.new("mm", (rows, out_features))
        result = self.view("_unsafe_view", product, shape, contiguous(shape))
        del flat, product
        return self.inplace("add_", result) if bias else result
