"""Kernels that multiply and accumulate: convolutions, matrix products, attention, recurrent stacks.

MACs come from :mod:`convstat.formulas` wherever a layer has the same work, so the two ways in cannot drift apart.
"""

from __future__ import annotations

from math import prod

from convstat.formulas.conv import conv_macs, conv_transpose_macs
from convstat.formulas.linear import bilinear_macs, linear_macs
from convstat.formulas.recurrent import ACTIVATIONS, GATES, UPDATES, recurrent_macs
from convstat.kernels.base import Rule, argument, output, shape, tensors
from convstat.layers.base import Cost
from convstat.trace.calls import KernelCall, ListInfo, Shape, TensorInfo


def _product(left: Shape, right: Shape) -> int:
    """``(..., n, k) @ (..., k, m)``: n * m dot products of length k for each matrix of the batch."""
    return prod(left) * right[-1]


def _biased(macs: int, bias: object, call: KernelCall) -> Cost:
    return Cost(macs, {"bias": output(call).numel} if isinstance(bias, TensorInfo) else {})


def mm(call: KernelCall) -> Cost:
    """``mm``, ``bmm``, ``matmul``: (…, n, k) @ (…, k, m)."""
    return Cost(_product(shape(call.args[0]), shape(call.args[1])))


def addmm(call: KernelCall) -> Cost:
    """``addmm``, ``baddbmm``: the bias is the first argument; ``beta=0`` leaves it out."""
    macs = _product(shape(call.args[1]), shape(call.args[2]))
    return _biased(macs, call.args[0] if call.kwargs.get("beta", 1) != 0 else None, call)


def dot(call: KernelCall) -> Cost:
    """``mv``, ``dot``: every element of the first operand is multiplied once."""
    return Cost(prod(shape(call.args[0])))


def addmv(call: KernelCall) -> Cost:
    """``addmv``: a matrix times a vector, and a vector added."""
    return _biased(prod(shape(call.args[1])), call.args[0], call)


def outer(call: KernelCall) -> Cost:
    """``addr``: an outer product added to a matrix, one multiply-accumulate for each element."""
    return Cost(output(call).numel)


def linear(call: KernelCall) -> Cost:
    """``linear`` where it is a kernel of its own."""
    out_features, in_features = shape(call.args[1])
    positions = prod(shape(call.args[0])[:-1])
    return _biased(linear_macs(in_features, out_features, positions), argument(call, 2, "bias"), call)


def trilinear(call: KernelCall) -> Cost:
    """``_trilinear``, the kernel of ``nn.Bilinear``: x1, W, x2 with summed dimensions."""
    _, first, second = (shape(value) for value in call.args[:3])
    out_features, in1, in2 = first[-3:]
    return Cost(bilinear_macs(in1, in2, out_features, prod(second[:-2])))


def convolution(call: KernelCall) -> Cost:
    """``convolution``: the weight's shape tells the channels, the flag whether it is transposed."""
    source, weight = shape(call.args[0]), shape(call.args[1])
    transposed, groups = bool(argument(call, 6, "transposed", False)), argument(call, 8, "groups", 1)
    return _biased(_conv(source, weight, output(call).shape, groups, transposed), argument(call, 2, "bias"), call)


def _conv(source: Shape, weight: Shape, out: Shape, groups: int, transposed: bool) -> int:
    dims = len(weight) - 2
    # A convolution without a batch reaches some kernels as it is.
    batch = source[0] if len(source) == dims + 2 else 1
    kernel = weight[2:]
    if transposed:
        return batch * conv_transpose_macs(weight[0], weight[1] * groups, source[-dims:], kernel, groups)
    return batch * conv_macs(weight[1] * groups, weight[0], out[-dims:], kernel, groups)


def convolution_backward(call: KernelCall) -> Cost:
    """``convolution_backward``: as many MACs as forward for the input's gradient, and again for the weight's.

    Each product of the forward pass, ``out += x * w``, comes back as ``dx += dout * w`` and as ``dw += dout * x``.
    """
    gradient, source, weight = (shape(value) for value in call.args[:3])
    transposed, groups = bool(argument(call, 7, "transposed", False)), argument(call, 9, "groups", 1)
    mask = argument(call, 10, "output_mask", (True, True, True))
    wanted = mask.items if isinstance(mask, ListInfo) else mask
    macs = _conv(source, weight, gradient, groups, transposed)
    return Cost(macs * sum(map(bool, wanted[:2])), {"bias": prod(gradient)} if wanted[2] else {})


def attention(call: KernelCall) -> Cost:
    """Fused scaled dot-product attention: scores and weighted sum of every head; the mask does not halve them.

    With fewer heads for keys and values than for queries, each is used by several query heads.
    """
    query, key, value = (shape(item) for item in call.args[:3])
    rows = prod(query[:-1])
    return Cost(rows * key[-2] * (query[-1] + value[-1]), {"elementwise": prod(query), "softmax": rows * key[-2]})


def attention_backward(call: KernelCall) -> Cost:
    """The backward pass of fused attention: the scores again, and two products for each of the two of forward."""
    _, query, key, value = (shape(item) for item in call.args[:4])
    rows = prod(query[:-1]) * key[-2]
    return Cost(rows * (3 * query[-1] + 2 * value[-1]), {"softmax": 2 * rows})


def multi_head_attention(call: KernelCall) -> Cost:
    """``_native_multi_head_attention``: the fast path of ``nn.MultiheadAttention`` in eval mode without grad."""
    query, key, value = (shape(item) for item in call.args[:3])
    embed_dim, heads = argument(call, 3, "embed_dim"), argument(call, 4, "num_head")
    batch, queries, keys = query[0], query[1], key[1]
    projections = (2 * queries * embed_dim + keys * (key[-1] + value[-1])) * embed_dim
    products = 2 * queries * keys * embed_dim
    return Cost(
        batch * (projections + products),
        {
            "bias": batch * (2 * queries + 2 * keys) * embed_dim,
            "elementwise": batch * queries * embed_dim,
            "softmax": batch * heads * queries * keys,
        },
    )


def encoder_layer(call: KernelCall) -> Cost:
    """``_transformer_encoder_layer_fwd``: the fast path of ``nn.TransformerEncoderLayer``."""
    source = shape(call.args[0])
    embed_dim, heads = argument(call, 1, "embed_dim"), argument(call, 2, "num_heads")
    hidden = next(t.shape[0] for t in tensors(tuple(call.args[3:])) if len(t.shape) == 2 and t.shape[0] % embed_dim)
    return _encoder(source, embed_dim, heads, hidden)


def _encoder(source: Shape, embed_dim: int, heads: int, hidden: int) -> Cost:
    batch, length = source[0], source[1]
    positions = batch * length
    macs = positions * (4 * embed_dim * embed_dim + 2 * embed_dim * hidden) + 2 * batch * length * length * embed_dim
    return Cost(
        macs,
        {
            "bias": positions * (5 * embed_dim + hidden),
            "norm": 2 * positions * embed_dim,
            "activation": positions * hidden,
            "softmax": batch * heads * length * length,
            "elementwise": 3 * positions * embed_dim,
        },
    )


def _recurrent(kind: str, source: Shape, weights: list[Shape], hidden: int, proj: int, layers: int, both: bool) -> Cost:
    """A whole stack in one kernel; the source is (steps, batch, features) or the like, only its product matters."""
    gates, directions = GATES[kind], 1 + both
    positions = prod(source[:-1])
    macs = recurrent_macs(
        gates, source[-1], hidden, steps=positions, num_layers=layers, directions=directions, proj_size=proj
    )
    cells = positions * layers * directions * hidden
    biases = sum(1 for weight in weights if len(weight) == 1) // (layers * directions)
    return Cost(
        macs,
        {
            "activation": ACTIVATIONS[kind] * cells,
            "elementwise": UPDATES[kind] * cells,
            **({"bias": biases * gates * cells} if biases else {}),
        },
    )


def mkldnn_rnn(call: KernelCall) -> Cost:
    """``mkldnn_rnn_layer``: one direction of one LSTM layer on CPU; weights are W, U, b, b."""
    source, *weights = (shape(value) for value in call.args[:5])
    hidden = int(argument(call, 9, "hidden_size"))
    return _recurrent("LSTM", source, list(weights), hidden, 0, 1, False)


_CUDNN_MODES = {0: "RNN", 1: "RNN", 2: "LSTM", 3: "GRU"}


def cudnn_rnn(call: KernelCall) -> Cost:
    """``_cudnn_rnn``: a whole stack on CUDA."""
    weights = [t.shape for t in tensors(call.args[1])]
    mode, hidden, proj, layers = (int(argument(call, i, "")) for i in (6, 7, 8, 9))
    both = bool(argument(call, 13, "bidirectional", False))
    return _recurrent(_CUDNN_MODES[mode], shape(call.args[0]), weights, hidden, proj, layers, both)


def lstm_cell(call: KernelCall) -> Cost:
    """``_thnn_fused_lstm_cell`` and its GRU twin: the element-wise part of a cell, after its matrix products."""
    hidden = output(call).numel
    kind = "LSTM" if "lstm" in call.op else "GRU"
    return Cost(0, {"activation": ACTIVATIONS[kind] * hidden, "elementwise": UPDATES[kind] * hidden})


def deform_conv2d(call: KernelCall) -> Cost:
    """``torchvision::deform_conv2d``: a convolution over values sampled between four neighbours.

    The sampling of each tap is bilinear, and reads four elements: ``resize``;
    with a mask (DCNv2) each sampled value is also multiplied by a learned modulation: ``elementwise``.
    """
    source, weight = shape(call.args[0]), shape(call.args[1])
    out = output(call).shape
    groups, masked = int(argument(call, 11, "groups", 1)), bool(argument(call, 13, "use_mask", True))
    sampled = source[0] * source[1] * prod(weight[2:]) * prod(out[2:])
    other = {"resize": 4 * sampled, "bias": prod(out)}
    if masked:
        other["elementwise"] = sampled
    return Cost(_conv(source, weight, out, groups, False), other)


def cdist(call: KernelCall) -> Cost:
    """``cdist``: one multiply-accumulate, or its like, for each coordinate of each pair of points."""
    first, second = shape(call.args[0]), shape(call.args[1])
    return Cost(0, {"elementwise": 2 * prod(first) * second[-2]})


def embedding_bag(call: KernelCall) -> Cost:
    """``_embedding_bag``: rows are looked up and summed."""
    table, indices = shape(call.args[0]), shape(call.args[1])
    return Cost(0, {"reduction": prod(indices) * table[-1]})


def quantized_conv(call: KernelCall) -> Cost:
    """``quantized::conv2d`` and its fused forms; the packed weight is described by its own shape."""
    source, weight = shape(call.args[0]), shape(call.args[1])
    out = output(call).shape
    return Cost(_conv(source, weight, out, source[1] // weight[1], False), {"bias": prod(out)})


def quantized_linear(call: KernelCall) -> Cost:
    """``quantized::linear`` and its fused forms."""
    source, weight = shape(call.args[0]), shape(call.args[1])
    return Cost(prod(source[:-1]) * prod(weight), {"bias": output(call).numel})




RULES: dict[str, Rule] = {
    **dict.fromkeys(("aten.mm", "aten.bmm", "aten.matmul", "aten._scaled_mm", "aten._int_mm"), mm),
    **dict.fromkeys(("aten.addmm", "aten.baddbmm", "aten._addmm_activation"), addmm),
    **dict.fromkeys(("aten.mv", "aten.dot", "aten.vdot"), dot),
    "aten.addmv": addmv,
    "aten.addr": outer,
    "aten.linear": linear,
    "aten.mkldnn_linear": linear,
    "aten._trilinear": trilinear,
    **dict.fromkeys(
        (
            "aten.convolution",
            "aten._convolution",
            "aten.convolution_overrideable",
            "aten.cudnn_convolution",
            "aten.mkldnn_convolution",
            "aten.miopen_convolution",
        ),
        convolution,
    ),
    "aten.convolution_backward": convolution_backward,
    **dict.fromkeys(
        (
            "aten._scaled_dot_product_flash_attention",
            "aten._scaled_dot_product_flash_attention_for_cpu",
            "aten._scaled_dot_product_efficient_attention",
            "aten._scaled_dot_product_cudnn_attention",
            "aten._scaled_dot_product_fused_attention_overrideable",
            "aten._scaled_dot_product_attention_math",
        ),
        attention,
    ),
    **dict.fromkeys(
        (
            "aten._scaled_dot_product_flash_attention_backward",
            "aten._scaled_dot_product_flash_attention_for_cpu_backward",
            "aten._scaled_dot_product_efficient_attention_backward",
            "aten._scaled_dot_product_cudnn_attention_backward",
        ),
        attention_backward,
    ),
    "aten._native_multi_head_attention": multi_head_attention,
    "aten._transformer_encoder_layer_fwd": encoder_layer,
    "aten.mkldnn_rnn_layer": mkldnn_rnn,
    "aten._cudnn_rnn": cudnn_rnn,
    "aten._thnn_fused_lstm_cell": lstm_cell,
    "aten._thnn_fused_gru_cell": lstm_cell,
    "torchvision.deform_conv2d": deform_conv2d,
    "aten._cdist_forward": cdist,
    "aten._euclidean_dist": cdist,
    "aten._embedding_bag": embedding_bag,
    "aten._embedding_bag_forward_only": embedding_bag,
    **dict.fromkeys(("quantized.conv1d", "quantized.conv2d", "quantized.conv2d_relu", "quantized.conv3d"), quantized_conv),
    **dict.fromkeys(("quantized.linear", "quantized.linear_relu", "quantized.linear_dynamic"), quantized_linear),
}
