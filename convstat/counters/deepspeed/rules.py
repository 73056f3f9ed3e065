"""What DeepSpeed's flops profiler and calflops add for the functions that they replace: FLOPs, and MACs among them.

calflops began as a copy of DeepSpeed's profiler, so that most rules are the same; the tables at the end tell where
they are not. A rule has the parameters of the tool's own function, defaults included: a call that does not fit these
fails there as it does here, with a TypeError. Values are what a trace remembers: tensors are ``TensorInfo``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

from convstat.counters.einsum import printed_flops
from convstat.trace import ListInfo, TensorInfo

Priced = tuple[int, int]
Rule = Callable[..., Priced]


def _products(macs: int) -> Priced:
    return 2 * macs, macs


def _linear(input: Any, weight: Any, bias: Any = None) -> Priced:
    return _products(input.numel * weight.shape[0])


def _relu(input: Any, inplace: Any = False) -> Priced:
    return input.numel, 0


def _prelu(input: Any, weight: Any) -> Priced:
    return input.numel, 0


def _elu(input: Any, alpha: Any = 1.0, inplace: Any = False) -> Priced:
    return input.numel, 0


def _leaky_relu(input: Any, negative_slope: Any = 0.01, inplace: Any = False) -> Priced:
    return input.numel, 0


def _gelu(input: Any, **kwargs: Any) -> Priced:
    return input.numel, 0


def _softmax(input: Any, dim: Any = None, _stacklevel: Any = 3, dtype: Any = None) -> Priced:
    return input.numel, 0


def _pool(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = None,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
    divisor_override: Any = None,
    return_indices: Any = None,
) -> Priced:
    return input.numel, 0


def _embedding(
    input: Any,
    weight: Any,
    padding_idx: Any = None,
    max_norm: Any = None,
    norm_type: Any = 2.0,
    scale_grad_by_freq: Any = False,
    sparse: Any = False,
) -> Priced:
    return 0, 0


def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    momentum: Any = 0.1,
    eps: Any = 1e-05,
) -> Priced:
    return input.numel * ((4 if training else 1) + (weight is not None)), 0


def _layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: Any = 1e-5) -> Priced:
    return input.numel * (4 + (weight is not None)), 0


def _instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: Any = True,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
) -> Priced:
    return input.numel * (4 + (weight is not None)), 0


def _group_norm(input: Any, num_groups: Any, weight: Any = None, bias: Any = None, eps: Any = 1e-5) -> Priced:
    return input.numel * (4 + (weight is not None)), 0


def _each(value: Any, dims: int) -> Any:
    """One number for each dimension. A list is taken for a number, and arithmetic with it then fails."""
    return value if isinstance(value, tuple) else (value,) * dims


def _places(input: Any, kernel: tuple[int, ...], stride: Any, padding: Any, dilation: Any) -> int:
    """The number of places to which a convolution of this shape would put its kernel."""
    sizes = input.shape[2:]
    strides, paddings, dilations = (_each(value, len(sizes)) for value in (stride, padding, dilation))
    return prod(
        (size + 2 * paddings[axis] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, size in enumerate(sizes)
    )


def _conv(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Priced:
    if weight.shape[1] * groups != input.shape[1]:
        # Without a batch, what stands second is not the channels.
        raise AssertionError
    kernel = weight.shape[2:]
    if padding == "valid":
        padding = 0
    elif padding == "same":
        dilations = _each(dilation, len(input.shape[2:]))
        # As much on both sides, so that one is missing where an odd number is needed in all.
        padding = tuple(each * (size - 1) // 2 for each, size in zip(dilations, kernel, strict=False))
    positions = input.shape[0] * _places(input, kernel, stride, padding, dilation)
    macs = prod(kernel) * input.shape[1] * (weight.shape[0] // groups) * positions
    return 2 * macs + (weight.shape[0] * positions if bias is not None else 0), macs


def _transposed(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Priced:
    kernel, sizes = weight.shape[2:], input.shape[2:]
    strides, paddings, dilations = (_each(value, len(sizes)) for value in (stride, padding, dilation))
    added = output_padding.items if isinstance(output_padding, ListInfo) else _each(output_padding, len(sizes))
    outputs = prod(
        (size - 1) * strides[axis] - 2 * paddings[axis] + dilations[axis] * (kernel[axis] - 1) + added[axis] + 1
        for axis, size in enumerate(sizes)
    )
    macs = prod(kernel) * input.shape[1] * weight.shape[1] * input.shape[0] * prod(sizes)
    return 2 * macs + (weight.shape[1] * groups * input.shape[0] * outputs if bias is not None else 0), macs


def _transposed_like_forward(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Priced:
    """The weight has the channels of one group: they are divided by the groups once more."""
    kernel, sizes = weight.shape[2:], input.shape[2:]
    outputs = _places(input, kernel, stride, padding, dilation)
    macs = prod(kernel) * input.shape[1] * (weight.shape[1] // groups) * input.shape[0] * prod(sizes)
    return 2 * macs + (weight.shape[1] * input.shape[0] * outputs if bias is not None else 0), macs


def _size_and_scale(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The size of an interpolation's output, or else its scale factor."""
    size = kwargs.get("size")
    if size is None and len(args) > 1:
        size = args[1]
    if size is not None:
        return size, None
    scale = kwargs.get("scale_factor")
    if scale is None and len(args) > 2:
        scale = args[2]
    if scale is None:
        raise AssertionError("either size or scale_factor should be defined")
    return None, scale


def _of_size(size: Any) -> Priced:
    sizes = size.items if isinstance(size, ListInfo) else size if isinstance(size, tuple) else (size,)
    return int(prod(sizes)), 0


def _interpolate(*args: Any, **kwargs: Any) -> Priced:
    source = args[0]
    size, scale = _size_and_scale(args, kwargs)
    if size is not None:
        return _of_size(size)
    dims = len(source.shape) - 2
    if isinstance(scale, ListInfo):
        scale = scale.items
    if not isinstance(scale, tuple):
        return int(source.numel * scale**dims), 0
    if len(scale) != dims:
        raise AssertionError
    return int(source.numel * prod(scale)), 0


def _interpolate_unscaled(*args: Any, **kwargs: Any) -> Priced:
    """The scale goes into a product that is thrown away; but where it is not one number, that product fails."""
    source = args[0]
    size, scale = _size_and_scale(args, kwargs)
    if size is not None:
        return _of_size(size)
    # What it takes for the number of dimensions is the batch.
    if not (isinstance(scale, tuple) and len(scale) == source.shape[0]):
        _ = scale ** source.shape[0]
    return source.numel, 0


def _matmul(input: Any, other: Any, *, out: Any = None) -> Priced:
    return _products(input.numel * other.shape[-1])


def _addmm(input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Priced:
    macs = mat1.numel * mat2.shape[-1]
    return 2 * macs + input.numel, macs


def _tensor_addmm(self: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1, out: Any = None) -> Priced:
    return _addmm(self, mat1, mat2)


def _attention(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Priced:
    keys = k.shape[-2]
    return _products(q.numel * keys + prod(q.shape[:-1]) * keys * v.shape[-1])


def _einsum(equation: Any, *operands: Any) -> Priced:
    if not isinstance(equation, str) or not all(isinstance(operand, TensorInfo) for operand in operands):
        raise AttributeError("einsum is not called with words and tensors")
    return printed_flops(equation, [operand.shape for operand in operands]), 0


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    longest = max(len(first), len(second))
    sizes = zip((1,) * (longest - len(first)) + first, (1,) * (longest - len(second)) + second, strict=True)
    return prod(one if other == 1 else other for one, other in sizes)


def _left_aligned(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    longest = max(len(first), len(second))
    sizes = zip(first + (1,) * (longest - len(first)), second + (1,) * (longest - len(second)), strict=True)
    return prod(max(one, other) for one, other in sizes)


def _elementwise(aligned: Callable[[tuple[int, ...], tuple[int, ...]], int]) -> dict[str, Rule]:
    """Additions and multiplications, by the way in which two shapes are laid over each other."""

    def elements(input: Any, other: Any) -> Priced:
        shapes = [value.shape for value in (input, other) if isinstance(value, TensorInfo)]
        return (aligned(*shapes) if len(shapes) == 2 else prod(shapes[0]) if shapes else 1), 0

    def mul(input: Any, other: Any, *, out: Any = None) -> Priced:
        return elements(input, other)

    def add(input: Any, other: Any, *, alpha: Any = 1, out: Any = None) -> Priced:
        return elements(input, other)

    return {"torch.mul": mul, "torch.Tensor.mul": mul, "torch.add": add, "torch.Tensor.add": add}


def _common() -> dict[str, Rule]:
    functional: dict[str, Rule] = {
        "linear": _linear,
        "relu": _relu,
        "prelu": _prelu,
        "elu": _elu,
        "leaky_relu": _leaky_relu,
        "relu6": _relu,
        "silu": _relu,
        "gelu": _gelu,
        "batch_norm": _batch_norm,
        "layer_norm": _layer_norm,
        "instance_norm": _instance_norm,
        "group_norm": _group_norm,
        "softmax": _softmax,
        "embedding": _embedding,
    }
    for dims in "123":
        functional[f"conv{dims}d"] = _conv
        for pool in ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool"):
            functional[f"{pool}{dims}d"] = _pool
    return {f"torch.nn.functional.{name}": rule for name, rule in functional.items()} | {
        "torch.matmul": _matmul,
        "torch.Tensor.matmul": _matmul,
        "torch.addmm": _addmm,
        "torch.Tensor.addmm": _tensor_addmm,
        "torch.baddbmm": _tensor_addmm,
        "torch.einsum": _einsum,
    }


def _named(rule: Rule, *names: str) -> dict[str, Rule]:
    return {f"torch.nn.functional.{name}": rule for name in names}


_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_INTERPOLATE = ("interpolate", "upsample")
_MORE_PRODUCTS: dict[str, Rule] = {
    **dict.fromkeys(("torch.mm", "torch.Tensor.mm", "torch.bmm", "torch.Tensor.bmm"), _matmul),
    "torch.Tensor.__matmul__": _matmul,
    "torch.nn.functional.scaled_dot_product_attention": _attention,
}

DEEPSPEED: Mapping[str, Rule] = MappingProxyType(
    _common()
    | _MORE_PRODUCTS
    | _named(_transposed, *_TRANSPOSED)
    | _named(_interpolate, *_INTERPOLATE)
    | _elementwise(_broadcast)
)
"""Where a function is looked up -> the rule of DeepSpeed's profiler from 0.19.7 on."""

DEEPSPEED_BEFORE: Mapping[str, Rule] = MappingProxyType(
    {**DEEPSPEED, **_named(_transposed_like_forward, *_TRANSPOSED), **_elementwise(_left_aligned)}
)
"""The same from 0.17.2 to 0.19.6."""

CALFLOPS: Mapping[str, Rule] = MappingProxyType(
    _common()
    | _named(_transposed_like_forward, *_TRANSPOSED)
    | _named(_interpolate_unscaled, *_INTERPOLATE)
    | _elementwise(_left_aligned)
)
"""The same for calflops, which does not replace torch.mm, torch.bmm, the operator @ and attention."""
