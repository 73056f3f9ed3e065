"""The fewest changes that save so many params and MACs.

Savings do not add up where one change alters the shapes that another one is counted on. So each set of changes that
alter shapes is counted as a whole, and on it, the savings of all other changes, which do add up: they leave all shapes
as they are, and at most one of those that are made in one place is chosen.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from convstat.advice.effect import NOTHING, Amount, NoChangeError
from convstat.advice.finding import Finding
from convstat.advice.gather import Advised, together
from convstat.advice.net import Net

MOST_SETS = 2_000
"""Sets of changes that alter shapes that are counted before the search is ended."""

MOST_STEPS = 20_000
"""Steps of the search among the other changes, where both params and MACs are wanted."""


class Need(NamedTuple):
    """What has to be saved, at least."""

    params: int
    macs: int

    def is_met(self, saves: Amount) -> bool:
        """Whether so much is saved."""
        return saves.params >= self.params and saves.macs >= self.macs


class Found(NamedTuple):
    """Some changes by their places in the list, and what they save together.

    ``is_shortest`` is False where not all shorter lists were tried.
    """

    changes: tuple[int, ...]
    saves: Amount
    is_shortest: bool


class _Option(NamedTuple):
    number: int
    params: int
    macs: int


def shortest(net: Net, advised: Sequence[Advised], need: Need) -> Found:
    """The fewest changes that save what is needed; where none do, those that save most of it."""
    if need.is_met(NOTHING):
        return Found((), NOTHING, True)
    search = _Search(net, advised, need)
    chosen = search.run()
    is_shortest = not search.ended
    if chosen is None:
        chosen = search.nearest()
    return Found(chosen, together(net, _findings(advised, chosen)).saves, is_shortest)


def _findings(advised: Sequence[Advised], numbers: Sequence[int]) -> list[Finding]:
    return [advised[number].finding for number in numbers]


class _Search:
    def __init__(self, net: Net, advised: Sequence[Advised], need: Need) -> None:
        self.net = net
        self.advised = advised
        self.need = need
        useful = [n for n, one in enumerate(advised) if self._is_useful(one.effect.saves)]
        self.moving = [n for n in useful if advised[n].effect.moves]
        self.others = [n for n in useful if not advised[n].effect.moves]
        self.ended = False

    def _is_useful(self, saves: Amount) -> bool:
        return bool((self.need.params and saves.params > 0) or (self.need.macs and saves.macs > 0))

    def run(self) -> tuple[int, ...] | None:
        """The shortest list, None where there is none; sets ``ended`` where not all were tried."""
        best: tuple[int, ...] | None = None
        counted = 0
        for size in range(len(self.moving) + 1):
            if best is not None and size >= len(best):
                break
            for chosen in combinations(self.moving, size):
                counted += 1
                if counted > MOST_SETS:
                    self.ended = True
                    return best
                more = self._complete(chosen, len(best) - 1 - size if best is not None else None)
                if more is not None:
                    best = (*chosen, *more)
        return None if best is None else tuple(sorted(best))

    def _complete(self, chosen: tuple[int, ...], most: int | None) -> tuple[int, ...] | None:
        """The fewest other changes that save what is needed together with some that are chosen."""
        findings = _findings(self.advised, chosen)
        try:
            base = together(self.net, findings)
        except NoChangeError:
            return None
        need = Need(max(0, self.need.params - base.saves.params), max(0, self.need.macs - base.saves.macs))
        if not any(need):
            return ()
        groups: dict[Hashable, list[_Option]] = {}
        for number in self.others:
            one = self.advised[number]
            saves = one.effect.saves
            if not base.layers.keys().isdisjoint(one.effect.layers):
                try:
                    both = together(self.net, [*findings, one.finding]).saves
                except NoChangeError:
                    continue
                saves = Amount(both.params - base.saves.params, both.macs - base.saves.macs, {})
            groups.setdefault(self._slot(number), []).append(_Option(number, saves.params, saves.macs))
        return self._fewest(list(groups.values()), need, most)

    def _slot(self, number: int) -> Hashable:
        """What only one change can be made in: the kernel of a layer."""
        edits = self.advised[number].finding.edits
        if any(edit.split or "groups" in edit.settings for edit in edits):
            return self.net.calls[edits[0].call].place
        return number, "alone"

    def _fewest(self, groups: list[list[_Option]], need: Need, most: int | None) -> tuple[int, ...] | None:
        if not (need.params and need.macs):
            of = 1 if need.params else 2
            best = sorted(
                (max(group, key=lambda option: option[of]) for group in groups), key=lambda option: -option[of]
            )
            sum_, numbers = 0, []
            for option in best[: most if most is not None else len(best)]:
                if option[of] <= 0:
                    break
                sum_ += option[of]
                numbers.append(option.number)
                if sum_ >= (need.params or need.macs):
                    return tuple(numbers)
            return None
        limit = len(groups) if most is None else min(most, len(groups))
        for count in range(1, limit + 1):
            steps = iter(range(MOST_STEPS))
            found = self._choose(groups, count, need, steps)
            if found is not None:
                return found
        return None

    def _choose(
        self, groups: Sequence[list[_Option]], count: int, need: Need, steps: Iterator[int]
    ) -> tuple[int, ...] | None:
        """So many options of different groups that save what is needed."""
        if need.params <= 0 and need.macs <= 0:
            return ()
        if not count or not groups:
            return None
        for of, wanted in ((1, need.params), (2, need.macs)):
            if sum(sorted((max(o[of] for o in group) for group in groups), reverse=True)[:count]) < wanted:
                return None
        if next(steps, None) is None:
            self.ended = True
            return None
        for option in sorted(groups[0], key=lambda option: -option.macs):
            left = Need(need.params - option.params, need.macs - option.macs)
            more = self._choose(groups[1:], count - 1, left, steps)
            if more is not None:
                return (option.number, *more)
        return self._choose(groups[1:], count, need, steps)

    def nearest(self) -> tuple[int, ...]:
        """The changes that go together, the largest savings first, as long as each saves more of what is needed."""
        chosen: list[int] = []
        before = NOTHING
        order = sorted([*self.moving, *self.others], key=lambda n: -self._worth(self.advised[n].effect.saves))
        for number in order:
            try:
                saves = together(self.net, _findings(self.advised, [*chosen, number])).saves
            except NoChangeError:
                continue
            if self._worth(saves) > self._worth(before):
                chosen.append(number)
                before = saves
        return tuple(sorted(chosen))

    def _worth(self, saves: Amount) -> float:
        """How much of what is needed is saved."""
        return sum(
            min(1.0, saved / wanted)
            for saved, wanted in ((saves.params, self.need.params), (saves.macs, self.need.macs))
            if wanted
        )
