"""Some layers of a model, explained: formulas with their values, and what each counter makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from convstat.formulas.cost import OTHER_ENTRIES
from convstat.formulas.derivation import Derivation
from convstat.results.documents.codec import Count, Document, Keys
from convstat.results.report import Cause, Figures, LayerRow, ModelInfo


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a derivation: what it counts, how often, and the formula; without one, the amount alone.

    ``value`` is that of the formula, once.
    """

    KEYS: ClassVar = Keys("about formula value times")
    about: str
    value: int
    formula: Annotated[Derivation, Keys("names=symbols values=numbers")] | None = None
    times: Count = 1


@dataclass(frozen=True, slots=True)
class Derived:
    """A count, and the steps that add up to it."""

    value: Count
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What one counter counts in a layer, and why that differs; ``error`` where it gives no answer at all."""

    name: str
    variant: str
    version: str | None
    predicted: Figures | None = None
    difference: Annotated[Figures, "predicted - convstat = sum of causes"] = field(default_factory=Figures)
    # The layer is the one that is explained.
    causes: tuple[Annotated[Cause, Keys("code verdict text params macs calls")], ...] = ()
    error: str | None = None
    note: str | None = None

    @property
    def counts(self) -> Figures:
        """What is predicted, nothing where there is no answer."""
        return self.predicted or Figures()


@dataclass(frozen=True, slots=True)
class ExplainedLayer:
    """A layer: all its calls together, how its counts come about, and what every counter makes of it."""

    KEYS: ClassVar = Keys("name type arguments calls params macs flops other counters=views")
    name: str
    type: str
    calls: tuple[Annotated[LayerRow, Keys("name input_shapes output_shapes")], ...]
    params: Derived
    macs: Derived
    other: Mapping[str, Derived]
    views: tuple[View, ...] = ()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments that it was made with."""
        return self.calls[0].arguments

    @property
    def flops(self) -> Count:
        """Twice the MACs."""
        return 2 * self.macs.value


@dataclass(frozen=True, slots=True)
class Explanation(Document):
    """Some layers of a model, explained."""

    KEYS: ClassVar = Keys("schema model layers", name="explanation")
    kind: ClassVar[str] = "explanation"
    schema: ClassVar[str] = "convstat.explanation/1"
    model: Annotated[ModelInfo, Keys("name source kind inputs batch overrides")]
    layers: tuple[ExplainedLayer, ...]


def words_for(entry: str) -> str:
    """What an entry of ``other`` counts."""
    return OTHER_ENTRIES.get(entry, "")
