"""The frozen result that every command makes, saves or shows.

Field names are those of the JSON document ``convstat.report/1``; see ``convstat schema report``.
Counts are exact integers. FLOPs are always twice the MACs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

SCHEMA = "convstat.report/1"

CONVSTAT = "convstat"
"""Whose figures a report holds, unless it says otherwise."""

ROOT = "(root)"
"""The name of the row of what a Python model does itself, outside its submodules."""

BACKWARD = " (backward)"
"""What the name of a row ends with where it is a module's backward pass."""

NEVER_CALLED = "never called"
"""The note of a row of parameters that nothing used."""

BACKWARD_PASS = "backward pass"
"""The note of a row that is a module's backward pass."""


@dataclass(frozen=True, slots=True)
class InputInfo:
    """One input: its shape includes the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was counted, and how it was run.

    ``source`` is the file, or the argument as written; ``kind`` is ``spec``, ``inline``, ``module`` or ``report``.
    ``device`` is where the peers ran: ``meta``, ``cpu``, ``cuda``, or ``none`` where nothing had to run.
    ``convention`` is whose figures these are: convstat's, unless ``--as`` asked for another counter's;
    ``counts`` says what those count.
    ``rests_on`` says what the count is where it is not exact for any data: an upper bound, or that of some runs, and
    why. ``values`` says where the values of the inputs are from, where some were read.
    """

    name: str
    source: str
    kind: str
    inputs: tuple[InputInfo, ...]
    batch: int = 1
    device: str = "none"
    mode: str = "eval"
    dtype: str = "float32"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    convention: str = CONVSTAT
    counts: str = ""
    rests_on: str | None = None
    values: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The line of a spec that made a layer."""

    file: str
    line: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"file": self.file, "line": self.line}


@dataclass(frozen=True, slots=True)
class BlockCall:
    """One call of a block of a spec: the arguments that it was given, and its line."""

    arguments: Mapping[str, Any]
    source: Place | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the layers; ``pixels`` is what MACs are divided by, ``pixel_basis`` says in words what that is."""

    params: int = 0
    trainable_params: int = 0
    buffers: int = 0
    macs: int = 0
    weight_bytes: int = 0
    pixels: int = 0
    pixel_basis: str = ""
    other: Mapping[str, int] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """Twice the MACs: one multiplication and one addition each."""
        return 2 * self.macs

    @property
    def macs_per_pixel(self) -> Fraction | None:
        """MACs / pixels, exactly; None where there are no pixels."""
        return Fraction(self.macs, self.pixels) if self.pixels else None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One call of one layer.

    ``params`` counts what this call owns: zero on the second call of a shared layer, whose ``shares`` names the first.
    """

    name: str
    type: str
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    params: int
    macs: int
    trainable_params: int = 0
    buffers: int = 0
    weight_bytes: int = 0
    other: Mapping[str, int] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: Place | None = None
    shares: str | None = None
    note: str | None = None

    @property
    def flops(self) -> int:
        """Twice the MACs."""
        return 2 * self.macs


@dataclass(frozen=True, slots=True)
class Figures:
    """A pair of counts; None where a counter has no such figure."""

    params: int | None = None
    macs: int | None = None
    memory_mib: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """One named reason for a part of a difference: reported minus convstat."""

    code: str
    verdict: str
    text: str
    params: int = 0
    macs: int = 0
    calls: int = 0
    layers: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "code": self.code,
            "verdict": self.verdict,
            "text": self.text,
            "params": self.params,
            "macs": self.macs,
            "calls": self.calls,
            "layers": list(self.layers),
        }


@dataclass(frozen=True, slots=True)
class CounterRow:
    """One counter's answer, what its convention predicts, and why it differs from convstat's.

    ``difference`` = sum of ``causes`` + ``unexplained``, for params and for MACs.
    ``status`` is ``ok``, ``failed``, ``unavailable``, ``skipped``, or ``predicted`` where it was not to be run.
    A counter that was not run reports nothing; its ``difference`` is then that of what is ``predicted``.
    ``is_foreseen`` is True where the counter has no answer and its prediction says that it has none.
    """

    name: str
    variant: str
    version: str | None
    status: str
    reported: Figures = Figures()
    predicted: Figures | None = None
    difference: Figures = Figures()
    causes: tuple[Cause, ...] = ()
    unexplained: Figures = Figures()
    error: str | None = None
    device: str | None = None
    native: Mapping[str, int] | None = None
    """What the counter itself printed, by its unit, where that is not MACs: ``{"flops": 2000}``."""
    is_foreseen: bool = False
    note: str | None = None
    """What is to be known about its figures."""

    @property
    def shown(self) -> Figures:
        """What there is to show: what it reported, or else what is predicted."""
        return self.reported if self.status == "ok" or self.predicted is None else self.predicted

    @property
    def is_prediction(self) -> bool:
        """Whether what it shows was predicted, because it was not run."""
        return self.status != "ok" and self.predicted is not None

    @property
    def is_reconciled(self) -> bool:
        """Whether its answer, or that it has none, is what its convention predicts; a prediction alone is that."""
        if self.status == "predicted":
            return self.is_prediction or self.is_foreseen
        if self.status != "ok":
            return self.is_foreseen
        if self.predicted is None or self.unexplained.params or self.unexplained.macs:
            return False
        return self.predicted.memory_mib == self.reported.memory_mib and self.note is None

    @property
    def is_explained(self) -> bool:
        """Whether it is reconciled, and no part of its difference from convstat is without a cause that is known."""
        return self.is_reconciled and all(cause.verdict != "unexplained" for cause in self.causes)


GIVE_A_RULE = "To give an operator or a function a rule: convstat docs rules"
"""Said wherever something is not counted."""


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operator without a rule, or work that torch's dispatcher did not see: never a silent zero.

    ``op`` is the operator's name, or says in words what showed the work, and in which function.
    """

    op: str
    calls: int
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What one model costs.

    ``groups`` says of each block, by its path, what it is; ``calls`` how the blocks of a spec were called.
    """

    kind: ClassVar[str] = "report"
    model: ModelInfo
    totals: Totals
    layers: tuple[LayerRow, ...]
    counters: tuple[CounterRow, ...] = ()
    uncounted: tuple[Uncounted, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, BlockCall] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """``complete``; ``upper_bound`` where the count rests on an assumption about data, which ``model.rests_on`` and
        the notes state; ``incomplete`` where there is work without a rule.
        """
        return "incomplete" if self.uncounted else "upper_bound" if self.model.rests_on else "complete"

    @property
    def is_foreign(self) -> bool:
        """Whether its figures are in another counter's convention."""
        return self.model.convention != CONVSTAT

    @property
    def is_explained(self) -> bool:
        """Whether every counter's answer is what was predicted, and no difference has a part without a cause.

        A counter without an answer has none to explain only where its failure was predicted too.
        """
        return all(row.is_explained for row in self.counters)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document; see ``convstat schema report``."""
        pixels = self.totals.pixels

        def per_pixel(macs: int) -> float | None:
            return macs / pixels if pixels else None

        def counts(row: Totals | LayerRow) -> dict[str, Any]:
            return {
                "params": row.params,
                "trainable_params": row.trainable_params,
                "buffers": row.buffers,
                "weight_bytes": row.weight_bytes,
                "macs": row.macs,
                "flops": row.flops,
                "macs_per_pixel": per_pixel(row.macs),
                "other": dict(row.other),
            }

        return {
            "schema": SCHEMA,
            "model": {
                "name": self.model.name,
                "source": self.model.source,
                "kind": self.model.kind,
                "inputs": [item.to_dict() for item in self.model.inputs],
                "batch": self.model.batch,
                "device": self.model.device,
                "mode": self.model.mode,
                "dtype": self.model.dtype,
                "overrides": dict(self.model.overrides),
                "notes": list(self.model.notes),
                "rests_on": self.model.rests_on,
                "values": self.model.values,
                **({"convention": self.model.convention, "counts": self.model.counts} if self.is_foreign else {}),
            },
            "totals": {**counts(self.totals), "pixels": pixels, "pixel_basis": self.totals.pixel_basis},
            "layers": [
                {
                    "name": row.name,
                    "type": row.type,
                    "input_shapes": [list(shape) for shape in row.input_shapes],
                    "output_shapes": [list(shape) for shape in row.output_shapes],
                    **counts(row),
                    "arguments": dict(row.arguments),
                    "shares": row.shares,
                    "note": row.note,
                    "source": row.source.to_dict() if row.source else None,
                }
                for row in self.layers
            ],
            "counters": [_counter_to_dict(counter) for counter in self.counters],
            "uncounted": [{"op": u.op, "calls": u.calls, "layers": list(u.layers)} for u in self.uncounted],
            "groups": dict(self.groups),
            "calls": {
                path: {"arguments": dict(call.arguments), "source": call.source.to_dict() if call.source else None}
                for path, call in self.calls.items()
            },
            "status": self.status,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Read back a JSON document that fits its schema; ``Report.from_dict(r.to_dict()) == r``.

        What a file holds is checked by :func:`convstat.targets.analysis.read_report` first.
        """
        model, totals = data["model"], data["totals"]
        return cls(
            model=ModelInfo(
                name=model["name"],
                source=model["source"],
                kind=model["kind"],
                inputs=tuple(InputInfo(i["name"], tuple(i["shape"]), i["dtype"]) for i in model["inputs"]),
                batch=model["batch"],
                device=model["device"],
                mode=model["mode"],
                dtype=model.get("dtype", "float32"),
                overrides=model.get("overrides", {}),
                notes=tuple(model.get("notes", ())),
                convention=model.get("convention", CONVSTAT),
                counts=model.get("counts", ""),
                rests_on=model.get("rests_on"),
                values=model.get("values"),
            ),
            totals=Totals(
                **_counts_from(totals),
                pixels=totals["pixels"],
                pixel_basis=totals["pixel_basis"],
            ),
            layers=tuple(
                LayerRow(
                    name=row["name"],
                    type=row["type"],
                    input_shapes=tuple(map(tuple, row["input_shapes"])),
                    output_shapes=tuple(map(tuple, row["output_shapes"])),
                    **_counts_from(row),
                    arguments=row.get("arguments", {}),
                    source=_place_from(row["source"]),
                    shares=row.get("shares"),
                    note=row.get("note"),
                )
                for row in data["layers"]
            ),
            counters=tuple(_counter_from_dict(counter) for counter in data["counters"]),
            uncounted=tuple(Uncounted(u["op"], u["calls"], tuple(u["layers"])) for u in data["uncounted"]),
            groups=data.get("groups", {}),
            calls={
                path: BlockCall(call["arguments"], _place_from(call["source"]))
                for path, call in data.get("calls", {}).items()
            },
        )


def _place_from(data: Mapping[str, Any] | None) -> Place | None:
    return Place(data["file"], data["line"]) if data else None


def _counts_from(data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("params", "trainable_params", "buffers", "weight_bytes", "macs", "other")
    return {name: data[name] for name in names if name in data}


def _figures(figures: Figures, *, memory: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = {"params": figures.params, "macs": figures.macs}
    if memory:
        result["memory_mib"] = dict(figures.memory_mib) if figures.memory_mib is not None else None
    return result


def _counter_to_dict(row: CounterRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "variant": row.variant,
        "version": row.version,
        "status": row.status,
        "device": row.device,
        **({"native": dict(row.native)} if row.native is not None else {}),
        "reported": _figures(row.reported, memory=True),
        "predicted": _figures(row.predicted, memory=True) if row.predicted else None,
        "difference": _figures(row.difference),
        "causes": [cause.to_dict() for cause in row.causes],
        "unexplained": _figures(row.unexplained),
        "error": row.error,
        "foreseen": row.is_foreseen,
        "note": row.note,
    }


def _figures_from(data: Mapping[str, Any]) -> Figures:
    return Figures(data["params"], data["macs"], data.get("memory_mib"))


def _counter_from_dict(data: Mapping[str, Any]) -> CounterRow:
    return CounterRow(
        name=data["name"],
        variant=data["variant"],
        version=data["version"],
        status=data["status"],
        reported=_figures_from(data["reported"]),
        predicted=_figures_from(data["predicted"]) if data["predicted"] else None,
        difference=_figures_from(data["difference"]),
        causes=tuple(
            Cause(c["code"], c["verdict"], c["text"], c["params"], c["macs"], c["calls"], tuple(c["layers"]))
            for c in data["causes"]
        ),
        unexplained=_figures_from(data["unexplained"]),
        error=data["error"],
        device=data.get("device"),
        native=data.get("native"),
        is_foreseen=data.get("foreseen", False),
        note=data.get("note"),
    )


def registered(name: str) -> str:
    """The path of the registered module that a row belongs to: the root is written in brackets, and so is what is not
    registered.

    >>> registered("(root)"), registered("block.(Conv2d)"), registered("block.conv")
    ('', 'block', 'block.conv')
    """
    return f".{name}".partition(".(")[0].lstrip(".")
