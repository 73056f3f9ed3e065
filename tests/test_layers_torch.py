"""The vocabulary is torch's: the same names, arguments and defaults, the same sizes, the same products."""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from versions import since

from convstat.errors import LayerError
from convstat.layers import KINDS
from convstat.layers.base import REQUIRED

OURS = {
    "ClassToken",
    "Crop",
    "LayerScale",
    "Permute",
    "PositionalEmbedding",
    "Reshape",
    "Select",
    "add",
    "concat",
    "mul",
}
"""Kinds that torch.nn has no class for."""

NOT_COUNTED = {"device", "dtype"}
"""Arguments of every module that say where it is and in what precision, which the command line says for all."""

LEFT_OUT: dict[str, set[str]] = {
    "Embedding": {"_weight", "_freeze"},  # private
    "Hardtanh": {"min_value", "max_value"},  # deprecated names of min_val and max_val
    "RNN": {"mode", "proj_size"},  # mode is what the class is; torch refuses proj_size for all but LSTM
    "GRU": {"mode", "proj_size"},
    "LSTM": {"mode"},
}
"""Arguments that torch's signature has and the layer kind does not."""

ADDED: dict[str, set[str]] = {"RNN": {"nonlinearity"}, "MultiheadAttention": {"need_weights"}}
"""Arguments that torch's signature does not show: behind *args, or taken by forward."""

OTHER_DEFAULTS = {("TransformerEncoderLayer", "activation"): ("relu", torch.nn.functional.relu)}
"""Defaults that are written as a word here and are a function in torch."""


def signature(kind: str) -> dict[str, inspect.Parameter]:
    """The arguments of torch's class, those of its base where it takes anything."""
    twin = nn.RNNBase if kind in ("RNN", "GRU", "LSTM") else getattr(nn, kind)
    return {
        name: parameter
        for name, parameter in inspect.signature(twin).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and name not in NOT_COUNTED
    }


@since("2.13", "all arguments that layers have")
@pytest.mark.parametrize("kind", sorted(set(KINDS) - OURS))
def test_arguments_are_those_of_torch(kind: str) -> None:
    """Names, order and defaults; what differs is listed above."""
    ours = KINDS[kind].arguments
    theirs = signature(kind)
    left_out, added = LEFT_OUT.get(kind, set()), ADDED.get(kind, set())
    assert left_out <= set(theirs)
    assert [name for name in theirs if name not in left_out] == [name for name in ours if name not in added]
    for name, argument in ours.items():
        if name in added:
            continue
        default = theirs[name].default
        if (kind, name) in OTHER_DEFAULTS:
            assert OTHER_DEFAULTS[kind, name] == (argument.default, default)
        else:
            # torch annotates the stride of AvgPool1d as if it had no default; None means the kernel in all of them.
            assert (REQUIRED if default is inspect.Parameter.empty else default) == argument.default


def test_the_order_of_the_arguments_of_rnn_is_that_of_its_constructor() -> None:
    """RNN's constructor takes its fourth positional argument out of the base's order: it is the nonlinearity."""
    assert "nonlinearity" == list(KINDS["RNN"].arguments)[3]
    assert "RNN_RELU" == nn.RNN(2, 3, 1, "relu").mode


FAMILIES_OF_TORCH = (
    "activation",
    "batchnorm",
    "channelshuffle",
    "conv",
    "dropout",
    "flatten",
    "instancenorm",
    "linear",
    "normalization",
    "padding",
    "pixelshuffle",
    "pooling",
    "rnn",
    "sparse",
    "transformer",
    "upsampling",
)

NOT_IN_THE_VOCABULARY = {
    "CrossMapLRN2d": "a legacy form of LocalResponseNorm",
    "EmbeddingBag": "takes indices and offsets, and its work depends on them",
    "FractionalMaxPool2d": "its windows are drawn at random",
    "FractionalMaxPool3d": "its windows are drawn at random",
    "GRUCell": "one step of GRU",
    "LSTMCell": "one step of LSTM",
    "MaxUnpool1d": "takes the indices of a pooling",
    "MaxUnpool2d": "takes the indices of a pooling",
    "MaxUnpool3d": "takes the indices of a pooling",
    "RNNBase": "a base class",
    "RNNCell": "one step of RNN",
    "RNNCellBase": "a base class",
    "SyncBatchNorm": "BatchNorm of several processes",
    "Transformer": "a model, which a spec writes out",
    "TransformerDecoder": "a model, which a spec writes out",
    "TransformerDecoderLayer": "takes two sequences; a spec writes it out",
    "TransformerEncoder": "a model, which a spec writes out",
    "UpsamplingBilinear2d": "deprecated in favour of Upsample",
    "UpsamplingNearest2d": "deprecated in favour of Upsample",
}


def test_no_class_of_torch_is_forgotten() -> None:
    """Every public class of these modules is a kind, or is in the list above with the reason why not."""
    public = {
        name
        for module in FAMILIES_OF_TORCH
        for name in importlib.import_module(f"torch.nn.modules.{module}").__all__
        if not name.startswith("Lazy")
    }
    assert set() == public - set(KINDS) - set(NOT_IN_THE_VOCABULARY)
    assert set() == set(NOT_IN_THE_VOCABULARY) - public
    assert set() == set(NOT_IN_THE_VOCABULARY) & set(KINDS)


def agree(kind: str, written: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Both refuse, or both give the same shape; torch on real tensors, in evaluation."""
    try:
        ours: tuple[int, ...] | None = KINDS[kind].create(written, (shape,)).output_shape((shape,))
    except LayerError:
        ours = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs: tuple[int, ...] | None = tuple(getattr(nn, kind)(**written).eval()(torch.zeros(shape)).shape)
        except (ValueError, RuntimeError, NotImplementedError, AssertionError):
            theirs = None
    if theirs is not None and 0 in theirs:
        theirs = None  # torch makes an empty tensor, which nothing after it could use
    assert theirs == ours


many = settings(deadline=None, max_examples=150)
small = st.integers(1, 4)


@many
@given(small, small, small, st.integers(0, 3), st.integers(1, 3), st.booleans())
def test_a_pooling_is_refused_exactly_where_torch_refuses_it(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    """Over all small windows: the same sizes, or a refusal on both sides."""
    shared = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    for dims in (1, 2, 3):
        shape = (1, 2, size, size + 1, size)[: dims + 2]
        agree(f"MaxPool{dims}d", {**shared, "dilation": dilation}, shape)
        agree(f"AvgPool{dims}d", shared, shape)
        power = {"norm_type": 2.0, "kernel_size": kernel, "stride": stride, "ceil_mode": ceil_mode}
        agree(f"LPPool{dims}d", power, shape)


@many
@given(small, small, small, st.integers(0, 4), st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_convolution_is_refused_exactly_where_torch_refuses_it(
    size: int, kernel: int, stride: int, padding: int, dilation: int, groups: int, data: st.DataObject
) -> None:
    """Over all small windows, groups and padding modes: the same sizes, or a refusal on both sides."""
    shared = {
        "in_channels": data.draw(st.integers(2, 4)),
        "out_channels": data.draw(st.integers(2, 4)),
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    shape = (1, shared["in_channels"], size, size + 1)
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    agree("Conv2d", {**shared, "padding_mode": mode}, shape)
    agree("ConvTranspose2d", {**shared, "output_padding": data.draw(st.integers(0, 3))}, shape)


@many
@given(st.sampled_from(["Zero", "Reflection", "Replication", "Circular"]), small, st.data())
def test_a_padding_is_refused_exactly_where_torch_refuses_it(kind: str, size: int, data: st.DataObject) -> None:
    """Over all small amounts, the negative ones included."""
    sides = tuple(data.draw(st.integers(-3, 5)) for _ in range(4))
    agree(f"{kind}Pad2d", {"padding": sides}, (1, 2, size, size + 1))


@many
@given(st.sampled_from(["nearest", "linear", "bilinear", "bicubic", "trilinear", "area", "nearest-exact"]), st.data())
def test_an_upsampling_is_refused_exactly_where_torch_refuses_it(mode: str, data: st.DataObject) -> None:
    """Over modes, ranks, sizes, factors and align_corners."""
    dims = data.draw(st.integers(1, 3))
    written: dict[str, Any] = {"mode": mode}
    if data.draw(st.booleans()):
        written["size"] = data.draw(st.one_of(small, st.tuples(*[small] * data.draw(st.integers(1, 3)))))
    if data.draw(st.booleans()):
        written["scale_factor"] = data.draw(st.floats(0.1, 3.0))
    if data.draw(st.booleans()):
        written["align_corners"] = data.draw(st.booleans())
    agree("Upsample", written, (1, 2, *data.draw(st.tuples(*[small] * dims))))


def flops(kind: str, written: dict[str, Any], shapes: tuple[tuple[int, ...], ...]) -> int:
    """What torch's own counter says of the twin, on the meta device."""
    layer = KINDS[kind].create(written, shapes)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        module = layer.build().eval()
        with FlopCounterMode(display=False) as counter:
            layer.call(module, *map(torch.empty, shapes))
    return counter.get_total_flops()


COUNTED_BY_TORCH = [
    (kind, written, shapes)
    for kind in (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "Linear",
        "MultiheadAttention",
        "TransformerEncoderLayer",
        "RNN",
        "GRU",
        "LSTM",
    )
    for written, shapes in CASES[kind]
]


@pytest.mark.parametrize(("kind", "written", "shapes"), COUNTED_BY_TORCH)
def test_torch_counts_twice_as_many_flops_as_we_count_macs(
    kind: str, written: dict[str, Any], shapes: tuple[tuple[int, ...], ...]
) -> None:
    """FlopCounterMode counts a multiplication and an addition for each of our MACs, at the kernels that really run."""
    layer = KINDS[kind].create(written, shapes)
    assert flops(kind, written, shapes) == 2 * layer.cost(shapes, layer.output_shape(shapes)).macs


def touched(kind: str, written: dict[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs the outputs of a linear layer depend on: in all, and at most for one."""
    layer = KINDS[kind].create(written, (shape,))
    module = layer.build().double()
    x = torch.rand(shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(module, x).reshape(-1, x.numel())
    each = (jacobian != 0).sum(dim=1)
    return int(each.sum()), int(each.max())


@pytest.mark.parametrize(
    ("kind", "written", "entry"),
    [
        ("AvgPool2d", {"kernel_size": 3, "stride": 2}, "pool"),
        ("AdaptiveAvgPool2d", {"output_size": [3, 5]}, "pool"),
        ("AdaptiveAvgPool2d", {"output_size": [4, 12]}, "pool"),
        ("Upsample", {"size": [3, 5], "mode": "area"}, "resize"),
        ("Upsample", {"size": [11, 4], "mode": "area"}, "resize"),
        ("Upsample", {"size": [11, 5]}, "resize"),
        ("Upsample", {"size": [11, 5], "mode": "nearest-exact"}, "resize"),
    ],
)
def test_reads_are_the_inputs_that_the_outputs_depend_on(kind: str, written: dict[str, Any], entry: str) -> None:
    """The derivative of a window's mean is not zero exactly where the window reads."""
    shape = (1, 2, 7, 8)
    layer = KINDS[kind].create(written, (shape,))
    assert touched(kind, written, shape)[0] == layer.cost((shape,), layer.output_shape((shape,))).other[entry]


@pytest.mark.parametrize(
    ("mode", "shape", "taps"),
    [
        ("nearest", (1, 1, 5, 6), 1),
        ("linear", (1, 1, 5), 2),
        ("bilinear", (1, 1, 5, 6), 4),
        ("trilinear", (1, 1, 4, 4, 4), 8),
        ("bicubic", (1, 1, 7, 7), 16),
    ],
)
def test_an_interpolated_value_depends_on_the_taps_of_its_mode(mode: str, shape: tuple[int, ...], taps: int) -> None:
    """Away from the border, where taps coincide, an output depends on as many inputs as we count for each."""
    written = {"scale_factor": 2.0, "mode": mode}
    layer = KINDS["Upsample"].create(written, (shape,))
    output = layer.output_shape((shape,))
    assert taps == touched("Upsample", written, shape)[1]
    assert {"resize": taps * torch.Size(output).numel()} == layer.cost((shape,), output).other
