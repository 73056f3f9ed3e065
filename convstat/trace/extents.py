"""How every tensor of a running model goes along its first input: what each kernel reads, position by position.

The model runs once, without values. Each kernel says which positions of its inputs its outputs read, by the same terms
as a layer of a spec does (:mod:`convstat.formulas.reads`). What no rule is known for is not guessed: from there on
nothing is known of the dimensions that it takes, and its name is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from convstat.formulas import reads
from convstat.formulas.reach import Window, conv, conv_transpose, resized, shifted
from convstat.formulas.reads import Dims, Extents, Place, Reads, Reshaped, broadcast, same

ROOT = ""
"""The path of the model itself."""


def extents(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Extents], int]:
    """Run a model, which has to be in eval mode; give the extents of what its modules deliver, and how many axes there
    are. A module that is called again has the name ``path#2``.
    """
    watch = _Watch(model)
    return watch.run(args, kwargs), watch.axes


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries extents from tensor to tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.held: Any = WeakTensorKeyDictionary()
        self.roots: Any = WeakTensorKeyDictionary()
        """Of what each view is one."""
        self.found: dict[str, Extents] = {}
        self.calls: dict[str, int] = {}
        self.axes = 0

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Extents]:
        """Run the model."""
        first = next((value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)), None)
        if first is None or first.dim() < 2:
            return {}
        self.held[first] = reads.start(tuple(first.shape))
        self.axes = len(self.held[first].along())
        handles = []
        try:
            for path, module in self.model.named_modules():
                handles.append(module.register_forward_hook(self._hook(path)))
            with torch.no_grad(), self:
                self.model(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        return self.found

    def _hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def delivered(module: nn.Module, args: Any, output: Any) -> None:
            count = self.calls[path] = self.calls.get(path, 0) + 1
            tensor = next((value for value in tree_leaves(output) if isinstance(value, torch.Tensor)), None)
            if tensor is not None:
                self.found[path if count == 1 else f"{path}#{count}"] = self._of(tensor)

        return delivered

    def _of(self, tensor: torch.Tensor) -> Extents:
        found: Extents | None = self.held.get(tensor)
        return reads.apart(tuple(tensor.shape)) if found is None or len(found.dims) != tensor.dim() else found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a kernel, and say what its outputs read."""
        kwargs = kwargs or {}
        taken = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        # In place, what it was before counts.
        sources = [self._of(tensor) for tensor in taken]
        shapes = [tuple(tensor.shape) for tensor in taken]
        output = func(*args, **kwargs)
        made = [value for value in tree_leaves(output) if isinstance(value, torch.Tensor)]
        name = func._schema.name.removeprefix("aten::")
        self._view(func, args, made)
        if name in CONSTANT or not any(_is_tracked(source) for source in sources):
            for tensor in made:
                self.held.pop(tensor, None)
            return output
        for place, tensor in enumerate(made):
            read = _reads(func, name, args, kwargs, taken, made, place)
            chosen = _chosen(name, read, len(sources))
            if any(_is_tracked(source) for at, source in enumerate(sources) if at not in chosen):
                read, chosen = f"{name} with weights that are computed is not followed", range(len(sources))
            shape = tuple(tensor.shape)
            self.held[tensor] = reads.through(read, [sources[i] for i in chosen], [shapes[i] for i in chosen], shape)
        self._written(func, name, args, sources[0])
        return output

    def _view(self, func: Any, args: Any, made: Sequence[torch.Tensor]) -> None:
        """Remember what is a view of what."""
        if func.is_view and args and isinstance(args[0], torch.Tensor):
            for tensor in made:
                self.roots[tensor] = self.roots.get(args[0], args[0])

    def _written(self, func: Any, name: str, args: Any, before: Extents) -> None:
        """Follow a tensor no further that is written through a view of it."""
        first = args[0] if args else None
        if not func._schema.is_mutable or not isinstance(first, torch.Tensor) or self._of(first) == before:
            return
        if (root := self.roots.get(first)) is not None:
            reason = f"a part of a tensor is written in place by {name}"
            self.held[root] = reads.through(reason, [self._of(root), self._of(first)], [], tuple(root.shape))


def _is_tracked(source: Extents) -> bool:
    return bool(source.along() or source.whole or source.unknown)


def _chosen(name: str, read: Reads, count: int) -> range:
    """Which of the tensors that a kernel takes are those that its reads are about: the first ones."""
    if isinstance(read, str):
        return range(count)
    if name == "copy_":
        return range(1, 2)
    return range(1) if isinstance(read, Reshaped) else range(len(read))


def _reads(
    func: Any,
    name: str,
    args: Any,
    kwargs: Mapping[str, Any],
    taken: Sequence[torch.Tensor],
    made: Sequence[torch.Tensor],
    place: int,
) -> Reads:
    """What one output of a kernel reads of the tensors that it takes."""
    base = name.removesuffix("_") if not name.startswith("_") else name
    rule = RULES.get(base)
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = _pointwise
    if rule is None:
        return f"{name} is not followed"
    names = [argument.name for argument in func._schema.arguments]
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    values = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
    return rule(_Kernel(base, values, [tuple(t.shape) for t in taken], [tuple(t.shape) for t in made], place))


class _Kernel:
    """A call of a kernel: its arguments by name, the shapes that go in and come out, and which output it is about."""

    def __init__(self, name: str, values: Mapping[str, Any], shapes: list[Any], made: list[Any], place: int) -> None:
        self.name, self.values, self.shapes, self.made, self.place = name, values, shapes, made, place
        self.shape: tuple[int, ...] = shapes[0]
        self.output: tuple[int, ...] = made[place]

    def dim(self, name: str = "dim") -> int:
        """A dimension, counted from the front."""
        found: int = self.values[name]
        return found % max(len(self.shape), 1)

    def each(self, name: str, count: int) -> list[Any]:
        """An argument for each spatial dimension."""
        value = self.values.get(name)
        items = [*value] if isinstance(value, (list, tuple)) else [value]
        return items * count if len(items) == 1 else items


Rule = Callable[[_Kernel], Reads]

CONSTANT = (
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "fill_", "zero_"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
)
"""Operators that take a tensor for its shape alone."""


def _pointwise(call: _Kernel) -> Reads:
    return tuple(broadcast(shape, call.output) for shape in call.shapes)


def _same(call: _Kernel) -> Reads:
    return (same(len(call.output)),)


def _reshaped(call: _Kernel) -> Reads:
    return Reshaped()


def _last(windows: Sequence[Window], rank: int, *, channels: bool) -> Dims:
    """Windows over the last dimensions; those before at their own place, the channels only where they are not mixed."""
    first = rank - len(windows)
    kept = {dim: Place(dim) for dim in range(first) if channels or dim != first - 1}
    return {**kept, **{dim: Place(dim, window) for dim, window in enumerate(windows, first)}}


def _convolution(call: _Kernel) -> Reads:
    kernel = call.shapes[1][2:]
    steps = [call.each(name, len(kernel)) for name in ("stride", "padding", "dilation")]
    if call.values.get("transposed"):
        more = call.each("output_padding", len(kernel))
        windows = [conv_transpose(*step) for step in zip(kernel, *steps, more, strict=True)]
    else:
        windows = [conv(*step) for step in zip(kernel, *steps, strict=True)]
    return (_last(windows, len(call.shape), channels=False),)


def _pool(call: _Kernel) -> Reads:
    kernel = call.each("kernel_size", 1)
    count = int(next(letter for letter in call.name if letter.isdigit()))
    kernel = kernel * count if len(kernel) == 1 else kernel
    stride = call.each("stride", count) if call.values.get("stride") else kernel
    dilation = call.each("dilation", count) if "dilation" in call.values else [1] * count
    steps = zip(kernel, stride, call.each("padding", count), dilation, strict=True)
    return (_last([conv(*step) for step in steps], len(call.shape), channels=True),)


def _adaptive(call: _Kernel) -> Reads:
    return reads.adapted(call.shape, call.output) if len(call.shape) > 3 else "pooling without a batch is not followed"


def _reduced(call: _Kernel) -> Reads:
    rank = len(call.shape)
    given = call.values.get("dim")
    dims = range(rank) if given is None or given == [] else given if isinstance(given, (list, tuple)) else [given]
    gone = {dim % rank for dim in dims}
    keeps = len(call.output) == rank
    kept = [dim for dim in range(rank) if dim not in gone]
    return ({dim: Place(dim if keeps else kept.index(dim)) for dim in kept},)


def _mixed(call: _Kernel) -> Reads:
    """All of one dimension."""
    return (same(len(call.output), call.dim()),)


def _batch_norm(call: _Kernel) -> Reads:
    uses_batch = call.values.get("training", False) or call.values.get("running_mean") is None
    return ({1: Place(1)} if uses_batch else same(len(call.output)),)


def _layer_norm(call: _Kernel) -> Reads:
    rank = len(call.shape)
    return (same(rank, *range(rank - len(call.values["normalized_shape"]), rank)),)


def _group_norm(call: _Kernel) -> Reads:
    return ({0: Place(0)},)


def _product(call: _Kernel) -> Reads:
    """``mm`` and ``bmm``: rows of the one with columns of the other."""
    last = len(call.output) - 1
    ahead = {dim: Place(dim) for dim in range(last - 1)}
    return ({**ahead, last - 1: Place(last - 1)}, {**ahead, last: Place(last)})


def _added_product(call: _Kernel) -> Reads:
    last = len(call.output) - 1
    ahead = {dim: Place(dim) for dim in range(last - 1)}
    added = broadcast(call.shapes[0], call.output)
    return (added, {**ahead, last - 1: Place(last - 1)}, {**ahead, last: Place(last)})


def _linear(call: _Kernel) -> Reads:
    return (same(len(call.output), len(call.output) - 1),)


def _attention(call: _Kernel) -> Reads:
    rank = len(call.shape)
    if call.place:
        return "a statistic of attention is not followed"
    return (same(rank, rank - 1), same(rank, rank - 2, rank - 1), same(rank, rank - 2))


def _permuted(call: _Kernel) -> Reads:
    rank = len(call.shape)
    return ({dim % rank: Place(place) for place, dim in enumerate(call.values["dims"])},)


def _transposed(call: _Kernel) -> Reads:
    rank = len(call.shape)
    if call.name == "t":
        one, other = 0, rank - 1
    else:
        one, other = call.dim("dim0"), call.dim("dim1")
    swapped = {one: other, other: one}
    return ({dim: Place(swapped.get(dim, dim)) for dim in range(rank)},)


def _expanded(call: _Kernel) -> Reads:
    return (broadcast(call.shape, call.output),)


def _sliced(call: _Kernel) -> Reads:
    dim, size = call.dim(), call.shape[call.dim()]
    start, end, step = slice(call.values.get("start"), call.values.get("end"), call.values.get("step")).indices(size)
    window = shifted(-start, end - size) if step == 1 else Window(step, ((start,),), (start,))
    return ({**same(len(call.shape)), dim: Place(dim, window)},)


def _selected(call: _Kernel) -> Reads:
    dim = call.dim()
    kept = {place: Place(place - (place > dim)) for place in range(len(call.shape)) if place != dim}
    return ({**kept, dim: Place(None)},)


def _unbound(call: _Kernel) -> Reads:
    return _selected(call)


def _parted(call: _Kernel) -> Reads:
    dim = call.dim()
    start = sum(shape[dim] for shape in call.made[: call.place])
    window = shifted(-start, start + call.output[dim] - call.shape[dim])
    return ({**same(len(call.shape)), dim: Place(dim, window)},)


def _joined(call: _Kernel) -> Reads:
    dim = call.values.get("dim", 0) % len(call.output)
    return ({**same(len(call.output)), dim: Place(None)},) * len(call.shapes)


def _stacked(call: _Kernel) -> Reads:
    new = call.values.get("dim", 0) % len(call.output)
    return ({dim: Place(dim + (dim >= new)) for dim in range(len(call.shape))},) * len(call.shapes)


def _padded(call: _Kernel) -> Reads:
    name = "pad" if "pad" in call.values else "padding"
    sides, last = call.values[name], len(call.shape) - 1
    moved = {last - i: Place(last - i, shifted(*pair)) for i, pair in enumerate([*pairwise(sides)][::2])}
    return ({**same(last + 1), **moved},)


def _resized(call: _Kernel) -> Reads:
    mode = call.name.removeprefix("_").removeprefix("upsample_").rstrip("123d").rstrip("_")
    mode = {"nearest_exact": "nearest-exact"}.get(mode, mode)
    sizes, outs = call.shape[2:], call.output[2:]
    if call.values.get("align_corners") and sizes != outs:
        return "with aligned corners, the distance between its samples depends on the size"
    if "antialias" in mode or mode.endswith("_aa") or call.name.endswith("_aa"):
        return f"{call.name} is not followed"
    given = call.values.get("scale_factors") or [
        call.values.get(name) for name in ("scales_d", "scales_h", "scales_w", "scales") if name in call.values
    ]
    scales = [*given] if len(given) == len(sizes) else [None] * len(sizes)
    windows = []
    for size, out, scale in zip(sizes, outs, scales, strict=True):
        step = Fraction(size, out) if scale is None else 1 / Fraction(scale)
        window = resized(mode, step)
        if window is None:
            return f"it samples every {float(step):.6g} positions, which has no short period"
        windows.append(window)
    return (_last(windows, len(call.shape), channels=True),)


def _shuffled(call: _Kernel) -> Reads:
    if call.name == "pixel_shuffle":
        factor = call.values["upscale_factor"]
        window = Window(1, ((0,),) * factor, (0,) * factor)
    else:
        window = conv(call.values["downscale_factor"], call.values["downscale_factor"])
    return (_last([window, window], len(call.shape), channels=False),)


def _rolled(call: _Kernel) -> Reads:
    moved = zip(call.values["dims"], call.values["shifts"], strict=True)
    rank = len(call.shape)
    return ({**same(rank), **{dim % rank: Place(dim % rank, shifted(by)) for dim, by in moved}},)


def _looked_up(call: _Kernel) -> Reads:
    return ({}, same(len(call.shapes[1])))


def _copied(call: _Kernel) -> Reads:
    return (broadcast(call.shapes[1], call.output),)


def _by_name(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_by_name(_convolution, "convolution convolution_overrideable _convolution"),
    **_by_name(_pool, "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices"),
    **_by_name(_pool, "avg_pool1d avg_pool2d avg_pool3d"),
    **_by_name(_adaptive, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"),
    **_by_name(
        _reduced, "mean sum amax amin max min var var_mean std std_mean prod logsumexp linalg_vector_norm norm any"
    ),
    **_by_name(_reduced, "argmax argmin all"),
    **_by_name(_mixed, "_softmax _log_softmax cumsum glu sort"),
    **_by_name(_batch_norm, "native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm"),
    **_by_name(_layer_norm, "native_layer_norm _fused_rms_norm"),
    **_by_name(_group_norm, "native_group_norm"),
    **_by_name(_product, "mm bmm"),
    **_by_name(_added_product, "addmm baddbmm"),
    **_by_name(_linear, "linear"),
    **_by_name(
        _attention,
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
        "_scaled_dot_product_fused_attention_overrideable",
    ),
    **_by_name(_reshaped, "view _unsafe_view reshape _reshape_alias unsqueeze squeeze flatten unflatten"),
    **_by_name(_permuted, "permute"),
    **_by_name(_transposed, "transpose t"),
    **_by_name(_expanded, "expand"),
    **_by_name(_sliced, "slice"),
    **_by_name(_selected, "select"),
    **_by_name(_unbound, "unbind"),
    **_by_name(_parted, "split split_with_sizes chunk"),
    **_by_name(_joined, "cat concat"),
    **_by_name(_stacked, "stack"),
    **_by_name(_padded, "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d"),
    **_by_name(_padded, "replication_pad1d replication_pad2d replication_pad3d"),
    **_by_name(_resized, "upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d"),
    **_by_name(_resized, "upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d"),
    **_by_name(_resized, "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"),
    **_by_name(_shuffled, "pixel_shuffle pixel_unshuffle"),
    **_by_name(_rolled, "roll"),
    **_by_name(_looked_up, "embedding"),
    **_by_name(_copied, "copy"),
    **_by_name(_pointwise, "hardswish log_sigmoid_forward rrelu_with_noise"),
    **_by_name(
        _same,
        "clone _to_copy contiguous detach alias lift_fresh dropout native_dropout channel_shuffle "
        "native_channel_shuffle _prelu_kernel",
    ),
}
"""By the name of the operator, of both the one that returns and the one that works in place."""
