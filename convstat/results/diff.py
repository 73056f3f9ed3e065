"""The difference of two reports: every layer of both, what became of it, and the argument that changed.

Each layer of the base and each layer of the head is in exactly one row,
so the rows add up to both totals and to their difference, whatever is folded or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from convstat.grammar.axes import plain
from convstat.results.comparison import totals_to_dict
from convstat.results.report import LayerRow, ModelInfo, Place, Report, Totals, Uncounted

SCHEMA = "convstat.diff/1"

STATUSES = ("added", "removed", "changed", "renamed", "unchanged")
"""What can become of a layer; one that is ``changed`` may have another name as well."""

COUNTS = ("params", "trainable_params", "macs", "flops", "weight_bytes", "buffers")
"""The counts of a row, in the order in which they are shown."""

_NOTHING: Mapping[str, int] = dict.fromkeys(COUNTS, 0)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about a layer that is not what it was: an argument, ``type``, ``input`` or ``trainable``.

    ``old`` or ``new`` is None where the argument was not written, and has its default.
    ``block`` is the path of the block whose argument it is, where it is not the layer's own.
    """

    argument: str
    old: Any
    new: Any
    block: str | None = None

    def __str__(self) -> str:
        owner = f" ({self.block})" if self.block is not None else ""
        return f"{self.argument}: {_word(self.old)} -> {_word(self.new)}{owner}"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``text`` is ``kernel_size: 3 -> 5``."""
        return {
            "argument": self.argument,
            "old": plain(self.old),
            "new": plain(self.new),
            "block": self.block,
            "text": str(self),
        }


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer, as it was (``old``) and as it is (``new``); None where it was not, or is no more.

    ``changes`` says what changed about it, the most telling first.
    ``call`` is the line that calls the block it is in, where it is that call's arguments that changed.
    """

    status: str
    old: LayerRow | None
    new: LayerRow | None
    changes: tuple[Change, ...] = ()
    call: Place | None = None

    @property
    def row(self) -> LayerRow:
        """The layer as it is, or as it was where it is no more."""
        row = self.new or self.old
        assert row is not None
        return row

    @property
    def name(self) -> str:
        """Its name."""
        return self.row.name

    @property
    def old_name(self) -> str | None:
        """Its name in the base, where that was another."""
        return self.old.name if self.old and self.new and self.old.name != self.new.name else None

    @property
    def type(self) -> str:
        """Its type."""
        return self.row.type

    @property
    def source(self) -> Place | None:
        """The line of the spec that makes it, or made it; where its block is called otherwise, that call's."""
        return self.call or self.row.source

    @property
    def why(self) -> str:
        """What changed, in one line: ``kernel_size: 3 -> 5``; empty where nothing did."""
        became = [self.status] if self.status in ("added", "removed") else []
        renamed = [f"was {self.old_name}"] if self.old_name else []
        changes = self.changes
        if self.call is not None:
            # What the call changed is followed by what came of it: the sizes are left to the other columns.
            changes = tuple(change for change in changes if change.argument not in ("input", "output"))
        return ", ".join([*became, *map(str, changes), *renamed])

    def value(self, metric: str, *, of: str) -> int:
        """One count, ``of`` ``old`` or ``new``; zero where there is no such layer."""
        row = self.old if of == "old" else self.new
        count: int = 0 if row is None else getattr(row, metric)
        return count

    def delta(self, metric: str) -> int:
        """By how much a count grew."""
        return self.value(metric, of="new") - self.value(metric, of="old")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "old_name": self.old_name,
            "type": self.type,
            "status": self.status,
            "old": _counts(self.old),
            "new": _counts(self.new),
            "delta": {name: self.delta(name) for name in COUNTS},
            "changes": [change.to_dict() for change in self.changes],
            "source": self.source.to_dict() if self.source else None,
        }


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models; ``label`` is what it is called (``origin/main:net.yaml``), ``commit`` its commit if any.

    ``model`` is None where there is no such model: on the base of a new one, on the head of a removed one.
    """

    label: str
    model: ModelInfo | None
    totals: Totals
    layers: int = 0
    uncounted: tuple[Uncounted, ...] = ()
    commit: str | None = None

    @classmethod
    def of(cls, report: Report, label: str | None = None, commit: str | None = None) -> Side:
        """Make the side of a report."""
        totals, layers = report.totals, len(report.layers)
        return cls(label or report.model.source, report.model, totals, layers, report.uncounted, commit)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        model = self.model
        return {
            "label": self.label,
            "commit": self.commit,
            "name": model.name if model else None,
            "source": model.source if model else None,
            "inputs": [item.to_dict() for item in model.inputs] if model else [],
            "batch": model.batch if model else None,
            "overrides": {name: plain(value) for name, value in model.overrides.items()} if model else {},
            "layers": self.layers,
            "totals": totals_to_dict(self.totals),
            "uncounted": [{"op": u.op, "calls": u.calls, "layers": list(u.layers)} for u in self.uncounted],
            "rests_on": model.rests_on if model else None,
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows of a diff that are shown, and all the others in one: ``[other N layers]``.

    ``other_old`` and ``other_new`` hold the sums of the others by the names of the counts.
    """

    rows: tuple[LayerChange, ...]
    others: int
    other_old: Mapping[str, int]
    other_new: Mapping[str, int]

    @property
    def other_name(self) -> str:
        """What the row of the others is called."""
        return f"[other {self.others:,} layer{'s' if self.others != 1 else ''}]"


@dataclass(frozen=True, slots=True)
class Diff:
    """Two models, layer by layer.

    ``layers`` holds every layer of both, in the order of the head, a removed one where it stood.
    ``state`` is ``new`` where there is no base, ``removed`` where there is no head, else ``changed`` or ``unchanged``.
    """

    kind: ClassVar[str] = "diff"
    base: Side
    head: Side
    layers: tuple[LayerChange, ...]
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """What became of the model."""
        if self.base.model is None:
            return "new"
        if self.head.model is None:
            return "removed"
        same = all(layer.status == "unchanged" for layer in self.layers) and self.base.totals == self.head.totals
        return "unchanged" if same else "changed"

    def count(self, status: str) -> int:
        """The number of layers that this became of."""
        return sum(layer.status == status for layer in self.layers)

    def delta(self, metric: str) -> int:
        """By how much a total grew."""
        grown: int = getattr(self.head.totals, metric) - getattr(self.base.totals, metric)
        return grown

    def shown(self, *, all: bool = False, top: int | None = None, by: str | None = None) -> Shown:
        """Choose rows: those that are not ``unchanged``, or ``all``; with ``top``, those that changed a count most.

        ``by`` is a count, ``name`` or ``type``; without it the rows are in the order of the head, the top ones by MACs.
        """
        rows = [layer for layer in self.layers if all or layer.status != "unchanged"]
        if by is not None or (top is not None and len(rows) > top):
            # sorted is stable: of equal changes, the one that runs first.
            rows = sorted(rows, key=_order(by or "macs"))[:top]
        chosen = {id(row) for row in rows}
        others = [layer for layer in self.layers if id(layer) not in chosen]
        return Shown(tuple(rows), len(others), sums(others, "old"), sums(others, "new"))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document ``convstat.diff/1``, with every layer."""
        return {
            "schema": SCHEMA,
            "state": self.state,
            "base": self.base.to_dict(),
            "head": self.head.to_dict(),
            "delta": {name: self.delta(name) for name in COUNTS},
            "vs_base": {name: _ratio(self, name) for name in COUNTS},
            "summary": {status: self.count(status) for status in STATUSES},
            "layers": [layer.to_dict() for layer in self.layers],
            "notes": list(self.notes),
        }


def _order(by: str) -> Callable[[LayerChange], Any]:
    if by in ("name", "type"):
        return lambda row: getattr(row, by)
    return lambda row: (-abs(row.delta(by)), -abs(row.delta("params")))


def sums(layers: Iterable[LayerChange], of: str) -> Mapping[str, int]:
    """Add the counts of layers up, of those that were (``old``) or that are (``new``)."""
    found = dict(_NOTHING)
    for layer in layers:
        for name in COUNTS:
            found[name] += layer.value(name, of=of)
    return found


def _ratio(diff: Diff, name: str) -> float | None:
    old, new = getattr(diff.base.totals, name), getattr(diff.head.totals, name)
    return float(Fraction(new, old)) if old else 1.0 if old == new else None


def _counts(row: LayerRow | None) -> dict[str, Any] | None:
    return None if row is None else {name: getattr(row, name) for name in COUNTS}


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, shape[1:])) or "scalar" for shape in shapes)


def _word(value: Any) -> str:
    """Write the value of an argument; where it was not written, it is the default.

    >>> _word(3), _word((3, 5)), _word(None), _word(True)
    ('3', '(3, 5)', 'default', 'true')
    """
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_word, value))})"
    return str(plain(value))
