"""Recurrent stacks that run as one kernel, and the element-wise part of a cell that is fused.

Every matrix of a stack is used once for each step of each sample, whatever its gates, directions and projections:
so the MACs are the elements of the matrices times the positions.
"""

from __future__ import annotations

from math import prod

from convstat.count.ops.base import Rule, argument, output, shape_of, tensors, wanted
from convstat.formulas.cost import Cost
from convstat.formulas.recurrent import ACTIVATIONS, UPDATES
from convstat.trace.calls import KernelCall, Shape, TensorInfo, Value

_KINDS = {0: "RNN", 1: "RNN", 2: "LSTM", 3: "GRU"}
"""The kind of cell, by the number that libraries give to it."""


def _stack(kind: str, source: Shape, weights: list[Shape], units: int) -> Cost:
    """A stack; ``units`` are the hidden units of all layers and directions."""
    positions = prod(source[:-1])
    biases = sum(prod(weight) for weight in weights if len(weight) == 1)
    other = {"activation": ACTIVATIONS[kind] * positions * units, "elementwise": UPDATES[kind] * positions * units}
    if biases:
        other["bias"] = positions * biases
    return Cost(positions * sum(prod(weight) for weight in weights if len(weight) > 1), other)


def mkldnn_layer(call: KernelCall) -> Cost:
    """``mkldnn_rnn_layer``: one direction of one layer on CPU; the weights are W, U and the biases if there are any."""
    weights = [shape_of(call, place, f"weight{place - 1}") for place in range(1, 5)]
    hidden = int(argument(call, 10, "hidden_size"))
    # Where biases are off, tensors of zeros stand in their place.
    used = weights if argument(call, 12, "has_biases") else weights[:2]
    return _stack(_KINDS[argument(call, 9, "mode")], shape_of(call, 0, "input"), used, hidden)


def mkldnn_layer_backward(call: KernelCall) -> Cost:
    """``mkldnn_rnn_layer_backward``: each product of forward comes back as two."""
    weights = [shape_of(call, place, f"weight{place}") for place in range(1, 3)]
    macs = _stack(_KINDS[argument(call, 14, "mode")], shape_of(call, 0, "input"), weights, 0).macs
    return Cost(2 * macs, {"activation": output(call).numel})


def library_stack(mode: int, bidirectional: int) -> Rule:
    """The rule of a whole stack on a GPU; ``mode`` and ``bidirectional`` are where those arguments stand."""

    def rule(call: KernelCall) -> Cost:
        weights = [tensor.shape for tensor in tensors(argument(call, 1, "weight"))]
        after = mode + 2 if call.op == "aten._cudnn_rnn" else mode + 1
        hidden, layers = int(argument(call, mode + 1, "hidden_size")), int(argument(call, after + 1, "num_layers"))
        units = hidden * layers * (1 + bool(argument(call, bidirectional, "bidirectional")))
        return _stack(_KINDS[argument(call, mode, "mode")], shape_of(call, 0, "input"), weights, units)

    return rule


def cudnn_backward(call: KernelCall) -> Cost:
    """``_cudnn_rnn_backward``: as many MACs as forward for the states' gradients, and again for the weights'."""
    weights = [tensor.shape for tensor in tensors(argument(call, 1, "weight"))]
    macs = _stack(_KINDS[argument(call, 10, "mode")], shape_of(call, 0, "input"), weights, 0).macs
    asked = wanted(call, 21)
    return Cost(macs * (any(asked[:3]) + asked[3]))


def _present(*values: Value) -> int:
    return sum(value.numel for value in values if isinstance(value, TensorInfo))


def fused_cell(call: KernelCall) -> Cost:
    """``_thnn_fused_lstm_cell`` and its GRU twin: the element-wise part of a cell, after its matrix products."""
    kind = "LSTM" if "lstm" in call.op else "GRU"
    units = output(call).numel
    other = {"activation": ACTIVATIONS[kind] * units, "elementwise": UPDATES[kind] * units}
    if _present(argument(call, 3, "input_bias"), argument(call, 4, "hidden_bias")):
        other["bias"] = 2 * prod(shape_of(call, 0, "input_gates"))
    return Cost(0, other)


def fused_cell_backward(call: KernelCall) -> Cost:
    """The gradients of the gates of a fused cell, one for each activation."""
    return Cost(0, {"activation": output(call).numel})


RULES: dict[str, Rule] = {
    "aten.mkldnn_rnn_layer": mkldnn_layer,
    "aten.mkldnn_rnn_layer_backward": mkldnn_layer_backward,
    "aten._cudnn_rnn": library_stack(6, 13),
    "aten.miopen_rnn": library_stack(5, 11),
    "aten._cudnn_rnn_backward": cudnn_backward,
    "aten._thnn_fused_lstm_cell": fused_cell,
    "aten._thnn_fused_gru_cell": fused_cell,
    "aten._thnn_fused_lstm_cell_backward_impl": fused_cell_backward,
    "aten._thnn_fused_gru_cell_backward": fused_cell_backward,
}
