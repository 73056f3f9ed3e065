"""What a layer kind refuses, torch refuses too; the message says what is wrong and names the argument."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from convstat.errors import LayerError
from convstat.layers import KINDS

IMAGE = (1, 6, 8, 8)

Shapes = tuple[tuple[int, ...], ...]

CATALOGUE = """
Conv2d(in_channels=6, out_channels=6, kernel_size=1, groups=4) on 1x6x8x8
    groups: in_channels must be divisible by groups: in_channels=6, groups=4
Conv2d(in_channels=6, out_channels=8, kernel_size=1, groups=3) on 1x6x8x8
    groups: out_channels must be divisible by groups: out_channels=8, groups=3
Conv2d(in_channels=3, out_channels=8, kernel_size=1) on 1x6x8x8
    in_channels: in_channels=3, but the input 6x8x8 has 6
Conv2d(in_channels=6, out_channels=8, kernel_size=9) on 1x6x8x8
    kernel_size: larger than the padded input
Conv2d(in_channels=6, out_channels=8, kernel_size=3, padding='same', stride=2) on 1x6x8x8
    padding: padding='same' is not supported for strided convolutions
Conv2d(in_channels=6, out_channels=8, kernel_size=3, padding=8, padding_mode='reflect') on 1x6x8x8
    padding: too large for padding_mode='reflect'
Conv2d(in_channels=6, out_channels=8, kernel_size=3, padding=9, padding_mode='circular') on 1x6x8x8
    padding: too large for padding_mode='circular'
ConvTranspose2d(in_channels=6, out_channels=8, kernel_size=3, stride=2, output_padding=2) on 1x6x8x8
    output_padding: output padding must be smaller than either stride or dilation
Linear(in_features=9, out_features=2) on 1x6x8x8
    in_features: in_features=9, but the input 6x8x8 has 8
Bilinear(in1_features=8, in2_features=8, out_features=2) on 2x8, 3x8
    must agree in all but their last dimension
Embedding(num_embeddings=5, embedding_dim=2, padding_idx=5) on 2x3
    padding_idx: padding_idx must be within num_embeddings
BatchNorm2d(num_features=5) on 1x6x8x8
    num_features: num_features=5, but the input 6x8x8 has 6
BatchNorm1d(num_features=6) on 1x6x8x8
    takes an input of 1 or 2 dimensions
BatchNorm1d(num_features=6, track_running_stats=False) on 1x6
    track_running_stats: expected more than 1 value per channel
InstanceNorm2d(num_features=6) on 1x6x1x1
    track_running_stats: expected more than 1 spatial element
GroupNorm(num_groups=4, num_channels=6) on 1x6x8x8
    num_groups: num_channels must be divisible by num_groups: num_channels=6, num_groups=4
GroupNorm(num_groups=6, num_channels=6) on 1x6
    num_groups: expected more than 1 value per group
LayerNorm(normalized_shape=9) on 1x6x8x8
    normalized_shape: given normalized_shape=[9], expected an input that ends in it, not 6x8x8
RMSNorm(normalized_shape=[6, 8]) on 1x6x8x8
    normalized_shape: given normalized_shape=[6, 8]
LocalResponseNorm(size=2) on 2x6
    at least 2 dimensions
PReLU(num_parameters=3) on 1x6x8x8
    num_parameters: num_parameters must be 1 or the number of channels
GLU(dim=1) on 1x3x4
    dim: halving dimension must be even, but dimension 1 of 3x4 is 3
Softmax(dim=4) on 1x6x8x8
    dim: dimension out of range (expected to be in range of [-4, 3], but got 4)
Softmax2d() on 2x6
    takes an input of 3 dimensions
Hardtanh(min_val=1, max_val=1) on 1x6x8x8
    max_val: min_val must be < max_val
GELU(approximate='exact') on 1x6x8x8
    approximate: approximate must be one of none, tanh
MaxPool2d(kernel_size=3, padding=2) on 1x6x8x8
    padding: pad should be at most half of kernel size, but got pad=2
MaxPool2d(kernel_size=2, padding=2, dilation=3) on 1x6x8x8
    padding: pad should be at most half of kernel size, but got pad=2 and kernel_size=2
AvgPool2d(kernel_size=2, padding=2) on 1x6x8x8
    padding: pad should be at most half of kernel size, but got pad=2
AvgPool2d(kernel_size=2, divisor_override=0) on 1x6x8x8
    divisor_override: divisor must be not zero
AvgPool3d(kernel_size=2, padding=1) on 1x6x8x8x1
    kernel_size: input 6x8x8x1 smaller than kernel_size=[2, 2, 2]
MaxPool2d(kernel_size=9) on 1x6x8x8
    kernel_size: larger than the padded input 6x8x8
MaxPool2d(kernel_size=[2, 2, 2]) on 1x6x8x8
    kernel_size: kernel_size takes one integer or 2, not 3
AdaptiveAvgPool1d(output_size=[None]) on 1x6x8
    output_size: output_size must be an integer, not null
LPPool2d(norm_type=0, kernel_size=2) on 1x6x8x8
    norm_type: norm_type must not be 0
Upsample(size=4, scale_factor=2) on 1x6x8x8
    scale_factor: only one of size or scale_factor should be defined
Upsample() on 1x6x8x8
    either size or scale_factor should be defined
Upsample(size=[4]) on 1x6x8x8
    size: size takes one number or 2
Upsample(scale_factor=2, mode='linear') on 1x6x8x8
    mode: mode='linear' needs an input of 2 dimensions
Upsample(scale_factor=2, align_corners=True) on 1x6x8x8
    align_corners: align_corners option can only be set
Upsample(scale_factor=0.1) on 1x6x8x8
    scale_factor: input and output sizes should be greater than 0
Upsample(size=4, recompute_scale_factor=True) on 1x6x8x8
    recompute_scale_factor: not meaningful with an explicit size
PixelShuffle(upscale_factor=4) on 1x6x8x8
    upscale_factor: divisible by the square of upscale_factor: channels=6, upscale_factor=4
PixelUnshuffle(downscale_factor=3) on 1x6x8x8
    downscale_factor: height must be divisible by downscale_factor: height=8
ChannelShuffle(groups=4) on 1x6x8x8
    groups: number of channels must be divisible by groups: channels=6, groups=4
ZeroPad2d(padding=[9, -9, 0, 0]) on 1x6x8x8
    padding: leaves nothing of an input of 6x8x8
ReflectionPad2d(padding=8) on 1x6x8x8
    padding: padding size should be less than the corresponding input dimension
CircularPad2d(padding=9) on 1x6x8x8
    padding: wrapping around more than once
ZeroPad2d(padding=-5) on 1x6x8x8
    padding: leaves nothing of an input of 6x8x8
Flatten(start_dim=2, end_dim=1) on 1x6x8x8
    start_dim: start_dim cannot come after end_dim
Flatten(start_dim=4) on 1x6x8x8
    start_dim: dimension out of range
Unflatten(dim=1, unflattened_size=[4, -1]) on 1x6x8x8
    unflattened_size: which has 6 elements
Unflatten(dim=1, unflattened_size=[-1, -1]) on 1x6x8x8
    unflattened_size: only one dimension can be inferred
Dropout(p=1.5) on 1x6x8x8
    p: dropout probability has to be between 0 and 1, but got 1.5
Dropout1d(p=0.5) on 1x6x8x8
    takes an input of 1 or 2 dimensions
TransformerEncoderLayer(d_model=8, nhead=3) on 4x1x8
    nhead: embed_dim must be divisible by num_heads: d_model=8, nhead=3
TransformerEncoderLayer(d_model=8, nhead=2, dropout=2) on 4x1x8
    dropout: between 0 and 1
LSTM(input_size=3, hidden_size=4, proj_size=4) on 5x1x3
    proj_size: proj_size has to be smaller than hidden_size: proj_size=4, hidden_size=4
GRU(input_size=2, hidden_size=4) on 5x1x3
    input_size: input_size=2, but the input 1x3 has 3
RNN(input_size=3, hidden_size=4, dropout=2) on 5x1x3
    dropout: number in range [0, 1]
RNN(input_size=3, hidden_size=4, nonlinearity='gelu') on 5x1x3
    nonlinearity: must be one of tanh, relu
"""
"""Two lines each: a layer and the shapes of its inputs; the argument at fault, if there is one, and the message."""


def refusals() -> list[Any]:
    """Read the catalogue."""
    lines = CATALOGUE.strip().splitlines()
    found = []
    for what, why in zip(lines[::2], lines[1::2], strict=True):
        read = re.fullmatch(r"(\w+)\((.*)\) on ([\dx, ]+)", what)
        assert read, what
        kind, written, inputs = read.groups()
        shapes = tuple(tuple(map(int, shape.split("x"))) for shape in inputs.split(", "))
        argument, _, message = why.strip().partition(": ") if re.match(r" +\w+: ", why) else ("", "", why.strip())
        found.append(pytest.param(kind, eval(f"dict({written})"), shapes, argument, message, id=what))
    return found


def torch_refuses(kind: str, written: dict[str, Any], *shapes: tuple[int, ...]) -> bool:
    """Whether torch refuses to make or to run the module, on real tensors."""
    arguments = {name: tuple(v) if isinstance(v, list) else v for name, v in written.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            getattr(nn, kind)(**arguments).eval()(*map(torch.zeros, shapes))
        except (ValueError, RuntimeError, TypeError, AssertionError, ArithmeticError, IndexError):
            return True
    return False


def refusal(kind: str, written: dict[str, Any], shapes: Shapes) -> LayerError:
    """The error of a layer that cannot be made or cannot take its input."""

    def make() -> None:
        KINDS[kind].create(written, shapes).output_shape(shapes)

    with pytest.raises(LayerError) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(("kind", "written", "shapes", "argument", "message"), refusals())
def test_what_we_refuse_torch_refuses(
    kind: str, written: dict[str, Any], shapes: Shapes, argument: str, message: str
) -> None:
    """The message says what is wrong and names the argument, and torch refuses the same module or input."""
    error = refusal(kind, written, shapes)
    assert message in error.message
    assert argument == (error.argument or "")
    assert torch_refuses(kind, written, *shapes)


def test_torch_refuses_nothing_by_chance() -> None:
    """The helper can say no: a module that fits is not refused."""
    assert not torch_refuses("Conv2d", {"in_channels": 6, "out_channels": 6, "kernel_size": 1, "groups": 3}, IMAGE)


def attention_refused(module: nn.MultiheadAttention, *shapes: tuple[int, ...]) -> bool:
    """Whether attention refuses query, key and value of these shapes."""
    try:
        module(*map(torch.zeros, shapes))
    except (RuntimeError, AssertionError):
        return True
    return False


def test_attention_refuses_what_torch_refuses() -> None:
    """Heads that do not share out the width; keys of another width, batch or length."""
    with pytest.raises(LayerError, match="embed_dim must be divisible by num_heads: embed_dim=8, num_heads=3"):
        KINDS["MultiheadAttention"].create({"num_heads": 3}, ((5, 2, 8),))
    with pytest.raises(AssertionError, match="embed_dim must be divisible by num_heads"):
        nn.MultiheadAttention(8, 3)
    module = nn.MultiheadAttention(8, 2)
    query = (5, 2, 8)
    for others, message in (
        (((7, 2, 6), (7, 2, 8)), "embed_dim=8, but the key is 2x6"),
        (((7, 2, 8), (7, 2, 6)), "embed_dim=8, but the value is 2x6"),
        (((7, 3, 8), (7, 3, 8)), "must have one batch size"),
        (((7, 2, 8), (6, 2, 8)), "key and value one length"),
    ):
        with pytest.raises(LayerError, match=message):
            KINDS["MultiheadAttention"].create({"num_heads": 2}, (query, *others))
        assert attention_refused(module, query, *others)
    assert not attention_refused(module, query, (7, 2, 8), (7, 2, 8))


def test_operators_refuse_what_torch_refuses() -> None:
    """Shapes that do not broadcast or join, slices and orders that do not exist; both shapes are named."""
    a, b = (1, 6, 8, 8), (1, 5, 8, 8)
    x, y = torch.zeros(a), torch.zeros(b)
    for kind, written, shapes, message, twin in (
        ("add", {}, (a, b), "add: the shapes 6x8x8 and 5x8x8 do not match", lambda: x + y),
        ("mul", {}, (a, b), "mul: the shapes 6x8x8 and 5x8x8 do not match", lambda: x * y),
        ("concat", {"dim": 2}, (a, b), "not 6x8x8 and 5x8x8", lambda: torch.cat([x, y], 2)),
        ("concat", {"dim": 4}, (a, a), "dimension out of range", lambda: torch.cat([x, x], 4)),
        ("concat", {}, (a, (1, 6)), "not 6x8x8 and 6", lambda: torch.cat([x, torch.zeros(1, 6)], 1)),
        ("Select", {"dim": 1, "index": 6}, (a,), "index 6 is out of range", lambda: x.select(1, 6)),
        ("Select", {"dim": 4, "index": 0}, (a,), "dimension out of range", lambda: x.select(4, 0)),
        ("Permute", {"dims": [0, 1, 2]}, (a,), "each of the 4 dimensions", lambda: x.permute(0, 1, 2)),
        ("Permute", {"dims": [0, 1, 1, 2]}, (a,), "each of the 4 dimensions", lambda: x.permute(0, 1, 1, 2)),
        ("Reshape", {"shape": [7, -1]}, (a,), "which has 384 elements", lambda: x.reshape(1, 7, -1)),
        ("Reshape", {"shape": [-1, -1]}, (a,), "only one dimension", lambda: x.reshape(1, -1, -1)),
    ):
        assert message in refusal(kind, written, shapes).message
        with pytest.raises((RuntimeError, IndexError)):
            twin()


@pytest.mark.parametrize(
    ("kind", "written", "shapes", "message"),
    [
        ("Crop", {"cropping": 4}, (IMAGE,), "leaves nothing of an input of 6x8x8"),
        ("Crop", {"cropping": [1, 1, 1]}, (IMAGE,), "two for each dimension"),
        ("Crop", {"cropping": [0] * 6}, (IMAGE,), "two for each dimension"),
        ("Crop", {"cropping": -1}, (IMAGE,), "at least 0"),
        ("MaxPool2d", {"kernel_size": 2, "return_indices": True}, (IMAGE,), "a layer has one output"),
        ("ReLU", {"slope": 1}, (IMAGE,), "ReLU has no argument 'slope'"),
        ("Linear", {}, (IMAGE,), "Linear needs out_features"),
        ("Linear", {"out_features": 0}, (IMAGE,), "out_features must be at least 1, not 0"),
        ("Linear", {"out_features": 2.5}, (IMAGE,), "out_features must be an integer"),
        ("Linear", {"out_features": 2, "bias": 1}, (IMAGE,), "bias must be true or false, not 1"),
        ("Dropout", {"p": "half"}, (IMAGE,), "p must be a number, not 'half'"),
        ("Upsample", {"scale_factor": ["a"]}, (IMAGE,), "scale_factor must be a number"),
        ("Reshape", {"shape": 3}, (IMAGE,), "shape must be a list of integers, not 3"),
        ("Reshape", {"shape": []}, (IMAGE,), "shape must not be empty"),
        ("Reshape", {"shape": [-2]}, (IMAGE,), "at least -1"),
        ("Linear", {"out_features": 2}, (IMAGE, IMAGE), "Linear takes 1 input, not 2"),
        ("Bilinear", {"out_features": 2}, (IMAGE,), "Bilinear takes 2 inputs, not 1"),
        ("add", {}, (), "add takes at least 1 input"),
        ("Dropout", {"p": 10**400}, (IMAGE,), "p is too large"),
        ("Upsample", {"scale_factor": 1e308}, (IMAGE,), "scale_factor=1e+308 is too large"),
        ("LSTM", {"hidden_size": 2, "num_layers": 10**12}, ((1, 1, 1),), "num_layers is larger than 10,000"),
        ("RReLU", {"lower": 1, "upper": 0}, (IMAGE,), "lower must be <= upper"),
        ("PositionalEmbedding", {"num_positions": 4}, ((1, 5, 8),), "num_positions=4, but the input 5x8 has 5"),
    ],
)
def test_mistakes_are_refused_in_plain_words(
    kind: str, written: dict[str, Any], shapes: tuple[tuple[int, ...], ...], message: str
) -> None:
    """Unknown, missing and mistyped arguments, and a wrong number of inputs."""
    assert message in refusal(kind, written, shapes).message
