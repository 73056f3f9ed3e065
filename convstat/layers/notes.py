"""What is said of the kinds of layers and of the blocks: why a formula is so, special cases, and the source."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Form(NamedTuple):
    """A part of a formula: what it counts, in letters, and the arguments that must be set for it to be there.

    It is ``usual`` where it is there with the defaults of the arguments.
    """

    about: str
    symbols: str
    needs: tuple[str, ...] = ()
    usual: bool = True

    @property
    def condition(self) -> str:
        """When it is there, in words; empty where it always is."""
        return f"where {' and '.join(self.needs)}" if self.needs else ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"about": self.about, "symbols": self.symbols, "needs": list(self.needs), "usual": self.usual}


class Notes(NamedTuple):
    """What is said of a kind or a family: why, special cases as ``(case, words)``, and where it is written."""

    why: tuple[str, ...]
    special: tuple[tuple[str, str], ...] = ()
    sources: tuple[str, ...] = ()
    output: str = ""


_GUIDE = "Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285"
_TORCH = "the documentation of torch.nn"

_CONV = Notes(
    (
        "Every value of the output is a sum of products: for each tap of the kernel and each channel of the input that "
        "its group sees, one multiplication and one addition. That is (C_in/g) times the size of the kernel, and "
        "there are C_out values at each position of the output.",
        "The same kernel is used at every position, so the parameters are those of one position; of the bias there is "
        "one for each channel. Adding it is no multiply-accumulate.",
    ),
    (
        ("groups = 1", "every output sees every channel: the plain convolution"),
        ("groups = g", "MACs and weights are 1/g of those of the plain convolution"),
        ("groups = C_in", "depthwise: each channel is filtered alone, so C_in/g is 1"),
        ("kernel_size = 1", "pointwise: a Linear(C_in, C_out) at each position"),
        ("kernel as large as the input", "one position is left: a Linear over all values of the input"),
        ("dilation", "moves the taps apart and adds none; only the size of the output changes"),
        ("stride", "only through the size of the output: twice the stride in 2-D, about a quarter of the MACs"),
        (
            "padding",
            "taps that fall on padding count, as everybody counts them; the mode of the padding does not matter",
        ),
    ),
    (_GUIDE, "groups: Krizhevsky et al. 2012; depthwise: Howard et al., arXiv:1704.04861"),
    "floor((in + 2*padding - dilation*(kernel_size - 1) - 1) / stride) + 1, along each axis",
)

_TRANSPOSED = Notes(
    (
        "It is the convolution from C_out to C_in read backwards: every value of the input, of which there are C_in at "
        "each position of the input, is spread over the whole kernel in each of the C_out/g channels of its group, one "
        "multiply-accumulate for each.",
        "So the positions are those of the input. The zeros that one may picture between the inputs are never "
        "multiplied; with the positions of the output the figure would be too large by the product of the strides.",
    ),
    (
        ("groups = g", "MACs and weights are 1/g of those with one group"),
        ("kernel_size = stride", "the spread kernels do not overlap: each output is C_in/g products"),
        ("stride, dilation, padding", "change the size of the output, as output_padding does, and no count"),
        ("parameters", "as many as the convolution's, with the channels in the other order"),
    ),
    (_GUIDE + ", chapter 4",),
    "(in - 1)*stride - 2*padding + dilation*(kernel_size - 1) + output_padding + 1, along each axis",
)

_RECURRENT_CASES = (
    ("num_layers", "the formula is that of each layer; those above the first read the state of all directions below"),
    ("bidirectional", "D is 2, and the layers above read 2*S features"),
    ("batch_first", "which axis is the batch does not change the product"),
    ("the first step", "multiplies a state of zeros, as torch does: it counts"),
    ("bias", "torch keeps two biases for each gate, one with each product"),
)

KINDS: Mapping[str, Notes] = MappingProxyType(
    {
        "Conv": _CONV,
        "ConvTranspose": _TRANSPOSED,
        "Linear": Notes(
            ("Every output is a dot product of the whole input: F_in multiply-accumulates for each of F_out.",),
            (
                ("more axes", "the map is applied at each position P of the axes before the last"),
                ("as a convolution", "a convolution with kernel_size = 1 is this at every pixel"),
                ("bias", "one addition for each output, which is no multiply-accumulate"),
            ),
            (_TORCH,),
        ),
        "Bilinear": Notes(
            (
                "y[k] = sum over i, j of x1[i] * W[k, i, j] * x2[j]. A term has three factors; the sum is "
                "contracted in "
                "two steps, x1 with every matrix W[k], and the vector that leaves with x2, as torch does.",
            ),
            (),
            ("aten/src/ATen/native/Linear.cpp of pytorch: bilinear, _trilinear",),
        ),
        "Embedding": Notes(
            ("A row of the table is copied, not multiplied.",),
            (("as a product", "a product with one-hot vectors would be the same values; nobody computes it so"),),
            (_TORCH,),
        ),
        "MultiheadAttention": Notes(
            (
                "Queries, keys, values and the output are linear maps at every position. Between them, each head "
                "compares every query with every key (the scores) and sums up the values with these weights.",
                "The heads share out the width, E/h each, so that their number cancels out.",
            ),
            (
                ("self-attention of n positions", "4*n*E*E + 2*n*n*E: linear in n at first, quadratic in the end"),
                ("num_heads", "changes neither MACs nor parameters"),
                ("kdim, vdim", "E_k and E_v; embed_dim unless they are set"),
                ("softmax, scaling", "no multiply-accumulates"),
            ),
            ("Vaswani et al., Attention is all you need, arXiv:1706.03762",),
        ),
        "TransformerEncoderLayer": Notes(
            (
                "Self-attention, which is four linear maps and two products, and a feed-forward part of two linear "
                "maps; "
                "two norms and two additions, which are no multiply-accumulates.",
                "In self_attn, n_q = n_k is the length of the sequence, and E, E_k, E_v are all d_model. In "
                "linear1 F_in is "
                "d_model and F_out is dim_feedforward; in linear2 the other way round.",
            ),
            (
                ("nhead", "changes neither MACs nor parameters"),
                ("norm_first, activation, dropout", "change no count"),
            ),
            ("Vaswani et al., Attention is all you need, arXiv:1706.03762",),
        ),
        "RNN": Notes(
            ("At every step, the input and the state are each multiplied with a matrix of H rows: one gate.",),
            _RECURRENT_CASES,
            ("Elman, Finding structure in time, 1990", _TORCH),
        ),
        "GRU": Notes(
            (
                "At every step, the input and the state are each multiplied with a matrix of H rows for each of 3 "
                "gates: "
                "reset, update, new.",
            ),
            _RECURRENT_CASES,
            ("Cho et al., arXiv:1406.1078", _TORCH),
        ),
        "LSTM": Notes(
            (
                "At every step, the input and the state are each multiplied with a matrix of H rows for each of 4 "
                "gates: "
                "input, forget, cell, output. What the gates do with the results is element by element.",
            ),
            (("proj_size = R", "the state is then R wide, and each step maps H to R"), *_RECURRENT_CASES),
            ("Hochreiter and Schmidhuber, Long short-term memory, 1997", _TORCH),
        ),
        "PReLU": Notes(
            ("One multiplication for each element where it is negative, which is no multiply-accumulate.",),
            (("num_parameters", "1, or one slope for each channel"),),
            ("He et al., arXiv:1502.01852",),
        ),
    }
)
"""By the name of the kind, without its number of dimensions."""

_WINDOW = (
    "floor((in + 2*padding - dilation*(kernel_size - 1) - 1) / stride) + 1, along each axis; adaptive: as asked for"
)

FAMILIES: Mapping[str, Notes] = MappingProxyType(
    {
        "convolution": _CONV,
        "linear": Notes(("It is a product with a matrix.",)),
        "normalisation": Notes(
            (
                "Each element is moved and scaled: that is work for each element, and no product of matrices, so there "
                "are no multiply-accumulates. It is reported as other work: norm.",
            ),
            (
                ("at inference", "a BatchNorm folds into the convolution before it, and costs nothing then"),
                ("running statistics", "are buffers, no parameters"),
                ("elementwise_affine, affine = false", "no parameters"),
            ),
            ("Ioffe and Szegedy, arXiv:1502.03167; Ba et al., arXiv:1607.06450; Wu and He, arXiv:1803.08494",),
        ),
        "activation": Notes(
            ("A function of each element, and no product: no multiply-accumulates. It is reported as other work.",)
        ),
        "pooling": Notes(
            ("Windows are read and compared or summed up, and nothing is multiplied by a weight.",),
            (
                (
                    "AvgPool2d as a convolution",
                    "it would be a depthwise one with fixed weights; it is not counted as one",
                ),
            ),
            (_GUIDE,),
            _WINDOW,
        ),
        "resize": Notes(
            ("Values are copied, moved or interpolated with fixed weights; nothing is learned.",),
            (("PixelShuffle", "moves channels to positions: the convolution before it has r*r times the channels"),),
        ),
        "padding": Notes(("Values are copied or left out.",)),
        "reshape": Notes(("Data is renamed or moved.",)),
        "dropout": Notes(("At inference it does nothing.",)),
        "attention": Notes(("Linear maps and products of sequences.",)),
        "recurrent": Notes(("A product with the input and one with the state for each gate at each step.",)),
        "learned": Notes(("Learned values that are added, appended or multiplied element by element.",)),
        "merge": Notes(
            ("Element by element, or side by side: no product of matrices, so no multiply-accumulates.",),
            (("concat", "widens what comes next, and that costs"),),
        ),
    }
)
"""By the family, for the kinds that have no notes of their own."""


class Block(NamedTuple):
    """A block: its sum, and what is said of it."""

    about: str
    macs: tuple[Form, ...]
    params: tuple[Form, ...]
    notes: Notes


_AREA = "H_out*W_out"

BLOCKS: Mapping[str, Block] = MappingProxyType(
    {
        "DepthwiseSeparableConv": Block(
            "Each channel filtered alone, then the channels mixed by a 1x1 convolution.",
            (Form("depthwise", f"N*m*C_in*{_AREA}*k*k"), Form("pointwise", f"N*C_out*{_AREA}*m*C_in")),
            (
                Form("depthwise.weight", "m*C_in*k*k"),
                Form("depthwise.bias", "m*C_in", ("bias",)),
                Form("pointwise.weight", "C_out*m*C_in"),
                Form("pointwise.bias", "C_out", ("bias",)),
            ),
            Notes(
                (
                    "A convolution filters and mixes at once; here each is a step of its own, and what was a "
                    "product is a sum.",
                ),
                (
                    ("beside Conv2d", "with m = 1, 1/C_out + 1/(k*k) of its MACs: at 3x3, 8 to 9 times fewer"),
                    ("multiplier = m", "each channel has m filters, so m times everything"),
                    ("dilation", "does not matter; taps on padding count"),
                ),
                ("Howard et al., MobileNets, arXiv:1704.04861, section 3.1",),
            ),
        ),
        "SpatiallySeparableConv": Block(
            "A kx1 convolution, then a 1xk one: full in the channels, separable in space.",
            (
                Form("vertical, k x 1", "N*C_mid*H_out*W_in*C_in*k"),
                Form("horizontal, 1 x k", f"N*C_out*{_AREA}*C_mid*k"),
            ),
            (
                Form("vertical.weight", "C_mid*C_in*k"),
                Form("vertical.bias", "C_mid", ("bias",)),
                Form("horizontal.weight", "C_out*C_mid*k"),
                Form("horizontal.bias", "C_out", ("bias",)),
            ),
            Notes(
                (
                    "A row of k taps on top of a column of k taps reaches k*k pixels with 2*k products. Each "
                    "convolution has "
                    "the stride and the padding of its own axis, so the first one's output is H_out x W_in.",
                ),
                (
                    (
                        "beside Conv2d",
                        "2/k of its MACs where all widths are equal and the stride is 1: at 3x3, a third less",
                    ),
                    ("beside ACBlock", "that has the two side by side with the square one, and costs more, not less"),
                ),
                ("Szegedy et al., Rethinking the Inception architecture, arXiv:1512.00567",),
            ),
        ),
        "ACBlock": Block(
            "Asymmetric convolutions in parallel: a square kernel, a vertical and a horizontal one, added up.",
            (
                Form("square, k x k", f"N*C_out*{_AREA}*(C_in/g)*k*k"),
                Form("vertical, k x 1", f"N*C_out*{_AREA}*(C_in/g)*k", ("not deploy",)),
                Form("horizontal, 1 x k", f"N*C_out*{_AREA}*(C_in/g)*k", ("not deploy",)),
            ),
            (
                Form("square.weight", "C_out*(C_in/g)*k*k"),
                Form("vertical.weight", "C_out*(C_in/g)*k", ("not deploy",)),
                Form("horizontal.weight", "C_out*(C_in/g)*k", ("not deploy",)),
                Form("three norms: weight, bias", "3*2*C_out", ("not deploy",)),
                Form("bias", "C_out", ("deploy",), False),
            ),
            Notes(
                (
                    "In training, the three paths run side by side, each with a batch norm and no bias, and are "
                    "added. The sum "
                    "of convolutions is a convolution: deployed, the paths fold into the square kernel, with a bias.",
                ),
                (
                    ("beside Conv2d", "1 + 2/k of its MACs in training, 1.667 at 3x3; deployed exactly its MACs"),
                    (
                        "padding below k/2",
                        "the asymmetric paths first cut the border that they do not need: the same size",
                    ),
                ),
                ("Ding et al., ACNet, arXiv:1908.03930; github.com/DingXiaoH/ACNet, acnet/acb.py",),
            ),
        ),
        "SqueezeExcitation": Block(
            "Channels weighted by what the whole picture says of them.",
            (Form("squeeze", "N*C_sq*C_in"), Form("excitation", "N*C_in*C_sq")),
            (
                Form("fc1.weight", "C_sq*C_in"),
                Form("fc1.bias", "C_sq"),
                Form("fc2.weight", "C_in*C_sq"),
                Form("fc2.bias", "C_in"),
            ),
            Notes(
                (
                    "Each channel is averaged to one value, and two 1x1 convolutions work on these: one position, "
                    "not H*W.",
                ),
                (("scaling the channels", "one multiplication for each element, which is no multiply-accumulate"),),
                ("Hu et al., arXiv:1709.01507",),
            ),
        ),
        "InvertedResidual": Block(
            "Narrow ends carry the data, a wide depthwise middle works on it.",
            (
                Form("expand, 1 x 1", "N*C_exp*H_in*W_in*C_in", ("C_exp != C_in",)),
                Form("depthwise, k x k", f"N*C_exp*{_AREA}*(C_exp/g)*k*k"),
                Form("squeeze", "N*C_sq*C_exp", ("se_ratio",), False),
                Form("excitation", "N*C_exp*C_sq", ("se_ratio",), False),
                Form("project, 1 x 1", f"N*C_out*{_AREA}*C_exp"),
            ),
            (
                Form("expand.weight", "C_exp*C_in", ("C_exp != C_in",)),
                Form("expand.bias", "C_exp", ("C_exp != C_in", "bias")),
                Form("expand_norm", "2*C_exp", ("C_exp != C_in",)),
                Form("depthwise.weight", "C_exp*(C_exp/g)*k*k"),
                Form("depthwise.bias", "C_exp", ("bias",)),
                Form("depthwise_norm", "2*C_exp"),
                Form("squeeze: weights", "2*C_exp*C_sq", ("se_ratio",), False),
                Form("squeeze: biases", "C_sq + C_exp", ("se_ratio",), False),
                Form("project.weight", "C_out*C_exp"),
                Form("project.bias", "C_out", ("bias",)),
                Form("project_norm", "2*C_out"),
            ),
            Notes(
                (
                    "The k x k convolution is depthwise (g is C_exp unless groups is set), so that it can be wide; "
                    "nearly all of the "
                    "work is in the two 1x1 convolutions.",
                    "C_exp is C_in*expand_ratio rounded, C_sq is C_exp*se_ratio rounded to a multiple of 8.",
                ),
                (
                    ("stride 1", "H*W*C_exp*(C_in + k*k + C_out), where H*W is the same throughout"),
                    ("expand_ratio = 1", "there is no expansion"),
                    ("the residual", "an addition for each element, where neither stride nor channels change"),
                ),
                ("Sandler et al., MobileNetV2, arXiv:1801.04381; Howard et al., MobileNetV3, arXiv:1905.02244",),
            ),
        ),
    }
)
