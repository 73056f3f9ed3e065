"""Activations: a table of those that work on each element alone, and the few that do not.

An activation is one ``activation`` per output element, a softmax one ``softmax``; neither has MACs,
and what a function costs inside (an exponential or a comparison) is the hardware's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import MappingProxyType
from typing import Any

from convstat.errors import LayerError
from convstat.formulas.cost import Cost, Shape
from convstat.formulas.reads import Reads, same
from convstat.layers.base import (
    REQUIRED,
    Argument,
    Count,
    Flag,
    Integer,
    Kind,
    Layer,
    Optional,
    Real,
    Word,
    axis,
    show_shape,
)
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor, elementwise


class _Activation(Layer):
    """A function of each element alone."""

    family = "activation"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return inputs[0]

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        return (same(len(output)),)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(0, {"activation": prod(output)})


class _Mapped(_Activation):
    """A function that is one kernel, which may write its result into its input."""

    op: str

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        if vars(self).get("inplace"):
            return kernels.inplace(f"{self.op}_", inputs[0])
        return kernels.elementwise(self.op, inputs[0])


def _noisy(self: Layer, kernels: Kernels, x: Tensor) -> Tensor:
    noise = kernels.elementwise("empty_like", x)
    op = "rrelu_with_noise"
    return kernels.inplace(f"{op}_", x) if vars(self)["inplace"] else _kept(kernels.elementwise(op, x), noise)


def _kept(result: Tensor, *others: Tensor) -> Tensor:
    """A result, and with it up to here what was needed for it."""
    return result


def _buffered(self: Layer, kernels: Kernels, x: Tensor) -> Tensor:
    shape, strides = elementwise([x])
    return kernels.results("log_sigmoid_forward", *(Tensor(shape, strides, x.dtype) for _ in range(2)))[0]


def _shrunk(self: Layer, kernels: Kernels, x: Tensor) -> Tensor:
    return kernels.elementwise("sub", x, kernels.elementwise("tanh", x))


def _divided(self: Layer, kernels: Kernels, x: Tensor) -> Tensor:
    return kernels.elementwise("div", x, kernels.elementwise("add", kernels.elementwise("abs", x)))


_RUNS: dict[str, Callable[[Layer, Kernels, Tensor], Tensor]] = {
    "RReLU": _noisy,
    "LogSigmoid": _buffered,
    "Tanhshrink": _shrunk,
    "Softsign": _divided,
}
"""The functions that are more than one kernel, or allocate more than one tensor."""

_OPS = {"ReLU6": "hardtanh", "LeakyReLU": "leaky_relu", "SELU": "elu"}
"""The kernels that are not called as the kind is in lower case."""


def _bounds(low: str, high: str, *, strict: bool) -> Callable[[Layer, tuple[Shape, ...]], None]:
    """Make the check that two arguments are in order."""

    def check(self: Layer, inputs: tuple[Shape, ...]) -> None:
        least, most = getattr(self, low), getattr(self, high)
        if least > most or (strict and least == most):
            sign = "<" if strict else "<="
            raise LayerError(f"{low} must be {sign} {high}: {low}={least}, {high}={most}", argument=high)

    return check


_CHECKS = {"RReLU": _bounds("lower", "upper", strict=False), "Hardtanh": _bounds("min_val", "max_val", strict=True)}


def _elementwise(name: str, formula: str, *aliases: str, **defaults: object) -> type[Layer]:
    """Make the layer kind of one row: a default that is a bool makes a flag, any other a number."""
    room: dict[str, Any] = {
        "__doc__": f"{formula}; one ``activation`` per element.",
        "__module__": __name__,
        "aliases": aliases,
    }
    for argument, default in defaults.items():
        if not isinstance(default, Argument):
            kind: Kind[Any] = Flag() if isinstance(default, bool) else Real()
            default = Argument(kind, default)
        room[argument] = default
    if name in _CHECKS:
        room["check"] = _CHECKS[name]
    if name in _RUNS:
        room["run"] = _RUNS[name]
    else:
        room["op"] = _OPS.get(name, name.lower())
    return type(name, (_Mapped,), room)


# Each row: torch's name, what it computes, the short names, torch's arguments in torch's order with torch's defaults.
ELEMENTWISE = (
    _elementwise("ReLU", "max(0, x)", "relu", inplace=False),
    _elementwise("ReLU6", "min(max(0, x), 6)", "relu6", inplace=False),
    _elementwise("LeakyReLU", "max(x, negative_slope * x)", "leaky_relu", negative_slope=0.01, inplace=False),
    _elementwise("RReLU", "Leaky ReLU whose slope is random in training", lower=1 / 8, upper=1 / 3, inplace=False),
    _elementwise("ELU", "x where positive, else alpha * (exp(x) - 1)", "elu", alpha=1.0, inplace=False),
    _elementwise("CELU", "x where positive, else alpha * (exp(x / alpha) - 1)", alpha=1.0, inplace=False),
    _elementwise("SELU", "ELU with fixed scales", "selu", inplace=False),
    _elementwise("GELU", "x * Phi(x)", "gelu", approximate=Argument(Word("none", "tanh"), "none")),
    _elementwise("SiLU", "x * sigmoid(x)", "silu", "swish", inplace=False),
    _elementwise("Mish", "x * tanh(softplus(x))", "mish", inplace=False),
    _elementwise("Sigmoid", "1 / (1 + exp(-x))", "sigmoid"),
    _elementwise("LogSigmoid", "log(sigmoid(x))"),
    _elementwise("Hardsigmoid", "relu6(x + 3) / 6", "hardsigmoid", inplace=False),
    _elementwise("Hardswish", "x * relu6(x + 3) / 6", "hardswish", inplace=False),
    _elementwise("Tanh", "tanh(x)", "tanh"),
    _elementwise("Tanhshrink", "x - tanh(x)"),
    _elementwise("Hardtanh", "min(max(min_val, x), max_val)", "hardtanh", min_val=-1.0, max_val=1.0, inplace=False),
    _elementwise("Hardshrink", "x where |x| > lambd, else 0", lambd=0.5),
    _elementwise("Softshrink", "x moved towards 0 by lambd", lambd=0.5),
    _elementwise("Softplus", "log(1 + exp(beta * x)) / beta", "softplus", beta=1.0, threshold=20.0),
    _elementwise("Softsign", "x / (1 + |x|)"),
    _elementwise("Threshold", "x where x > threshold, else value", threshold=REQUIRED, value=REQUIRED, inplace=False),
)


class PReLU(_Activation):
    """x where positive, else a learned slope * x; one ``activation`` per element."""

    aliases = ("prelu",)
    parameter_sizes = MappingProxyType({"weight": ("num_parameters",)})

    num_parameters = Argument(Count(), 1)
    init = Argument(Real(), 0.25)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        shape = inputs[0]
        channels = shape[1] if len(shape) > 1 else 1
        if self.num_parameters not in (1, channels):
            raise LayerError(
                f"num_parameters must be 1 or the number of channels:"
                f" num_parameters={self.num_parameters}, input {show_shape(shape)}",
                argument="num_parameters",
                help=f"num_parameters: {channels}",
            )

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        slope = self._parameter(kernels, "weight")
        if x.rank > 1:
            slope = kernels.reshape(slope, (1, self.num_parameters, *(1,) * (x.rank - 2)))
        return kernels.elementwise("_prelu_kernel", x, slope)


class GLU(_Activation):
    """Half of the input times the sigmoid of the other; one ``activation`` per output element."""

    aliases = ("glu",)

    dim = Argument(Integer(), -1)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        size = inputs[0][axis(self.dim, inputs[0])]
        if size % 2:
            raise LayerError(
                f"halving dimension must be even, but dimension {self.dim} of {show_shape(inputs[0])} is {size}",
                argument="dim",
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        sizes = list(inputs[0])
        sizes[axis(self.dim, inputs[0])] //= 2
        return tuple(sizes)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        # Both halves are views.
        half = Tensor(self.output_shape((x.shape,)), x.strides, x.dtype, x.memory)
        return kernels.elementwise("glu", half)


class _Softmax(_Activation):
    op = "_softmax"

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return kernels.new(self.op, inputs[0].shape, dtype=inputs[0].dtype)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        return Cost(0, {"softmax": prod(output)})


class _SoftmaxAlong(_Softmax):
    """A softmax along one dimension."""

    dim = Argument(Optional(Integer()), None)

    def check(self, inputs: tuple[Shape, ...]) -> None:
        if self.dim is not None:
            axis(self.dim, inputs[0])


class Softmax(_SoftmaxAlong):
    """Exponentials that sum to 1 along a dimension; one ``softmax`` per element."""

    aliases = ("softmax",)


class LogSoftmax(_SoftmaxAlong):
    """Logarithm of a softmax; one ``softmax`` per element."""

    aliases = ("log_softmax",)
    op = "_log_softmax"


class Softmin(_SoftmaxAlong):
    """Softmax of the negated input; one ``softmax`` per element."""

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        return super().run(kernels, kernels.elementwise("neg", inputs[0]))


class Softmax2d(_Softmax):
    """Softmax over the channels of (C, H, W); one ``softmax`` per element."""

    ranks = (4,)
