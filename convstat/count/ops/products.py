"""Kernels that multiply and accumulate: convolutions and matrix products, forward and backward.

Attention is in :mod:`convstat.count.ops.attention`, recurrent stacks in :mod:`convstat.count.ops.recurrent`,
quantized operators in :mod:`convstat.count.ops.quantized`.
"""

from __future__ import annotations

from math import prod

from convstat.count.ops.base import Rule, argument, output, shape, shape_of, sizes, table, tensors, wanted
from convstat.formulas.cost import Cost
from convstat.formulas.linear import linear_macs
from convstat.trace.calls import KernelCall, Shape, TensorInfo


def _product(left: Shape, right: Shape) -> int:
    """``(..., n, k) @ (..., k, m)``: n * m dot products of length k for each matrix of the batch."""
    return prod(left) * right[-1]


def biased(macs: int, bias: object, call: KernelCall) -> Cost:
    """A product, with one addition for each element of the output where there is a bias."""
    return Cost(macs, {"bias": output(call).numel} if isinstance(bias, TensorInfo) else {})


def mm(call: KernelCall) -> Cost:
    """``mm``, ``bmm``: (..., n, k) @ (..., k, m)."""
    return Cost(_product(shape_of(call, 0, "self"), shape_of(call, 1, "mat2")))


def pairwise_mm(call: KernelCall) -> Cost:
    """``_foreach_mm``: a list of matrices, each times one of another list."""
    pairs = zip(tensors(argument(call, 0, "self")), tensors(argument(call, 1, "mat2")), strict=True)
    return Cost(sum(_product(shape(left), shape(right)) for left, right in pairs))


def affine_grid(call: KernelCall) -> Cost:
    """``affine_grid_generator``: every place, with a one for the shift, times the matrix of its sample."""
    return Cost(output(call).numel * shape_of(call, 0, "theta")[-1])


def affine_grid_backward(call: KernelCall) -> Cost:
    """``cudnn_affine_grid_generator_backward``: each gradient meets the two coordinates of its place, and the one."""
    return Cost(prod(shape_of(call, 0, "grad")) * 3)


def conv_tbc(call: KernelCall) -> Cost:
    """``conv_tbc``: (time, batch, channels), with a weight of (taps, in, out); its bias is always there."""
    taps, inner, _ = shape_of(call, 1, "weight")
    return biased(output(call).numel * taps * inner, argument(call, 2, "bias"), call)


def mixed_linear(call: KernelCall) -> Cost:
    """``_mixed_dtypes_linear``: 8-bit weights, with a bias and an activation perhaps."""
    cost = biased(output(call).numel * shape_of(call, 0, "input")[-1], argument(call, -1, "bias"), call)
    active = argument(call, -1, "activation") not in (None, "none")
    return cost + Cost(0, {"activation": output(call).numel} if active else {})


def linear_backward(source: int, gradient: int, mask: int) -> Rule:
    """The rule of a linear layer's gradients; the numbers are where input, output's gradient and mask stand."""

    def rule(call: KernelCall) -> Cost:
        asked = wanted(call, mask) if mask >= 0 else (True, False, False)
        back = shape_of(call, gradient, "grad_output")
        inner = shape_of(call, source, "input")[-1]
        return Cost(sum(asked[:2]) * prod(back) * inner, {"bias": prod(back)} if asked[2] else {})

    return rule


def linear_backward_weights(call: KernelCall) -> Cost:
    """``mkldnn_linear_backward_weights``: the gradient of the weight, and of the bias where there is one."""
    back = prod(shape_of(call, 0, "grad_output"))
    has_bias = bool(argument(call, 3, "bias_defined"))
    return Cost(back * shape_of(call, 1, "input")[-1], {"bias": back} if has_bias else {})


def matmul_backward(call: KernelCall) -> Cost:
    """``matmul_backward``: each product of the forward pass comes back once for each gradient that is wanted."""
    return Cost(sum(wanted(call, 3, "mask")[:2]) * prod(shape_of(call, 0, "grad")) * shape_of(call, 1, "self")[-1])


def conv_add_relu(call: KernelCall) -> Cost:
    """``cudnn_convolution_add_relu``: a convolution, a sum and a ReLU in one kernel."""
    out = output(call)
    macs = conv_macs_of(shape(call.args[0]), shape_of(call, 1, "weight"), out.shape)
    return biased(macs, argument(call, 4, "bias"), call) + Cost(0, {"elementwise": out.numel, "activation": out.numel})


def slow_conv_backward(call: KernelCall) -> Cost:
    """``_slow_conv2d_backward``: a product of the same size for each gradient that is wanted."""
    gradient = shape_of(call, 0, "grad_output")
    asked = wanted(call, 6)
    macs = conv_macs_of(shape_of(call, 1, "self"), shape_of(call, 2, "weight"), gradient)
    return Cost(macs * sum(asked[:2]), {"bias": prod(gradient)} if asked[2] else {})


def scaled_mm(call: KernelCall) -> Cost:
    """``_scaled_mm``: a product of 8-bit floats, with a bias perhaps; the scales are part of the format."""
    macs = _product(shape_of(call, 0, "self"), shape_of(call, 1, "mat2"))
    return biased(macs, argument(call, 4 if call.op == "aten._scaled_mm" else 8, "bias"), call)


def addmm(call: KernelCall) -> Cost:
    """``addmm``: the bias is the first argument; ``beta=0`` leaves it out."""
    macs = _product(shape_of(call, 1, "mat1"), shape_of(call, 2, "mat2"))
    return biased(macs, argument(call, 0, "self") if argument(call, -1, "beta", 1) != 0 else None, call)


def addmm_activation(call: KernelCall) -> Cost:
    """``_addmm_activation``: the linear map and the activation after it, in one kernel."""
    return addmm(call) + Cost(0, {"activation": output(call).numel})


def baddbmm(call: KernelCall) -> Cost:
    """``baddbmm``, ``addbmm``: products of batches of matrices; ``addbmm`` also sums them up."""
    macs = _product(shape_of(call, 1, "batch1"), shape_of(call, 2, "batch2"))
    return biased(macs, argument(call, 0, "self") if argument(call, -1, "beta", 1) != 0 else None, call)


def dot(call: KernelCall) -> Cost:
    """``mv``, ``dot``: every element of the first operand is multiplied once."""
    return Cost(prod(shape_of(call, 0, "self")))


def addmv(call: KernelCall) -> Cost:
    """``addmv``: a matrix times a vector, and a vector added."""
    macs = prod(shape_of(call, 1, "mat"))
    return biased(macs, argument(call, 0, "self") if argument(call, -1, "beta", 1) != 0 else None, call)


def outer(call: KernelCall) -> Cost:
    """``addr``: an outer product added to a matrix, one multiply-accumulate for each element."""
    return Cost(prod(shape_of(call, 1, "vec1")) * prod(shape_of(call, 2, "vec2")))


def grouped_mm(call: KernelCall) -> Cost:
    """``_grouped_mm``: each row of the left goes to one of the experts; where the groups end is in a tensor.

    (rows, k) @ (groups, k, m): every row meets one matrix, whichever it is.
    (groups, n, k) @ (groups, k, m): a batch of products.
    (n, rows) @ (rows, m): the inner dimension is shared out among the groups, so each pair is multiplied once.
    (groups, n, k) @ (k, columns): every column meets one matrix.
    """
    left, right = shape_of(call, 0, "self"), shape_of(call, 1, "mat2")
    macs = prod(left[-2:]) * right[-1] if len(left) == 3 and len(right) == 2 else prod(left) * right[-1]
    place = {"aten._grouped_mm": 3, "aten._scaled_grouped_mm": 5, "aten._scaled_grouped_mm_v2": 9}[call.op]
    return biased(macs, argument(call, place, "bias"), call)


def linear(call: KernelCall) -> Cost:
    """``linear`` where it is a kernel of its own."""
    out_features, in_features = shape_of(call, 1, "weight")
    positions = prod(shape(call.args[0])[:-1])
    return biased(linear_macs(in_features, out_features, positions), argument(call, 2, "bias"), call)


def packed_columns(call: KernelCall) -> Cost:
    """Weights of 8 or 4 bits, packed in a layout of their own: the output tells how many there are."""
    return Cost(prod(shape_of(call, 0, "self")) * output(call).shape[-1])


def trilinear(call: KernelCall) -> Cost:
    """``_trilinear``, the kernel of ``nn.Bilinear`` and its gradients: two contractions, the first two operands first.

    Each operand lacks some of the dimensions of the whole (``expand``); those in ``sumdim`` are summed over,
    in the first contraction where the third operand lacks them, else in the second.
    So each contraction runs once over all dimensions that either of its operands has.
    """
    operands = [list(shape_of(call, place, f"i{place + 1}")) for place in range(3)]
    missing = [set(sizes(argument(call, place + 3, f"expand{place + 1}"))) for place in range(3)]
    summed = set(sizes(argument(call, 6, "sumdim")))
    rank = len(operands[0]) + len(missing[0])
    extent = [1] * rank
    for operand, absent in zip(operands, missing, strict=True):
        present = [dim for dim in range(rank) if dim not in absent]
        for dim, size in zip(present, operand, strict=True):
            extent[dim] = max(extent[dim], size)
    first = [dim for dim in range(rank) if dim not in missing[0] or dim not in missing[1]]
    left = [dim for dim in first if dim not in summed or dim not in missing[2]]
    second = [dim for dim in range(rank) if dim in left or dim not in missing[2]]
    return Cost(prod(extent[dim] for dim in first) + prod(extent[dim] for dim in second))


def conv_macs_of(source: Shape, weight: Shape, out: Shape, *, transposed: bool = False) -> int:
    """Every element of the weight is used once at each position, of the output or, transposed, of the input.

    The weight's shape has the groups in it already: (out, in / groups, ...), transposed (in, out / groups, ...).
    """
    dims = len(weight) - 2
    # A convolution without a batch reaches some kernels as it is.
    batch = source[0] if len(source) == dims + 2 else 1
    return batch * prod((source if transposed else out)[-dims:]) * prod(weight)


def convolution(call: KernelCall) -> Cost:
    """``convolution``: the flag says whether it is transposed."""
    source, weight = shape(call.args[0]), shape_of(call, 1, "weight")
    transposed = bool(argument(call, 6, "transposed", False))
    macs = conv_macs_of(source, weight, output(call).shape, transposed=transposed)
    return biased(macs, argument(call, 2, "bias"), call)


def vendor_convolution(bias: int | None, *, transposed: bool = False, activation: bool = False) -> Rule:
    """The rule of a library's own convolution; ``bias`` is where it stands in the arguments."""

    def rule(call: KernelCall) -> Cost:
        source, weight, out = shape(call.args[0]), shape_of(call, 1, "weight"), output(call)
        macs = conv_macs_of(source, weight, out.shape, transposed=transposed)
        cost = biased(macs, None if bias is None else argument(call, bias, "bias"), call)
        return cost + Cost(0, {"activation": out.numel}) if activation else cost

    return rule


def convolution_backward(call: KernelCall) -> Cost:
    """``convolution_backward``: as many MACs as forward for the input's gradient, and again for the weight's.

    Each product of the forward pass, ``out += x * w``, comes back as ``dx += dout * w`` and as ``dw += dout * x``.
    """
    gradient = shape_of(call, 0, "grad_output")
    source, weight = shape_of(call, 1, "input"), shape_of(call, 2, "weight")
    asked = wanted(call, 10)
    macs = conv_macs_of(source, weight, gradient, transposed=bool(argument(call, 7, "transposed", False)))
    return Cost(macs * sum(asked[:2]), {"bias": prod(gradient)} if asked[2] else {})


def deform_conv2d(call: KernelCall) -> Cost:
    """``torchvision::deform_conv2d``: a convolution over values sampled between four neighbours.

    The sampling of each tap is bilinear, and reads four elements: ``resize``;
    with a mask (DCNv2) each sampled value is also multiplied by a learned modulation: ``elementwise``.
    torchvision passes a bias of zeros where there is none.
    """
    source, weight = shape_of(call, 0, "input"), shape_of(call, 1, "weight")
    out = output(call).shape
    sampled = source[0] * source[1] * prod(weight[2:]) * prod(out[2:])
    other = {"resize": 4 * sampled, "bias": prod(out)}
    if bool(argument(call, 13, "use_mask", True)):
        other["elementwise"] = sampled
    return Cost(conv_macs_of(source, weight, out), other)


def deform_conv2d_backward(call: KernelCall) -> Cost:
    """``torchvision::_deform_conv2d_backward``: both gradients of the product, and the sampling of each tap again.

    The gradients of the columns go to the input, the offsets and the mask alike; they are one product.
    """
    gradient, source = shape_of(call, 0, "grad"), shape_of(call, 1, "input")
    weight = shape_of(call, 2, "weight")
    sampled = source[0] * source[1] * prod(weight[2:]) * prod(gradient[2:])
    return Cost(2 * conv_macs_of(source, weight, gradient), {"resize": 8 * sampled, "bias": prod(gradient)})


RULES: dict[str, Rule] = table(
    ("aten", "mm bmm _int_mm matmul", mm),
    ("aten", "_scaled_mm _scaled_mm_v2", scaled_mm),
    ("aten", "addmm", addmm),
    ("aten", "_addmm_activation", addmm_activation),
    ("aten", "baddbmm addbmm", baddbmm),
    ("aten", "mv dot vdot", dot),
    ("aten", "addmv", addmv),
    ("aten", "addr", outer),
    ("aten", "_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2", grouped_mm),
    ("aten", "linear mkldnn_linear", linear),
    ("aten", "_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu", packed_columns),
    ("aten", "_weight_int4pack_mm_with_scales_and_zeros _dyn_quant_matmul_4bit", packed_columns),
    ("aten", "_foreach_mm", pairwise_mm),
    ("aten", "_mixed_dtypes_linear", mixed_linear),
    ("aten", "linear_backward mkldnn_linear_backward", linear_backward(0, 1, 3)),
    ("aten", "mkldnn_linear_backward_input", linear_backward(2, 1, -1)),
    ("aten", "mkldnn_linear_backward_weights", linear_backward_weights),
    ("aten", "matmul_backward", matmul_backward),
    ("aten", "affine_grid_generator cudnn_affine_grid_generator", affine_grid),
    ("aten", "cudnn_affine_grid_generator_backward", affine_grid_backward),
    ("aten", "conv_tbc", conv_tbc),
    ("aten", "cudnn_convolution_add_relu miopen_convolution_add_relu", conv_add_relu),
    ("aten", "miopen_convolution_relu", vendor_convolution(2, activation=True)),
    ("aten", "_nnpack_spatial_convolution", vendor_convolution(2)),
    ("aten", "_slow_conv2d_backward", slow_conv_backward),
    ("aten", "_trilinear", trilinear),
    ("aten", "convolution _convolution convolution_overrideable", convolution),
    ("aten", "mkldnn_convolution miopen_convolution miopen_depthwise_convolution", vendor_convolution(2)),
    ("aten", "cudnn_convolution", vendor_convolution(None)),
    ("aten", "cudnn_convolution_relu", vendor_convolution(2, activation=True)),
    ("aten", "cudnn_convolution_transpose", vendor_convolution(None, transposed=True)),
    ("aten", "miopen_convolution_transpose", vendor_convolution(2, transposed=True)),
    ("aten", "slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d", vendor_convolution(3)),
    ("aten", "_slow_conv2d_forward _conv_depthwise2d conv_depthwise3d", vendor_convolution(3)),
    ("aten", "slow_conv_transpose2d slow_conv_transpose3d", vendor_convolution(3, transposed=True)),
    ("aten", "convolution_backward convolution_backward_overrideable", convolution_backward),
    ("torchvision", "deform_conv2d", deform_conv2d),
    ("torchvision", "_deform_conv2d_backward", deform_conv2d_backward),
)
