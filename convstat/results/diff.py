"""The difference of two reports: every layer of both, what became of it, and the argument that changed.

Each layer of the base and each layer of the head is in exactly one row,
so the rows add up to both totals and to their difference, whatever is folded or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from convstat.grammar.axes import plain
from convstat.results.comparison import ratio
from convstat.results.documents.codec import Count, Document, Each, Example, Keys, OneOf, Ratio
from convstat.results.report import InputInfo, LayerRow, ModelInfo, Place, Report, Totals, Uncounted

STATUSES = ("added", "removed", "changed", "renamed", "unchanged")
"""What can become of a layer; one that is ``changed`` may have another name as well."""

COUNTS = ("params", "trainable_params", "macs", "flops", "weight_bytes", "buffers")
"""The counts of a row, in the order in which they are shown."""

Counted = Annotated[LayerRow, Keys(" ".join(COUNTS))]
Ratios = Annotated[Mapping[str, Ratio | None], Each(*COUNTS), "head / base; null where the base has none"]
Grown = Annotated[Mapping[str, int], Each(*COUNTS)]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about a layer that is not what it was: an argument, ``type``, ``input`` or ``trainable``.

    ``old`` or ``new`` is None where the argument was not written, and has its default.
    ``block`` is the path of the block whose argument it is, where it is not the layer's own.
    """

    KEYS: ClassVar = Keys("argument old new block text")
    argument: str
    old: Any
    new: Any
    block: Annotated[str | None, "the block whose argument it is; null where it is the layer's own"] = None

    @property
    def text(self) -> Annotated[str, Example("kernel_size: 3 -> 5")]:
        """What it was and what it is."""
        return str(self)

    def __str__(self) -> str:
        owner = f" ({self.block})" if self.block is not None else ""
        return f"{self.argument}: {_word(self.old)} -> {_word(self.new)}{owner}"


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer, as it was (``old``) and as it is (``new``); None where it was not, or is no more.

    ``changes`` says what changed about it, the most telling first.
    ``call`` is the line that calls the block it is in, where it is that call's arguments that changed.
    """

    KEYS: ClassVar = Keys("name old_name type status old new delta=deltas changes source")
    status: Annotated[str, OneOf(*STATUSES)]
    old: Counted | None
    new: Counted | None
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
    def old_name(self) -> Annotated[str | None, "its name in the base, where that was another"]:
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

    @property
    def deltas(self) -> Grown:
        """By how much each count grew."""
        return {name: self.delta(name) for name in COUNTS}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models; ``label`` is what it is called (``origin/main:net.yaml``), ``commit`` its commit if any.

    ``model`` is None where there is no such model: on the base of a new one, on the head of a removed one.
    """

    KEYS: ClassVar = Keys(
        "label commit name model.source inputs model.batch overrides layers totals uncounted model.rests_on"
    )
    label: str
    model: ModelInfo | None
    totals: Totals
    layers: Count = 0
    uncounted: tuple[Uncounted, ...] = ()
    commit: str | None = None

    @property
    def name(self) -> Annotated[str | None, "null where there is no such model"]:
        """The name of the model."""
        return self.model.name if self.model else None

    @property
    def inputs(self) -> tuple[InputInfo, ...]:
        """The inputs of the model."""
        return self.model.inputs if self.model else ()

    @property
    def overrides(self) -> Mapping[str, Any]:
        """What was overridden."""
        return self.model.overrides if self.model else {}

    @classmethod
    def of(cls, report: Report, label: str | None = None, commit: str | None = None) -> Side:
        """Make the side of a report."""
        totals, layers = report.totals, len(report.layers)
        return cls(label or report.model.source, report.model, totals, layers, report.uncounted, commit)


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
class Diff(Document):
    """Two models, layer by layer.

    ``layers`` holds every layer of both, in the order of the head, a removed one where it stood.
    ``state`` is ``new`` where there is no base, ``removed`` where there is no head, else ``changed`` or ``unchanged``.
    """

    KEYS: ClassVar = Keys("schema state base head delta=deltas vs_base summary layers notes", name="diff")
    kind: ClassVar[str] = "diff"
    schema: ClassVar[str] = "convstat.diff/1"
    base: Side
    head: Side
    layers: tuple[LayerChange, ...]
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> Annotated[str, OneOf("new", "removed", "changed", "unchanged")]:
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

    @property
    def deltas(self) -> Annotated[Grown, "head - base; the sum over the layers"]:
        """By how much each total grew."""
        return {name: self.delta(name) for name in COUNTS}

    @property
    def vs_base(self) -> Ratios:
        """Each total divided by the base's, exactly."""
        return {name: ratio(getattr(self.head.totals, name), getattr(self.base.totals, name)) for name in COUNTS}

    @property
    def summary(self) -> Annotated[Mapping[str, Count], Each(*STATUSES)]:
        """How many layers became what."""
        return {status: self.count(status) for status in STATUSES}

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


def _order(by: str) -> Callable[[LayerChange], Any]:
    if by in ("name", "type"):
        return lambda row: getattr(row, by)
    return lambda row: (-abs(row.delta(by)), -abs(row.delta("params")))


def sums(layers: Sequence[LayerChange], of: str) -> Mapping[str, int]:
    """Add the counts of layers up, of those that were (``old``) or that are (``new``)."""
    return {name: sum(layer.value(name, of=of) for layer in layers) for name in COUNTS}


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
