"""Answers that the meta device cannot give, because they depend on values.

A meta tensor has no values, so ``nonzero`` cannot know how many there are.
The answer here is that of a :class:`~convstat.trace.assumed.Choice`, at first the largest there can be: every element
is kept, no box is suppressed. Indices that choose among a few classes, as routers do, are made up, with values.
Each assumption is written down, and shown with the result; whether it matters, other choices show.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, MutableMapping
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from convstat.errors import Mark
from convstat.trace import routing
from convstat.trace.assumed import KNOWN, LARGEST, Choice, Kept, Kind
from convstat.trace.placing import META, SMALL, Counting, place, tensors, without_storage
from convstat.trace.recipe import users_line_now
from convstat.trace.refusals import check_operands
from convstat.trace.remembering import from_memory


class Answers(Counting):  # type: ignore[no-untyped-call]
    """Answers value-dependent kernels on meta, and lets small CPU tensors meet meta ones.

    With ``choice.values``, these are what ``Tensor.item()`` reads; without, it fails, as it does on meta.
    ``turned`` are the questions of yes or no, by their number, that are answered the other way.
    ``asked`` are the kinds of values that were read, each with the model's line that was the first to do so, and
    ``ran`` tells what ran from what else may have, by operators and shapes.
    ``notes`` say what was assumed; ``masks`` counts what was taken of masks, and ``routed`` holds, for each choice of
    indices, the number of classes and the shape.
    """

    def __init__(self, choice: Choice = LARGEST, *, turned: Collection[int] = (), most: int | None = None) -> None:
        super().__init__("the forward pass", most=most)
        self.choice = choice
        self.values = choice.values
        self.turned = turned
        self.questions = 0
        self.asked: dict[Kind, Mark | None] = {}
        self.ran: list[int] = []
        self.assumed: dict[str, int] = {}
        self.masks = 0
        self.routed: list[tuple[int, tuple[int, ...]]] = []
        self.offered: MutableMapping[torch.Tensor, tuple[int, tuple[int, ...]]] = WeakTensorKeyDictionary()
        self.numbers: MutableMapping[torch.Tensor, float] = WeakTensorKeyDictionary()
        self.plain: MutableMapping[torch.Tensor, int] = WeakTensorKeyDictionary()
        self.inverse: MutableMapping[torch.Tensor, int] = WeakTensorKeyDictionary()
        self.numbered = 0
        self.used: tuple[set[int], set[int]] = set(), set()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, in words, with how often."""
        return tuple(f"{what} ({times} time{'s' if times > 1 else ''})" for what, times in self.assumed.items())

    @property
    def paired(self) -> frozenset[int]:
        """The masks that something was taken by, and by their complement too."""
        return frozenset(self.used[0] & self.used[1])

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.kernels.add()
        self.filled.step()
        if self.values is not None:
            self.ran.append(hash((func, *(leaf.shape for leaf in tensors((args, kwargs)) if not leaf.is_nested))))
        if self.offered:
            self._take(args)
        check_operands(func, args)
        answer = _answer(func)
        if answer is not None and (_any_meta((args, kwargs)) or kwargs.get("device") == META):
            return answer(self, func, args, kwargs)
        if self.numbered and func in _SAME_ELEMENTS:
            return self._still_a_mask(func, args, kwargs)
        if self.routed and func is _TO and self._stays(args[0], kwargs):
            kwargs = {**kwargs, "device": args[0].device}
        try:
            # Constants stay on the CPU until they meet a meta tensor, so that models may read those that they made.
            return from_memory(func, args, kwargs, without_storage)
        except NotImplementedError:
            if answer is None or func.namespace == "aten":
                raise
            # An operator of torchvision's that is declared only, called on constants.
            return answer(self, func, place(args, "meta"), place(kwargs, "meta"))

    def assume(self, what: str) -> None:
        """Write an assumption down."""
        self.assumed[what] = self.assumed.get(what, 0) + 1

    def kept(self, mask: torch.Tensor, count: int) -> int:
        """How many of ``count`` elements a mask keeps."""
        self.masks += 1
        inverse = self.inverse.get(mask)
        if inverse is None:
            self.used[0].add(self._number(mask))
            return self.choice.kept.of(count)
        self.used[1].add(inverse)
        kept = self.choice.kept.of(count)
        return count - kept if inverse in self.choice.paired else kept

    def inverted(self, mask: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """Remember that one mask keeps what another one does not."""
        inverse = self.inverse.get(mask)
        if inverse is not None:
            self.plain[result] = inverse
        else:
            self.inverse[result] = self._number(mask)
        return result

    def _number(self, mask: torch.Tensor) -> int:
        number = self.plain.get(mask)
        if number is None:
            number = self.plain[mask] = self.numbered
            self.numbered += 1
        return number

    def _take(self, args: Any) -> None:
        """See whether indices are used that came beside a largest value, which is what most ask for alone."""
        for value in args:
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(tensor, torch.Tensor) and tensor in self.offered:
                    self.routed.append(self.offered.pop(tensor))
                    self.assume(_MADE_UP)

    def _still_a_mask(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = from_memory(func, args, kwargs, without_storage)
        for table in (self.plain, self.inverse):
            if (number := table.get(args[0])) is not None:
                table[result] = number
        return result

    def _stays(self, tensor: torch.Tensor, kwargs: Any) -> bool:
        """Whether it may be made of indices that were made up: on meta they would lose their values."""
        to = kwargs.get("device")
        is_kept = tensor.dtype in _INDICES and kwargs.get("dtype", tensor.dtype) in _INDICES
        return to is not None and torch.device(to).type == "meta" and tensor.device.type == "cpu" and is_kept


class Reading(Counting):  # type: ignore[no-untyped-call]
    """Watches whether a real run reads values: whether some may decide what runs, or how large a result is."""

    reads = False

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if not self.reads and func in _READS:
            self.reads = func is not torch.ops.aten.index.Tensor or any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
            )
        return super().kernel(func, args, kwargs)


_READS = frozenset(
    (
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
        torch.ops.aten.index.Tensor,
        torch.ops.aten._unique2.default,
        torch.ops.aten.unique_dim.default,
        torch.ops.aten.unique_consecutive.default,
        torch.ops.aten.repeat_interleave.Tensor,
        torch.ops.aten.bincount.default,
        torch.ops.aten.equal.default,
    )
)

_INDICES = frozenset((torch.int64, torch.int32, torch.bool))
_TO = torch.ops.aten._to_copy.default
_SAME_ELEMENTS = frozenset(
    (
        torch.ops.aten.view.default,
        torch.ops.aten._unsafe_view.default,
        torch.ops.aten.unsqueeze.default,
        torch.ops.aten.squeeze.default,
        torch.ops.aten.squeeze.dim,
        torch.ops.aten.transpose.int,
        torch.ops.aten.permute.default,
        torch.ops.aten.t.default,
        torch.ops.aten.expand.default,
        torch.ops.aten.clone.default,
        torch.ops.aten.detach.default,
        torch.ops.aten.alias.default,
    )
)
"""Kernels after which a mask is the same mask in another shape."""

_BY_FUNCTION: dict[Any, Callable[[Answers, Any, Any, Any], Any] | None] = {}


def _answer(func: Any) -> Callable[[Answers, Any, Any, Any], Any] | None:
    try:
        return _BY_FUNCTION[func]
    except KeyError:
        found = _BY_FUNCTION[func] = _ANSWERS.get(str(func))
        return found


def _any_meta(tree: Any) -> bool:
    return any(leaf.device.type == "meta" for leaf in tensors(tree))


_SAID = {Kept.ALL: "every element", Kept.HALF: "half of the elements", Kept.NONE: "no element"}
_BOXES = {Kept.ALL: "every box", Kept.HALF: "half of the boxes", Kept.NONE: "no box"}


def _indices(count: int, *more: int) -> torch.Tensor:
    return torch.empty((count, *more), dtype=torch.int64, device="meta")


def _nonzero(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    mode.assume(f"nonzero was assumed to find {_SAID[mode.choice.kept]}")
    return _indices(mode.kept(args[0], args[0].numel()), args[0].dim())


def _nms(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    mode.assume(f"nms was assumed to keep {_BOXES[mode.choice.kept]}")
    return _indices(mode.kept(args[0], args[0].shape[0]))


def _masked_select(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    source, mask = args
    both = torch.broadcast_shapes(source.shape, mask.shape)  # type: ignore[no-untyped-call]
    if mask.device.type != "meta":
        return source.new_empty((int(mask.expand(both).sum()),))
    mode.assume(f"a mask was assumed to keep {_SAID[mode.choice.kept]}")
    return source.new_empty((mode.kept(mask, both.numel()),))


def _index(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    indices = []
    for index in args[1]:
        is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        if is_mask and index.device.type != "meta":
            # A constant, whose values are known.
            indices += [place.to("meta") for place in index.nonzero().unbind(1)]
        elif is_mask:
            mode.assume(f"a mask was assumed to keep {_SAID[mode.choice.kept]}")
            # A mask of several dimensions stands for as many indices.
            kept = mode.kept(index, index.numel())
            indices += [_indices(kept) for _ in range(index.dim())]
        else:
            indices.append(index if index is None or index.device.type == "meta" else index.to("meta"))
    return func(args[0].to("meta"), indices, *args[2:], **kwargs)


def _unique(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    # The classes of detections: what follows loops over them, and the number of turns changes no count.
    mode.assume("unique was assumed to find one value")
    return args[0].new_empty((1,)), _indices(args[0].numel()), _indices(1)


def _roi_align(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    source, rois, _, height, width = args[:5]
    return source.new_empty((rois.shape[0], source.shape[1], height, width))


def _deform_conv2d(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    source, weight, offset = args[:3]
    return source.new_empty((source.shape[0], weight.shape[0], *offset.shape[2:]))


def _not(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    result = from_memory(func, args, kwargs, without_storage)
    return mode.inverted(args[0], result) if args[0].dtype is torch.bool else result


def _number(place: int | None) -> Callable[[Answers, Any, Any, Any], Any]:
    """How kernels are answered that make a tensor of one number: zero, or the argument at a place."""

    def answer(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
        result = from_memory(func, args, kwargs, without_storage)
        if mode.choice.routing is not None and result.is_meta and result.numel() <= SMALL:
            mode.numbers[result] = 0 if place is None else args[place]
        return result

    return answer


def _scatter(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """Who writes a number to indices that are known, into a tensor of another number, knows what comes of it."""
    source, dim, index, value = args
    if source in mode.numbers and not index.is_meta and not kwargs:
        source = torch.full(source.shape, mode.numbers[source], dtype=source.dtype, device=index.device)
    return from_memory(func, (source, dim, index, value), kwargs, without_storage)


_MADE_UP = "the indices that depend on values were made up"


def _routed(
    place: int, default: int | None = None, *, is_offered: bool = False
) -> Callable[[Answers, Any, Any, Any], Any]:
    """How kernels are answered that find indices along a dimension, which stands at a place of their arguments."""

    def answer(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
        result = from_memory(func, args, kwargs, without_storage)
        # Of a detector it is known that its indices decide nothing.
        if mode.choice.routing is None or mode.values is KNOWN:
            return result
        dim = args[place] if len(args) > place else kwargs.get("dim", default)
        source = args[0]
        if not isinstance(dim, int) or not source.dim():
            return result
        indices = result if isinstance(result, torch.Tensor) else result[-1]
        has_dim = indices.dim() == source.dim()
        shape = list(indices.shape)
        each = shape.pop(dim) if has_dim else 1
        classes = source.shape[dim]
        if not routing.is_routing(classes, indices.shape):
            return result
        made = routing.chosen(classes, (*shape, each), mode.choice.routing)
        made = made.movedim(-1, dim).contiguous() if has_dim else made.squeeze(-1)
        if is_offered:
            mode.offered[made] = classes, (*shape, each)
        else:
            mode.assume(_MADE_UP)
            mode.routed.append((classes, (*shape, each)))
        return made if isinstance(result, torch.Tensor) else (*result[:-1], made)

    return answer


def _item(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    if mode.values is None:
        return func(*args, **kwargs)
    dtype = args[0].dtype
    kind: Kind = "truth" if dtype is torch.bool else "number" if dtype.is_floating_point else "size"
    if kind not in mode.asked:
        mode.asked[kind] = None if mode.values is KNOWN else users_line_now()
    value = mode.values.of(kind)
    if kind == "truth":
        value = value != (mode.questions in mode.turned)
        mode.questions += 1
    if mode.values is KNOWN:
        mode.assume(
            "a comparison of values was assumed to be false"
            if kind == "truth"
            else "a value read from a tensor was assumed to be 1"
        )
    return value


def _is_all(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    return args[0].new_empty(())


def _not_aligned(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    # Whether a padding mask allows nested tensors, which TransformerEncoder only takes without gradients.
    return False


def _grouped_mm(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """The shape of ``_grouped_mm``, whose meta kernel takes bfloat16 alone, as a GPU does, and a CPU takes more.

    Checks and result are those of ``_grouped_mm_validate_inputs`` and ``create_grouped_gemm_output_tensor`` in
    aten/src/ATen/native/GroupedMMUtils.h.
    """
    left, right = args[:2]
    offsets = args[2] if len(args) > 2 else kwargs.get("offs")
    dtype = (args[4] if len(args) > 4 else kwargs.get("out_dtype")) or left.dtype
    if not {left.dim(), right.dim()} <= {2, 3}:
        raise RuntimeError(f"Multiplicands must be 2D or 3D but got {left.dim()}D and {right.dim()}D")
    if left.shape[-1] != right.shape[-2] and not left.dim() == right.dim() == 2:
        raise RuntimeError("contraction dimension of mat_a and mat_b must match")
    if left.dtype != right.dtype or left.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise RuntimeError(
            f"Expected Float32, BFloat16 or Float16 matrices of one dtype, got {left.dtype} and {right.dtype}"
        )
    if (offsets is None) is not (left.dim() == right.dim() == 3):
        raise RuntimeError("Have to provide offsets if there is a 2d matrix, and only then")
    for operand in (left, right):
        *_, down, across = operand.stride()
        if max(down, across) * operand.element_size() % 16:
            raise RuntimeError("strides should be multiple of 16 bytes")
    groups = offsets.shape[:1] if left.dim() == right.dim() == 2 else left.shape[:1] if offsets is None else ()
    shape = (*groups, left.shape[-2], right.shape[-1])
    # Rows begin at multiples of 16 bytes, so that the next product takes them.
    step = 16 // dtype.itemsize
    row = -(-shape[-1] // step) * step
    strides = (row, 1) if len(shape) == 2 else (shape[1] * row, row, 1)
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def _scaled_mm(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """The shape of ``_scaled_mm``, whose meta kernel wants sizes that a GPU wants, where a CPU takes any."""
    left, right = args[:2]
    dtype = (args[6] if len(args) > 6 else kwargs.get("out_dtype")) or left.dtype
    if left.shape[-1] != right.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({left.shape} and {right.shape})")
    return torch.empty((left.shape[0], right.shape[1]), dtype=dtype, device="meta")


def _to_device(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    # Moving a meta tensor to a real device would need its values; its shape goes on.
    result = func(*args, **{**kwargs, "device": torch.device("meta")})
    for table in (mode.plain, mode.inverse) if mode.numbered else ():
        if (number := table.get(args[0])) is not None:
            table[result] = number
    return result


_ANSWERS: dict[str, Callable[[Answers, Any, Any, Any], Any]] = {
    "aten.nonzero.default": _nonzero,
    "aten.masked_select.default": _masked_select,
    "aten.index.Tensor": _index,
    "aten._unique2.default": _unique,
    "aten._local_scalar_dense.default": _item,
    "aten._is_all_true.default": _is_all,
    "aten._is_any_true.default": _is_all,
    "aten._nested_tensor_from_mask_left_aligned.default": _not_aligned,
    "aten._to_copy.default": _to_device,
    "aten._grouped_mm.default": _grouped_mm,
    "aten._scaled_mm.default": _scaled_mm,
    "aten.bitwise_not.default": _not,
    "aten.logical_not.default": _not,
    "aten.zeros.default": _number(None),
    "aten.zeros_like.default": _number(None),
    "aten.new_zeros.default": _number(None),
    "aten.full.default": _number(1),
    "aten.full_like.default": _number(1),
    "aten.new_full.default": _number(2),
    "aten.scatter.value": _scatter,
    "aten.topk.default": _routed(2, -1),
    "aten.argmax.default": _routed(1),
    "aten.argmin.default": _routed(1),
    "aten.max.dim": _routed(1, is_offered=True),
    "aten.min.dim": _routed(1, is_offered=True),
    "torchvision.nms.default": _nms,
    "torchvision.roi_align.default": _roi_align,
    "torchvision.deform_conv2d.default": _deform_conv2d,
}
