"""The frozen result of a comparison: one row for each point, ratios to the first valid one.

Counts are exact; a ratio is a fraction until it is written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from convstat.grammar.axes import Axis, Value
from convstat.results.documents.codec import ADDED, SPARSE, Document, Keys, OneOf, Ratio
from convstat.results.language import Language
from convstat.results.report import CounterRow, PartRow, Totals

METRICS = ("params", "trainable_params", "macs", "flops", "macs_per_pixel", "weight_bytes", "buffers")
"""The counts that every row has, and that it is compared by."""

LANGUAGE = "tokens macs_per_token active_params attention_share macs_causal kv_cache_bytes training_flops_per_token"
"""What is said of a model that takes tokens."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

Ratios = Annotated[Mapping[str, Ratio | None] | None, "each count divided by the base's; 1 is no change"]


ComparedPart = Annotated[PartRow, Keys("name calls params weight_bytes macs flops macs_of_one same")]
"""A part of a model, without what is said of the whole."""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One point: the model, the values of what varies, and what it costs.

    An ``invalid`` row has a ``reason`` and ``help``, and no totals.
    ``parts`` are those of a model in parts.
    ``base`` holds the totals of the first valid row; ``counters`` what the peers answered, where they were asked.
    """

    KEYS: ClassVar = Keys("model values status reason help where totals parts language vs_base counters")
    model: str
    values: Mapping[str, Value]
    status: Annotated[str, OneOf("ok", "invalid")]
    totals: Totals | None = None
    base: Totals | None = None
    reason: str | None = None
    help: tuple[str, ...] = ()
    where: Annotated[str | None, ADDED, "the line of the spec that cannot be, where there is one"] = None
    counters: tuple[Annotated[CounterRow, Keys("name variant version status reported=counts error")], ...] = ()

    parts: Annotated[tuple[ComparedPart, ...], SPARSE, "the parts of a model, each with how often it is called"] = ()

    language: Annotated[
        Annotated[Language, Keys(LANGUAGE)] | None, SPARSE, "the figures of a model that takes tokens"
    ] = None

    @property
    def vs_base(self) -> Ratios:
        """Each metric divided by the base's, exactly; None for a metric that the base has none of."""
        if self.totals is None or self.base is None:
            return None
        return {name: ratio(getattr(self.totals, name), getattr(self.base, name)) for name in METRICS}


@dataclass(frozen=True, slots=True)
class Comparison(Document):
    """Some models side by side.

    ``varying`` names the keys of every row's ``values``, in the order of the axes, after ``model`` where it varies.
    ``constants`` is what is the same for all rows: to be printed once, above.
    ``default`` says which model was taken where none was named, and why.
    """

    KEYS: ClassVar = Keys("schema models axes zipped constants base=base_values default notes rows", name="comparison")
    kind: ClassVar[str] = "comparison"
    schema: ClassVar[str] = "convstat.comparison/1"
    rows: tuple[ComparisonRow, ...]
    axes: tuple[Annotated[Axis, Keys("name values text=listed")], ...] = ()
    models: tuple[str, ...] = ()
    varying: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    zipped: bool = False
    default: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def base(self) -> ComparisonRow | None:
        """The first valid row."""
        return next((row for row in self.rows if row.status == "ok"), None)

    @property
    def base_values(self) -> Annotated[Mapping[str, Any] | None, "the values of the first valid row"]:
        """The values of the first valid row."""
        return None if self.base is None else self.base.values

    @property
    def invalid(self) -> int:
        """The number of points that cannot be built."""
        return sum(row.status == "invalid" for row in self.rows)


_quotient = lru_cache(maxsize=64)(Fraction)


def ratio(value: int | Fraction | None, base: int | Fraction | None) -> Fraction | None:
    """Divide exactly; two zeros are equal, and nothing can be compared with zero.

    >>> ratio(144, 288), ratio(0, 0), ratio(1, 0)
    (Fraction(1, 2), Fraction(1, 1), None)
    """
    if value is None or base is None:
        return None
    if base == 0:
        return Fraction(1) if value == 0 else None
    return value / base if isinstance(value, Fraction) else _quotient(value, base)
