"""Advice on a model: likely mistakes, possible savings, and the shortest list of changes that reaches a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, ClassVar

from convstat.results.documents.codec import Count, Document, Keys, OneOf
from convstat.results.report import ModelInfo, Totals

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "dense-depthwise": "a dense convolution where depthwise separable networks have a depthwise one",
        "bias-before-norm": "a bias that the normalisation behind it takes away",
        "norm-twice": "a batch normalisation directly after another",
        "activation-twice": "an activation directly after another that leaves nothing to it",
        "linear-twice": "two linear maps of each position with nothing between them",
        "odd-channels": "a number of channels that just misses a multiple of 8",
        "unused": "a layer, block or module whose output is not used, or that is never called",
        "separable": "a dense convolution that could be a depthwise and a 1x1",
        "groups": "a convolution that could have twice as many groups",
        "earlier-stride": "a stride that could come a layer earlier",
    }
)
"""What is looked for."""

NO_CLAIM = "The counts are exact; nothing is said about accuracy, which a changed network has to prove by training."
"""Said with all advice."""


@dataclass(frozen=True, slots=True)
class TextEdit:
    """What to write in the place of what is there.

    ``place`` is ``file:line:column`` in a spec, and the path of a module in a Python model. Of a spec, ``before`` are
    the lines from ``line`` to ``end_line`` and ``after`` those that replace them; of a module, its constructor call.
    ``owner`` is the class that makes the module, which starts at ``line`` of ``file`` where that is the user's own.
    """

    KEYS: ClassVar = Keys("place owner file line end_line column before after")
    place: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    file: str | None = None
    line: int | None = None
    end_line: int | None = None
    column: int | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Savings:
    """What a change takes away; less than nothing where it adds."""

    KEYS: ClassVar = Keys("params macs flops other", name="savings")
    params: int
    macs: int
    other: Annotated[Mapping[str, int], "work that is not MACs, by name"] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """Twice the MACs."""
        return 2 * self.macs


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One change: what it is about, where, what to write, and what the model then costs less."""

    KEYS: ClassVar = Keys("number verdict kind what layers edits saves", name="suggestion")
    number: Count
    verdict: Annotated[str, OneOf("mistake", "saving"), "mistake: likely not what was meant"]
    kind: Annotated[str, OneOf(*KINDS)]
    what: str
    layers: tuple[str, ...]
    edits: tuple[TextEdit, ...]
    saves: Savings

    @property
    def place(self) -> str:
        """Where the first edit is."""
        return self.edits[0].place


@dataclass(frozen=True, slots=True)
class Goal:
    """One budget: the limit, what the model costs as it is, and what it costs after the changes."""

    KEYS: ClassVar = Keys("budget metric limit before after met")
    budget: str
    metric: str
    limit: int | Fraction
    before: int | Fraction
    after: int | Fraction

    @property
    def met(self) -> bool:
        """Whether the changed model keeps within the limit."""
        return self.after <= self.limit


@dataclass(frozen=True, slots=True)
class Plan:
    """The fewest changes that reach all budgets; where none do, those that come nearest.

    ``changes`` are numbers of suggestions. ``saves`` is counted of all of them together, since savings do not add up,
    and ``edits`` make all of them.
    """

    KEYS: ClassVar = Keys("goals reached changes edits saves after is_shortest", name="plan")
    goals: tuple[Goal, ...]
    changes: tuple[Count, ...]
    saves: Savings
    after: Annotated[Totals, Keys("params macs flops macs_per_pixel")]
    edits: tuple[TextEdit, ...] = ()
    is_shortest: Annotated[bool, "false where the search was ended before all shorter lists had been tried"] = True

    @property
    def reached(self) -> bool:
        """Whether all budgets are kept after the changes."""
        return all(goal.met for goal in self.goals)


@dataclass(frozen=True, slots=True)
class Advice(Document):
    """Advice on one model: the likely mistakes first, then the savings, each by what it saves."""

    KEYS: ClassVar = Keys("schema model totals suggestions plan accuracy", name="advice")
    kind: ClassVar[str] = "advice"
    schema: ClassVar[str] = "convstat.advice/1"
    model: Annotated[ModelInfo, Keys("name source kind inputs batch overrides")]
    totals: Annotated[Totals, Keys("params macs flops macs_per_pixel pixels pixel_basis")]
    suggestions: tuple[Suggestion, ...]
    plan: Annotated[Plan | None, "null where no budget was given"] = None

    @property
    def accuracy(self) -> str:
        """What is said about accuracy: nothing."""
        return NO_CLAIM

    @property
    def mistakes(self) -> tuple[Suggestion, ...]:
        """What is likely a mistake."""
        return tuple(one for one in self.suggestions if one.verdict == "mistake")

    @property
    def savings(self) -> tuple[Suggestion, ...]:
        """What would save something."""
        return tuple(one for one in self.suggestions if one.verdict == "saving")
