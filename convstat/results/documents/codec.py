"""A result's annotations declare its JSON document: written, read back, checked and described from that one place.

A field's type says what its value is in the document; ``Annotated`` adds what the type alone does not say: a bound, a
choice, a sentence about it. A property that is among the :class:`Keys` of its class is written as fields are, and
passed over when a document is read. The checks are those of the JSON Schema, and stricter in three points:
``1.0`` is no integer, because counts are exact, a number is finite and below
:data:`~convstat.results.documents.problems.LARGEST`, and values of any kind (the arguments of a layer) are held to
the same, and to a depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from fractions import Fraction
from functools import cache, reduce
from operator import attrgetter
from types import FunctionType, NoneType, UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

from convstat.grammar.axes import plain
from convstat.results.documents.problems import LARGEST, LONGEST, WORDS, Path, Problem, Problems, TooManyError, shown

Schema = dict[str, Any]


class Note(NamedTuple):
    """What ``Annotated`` adds to a type; a sentence about a field is a text alone."""

    value: Any


class Least(Note):
    """A bound of an integer."""


class Matches(Note):
    """The form of a text, as a regular expression."""


class Example(Note):
    """A value as it may be."""


class OneOf(tuple[Any, ...]):
    """All the values that there are."""

    __slots__ = ()

    def __new__(cls, *values: Any) -> OneOf:
        """Take them as arguments."""
        return super().__new__(cls, values)


class Each(OneOf):
    """The names that a mapping has, all of them and in this order."""

    __slots__ = ()


class Keys(NamedTuple):
    """What of a class is written, and in which order; all its fields where ``keys`` is empty.

    A key is the name of a field or of a property, ``in=input_shapes`` where the document has another name for it,
    or ``model.name`` for a part of a part, which is written as ``name``. Those named in ``sparse`` are
    :data:`SPARSE` here. Under a ``name`` the object has a definition of its own in a schema.
    """

    keys: str = ""
    name: str = ""
    sparse: str = ""


class Presence(Note):
    """How a field may be missing from a document; one that is, has its default."""


class Blank(Note):
    """How a text without content is written."""


ADDED = Presence("always written; documents that were saved before the field was added lack it")
SPARSE = Presence("left out where it has its default")
BLANK = Blank("an empty text is null")

Count = Annotated[int, Least(0)]
Shape = tuple[Count, ...]
Ratio = Annotated[Fraction, float]
"""A fraction that is always written with a decimal point; any other is an integer where it is whole."""


class Document:
    """A result that has a document."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; see ``convstat schema report``."""
        return to_document(self)


class Saved(Document):
    """A result that is read back from its document."""

    __slots__ = ()
    schema: ClassVar[str]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read back a document that fits its schema; what comes from outside is checked by :func:`problems` first."""
        found: Self = declared(cls).read(data)  # type: ignore[arg-type]  # a class is hashable
        return found


def to_document(value: Any) -> dict[str, Any]:
    """Write an object whose class declares what its document is."""
    document: dict[str, Any] = declared(value.__class__).write(value, value)
    return document


class Node:
    """What one value of a document is.

    ``types`` are those that it can have as JSON, ``words`` call it by name in messages.
    An integer from ``least`` on is known to fit without a look; for what is no integer there is none.
    A value that ``is_plain`` is in the document what it is in the result.
    """

    types: tuple[type, ...] = ()
    words = ""
    least = LARGEST
    is_plain = True

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe it; named objects are put into the definitions."""
        raise NotImplementedError

    def check(self, value: Any, path: Path, found: Problems) -> None:
        """Note what does not fit."""
        if value.__class__ in self.types:
            self.look(value, path, found)
        else:
            found.add(path, f"{shown(value)} where {self.words} belongs")

    def look(self, value: Any, path: Path, found: Problems) -> None:
        """Note what does not fit in a value of the right type."""
        found.measure(value, path)

    def write(self, value: Any, root: Any) -> Any:
        """Make JSON of it, as a part of the document of ``root``."""
        return value

    def read(self, value: Any) -> Any:
        """Make of JSON that fits what was written."""
        return value


class Anything(Node):
    """A value that nothing is declared of."""

    is_plain = False

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {}

    def check(self, value: Any, path: Path, found: Problems) -> None:
        found.look_into(value, path)

    def write(self, value: Any, root: Any) -> Any:
        return plain(value)


ANYTHING = Anything()


class Text(Node):
    """A text, of a form if it has one."""

    types = (str,)
    words = WORDS[str]

    def __init__(self, pattern: str | None = None) -> None:
        self.pattern = pattern

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "string"} if self.pattern is None else {"type": "string", "pattern": self.pattern}

    def look(self, value: Any, path: Path, found: Problems) -> None:
        found.measure(value, path)
        if self.pattern is not None and re.search(self.pattern, value) is None:
            found.add(path, f"{shown(value)} does not have the form {self.pattern}")


class Boolean(Node):
    """True or false."""

    types = (bool,)
    words = WORDS[bool]

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "boolean"}


class Integer(Node):
    """An integer, which may have a least value."""

    types = (int,)

    def __init__(self, minimum: int | None = None) -> None:
        self.minimum = minimum
        self.least = -LARGEST + 1 if minimum is None else minimum
        self.words = WORDS[int] if minimum is None else f"{WORDS[int]} of at least {minimum}"

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "integer"} if self.minimum is None else {"type": "integer", "minimum": self.minimum}

    def look(self, value: Any, path: Path, found: Problems) -> None:
        if self.minimum is not None and value < self.minimum:
            found.add(path, f"{shown(value)} is less than {self.minimum}")
        else:
            found.measure(value, path)


class Number(Node):
    """A number that need not be whole; ``convert`` makes it of a fraction."""

    types = (int, float)
    words = WORDS[float]
    is_plain = False

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self.convert = convert

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "number"}

    def write(self, value: Any, root: Any) -> Any:
        return self.convert(value)


class Choice(Node):
    """One of some values."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values
        self.types = tuple({type(value) for value in values})
        self.words = " or ".join(map(shown, values))

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"const": self.values[0]} if len(self.values) == 1 else {"enum": list(self.values)}

    def check(self, value: Any, path: Path, found: Problems) -> None:
        # 1 and true are equal in Python.
        if not any(value.__class__ is known.__class__ and value == known for known in self.values):
            known = ", ".join(map(shown, self.values))
            found.add(path, f"{shown(value)} is {'not' if len(self.values) == 1 else 'none of'} {known}")

    look = check


class OrNull(Node):
    """A value, or null; with ``blank`` an empty one is written as null."""

    def __init__(self, inner: Node, blank: bool) -> None:
        self.inner = inner
        self.blank = blank
        self.types = (*inner.types, NoneType)
        self.words = f"{inner.words} or null"
        self.least = inner.least
        self.is_plain = inner.is_plain and not blank

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        inner = self.inner.schema(definitions)
        if "type" in inner:
            return {**inner, "type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}

    def look(self, value: Any, path: Path, found: Problems) -> None:
        if value is not None:
            self.inner.look(value, path, found)

    def write(self, value: Any, root: Any) -> Any:
        return None if value is None or (self.blank and not value) else self.inner.write(value, root)

    def read(self, value: Any) -> Any:
        if value is None:
            return "" if self.blank else None
        return self.inner.read(value)


class Array(Node):
    """A list of values of one kind."""

    types = (list,)
    words = WORDS[list]
    is_plain = False

    def __init__(self, items: Node) -> None:
        self.items = items

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        return {"type": "array", "items": self.items.schema(definitions)}

    def look(self, value: Any, path: Path, found: Problems) -> None:
        items = self.items
        for place, inner in enumerate(value):
            if not (inner.__class__ is int and items.least <= inner < LARGEST):
                items.check(inner, (*path, place), found)

    def write(self, value: Any, root: Any) -> Any:
        write = self.items.write
        return list(value) if self.items.is_plain else [write(item, root) for item in value]

    def read(self, value: Any) -> Any:
        return tuple(map(self.items.read, value))


class Table(Node):
    """Names with values of one kind; of any names, or of ``names``."""

    types = (dict,)
    words = WORDS[dict]
    is_plain = False

    def __init__(self, values: Node, names: tuple[str, ...] = ()) -> None:
        self.values = values
        self.nodes = dict.fromkeys(names, values)
        self.others = ANYTHING if names else values
        self.required = names

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        inner = self.values.schema(definitions)
        if self.nodes:
            return {"type": "object", "properties": dict.fromkeys(self.nodes, inner), "required": list(self.nodes)}
        return {"type": "object", "additionalProperties": inner} if inner else {"type": "object"}

    def look(self, value: Any, path: Path, found: Problems) -> None:
        for name in self.required:
            if name not in value:
                found.add(path, f"'{name}' is missing")
        for name, inner in value.items():
            node = self.nodes.get(name, self.others)
            # Most values are integers that fit: they are not worth a call.
            if not (inner.__class__ is int and node.least <= inner < LARGEST):
                node.check(inner, (*path, name), found)
            if len(name) > LONGEST:
                found.add(path, f"a name of {len(name):,} characters: the limit is {LONGEST:,}")

    def write(self, value: Any, root: Any) -> Any:
        write = self.values.write
        return dict(value) if self.values.is_plain else {name: write(inner, root) for name, inner in value.items()}

    def read(self, value: Any) -> Any:
        read = self.values.read
        return {name: read(inner) for name, inner in value.items()}


class Key(NamedTuple):
    """One key of an object: what its value is, and how it comes about; ``field`` is None where it is computed.

    ``value`` finds it in the object; with ``of_root`` it is given the whole result, too.
    """

    name: str
    node: Node
    value: Callable[..., Any]
    of_root: bool
    field: str | None
    about: Schema
    presence: Presence | None
    default: Any


class Object(Table):
    """An object of a class."""

    def __init__(self, kind: type, keys: Keys) -> None:
        if not (keys.keys or _parameters(kind)):
            raise TypeError(f"nothing says what {kind} is in a document")
        self.kind = kind
        self.name = keys.name
        self.keys = [_key(kind, text, keys) for text in keys.keys.split() or _parameters(kind)]
        self.nodes = {key.name: key.node for key in self.keys}
        self.others = ANYTHING
        self.required = tuple(key.name for key in self.keys if key.presence is None)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        if self.name not in definitions:
            described: Schema = {"type": "object", "properties": {}, "required": list(self.required)}
            if self.name:
                definitions[self.name] = described
            described["properties"] |= {key.name: {**key.node.schema(definitions), **key.about} for key in self.keys}
            if not self.name:
                return described
        return {"$ref": f"#/$defs/{self.name}"}

    def write(self, value: Any, root: Any) -> Any:
        document = {}
        for name, node, get, of_root, _, _, presence, default in self.keys:
            found = get(value, root) if of_root else get(value)
            if presence is not SPARSE or found != default:
                document[name] = found if node.is_plain else node.write(found, root)
        return document

    def read(self, value: Any) -> Any:
        return self.kind(
            **{key.field: key.node.read(value[key.name]) for key in self.keys if key.field and key.name in value}
        )


@cache
def declared(kind: type, keys: Keys | None = None) -> Object:
    """Give what the documents of a class are; with ``keys``, of that part of it."""
    own: Keys = getattr(kind, "KEYS", Keys())
    return Object(kind, keys or own)


def problems(kind: type, document: Any) -> list[Problem]:
    """Give what does not fit in a document of a class, at most :data:`~convstat.results.documents.problems.MOST`."""
    found = Problems()
    with suppress(TooManyError):
        declared(kind).check(document, (), found)
    return found


@cache
def _hints(owner: Any) -> dict[str, Any]:
    """The types of a class or of a function, with what stands beside them."""
    return get_type_hints(owner, include_extras=True)


@cache
def _parameters(kind: Any) -> dict[str, Any]:
    """The fields that an object is made of, and their defaults."""
    if not hasattr(kind, "__dataclass_fields__"):
        return dict.fromkeys(getattr(kind, "_fields", ()), MISSING)
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(kind)
    }


def _key(kind: type, text: str, keys: Keys) -> Key:
    """Read one of the keys of a class."""
    renamed, _, path = text.rpartition("=")
    hint, value, of_root = _member(kind, path)
    _, said = _said(hint)
    about: Schema = {"description": said[str]} if str in said else {}
    if Example in said:
        about["examples"] = [said[Example].value]
    presence = SPARSE if path in keys.sparse.split() else said.get(Presence)
    parameters = _parameters(kind)
    found = node_of(hint)
    if presence is SPARSE and isinstance(found, OrNull):
        found = found.inner
    field = path if path in parameters else None
    return Key(renamed or path.rpartition(".")[2], found, value, of_root, field, about, presence, parameters.get(path))


def _said(hint: Any) -> tuple[Any, dict[type, Any]]:
    """Give a type alone, and what stands beside it by its class."""
    if get_origin(hint) is not Annotated:
        return hint, {}
    bare, *notes = get_args(hint)
    return bare, {type(note): note for note in notes}


def _member(kind: type, path: str) -> tuple[Any, Callable[..., Any], bool]:
    """The type of a field, a property or a method, how its value is found, and whether it is given the whole result."""
    name, _, rest = path.partition(".")
    member = getattr(kind, name, None)
    if isinstance(member, property):
        hint = _hints(member.fget)["return"]
    elif isinstance(member, FunctionType):
        return _hints(member)["return"], member, True
    else:
        hint = _hints(kind)[name]
    if get_origin(hint) is ClassVar:
        hint = Annotated[str, OneOf(member)]
    if not rest:
        # Documents have many parts: an attribute is not worth a call of Python's.
        return hint, attrgetter(name), False
    part, *others = [inner for inner in (get_args(hint) or (hint,)) if inner is not NoneType]
    assert not others, f"{kind.__name__}.{path}: {hint}"
    inner_hint, inner_value, of_root = _member(part, rest)

    def value(value: Any, *root: Any) -> Any:
        owner = getattr(value, name)
        return None if owner is None else inner_value(owner, *root)

    if part is hint:
        return inner_hint, value, of_root
    # What is said of the field stays said of it.
    hint = reduce(lambda made, note: Annotated[made, note], _said(inner_hint)[1].values(), inner_hint | None)
    return hint, value, of_root


def node_of(hint: Any) -> Node:
    """Give what the values of a type are in a document."""
    hint, said = _said(hint)
    origin, inside = get_origin(hint), get_args(hint)
    if OneOf in said:
        return Choice(said[OneOf])
    if Blank in said:
        return OrNull(node_of(hint), blank=True)
    if origin in (Union, UnionType):
        kinds = [inner for inner in inside if inner is not NoneType]
        if len(kinds) == 1:
            inner = node_of(kinds[0])
            return inner if isinstance(inner, OrNull) else OrNull(inner, blank=False)
        if not {int, Fraction}.issuperset(kinds):
            return ANYTHING
        return Number(plain) if kinds == list(inside) else OrNull(Number(plain), blank=False)
    if origin is tuple:
        return Array(node_of(inside[0]))
    if origin is Mapping:
        return Table(node_of(inside[1]), said.get(Each, ()))
    if hint is Any:
        return ANYTHING
    if hint is str:
        return Text(said[Matches].value if Matches in said else None)
    if hint is bool:
        return Boolean()
    if hint is int:
        return Integer(said[Least].value if Least in said else None)
    if hint in (float, Fraction):
        return Number(said.get(type, plain))
    return declared(hint, said.get(Keys))
