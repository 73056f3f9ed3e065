"""Answers that the meta device cannot give, because they depend on values.

A meta tensor has no values, so ``nonzero`` cannot know how many there are.
The answer here is the largest there can be: every element is kept, no box is suppressed.
Each assumption is written down, and shown with the result.
Post-processing has no MACs; where what follows does (the second stage of a detector), the assumption is the number
of proposals, and detectors cap it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch

from convstat.errors import Mark
from convstat.sources.recipe import users_line_now
from convstat.trace.assumed import KNOWN, Kind, Values
from convstat.trace.memory import from_memory
from convstat.trace.placing import Counting, place, tensors, without_storage


class Answers(Counting):  # type: ignore[no-untyped-call]
    """Answers value-dependent kernels on meta, and lets small CPU tensors meet meta ones.

    With ``values``, these are what ``Tensor.item()`` reads; without, it fails, as it does on meta.
    ``turned`` are the questions of yes or no, by their number, that are answered the other way.
    ``asked`` are the kinds of values that were read, each with the model's line that was the first to do so, and
    ``ran`` tells what ran from what else may have, by operators and shapes.
    ``notes`` say what was assumed.
    """

    def __init__(self, values: Values | None = None, *, turned: Collection[int] = (), most: int | None = None) -> None:
        super().__init__("the forward pass", most=most)
        self.values = values
        self.turned = turned
        self.questions = 0
        self.asked: dict[Kind, Mark | None] = {}
        self.ran: list[int] = []
        self.assumed: dict[str, int] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, in words, with how often."""
        return tuple(f"{what} ({times} time{'s' if times > 1 else ''})" for what, times in self.assumed.items())

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.kernels.add()
        self.filled.step()
        if self.values is not None:
            self.ran.append(hash((func, *(leaf.shape for leaf in tensors((args, kwargs)) if not leaf.is_nested))))
        if func is _CONVOLUTION:
            _check_convolution(*args)
        answer = _answer(func)
        if answer is not None and _any_meta((args, kwargs)):
            return answer(self, func, args, kwargs)
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


_CONVOLUTION = torch.ops.aten.convolution.default


def _check_convolution(source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *options: Any) -> None:
    """Refuse what a CPU refuses, and meta does not notice: a bias of another size, the channels of a transposed
    convolution, and real numbers that meet complex ones.
    """
    if source.is_complex() is not weight.is_complex():
        raise RuntimeError(f"Input type ({source.dtype}) and weight type ({weight.dtype}) should be the same")
    is_transposed, groups = options[3], options[5]
    sizes = f"weight of size {list(weight.shape)}, expected"
    if is_transposed:
        sizes = f"transposed=1, {sizes}"
        if source.dim() > 1 and source.shape[1] != weight.shape[0]:
            raise RuntimeError(
                f"Given {sizes} input{list(source.shape)} to have {weight.shape[0]} channels,"
                f" but got {source.shape[1]} channels instead"
            )
    channels = weight.shape[1] * groups if is_transposed else weight.shape[0]
    if bias is not None and tuple(bias.shape) != (channels,):
        raise RuntimeError(
            f"Given {sizes} bias to be 1-dimensional with {channels} elements,"
            f" but got bias of size {list(bias.shape)} instead"
        )


_BY_FUNCTION: dict[Any, Callable[[Answers, Any, Any, Any], Any] | None] = {}


def _answer(func: Any) -> Callable[[Answers, Any, Any, Any], Any] | None:
    if func not in _BY_FUNCTION:
        _BY_FUNCTION[func] = _ANSWERS.get(str(func))
    return _BY_FUNCTION[func]


def _any_meta(tree: Any) -> bool:
    return any(leaf.device.type == "meta" for leaf in tensors(tree))


def _indices(count: int, *more: int) -> torch.Tensor:
    return torch.empty((count, *more), dtype=torch.int64, device="meta")


def _nonzero(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    mode.assume("nonzero was assumed to keep every element")
    return _indices(args[0].numel(), args[0].dim())


def _nms(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    mode.assume("nms was assumed to keep every box")
    return _indices(args[0].shape[0])


def _masked_select(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    source, mask = args
    both = torch.broadcast_shapes(source.shape, mask.shape)  # type: ignore[no-untyped-call]
    if mask.device.type != "meta":
        return source.new_empty((int(mask.expand(both).sum()),))
    mode.assume("a mask was assumed to keep every element")
    return source.new_empty((both.numel(),))


def _index(mode: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    indices = []
    for index in args[1]:
        is_mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        if is_mask and index.device.type != "meta":
            # A constant, whose values are known.
            indices += [kept.to("meta") for kept in index.nonzero().unbind(1)]
        elif is_mask:
            mode.assume("a mask was assumed to keep every element")
            # A mask of several dimensions stands for as many indices.
            indices += [_indices(index.numel()) for _ in range(index.dim())]
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
    return func(*args, **{**kwargs, "device": torch.device("meta")})


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
    "torchvision.nms.default": _nms,
    "torchvision.roi_align.default": _roi_align,
    "torchvision.deform_conv2d.default": _deform_conv2d,
}
