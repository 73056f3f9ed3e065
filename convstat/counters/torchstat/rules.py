"""What torchstat makes of a call of a module, by the first class that it knows.

``FLOPS`` gives parts, as ``(code, amount)``, whose sum it calls Flops; the part without a code stands for the layer's
own multiply-accumulates. ``MADD`` gives the figure that it calls MAdd, which leaves the first size of the input out.
A rule raises where torchstat asserts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.counters.torchscan.macs import base_of
from convstat.counters.uthop.modules import Part, integer
from convstat.trace import ListInfo, ModuleInfo, TensorInfo, Value

Shape = tuple[int, ...]
FlopsRule = Callable[[ModuleInfo, Shape, Shape], list[Part]]
MaddRule = Callable[[ModuleInfo, Shape, Shape], int]


def figures(info: ModuleInfo, inputs: tuple[Value, ...], source: Shape, output: Shape) -> tuple[list[Part], int]:
    """The parts of its Flops, and its MAdd; ``inputs`` are the positional ones, as they came."""
    name = info.path or "the model"
    flops, madd = base_of(info, FLOPS), base_of(info, MADD)
    if madd == _BILINEAR:
        return [], _bilinear(info, inputs, output)
    if flops is None and madd is None:
        return [], 0
    if len(inputs) > 1:
        raise PredictedFailure(f"AttributeError: 'tuple' object has no attribute 'size' ({name} has several inputs)")
    parts = FLOPS[flops](info, source, output) if flops else []
    return parts, MADD[madd](info, source, output) if madd else 0


def _want(info: ModuleInfo, dims: int, *shapes: Shape) -> None:
    if any(len(shape) != dims for shape in shapes):
        raise PredictedFailure(f"AssertionError: {info.path or 'the model'} does not get or give {dims} dimensions")


def _kernel(info: ModuleInfo) -> int:
    size = info.attributes.get("kernel_size")
    sides = size.items if isinstance(size, ListInfo) else size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2:
        raise PredictedFailure(f"ValueError: the kernel size of {info.path or 'the model'} does not have two sides")
    return prod(side for side in sides if isinstance(side, int))


def _biased(info: ModuleInfo) -> bool:
    return info.parameter("bias") is not None or info.attributes.get("bias") is not None


def _convolution(info: ModuleInfo, source: Shape, output: Shape) -> list[Part]:
    _want(info, 4, source, output)
    places = source[0] * prod(output[2:])
    parts: list[Part] = [(None, _kernel(info) * source[1] * (output[1] // integer(info, "groups")) * places)]
    return [*parts, ("bias", output[1] * places)] if _biased(info) else parts


def _batch_norm(info: ModuleInfo, source: Shape, output: Shape) -> list[Part]:
    _want(info, 4, source, output)
    return [("norm", prod(source) * (2 if info.attributes.get("affine") else 1))]


def _activation(info: ModuleInfo, source: Shape, output: Shape) -> list[Part]:
    if not source:
        raise PredictedFailure(f"IndexError: the input of {info.path or 'the model'} has no dimensions")
    return [("activation", prod(source))]


def _pool(info: ModuleInfo, source: Shape, output: Shape) -> list[Part]:
    _want(info, 4, source, output)
    return [("pool", prod(source))]


def _upsample(info: ModuleInfo, source: Shape, output: Shape) -> list[Part]:
    # It takes the first sample for the output, and its channels for the batch.
    counted = source[0] * prod(output[2:])
    return [("upsample", prod(output)), ("upsample_one_channel", counted - prod(output))]


def _linear(info: ModuleInfo, source: Shape, output: Shape) -> list[Part]:
    _want(info, 2, source, output)
    return [(None, source[0] * source[1] * output[1])]


def _convolution_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    _want(info, 4, source, output)
    return _steps(info, source) * prod(output[2:]) * output[1]


def _transposed_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    _want(info, 4, source, output)
    return _steps(info, source) * prod(source[2:]) * output[1]


def _steps(info: ModuleInfo, source: Shape) -> int:
    """The multiplications and additions of an output element."""
    return 2 * _kernel(info) * (source[1] // integer(info, "groups")) - 1 + _biased(info)


def _batch_norm_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    return 4 * prod(source[1:])


def _max_pool_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    return (_kernel(info) - 1) * prod(output[1:])


def _average_pool_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    return _kernel(info) * prod(output[1:])


def _activation_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    return prod(source[1:])


def _softmax_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    if len(source) < 2:
        raise PredictedFailure(f"AssertionError: {info.path or 'the model'} is a softmax of one dimension")
    return 3 * prod(source[1:]) - 1


def _linear_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    return output[1] * (2 * source[1] - 1)


def _bilinear(info: ModuleInfo, inputs: tuple[Value, ...], output: Shape) -> int:
    first, second = inputs if len(inputs) == 2 else (None, None)
    if not isinstance(first, TensorInfo) or not isinstance(second, TensorInfo):
        raise PredictedFailure(f"IndexError: {info.path or 'the model'} is bilinear and has one input by position")
    _want(info, 2, first.shape, second.shape, output)
    products = first.shape[1] * second.shape[1] + second.shape[1]
    return output[1] * (2 * products - 1)


def _no_madd(info: ModuleInfo, source: Shape, output: Shape) -> int:
    return 0


_HOME = "torch.nn.modules."
_BILINEAR = f"{_HOME}linear.Bilinear"
_ACTIVATIONS = ("ReLU", "ReLU6", "PReLU", "ELU", "LeakyReLU")
_FLOPS: dict[str, FlopsRule] = {
    "conv.Conv2d": _convolution,
    "batchnorm.BatchNorm2d": _batch_norm,
    "pooling.AvgPool2d": _pool,
    "pooling.MaxPool2d": _pool,
    **{f"activation.{name}": _activation for name in _ACTIVATIONS},
    "upsampling.Upsample": _upsample,
    "linear.Linear": _linear,
}
_MADD: dict[str, MaddRule] = {
    "conv.Conv2d": _convolution_madd,
    "conv.ConvTranspose2d": _transposed_madd,
    "batchnorm.BatchNorm2d": _batch_norm_madd,
    "pooling.MaxPool2d": _max_pool_madd,
    "pooling.AvgPool2d": _average_pool_madd,
    "activation.ReLU": _activation_madd,
    "activation.ReLU6": _activation_madd,
    "activation.Softmax": _softmax_madd,
    "linear.Linear": _linear_madd,
    # Its rule takes two inputs, and is applied on its own.
    "linear.Bilinear": _no_madd,
}
FLOPS: Mapping[str, FlopsRule] = MappingProxyType({_HOME + name: rule for name, rule in _FLOPS.items()})
"""Full name of a class -> the parts of its Flops, of it or of a class made of it."""
MADD: Mapping[str, MaddRule] = MappingProxyType({_HOME + name: rule for name, rule in _MADD.items()})
"""Full name of a class -> its MAdd."""
