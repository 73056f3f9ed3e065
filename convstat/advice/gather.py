"""Puts findings together that are one edit, counts what each saves, and sorts them by it.

A line in a block of a spec makes a layer at each call of the block: to change it is one edit, and changes all of them.
So a finding stands only where it is true of every call that its places make.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from convstat.advice import mistakes, savings
from convstat.advice.effect import Edit, Effect, NoChangeError, effect
from convstat.advice.finding import Finding
from convstat.advice.net import Net


class Advised(NamedTuple):
    """A finding that is one edit, and what it does."""

    finding: Finding
    effect: Effect
    is_mistake: bool

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """Mistakes come first, then what saves most."""
        saves = self.effect.saves
        return not self.is_mistake, -saves.macs, -saves.params, -sum(saves.other.values())


def together(net: Net, findings: Sequence[Finding]) -> Effect:
    """Count what some changes save together; raises NoChangeError where they do not go together."""
    found = effect(net, [edit for finding in findings for edit in finding.edits])
    held = sum(finding.held for finding in findings)
    return found._replace(saves=found.saves._replace(params=found.saves.params + held))


def gather(net: Net) -> list[Advised]:
    """All that can be advised about a net, the likely mistakes first."""
    found = [Advised(one, done, True) for one, done in _counted(net, (f for rule in mistakes.RULES for f in rule(net)))]
    mistaken = {call for one in found if one.finding.kind == mistakes.DENSE for call in one.finding.layers}
    others = (one for rule in savings.RULES for one in rule(net))
    for one, done in _counted(net, others):
        if done.saves.macs > 0 and mistaken.isdisjoint(one.layers):
            found.append(Advised(one, done, False))
    return sorted(found, key=lambda one: one.rank)


def _counted(net: Net, findings: Iterable[Finding]) -> Iterable[tuple[Finding, Effect]]:
    for finding in merged(net, findings):
        try:
            yield finding, together(net, [finding])
        except NoChangeError:
            # The model would not run, or would give another shape: that is no advice.
            continue


def merged(net: Net, findings: Iterable[Finding]) -> list[Finding]:
    """Findings of the same edit, as one; without those that are not true of all that the edit would change."""
    groups: dict[Hashable, list[Finding]] = {}
    for finding in findings:
        key = finding.kind, tuple(_signature(net, edit) for edit in finding.edits)
        groups.setdefault(key, []).append(finding)
    made = []
    for alike in groups.values():
        edits = {(edit.call, tuple(edit.settings)): edit for finding in alike for edit in finding.edits}
        edited = {edit.call for edit in edits.values()}
        places = {net.calls[call].place for call in edited}
        if None in places or any(not edited.issuperset(net.places[place]) for place in places):
            continue
        whats = list(dict.fromkeys(finding.what for finding in alike))
        layers = tuple(dict.fromkeys(layer for finding in alike for layer in finding.layers))
        made.append(Finding(alike[0].kind, "; ".join(whats[:2]), layers, tuple(edits.values())))
    return made


def _signature(net: Net, edit: Edit) -> Hashable:
    """What an edit is in the text: the place, and what is written there."""
    settings = tuple(
        (name, setting.how, None if setting.how else setting.value, setting.like and net.calls[setting.like].place)
        for name, setting in edit.settings.items()
    )
    return net.calls[edit.call].place, settings, edit.split, edit.drop
