"""The grammar of budgets: what is limited, where, and to what.

::

    budget  = metric [ "(" scope ")" ] [ "@" layers ] comparison amount       macs(share)@head.**<=20%
    scope   = "total" (default) | "each" | "share"
    layers  = a pattern of layer names: * within a level, ** across levels
    comparison = "<=" | ">=" | "=="                                           inclusive
    amount  = number [ unit ], or a percentage where the scope is share

The same in a table has the keys metric, per, on, and max, min or exact.
On the command line it is ``--max macs=300M``: an unquoted ``<`` would be a redirection,
and the shell would fail with the exit code of an exceeded budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

from convstat import units
from convstat.errors import (
    ConfigError,
    ConvstatError,
    Diagnostic,
    Mark,
    SourceText,
    SpecError,
    UsageError,
    did_you_mean,
)

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "params": "learned values",
        "trainable_params": "learned values that training changes",
        "macs": "multiply-accumulates",
        "flops": "2 x MACs",
        "macs_per_pixel": "MACs / pixels; may have decimals",
        "weight_bytes": "bytes of the parameters in the model's dtype",
        "layers": "calls of layers",
        "buffers": "stored values that are not learned",
    }
)
"""What a budget can limit."""

SCOPES = ("total", "each", "share")
LEVELS = ("error", "warn", "off")
COMPARISONS: Mapping[str, str] = MappingProxyType({"max": "<=", "min": ">=", "exact": "=="})

_SUBJECT = r"(?P<metric>[A-Za-z_][\w/.\-]*)\s*(?:\(\s*(?P<scope>\w*)\s*\))?\s*(?:@\s*(?P<on>[^\s<>=]*))?"
# Patterns, not compiled: re compiles and remembers each when it is first used.
_SHORT = rf"(?as)\s*{_SUBJECT}\s*(?P<comparison><=|>=|==|=<|=>|<|>|=)\s*(?P<amount>.*?)\s*"
_OPTION = rf"(?as)\s*{_SUBJECT}\s*=(?!=)\s*(?P<amount>.*?)\s*"
_NOT_INCLUSIVE = {"<": "<=", "=<": "<=", ">": ">=", "=>": ">=", "=": "=="}


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget, read.

    ``limit`` is exact; for a share, 1/5 is 20%. ``amount`` is the limit as it was written.
    ``model`` is a pattern of the targets that it is for, None for all.
    """

    metric: str
    scope: str
    on: str | None
    comparison: str
    limit: int | Fraction
    amount: str
    mark: Mark
    level: str = "error"
    why: str | None = None
    model: str | None = None

    def __str__(self) -> str:
        scope = f"({self.scope})" if self.scope != "total" else ""
        on = f"@{self.on}" if self.on else ""
        return f"{self.metric}{scope}{on}{self.comparison}{self.amount}"

    @property
    def where(self) -> str:
        """The place of the budget: ``file:line``, or the option as it was written."""
        return f"{self.mark.file}:{self.mark.line}" if self.mark.source.is_file else self.mark.file


class _LimitError(Exception):
    """A part of a budget that cannot be read; ``part`` is the text or the key at fault."""

    def __init__(self, message: str, part: str, *help: str) -> None:
        super().__init__(message)
        self.part = part
        self.help = help


def read_short(text: str, mark: Mark) -> Limit:
    """Read the short form; raises SpecError with the place."""
    try:
        match = re.fullmatch(_SHORT, text)
        if match is None:
            raise _LimitError(
                f"'{text}' is not a budget", text, "write METRIC<=AMOUNT: params<=5M, macs(each)@head.**<=1M"
            )
        comparison = match["comparison"]
        if comparison in _NOT_INCLUSIVE:
            right = _NOT_INCLUSIVE[comparison]
            fixed = text.replace(comparison, right, 1).strip()
            raise _LimitError(f"a budget compares with <=, >= or ==, not {comparison}", comparison, f"write {fixed}")
        return _limit(match, comparison, match["amount"], mark)
    except _LimitError as problem:
        raise SpecError(_diagnostic(problem, text, mark)) from None


def read_option(option: str, text: str) -> Limit:
    """Read ``--max macs=300M``; ``option`` is max, min or exact. Raises UsageError."""
    source = SourceText(f"--{option} {text}", text, is_file=False)
    mark = Mark(source, 1, 1, max(1, len(text)))
    try:
        match = re.fullmatch(_OPTION, text)
        if match is None:
            raise _option_problem(option, text)
        return _limit(match, COMPARISONS[option], match["amount"], mark)
    except _LimitError as problem:
        raise UsageError(_diagnostic(problem, text, mark)) from None


def _option_problem(option: str, text: str) -> _LimitError:
    short = re.fullmatch(_SHORT, text)
    if short is None:
        return _LimitError(
            f"--{option} takes METRIC=AMOUNT, not '{text}'", text, f"for example --{option} params=5M", _known_metrics()
        )
    subject = text[: short.start("comparison")].strip()
    comparison = _NOT_INCLUSIVE.get(short["comparison"], short["comparison"])
    meant = next(name for name, sign in COMPARISONS.items() if sign == comparison)
    return _LimitError(
        f"--{option} takes METRIC=AMOUNT: the option already says the direction, and limits are inclusive",
        short["comparison"],
        f"write --{meant} {subject}={short['amount']}",
    )


def read_table(table: Mapping[str, object], mark: Mark, marks: Mapping[str, Mark]) -> list[Limit]:
    """Read the long form, whose keys are known; one limit for each of max, min and exact. Raises ConfigError."""
    problems: list[Diagnostic] = []

    def word(key: str, choices: Sequence[str] | None = None, default: str | None = None) -> str | None:
        value = table.get(key, default)
        place = marks.get(key, mark)
        if value is None or (isinstance(value, str) and value and (choices is None or value in choices)):
            return value
        help = () if choices is None else (*did_you_mean(str(value), choices), f"it is one of {', '.join(choices)}")
        problems.append(Diagnostic(f"{key} of a budget cannot be '{value}'", place, help=help))
        return None

    level = word("level", LEVELS, "error") or "error"
    scope = word("per", SCOPES, "total") or "total"
    why, model, on, metric = word("why"), word("model"), word("on"), word("metric")
    bounds = [key for key in COMPARISONS if key in table]
    if "metric" not in table:
        problems.append(Diagnostic("a budget needs a metric", mark, help=(_known_metrics(),)))
    if not bounds:
        problems.append(Diagnostic("a budget needs max, min or exact", mark, help=('for example max = "5M"',)))
    limits = []
    for key in bounds if metric else ():
        value = table[key]
        place = marks.get(key, mark)
        if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
            problems.append(Diagnostic(f"{key} of a budget must be a number or a text such as '5M'", place))
            continue
        amount = value if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else str(value)
        try:
            limits.append(_make(str(metric), scope, on, COMPARISONS[key], amount, place, level, why, model))
        except _LimitError as problem:
            place = marks.get({"metric": "metric", "scope": "per", "on": "on"}.get(problem.part, key), mark)
            problems.append(Diagnostic(str(problem), place, help=problem.help))
    if problems:
        # A wrong metric is wrong for max and for min: say it once.
        raise ConfigError(list(dict.fromkeys(problems)))
    return limits


def _limit(match: re.Match[str], comparison: str, amount: str, mark: Mark) -> Limit:
    try:
        return _make(match["metric"], match["scope"] or "total", match["on"], comparison, amount, mark)
    except _LimitError as problem:
        # The caret goes under the part that is at fault.
        part = match[problem.part] if problem.part in match.groupdict() else problem.part
        raise _LimitError(str(problem), part or match.string.strip(), *problem.help) from None


def _make(
    metric: str,
    scope: str,
    on: str | None,
    comparison: str,
    amount: str,
    mark: Mark,
    level: str = "error",
    why: str | None = None,
    model: str | None = None,
) -> Limit:
    # What help says can be typed where the budget was typed.
    sign = comparison if mark.source.is_file else "="
    if metric not in METRICS:
        meant = {"weights": "weight_bytes", "macs/px": "macs_per_pixel", "macs/pixel": "macs_per_pixel"}.get(metric)
        help = (f"did you mean '{meant}'?",) if meant else did_you_mean(metric, METRICS)
        raise _LimitError(f"unknown metric '{metric}'", "metric", *help, _known_metrics())
    if scope not in SCOPES:
        help = did_you_mean(scope, SCOPES)
        raise _LimitError(f"unknown scope '{scope}'", "scope", *help, f"it is one of {', '.join(SCOPES)}")
    if on == "":
        raise _LimitError("a pattern of layer names is missing after @", "on", "for example @backbone.**")
    if metric == "layers" and scope == "each":
        raise _LimitError("each layer is one layer: layers can be limited in total only", "scope")
    if scope == "share" and on is None:
        raise _LimitError(
            "a share is a part of the whole model, but it is not said which part",
            "scope",
            f"name the layers: {metric}(share)@head.**{sign}20%",
        )
    return Limit(metric, scope, on, comparison, _amount(metric, scope, sign, amount), amount, mark, level, why, model)


def _amount(metric: str, scope: str, sign: str, text: str) -> int | Fraction:
    """Read the limit in the metric's unit, exactly."""
    if not text:
        raise _LimitError("the limit is missing", "amount", f"for example {metric}{sign}5M")
    if text[0] in "+-":
        raise _LimitError(
            f"'{text}' is relative to a base, and there is no base to compare with here",
            "amount",
            f"write the limit itself: {metric}{sign}{'2MiB' if metric == 'weight_bytes' else '5M'}",
        )
    try:
        if scope == "share":
            if not text.endswith("%"):
                raise _LimitError(
                    f"a share is a percentage, and '{text}' has no %",
                    "amount",
                    f"for example {metric}(share)@head.**{sign}20%",
                )
            return units.parse(text[:-1], {}) / 100
        if text.endswith("%"):
            raise _LimitError(
                f"'{text}' is a percentage, but of what is not said",
                "amount",
                f"for a part of the whole model write {metric}(share)@LAYERS{sign}{text}",
                f"for a limit write an amount: {metric}{sign}5M",
            )
        if metric == "macs_per_pixel":
            return units.parse(text)
        return units.parse_whole(text, units.BYTES if metric == "weight_bytes" else units.COUNT)
    except units.UnitError as error:
        raise _LimitError(error.message, "amount", *([error.help] if error.help else [])) from None


def _known_metrics() -> str:
    return f"metrics: {', '.join(METRICS)}"


def _diagnostic(problem: _LimitError, text: str, mark: Mark) -> Diagnostic:
    """Put the caret under the part at fault, where the text stands as it is on the line of the mark."""
    start = mark.text.find(text, mark.column - 1)
    offset = text.find(problem.part)
    if start >= 0 and offset >= 0 and problem.part and "\n" not in text:
        mark = Mark(mark.source, mark.line, start + offset + 1, len(problem.part))
    return Diagnostic(str(problem), mark, help=problem.help)


def collect(problems: Sequence[ConvstatError]) -> ConvstatError:
    """Make one error of several, with all their messages."""
    diagnostics = [diagnostic for problem in problems for diagnostic in problem.diagnostics]
    return type(problems[0])(diagnostics)
