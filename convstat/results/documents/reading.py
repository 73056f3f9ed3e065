"""The bytes of a saved document -> the document, once it is known to be what its schema says.

Whoever saved it, it comes from outside: it is held against limits first, then against its schema, and used after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from convstat.errors import Diagnostic, SourceError

if TYPE_CHECKING:
    from convstat.results.documents.validate import Node

MAX_BYTES = 128_000_000
"""The size of a file: a report of 100,000 layers, the most that a spec can have, has some 75 million bytes."""

MAX_VALUES = 10_000_000
"""Values in one file: three bytes can be a list, which takes twenty times as much memory."""


def read(data: bytes, name: str, schemas: Mapping[str, Callable[[], Node]], what: str) -> dict[str, Any]:
    """Read the one document of a file; ``name`` is what messages call it, ``what`` what it should be.

    ``schemas`` are those that are taken, by the name that documents have of them. Raises SourceError.
    """
    document = _decoded(data, name, what)
    if isinstance(document, list):
        if len(document) != 1:
            raise SourceError(f"{name} holds {len(document)} reports; save them one by one")
        document = document[0]
    if not isinstance(document, dict):
        raise SourceError(f"{name} is not {what}")
    schema = document.get("schema")
    make = schemas.get(schema) if isinstance(schema, str) else None
    if make is None:
        from convstat.results.documents.validate import shown

        known = " or ".join(f"'{known}'" for known in schemas)
        has = f"its schema is {shown(schema)}, not {known}" if "schema" in document else "it names no schema"
        raise SourceError(f"{name} is not {what}: {has}")
    if problems := make().check(document):
        raise SourceError([Diagnostic(f"{name}: {problem}") for problem in problems])
    return document


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


@cache
def report_validator() -> Node:
    """What checks a saved report."""
    from convstat.results.documents.report_schema import report_schema
    from convstat.results.documents.validate import validator

    definitions = report_schema()["$defs"]
    return validator(definitions["report"], definitions)


@cache
def baseline_validator() -> Node:
    """What checks a baseline file."""
    from convstat.results.documents.baseline_schema import baseline_schema
    from convstat.results.documents.validate import validator

    return validator(baseline_schema())
