"""What kernels multiply, written down a second time: by hand here, by two formulas in the package."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convstat.count import ops
from convstat.counters.base import Ledger
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.products import FORMULAS, Work, products
from convstat.formulas.cost import Cost
from convstat.trace import FunctionCall, KernelCall, ListInfo, ModuleCall, ModuleInfo, TensorInfo, Trace
from convstat.trace.calls import ObjectInfo
from convstat.trace.record import record


def t(*shape: int) -> TensorInfo:
    """A tensor of a shape."""
    return TensorInfo(shape)


def packed(*shape: int) -> ObjectInfo:
    """A packed weight and its bias."""
    return ObjectInfo("packed", (t(*shape), t(shape[0])))


def call(op: str, *args: object, output: object = None, **kwargs: object) -> KernelCall:
    """A call of a kernel."""
    return KernelCall(op, "default", tuple(args), kwargs, output)  # type: ignore[arg-type]


NONE = [None] * 20
_CONV = (t(2, 6, 9, 9), t(4, 3, 3, 3), t(4))
_CONV_MACS = 2 * 4 * 7 * 7 * 3 * 3 * 3
_PLAIN = ((1, 1), (0, 0), (1, 1))
_SPREAD = (t(2, 6, 5, 5), t(6, 2, 3, 3), t(4))
_SPREAD_MACS = 2 * 6 * 5 * 5 * 2 * 3 * 3
_QKV = (t(2, 4, 7, 8), t(2, 4, 5, 8), t(2, 4, 5, 6))
_SCORES = 2 * 4 * 7 * 5
_FORWARD = _SCORES * 8 + _SCORES * 6
_BACK = _SCORES * 8 + 2 * _SCORES * 8 + 2 * _SCORES * 6
_TWO = ListInfo((t(12, 5), t(12, 3), t(12), t(12)))


def _library_conv(op: str, bias: int) -> tuple[KernelCall, int]:
    args: list[object] = [_CONV[0], _CONV[1], *NONE[:4]]
    args[bias] = _CONV[2]
    return call(op, *args, output=t(2, 4, 7, 7)), _CONV_MACS


def _library_spread(op: str) -> tuple[KernelCall, int]:
    return call(op, *_SPREAD[:2], *NONE[:4], output=t(2, 4, 7, 7)), _SPREAD_MACS


CALLS: dict[str, tuple[KernelCall, int]] = {
    **{
        name: (call(name, t(5, 8), t(8, 3), output=t(5, 3)), 5 * 8 * 3)
        for name in ("aten.mm", "aten._int_mm", "aten._scaled_mm", "aten._scaled_mm_v2", "quantized.matmul")
    },
    "aten.bmm": (call("aten.bmm", t(2, 5, 8), t(2, 8, 3), output=t(2, 5, 3)), 2 * 5 * 8 * 3),
    "aten._weight_int8pack_mm": (
        call("aten._weight_int8pack_mm", t(5, 8), t(3, 8), t(3), output=t(5, 3)),
        5 * 8 * 3,
    ),
    **{
        f"aten.{name}": (call(f"aten.{name}", t(5, 8), t(1, 2, 3, 4), 32, t(1), output=t(5, 16)), 5 * 8 * 16)
        for name in ("_weight_int4pack_mm", "_weight_int4pack_mm_for_cpu")
    },
    "aten.addmm": (call("aten.addmm", t(3), t(5, 8), t(8, 3), output=t(5, 3)), 5 * 8 * 3),
    "aten._addmm_activation": (call("aten._addmm_activation", t(3), t(5, 8), t(8, 3), output=t(5, 3)), 5 * 8 * 3),
    "aten.baddbmm": (call("aten.baddbmm", t(2, 5, 3), t(2, 5, 8), t(2, 8, 3), output=t(2, 5, 3)), 2 * 5 * 8 * 3),
    "aten.addbmm": (call("aten.addbmm", t(5, 3), t(2, 5, 8), t(2, 8, 3), output=t(5, 3)), 2 * 5 * 8 * 3),
    "aten.mv": (call("aten.mv", t(5, 8), t(8), output=t(5)), 5 * 8),
    "aten.dot": (call("aten.dot", t(8), t(8), output=t()), 8),
    "aten.vdot": (call("aten.vdot", t(8), t(8), output=t()), 8),
    "aten.addmv": (call("aten.addmv", t(5), t(5, 8), t(8), output=t(5)), 5 * 8),
    "aten.addr": (call("aten.addr", t(5, 8), t(5), t(8), output=t(5, 8)), 5 * 8),
    "aten._grouped_mm": (call("aten._grouped_mm", t(10, 8), t(4, 8, 3), t(4), output=t(10, 3)), 10 * 8 * 3),
    "aten._scaled_grouped_mm": (
        call("aten._scaled_grouped_mm", t(5, 12), t(12, 3), t(1), t(1), t(4), output=t(4, 5, 3)),
        5 * 12 * 3,
    ),
    "aten._scaled_grouped_mm_v2": (
        call("aten._scaled_grouped_mm_v2", t(4, 5, 8), t(8, 12), *NONE[:6], output=t(5, 12)),
        5 * 8 * 12,
    ),
    "aten.linear": (call("aten.linear", t(2, 5, 8), t(3, 8), t(3), output=t(2, 5, 3)), 2 * 5 * 8 * 3),
    "aten.mkldnn_linear": (call("aten.mkldnn_linear", t(2, 5, 8), t(3, 8), t(3), output=t(2, 5, 3)), 2 * 5 * 8 * 3),
    "aten._weight_int4pack_mm_with_scales_and_zeros": (
        call("aten._weight_int4pack_mm_with_scales_and_zeros", t(5, 8), t(16, 4), 32, t(1), t(1), output=t(5, 16)),
        5 * 8 * 16,
    ),
    "aten._dyn_quant_matmul_4bit": (
        call("aten._dyn_quant_matmul_4bit", t(5, 8), t(99), 32, 8, 16, output=t(5, 16)),
        5 * 8 * 16,
    ),
    "aten._mixed_dtypes_linear": (
        call("aten._mixed_dtypes_linear", t(2, 5, 8), t(8, 3), t(3), output=t(2, 5, 3)),
        2 * 5 * 8 * 3,
    ),
    "aten._foreach_mm": (
        call(
            "aten._foreach_mm", ListInfo((t(5, 8), t(2, 3))), ListInfo((t(8, 3), t(3, 4))),
            output=ListInfo((t(5, 3), t(2, 4))),
        ),
        5 * 8 * 3 + 2 * 3 * 4,
    ),
    **{
        f"aten.{name}": (
            call(f"aten.{name}", t(2, 5, 8), t(2, 5, 3), t(3, 8), (True, True, True)),
            2 * (2 * 5 * 8 * 3),
        )
        for name in ("linear_backward", "mkldnn_linear_backward")
    },
    "aten.mkldnn_linear_backward_input": (
        call("aten.mkldnn_linear_backward_input", ListInfo((2, 5, 8)), t(2, 5, 3), t(3, 8), output=t(2, 5, 8)),
        2 * 5 * 8 * 3,
    ),
    "aten.mkldnn_linear_backward_weights": (
        call("aten.mkldnn_linear_backward_weights", t(2, 5, 3), t(2, 5, 8), t(3, 8), True, output=(t(3, 8), t(3))),
        2 * 5 * 8 * 3,
    ),
    "aten.matmul_backward": (
        call("aten.matmul_backward", t(2, 5, 3), t(2, 5, 8), t(2, 8, 3), (True, False)),
        2 * 5 * 8 * 3,
    ),
    # A place of an image has two coordinates and a one, and its sample a matrix of 2 x 3.
    "aten.affine_grid_generator": (
        call("aten.affine_grid_generator", t(2, 2, 3), ListInfo((2, 4, 5, 7)), False, output=t(2, 5, 7, 2)),
        2 * 5 * 7 * 2 * 3,
    ),
    "aten.cudnn_affine_grid_generator": (
        call("aten.cudnn_affine_grid_generator", t(2, 2, 3), 2, 4, 5, 7, output=t(2, 5, 7, 2)),
        2 * 5 * 7 * 2 * 3,
    ),
    "aten.cudnn_affine_grid_generator_backward": (
        call("aten.cudnn_affine_grid_generator_backward", t(2, 5, 7, 2), 2, 4, 5, 7, output=t(2, 2, 3)),
        2 * 5 * 7 * 2 * 3,
    ),
    # 9 steps, 3 taps and a padding of 1.
    "aten.conv_tbc": (
        call("aten.conv_tbc", t(9, 2, 4), t(3, 4, 5), t(5), 1, output=t(9, 2, 5)),
        9 * 2 * 3 * 4 * 5,
    ),
    # bilinear: (5, 1, 4, 6) = x1 * x2, with the weight (3, 4, 6): 5*3 outputs that sum over 4 and 6.
    "aten._trilinear": (
        call(
            "aten._trilinear", t(5, 4), t(3, 4, 6), t(5, 6), ListInfo((1, 3)), ListInfo((0,)), ListInfo((1, 2)),
            ListInfo((2, 3)), output=t(5, 3),
        ),
        5 * 3 * 4 * 6 + 5 * 3 * 6,
    ),
    **{
        f"aten.{name}": (
            call(f"aten.{name}", *_CONV, *_PLAIN, False, (0, 0), 2, output=t(2, 4, 7, 7)),
            _CONV_MACS,
        )
        for name in ("convolution", "_convolution", "convolution_overrideable")
    },
    "aten.mkldnn_convolution": _library_conv("aten.mkldnn_convolution", 2),
    "aten.miopen_convolution": _library_conv("aten.miopen_convolution", 2),
    "aten.miopen_depthwise_convolution": _library_conv("aten.miopen_depthwise_convolution", 2),
    "aten.cudnn_convolution": _library_conv("aten.cudnn_convolution", 2),
    "aten.cudnn_convolution_relu": _library_conv("aten.cudnn_convolution_relu", 2),
    "aten.miopen_convolution_relu": _library_conv("aten.miopen_convolution_relu", 2),
    "aten._nnpack_spatial_convolution": _library_conv("aten._nnpack_spatial_convolution", 2),
    **{
        f"aten.{name}": (
            call(f"aten.{name}", *_CONV[:2], t(2, 4, 7, 7), 1.0, t(4), *_PLAIN, 2, output=t(2, 4, 7, 7)),
            _CONV_MACS,
        )
        for name in ("cudnn_convolution_add_relu", "miopen_convolution_add_relu")
    },
    "aten._slow_conv2d_backward": (
        call("aten._slow_conv2d_backward", t(2, 4, 7, 7), *_CONV[:2], *NONE[:3], (True, True, False)),
        2 * _CONV_MACS,
    ),
    **{
        f"aten.{name}": _library_conv(f"aten.{name}", 3)
        for name in (
            "slow_conv3d_forward", "slow_conv_dilated2d", "slow_conv_dilated3d", "_slow_conv2d_forward",
            "_conv_depthwise2d", "conv_depthwise3d",
        )
    },
    **{
        f"aten.{name}": _library_spread(f"aten.{name}")
        for name in (
            "cudnn_convolution_transpose", "miopen_convolution_transpose", "slow_conv_transpose2d",
            "slow_conv_transpose3d",
        )
    },
    **{
        f"aten.{name}": (
            call(f"aten.{name}", t(2, 4, 7, 7), *_CONV[:2], None, *_PLAIN, False, (0, 0), 2, (True, True, False)),
            2 * _CONV_MACS,
        )
        for name in ("convolution_backward", "convolution_backward_overrideable")
    },
    "torchvision.deform_conv2d": (
        call("torchvision.deform_conv2d", *_CONV[:2], t(2, 18, 7, 7), output=t(2, 4, 7, 7)),
        _CONV_MACS,
    ),
    "torchvision._deform_conv2d_backward": (
        call("torchvision._deform_conv2d_backward", t(2, 4, 7, 7), *_CONV[:2]),
        2 * _CONV_MACS,
    ),
    **{
        f"aten._scaled_dot_product_{name}": (
            call(f"aten._scaled_dot_product_{name}", *_QKV, output=(t(2, 4, 7, 6),)),
            _FORWARD,
        )
        for name in (
            "flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention",
            "fused_attention_overrideable", "attention_math",
        )
    },
    **{
        f"aten._{name}_attention_forward": (
            call(
                f"aten._{name}_attention_forward", t(2, 7, 4, 8), t(2, 5, 4, 8), t(2, 5, 4, 6),
                output=(t(2, 7, 4, 6),),
            ),
            _FORWARD,
        )
        for name in ("flash", "efficient")
    },
    **{
        f"aten._scaled_dot_product_{name}_backward": (
            call(f"aten._scaled_dot_product_{name}_backward", t(2, 4, 7, 6), *_QKV),
            _BACK,
        )
        for name in (
            "flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention",
            "fused_attention_overrideable",
        )
    },
    "aten._native_multi_head_attention": (
        call(
            "aten._native_multi_head_attention", t(2, 7, 8), t(2, 5, 8), t(2, 5, 8), 8, 2, t(24, 8), t(24), t(8, 8),
            t(8), output=(t(2, 7, 8), None),
        ),
        2 * (7 * 8 * 8 + 2 * 5 * 8 * 8 + 7 * 8 * 8 + 2 * 7 * 5 * 8),
    ),
    "aten._transformer_encoder_layer_fwd": (
        call(
            "aten._transformer_encoder_layer_fwd", t(2, 7, 8), 8, 2, t(24, 8), t(24), t(8, 8), t(8), False, False,
            1e-5, t(8), t(8), t(8), t(8), t(32, 8), t(32), t(8, 32), t(8), output=t(2, 7, 8),
        ),
        2 * (4 * 7 * 8 * 8 + 2 * 7 * 7 * 8 + 2 * 7 * 8 * 32),
    ),
    "aten.mkldnn_rnn_layer": (
        call(
            "aten.mkldnn_rnn_layer", t(7, 2, 5), t(12, 5), t(12, 3), t(12), t(12), t(1, 2, 3), t(1, 2, 3), False,
            ListInfo(()), 2, 3, 1, True, False, False, True, output=(t(7, 2, 3),),
        ),
        7 * 2 * 12 * (5 + 3),
    ),
    "aten.mkldnn_rnn_layer_backward": (
        call(
            "aten.mkldnn_rnn_layer_backward", t(7, 2, 5), t(12, 5), t(12, 3), t(12), t(12), *NONE[:9], 2, 3, 1, True,
            True, False, ListInfo(()), False, None, output=(t(7, 2, 5),),
        ),
        2 * 7 * 2 * 12 * (5 + 3),
    ),
    "aten._cudnn_rnn": (
        call(
            "aten._cudnn_rnn", t(7, 2, 5), _TWO, 4, None, t(1, 2, 3), t(1, 2, 3), 2, 3, 0, 1, False, 0.0, True, False,
            ListInfo(()), None, output=(t(7, 2, 3),),
        ),
        7 * 2 * 12 * (5 + 3),
    ),
    "aten.miopen_rnn": (
        call(
            "aten.miopen_rnn", t(7, 2, 5), _TWO, 4, t(1, 2, 3), t(1, 2, 3), 2, 3, 1, False, 0.0, True, False,
            ListInfo(()), None, output=(t(7, 2, 3),),
        ),
        7 * 2 * 12 * (5 + 3),
    ),
    "aten._cudnn_rnn_backward": (
        call(
            "aten._cudnn_rnn_backward", t(7, 2, 5), _TWO, 4, *NONE[:7], 2, 3, 0, 1, False, 0.0, True, False,
            ListInfo(()), None, None, (True, False, False, True),
        ),
        2 * 7 * 2 * 12 * (5 + 3),
    ),
    **{
        f"quantized.{name}": (
            call(f"quantized.{name}", _CONV[0], packed(4, 3, 3, 3), 1.0, 0, output=t(2, 4, 7, 7)),
            _CONV_MACS,
        )
        for name in (
            "conv1d", "conv2d", "conv3d", "conv1d_relu", "conv2d_relu", "conv3d_relu", "conv1d_dynamic",
            "conv2d_dynamic", "conv3d_dynamic",
        )
    },
    **{
        f"quantized.{name}": (
            call(f"quantized.{name}", _CONV[0], t(2, 4, 7, 7), packed(4, 3, 3, 3), 1.0, 0, output=t(2, 4, 7, 7)),
            _CONV_MACS,
        )
        for name in ("conv2d_add", "conv2d_add_relu")
    },
    **{
        f"quantized.conv_transpose{dims}d{mode}": (
            call(f"quantized.conv_transpose{dims}d{mode}", _SPREAD[0], packed(6, 2, 3, 3), 1.0, output=t(2, 4, 7, 7)),
            _SPREAD_MACS,
        )
        for dims in "123"
        for mode in ("", "_dynamic")
    },
    **{
        f"quantized.{name}": (call(f"quantized.{name}", t(5, 8), packed(3, 8), output=t(5, 3)), 5 * 8 * 3)
        for name in (
            "linear", "linear_relu", "linear_leaky_relu", "linear_tanh", "linear_dynamic", "linear_relu_dynamic",
            "linear_dynamic_fp16", "linear_relu_dynamic_fp16",
        )
    },
    **{
        f"quantized.linear_with_input_q_dq_qweight_dq_{name}output_fp32": (
            call(
                f"quantized.linear_with_input_q_dq_qweight_dq_{name}output_fp32", t(5, 8), 1.0, 0, packed(3, 8),
                output=t(5, 3),
            ),
            5 * 8 * 3,
        )
        for name in ("", "relu_")
    },
    **{
        f"quantized.quantized_{name}_cell_dynamic": (
            call(
                f"quantized.quantized_{name}_cell_dynamic", t(2, 5), t(2, 3), packed(12, 5), packed(12, 3), t(12),
                t(12), output=t(2, 3),
            ),
            2 * 12 * (5 + 3),
        )
        for name in ("lstm", "gru", "rnn_relu", "rnn_tanh")
    },
}  # fmt: skip
"""A call of every kernel that multiplies, and its products by hand."""

NOT_REACHED = {"aten.matmul"}
"""Kernels that only ptflops names: the dispatcher takes them apart, so that convstat needs no rule for them."""


def test_the_calls_are_of_all_kernels_with_a_formula() -> None:
    """Nothing is left out of the tests below."""
    assert set(FORMULAS) == set(CALLS) | NOT_REACHED
    assert set(CALLS) <= set(ops.RULES)


@pytest.mark.parametrize("name", CALLS)
def test_both_formulas_come_to_what_is_worked_out_by_hand(name: str) -> None:
    """The counters' formula and convstat's rule, on one call."""
    kernel, macs = CALLS[name]
    assert macs == products(kernel)
    cost = ops.price(kernel)
    assert cost is not None
    assert macs == cost.macs


def _without_products(rule: Callable[..., Cost]) -> bool:
    """Whether a rule, by its source, gives costs of 0 MACs alone."""
    tree = ast.parse(inspect.getsource(rule).strip().removesuffix(","))
    costs = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Cost"
    ]  # fmt: skip
    zeros = [node for node in costs if isinstance(node.args[0], ast.Constant) and node.args[0].value == 0]
    return bool(costs) and costs == zeros


def test_a_kernel_without_a_formula_multiplies_nothing() -> None:
    """Each rule of convstat's for another kernel gives 0 MACs, by its source: a new product needs both formulas."""
    missing = [name for name, rule in ops.RULES.items() if name not in FORMULAS and not _without_products(rule)]
    assert [] == missing


def test_that_check_can_fail() -> None:
    """A rule that multiplies is told from one that does not."""
    assert not _without_products(ops.RULES["aten.mm"])
    assert _without_products(ops.RULES["aten.relu"])


def test_the_formulas_are_written_down_a_second_time() -> None:
    """They use neither convstat's closed forms nor its rules."""
    path = Path(inspect.getfile(Work))
    imported = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    # What an operator of somebody else's costs, only its own rule can say.
    assert {"convstat.count.ops.registered"} == {
        name for name in imported if name.startswith(("convstat.formulas", "convstat.count.ops", "convstat.layers"))
    }


def test_an_in_place_form_goes_by_the_rule_that_was_registered() -> None:
    """As it does in convstat's own count; so the counters' products and that count are of the same rule."""
    kernel = call("mylib.mix_", t(5, 8), output=t(5, 8))
    assert 0 == products(kernel)
    unregister = ops.register("mylib::mix", lambda call: Cost(7 * 5 * 8))
    try:
        cost = ops.price(kernel)
        assert cost is not None
        assert 7 * 5 * 8 == cost.macs == products(kernel)
    finally:
        unregister()


class _Three(torch.nn.Module):
    """A convolution with groups, a transposed one, and a batch of matrices."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(groups * channels, 2 * groups, (3, 2), groups=groups)
        self.spread = torch.nn.ConvTranspose2d(2 * groups, groups * channels, (2, 3), stride=2, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.spread(self.conv(x))
        return x @ x.transpose(2, 3)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 4))
def test_products_of_any_shape_agree(batch: int, groups: int, channels: int, more: int) -> None:
    """Worked out from the shapes of the modules; and by both formulas, kernel by kernel."""
    trace = record(_Three(groups, channels), (torch.rand(batch, groups * channels, 3 + more, 4),))
    found = [(products(kernel), ops.price(kernel)) for kernel, _ in trace.kernels()]
    assert all(cost is not None and own == cost.macs for own, cost in found)
    rows, columns = 1 + more, 3
    high, wide = 2 * (rows - 1) + 2, 2 * (columns - 1) + 3
    assert [
        batch * 2 * groups * rows * columns * channels * 3 * 2,
        batch * 2 * groups * rows * columns * channels * 2 * 3,
        batch * groups * channels * high * high * wide,
    ] == [own for own, _ in found if own]


def _one_layer(*children: KernelCall | FunctionCall | ModuleCall) -> Trace:
    root = ModuleInfo(0, ("",), "net.Net", (), (), {}, (1,))
    inner = ModuleInfo(1, ("fc",), "torch.nn.modules.linear.Linear", (), (), {}, ())
    return Trace(ModuleCall(0, (), children=children), (root, inner), "cpu")


def test_work_is_accounted_for_once() -> None:
    """What is priced is not unseen, what is priced otherwise is unattributed, and the terms sum to what is priced."""
    own, hook = CALLS["aten.addmm"][0], CALLS["aten.mv"][0]
    inner = ModuleCall(1, (), children=(FunctionCall("torch.nn.functional.linear", (), children=(own,)), hook))
    trace = _one_layer(inner, CALLS["aten.mm"][0])
    terms = Ledger()
    work = Work(trace, terms)
    work.price(inner, "fc", 5 * 8 * 3 + 7, lambda kernel: bool(kernel.functions))
    work.price(inner, "fc", 0, lambda kernel: False)
    work.unseen(trace.root, lambda kernel: "hook_unseen" if kernel.layer else "functional_unseen")
    assert {
        ("fc", None): 5 * 8 * 3 + 5 * 8,
        ("fc", UNATTRIBUTED): 7,
        ("fc", "hook_unseen"): -5 * 8,
        ("", None): 5 * 8 * 3,
        ("", "functional_unseen"): -5 * 8 * 3,
    } == {(term.layer, term.code): term.macs for term in terms.terms()}
    assert 5 * 8 * 3 + 7 == terms.macs
