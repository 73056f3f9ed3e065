"""What ultralytics-thop adds for modules, one rule for each kind; a subclass is counted as its nearest ancestor.

A rule gives parts: ``(code, amount)``, which sum to what is added; the part without a code is what the layer
multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.counters.layer_work import convolved, steps_of
from convstat.trace import ModuleCall, ModuleInfo, TensorInfo, Value

Part = tuple[str | None, int]
Rule = Callable[[ModuleCall, ModuleInfo], list[Part]]


def _inputs(call: ModuleCall) -> tuple[Value, ...]:
    return (*call.args, *call.kwargs.values())


def _first(call: ModuleCall) -> TensorInfo:
    value = next(iter(_inputs(call)), None)
    if isinstance(value, tuple) and value and isinstance(value[0], TensorInfo):
        return value[0]
    if not isinstance(value, TensorInfo):
        raise PredictedFailure("AttributeError: a layer does not get a tensor first")
    return value


def output_of(call: ModuleCall) -> TensorInfo:
    """The tensor that a layer returns."""
    if not isinstance(call.output, TensorInfo):
        raise PredictedFailure("AttributeError: a layer does not return a tensor")
    return call.output


def integer(info: ModuleInfo, name: str) -> int:
    """A number among a module's attributes, 0 where there is none."""
    value = info.attributes.get(name, 0)
    return value if isinstance(value, int) else 0


def _nothing(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return []


def _convolution(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    # The channels are counted from the right, where they are with and without a batch.
    return [(None, convolved(output_of(call), info))]


def _transposed(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    output_of(call)
    return [(None, convolved(_first(call), info))]


def _norm(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    affine = info.attributes.get("affine") or info.attributes.get("elementwise_affine")
    return [("norm_steps", _first(call).numel * (4 if affine else 2))]


def _prelu(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [("activation", _first(call).numel)]


def _softmax(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    source, kind = _first(call), [name.rpartition(".")[2] for name in (info.type, *info.bases)]
    axis = info.attributes.get("dim")
    if "Softmax2d" in kind:
        axis = -3
    elif not isinstance(axis, int):
        axis = 0 if len(source.shape) in (0, 1, 3) else 1
    length = source.shape[axis] if source.shape else 1
    rows = source.numel // length if length else 0
    steps = softmax_steps(rows, length)
    steps += source.numel if "Softmin" in kind else rows if "LogSoftmax" in kind else 0
    return [("softmax_steps", steps)]


def softmax_steps(rows: int, length: int) -> int:
    """An exponential and a division for each element, and an addition for each but one of a row."""
    return rows * (2 * length + max(length - 1, 0))


def _each(value: Value, dims: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * dims
    return tuple(item for item in value if isinstance(item, int)) if isinstance(value, tuple) else ()


def _average(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    source, output, attributes = _first(call).shape, output_of(call), info.attributes
    dims = next(int(kind[-2]) for kind in (info.type, *info.bases) if kind.rpartition(".")[2].startswith("AvgPool"))
    kernel, stride, padding = (_each(attributes.get(name), dims) for name in ("kernel_size", "stride", "padding"))
    windows = 1
    for axis in range(dims):
        size, k, s, p = source[axis - dims], kernel[axis], stride[axis], padding[axis]
        low, high = (-p, size + p) if attributes.get("count_include_pad") else (0, size)
        starts = (place * s - p for place in range(output.shape[axis - dims]))
        windows *= sum(max(min(start + k, high) - max(start, low), 0) for start in starts)
    return [("pool_steps", prod(source[:-dims]) * windows + output.numel)]


def _adaptive(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    output = output_of(call)
    added = 1
    for size, places in zip(_first(call).shape, output.shape, strict=False):
        added *= sum(-(-(j + 1) * size // places) - j * size // places for j in range(places))
    return [("pool_steps", added + output.numel)]


_UPSAMPLE = {"linear": 5, "bilinear": 11, "bicubic": 259, "trilinear": 31}


def _upsample(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    mode = info.attributes.get("mode")
    return [("upsample_steps", _UPSAMPLE.get(mode, 0) * output_of(call).numel if isinstance(mode, str) else 0)]


def _linear(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [(None, integer(info, "in_features") * output_of(call).numel)]


def _bilinear(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    first, second, places = integer(info, "in1_features"), integer(info, "in2_features"), output_of(call).numel
    # Two sums: over the first input, and of that over the second.
    return [(None, (first + 1) * second * places)]


_STEPS = {"RNN": (1, 1, 0), "GRU": (3, 3, 4), "LSTM": (4, 4, 4)}
"""Kind -> its gates; additions a unit, over all gates; other element-wise work a unit."""


def cell_parts(kind: str, inputs: int, hidden: int, bias: bool, projected: int) -> list[Part]:
    """What one step of one layer of a recurrent kind costs."""
    gates, additions, others = _STEPS[kind]
    products = gates * hidden * (inputs + (projected or hidden)) + hidden * projected
    return [
        (None, products),
        ("bias", gates * hidden * 2 if bias else 0),
        ("rnn_elementwise", (additions + others) * hidden),
    ]


def _recurrent(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    _first(call)
    return recurrent_parts(info, steps_of(next(iter(_inputs(call)), None)))


def recurrent_parts(info: ModuleInfo, steps: int) -> list[Part]:
    """What a recurrent layer costs, projections included, at so many steps of all samples together."""
    kind = next(k for name in (info.type, *info.bases) if (k := name.rpartition(".")[2]) in _STEPS)
    hidden, projected, bias = integer(info, "hidden_size"), integer(info, "proj_size"), info.attributes.get("bias")
    ways = 2 if info.attributes.get("bidirectional") else 1
    parts: list[Part] = []
    for layer in range(integer(info, "num_layers")):
        inputs = integer(info, "input_size") if layer == 0 else (projected or hidden) * ways
        parts += cell_parts(kind, inputs, hidden, bool(bias), projected)
    return [(code, amount * ways * steps) for code, amount in parts]


def _recurrent_cell(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return recurrent_cell_parts(info, steps_of(_first(call)))


def recurrent_cell_parts(info: ModuleInfo, steps: int) -> list[Part]:
    """What a recurrent cell costs for so many samples."""
    kind = next(k for name in (info.type, *info.bases) if (k := name.rpartition(".")[2].removesuffix("Cell")) in _STEPS)
    bias = bool(info.attributes.get("bias"))
    parts = cell_parts(kind, integer(info, "input_size"), integer(info, "hidden_size"), bias, 0)
    return [(code, amount * steps) for code, amount in parts]


def attended(
    given: Value, key: TensorInfo, width: int, heads: int, key_and_value: int, added: int, *, batch_first: bool
) -> list[Part]:
    """What attention adds: four projections, two products and the softmax between them."""
    output, weights = (given[0], given[1]) if isinstance(given, tuple) else (given, None)
    if not isinstance(output, TensorInfo):
        raise PredictedFailure("AttributeError: attention does not return a tensor first")
    flat = len(output.shape) == 2
    queries = output.shape[-2] if batch_first or flat else output.shape[0]
    batch = 1 if flat else output.shape[0 if batch_first else 1]
    if isinstance(weights, TensorInfo):
        keys = weights.shape[-1]
    else:
        keys = (key.shape[-2] if batch_first or len(key.shape) == 2 else key.shape[0]) + added
    projected = width * (2 * queries * width + (keys - added) * key_and_value)
    return [
        (None, batch * (projected + 2 * queries * keys * width)),
        ("softmax_steps", softmax_steps(batch * heads * queries, keys)),
    ]


def _attention(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    if not isinstance(key, TensorInfo):
        raise PredictedFailure("AttributeError: attention does not get a tensor for its keys")
    added = (info.parameter("bias_k") is not None) + bool(info.attributes.get("add_zero_attn"))
    return attended(
        call.output,
        key,
        integer(info, "embed_dim"),
        integer(info, "num_heads"),
        integer(info, "kdim") + integer(info, "vdim"),
        added,
        batch_first=bool(info.attributes.get("batch_first")),
    )


_FREE = """
padding._ConstantPadNd padding._ReflectionPadNd padding._ReplicationPadNd padding._CircularPadNd dropout._DropoutNd
activation.ReLU activation.ReLU6 activation.LeakyReLU pooling._MaxUnpoolNd pooling.FractionalMaxPool2d
pooling.FractionalMaxPool3d container.Sequential container.ModuleList container.ModuleDict container.ParameterList
container.ParameterDict linear.Identity flatten.Flatten flatten.Unflatten fold.Unfold pixelshuffle.PixelShuffle
pixelshuffle.PixelUnshuffle channelshuffle.ChannelShuffle pooling.MaxPool1d pooling.MaxPool2d pooling.MaxPool3d
pooling.AdaptiveMaxPool1d pooling.AdaptiveMaxPool2d pooling.AdaptiveMaxPool3d
"""


def _table() -> dict[str, Rule]:
    table: dict[str, Rule] = {
        "batchnorm._NormBase": _norm,
        "normalization.LayerNorm": _norm,
        "normalization.GroupNorm": _norm,
        "normalization.RMSNorm": _norm,
        "activation.PReLU": _prelu,
        "activation.MultiheadAttention": _attention,
        "linear.Linear": _linear,
        "linear.Bilinear": _bilinear,
        "upsampling.Upsample": _upsample,
        "sparse.Embedding": lambda call, info: [],
    }
    for name in ("Softmax", "LogSoftmax", "Softmin", "Softmax2d"):
        table[f"activation.{name}"] = _softmax
    for kind in _STEPS:
        table[f"rnn.{kind}"] = _recurrent
        table[f"rnn.{kind}Cell"] = _recurrent_cell
    for dims in "123":
        table[f"conv.Conv{dims}d"] = _convolution
        table[f"conv.ConvTranspose{dims}d"] = _transposed
        table[f"pooling.AvgPool{dims}d"] = _average
        table[f"pooling.AdaptiveAvgPool{dims}d"] = _adaptive
    table |= dict.fromkeys(_FREE.split(), _nothing)
    return {f"torch.nn.modules.{name}": rule for name, rule in table.items()}


RULES: Mapping[str, Rule] = MappingProxyType(_table())
"""Full name of the class -> what a call of it or of a subclass adds."""

FREE = _nothing
"""The rule of kinds that cost nothing: alone of all, it does not keep functions inside from being counted."""
