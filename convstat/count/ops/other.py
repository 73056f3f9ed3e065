"""Kernels whose work is no multiply-accumulate: each is counted under its own entry of ``other``."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_float
from math import ceil, prod

from convstat.count.ops.base import (
    Rule,
    argument,
    first_input,
    output,
    per_input,
    per_output,
    shape,
    shape_of,
    sizes,
    table,
    tensors,
)
from convstat.formulas.cost import Cost
from convstat.formulas.pool import adaptive_reads
from convstat.formulas.resize import TAPS
from convstat.trace.calls import KernelCall, TensorInfo


def pool(call: KernelCall) -> Cost:
    """A sliding window: every tap of every window is read."""
    kernel = sizes(argument(call, 1, "kernel_size"))
    dims = int(next(letter for letter in call.op if letter in "123"))
    taps = kernel[0] ** dims if len(kernel) == 1 else prod(kernel)
    return Cost(0, {"pool": output(call).numel * taps})


def adaptive_pool(call: KernelCall) -> Cost:
    """Windows that adapt to the output size."""
    source, out = shape(call.args[0]), output(call).shape
    dims = len(sizes(argument(call, 1, "output_size")))
    return Cost(0, {"pool": adaptive_reads(prod(source[:-dims]), source[-dims:], out[-dims:])})


def resize(mode: str) -> Rule:
    """An interpolation: every output element reads so many taps."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {"resize": output(call).numel * TAPS[mode]})

    return rule


def antialiased(reach: int) -> Rule:
    """An interpolation that filters what it shrinks; one dimension after the other, the last first.

    ``reach`` is how far the filter spans without shrinking: 2 elements for bilinear, 4 for bicubic, 6 for Lanczos.
    Where it shrinks, the filter grows with the scale; windows are cut at the borders.
    A dimension that keeps its size is left alone; where both do, the result is a copy.
    """

    def rule(call: KernelCall) -> Cost:
        source = first_input(call)
        *planes, height, width = shape(source)
        out_height, out_width = output(call).shape[-2:]
        aligned = bool(argument(call, 2, "align_corners"))
        down, across = argument(call, 3, "scales_h"), argument(call, 4, "scales_w")
        # The weights of 8-bit images are made in double precision, those of others in their own.
        rounded = single if source.dtype == "float32" else float
        reads = 0
        if width != out_width:
            reads += height * _windows(width, out_width, reach, across, aligned, rounded)
        if height != out_height:
            reads += out_width * _windows(height, out_height, reach, down, aligned, rounded)
        return Cost(0, {"resize": prod(planes) * (reads or height * width)})

    return rule


def single(value: float) -> float:
    """The nearest number in single precision."""
    return c_float(value).value


def _windows(
    size: int, out: int, reach: int, factor: float | None, aligned: bool, rounded: Callable[[float], float]
) -> int:
    """The elements in all windows of an antialiased interpolation along one dimension.

    ``factor`` is the scale factor, where the user gave one. Each step is rounded as in torch, where an edge
    between two elements can fall to either: ``HelperInterpBase`` in aten/src/ATen/native/cpu/UpSampleKernel.cpp,
    ``area_pixel_compute_scale`` in aten/src/ATen/native/UpSample.h.
    """
    if aligned:
        scale = rounded((size - 1) / (out - 1)) if out > 1 else 0.0
    else:
        scale = rounded(1 / factor if factor else size / out)
    support = rounded(reach / 2 * max(scale, 1.0))
    longest = 2 * ceil(support) + 1
    total = 0
    for position in range(out):
        center = rounded(scale * (position + 0.5))
        first = max(int(rounded(center - support) + 0.5), 0)
        last = min(int(rounded(center + support) + 0.5), size)
        total += min(max(last - first, 0), longest)
    return total


def grid_sample(call: KernelCall) -> Cost:
    """``grid_sampler``: bilinear (mode 0) reads the 2 nearest along each dimension, nearest 1, bicubic 4."""
    out = output(call)
    along = {0: 2, 1: 1, 2: 4}[int(argument(call, 2, "interpolation_mode", 0))]
    return Cost(0, {"resize": out.numel * along ** (len(out.shape) - 2)})


def grid_sample_backward(call: KernelCall) -> Cost:
    """The gradients of a sampling: of every element that was read, and of the grid."""
    gradient = shape_of(call, 0, "grad_output")
    along = {0: 2, 1: 1, 2: 4}[int(argument(call, 3, "interpolation_mode", 0))]
    return Cost(0, {"resize": prod(gradient) * along ** (len(gradient) - 2)})


def bilinear_sample_backward(call: KernelCall) -> Cost:
    """``cudnn_grid_sampler_backward``: the same, always bilinear."""
    return Cost(0, {"resize": 4 * prod(shape_of(call, 2, "grad_output"))})


def rescaled_heads(call: KernelCall) -> Cost:
    """``_transform_bias_rescale_qkv``: a bias for queries, keys and values, and the scaling of the queries."""
    return Cost(0, {"bias": prod(shape_of(call, 0, "qkv")), "elementwise": prod(shape_of(call, 0, "qkv")) // 3})


def bag_weights(call: KernelCall) -> Cost:
    """The gradient of the weights of a bag: a gradient's row times the row that was looked up, summed up."""
    return Cost(0, {"reduction": prod(shape_of(call, 2, "indices")) * shape_of(call, 0, "grad")[-1]})


def each_of(entry: str) -> Rule:
    """The rule of what is done to each tensor of a list, element by element."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {entry: sum(tensor.numel for tensor in tensors(argument(call, 0, "self")))})

    return rule


def roi_align(call: KernelCall) -> Cost:
    """``roi_align``: each output averages a grid of samples, each of four neighbours; 2 x 2 where it adapts."""
    samples = int(argument(call, 5, "sampling_ratio", -1))
    return Cost(0, {"resize": output(call).numel * 4 * (samples if samples > 0 else 2) ** 2})


def distances(call: KernelCall) -> Cost:
    """``cdist``: a difference and a power for each coordinate of each pair of points.

    For many points torch multiplies matrices instead; the choice is by size and device, and the count does not follow.
    """
    first, second = shape_of(call, 0, "x1"), shape_of(call, 1, "x2")
    return Cost(0, {"elementwise": 2 * output(call).numel * max(first[-1], second[-1])})


def distances_within(call: KernelCall) -> Cost:
    """``pdist``: the same among the points of one set, each pair once."""
    return Cost(0, {"elementwise": 2 * output(call).numel * shape_of(call, 0, "self")[-1]})


def embedding_bag(call: KernelCall) -> Cost:
    """``_embedding_bag``: rows are looked up and summed, each times its own weight where there are any."""
    width = shape(call.args[0])[-1]
    looked_up = prod(shape_of(call, 1, "indices")) * width
    weighted = isinstance(argument(call, 6, "per_sample_weights"), TensorInfo)
    return Cost(0, {"reduction": looked_up, **({"elementwise": looked_up} if weighted else {})})


def scattered(call: KernelCall) -> Cost:
    """``scatter_add``, ``index_add`` and their like: every element of the source is added to one of the target."""
    if "scatter" in call.op:
        return Cost(0, {"reduction": prod(shape_of(call, 2, "index"))})
    return Cost(0, {"reduction": prod(shape_of(call, 3, "source"))})


def picked(call: KernelCall) -> Cost:
    """``nll_loss``: one element is read for each target."""
    return Cost(0, {"reduction": prod(shape_of(call, 1, "target"))})


_ACTIVATIONS = """
relu gelu silu sigmoid tanh hardswish hardsigmoid hardtanh elu leaky_relu prelu _prelu_kernel softplus mish
log_sigmoid_forward hardshrink softshrink threshold glu rrelu_with_noise rrelu_with_noise_functional celu selu relu6
"""
_ACTIVATION_BACKWARDS = """
threshold_backward gelu_backward silu_backward sigmoid_backward tanh_backward hardswish_backward hardsigmoid_backward
hardtanh_backward elu_backward leaky_relu_backward _prelu_kernel_backward softplus_backward mish_backward
log_sigmoid_backward hardshrink_backward softshrink_backward glu_backward rrelu_with_noise_backward
glu_jvp glu_backward_jvp logit_backward
"""
_NORMS = """
_batch_norm_with_update_functional quantized_batch_norm native_batch_norm _native_batch_norm_legit
_native_batch_norm_legit_no_training _native_batch_norm_legit_functional
_batch_norm_with_update _batch_norm_no_update cudnn_batch_norm batch_norm_stats _weight_norm_interface
miopen_batch_norm native_layer_norm native_group_norm _fused_rms_norm rms_norm instance_norm batch_norm_elemt
"""
_NORM_BACKWARDS = """
native_batch_norm_backward cudnn_batch_norm_backward batch_norm_backward native_layer_norm_backward
native_group_norm_backward _fused_rms_norm_backward batch_norm_backward_elemt _weight_norm_interface_backward
"""
_ELEMENTWISE = """
add sub mul div rsub neg abs square sqrt rsqrt reciprocal pow exp exp2 expm1 log log2 log10 log1p sin cos tan asin
acos atan atan2 sinh cosh asinh acosh atanh erf erfc erfinv sign sgn floor ceil round trunc frac remainder fmod
floor_divide true_divide clamp clamp_min clamp_max maximum minimum fmax fmin lerp addcmul addcdiv where masked_fill eq
ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor isnan
isinf isfinite cumsum cumprod logcumsumexp cummax cummin polar complex native_dropout native_dropout_backward dropout
bitwise_left_shift bitwise_right_shift __lshift__ __rshift__ logit logaddexp hypot xlogy sinc special_expit digamma
lgamma real imag angle conj_physical heaviside copysign deg2rad rad2deg nan_to_num masked_scatter tril triu gcd lcm i0
_conj_physical dist frexp igamma igammac isneginf isposinf ldexp linalg_cross logaddexp2 mvlgamma nextafter polygamma
signbit renorm embedding_renorm float_power _fused_dropout special_airy_ai special_bessel_j0 special_bessel_j1
special_bessel_y0 special_bessel_y1 special_entr special_erfcx special_chebyshev_polynomial_t
special_chebyshev_polynomial_u special_chebyshev_polynomial_v special_chebyshev_polynomial_w
special_hermite_polynomial_h special_hermite_polynomial_he special_i0e special_i1 special_i1e
special_laguerre_polynomial_l special_legendre_polynomial_p special_log_ndtr special_modified_bessel_i0
special_modified_bessel_i1 special_modified_bessel_k0 special_modified_bessel_k1 special_ndtri
special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1 special_shifted_chebyshev_polynomial_t
special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w
special_spherical_bessel_j0 special_xlog1py special_zeta __ilshift__ __irshift__ _add_relu _cummax_helper _cummin_helper
_logcumsumexp _masked_scale _dirichlet_grad _standard_gamma_grad
"""
_REDUCTIONS = """
mean sum amax amin max min prod norm linalg_vector_norm var std var_mean std_mean logsumexp argmax argmin all any
nansum count_nonzero median nanmedian mode trace aminmax segment_reduce hash_tensor _aminmax native_norm
linalg__powsum _segment_reduce_backward
"""
_LOSSES = """
mse_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits soft_margin_loss
multi_margin_loss multilabel_margin_loss_forward
"""
_LOSS_BACKWARDS = """
mse_loss_backward smooth_l1_loss_backward huber_loss_backward binary_cross_entropy_backward soft_margin_loss_backward
multi_margin_loss_backward multilabel_margin_loss_backward
"""
_POOLS = """
max_pool2d_with_indices max_pool3d_with_indices max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d
mkldnn_max_pool2d mkldnn_max_pool3d quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d
fractional_max_pool2d fractional_max_pool3d
"""
_ADAPTIVE_POOLS = """
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool2d adaptive_max_pool3d
mkldnn_adaptive_avg_pool2d
"""
_POOL_BACKWARDS = """
max_pool2d_with_indices_backward max_pool3d_with_indices_backward avg_pool2d_backward avg_pool3d_backward
_adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward adaptive_max_pool2d_backward adaptive_max_pool3d_backward
fractional_max_pool2d_backward fractional_max_pool3d_backward max_pool2d_backward mkldnn_max_pool2d_backward
mkldnn_max_pool3d_backward mkldnn_adaptive_avg_pool2d_backward
"""
_RESIZE_BACKWARDS = """
upsample_nearest1d_backward upsample_nearest2d_backward upsample_nearest3d_backward _upsample_nearest_exact1d_backward
_upsample_nearest_exact2d_backward _upsample_nearest_exact3d_backward upsample_linear1d_backward
upsample_bilinear2d_backward upsample_bicubic2d_backward upsample_trilinear3d_backward
_upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward _upsample_lanczos2d_aa_backward
"""
_FOREACH = " ".join(
    f"_foreach_{name}"
    for name in """
    abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min cos cosh div erf erfc exp expm1 floor frac lerp
    lgamma log log10 log1p log2 maximum minimum mul neg pow reciprocal round rsqrt sigmoid sign sin sinh sqrt sub tan
    tanh trunc
    """.split()  # noqa: SIM905
)
_FOREACH_REDUCTIONS = "_foreach_max _foreach_norm _foreach_powsum"
_FFTS = "_fft_r2c _fft_c2r _fft_c2c"
# What torch's decompositions are made of, as for derivatives that go forward.
_PRIMS = """
abs acos acosh add asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e bessel_j0 bessel_j1
bitwise_and bitwise_not bitwise_or bitwise_xor cbrt ceil conj_physical cos cosh digamma div eq erf erf_inv erfc erfcx
exp exp2 expm1 floor fmax fmin fmod frexp gcd ge gt hypot igamma igammac imag isfinite le lgamma log log10 log1p log2 lt
maximum minimum mul ndtri ne neg nextafter pow real reciprocal remainder round rsqrt shift_left
shift_right_arithmetic sign signbit sin sinh spherical_bessel_j0 sqrt sub tan trunc where zeta
"""
_PRIM_REDUCTIONS = "amax amin prod sum var xor_sum"


RULES: dict[str, Rule] = table(
    ("aten", _ACTIVATIONS, per_output("activation")),
    ("aten", _ACTIVATION_BACKWARDS, per_output("activation")),
    ("aten", _NORMS, per_output("norm")),
    ("aten", _NORM_BACKWARDS, per_input("norm")),
    # Statistics of batches that are spread over devices.
    ("aten", "batch_norm_update_stats batch_norm_gather_stats batch_norm_gather_stats_with_counts", per_input("norm")),
    ("aten", "batch_norm_backward_reduce", per_input("norm")),
    ("aten", "_softmax _log_softmax _safe_softmax _masked_softmax softmax log_softmax", per_output("softmax")),
    ("aten", "_softmax_backward_data _log_softmax_backward_data _masked_softmax_backward", per_output("softmax")),
    ("aten", _ELEMENTWISE, per_output("elementwise")),
    ("aten", _LOSSES, per_input("elementwise")),
    ("aten", _LOSS_BACKWARDS, per_output("elementwise")),
    ("aten", "nll_loss_forward nll_loss2d_forward", picked),
    ("aten", _REDUCTIONS, per_input("reduction")),
    ("aten", "scatter_add scatter_reduce index_add index_reduce", scattered),
    ("aten", _FFTS, per_output("fft")),
    ("aten", _POOLS, pool),
    ("aten", _ADAPTIVE_POOLS, adaptive_pool),
    ("aten", _POOL_BACKWARDS, per_output("pool")),
    ("aten", "upsample_nearest1d upsample_nearest2d upsample_nearest3d", resize("nearest")),
    ("aten", "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d", resize("nearest-exact")),
    ("aten", "upsample_linear1d", resize("linear")),
    ("aten", "upsample_bilinear2d", resize("bilinear")),
    ("aten", "upsample_bicubic2d", resize("bicubic")),
    ("aten", "upsample_trilinear3d", resize("trilinear")),
    ("aten", "_upsample_bilinear2d_aa", antialiased(2)),
    ("aten", "_upsample_bicubic2d_aa", antialiased(4)),
    ("aten", "_upsample_lanczos2d_aa", antialiased(6)),
    ("aten", _RESIZE_BACKWARDS, per_input("resize")),
    ("aten", "grid_sampler_2d grid_sampler_3d cudnn_grid_sampler _grid_sampler_2d_cpu_fallback", grid_sample),
    ("aten", "grid_sampler_2d_backward grid_sampler_3d_backward", grid_sample_backward),
    ("aten", "_grid_sampler_2d_cpu_fallback_backward", grid_sample_backward),
    ("aten", "cudnn_grid_sampler_backward", bilinear_sample_backward),
    ("aten", "_transform_bias_rescale_qkv", rescaled_heads),
    ("aten", "_embedding_bag_per_sample_weights_backward", bag_weights),
    ("aten", _FOREACH, each_of("elementwise")),
    ("aten", _FOREACH_REDUCTIONS, each_of("reduction")),
    ("aten", "_cdist_forward _euclidean_dist", distances),
    ("aten", "_cdist_backward", per_output("elementwise")),
    ("aten", "_pdist_forward", distances_within),
    ("aten", "_pdist_backward", per_output("elementwise")),
    ("aten", "_embedding_bag _embedding_bag_forward_only", embedding_bag),
    ("prims", "tanh", per_output("activation")),
    ("prims", _PRIMS, per_output("elementwise")),
    ("prims", _PRIM_REDUCTIONS, per_input("reduction")),
    ("prims", "fft_r2c fft_c2r fft_c2c", per_output("fft")),
    ("torchvision", "roi_align ps_roi_align", roi_align),
    ("torchvision", "roi_pool ps_roi_pool", per_output("pool")),
    ("torchvision", "_roi_align_backward _ps_roi_align_backward", per_input("resize")),
    ("torchvision", "_roi_pool_backward _ps_roi_pool_backward", per_input("pool")),
)
