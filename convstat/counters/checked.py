"""What a counter and its answers have to be: anything else is its failure, whoever's and from wherever it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from convstat.counters.adapter import Adapter
from convstat.counters.base import Counter, CounterFailure, Prediction, Reported, Term
from convstat.counters.causes import VERDICTS
from convstat.counters.passes import Made
from convstat.trace.walks import Walk

T = TypeVar("T")

LARGEST = 10**100
"""More than this nobody counts; a number of thousands of digits can be neither written nor divided."""

LONGEST = 10_000
"""Characters of a text."""


LONGEST_NAME = 100
"""Characters of a counter's name: it is a word of ``--counters``, and a cell of a table."""

_METHODS = ("version", "run", "predict", "why_not_meta", "retrace")
_TEXTS = ("name", "variant", "unit", "help")
_RESERVED = ("default", "all", "conventions", "llm", "none", "convstat")


def counter(value: Any) -> Counter:
    """Refuse what is no counter: raises TypeError or ValueError for what its attributes are, if they are there at all.

    An attribute of a counter of another package may be computed, so all are read here, where they can do no harm.
    """
    kind = f"the counter {type(value).__module__}.{type(value).__name__}"
    needed = (*_TEXTS, *_METHODS, "walk") if isinstance(value, Adapter) else (*_TEXTS, *_METHODS)
    if missing := [name for name in needed if not hasattr(value, name)]:
        raise TypeError(f"{kind} has no {', '.join(missing)}")
    texts = {name: getattr(value, name) for name in _TEXTS} | {"counts": getattr(value, "counts", "")}
    defects = getattr(value, "defects", ())
    if not isinstance(defects, (tuple, list)):
        raise TypeError(f"{kind}: its defects are not a tuple")
    for name, said in (*texts.items(), *(("defects", each) for each in defects)):
        if type(said) is not str or len(said) > LONGEST:
            raise TypeError(f"{kind}: its {name} is not a string, or is longer than {LONGEST:,} characters")
    name = texts["name"]
    if name in _RESERVED or not re.fullmatch(r"[^\s,=]+", name) or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"a counter cannot be called {name[:LONGEST_NAME]!r}")
    causes = getattr(value, "causes", None) or {}
    if not isinstance(causes, Mapping) or not all(map(_is_cause, causes.items())):
        raise TypeError(f"{kind}: its causes are not (verdict, sentence) by code, with one of {', '.join(VERDICTS)}")
    walks = getattr(value, "walks", ())
    if type(walks) is not tuple or not all(type(walk) is Walk for walk in walks):
        raise TypeError(f"{kind}: its walks are not a tuple of Walk")
    if (made := getattr(value, "made", "seen")) not in get_args(Made):
        raise TypeError(f"{kind}: what it makes of modules is {made!r}, and none of {', '.join(get_args(Made))}")
    return value  # type: ignore[no-any-return]


def _is_cause(item: tuple[Any, Any]) -> bool:
    code, said = item
    if type(code) is not str or type(said) is not tuple or not all(type(part) is str for part in said):
        return False
    return len(said) == 2 and said[0] in VERDICTS


def reported(value: Any) -> Reported:
    """Refuse what is no answer: a tool's figure is a whole number from 0, or none."""
    if type(value) is not Reported:
        raise CounterFailure(f"its adapter gave {type(value).__name__}, and not Reported")
    for name in ("params", "macs"):
        figure = getattr(value, name)
        _whole(name, figure)
        if figure is not None and figure < 0:
            raise CounterFailure(f"its {name} are less than nothing: {figure!r}")
    _figures("memory_mib", value.memory_mib, _real)
    _figures("native", value.native, _whole)
    return value


def prediction(value: Any) -> Prediction:
    """Refuse what is no prediction."""
    if type(value) is not Prediction:
        raise CounterFailure(f"its adapter gave {type(value).__name__}, and not Prediction")
    _whole("params", value.params)
    _whole("macs", value.macs)
    _figures("memory_mib", value.memory_mib, _real)
    _figures("native", value.native, _whole)
    for term in (*_tuple("terms", value.terms), *_tuple("remarks", value.remarks)):
        if type(term) is not Term:
            raise CounterFailure(f"one of its terms is {type(term).__name__}, and not Term")
        for name in ("macs", "params", "calls"):
            figure = getattr(term, name)
            _whole(f"{name} of a term", figure)
            if figure is None:
                raise CounterFailure(f"the {name} of a term are none")
        if type(term.layer) is not str or text("code", term.code) == "":
            raise CounterFailure("one of its terms has no layer or no code")
    for path in _tuple("fused", value.fused):
        if type(path) is not str:
            raise CounterFailure("the path of a module is not a string")
    text("failure", value.failure)
    return value


def text(name: str, value: Any) -> str | None:
    """Refuse what is neither a text nor None."""
    if value is not None and (type(value) is not str or len(value) > LONGEST):
        raise CounterFailure(f"its {name} is not a string")
    return value


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise CounterFailure(f"its {name} are not a tuple")
    return value


def _whole(name: str, figure: Any) -> None:
    if figure is None:
        return
    if type(figure) is not int:
        raise CounterFailure(f"its {name} are not an integer: {_shown(figure)}")
    if not -LARGEST < figure < LARGEST:
        raise CounterFailure(f"its {name} are a number of more than a hundred digits")


def _real(name: str, figure: Any) -> None:
    if type(figure) is int:
        _whole(name, figure)
    elif type(figure) is not float or not -LARGEST < figure < LARGEST:
        raise CounterFailure(f"its {name} is not a finite number: {_shown(figure)}")


def _figures(name: str, figures: Any, check: Callable[[str, Any], None]) -> None:
    if figures is None:
        return
    if not isinstance(figures, Mapping):
        raise CounterFailure(f"its {name} is not a mapping")
    for key, figure in figures.items():
        if type(key) is not str or len(key) > LONGEST:
            raise CounterFailure(f"a name in its {name} is not a string")
        if figure is None:
            raise CounterFailure(f"its {key} is none")
        check(key, figure)


def _shown(value: Any) -> str:
    """A wrong figure, in short."""
    try:
        return repr(value).partition("\n")[0][:100]
    except Exception:
        return f"a {type(value).__name__}"
