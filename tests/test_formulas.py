"""Closed forms against loops that count one by one (naive.py), on random shapes."""

from __future__ import annotations

from typing import Any

import naive
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convstat.errors import LayerError
from convstat.formulas import attention, conv, linear, pool, recurrent
from convstat.layers import NAMES, Cost
from convstat.layers.base import Layer

few = settings(deadline=None, max_examples=60)


def made(kind: str, written: dict[str, object], *inputs: tuple[int, ...]) -> tuple[Layer, tuple[int, ...], Cost]:
    """A layer, its output shape and its cost."""
    layer = NAMES[kind].create(written, inputs)
    output = layer.output_shape(inputs)
    return layer, output, layer.cost(inputs, output)


def per_dim(dims: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    """One number for each dimension."""
    return st.tuples(*[st.integers(low, high)] * dims)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a small convolution whose input holds at least one window."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    kernel = draw(per_dim(dims, 1, 3))
    dilation = draw(per_dim(dims, 1, 2))
    padding = draw(per_dim(dims, 0, 2))
    room = 2 if dims == 3 else 4
    spatial = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, room))
        for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    return {
        "dims": dims,
        "shape": (draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), *spatial),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": kernel,
        "stride": draw(per_dim(dims, 1, 3)),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }


@few
@given(convolutions())
def test_a_convolution_costs_what_its_loops_count(case: dict[str, Any]) -> None:
    """Output size and MACs are those of a window that is slid and a sum that is taken tap by tap."""
    dims, shape = case.pop("dims"), case.pop("shape")
    sides = [(p, p) for p in case["padding"]]
    sizes, macs = naive.conv(
        shape, case["out_channels"], case["kernel_size"], case["stride"], sides, case["dilation"], case["groups"]
    )
    _, output, cost = made(f"Conv{dims}d", case, shape)
    assert ((shape[0], case["out_channels"], *sizes), macs) == (output, cost.macs)


@few
@given(convolutions(), st.data())
def test_padding_same_keeps_the_size_and_costs_what_its_loops_count(case: dict[str, Any], data: st.DataObject) -> None:
    """padding='same' pads dilation*(kernel-1) in all, the odd one at the end."""
    dims, shape = case.pop("dims"), case.pop("shape")
    case |= {"padding": "same", "stride": 1}
    totals = [d * (k - 1) for k, d in zip(case["kernel_size"], case["dilation"], strict=True)]
    sides = [(total // 2, total - total // 2) for total in totals]
    one = (1,) * dims
    sizes, macs = naive.conv(
        shape, case["out_channels"], case["kernel_size"], one, sides, case["dilation"], case["groups"]
    )
    _, output, cost = made(f"Conv{dims}d", case, shape)
    assert shape[2:] == sizes
    assert ((shape[0], case["out_channels"], *sizes), macs) == (output, cost.macs)


@few
@given(convolutions(), st.data())
def test_a_transposed_convolution_costs_what_its_loops_scatter(case: dict[str, Any], data: st.DataObject) -> None:
    """Output size and MACs are those of spreading every input value over the taps of its group."""
    dims, shape = case.pop("dims"), case.pop("shape")
    extra = tuple(
        data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(case["stride"], case["dilation"], strict=True)
    )
    sizes, macs = naive.conv_transpose(
        shape,
        case["out_channels"],
        case["kernel_size"],
        case["stride"],
        case["padding"],
        extra,
        case["dilation"],
        case["groups"],
    )
    assume(min(sizes) > 0)
    _, output, cost = made(f"ConvTranspose{dims}d", {**case, "output_padding": extra}, shape)
    assert ((shape[0], case["out_channels"], *sizes), macs) == (output, cost.macs)


@few
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_a_linear_map_costs_a_dot_product_for_each_output(
    lead: list[int], in_features: int, out_features: int, bias: bool
) -> None:
    """MACs are those of a matrix product with every position a row; the bias is one addition per output."""
    positions = 1
    for size in lead:
        positions *= size
    _, output, cost = made("Linear", {"out_features": out_features, "bias": bias}, (*lead, in_features))
    assert (*lead, out_features) == output
    assert naive.matrix(positions, in_features, out_features) == cost.macs
    assert ({"bias": positions * out_features} if bias else {}) == cost.other


@few
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_bilinear_map_costs_two_products(positions: int, in1: int, in2: int, out: int) -> None:
    """MACs are those of x1 with every matrix, then of the result with x2."""
    _, _, cost = made("Bilinear", {"out_features": out}, (positions, in1), (positions, in2))
    assert naive.bilinear(positions, in1, in2, out) == cost.macs


@few
@given(convolutions(), st.booleans())
def test_a_pooling_reads_what_its_windows_cover(case: dict[str, Any], ceil_mode: bool) -> None:
    """Output size and reads are those of a window that is slid; in ceil mode one may hang over the end."""
    dims, shape = case["dims"], case["shape"]
    kernel, stride, dilation = case["kernel_size"], case["stride"], case["dilation"]
    padding = tuple(min(p, k // 2) for p, k in zip(case["padding"], kernel, strict=True))
    written = {"kernel_size": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    sizes, reads = naive.pool(shape, kernel, stride, padding, dilation, ceil_mode)
    if min(sizes) == 0:
        with pytest.raises(LayerError, match="larger than the padded input"):
            made(f"MaxPool{dims}d", {**written, "ceil_mode": ceil_mode}, shape)
        return
    _, output, cost = made(f"MaxPool{dims}d", {**written, "ceil_mode": ceil_mode}, shape)
    assert ((*shape[:2], *sizes), {"pool": reads}) == (output, cost.other)


@few
@given(st.integers(1, 2), st.data())
def test_an_adaptive_pooling_reads_what_its_windows_touch(dims: int, data: st.DataObject) -> None:
    """The closed form size + out - gcd(size, out) counts the elements that each window touches."""
    shape = (1, data.draw(st.integers(1, 2)), *data.draw(per_dim(dims, 1, 9)))
    out = data.draw(per_dim(dims, 1, 9))
    _, output, cost = made(f"AdaptiveAvgPool{dims}d", {"output_size": list(out)}, shape)
    assert (*shape[:2], *out) == output
    assert {"pool": naive.adaptive_pool(shape, out)} == cost.other


@few
@given(st.data())
def test_attention_costs_what_its_loops_count(data: st.DataObject) -> None:
    """MACs are those of four projections and two products per head; the softmax is over every pair."""
    number = st.integers(1, 4)
    batch, heads, head_dim, queries, keys, kdim, vdim = (data.draw(number) for _ in range(7))
    bias_kv, zero = data.draw(st.booleans()), data.draw(st.booleans())
    size = heads * head_dim
    written = {
        "num_heads": heads,
        "kdim": kdim,
        "vdim": vdim,
        "add_bias_kv": bias_kv,
        "add_zero_attn": zero,
        "batch_first": True,
    }
    inputs = ((batch, queries, size), (batch, keys, kdim), (batch, keys, vdim))
    macs, softmax = naive.attention(batch, heads, queries, keys, size, kdim, vdim, bias_kv + zero)
    _, output, cost = made("MultiheadAttention", written, *inputs)
    assert inputs[0] == output
    assert (macs, softmax) == (cost.macs, cost.other["softmax"])
    # One bias for each projected query, key and value, and for the output; the queries are scaled.
    assert batch * (queries + keys + keys + queries) * size == cost.other["bias"]
    assert batch * queries * size == cost.other["elementwise"]
    flipped = [(length, n, features) for n, length, features in inputs]
    assert cost == made("MultiheadAttention", {**written, "batch_first": False}, *flipped)[2]


@few
@given(st.sampled_from(["RNN", "GRU", "LSTM"]), st.data())
def test_a_recurrent_layer_costs_what_its_steps_count(kind: str, data: st.DataObject) -> None:
    """MACs are those of every gate's two products in every layer, direction and step, and of the projection."""
    number = st.integers(1, 4)
    batch, steps, features, hidden, layers = (data.draw(number) for _ in range(5))
    both = data.draw(st.booleans())
    proj = data.draw(st.integers(0, hidden - 1)) if kind == "LSTM" else 0
    written: dict[str, object] = {"hidden_size": hidden, "num_layers": layers, "bidirectional": both}
    if proj:
        written["proj_size"] = proj
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    _, output, cost = made(kind, written, (steps, batch, features))
    assert (steps, batch, (proj or hidden) * (1 + both)) == output
    assert naive.recurrent(gates, batch, steps, features, hidden, layers, both, proj) == cost.macs
    cells = batch * steps * layers * (1 + both)
    assert cells * gates * hidden * 2 == cost.other["bias"]


def test_the_loops_can_tell_a_wrong_count() -> None:
    """The loops are no mirror of the formulas: they give figures that were worked out by hand."""
    assert ((2, 2), 2 * 2 * 2 * 3 * 9) == naive.conv((1, 3, 4, 4), 2, (3, 3), (1, 1), [(0, 0)] * 2, (1, 1))
    assert ((4,), 2 * 2 * 3 * 2) == naive.conv_transpose((1, 2, 2), 3, (2,), (2,), (0,), (0,), (1,))
    assert ((3,), 3 * 2) == naive.pool((1, 1, 5), (2,), (2,), (0,), (1,), True)
    assert 2 + 3 + 2 == naive.adaptive_pool((1, 1, 5), (3,))
    assert 4 * (3 * 5 + 5) == naive.bilinear(1, 3, 5, 4)
    assert (4 * 3 * 2 * 2 + 2 * 3 * 3 * 2, 3 * 3) == naive.attention(1, 1, 3, 3, 2, 2, 2)
    assert 7 * 4 * 5 * (3 + 5) == naive.recurrent(4, 1, 7, 3, 5, 1, False)


@few
@given(convolutions())
def test_a_transposed_convolution_is_a_convolution_read_backwards(case: dict[str, Any]) -> None:
    """Swapping input and output of a convolution gives its transpose, with the same MACs and weights."""
    shape, kernel, groups = case["shape"], case["kernel_size"], case["groups"]
    here, there = shape[1], case["out_channels"]
    out = tuple(size + 3 for size in shape[2:])
    forwards = conv.conv_macs(here, there, out, kernel, groups)
    assert forwards == conv.conv_transpose_macs(there, here, out, kernel, groups)
    assert conv.conv_weight(here, there, kernel, groups) == conv.conv_transpose_weight(there, here, kernel, groups)
    for size, k, s, p, d in zip(shape[2:], kernel, case["stride"], case["padding"], case["dilation"], strict=True):
        down = conv.conv_out(size, k, s, 2 * p, d)
        lost = (size + 2 * p - conv.window(k, d)) % s
        assert size == conv.conv_transpose_out(down, k, s, 2 * p, d, lost)


@few
@given(st.integers(1, 8), st.integers(1, 4), per_dim(2, 1, 4), per_dim(2, 1, 9))
def test_a_depthwise_separable_convolution_costs_its_two_parts(
    channels: int, times: int, kernel: tuple[int, ...], out: tuple[int, ...]
) -> None:
    """Depthwise plus pointwise relate to the dense convolution as 1/out_channels + 1/kernel area."""
    many = channels * times
    area = kernel[0] * kernel[1]
    dense = conv.conv_macs(channels, many, out, kernel)
    depthwise = conv.conv_macs(channels, channels, out, kernel, groups=channels)
    pointwise = conv.conv_macs(channels, many, out, (1, 1))
    assert dense * (area + many) == (depthwise + pointwise) * many * area


def test_a_depthwise_convolution_is_one_with_as_many_groups_as_channels() -> None:
    """Each channel then has its own kernel: 32*3*3 weights, 32*3*3 MACs at each of 14*14 places."""
    layer, _, cost = made("Conv2d", {"out_channels": 32, "kernel_size": 3, "padding": 1, "groups": 32}, (1, 32, 14, 14))
    assert {"weight": (32, 1, 3, 3), "bias": (32,)} == layer.parameters()
    assert (32 * 3 * 3 * 14 * 14, 32 * 14 * 14) == (cost.macs, cost.other["bias"])


@few
@given(st.integers(1, 8), st.integers(1, 8), per_dim(2, 1, 9))
def test_a_1x1_convolution_is_a_linear_map_at_each_pixel(here: int, there: int, size: tuple[int, ...]) -> None:
    """Conv2d(k=1) on (C, H, W) and Linear on (H, W, C) have equal parameters and cost."""
    convolution, _, first = made("Conv2d", {"out_channels": there, "kernel_size": 1}, (1, here, *size))
    dense, _, second = made("Linear", {"out_features": there}, (1, *size, here))
    assert convolution.params() == dense.params()
    assert first == second


@few
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 7))
def test_a_convolution_over_its_whole_input_is_a_linear_map(here: int, there: int, size: int) -> None:
    """A kernel as large as the input leaves one position: the matrix of a Linear on the flattened input."""
    convolution, _, first = made("Conv2d", {"out_channels": there, "kernel_size": size}, (1, here, size, size))
    dense, _, second = made("Linear", {"out_features": there}, (1, here * size * size))
    assert (convolution.params(), first) == (dense.params(), second)


@few
@given(convolutions(), st.integers(1, 3))
def test_groups_split_a_convolution_into_equal_parts(case: dict[str, Any], batch: int) -> None:
    """A convolution with g groups costs as much as g convolutions between the parts."""
    groups, out = case["groups"], tuple(case["shape"][2:])
    part = conv.conv_macs(case["shape"][1] // groups, case["out_channels"] // groups, out, case["kernel_size"])
    assert groups * part == conv.conv_macs(case["shape"][1], case["out_channels"], out, case["kernel_size"], groups)


def test_a_square_kernel_costs_the_sum_of_its_rows() -> None:
    """k rows of 1 x k, each as wide as the output, make a k x k kernel: 5*(1*5) = 5*5 taps."""
    rows = [conv.conv_macs(3, 8, (10, 12), (1, 5)) for _ in range(5)]
    assert sum(rows) == conv.conv_macs(3, 8, (10, 12), (5, 5))


def test_adaptive_windows_share_out_their_input_without_a_gap() -> None:
    """The sum of the window lengths is between the size and what overlaps of one element can add."""
    for size in range(1, 40):
        for out in range(1, 40):
            total = pool.adaptive_windows(size, out)
            assert sum(-(-(i + 1) * size // out) - i * size // out for i in range(out)) == total
            assert max(size, out) <= total <= size + out - 1


def test_attention_costs_the_published_closed_form() -> None:
    """n tokens of width d: 4*n*d^2 for the projections, 2*n^2*d for the products."""
    assert 4 * 197 * 768**2 + 2 * 197**2 * 768 == attention.attention_macs(768, 197, 197)


def test_a_recurrent_layer_of_one_step_is_two_linear_maps_per_gate() -> None:
    """LSTM 10->20 at one step: 4 gates of (10 + 20) x 20."""
    parts = linear.linear_macs(10, 4 * 20) + linear.linear_macs(20, 4 * 20)
    assert parts == recurrent.recurrent_macs(4, 10, 20, steps=1)
