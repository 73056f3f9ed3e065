"""The frozen result of a comparison: one row for each point, ratios to the first valid one.

Counts are exact; a ratio is a fraction until it is written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, ClassVar

from convstat.grammar.axes import Axis, Value, plain
from convstat.results.report import CounterRow, Totals

SCHEMA = "convstat.comparison/1"

METRICS = ("params", "trainable_params", "macs", "flops", "macs_per_pixel", "weight_bytes", "buffers")
"""The counts that every row has, and that it is compared by."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One point: the model, the values of what varies, and what it costs.

    ``status`` is ``ok`` or ``invalid``; an invalid row has a ``reason`` and ``help``, and no totals.
    ``where`` is the line of the spec that cannot be, where there is one.
    ``base`` holds the totals of the first valid row; ``counters`` what the peers answered, where they were asked.
    """

    model: str
    values: Mapping[str, Value]
    status: str
    totals: Totals | None = None
    base: Totals | None = None
    reason: str | None = None
    help: tuple[str, ...] = ()
    where: str | None = None
    counters: tuple[CounterRow, ...] = ()

    @property
    def vs_base(self) -> Mapping[str, Fraction | None] | None:
        """Each metric divided by the base's, exactly; None for a metric that the base has none of."""
        if self.totals is None or self.base is None:
            return None
        return {name: ratio(getattr(self.totals, name), getattr(self.base, name)) for name in METRICS}

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        versus = self.vs_base
        return {
            "model": self.model,
            "values": {name: plain(value) for name, value in self.values.items()},
            "status": self.status,
            "reason": self.reason,
            "help": list(self.help),
            "where": self.where,
            "totals": None if self.totals is None else totals_to_dict(self.totals),
            "vs_base": None
            if versus is None
            else {name: None if value is None else float(value) for name, value in versus.items()},
            "counters": [
                {
                    "name": row.name,
                    "variant": row.variant,
                    "version": row.version,
                    "status": row.status,
                    "reported": {"params": row.reported.params, "macs": row.reported.macs},
                    "error": row.error,
                }
                for row in self.counters
            ],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some models side by side.

    ``varying`` names the keys of every row's ``values``, in the order of the axes, after ``model`` where it varies.
    ``constants`` is what is the same for all rows: to be printed once, above.
    ``default`` says which model was taken where none was named, and why.
    """

    kind: ClassVar[str] = "comparison"
    rows: tuple[ComparisonRow, ...]
    axes: tuple[Axis, ...] = ()
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
    def invalid(self) -> int:
        """The number of points that cannot be built."""
        return sum(row.status == "invalid" for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document ``convstat.comparison/1``."""
        base = self.base
        return {
            "schema": SCHEMA,
            "models": list(self.models),
            "axes": [axis.to_dict() for axis in self.axes],
            "zipped": self.zipped,
            "constants": {name: plain(value) for name, value in self.constants.items()},
            "base": None if base is None else {name: plain(value) for name, value in base.values.items()},
            "default": self.default,
            "notes": list(self.notes),
            "rows": [row.to_dict() for row in self.rows],
        }


def ratio(value: int | Fraction | None, base: int | Fraction | None) -> Fraction | None:
    """Divide exactly; two zeros are equal, and nothing can be compared with zero.

    >>> ratio(144, 288), ratio(0, 0), ratio(1, 0)
    (Fraction(1, 2), Fraction(1, 1), None)
    """
    if value is None or base is None:
        return None
    if base == 0:
        return Fraction(1) if value == 0 else None
    return Fraction(value) / base


def totals_to_dict(totals: Totals) -> dict[str, Any]:
    """The JSON form of a row's totals."""
    per_pixel = totals.macs_per_pixel
    return {
        "params": totals.params,
        "trainable_params": totals.trainable_params,
        "buffers": totals.buffers,
        "macs": totals.macs,
        "flops": totals.flops,
        "macs_per_pixel": None if per_pixel is None else float(per_pixel),
        "pixels": totals.pixels,
        "pixel_basis": totals.pixel_basis,
        "weight_bytes": totals.weight_bytes,
        "other": dict(totals.other),
    }
