"""What every layer kind is made of.

A layer kind is a class with one :class:`Argument` per argument of its ``torch.nn`` twin,
in torch's order, with torch's names and torch's defaults::

    class Linear(Layer):
        in_features = Argument(Count(), infer=last_axis)
        out_features = Argument(Count())
        bias = Argument(Flag(), True)

From that one table come the constructor, the inline grammar, the JSON schema, ``convstat list layers``,
the documentation and the tests.
Beside it stand the shape rule, the cost, the parameters and the torch twin.
Shapes include the batch, as torch's do.
Nothing here imports torch, except inside ``build``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from convstat.errors import LayerError
from convstat.formulas.cost import FREE, OTHER_ENTRIES, Cost, Shape
from convstat.formulas.reads import Reads
from convstat.layers.arguments import (
    REQUIRED,
    Argument,
    Count,
    Either,
    Fixed,
    Flag,
    Integer,
    Kind,
    Optional,
    PerDim,
    Real,
    Reals,
    Sizes,
    Word,
    channel_axis,
    integer,
    last_axis,
    show,
)

if TYPE_CHECKING:
    import torch

    from convstat.formulas.derivation import Derivation
    from convstat.lifetimes.kernels import Kernels
    from convstat.lifetimes.tensors import Tensor

# A family imports all that it is made of from here.
__all__ = [
    "FREE",
    "OTHER_ENTRIES",
    "REQUIRED",
    "Argument",
    "Cost",
    "Count",
    "Either",
    "Fixed",
    "Flag",
    "Integer",
    "Kind",
    "Layer",
    "Optional",
    "Outputs",
    "PerDim",
    "Real",
    "Reals",
    "Sizes",
    "Word",
    "axis",
    "channel_axis",
    "divisors",
    "divisors_help",
    "integer",
    "last_axis",
    "made_by",
    "show",
    "show_shape",
]


class Layer(ABC):
    """One layer with its arguments settled.

    Two layers of one kind with equal arguments are equal, and hash alike.
    """

    arguments: ClassVar[Mapping[str, Argument[Any]]] = MappingProxyType({})
    shorts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    aliases: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = ""
    spatial_dims: ClassVar[int] = 0
    """How many spatial dimensions it works on, as the class states it: ``class Conv2d(_Conv, dims=2)``."""
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    """How many inputs it takes: at least, at most (None: any number)."""
    ranks: ClassVar[tuple[int, ...]] = ()
    """The numbers of dimensions, batch included, that the first input may have; empty: any."""
    min_rank: ClassVar[int] = 1
    """The least number of dimensions, batch included, where ``ranks`` is empty."""
    parameter_sizes: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """The learned tensors by torch's names, and what each of their sizes is: an argument of the layer, or a number."""
    input_dtype: ClassVar[str] = "float32"
    """``int64`` where the input must be indices."""
    functional: ClassVar[bool] = False
    """Whether the torch twin is an operator or function and not a module."""

    def __init_subclass__(cls, *, dims: int = 0, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "cost" in vars(cls) and "run" not in vars(cls):
            # It does other work, so that what its base runs is not known to be what it runs.
            cls.run = Layer.run  # type: ignore[method-assign]
        if dims:
            cls._work_on(dims)
        found: dict[str, Argument[Any]] = {}
        for base in reversed(cls.__bases__):
            found.update(getattr(base, "arguments", {}))
        for name, value in vars(cls).items():
            if isinstance(value, Argument):
                found[name] = value
            elif value is None:
                # A subclass may set an inherited argument to None: torch's twin does not have it.
                found.pop(name, None)
        cls.arguments = MappingProxyType(found)
        cls.shorts = MappingProxyType({a.short: n for n, a in cls.arguments.items() if a.short})

    @classmethod
    def _work_on(cls, dims: int) -> None:
        """Settle what depends on the number of spatial dimensions: the arguments with one value for each, the ranks."""
        cls.spatial_dims = dims
        for name, argument in {**cls.arguments, **vars(cls)}.items():
            if isinstance(argument, Argument):
                own = argument.over(dims)
                setattr(cls, name, own)
                own.__set_name__(cls, name)
        if "min_rank" not in vars(cls) and "ranks" not in vars(cls):
            cls.ranks = (dims + 2,)

    @classmethod
    def kind(cls) -> str:
        """The name in a spec: the name of the class, which is torch.nn's."""
        return cls.__name__

    @classmethod
    def scalar_argument(cls) -> str | None:
        """The argument that a bare value stands for (``Linear: 1000``): the first that must be written, else the first.

        >>> from convstat.layers import BatchNorm2d, Conv2d
        >>> Conv2d.scalar_argument(), BatchNorm2d.scalar_argument()
        ('out_channels', 'num_features')
        """
        required = (name for name, argument in cls.arguments.items() if argument.required)
        return next(required, next(iter(cls.arguments), None))

    @classmethod
    def create(cls, written: Mapping[str, object], inputs: tuple[Shape, ...]) -> Layer:
        """Make the layer from what was written and the shapes of its inputs.

        Inferred arguments are filled in, or checked where they were written.
        Raises LayerError for an unknown, missing or impossible argument, or an input it cannot take.
        """
        unknown = [name for name in written if name not in cls.arguments]
        if unknown:
            raise LayerError(f"{cls.kind()} has no argument '{unknown[0]}'", argument=unknown[0])
        cls.check_inputs(inputs)
        values: dict[str, Any] = {}
        for name, argument in cls.arguments.items():
            value = written.get(name, REQUIRED)
            if argument.infer is not None and (value is REQUIRED or value is None):
                values[name] = argument.infer(inputs[argument.source])
            elif value is not REQUIRED:
                values[name] = argument.kind.parse(value, name)
                if argument.infer is not None and argument.strict:
                    shape = inputs[argument.source]
                    if values[name] != (actual := argument.infer(shape)):
                        raise LayerError(
                            f"{name}={values[name]}, but the input {show_shape(shape)} has {actual}", argument=name
                        )
            elif argument.default is REQUIRED:
                raise LayerError(f"{cls.kind()} needs {name}", argument=name)
            else:
                values[name] = argument.default_value
        layer = object.__new__(cls)
        layer.__dict__.update(values)
        layer.check(inputs)
        return layer

    @classmethod
    def check_inputs(cls, inputs: tuple[Shape, ...]) -> None:
        """Refuse a number of inputs or a number of dimensions that the layer cannot take."""
        low, high = cls.arity
        if len(inputs) < low or (high is not None and len(inputs) > high):
            wanted = f"{low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
            raise LayerError(f"{cls.kind()} takes {wanted} input{'s' if wanted != '1' else ''}, not {len(inputs)}")
        if cls.ranks and len(inputs[0]) not in cls.ranks:
            wanted = " or ".join(str(rank - 1) for rank in cls.ranks)
            raise LayerError(
                f"{cls.kind()} takes an input of {wanted} dimensions (without the batch), not {show_shape(inputs[0])}"
            )
        if not cls.ranks and len(inputs[0]) < cls.min_rank:
            wanted = str(cls.min_rank - 1)
            raise LayerError(
                f"{cls.kind()} takes an input of at least {wanted} dimensions (without the batch),"
                f" not {show_shape(inputs[0])}"
            )

    def check(self, inputs: tuple[Shape, ...]) -> None:
        """Refuse arguments that do not go together or with the input; in torch's words where torch has them."""

    @abstractmethod
    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """The shape of the output."""

    @abstractmethod
    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        """The work of one call."""

    @classmethod
    def needs(cls, parameter: str) -> tuple[str, ...]:
        """The arguments that must be set for a layer to have a parameter."""
        whole = tuple(flag for flag in ("affine", "elementwise_affine") if flag in cls.arguments)
        is_bias = parameter.rpartition(".")[2] == "bias" and "bias" in cls.arguments
        return (*whole, "bias") if is_bias else whole

    def parameters(self) -> Mapping[str, Shape]:
        """The shapes of the learned tensors, by the names that torch gives them."""
        values = self.__dict__
        return {
            name: self._shape(sizes)
            for name, sizes in self.parameter_sizes.items()
            if all(values[flag] for flag in self.needs(name))
        }

    def _shape(self, sizes: tuple[str, ...]) -> Shape:
        shape: list[int] = []
        for name in sizes:
            size = self.__dict__.get(name, name)
            shape += size if isinstance(size, tuple) else (int(size) if isinstance(size, str) else size,)
        return tuple(shape)

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        """Run the kernels of the torch twin in evaluation, each of which allocates what it does in torch.

        A kind that does not say what it runs raises NotImplementedError: its memory is then followed in torch.
        """
        raise NotImplementedError(self.kind())

    def _parameter(self, kernels: Kernels, name: str) -> Tensor:
        """A learned tensor, for what its shape and strides decide; its memory is counted before anything runs."""
        return kernels.parameter(self.parameters()[name])

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation | None:
        """The MACs of one call as a formula, for who wants to follow them; None where there are none, or no formula.

        Its value is that of ``cost``, which is what counts.
        """
        return None

    def activations(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """The elements of the outputs of its convolutions and matrix products; asked only of a layer that has MACs."""
        return prod(output)

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        """Which positions of its inputs an output position depends on; the reason where that is not known."""
        return f"{self.kind()} does not say which positions it reads"

    @classmethod
    def parameter_axes(cls) -> Mapping[str, tuple[str, ...]]:
        """What the sizes of the parameters are called, by the parameter's name, where they have names."""
        return cls.parameter_sizes

    def buffers(self) -> Mapping[str, tuple[Shape, str]]:
        """The shapes and dtypes of the other stored tensors; the dtype ``"float"`` follows the model's."""
        return {}

    def build(self) -> torch.nn.Module:
        """Make the torch twin: the class of the same name in ``torch.nn``, or else in ``convstat.layers.twins``.

        An operator has a twin too: a module whose forward is that operator and nothing else.
        """
        from torch import nn

        from convstat.layers import twins

        name = type(self).__name__
        twin = getattr(nn, name, None) or getattr(twins, name, None)
        if twin is None:
            raise NotImplementedError(
                f"the layer kind {name} has no torch twin: no class {name} in torch.nn or convstat/layers/twins.py, "
                "and no method build() of its own"
            )
        module: torch.nn.Module = twin(**self.torch_arguments())
        return module

    def torch_arguments(self) -> dict[str, Any]:
        """The arguments for the torch twin; those at their default are left to torch, which may be too old for them."""
        return {name: tuple(v) if isinstance(v, list) else v for name, v in self.written().items()}

    def call(self, module: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        """Run the torch twin."""
        output: torch.Tensor = module(*inputs)
        return output

    def params(self) -> int:
        """The number of learned values.

        >>> from convstat.layers import Linear
        >>> Linear.create({"out_features": 10}, ((1, 64),)).params() == 64 * 10 + 10
        True
        """
        return sum(prod(shape) for shape in self.parameters().values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """The arguments and their values, in torch's order."""
        for name in self.arguments:
            yield name, self.__dict__[name]

    def written(self, *, defaults: bool = False) -> dict[str, Any]:
        """The arguments as one would write them: without those that are torch's default, unless asked for."""
        result: dict[str, Any] = {}
        for name, value in self.items():
            argument = self.arguments[name]
            if not defaults and argument.default is not REQUIRED and value == argument.default_value:
                continue
            if isinstance(value, tuple):
                # Sizes that are all null have no short form: torch refuses a bare null.
                same = argument.kind.dims and len(set(value)) == 1 and value[0] is not None
                value = value[0] if same else list(value)
            result[name] = value
        return result

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a layer cannot be changed: {self.kind()}.{name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__.values())))

    def __repr__(self) -> str:
        return f"{self.kind()}({', '.join(f'{name}={value!r}' for name, value in self.items())})"


class Outputs(NamedTuple):
    """Elements of outputs: of all layers, of convolutions and matrix products, and of convolutions alone."""

    output_elements: int = 0
    activations: int = 0
    conv_activations: int = 0

    def times(self, runs: int) -> Outputs:
        """Those of several calls."""
        return Outputs(runs * self.output_elements, runs * self.activations, runs * self.conv_activations)

    def plus(self, other: Outputs) -> Outputs:
        """Those of both."""
        return Outputs(
            self.output_elements + other.output_elements,
            self.activations + other.activations,
            self.conv_activations + other.conv_activations,
        )


def made_by(layer: Layer, inputs: tuple[Shape, ...], output: Shape, macs: int) -> Outputs:
    """The elements that one call of a layer with these MACs gives.

    >>> from convstat.layers import Conv2d
    >>> conv = Conv2d.create({"out_channels": 8, "kernel_size": 3}, ((1, 3, 6, 6),))
    >>> made_by(conv, ((1, 3, 6, 6),), (1, 8, 4, 4), 3456)
    Outputs(output_elements=128, activations=128, conv_activations=128)
    """
    elements = prod(output)
    if type(macs) is int and not macs:
        return Outputs(elements)
    activations = layer.activations(inputs, output)
    return Outputs(elements, activations, activations if layer.family == "convolution" else 0)


def show_shape(shape: Shape) -> str:
    """Show a shape without its batch, the way ``--input`` takes it.

    >>> show_shape((1, 3, 224, 224))
    '3x224x224'
    """
    return "x".join(map(str, shape[1:]))


def axis(dim: int, shape: Shape, name: str = "dim") -> int:
    """Turn a dimension that may count from the end into an index; ``name`` is the argument that it stands in.

    >>> axis(-1, (1, 3, 224, 224))
    3
    """
    rank = len(shape)
    if not -rank <= dim < rank:
        raise LayerError(
            f"dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got {dim})", argument=name
        )
    return dim % rank


def divisors(*numbers: int) -> list[int]:
    """The common divisors of some numbers, ascending.

    >>> divisors(64, 48)
    [1, 2, 4, 8, 16]
    """
    smallest = min(numbers)
    low = [d for d in range(1, int(smallest**0.5) + 1) if smallest % d == 0]
    every = sorted({*low, *(smallest // d for d in low)})
    return [d for d in every if all(n % d == 0 for n in numbers)]


def divisors_help(**numbers: int) -> str:
    """Say what would divide some arguments: all their common divisors, or the ends of a long list.

    >>> divisors_help(in_channels=6, out_channels=8)
    'divisors of in_channels=6 and out_channels=8: 1, 2'
    >>> divisors_help(embed_dim=768)
    'divisors of embed_dim=768: 1, 2, 3, 4, 6, 8, 12, 16, ..., 192, 256, 384, 768'
    """
    found = [str(d) for d in divisors(*numbers.values())]
    if len(found) > 16:
        found = [*found[:8], "...", *found[-4:]]
    return f"divisors of {' and '.join(f'{name}={n}' for name, n in numbers.items())}: {', '.join(found)}"
