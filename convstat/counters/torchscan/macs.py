"""What torchscan makes of a call of a module: its multiply-accumulates, by the first base class that it knows.

A rule gives parts, as ``(code, amount)``, which sum to what it adds. The part without a code is what the layer
multiplies; what the formula makes more or less of that has the code of its mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.layer_work import convolved, is_without_batch
from convstat.counters.uthop.modules import Part, integer
from convstat.trace import ListInfo, ModuleInfo, TensorInfo

Rule = Callable[[ModuleInfo, TensorInfo, TensorInfo], list[Part]]


class NoFigure(Exception):  # noqa: N818 - it is no error: the tool leaves the layer out
    """torchscan's formula raises, and it goes on without a figure for this call."""


def base_of(info: ModuleInfo, known: Mapping[str, object]) -> str | None:
    """The first of a module's classes that is known."""
    return next((kind for kind in (info.type, *info.bases) if kind in known), None)


def second_size(source: TensorInfo) -> int:
    """What torchscan takes to be the channels."""
    if len(source.shape) < 2:
        raise NoFigure
    return source.shape[1]


def window(info: ModuleInfo) -> int:
    """The size of a pooling's window as torchscan has it: of an integer, that integer."""
    size = info.attributes.get("kernel_size")
    if isinstance(size, tuple):
        return prod(side for side in size if isinstance(side, int))
    if isinstance(size, ListInfo) or not isinstance(size, int):
        raise NoFigure
    return size


def adaptive_window(source: TensorInfo, output: TensorInfo) -> tuple[int, ...]:
    """The sides of the windows of an adaptive pooling as torchscan guesses them."""
    sides = list(zip(source.shape[2:], output.shape[2:], strict=False))
    if any(places == 0 for _, places in sides):
        raise NoFigure
    return tuple(size % places + 1 if size % places else size // places for size, places in sides)


def _nothing(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return []


def _linear(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return [(None, integer(info, "in_features") * output.numel)]


def _kernel(info: ModuleInfo) -> tuple[int, ...]:
    size = info.attributes.get("kernel_size")
    return tuple(side for side in size if isinstance(side, int)) if isinstance(size, tuple) else ()


def _convolution(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    channels = second_size(source) // integer(info, "groups")
    own, priced = convolved(output, info), output.numel * channels * prod(_kernel(info))
    parts: list[Part] = [(None, own)]
    return [*parts, ("unbatched", priced - own)] if is_without_batch(source, info) else parts


def _transposed(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    priced = output.numel * (second_size(source) // integer(info, "groups")) * prod(_kernel(info))
    own = convolved(source, info)
    # For each output element, the channels of a group and the taps; there are as many channels as the weight has.
    each = output.numel * (integer(info, "in_channels") // integer(info, "groups")) * prod(_kernel(info))
    parts = [(None, own), ("transposed_output", each - own)]
    if is_without_batch(source, info):
        parts.append(("unbatched", priced - each))
    return [*parts, ("padding_arithmetic", 4 * len(_kernel(info)))]


def _batch_norm(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return [("norm", source.numel * (2 if info.attributes.get("affine") else 1))]


def _dims(info: ModuleInfo) -> int:
    """How many dimensions a pooling has, by the class of torch's that it is or was made of."""
    return next(int(kind[-2]) for kind in (info.type, *info.bases) if kind[-2:] in ("1d", "2d", "3d"))


def _pool(info: ModuleInfo, output: TensorInfo, more: int) -> list[Part]:
    """A pooling: each element of a window but one, and ``more`` operations for each output element."""
    taken, size = window(info), info.attributes.get("kernel_size")
    right = size ** _dims(info) if isinstance(size, int) else taken
    return [
        ("pool_window", output.numel * (right - 1 + more)),
        ("pool_kernel_side", output.numel * (taken - right)),
    ]


def _max_pool(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return _pool(info, output, 0)


def _average_pool(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return _pool(info, output, len(source.shape) - 2)


def _adaptive(info: ModuleInfo, source: TensorInfo, output: TensorInfo, *, averages: bool) -> list[Part]:
    guessed = adaptive_window(source, output)
    more = len(guessed) if averages else 0
    amount = output.numel * (prod(guessed) - 1 + more)
    dims = _dims(info)
    rows = prod(output.shape[:-dims])
    added = 1
    for size, places in zip(source.shape[-dims:], output.shape[-dims:], strict=True):
        added *= sum(-(-(place + 1) * size // places) - place * size // places for place in range(places))
    exact = rows * added + output.numel * (more - 1)
    return [("pool_window", exact), ("adaptive_window", amount - exact)]


def _adaptive_max(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return _adaptive(info, source, output, averages=False)


def _adaptive_average(info: ModuleInfo, source: TensorInfo, output: TensorInfo) -> list[Part]:
    return _adaptive(info, source, output, averages=True)


_NAMES: dict[str, Rule] = {
    "linear.Linear": _linear,
    "linear.Identity": _nothing,
    "flatten.Flatten": _nothing,
    **{f"activation.{name}": _nothing for name in ("ReLU", "ELU", "LeakyReLU", "ReLU6", "Tanh", "Sigmoid")},
    "conv._ConvTransposeNd": _transposed,
    "conv._ConvNd": _convolution,
    "batchnorm._BatchNorm": _batch_norm,
    "pooling._MaxPoolNd": _max_pool,
    "pooling._AvgPoolNd": _average_pool,
    "pooling._AdaptiveMaxPoolNd": _adaptive_max,
    "pooling._AdaptiveAvgPoolNd": _adaptive_average,
    "dropout.Dropout": _nothing,
}
RULES: Mapping[str, Rule] = MappingProxyType({f"torch.nn.modules.{name}": rule for name, rule in _NAMES.items()})
"""Full name of a class -> what a call of it, or of a class made of it, adds."""
