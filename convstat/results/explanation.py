"""Some layers of a model, explained: formulas with their values, and what each counter makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from convstat.formulas.cost import OTHER_ENTRIES
from convstat.formulas.derivation import Derivation
from convstat.results.report import Cause, LayerRow, ModelInfo


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a derivation: what it counts, how often, and the formula; without one, the amount alone."""

    about: str
    value: int
    formula: Derivation | None = None
    times: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; ``value`` is that of the formula, ``times`` how often it is there."""
        formula = None
        if self.formula is not None:
            formula = {"names": self.formula.symbols, "values": self.formula.numbers}
        return {"about": self.about, "formula": formula, "value": self.value, "times": self.times}


SCHEMA = "convstat.explanation/1"


@dataclass(frozen=True, slots=True)
class View:
    """What one counter counts in a layer, and why that differs; ``error`` where it gives no answer at all."""

    name: str
    variant: str
    version: str | None
    params: int | None = None
    macs: int | None = None
    difference: Mapping[str, int | None] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    error: str | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "variant": self.variant,
            "version": self.version,
            "predicted": None if self.error else {"params": self.params, "macs": self.macs},
            "difference": dict(self.difference) or {"params": None, "macs": None},
            # The layer is the one that is explained.
            "causes": [{k: v for k, v in cause.to_dict().items() if k != "layers"} for cause in self.causes],
            "error": self.error,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class ExplainedLayer:
    """A layer: all its calls together, how its counts come about, and what every counter makes of it."""

    name: str
    type: str
    calls: tuple[LayerRow, ...]
    params: int
    macs: int
    other: Mapping[str, int]
    macs_steps: tuple[Step, ...]
    params_steps: tuple[Step, ...]
    other_steps: tuple[Step, ...]
    views: tuple[View, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "type": self.type,
            "arguments": dict(self.calls[0].arguments),
            "calls": [
                {
                    "name": row.name,
                    "input_shapes": [list(shape) for shape in row.input_shapes],
                    "output_shapes": [list(shape) for shape in row.output_shapes],
                }
                for row in self.calls
            ],
            "params": {"value": self.params, "steps": [step.to_dict() for step in self.params_steps]},
            "macs": {"value": self.macs, "steps": [step.to_dict() for step in self.macs_steps]},
            "flops": 2 * self.macs,
            "other": {
                name: {"value": amount, "steps": [step.to_dict() for step in self.other_steps if step.about == name]}
                for name, amount in self.other.items()
            },
            "counters": [view.to_dict() for view in self.views],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Some layers of a model, explained."""

    kind: ClassVar[str] = "explanation"
    model: ModelInfo
    layers: tuple[ExplainedLayer, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        model = {
            "name": self.model.name,
            "source": self.model.source,
            "kind": self.model.kind,
            "inputs": [item.to_dict() for item in self.model.inputs],
            "batch": self.model.batch,
            "overrides": dict(self.model.overrides),
        }
        return {"schema": SCHEMA, "model": model, "layers": [layer.to_dict() for layer in self.layers]}


def words_for(entry: str) -> str:
    """What an entry of ``other`` counts."""
    return OTHER_ENTRIES.get(entry, "")
