"""Kernels whose work is no multiply-accumulate: each is counted under its own entry of ``other``."""

from __future__ import annotations

from math import prod

from convstat.formulas.pool import adaptive_reads
from convstat.formulas.resize import TAPS
from convstat.kernels.base import Rule, argument, inputs, output, per_input, per_output, shape, sizes
from convstat.layers.base import Cost
from convstat.trace.calls import KernelCall


def pool(call: KernelCall) -> Cost:
    """A sliding window: every tap of every window is read."""
    kernel = sizes(call.args[1])
    dims = {"1": 1, "2": 2, "3": 3}[next(letter for letter in call.op if letter.isdigit())]
    taps = kernel[0] ** dims if len(kernel) == 1 else prod(kernel)
    return Cost(0, {"pool": output(call).numel * taps})


def adaptive_pool(call: KernelCall) -> Cost:
    """Windows that adapt to the output size."""
    source, out = shape(call.args[0]), output(call).shape
    dims = len(sizes(call.args[1]))
    return Cost(0, {"pool": adaptive_reads(prod(source[:-dims]), source[-dims:], out[-dims:])})


def resize(mode: str) -> Rule:
    """An interpolation: every output element reads so many taps."""

    def rule(call: KernelCall) -> Cost:
        return Cost(0, {"resize": output(call).numel * TAPS[mode]})

    return rule


def grid_sample(call: KernelCall) -> Cost:
    """``grid_sampler``: bilinear (mode 0) reads the 2 nearest along each dimension, nearest 1, bicubic 4."""
    out = output(call)
    along = {0: 2, 1: 1, 2: 4}[int(argument(call, 2, "interpolation_mode", 0))]
    return Cost(0, {"resize": out.numel * along ** (len(out.shape) - 2)})


def roi_align(call: KernelCall) -> Cost:
    """``roi_align``: each output averages a grid of samples, each of four neighbours; 2 x 2 where it adapts."""
    samples = int(argument(call, 5, "sampling_ratio", -1))
    return Cost(0, {"resize": output(call).numel * 4 * (samples if samples > 0 else 2) ** 2})


def norm_backward(call: KernelCall) -> Cost:
    """The backward pass of a norm, counted like the forward one: elements of the gradient."""
    return Cost(0, {"norm": inputs(call)[0].numel})


_ACTIVATIONS = """
relu gelu silu sigmoid tanh hardswish hardsigmoid hardtanh elu leaky_relu prelu _prelu_kernel softplus mish
log_sigmoid_forward hardshrink softshrink threshold glu rrelu_with_noise celu selu relu6
"""
_ACTIVATION_BACKWARDS = """
threshold_backward gelu_backward silu_backward sigmoid_backward tanh_backward hardswish_backward hardsigmoid_backward
hardtanh_backward elu_backward leaky_relu_backward _prelu_kernel_backward softplus_backward mish_backward
log_sigmoid_backward hardshrink_backward softshrink_backward glu_backward rrelu_with_noise_backward
"""
_NORMS = """
native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training _native_batch_norm_legit_functional
_batch_norm_with_update _batch_norm_no_update cudnn_batch_norm miopen_batch_norm native_layer_norm native_group_norm
_fused_rms_norm rms_norm instance_norm batch_norm_elemt
"""
_NORM_BACKWARDS = """
native_batch_norm_backward cudnn_batch_norm_backward batch_norm_backward native_layer_norm_backward
native_group_norm_backward _fused_rms_norm_backward
"""
_ELEMENTWISE = """
add sub mul div rsub neg abs square sqrt rsqrt reciprocal pow exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos
atan atan2 sinh cosh asinh acosh atanh erf erfc erfinv sign sgn floor ceil round trunc frac remainder fmod floor_divide
true_divide clamp clamp_min clamp_max maximum minimum fmax fmin lerp addcmul addcdiv where masked_fill eq ne lt le gt ge
logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor isnan isinf isfinite
cumsum cumprod logcumsumexp cummax cummin polar complex native_dropout native_dropout_backward dropout bernoulli
bitwise_left_shift bitwise_right_shift __lshift__ __rshift__ logit logaddexp hypot xlogy sinc special_expit digamma
lgamma softmax_backward_data real imag angle view_as_complex_copy conj_physical heaviside copysign deg2rad rad2deg nan_to_num
scatter_add index_add masked_scatter tril triu gcd lcm i0 special_i1 special_erfcx
"""
_REDUCTIONS = """
mean sum amax amin max min prod norm linalg_vector_norm var std var_mean std_mean logsumexp argmax argmin all any
nansum count_nonzero median nanmedian mode trace aminmax
"""
_FFTS = "_fft_r2c _fft_c2r _fft_c2c"


def _aten(names: str) -> list[str]:
    return [f"aten.{name}" for name in names.split()]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_aten(_ACTIVATIONS), per_output("activation")),
    **dict.fromkeys(_aten(_ACTIVATION_BACKWARDS), per_output("activation")),
    **dict.fromkeys(_aten(_NORMS), per_output("norm")),
    **dict.fromkeys(_aten(_NORM_BACKWARDS), norm_backward),
    **dict.fromkeys(_aten("_softmax _log_softmax _safe_softmax softmax log_softmax"), per_output("softmax")),
    **dict.fromkeys(_aten("_softmax_backward_data _log_softmax_backward_data"), per_output("softmax")),
    **dict.fromkeys(_aten(_ELEMENTWISE), per_output("elementwise")),
    **dict.fromkeys(_aten(_REDUCTIONS), per_input("reduction")),
    **dict.fromkeys(_aten(_FFTS), per_output("fft")),
    **dict.fromkeys(
        _aten(
            "max_pool2d_with_indices max_pool3d_with_indices max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"
            " mkldnn_max_pool2d quantized_max_pool2d"
        ),
        pool,
    ),
    **dict.fromkeys(
        _aten(
            "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool2d adaptive_max_pool3d"
            " mkldnn_adaptive_avg_pool2d"
        ),
        adaptive_pool,
    ),
    **dict.fromkeys(
        _aten(
            "max_pool2d_with_indices_backward max_pool3d_with_indices_backward avg_pool2d_backward avg_pool3d_backward"
            " _adaptive_avg_pool2d_backward _adaptive_avg_pool3d_backward adaptive_max_pool2d_backward"
        ),
        per_output("pool"),
    ),
    **dict.fromkeys(
        _aten(
            "upsample_nearest1d upsample_nearest2d upsample_nearest3d"
            " _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"
        ),
        resize("nearest"),
    ),
    "aten.upsample_linear1d": resize("linear"),
    **dict.fromkeys(_aten("upsample_bilinear2d _upsample_bilinear2d_aa"), resize("bilinear")),
    **dict.fromkeys(_aten("upsample_bicubic2d _upsample_bicubic2d_aa"), resize("bicubic")),
    "aten.upsample_trilinear3d": resize("trilinear"),
    **dict.fromkeys(
        _aten("upsample_nearest2d_backward upsample_bilinear2d_backward upsample_bicubic2d_backward"),
        per_input("resize"),
    ),
    **dict.fromkeys(_aten("grid_sampler_2d grid_sampler_3d"), grid_sample),
    **dict.fromkeys(("torchvision.roi_align", "torchvision.ps_roi_align"), roi_align),
    **dict.fromkeys(("torchvision.roi_pool", "torchvision.ps_roi_pool"), per_output("pool")),
    **dict.fromkeys(
        (
            "quantized.add",
            "quantized.add_relu",
            "quantized.mul",
            "quantized.mul_relu",
            "quantized.add_scalar",
            "quantized.mul_scalar",
        ),
        per_output("elementwise"),
    ),
    **dict.fromkeys(("quantized.hardswish", "quantized.relu6", "quantized.leaky_relu"), per_output("activation")),
}
