"""The formula of a kind of layer in general: in letters, each of them explained, with the reason and where it is from.

The formulas are those that count: they are read off the layer kinds themselves. Only of a block, which is made of
layers, the sums are written down here, and the tests work them out against what is counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.errors import UsageError, did_you_mean
from convstat.formulas.notation import expression
from convstat.formulas.notes import Form
from convstat.layers import KINDS, NAMES, load_plugins, notes
from convstat.results.formula import KindFormula
from convstat.spec import shipped

if TYPE_CHECKING:
    from convstat.layers.base import Layer


def name_of(argument: str) -> str | None:
    """The kind of layer or the block that an argument names, if it names one; ``torch.nn.`` may lead it.

    >>> name_of("conv"), name_of("torch.nn.LSTM"), name_of("ACBlock"), name_of("net.yaml")
    ('Conv2d', 'LSTM', 'ACBlock', None)
    """
    name = re.sub(r"^(torch\.)?nn\.", "", argument)
    if name in shipped.NAMES:
        return name
    if name not in NAMES and name.isidentifier():
        load_plugins()
    return NAMES[name].kind() if name in NAMES else None


def refuse_unknown(argument: str) -> None:
    """Refuse a bare word that is no kind of layer; what has another form is a target."""
    if not re.fullmatch(r"(?:(?:torch\.)?nn\.)?\w+", argument):
        return
    from pathlib import Path

    if Path(argument).exists():
        return
    name = argument.rpartition(".")[2]
    raise UsageError(
        f"unknown layer '{name}'",
        help=(
            *_meant(name),
            "see: convstat list layers, convstat list blocks",
            "a network is a target as for analyze: convstat formula net.yaml",
        ),
    )


_MEANT = {
    "depthwise": ("DepthwiseSeparableConv", "Conv2d"),
    "separable": ("DepthwiseSeparableConv", "SpatiallySeparableConv"),
    "pointwise": ("Conv2d",),
    "mbconv": ("InvertedResidual",),
    "bottleneck": ("InvertedResidual",),
    "se": ("SqueezeExcitation",),
    "deconv": ("ConvTranspose2d",),
    "attention": ("MultiheadAttention",),
    "transformer": ("MultiheadAttention",),
    "fc": ("Linear",),
    "dense": ("Linear",),
}
"""What the field calls layers that have other names here."""


def _meant(name: str) -> tuple[str, ...]:
    """What a word most likely means: a known one, one that is a part of a name, one that is spelled like it."""
    word = re.sub(r"[\W_]|conv(?=.)|(?<=.)conv$|\dd$", "", name.lower()) or name.lower()
    known = list(dict.fromkeys([*NAMES, *shipped.NAMES]))
    inside = [kind for kind in known if len(word) > 2 and word in kind.lower()]
    found = [
        kind for kind in dict.fromkeys([*_MEANT.get(name.lower(), ()), *_MEANT.get(word, ()), *inside]) if kind in known
    ][:3]
    return (f"did you mean {' or '.join(repr(kind) for kind in found)}?",) if found else did_you_mean(name, known)


def kind_formula(name: str) -> KindFormula:
    """The formula of a kind of layer or of a block, by its own name."""
    if name in shipped.NAMES:
        block = notes.of_block(name)
        required = [key for key, default in shipped.defaults(name).items() if default is None]
        return KindFormula(name, block.about, block.macs, block.params, block.notes, _use(name, required, "64x56x56"))
    kind = KINDS[name]
    required = [key for key, argument in kind.arguments.items() if argument.required]
    about = " ".join((kind.__doc__ or "").partition("\n\n")[0].replace("``", "").split())
    said = notes.of_kind(re.sub(r"\dd$", "", name), kind.family)
    return KindFormula(name, about, _macs(kind), _params(kind), said, _example(kind, required))


_SIZES: Mapping[str, str] = {
    "out_channels": "128", "kernel_size": "3", "out_features": "10", "num_embeddings": "1000", "embedding_dim": "64",
    "num_heads": "4", "nhead": "4", "num_groups": "8", "groups": "8", "hidden_size": "128", "output_size": "7",
    "padding": "1", "cropping": "1", "size": "5", "norm_type": "2", "threshold": "0", "value": "0",
    "upscale_factor": "2", "downscale_factor": "2", "dim": "1", "unflattened_size": "[8,8]", "shape": "[-1]",
    "dims": "[0,2,3,1]", "index": "0", "squeeze_channels": "16",
}  # fmt: skip
"""What an example writes for an argument that it must."""

_INPUTS: Mapping[str, str] = {"Linear": "64", "Embedding": "128"}
_BY_RANK = {2: "64", 3: "64x56", 4: "64x56x56", 5: "64x8x28x28"}


def _use(name: str, required: list[str], shape: str) -> str:
    """How a kind is written with sizes, for an example that can be run."""
    written = ", ".join(f"{key}={_SIZES.get(key, '2')}" for key in required)
    if name == "Upsample":
        written = "scale_factor=2"
    return f"convstat formula '{name}({written})' -i {shape}"


def _example(kind: type[Layer], required: list[str]) -> str:
    """An example of a kind; none of one with several inputs, which cannot stand alone."""
    name = kind.kind()
    if kind.arity[0] > 1 or kind.functional:
        return ""
    rank = 4 if not kind.ranks or 4 in kind.ranks else max(kind.ranks)
    return _use(name, required, _INPUTS.get(name, _BY_RANK[rank]))


_SAMPLES: Mapping[str, tuple[dict[str, object], tuple[tuple[int, ...], ...]]] = {
    **{
        f"{name}{dims}d": ({"out_channels": 2, "kernel_size": 2}, ((2, 2, *(3,) * dims),))
        for name in ("Conv", "ConvTranspose")
        for dims in (1, 2, 3)
    },
    "Linear": ({"out_features": 2}, ((2, 2, 2),)),
    "Bilinear": ({"out_features": 2}, ((2, 2), (2, 2))),
    "MultiheadAttention": ({"num_heads": 1, "batch_first": True}, ((2, 3, 4),)),
    "TransformerEncoderLayer": ({"nhead": 1, "dim_feedforward": 8, "batch_first": True}, ((2, 3, 4),)),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), ({"hidden_size": 3, "bidirectional": True}, ((2, 2, 2),))),
}
"""A layer of every kind that multiplies, with nothing left out of its formula: a batch of two, two directions."""


def _macs(kind: type[Layer]) -> tuple[Form, ...]:
    if kind.kind() not in _SAMPLES:
        return ()
    written, shapes = _SAMPLES[kind.kind()]
    if "proj_size" in kind.arguments:
        written = {**written, "proj_size": 2}
    layer = kind.create(written, shapes)
    found = layer.derivation(shapes, layer.output_shape(shapes))
    assert found is not None
    found.checked(layer.cost(shapes, layer.output_shape(shapes)).macs, kind.kind())
    forms = []
    for product in found.products:
        about = product.about.replace("projection of layer 0", "projection").replace("layer 0", "each layer")
        needs = ("proj_size",) if about == "projection" else ()
        forms.append(Form(about, "*".join(expression(factor.name) for factor in product.factors), needs, not needs))
    return tuple(forms)


_STACKED = "weight_hr"
_MERGED = "in_proj_weight"


def _params(kind: type[Layer]) -> tuple[Form, ...]:
    forms = []
    axes = kind.parameter_axes()
    for name, words in axes.items():
        # Where keys and values are as wide as the queries, torch keeps the three as one: the same number.
        if name == _MERGED or (name == _STACKED and "proj_size" not in kind.arguments):
            continue
        if name == "bias" and "bias" not in kind.arguments:
            continue
        # Each direction of a stack of cells has its own.
        factors = ("directions", *words) if _STACKED in axes else words
        symbols = "*".join(expression(word) for word in factors if word != "1")
        needs = _needs(kind, name)
        forms.append(Form(name, symbols, needs, all(kind.arguments[flag].default_value for flag in needs)))
    return tuple(forms)


def _needs(kind: type[Layer], name: str) -> tuple[str, ...]:
    """The arguments without which a layer has no such parameter."""
    if name in ("bias_k", "bias_v"):
        return ("add_bias_kv",)
    if name == _STACKED:
        return ("proj_size",)
    # Of the parts of a larger layer, the biases alone may be missing.
    return kind.needs("bias" if "bias" in name else name)
