"""The bytes of a saved document -> the result that it holds, once it is known to be what its class declares.

Whoever saved it, it comes from outside: it is held against limits first, then against what is declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from convstat.errors import Diagnostic, SourceError
from convstat.results.documents.codec import Saved, problems
from convstat.results.documents.problems import shown

T = TypeVar("T", bound=Saved)

MAX_BYTES = 128_000_000
"""The size of a file: a report of 100,000 layers, the most that a spec can have, has some 75 million bytes."""

MAX_VALUES = 10_000_000
"""Values in one file: three bytes can be a list, which takes twenty times as much memory."""


def read(data: bytes, name: str, kinds: Sequence[type[T]], what: str) -> T:
    """Read the one document of a file; ``name`` is what messages call it, ``what`` what it should be.

    It is that of one of the classes, which its ``schema`` tells. Raises SourceError.
    """
    document = _decoded(data, name, what)
    if isinstance(document, list):
        if len(document) != 1:
            raise SourceError(f"{name} holds {len(document)} reports; save them one by one")
        document = document[0]
    if not isinstance(document, dict):
        raise SourceError(f"{name} is not {what}")
    schema = document.get("schema")
    kind = next((kind for kind in kinds if kind.schema == schema), None)
    if kind is None:
        known = " or ".join(f"'{kind.schema}'" for kind in kinds)
        has = f"its schema is {shown(schema)}, not {known}" if "schema" in document else "it names no schema"
        raise SourceError(f"{name} is not {what}: {has}")
    if found := problems(kind, document):
        raise SourceError([Diagnostic(f"{name}: {problem}") for problem in found])
    return kind.from_dict(document)


def _decoded(data: bytes, name: str, what: str) -> Any:
    import json

    if len(data) > MAX_BYTES:
        raise SourceError(f"{name} is larger than {MAX_BYTES:,} bytes, the limit for {what}")
    if not data.strip():
        raise SourceError(f"{name} is empty, not {what}")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise SourceError(f"{name} holds more than {MAX_VALUES:,} values, the limit for {what}")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_refuse)
    except RecursionError:
        raise SourceError(f"{name} is not a JSON document that can be read: it nests too deep") from None
    except ValueError as error:
        raise SourceError(f"{name} is not a JSON document: {error}") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a value of JSON")
