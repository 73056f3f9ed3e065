"""What thop adds for modules, one rule for each exact type.

A rule gives parts: ``(code, amount)``, which sum to what is added. The part without a code is what the layer
multiplies; what thop's formula makes more or less of that has the code of its mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.counters.layer_work import convolved, first_input, is_without_batch, steps_of, weight_shape
from convstat.counters.uthop.modules import (
    Part,
    Rule,
    cell_parts,
    integer,
    output_of,
    recurrent_cell_parts,
    recurrent_parts,
    softmax_steps,
)
from convstat.trace import ModuleCall, ModuleInfo, TensorInfo


def _nothing(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return []


def _leaky(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    # It costs nothing, but its input is looked at.
    first_input(call, info)
    return []


def _convolution(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return _convolved(call, info, convolved(output_of(call), info), [])


def _transposed(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    # It is priced as any other convolution: for each output element, the channels of a group and the taps.
    weight, own = weight_shape(info), convolved(first_input(call, info), info)
    each = output_of(call).numel * (weight[0] // integer(info, "groups")) * prod(weight[2:])
    return _convolved(call, info, own, [("transposed_output", each - own)])


def _convolved(call: ModuleCall, info: ModuleInfo, own: int, parts: list[Part]) -> list[Part]:
    source = first_input(call, info)
    if is_without_batch(source, info):
        # The second size is that of the channels only where there is a batch.
        channels = source.shape[1] // integer(info, "groups")
        priced = output_of(call).numel * channels * prod(weight_shape(info)[2:])
        parts = [*parts, ("unbatched", priced - own - sum(amount for _, amount in parts))]
    return [(None, own), *parts]


def _norm(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    affine = info.attributes.get("affine") or info.attributes.get("elementwise_affine")
    return [("norm_steps", first_input(call, info).numel * (4 if affine else 2))]


def _prelu(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [("activation", first_input(call, info).numel)]


def _softmax(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    source, axis = first_input(call, info), info.attributes.get("dim")
    if not isinstance(axis, int):
        raise PredictedFailure("TypeError: it takes the dimension of a softmax from the module, and there is none")
    length = source.shape[axis]
    return [("softmax_steps", softmax_steps(source.numel // length, length))]


def _average(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [("pool_steps", output_of(call).numel)]


def _adaptive(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    # Windows are taken to be the ratio of the sizes, in floating point, and the whole is cut.
    output, window = output_of(call), 1.0
    for size, places in zip(first_input(call, info).shape[2:], output.shape[2:], strict=False):
        window *= size / places
    return [("pool_steps", int((window + 1) * output.numel))]


_UPSAMPLE = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}


def _upsample(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    mode = info.attributes.get("mode")
    if not isinstance(mode, str) or mode not in _UPSAMPLE:
        return []
    first_input(call, info)
    return [("upsample_steps", _UPSAMPLE[mode] * output_of(call).numel)]


def _linear(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    return [(None, integer(info, "in_features") * output_of(call).numel)]


def _recurrent(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    given = call.args[0] if call.args else None
    steps, times = steps_of(given), _times(call, info)
    parts = recurrent_parts(info, steps)
    unprojected = _unprojected(info)
    if integer(info, "proj_size"):
        parts.append(("rnn_projection", steps * (unprojected - sum(amount for _, amount in recurrent_parts(info, 1)))))
    code = "packed_steps" if isinstance(given, tuple) else "unbatched"
    return [*parts, (code, (times - steps) * unprojected)]


def _unprojected(info: ModuleInfo) -> int:
    """What thop adds at each step, in all layers and both ways, as if the state were not projected."""
    hidden, bias = integer(info, "hidden_size"), bool(info.attributes.get("bias"))
    ways = 2 if info.attributes.get("bidirectional") else 1
    total = 0
    for layer in range(integer(info, "num_layers")):
        inputs = hidden * ways if layer else integer(info, "input_size")
        total += ways * sum(amount for _, amount in cell_parts(info.type.rpartition(".")[2], inputs, hidden, bias, 0))
    return total


def _times(call: ModuleCall, info: ModuleInfo) -> int:
    """The steps as thop has them: it takes the first two sizes for time and batch."""
    packed = call.args[0] if call.args else None
    if not isinstance(packed, tuple):
        source = first_input(call, info)
        return source.shape[0] * source.shape[1]
    # Of a packed sequence, the steps times the largest batch, which is that of the last hidden state.
    last = call.output[1] if isinstance(call.output, tuple) else None
    state = last[0] if isinstance(last, tuple) else last
    if not isinstance(state, TensorInfo) or not isinstance(packed[1], TensorInfo):
        raise PredictedFailure(f"AttributeError: {info.path or 'the model'} does not return its state")
    return packed[1].shape[0] * state.shape[-2]


def _recurrent_cell(call: ModuleCall, info: ModuleInfo) -> list[Part]:
    source = first_input(call, info)
    each = sum(amount for _, amount in recurrent_cell_parts(info, 1))
    steps = steps_of(source)
    return [*recurrent_cell_parts(info, steps), ("unbatched", (source.shape[0] - steps) * each)]


def _table() -> dict[str, Rule]:
    table: dict[str, Rule] = {
        "padding.ZeroPad2d": _nothing,
        "normalization.LayerNorm": _norm,
        "batchnorm.SyncBatchNorm": _norm,
        "activation.PReLU": _prelu,
        "activation.Softmax": _softmax,
        "activation.ReLU": _nothing,
        "activation.ReLU6": _nothing,
        "activation.LeakyReLU": _leaky,
        "linear.Linear": _linear,
        "dropout.Dropout": _nothing,
        "container.Sequential": _nothing,
        "pixelshuffle.PixelShuffle": _nothing,
    }
    for name in ("Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"):
        table[f"upsampling.{name}"] = _upsample
    for kind in ("RNN", "GRU", "LSTM"):
        table[f"rnn.{kind}"] = _recurrent
        table[f"rnn.{kind}Cell"] = _recurrent_cell
    for dims in "123":
        table[f"conv.Conv{dims}d"] = _convolution
        table[f"conv.ConvTranspose{dims}d"] = _transposed
        table[f"batchnorm.BatchNorm{dims}d"] = table[f"instancenorm.InstanceNorm{dims}d"] = _norm
        table[f"pooling.MaxPool{dims}d"] = table[f"pooling.AdaptiveMaxPool{dims}d"] = _nothing
        table[f"pooling.AvgPool{dims}d"] = _average
        table[f"pooling.AdaptiveAvgPool{dims}d"] = _adaptive
    return {f"torch.nn.modules.{name}": rule for name, rule in table.items()}


RULES: Mapping[str, Rule] = MappingProxyType(_table())
"""Full name of the exact class -> what a call adds."""
