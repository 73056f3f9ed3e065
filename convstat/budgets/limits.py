"""The grammar of budgets: the metric to limit, where, and to what.

::

    budget  = metric [ "[" basis "]" ] [ "(" scope ")" ] [ "@" layers ] comparison amount [ ":" level [ ":" why ] ]
    basis   = what macs_per_pixel divides by: see convstat.grammar.basis
    scope   = "total" (default) | "each" | "share"
    layers  = names [ "%" type ] | "%" type
    names   = a pattern of layer names: * within a level, ** across levels
    type    = a pattern of layer types: Conv2d, Conv*
    comparison = "<=" | ">=" | "=="                                           inclusive
    amount  = number [ unit ]                                                 absolute
            | ("+" | "-") number [ unit | "%" ]                               relative to a base
            | number "%"                                                      where the scope is share
    level   = "error" (default) | "warn" | "off"

The same in a table has the keys metric, per, on, level, why, and max, min or exact (see limit_tables).
On the command line it is ``--max macs=300M``: an unquoted ``<`` would be a redirection,
and the shell would fail with the exit code of an exceeded budget.
There growth has an option of its own, ``--max-growth macs=2%``,
and so has each layer, ``--max-layer 'head.**:params=1M'``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from convstat import units
from convstat.errors import (
    Diagnostic,
    Mark,
    SourceText,
    SpecError,
    UsageError,
    did_you_mean,
)
from convstat.grammar import basis
from convstat.results.report import MEMORY

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "params": "learned values",
        "trainable_params": "learned values that training updates",
        "macs": "multiply-accumulates",
        "flops": "2 x MACs",
        "macs_per_pixel": "MACs / pixels; may have decimals",
        "weight_bytes": "bytes of the parameters in the model's dtype, or in the widths of --weights",
        "activations": "elements of the outputs of convolutions and matrix products",
        "conv_activations": "those of convolutions alone",
        "output_elements": "elements of the outputs of all layers",
        "peak_memory_bytes": "bytes that are alive at the peak of inference",
        "activation_bytes": "the part of that peak that is not weights, buffers and inputs",
        "training_bytes": "bytes that are alive at the peak of a step of training with AdamW",
        "macs_per_token": "MACs of the forward pass / tokens; may have decimals",
        "active_params": "the parameters that one token touches: of routed experts, those that it is sent to",
        "macs_causal": "MACs without the products of attention that a mask discards",
        "kv_cache_bytes": "bytes that the model's own cache holds after the pass",
        "training_flops_per_token": "FLOPs of a forward and a backward pass / tokens; may have decimals",
        "arena_bytes": "bytes of the arena of TensorFlow Lite Micro, in int8",
        "flash_bytes": "bytes of int8 weights and int32 biases, batch norms folded",
        "layers": "calls of layers",
        "buffers": "stored values that are not learned",
    }
)
"""What a budget can limit."""

ELEMENTS = ("activations", "conv_activations", "output_elements")
"""The metrics that reports of earlier versions lack, and those in the convention of another counter."""

ARENA = ("arena_bytes", "flash_bytes")
"""The metrics of a microcontroller."""

MEASURED = (*MEMORY, *ARENA)
"""The metrics of the whole model that are measured where a budget asks for them."""

LANGUAGE = ("macs_per_token", "active_params", "macs_causal", "kv_cache_bytes", "training_flops_per_token")
"""The metrics of models that take tokens."""

WHOLE = (*MEASURED, *LANGUAGE)
"""The metrics that layers have no part in."""

FURTHER = ("kv_cache_bytes", "training_flops_per_token")
"""Those of models that take tokens that may need further runs."""

DECIMALS = ("macs_per_pixel", "macs_per_token", "training_flops_per_token")
"""The metrics that are quotients."""

SCOPES = ("total", "each", "share")
LEVELS = ("error", "warn", "off")
_MEANT = {
    "weights": "weight_bytes",
    "parameters": "params",
    "macs/px": "macs_per_pixel",
    "macs/pixel": "macs_per_pixel",
    "trainable": "trainable_params",
    "act": "activations",
    "acts": "activations",
    "act_peak": "activation_bytes",
    "peak_activation_bytes": "activation_bytes",
    "peak_memory": "peak_memory_bytes",
    "memory": "peak_memory_bytes",
    "macs/token": "macs_per_token",
    "kv_cache": "kv_cache_bytes",
    "cache_bytes": "kv_cache_bytes",
    "activated_params": "active_params",
    "causal_macs": "macs_causal",
    "training_flops": "training_flops_per_token",
    "arena": "arena_bytes",
    "sram": "arena_bytes",
    "flash": "flash_bytes",
}
COMPARISONS: Mapping[str, str] = MappingProxyType({"max": "<=", "min": ">=", "exact": "=="})
OPTIONS = (*COMPARISONS, "max-growth", "max-layer")
"""The options that take a budget."""

_METRIC = r"(?P<metric>[A-Za-z_][\w/.\-]*)\s*(?:\[\s*(?P<per>[^\]]*?)\s*\])?"
_SUBJECT = rf"{_METRIC}\s*(?:\(\s*(?P<scope>\w*)\s*\))?\s*(?:@\s*(?P<on>[^\s<>=]*))?"
# Patterns, not compiled: re compiles and remembers each when it is first used.
_AMOUNT = r"(?P<amount>[^:]*?)\s*(?::\s*(?P<level>[^:]*?)\s*(?::\s*(?P<why>.*?)\s*)?)?"
_SHORT = rf"(?as)\s*{_SUBJECT}\s*(?P<comparison><=|>=|==|=<|=>|<|>|=)\s*{_AMOUNT}"
_OPTION = rf"(?as)\s*{_SUBJECT}\s*=(?!=)\s*{_AMOUNT}"
_LAYER_OPTION = rf"(?as)\s*(?:(?P<on>[^\s<>=]*):)?{_METRIC}(?P<scope>(?!))?\s*=(?!=)\s*{_AMOUNT}"
_NOT_INCLUSIVE = {"<": "<=", "=<": "<=", ">": ">=", "=>": ">=", "=": "=="}


@dataclass(frozen=True, slots=True)
class Limit:
    """One budget, read.

    ``limit`` is exact; for a share, 1/5 is 20%. ``amount`` is the limit as it was written.
    ``relative`` is ``amount`` where the limit is what may be added to the base, ``percent`` where it is a part of it.
    ``on`` is a pattern of layers as it was written, ``backbone.**%Conv2d``.
    ``model`` is a pattern of the targets that it is for, None for all.
    ``on_mark`` is where the pattern of layers stands, in a table; ``mark`` is where the limit stands.
    ``per`` is what its MACs/pixel are divided by, None for what those of the model are.
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
    relative: str | None = None
    on_mark: Mark | None = None
    per: str | None = None

    def __str__(self) -> str:
        scope = f"({self.scope})" if self.scope != "total" else ""
        on = f"@{self.on}" if self.on else ""
        per = f"[{self.per}]" if self.per is not None else ""
        return f"{self.metric}{per}{scope}{on}{self.comparison}{self.amount}"

    @property
    def short(self) -> str:
        """The whole budget in the short form, its level and its reason included."""
        why = f":{self.why}" if self.why else ""
        return f"{self}:{self.level}{why}" if why or self.level != "error" else str(self)

    @property
    def where(self) -> str:
        """The place of the budget: ``file:line``, or the option as it was written."""
        return f"{self.mark.file}:{self.mark.line}" if self.mark.source.is_file else self.mark.file

    @property
    def layers(self) -> str | None:
        """The pattern of names; None for all layers."""
        return None if self.on is None else (self.on.rpartition("%")[0] or "**") if "%" in self.on else self.on

    @property
    def type(self) -> str | None:
        """The pattern of types; None for all types."""
        return self.on.rpartition("%")[2] if self.on is not None and "%" in self.on else None

    def bound(self, base: int | Fraction | None) -> int | Fraction | None:
        """Give the limit itself: of a relative one, what it is of this base, None where there is no base.

        Two percent more than 100 is 102, exactly; a percentage of a count is a fraction, and stays one.
        """
        if self.relative is None:
            return self.limit
        if base is None:
            return None
        return base + self.limit if self.relative == "amount" else base * (1 + self.limit)


class LimitError(Exception):
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
            raise LimitError(
                f"'{text}' is not a budget", text, "write METRIC<=AMOUNT: params<=5M, macs(each)@head.**<=1M"
            )
        comparison = match["comparison"]
        if comparison in _NOT_INCLUSIVE:
            right = _NOT_INCLUSIVE[comparison]
            fixed = text.replace(comparison, right, 1).strip()
            raise LimitError(f"a budget compares with <=, >= or ==, not {comparison}", comparison, f"write {fixed}")
        return _limit(match, comparison, match["amount"], mark)
    except LimitError as problem:
        raise SpecError(_diagnostic(problem, text, mark)) from None


def read_option(option: str, text: str) -> Limit:
    """Read ``--max macs=300M``; ``option`` is one of OPTIONS. Raises UsageError."""
    source = SourceText(f"--{option} {text}", text, is_file=False)
    mark = Mark(source, 1, 1, max(1, len(text)))
    try:
        match = re.fullmatch(_LAYER_OPTION if option == "max-layer" else _OPTION, text)
        if match is None:
            raise _option_problem(option, text)
        return _limit(match, COMPARISONS.get(option, "<="), match["amount"], mark, option)
    except LimitError as problem:
        raise UsageError(_diagnostic(problem, text, mark)) from None


def _option_problem(option: str, text: str) -> LimitError:
    short = re.fullmatch(_SHORT, text)
    if option == "max-layer":
        return LimitError(
            f"--max-layer takes [LAYERS:]METRIC=AMOUNT, not '{text}'",
            text,
            "for example --max-layer 'head.**:params=1M'",
        )
    if short is None or option == "max-growth":
        amount = "2%" if option == "max-growth" else "5M"
        return LimitError(
            f"--{option} takes METRIC=AMOUNT, not '{text}'",
            text,
            f"for example --{option} params={amount}",
            known_metrics(),
        )
    subject = text[: short.start("comparison")].strip()
    comparison = _NOT_INCLUSIVE.get(short["comparison"], short["comparison"])
    signs = COMPARISONS if option in OPTIONS else {option: "<="}
    meant = next((name for name, sign in signs.items() if sign == comparison), option)
    return LimitError(
        f"--{option} takes METRIC=AMOUNT without a comparison: the option implies it, and limits are inclusive",
        short["comparison"],
        f"write --{meant} {subject}={short['amount']}",
    )


def _limit(match: re.Match[str], comparison: str, amount: str, mark: Mark, option: str = "") -> Limit:
    scope = "each" if option == "max-layer" else match["scope"] or "total"
    on = match["on"] if option != "max-layer" or match["on"] is not None else "**"
    try:
        level = match["level"] if match["level"] is not None else "error"
        if level not in LEVELS:
            help = (*did_you_mean(level, LEVELS), f"the level after a limit is one of: {', '.join(LEVELS)}")
            raise LimitError(f"unknown level '{level}'", "level", *help)
        if option == "max-growth":
            # Growth is what may be added: here 2% needs no sign.
            amount = amount if amount[:1] in ("+", "-", "") else f"+{amount}"
            if scope == "share":
                raise LimitError("a share cannot be relative to a base", "scope", "limit the share itself with --max")
        why = match["why"] or None
        return make(match["metric"], scope, on, comparison, amount, mark, level, why, per=match["per"])
    except LimitError as problem:
        # The caret goes under the part that is at fault.
        part = match[problem.part] if problem.part in match.groupdict() else problem.part
        raise LimitError(str(problem), part or match.string.strip(), *problem.help) from None


def make(
    metric: str,
    scope: str,
    on: str | None,
    comparison: str,
    amount: str,
    mark: Mark,
    level: str = "error",
    why: str | None = None,
    model: str | None = None,
    per: str | None = None,
) -> Limit:
    """Make a limit of its parts; raises LimitError with the part at fault."""
    # What help says can be typed where the budget was typed.
    sign = comparison if mark.source.is_file else "="
    if metric not in METRICS:
        help = did_you_mean(metric, METRICS)
        if meant := _MEANT.get(metric.lower()):
            help = (f"did you mean '{meant}'?",)
        raise LimitError(f"unknown metric '{metric}'", "metric", *help, known_metrics())
    if per is not None:
        _check_basis(metric, per)
    if scope not in SCOPES:
        help = ("did you mean 'each'?",) if scope in ("max", "layer") else did_you_mean(scope, SCOPES)
        raise LimitError(f"unknown scope '{scope}'", "scope", *help, f"it is one of {', '.join(SCOPES)}")
    if on == "":
        raise LimitError("missing layer pattern after @", "on", "for example @backbone.**")
    if on is not None and on.endswith("%"):
        raise LimitError("missing layer type after %", "on", f"for example @{on}Conv2d")
    if metric == "layers" and scope == "each":
        raise LimitError("'layers' can be limited in total only, not for each layer", "scope")
    if metric in WHOLE and (scope != "total" or on is not None):
        raise LimitError(
            f"{metric} is a figure of the whole model",
            "on" if on is not None else "scope",
            f"write {metric}{sign}{amount}",
        )
    if scope == "share" and on is None:
        raise LimitError(
            "a share needs the layers that it is for",
            "scope",
            f"name the layers: {metric}(share)@head.**{sign}20%",
        )
    limit, relative = _amount(metric, scope, sign, amount)
    if relative is not None and metric in WHOLE:
        raise LimitError(
            f"{metric} has no base to grow from", "amount", f"write a limit: {metric}{sign}{_example(metric)}"
        )
    return Limit(metric, scope, on, comparison, limit, amount, mark, level, why, model, relative, per=per)


def split_metric(written: str) -> tuple[str, str | None]:
    """Part a metric from what it is divided by.

    >>> split_metric("macs_per_pixel[block:128+8]"), split_metric("macs")
    (('macs_per_pixel', 'block:128+8'), ('macs', None))
    """
    match = re.fullmatch(_METRIC, written.strip())
    return (match["metric"], match["per"]) if match is not None else (written, None)


def _check_basis(metric: str, per: str) -> None:
    if metric != "macs_per_pixel":
        raise LimitError(f"{metric} is not divided by pixels", "per", f"write macs_per_pixel[{per}]")
    try:
        basis.check(per)
    except UsageError as error:
        first = error.diagnostics[0]
        known = ", ".join(basis.BASES)
        raise LimitError(
            first.message.removeprefix("--per "),
            "per",
            f"in brackets stands one of {known}: macs_per_pixel[block:128+8]",
        ) from None


def _amount(metric: str, scope: str, sign: str, text: str) -> tuple[int | Fraction, str | None]:
    """Read the limit in the metric's unit, exactly, and how it is relative, if it is."""
    if not text:
        raise LimitError("missing limit", "amount", f"for example {metric}{sign}5M")
    try:
        if text[0] in "+-":
            if scope == "share":
                raise LimitError(
                    f"a share is a percentage of the whole, and '{text}' is relative to a base",
                    "amount",
                    f"write the share itself: {metric}(share)@head.**{sign}20%",
                    f"or limit how these layers grow: {metric}@head.**{sign}+2%",
                )
            grown = units.parse(text[1:-1], {}) / 100 if text.endswith("%") else _plain_amount(metric, text[1:])
            return (-grown if text[0] == "-" else grown), "percent" if text.endswith("%") else "amount"
        if scope == "share":
            if not text.endswith("%"):
                raise LimitError(
                    f"a share is a percentage, and '{text}' has no %",
                    "amount",
                    f"for example {metric}(share)@head.**{sign}20%",
                )
            return units.parse(text[:-1], {}) / 100, None
        if text.endswith("%"):
            raise LimitError(
                f"'{text}' is a percentage without a reference",
                "amount",
                f"for {text} more than the base, write a sign: {metric}{sign}+{text}",
                f"for a share of the whole model, write {metric}(share)@LAYERS{sign}{text}",
                f"for an absolute limit, write an amount: {metric}{sign}5M",
            )
        return _plain_amount(metric, text), None
    except units.UnitError as error:
        raise LimitError(error.message, "amount", *([error.help] if error.help else [])) from None


def _plain_amount(metric: str, text: str) -> int | Fraction:
    if metric in DECIMALS:
        return units.parse(text)
    return units.parse_whole(text, units.BYTES if metric.endswith("_bytes") else units.COUNT)


def _example(metric: str) -> str:
    return "64MiB" if metric.endswith("_bytes") else "5M"


def known_metrics() -> str:
    """Name every metric, for a message."""
    return f"metrics: {', '.join(METRICS)}"


def _diagnostic(problem: LimitError, text: str, mark: Mark) -> Diagnostic:
    """Put the caret under the part at fault, where the text stands as it is on the line of the mark."""
    start = mark.text.find(text, mark.column - 1)
    offset = text.find(problem.part)
    if start >= 0 and offset >= 0 and problem.part and "\n" not in text:
        mark = Mark(mark.source, mark.line, start + offset + 1, len(problem.part))
    return Diagnostic(str(problem), mark, help=problem.help)
