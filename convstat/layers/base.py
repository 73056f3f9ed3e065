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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from convstat.errors import LayerError
from convstat.graph import Shape

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

OTHER_ENTRIES: Mapping[str, str] = MappingProxyType(
    {
        "bias": "additions of a bias, one per output element",
        "norm": "elements normalised",
        "activation": "elements passed through an activation function",
        "softmax": "elements passed through a softmax",
        "pool": "elements read by pooling windows, padding included",
        "resize": "elements read to interpolate",
        "elementwise": "element-wise additions, multiplications and the like, one per output element",
        "reduction": "elements read by sums, means, maxima and the like over a dimension",
        "fft": "elements that a Fourier transform delivers",
    }
)
"""The names under which work that is not MACs is reported, and the unit of each."""

_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Cost:
    """The work of one call: exact multiply-accumulates, and everything else by name."""

    macs: int = 0
    other: Mapping[str, int] = field(default_factory=lambda: _NOTHING)

    def __add__(self, added: Cost) -> Cost:
        other = dict(self.other)
        for name, amount in added.other.items():
            other[name] = other.get(name, 0) + amount
        return Cost(self.macs + added.macs, other)


FREE = Cost()
"""The cost of a layer that only moves or renames data."""


class Kind(ABC, Generic[T]):
    """The type of an argument: reads what the user wrote, and describes itself."""

    dims: int = 0

    @abstractmethod
    def parse(self, value: object, name: str) -> T:
        """Turn what was written into the value, or raise :class:`LayerError`."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of what may be written."""

    @abstractmethod
    def describe(self) -> str:
        """A few words for ``convstat list layers``."""


def integer(value: object, name: str, minimum: int | None = None) -> int:
    """Read an exact integer; a fraction must come out whole."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction)):
        raise LayerError(f"{name} must be an integer, not {show(value)}", argument=name)
    whole = int(value)
    if whole != value:
        raise LayerError(
            f"{name} must be an integer, not {show(value)}",
            argument=name,
            help="use // for whole division, or floor(), ceil() or round8()",
        )
    if minimum is not None and whole < minimum:
        raise LayerError(f"{name} must be at least {minimum}, not {whole}", argument=name)
    return whole


def _integer_schema(minimum: int | None) -> dict[str, Any]:
    return {"type": "integer"} if minimum is None else {"type": "integer", "minimum": minimum}


def show(value: object) -> str:
    """Show a value as the user would write it.

    >>> show(Fraction(64, 3)), show(True), show((1, 2)), show("same")
    ('21.3333', 'true', '[1, 2]', "'same'")
    """
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, Fraction):
        return f"{float(value):.6g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return repr(value)


class Count(Kind[int]):
    """An integer of at least ``minimum``."""

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum

    def parse(self, value: object, name: str) -> int:
        if type(value) is int and value >= self.minimum:
            return value
        return integer(value, name, self.minimum)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum}

    def describe(self) -> str:
        return "int" if self.minimum < 1 else "int >= 1"


class Integer(Kind[int]):
    """Any integer: a dimension or an index that may count from the end."""

    def parse(self, value: object, name: str) -> int:
        return integer(value, name)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer"}

    def describe(self) -> str:
        return "int"


class Flag(Kind[bool]):
    """True or false."""

    def parse(self, value: object, name: str) -> bool:
        if isinstance(value, bool):
            return value
        raise LayerError(f"{name} must be true or false, not {show(value)}", argument=name)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def describe(self) -> str:
        return "bool"


class Real(Kind[float]):
    """A number that is not counted with: a slope, an epsilon, a probability."""

    def parse(self, value: object, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, Fraction)):
            raise LayerError(f"{name} must be a number, not {show(value)}", argument=name)
        return float(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}

    def describe(self) -> str:
        return "number"


class Word(Kind[str]):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def parse(self, value: object, name: str) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        choices = ", ".join(self.words)
        raise LayerError(f"{name} must be one of {choices}, not {show(value)}", argument=name)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}

    def describe(self) -> str:
        return " | ".join(self.words)


class PerDim(Kind[tuple[int, ...]]):
    """An integer for all spatial dimensions (or sides), or a list with one for each; read as a tuple."""

    def __init__(self, dims: int, minimum: int | None = 1) -> None:
        self.dims = dims
        self.minimum = minimum

    def parse(self, value: object, name: str) -> tuple[int, ...]:
        if type(value) is int and (self.minimum is None or value >= self.minimum):
            return (value,) * self.dims
        if isinstance(value, (list, tuple)):
            if len(value) != self.dims:
                raise LayerError(
                    f"{name} takes one integer or {self.dims}, not {len(value)}: {show(value)}", argument=name
                )
            return tuple(integer(item, name, self.minimum) for item in value)
        return (integer(value, name, self.minimum),) * self.dims

    def schema(self) -> dict[str, Any]:
        item = _integer_schema(self.minimum)
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": self.dims, "maxItems": self.dims}]}

    def describe(self) -> str:
        return "int" if self.dims == 1 else f"int or [{', '.join(['int'] * self.dims)}]"


class Sizes(Kind["int | tuple[int, ...]"]):
    """An integer, or a list of integers whose length depends on the input; kept as written, a list as a tuple.

    ``minimum`` is the least that an item may be; None allows any.
    """

    def __init__(self, minimum: int | None = 1, *, scalar: bool = True) -> None:
        self.minimum = minimum
        self.scalar = scalar

    def parse(self, value: object, name: str) -> int | tuple[int, ...]:
        if isinstance(value, (list, tuple)):
            if not value:
                raise LayerError(f"{name} must not be empty", argument=name)
            return tuple(integer(item, name, self.minimum) for item in value)
        if not self.scalar:
            raise LayerError(f"{name} must be a list of integers, not {show(value)}", argument=name)
        return integer(value, name, self.minimum)

    def schema(self) -> dict[str, Any]:
        item = _integer_schema(self.minimum)
        several = {"type": "array", "items": item, "minItems": 1}
        return {"anyOf": [item, several]} if self.scalar else several

    def describe(self) -> str:
        return "int or [int, ...]" if self.scalar else "[int, ...]"


class Reals(Kind["float | tuple[float, ...]"]):
    """A number, or a list of numbers whose length depends on the input."""

    def parse(self, value: object, name: str) -> float | tuple[float, ...]:
        if isinstance(value, (list, tuple)):
            return tuple(Real().parse(item, name) for item in value)
        return Real().parse(value, name)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}

    def describe(self) -> str:
        return "number or [number, ...]"


class Fixed(Kind[bool]):
    """An argument that torch has and that convstat can count with one value only; ``why`` says so to who asks."""

    def __init__(self, value: bool, why: str) -> None:
        self.value = value
        self.why = why

    def parse(self, value: object, name: str) -> bool:
        if value is self.value:
            return self.value
        raise LayerError(f"{name} must be {show(self.value)}: {self.why}", argument=name)

    def schema(self) -> dict[str, Any]:
        return {"const": self.value}

    def describe(self) -> str:
        return show(self.value)


class Optional(Kind["T | None"], Generic[T]):
    """Another kind, or null."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind = kind
        self.dims = kind.dims

    def parse(self, value: object, name: str) -> T | None:
        return None if value is None else self.kind.parse(value, name)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.kind.schema(), {"type": "null"}]}

    def describe(self) -> str:
        return f"{self.kind.describe()} or null"


class Either(Kind[Any]):
    """One of a few words, or another kind: ``padding='same'`` or ``padding=1``."""

    def __init__(self, words: Word, kind: Kind[Any]) -> None:
        self.words = words
        self.kind = kind
        self.dims = kind.dims

    def parse(self, value: object, name: str) -> Any:
        return self.words.parse(value, name) if isinstance(value, str) else self.kind.parse(value, name)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.kind.schema(), self.words.schema()]}

    def describe(self) -> str:
        return f"{self.kind.describe()} | {self.words.describe()}"


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()
"""The default of an argument that must be written."""


class Argument(Generic[T]):
    """One argument of a layer: its kind, its default, and how it follows from the input if it may be left out.

    It is a descriptor: on a layer, ``layer.stride`` is the value; on the class, ``Conv2d.stride`` is this object.
    ``infer`` takes the shape of an input (the first, unless ``source`` names another by its index) and gives the value.
    What the user writes is then only checked against it;
    where ``strict`` is False, it is the default instead, and the layer's own ``check`` decides what may be written.
    """

    name: str = ""

    def __init__(
        self,
        kind: Kind[T],
        default: object = REQUIRED,
        *,
        infer: Callable[[Shape], Any] | None = None,
        source: int = 0,
        strict: bool = True,
        short: str | None = None,
    ) -> None:
        self.kind = kind
        self.default = default
        self.infer = infer
        self.source = source
        self.strict = strict
        self.short = short

    @property
    def required(self) -> bool:
        """Whether it must be written."""
        return self.default is REQUIRED and self.infer is None

    def __set_name__(self, owner: type[Layer], name: str) -> None:
        self.name = name
        self.default_value = None if self.default in (None, REQUIRED) else self.kind.parse(self.default, name)

    @overload
    def __get__(self, instance: None, owner: type[Layer]) -> Argument[T]: ...
    @overload
    def __get__(self, instance: Layer, owner: type[Layer]) -> T: ...
    def __get__(self, instance: Layer | None, owner: type[Layer]) -> Argument[T] | T:
        # Values stand in the instance's __dict__ and hide this descriptor, so on a layer we get here only in error.
        if instance is None:
            return self
        raise AttributeError(self.name)


def channel_axis(shape: Shape) -> int:
    """The channels of ``(N, C, ...)``."""
    return shape[1]


def last_axis(shape: Shape) -> int:
    """The features of ``(..., F)``."""
    return shape[-1]


class Layer(ABC):
    """One layer with its arguments settled.

    Two layers of one kind with equal arguments are equal, and hash alike.
    """

    arguments: ClassVar[Mapping[str, Argument[Any]]] = MappingProxyType({})
    shorts: ClassVar[Mapping[str, str]] = MappingProxyType({})
    aliases: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = ""
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    """How many inputs it takes: at least, at most (None: any number)."""
    ranks: ClassVar[tuple[int, ...]] = ()
    """The numbers of dimensions, batch included, that the first input may have; empty: any."""
    min_rank: ClassVar[int] = 1
    """The least number of dimensions, batch included, where ``ranks`` is empty."""
    input_dtype: ClassVar[str] = "float32"
    """``int64`` where the input must be indices."""
    functional: ClassVar[bool] = False
    """Whether the torch twin is an operator or function and not a module."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
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

    def parameters(self) -> Mapping[str, Shape]:
        """The shapes of the learned tensors, by the names that torch gives them."""
        return {}

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
        module: torch.nn.Module = getattr(nn if hasattr(nn, name) else twins, name)(**self.torch_arguments())
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
