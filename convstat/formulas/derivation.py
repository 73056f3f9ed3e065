"""A count as one would write it on paper: products of named factors, and their sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

AXES = {1: ("l",), 2: ("h", "w"), 3: ("d", "h", "w")}
"""What the axes of a feature map are called, by their number."""


class Factor(NamedTuple):
    """One factor: what it is, and how large it is here; ``parts`` are those of one like ``in_channels/groups``."""

    name: str
    value: int
    parts: tuple[tuple[str, int], ...] = ()


class Product(NamedTuple):
    """Factors that are multiplied, and what they count."""

    factors: tuple[Factor, ...]
    about: str = ""

    @property
    def value(self) -> int:
        """The product."""
        return prod(factor.value for factor in self.factors)

    @property
    def symbols(self) -> str:
        """The names; the sizes of one tensor have one name for all of them."""
        names = [factor.name for factor in self.factors]
        is_one = len(set(names)) == 1 and names[0].endswith("elements")
        return names[0] if is_one else " * ".join(names)


class InconsistentError(RuntimeError):
    """A formula and the count that it derives disagree: one of them is wrong, and neither may be shown."""


class Derivation(NamedTuple):
    """Products that are summed up."""

    products: tuple[Product, ...]

    @property
    def value(self) -> int:
        """The sum."""
        return sum(product.value for product in self.products)

    @property
    def symbols(self) -> str:
        """The formula with its names."""
        return " + ".join(product.symbols for product in self.products)

    def checked(self, counted: int, about: str) -> Derivation:
        """This formula, if it comes to what was counted; raises InconsistentError if not."""
        if self.value != counted:
            raise InconsistentError(f"the formula of {about}, {self}, does not come to {counted:,}, which is counted")
        return self

    @property
    def numbers(self) -> str:
        """The formula with the values in the place of the names."""
        return " + ".join("*".join(str(factor.value) for factor in product.factors) for product in self.products)

    def __str__(self) -> str:
        return f"{self.symbols} = {self.worked_out}"

    @property
    def worked_out(self) -> str:
        """The values and what they come to; a single one is that already."""
        is_one = len(self.products) == 1 and len(self.products[0].factors) == 1
        return f"{self.value:,}" if is_one else f"{self.numbers} = {self.value:,}"


Named = tuple[str, int] | tuple[str, int, tuple[tuple[str, int], ...]]
"""A factor as it is written below: its name, its size, and its parts where it has some."""


def product(*factors: Named, about: str = "") -> Product:
    """Make a product; a batch of one is left out, since nobody writes it.

    >>> str(Derivation((product(("batch", 1), ("in", 3), ("out", 4)), product(("batch", 2), ("out", 4)))))
    'in * out + batch * out = 3*4 + 2*4 = 20'
    """
    return Product(tuple(Factor(*factor) for factor in factors if factor != ("batch", 1)), about)


def quotient(name: str, size: int, other: str, divisor: int) -> Factor:
    """Make a factor of a size shared out.

    >>> quotient("in_channels", 64, "groups", 4).name
    'in_channels/groups'
    """
    return Factor(f"{name}/{other}", size // divisor, ((name, size), (other, divisor)))


def derivation(*factors: Named) -> Derivation:
    """Make a derivation of one product."""
    return Derivation((product(*factors),))


def axes(lead: str, sizes: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Name the sizes of a feature map or of a kernel.

    >>> axes("out", (112, 56)), axes("k", (3,))
    ((('out_h', 112), ('out_w', 56)), (('k_l', 3),))
    """
    names: Iterable[str] = AXES.get(len(sizes), tuple(map(str, range(len(sizes)))))
    return tuple((f"{lead}_{name}", size) for name, size in zip(names, sizes, strict=True))


def elements(name: str, shape: Sequence[int]) -> Derivation:
    """Every element of a tensor, once.

    >>> str(elements("output", (1, 8, 4, 4)))
    'output elements = 8*4*4 = 128'
    """
    sizes = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return derivation(*((f"{name} elements".strip(), size) for size in sizes or (1,)))


def conv(
    batch: int, in_channels: int, out_channels: int, out: Sequence[int], kernel: Sequence[int], groups: int
) -> Derivation:
    """A convolution, as :func:`convstat.formulas.conv.conv_macs` counts it.

    >>> str(conv(1, 3, 64, (112, 112), (7, 7), 1))
    'out_channels * out_h * out_w * in_channels/groups * k_h * k_w = 64*112*112*3*7*7 = 118,013,952'
    """
    return derivation(
        ("batch", batch),
        ("out_channels", out_channels),
        *axes("out", out),
        quotient("in_channels", in_channels, "groups", groups),
        *axes("k", kernel),
    )


def conv_transpose(
    batch: int, in_channels: int, out_channels: int, size: Sequence[int], kernel: Sequence[int], groups: int
) -> Derivation:
    """A transposed convolution, as :func:`convstat.formulas.conv.conv_transpose_macs` counts it: at its inputs.

    >>> str(conv_transpose(1, 8, 4, (5, 5), (2, 2), 2))
    'in_channels * in_h * in_w * out_channels/groups * k_h * k_w = 8*5*5*2*2*2 = 1,600'
    """
    return derivation(
        ("batch", batch),
        ("in_channels", in_channels),
        *axes("in", size),
        quotient("out_channels", out_channels, "groups", groups),
        *axes("k", kernel),
    )


def linear(shape: Sequence[int], in_features: int, out_features: int) -> Derivation:
    """A linear map at every position of its input, whose shape that is.

    >>> str(linear((2, 197, 768), 768, 3072))
    'batch * positions * out_features * in_features = 2*197*3072*768 = 929,562,624'
    """
    return derivation(
        ("batch", shape[0]),
        *((("positions", prod(shape[1:-1])),) if len(shape) > 2 else ()),
        ("out_features", out_features),
        ("in_features", in_features),
    )


def bilinear(positions: int, in1_features: int, in2_features: int, out_features: int) -> Derivation:
    """The two contractions of a bilinear map.

    >>> str(bilinear(1, 2, 3, 4))
    'out_features * in1_features * in2_features + out_features * in2_features = 4*2*3 + 4*3 = 36'
    """
    first = ("batch", positions), ("out_features", out_features)
    return Derivation(
        (
            product(*first, ("in1_features", in1_features), ("in2_features", in2_features), about="input 1 by weight"),
            product(*first, ("in2_features", in2_features), about="the result by input 2"),
        )
    )


def attention(batch: int, embed_dim: int, queries: int, keys: int, kdim: int, vdim: int, attended: int) -> Derivation:
    """Multi-head attention: four projections and two products.

    >>> attention(1, 8, 5, 5, 8, 8, 5).value == 4 * 5 * 8 * 8 + 2 * 5 * 5 * 8
    True
    """
    sample, width = ("batch", batch), ("embed_dim", embed_dim)
    length, others = ("queries", queries), ("keys", keys)
    seen = ("keys", attended) if attended == keys else ("keys and what is added to them", attended)
    return Derivation(
        (
            product(sample, length, width, width, about="queries"),
            product(sample, others, ("kdim", kdim), width, about="keys"),
            product(sample, others, ("vdim", vdim), width, about="values"),
            product(sample, length, seen, width, about="scores"),
            product(sample, length, seen, width, about="weighted sum"),
            product(sample, length, width, width, about="output"),
        )
    )


def matrix_product(left: Sequence[int], right: Sequence[int]) -> Derivation:
    """``(..., n, k) @ (..., k, m)``.

    >>> str(matrix_product((3, 4), (4, 5)))
    'rows * inner * columns = 3*4*5 = 60'
    """
    matrices = (("matrices", prod(left[:-2])),) if len(left) > 2 else ()
    return derivation(*matrices, ("rows", left[-2]), ("inner", left[-1]), ("columns", right[-1]))


def scaled_attention(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> Derivation:
    """The two products of scaled dot-product attention.

    >>> str(scaled_attention((1, 2, 5, 8), (1, 2, 5, 8), (1, 2, 5, 8)))
    'heads * queries * keys * size + heads * queries * keys * size = 2*5*5*8 + 2*5*5*8 = 800'
    """
    pairs = ("heads", prod(query[:-2])), ("queries", query[-2]), ("keys", key[-2])
    return Derivation(
        (
            product(*pairs, ("size", query[-1]), about="scores"),
            product(*pairs, ("size", value[-1]), about="weighted sum"),
        )
    )


def recurrent(
    calls: int, gates: int, inputs: Sequence[int], hidden_size: int, directions: int, proj_size: int
) -> Derivation:
    """A stack of cells, as :func:`convstat.formulas.recurrent.recurrent_macs` counts it; one product for each layer.

    >>> str(recurrent(7, 4, (10,), 20, 1, 0))
    'steps * gates * hidden_size * (input + state) = 7*4*20*30 = 16,800'
    """
    state = proj_size or hidden_size
    steps = (("steps", calls), *((("directions", directions),) if directions > 1 else ()))
    products = []
    for place, size in enumerate(inputs):
        read = Factor("(input + state)", size + state, (("input", size), ("state", state)))
        parts = (*steps, ("gates", gates), ("hidden_size", hidden_size), read)
        products.append(product(*parts, about=f"layer {place}"))
        if proj_size:
            projection = (*steps, ("hidden_size", hidden_size), ("proj_size", proj_size))
            products.append(product(*projection, about=f"projection of layer {place}"))
    return Derivation(tuple(products))
