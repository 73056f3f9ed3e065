"""What a counter answers, written plainly, so that it can come from a process in which anything may have happened.

Numbers, texts, lists and mappings of them, and the classes in :data:`CLASSES` can be written; reading makes nothing
else, and runs no code that the writer could choose. Numbers are written in hexadecimal, which has no limit of digits.
What is read is as little to be trusted as what a counter of another package gives here, so both are checked
(:mod:`convstat.counters.checked`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from json import JSONDecoder
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from convstat import errors
from convstat.counters.base import CounterFailure, Prediction, Reported, Term, Unfit
from convstat.counters.capture import first_line
from convstat.errors import ConvstatError, Diagnostic, InternalError

CLASSES: Mapping[str, tuple[type, tuple[str, ...]]] = {
    kind.__name__: (kind, tuple(kind.__dataclass_fields__)) for kind in (Reported, Prediction, Term, Diagnostic)
}
"""The classes that can be written, with their fields."""


def _refuse(text: str) -> Any:
    raise ValueError(f"a bare number: {text[:20]}")


_decode = JSONDecoder(parse_float=_refuse, parse_int=_refuse, parse_constant=_refuse).decode


def written(value: Any) -> bytes:
    """Write a value, in JSON; raises TypeError where it holds what cannot be written."""
    # By functions that are there since the import: what a counter does to the module json changes nothing here.
    return _text(value).encode("ascii")


def read(data: bytes) -> Any:
    """Read what :func:`written` gives; raises ValueError for anything else.

    >>> read(written((1, -2.5, "a", None, True, {"b": 10**5000})))[:5]
    (1, -2.5, 'a', None, True)
    """
    try:
        return _made(_decode(data.decode("ascii")))
    except (ValueError, TypeError, IndexError, RecursionError, OverflowError) as error:
        raise ValueError(f"not a written value: {error}") from None


def _text(value: Any) -> str:
    kind = type(value)
    if value is None or kind is bool:
        return "null" if value is None else "true" if value else "false"
    if kind is int:
        return f'["int","{value:x}"]'
    if kind is float:
        return f'["float","{value.hex()}"]'
    if kind is str:
        return f'["str",{_quoted(value)}]'
    if kind in (tuple, list):
        return f'["tuple",{_list(map(_text, value))}]'
    if isinstance(value, Mapping):
        return f'["dict",{_list(f"[{_text(key)},{_text(item)}]" for key, item in value.items())}]'
    if kind.__name__ in CLASSES and CLASSES[kind.__name__][0] is kind:
        return f'["{kind.__name__}",{_list(_text(getattr(value, name)) for name in CLASSES[kind.__name__][1])}]'
    raise TypeError(f"cannot write {kind.__name__}")


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(texts)}]"


def _made(plain: Any) -> Any:
    if plain is None or type(plain) is bool:
        return plain
    if type(plain) is not list or len(plain) != 2 or type(plain[0]) is not str:
        raise ValueError("neither null nor a pair")
    return _of_kind(*plain)


def _of_kind(kind: str, content: Any) -> Any:
    if type(content).__name__ != ("str" if kind in ("int", "float", "str") else "list"):
        raise ValueError(f"no {kind[:20]}")
    if kind == "int":
        return int(content, 16)
    if kind == "float":
        return float.fromhex(content)
    if kind == "str":
        return content
    if kind == "tuple":
        return tuple(_made(item) for item in content)
    if kind == "dict":
        return {_made(key): _made(item) for key, item in content}
    if kind not in CLASSES:
        raise ValueError(f"no class {kind[:20]}")
    return CLASSES[kind][0](*[_made(item) for item in content])


def outcome(ask: Callable[[], Any]) -> bytes:
    """Ask, and write what comes of it: the answer, or the failure; whatever is raised is one."""
    try:
        return written(("answer", ask()))
    except CounterFailure as failure:
        told: tuple[str, Any] = ("unfit" if isinstance(failure, Unfit) else "failure", (failure.reason, failure.help))
    except ConvstatError as error:
        # A place in a text is told by the message alone.
        problems = [Diagnostic(d.message, None, tuple(d.notes), tuple(d.help)) for d in error.diagnostics]
        told = ("error", (type(error).__name__, problems))
    except InternalError as error:
        told = ("fault", str(error))
    except BaseException as error:
        told = ("failure", (first_line(error), None))
    return written(told)


def answer(data: bytes) -> Any:
    """Give the answer that an outcome has, or raise its failure; raises ValueError for what is no outcome."""
    what, content = _pair(read(data))
    if what == "answer":
        return content
    if what == "fault" and type(content) is str:
        raise InternalError(content)
    first, second = _pair(content)
    if what in ("failure", "unfit") and type(first) is str and type(second) in (str, type(None)):
        raise (Unfit if what == "unfit" else CounterFailure)(first, second)
    kind = getattr(errors, first, None) if what == "error" and type(first) is str else None
    if isinstance(kind, type) and issubclass(kind, ConvstatError) and second and all(map(_is_problem, second)):
        raise kind(second)
    raise ValueError("no outcome")


def _pair(value: Any) -> tuple[Any, Any]:
    if type(value) is not tuple or len(value) != 2:
        raise ValueError("no outcome")
    return value[0], value[1]


def _is_problem(value: Any) -> bool:
    return (
        type(value) is Diagnostic
        and type(value.message) is str
        and value.mark is None
        and all(type(part) is tuple and all(type(line) is str for line in part) for part in (value.notes, value.help))
    )
