"""Follow the values of masks on the meta device, where no tensor has any.

What a model makes from nothing (ranges, triangles of ones, comparisons of positions) has the same values wherever it is
made: so each such tensor has a twin on the CPU, made by the same kernels, and what becomes of scores under it is known:
which pairs of a query and a key the softmax sees, and which a mask has set so low that their weight is zero. Weights
and activations have no twins, and cost nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from fractions import Fraction
from typing import Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from convstat.patches.dispatch import Watching
from convstat.patches.doors import key_of
from convstat.trace.describe import leaves
from convstat.trace.record import operator

LARGEST = 2**27
"""The most bytes of a tensor whose values are followed."""

LOW = -1e4
"""What is added to scores, or put in their place, so that their weights are zero: at most this."""

_SOFTMAX = frozenset(("aten._softmax", "aten._safe_softmax", "aten.softmax"))
_SAME = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "contiguous"),
        *("_to_copy", "clone", "detach", "alias", "mul", "div", "sub"),
    )
)
"""Kernels after which masked scores are the same masked scores."""

_MASKING = frozenset(("aten.masked_fill", "aten.masked_fill_", "aten.where"))
"""Kernels that put something in the place of scores."""

_UNKNOWN = frozenset(
    f"aten.{name}"
    for name in (
        *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "bernoulli", "normal"),
        *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"),
    )
)
"""Kernels that make values that nobody knows."""

Twin = torch.Tensor


class Following(Watching):  # type: ignore[no-untyped-call]
    """Gives ``kept``: for each softmax, in order, the part that no mask discards; None where that is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.twins: MutableMapping[torch.Tensor, Twin] = WeakTensorKeyDictionary()
        self.masked: MutableMapping[torch.Tensor, Twin | None] = WeakTensorKeyDictionary()
        self.lost: set[int] = set()
        self.kept: list[Fraction | None] = []

    def know(self, tensor: torch.Tensor, values: torch.Tensor) -> None:
        """Say what the values of a tensor are."""
        if tensor.is_meta and values.nbytes <= LARGEST:
            self.twins[tensor] = values.detach()

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        op = operator(func)[0]
        if op in _SOFTMAX:
            self.kept.append(self._part(args[0]))
        result = func(*args, **kwargs)
        if op in _UNKNOWN:
            return result
        given = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        twins = [self._twin(tensor) for tensor in given]
        made = [leaf for leaf in leaves(result) if isinstance(leaf, torch.Tensor) and leaf.is_meta]
        if not made:
            return result
        if None not in twins and sum(tensor.nbytes for tensor in made) <= LARGEST:
            self._again(func, args, kwargs, result)
        else:
            self._lose(func, args)
            if op in _MASKING or any(twin is not None for twin in twins) or any(t in self.masked for t in given):
                self._mask(op, args, kwargs, made[0])
        return result

    def _twin(self, tensor: torch.Tensor) -> Twin | None:
        if not tensor.is_meta:
            return tensor
        if self.lost and key_of(tensor) in self.lost:
            return None
        return self.twins.get(tensor)

    def _again(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """Run a kernel on the twins."""

        def twin(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return self._twin(value)
            return torch.device("cpu") if isinstance(value, torch.device) and value.type == "meta" else value

        if kwargs.get("device", "") is None and not any(isinstance(v, torch.Tensor) for v in leaves(args)):
            kwargs = {**kwargs, "device": torch.device("meta")}
        try:
            with torch.no_grad():
                values = func(*tree_map(twin, args), **tree_map(twin, kwargs))
        except Exception:
            self._lose(func, args)
            return
        for tensor, value in zip(leaves(result), leaves(values), strict=False):
            if isinstance(tensor, torch.Tensor) and isinstance(value, torch.Tensor) and tensor.is_meta:
                self.twins[tensor] = value

    def _lose(self, func: Any, args: Any) -> None:
        """Forget what is overwritten by values that are not known."""
        schema = getattr(func, "_schema", None)
        if schema is None or not schema.is_mutable:
            return
        for argument, value in zip(schema.arguments, args, strict=False):
            if argument.is_write and isinstance(value, torch.Tensor) and (key := key_of(value)) is not None:
                self.lost.add(key)

    def _mask(self, op: str, args: Any, kwargs: Mapping[str, Any], result: torch.Tensor) -> None:
        """Remember which of the scores are kept, if this kernel masks some."""
        op = op.removesuffix("_")
        keep: Twin | None = None
        is_known = True
        before = [self.masked[t] for t in args if isinstance(t, torch.Tensor) and t in self.masked]
        earlier = before[0] if before else None
        if op == "aten.add" and isinstance(args[1], torch.Tensor):
            added = next((twin for t in args[:2] if (twin := self._twin(t)) is not None), None)
            if added is not None and added.dim() > 1:
                keep = added > LOW
        elif op == "aten.masked_fill":
            mask, value = self._twin(args[1]), _number(args[2], self)
            if value is None or value <= LOW:
                is_known = mask is not None and value is not None
                keep = None if mask is None else ~mask.bool()
        elif op == "aten.where" and len(args) == 3:
            mask = self._twin(args[0])
            low, high = _number(args[2], self), _number(args[1], self)
            if low is not None and low <= LOW:
                is_known, keep = mask is not None, None if mask is None else mask.bool()
            elif high is not None and high <= LOW:
                is_known, keep = mask is not None, None if mask is None else ~mask.bool()
        elif op == "aten.cat":
            # A sink beside the keys is no key: which of these are kept stays the same.
            before = [self.masked[t] for t in args[0][:1] if t in self.masked]
            earlier = before[0] if before else None
        elif op not in _SAME or args[0].numel() != result.numel():
            return
        if not is_known or None in before:
            self.masked[result] = None
        elif keep is not None or earlier is not None:
            self.masked[result] = keep if earlier is None else earlier if keep is None else keep & earlier

    def _part(self, scores: torch.Tensor) -> Fraction | None:
        """The part of what goes into a softmax that is kept: all where nothing masks it; a learned bias is no mask."""
        if scores not in self.masked:
            return Fraction(1)
        keep = self.masked[scores]
        return Fraction(int(keep.sum()), keep.numel()) if keep is not None and keep.numel() else None


def _number(value: Any, following: Following) -> float | None:
    """A number, or that in a tensor of one element whose value is known; of a tensor, the largest."""
    if isinstance(value, (bool, int, float)):
        return float(value)
    twin = following._twin(value) if isinstance(value, torch.Tensor) else None
    return None if twin is None or not twin.numel() else float(twin.max())
