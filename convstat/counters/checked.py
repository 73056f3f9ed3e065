"""What an answer of a counter has to be: anything else is its failure, whoever's it is and wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from convstat.counters.base import CounterFailure, Prediction, Reported, Term

T = TypeVar("T")

LARGEST = 10**100
"""More than this nobody counts; a number of thousands of digits can be neither written nor divided."""

LONGEST = 10_000
"""Characters of a text."""


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
            raise CounterFailure("the path of a module is no text")
    text("failure", value.failure)
    return value


def text(name: str, value: Any) -> str | None:
    """Refuse what is neither a text nor None."""
    if value is not None and (type(value) is not str or len(value) > LONGEST):
        raise CounterFailure(f"its {name} is no text")
    return value


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise CounterFailure(f"its {name} are no tuple")
    return value


def _whole(name: str, figure: Any) -> None:
    if figure is None:
        return
    if type(figure) is not int:
        raise CounterFailure(f"its {name} are no whole number: {_shown(figure)}")
    if not -LARGEST < figure < LARGEST:
        raise CounterFailure(f"its {name} are a number of more than a hundred digits")


def _real(name: str, figure: Any) -> None:
    if type(figure) is int:
        _whole(name, figure)
    elif type(figure) is not float or not -LARGEST < figure < LARGEST:
        raise CounterFailure(f"its {name} is no finite number: {_shown(figure)}")


def _figures(name: str, figures: Any, check: Callable[[str, Any], None]) -> None:
    if figures is None:
        return
    if not isinstance(figures, Mapping):
        raise CounterFailure(f"its {name} is no mapping")
    for key, figure in figures.items():
        if type(key) is not str or len(key) > LONGEST:
            raise CounterFailure(f"a name in its {name} is no text")
        if figure is None:
            raise CounterFailure(f"its {key} is none")
        check(key, figure)


def _shown(value: Any) -> str:
    """A wrong figure, in short."""
    try:
        return repr(value).partition("\n")[0][:100]
    except Exception:
        return f"a {type(value).__name__}"
