"""Find the products of attention in a trace, and which of them a mask discards.

Attention is what multiplies two batches of matrices, sends the result through a softmax along the keys, and multiplies
that again; or a fused kernel that does all of it. So it is found in whatever module, by whatever name, and products
that no softmax follows, as those of state spaces, are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from convstat.count import ops
from convstat.count.ops.base import argument, tensors
from convstat.trace.calls import Call, FunctionCall, KernelCall, ModuleCall, ModuleInfo, TensorInfo, Trace, Value

_BATCHED = frozenset(("aten.bmm", "aten.baddbmm", "aten.baddbmm_"))
_SOFTMAX = frozenset(("aten._softmax", "aten._safe_softmax", "aten.softmax"))
_FUSED: Mapping[str, int] = {
    "aten._scaled_dot_product_flash_attention": 4,
    "aten._scaled_dot_product_flash_attention_for_cpu": 4,
    "aten._scaled_dot_product_efficient_attention": 6,
    "aten._scaled_dot_product_cudnn_attention": 6,
    "aten._scaled_dot_product_fused_attention_overrideable": 5,
    "aten._scaled_dot_product_attention_math": 5,
}
"""Kernels that are a whole attention, with the place of ``is_causal`` among their arguments."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """One attention: ``queries`` x ``keys`` for each head and sample, and the MACs of its products.

    ``is_causal`` is what the call says: True, False, or None where it was given a mask, or says nothing. ``softmax`` is
    the number of its softmax among all of the pass, None for a fused kernel. ``module`` is where it runs.
    """

    module: ModuleInfo
    queries: int
    keys: int
    macs: int
    is_causal: bool | None
    softmax: int | None

    def kept(self, window: int | None = None) -> Fraction:
        """The part of the pairs that a causal mask keeps; with a window, each query sees so many keys at most.

        The last query sees the last key, so that keys before the first query, of a cache, are seen by all.
        """
        return kept_pairs(self.queries, self.keys, window)


@lru_cache(maxsize=256)
def kept_pairs(queries: int, keys: int, window: int | None = None) -> Fraction:
    """The part of queries x keys that causal attention keeps, aligned at the end.

    >>> kept_pairs(4, 4), kept_pairs(1, 9), kept_pairs(4, 4, window=2)
    (Fraction(5, 8), Fraction(1, 1), Fraction(7, 16))
    """
    if not queries or not keys:
        return Fraction(1)
    before = keys - queries
    most = keys if window is None else window
    return Fraction(sum(max(min(before + i + 1, most, keys), 0) for i in range(queries)), queries * keys)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the calls around a kernel say of a mask."""

    is_causal: bool | None = None


def find(trace: Trace) -> tuple[Pairs, ...]:
    """Every attention of the forward pass, in order."""
    found: list[Pairs] = []
    products: list[tuple[KernelCall, int, ModuleInfo]] = []
    pending: tuple[int, int, int, int, _Said, ModuleInfo, int] | None = None
    softmaxes = 0
    pricing = ops.Pricing()
    for call, module, said in _forward(trace):
        if call.op in _FUSED:
            cost = pricing.price(call)
            query, key = argument(call, 0, "query"), argument(call, 1, "key")
            if cost is not None and isinstance(query, TensorInfo) and isinstance(key, TensorInfo):
                causal = argument(call, _FUSED[call.op], "is_causal", said.is_causal)
                found.append(Pairs(module, query.shape[-2], key.shape[-2], cost.macs, causal, None))
        elif call.op in _BATCHED:
            cost = pricing.price(call)
            macs = 0 if cost is None else cost.macs
            if pending is not None and any(operand.numel == pending[0] for operand in _operands(call)):
                _, scores, queries, keys, around, owner, number = pending
                found.append(Pairs(owner, queries, keys, scores + macs, around.is_causal, number))
                pending, products = None, []
            else:
                products.append((call, macs, module))
        elif call.op in _SOFTMAX:
            before = next(iter(tensors(call.args)), None)
            match = None if before is None or len(before.shape) < 2 else _scores(products, before)
            if before is not None and match is not None:
                scores, owner, keys = match
                rows = before.numel // before.shape[-1]
                pending = (rows * keys, scores, before.shape[-2], keys, said, owner, softmaxes)
            softmaxes += 1
    return tuple(found)


def _operands(call: KernelCall) -> list[TensorInfo]:
    found = tensors(call.args)
    return found[-2:]


def _scores(
    products: Sequence[tuple[KernelCall, int, ModuleInfo]], before: TensorInfo
) -> tuple[int, ModuleInfo, int] | None:
    """The MACs of the products that give what goes into a softmax: those as large as it, and others of its batch.

    The scores may have one more column, of a sink that takes what no key gets: so the number of keys is given too.
    """
    rows, columns = before.numel // max(before.shape[-1], 1), before.shape[-1]
    for keys in (columns, columns - 1):
        main = next((entry for entry in reversed(products) if keys and _size(entry[0].output) == rows * keys), None)
        if main is not None and (keys == columns or _columns(main[0]) == keys):
            batch = _batch(main[0])
            return sum(macs for call, macs, _ in products if _batch(call) == batch), main[2], keys
    return None


def _size(value: Value) -> int:
    found = tensors(value)
    return found[0].numel if found else 0


def _columns(call: KernelCall) -> int:
    found = tensors(call.output)
    return found[0].shape[-1] if found and found[0].shape else 0


def _batch(call: KernelCall) -> int:
    found = tensors(call.output)
    return found[0].shape[0] if found and found[0].shape else 0


def _forward(trace: Trace) -> Iterator[tuple[KernelCall, ModuleInfo, _Said]]:
    """The kernels of the forward pass in order, each with the module that runs it and what is said around it."""
    root = trace.modules[0]
    children = trace.root.children if trace.forward is None else trace.root.children[: trace.forward]
    stack: list[tuple[Call, ModuleInfo, _Said]] = [(child, root, _Said()) for child in reversed(children)]
    while stack:
        call, module, said = stack.pop()
        if isinstance(call, KernelCall):
            if not call.backward:
                yield call, module, said
            continue
        if isinstance(call, ModuleCall):
            if trace.modules[call.module].registered:
                module = trace.modules[call.module]
            said = _Said(True) if call.kwargs.get("is_causal") is True else _Said()
        elif call.name.endswith("scaled_dot_product_attention"):
            said = _said_by(call, said)
        stack.extend((child, module, said) for child in reversed(call.children))


def _said_by(call: FunctionCall, around: _Said) -> _Said:
    """What a call of attention says: causal, not masked at all, or masked by what it was given."""
    if argument(call, 5, "is_causal", False) is True:
        return _Said(True)
    return _Said(around.is_causal) if isinstance(argument(call, 3, "attn_mask"), TensorInfo) else _Said(False)


def causal(found: Sequence[Pairs], masks: Sequence[Fraction | None] | None, trace: Trace) -> tuple[int, str]:
    """The MACs that are left without what masks discard, and from what these are known (see ``results.language``).

    ``masks`` are the parts that the masks before each softmax keep, in order; None where they were not followed, and
    one is None where its values are not known.
    """
    macs, how = 0, 0
    for pairs in found:
        place = pairs.softmax
        followed = masks[place] if masks is not None and place is not None and place < len(masks) else None
        if pairs.is_causal is not None:
            part = kept_by_kernel(pairs.queries, pairs.keys) if pairs.is_causal else Fraction(1)
        elif followed is not None:
            part, how = followed, max(how, 1)
        else:
            part, how = _by_module(pairs), 2
        left = pairs.macs * part
        macs += int(left)
    return macs, ("kernel", "mask", "module")[how]


def kept_by_kernel(queries: int, keys: int) -> Fraction:
    """What ``is_causal`` of torch's attention keeps: it is aligned at the first query and the first key.

    >>> kept_by_kernel(4, 4), kept_by_kernel(4, 2), kept_by_kernel(2, 4)
    (Fraction(5, 8), Fraction(7, 8), Fraction(3, 8))
    """
    if not queries or not keys:
        return Fraction(1)
    rising = min(queries, keys)
    return Fraction(rising * (rising + 1) // 2 + (queries - rising) * keys, queries * keys)


def _by_module(pairs: Pairs) -> Fraction:
    """What the module says of itself: ``is_causal``, and the ``sliding_window`` that it has."""
    said = pairs.module.attributes
    window = next((value for name in ("sliding_window", "window_size") if type(value := said.get(name)) is int), None)
    return pairs.kept(window) if _is_causal(pairs) else Fraction(1)


def _is_causal(pairs: Pairs) -> bool:
    said = pairs.module.attributes
    return any(said.get(name) is True for name in ("is_causal", "causal", "is_decoder"))


def needs_masks(found: Sequence[Pairs]) -> bool:
    """Whether some attention has a mask of which the call does not say what it discards."""
    return any(pairs.is_causal is None for pairs in found)


__all__ = ["Pairs", "causal", "find", "kept_pairs", "needs_masks"]
