"""The arguments of layers: what kind of value each takes, and how it reads, checks and describes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from fractions import Fraction
from typing import Any, Generic, TypeVar, overload

from convstat.errors import LayerError
from convstat.formulas.cost import Shape
from convstat.formulas.symbolic import Symbolic

T = TypeVar("T")


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

    def over(self, dims: int) -> Kind[T]:
        """The same for so many spatial dimensions, where it asks for one value for each."""
        return self


def integer(value: object, name: str, minimum: int | None = None) -> int:
    """Read an exact integer; a fraction must come out whole."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Fraction, Symbolic)):
        raise LayerError(f"{name} must be an integer, not {show(value)}", argument=name)
    if isinstance(value, Symbolic):
        whole: int = value if value.is_whole() else int(value.amount)  # type: ignore[assignment]
    else:
        whole = int(value)
    if whole is not value and whole != value:
        raise LayerError(
            f"{name} must be an integer, not {show(value)}",
            argument=name,
            help="use // for integer division, or floor(), ceil() or round8()",
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
        if isinstance(value, bool) or not isinstance(value, (int, float, Fraction, Symbolic)):
            raise LayerError(f"{name} must be a number, not {show(value)}", argument=name)
        try:
            return float(value)  # type: ignore[arg-type]  # a number with a formula is asked for its amount
        except OverflowError:
            raise LayerError(f"{name} is too large for a floating-point number", argument=name) from None

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
    """An integer for all spatial dimensions, or a list with one for each; read as a tuple.

    How many there are follows from the layer (``spatial_dims``). With two ``sides``, each side has one of its own.
    """

    def __init__(self, minimum: int | None = 1, *, sides: int = 1, dims: int = 0) -> None:
        self.minimum = minimum
        self.sides = sides
        self.dims = sides * dims

    def over(self, dims: int) -> PerDim:
        return PerDim(self.minimum, sides=self.sides, dims=dims)

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

    def over(self, dims: int) -> Optional[T]:
        return Optional(self.kind.over(dims))

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

    def over(self, dims: int) -> Either:
        return Either(self.words, self.kind.over(dims))

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

    def over(self, dims: int) -> Argument[T]:
        """The same argument of a layer over so many spatial dimensions."""
        made = copy(self)
        made.kind = self.kind.over(dims)
        return made

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.default_value = None if self.default in (None, REQUIRED) else self.kind.parse(self.default, name)

    @overload
    def __get__(self, instance: None, owner: type) -> Argument[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Argument[T] | T:
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
