"""Try whether what was assumed of data changes the count.

A mask that keeps everything, and indices that were made up, give one count; other masks and indices may give another.
So the pass is run again, with masks that keep half and nothing, and with other routings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from convstat.trace import routing
from convstat.trace.assumed import Choice, Kept, Tried, largest, same_macs

if TYPE_CHECKING:
    from convstat.trace.answers import Answers

Found = TypeVar("Found")


class Trial(Generic[Found]):
    """The outcomes of several choices, of which :meth:`next` says each as long as one can still tell something."""

    def __init__(self, outcome: Tried[Found], answers: Answers) -> None:
        self.outcomes = [outcome]
        self.masks, self.routed = answers.masks, tuple(answers.routed)
        self.first = answers.choice
        self.paired = answers.paired
        self.bound: Tried[Found] | None = None
        self.masks_seen = self.routings_seen = 1
        self.unclear = 0
        self._choices = self._all()

    def next(self) -> Choice | None:
        """What is to be tried next."""
        return next(self._choices, None)

    def _all(self) -> Iterator[Choice]:
        if self.paired:
            # The first pass counted what a mask keeps and what it does not, each as if it were everything.
            self.first = replace(self.first, paired=self.paired)
            yield self.first
        if self.masks:
            for kept in (Kept.HALF, Kept.NONE):
                if not self.paired and not same_macs(self.outcomes):
                    break
                yield replace(self.first, kept=kept)
        if self.routed:
            before = len(self.outcomes)
            for number in range(1, max(routing.routings(*chosen) for chosen in self.routed)):
                yield replace(self.first, routing=number)
                if self._differ(self.outcomes[before:]):
                    # No routing that was tried need be the dearest: each class gets what it could at most.
                    yield replace(self.first, routing=None, kept=Kept.ALL)
                    break

    def _differ(self, later: list[Tried[Found]]) -> bool:
        return not same_macs([self.outcomes[0], *later])

    def add(self, choice: Choice, outcome: Tried[Found]) -> None:
        """Take what came of a choice."""
        if choice.routing is None:
            self.bound = outcome
        elif self.paired and choice == self.first:
            self.outcomes = [outcome]
        else:
            self.outcomes.append(outcome)
            self.masks_seen += choice.kept is not self.first.kept
            self.routings_seen += choice.routing != self.first.routing

    def fail(self, choice: Choice) -> None:
        """Take that a choice came to nothing: a model may refuse a mask that keeps nothing, and no routing."""
        self.unclear += choice.kept is self.first.kept and choice.routing is not None

    @property
    def best(self) -> Tried[Found]:
        """What is given: the largest, which is the first where all cost the same."""
        if same_macs(self.outcomes):
            return self.outcomes[0]
        return largest([*self.outcomes, *([self.bound] if self.bound is not None else [])])

    @property
    def is_same(self) -> bool:
        """Whether the MACs are the same whatever the data are, as far as it was tried."""
        is_tried = (not self.masks or self.masks_seen > 1) and not self.unclear
        return is_tried and same_macs(self.outcomes) and self._covers()

    def _covers(self) -> bool:
        tried = self.routings_seen
        return all(tried > 1 and routing.covers(*chosen, tried) for chosen in self.routed)

    @property
    def verdict(self) -> str:
        """What the choices came to, in words."""
        least, most = min(outcome.macs for outcome in self.outcomes), self.best.macs
        if self.is_same:
            what = "whichever indices are chosen" if self.routed and not self.masks else "whatever the data are"
            tries = self.routings_seen + self.masks_seen - 1
            return f"the MACs are the same {what}: {tries} passes with different ones were compared"
        if least == most:
            return "whether the MACs depend on it could not be determined"
        return f"the MACs depend on it: {least:,} to {most:,}; the largest is reported"

    @property
    def rests_on(self) -> str | None:
        """On what the count rests, None where the data do not matter."""
        if self.is_same:
            return None
        assumed = []
        if self.masks:
            assumed.append("masks and filters were assumed to keep everything")
        if self.routed:
            assumed.append(
                "each class that indices select was assumed to be selected always"
                if self.bound is not None
                else "indices were made up"
            )
        is_bound = self.bound is not None or same_macs(self.outcomes) or not self.routed
        lead = "an upper bound" if is_bound else f"the largest of {len(self.outcomes)} tried"
        return f"{lead}: {' and '.join(assumed)}; {self.verdict}"
