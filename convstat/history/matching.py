"""Which layer of the one model is which of the other: by name, and then by structure.

Names come first, because a name is what somebody reads. But where names count positions (``features.3``),
one layer that is inserted renames all that follow it: then the layers are aligned by what they are,
and the pairing in which fewer layers changed is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from convstat.results.diff import Change, LayerChange
from convstat.results.report import LayerRow
from convstat.text.printable import show_shapes

Pairing = dict[int, int]
"""Which row of the head belongs to which row of the base, by their positions: head -> base."""

MOST_COMPARED = 400_000_000
"""Rows times rows: two models with more in common at neither end are paired by name alone."""


def match(old: Sequence[LayerRow], new: Sequence[LayerRow]) -> tuple[LayerChange, ...]:
    """Pair the layers of two models; every layer of either is in exactly one row."""
    names = _by_name(old, new)
    best = _rows(old, new, names)
    if any(row.status != "unchanged" for row in best):
        aligned = _aligned(old, new)
        if aligned is not None:
            other = _rows(old, new, aligned)
            if _disturbance(other) < _disturbance(best):
                best = other
    return tuple(best)


def _disturbance(rows: Iterable[LayerChange]) -> int:
    """The number of layers that are not what they were; another name alone does not count."""
    return sum(row.status in ("added", "removed", "changed") for row in rows)


def _by_name(old: Sequence[LayerRow], new: Sequence[LayerRow]) -> Pairing:
    """Pair layers of one name and type; of those left, layers of one structure; of those left, layers of one name."""
    pairing: Pairing = {}
    keys = _Keys(old, new)
    keys.pair(pairing, lambda row: (row.name, row.type))
    keys.pair(pairing, signature)
    keys.pair(pairing, lambda row: row.name)
    return pairing


def _aligned(old: Sequence[LayerRow], new: Sequence[LayerRow]) -> Pairing | None:
    """Pair layers in the order in which they run, by what they are; None where that would take too long."""
    left, right = [signature(row) for row in old], [signature(row) for row in new]
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    pairing = {i: i for i in range(start)}
    pairing |= {len(right) - i: len(left) - i for i in range(1, end + 1)}
    middle = left[start : len(left) - end], right[start : len(right) - end]
    if len(middle[0]) * len(middle[1]) > MOST_COMPARED:
        return None
    at_old, at_new = start, start
    ends = (len(left) - end, len(right) - end)
    for same_old, same_new in [*common(*middle), (ends[0] - start, ends[1] - start)]:
        to_old, to_new = start + same_old, start + same_new
        if to_old < ends[0] and to_new < ends[1]:
            pairing[to_new] = to_old
        # What was put in the place of something is that thing changed, where it is of its kind.
        gap = _Keys(old, new, range(at_old, to_old), range(at_new, to_new))
        if gap.old_range and gap.new_range:
            gap.pair(pairing, lambda row: (row.name, row.type))
            gap.pair(pairing, lambda row: row.type)
        at_old, at_new = to_old + 1, to_new + 1
    _Keys(old, new).pair(pairing, lambda row: (row.name, row.type))
    return pairing


def common(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int, int]]:
    """Find a longest common subsequence, as pairs of positions.

    One bit of an integer for each item of ``old``, and one addition for each of ``new``: the positions at which the
    length grows are the zeros (Hyyrö, Bit-parallel LCS-length computation revisited, 2004).
    So it takes no longer where one block is repeated a thousand times, as it is in networks.

    >>> common("abcd", "xbdy")
    [(1, 1), (3, 2)]
    """
    masks: dict[Any, int] = {}
    for position, item in enumerate(old):
        masks[item] = masks.get(item, 0) | 1 << position
    full = (1 << len(old)) - 1
    row = full
    rows = [row]
    for item in new:
        both = row & masks.get(item, 0)
        row = ((row + both) | (row - both)) & full
        rows.append(row)
    pairs = []
    i, j = len(old), len(new)
    while i and j:
        if rows[j] >> (i - 1) & 1:
            i -= 1
            continue
        j -= 1
        if rows[j] >> (i - 1) & 1:
            i -= 1
            pairs.append((i, j))
    pairs.reverse()
    return pairs


class _Keys:
    """The layers of both models that may be paired, and the rounds in which they are."""

    def __init__(
        self,
        old: Sequence[LayerRow],
        new: Sequence[LayerRow],
        old_range: range | None = None,
        new_range: range | None = None,
    ) -> None:
        self.old, self.new = old, new
        self.old_range = range(len(old)) if old_range is None else old_range
        self.new_range = range(len(new)) if new_range is None else new_range
        self.taken: set[int] = set()

    def pair(self, pairing: Pairing, key: Any) -> None:
        """Pair those of one key in their order: the second call of a layer with the second one."""
        taken = self.taken
        if len(self.old_range) == len(self.old):
            taken.update(pairing.values())
        waiting: dict[Any, list[int]] = {}
        for position in self.old_range:
            if position not in taken:
                waiting.setdefault(key(self.old[position]), []).append(position)
        for positions in waiting.values():
            positions.reverse()
        for position in self.new_range:
            if position not in pairing and (found := waiting.get(key(self.new[position]))):
                pairing[position] = found.pop()
                taken.add(pairing[position])


def _rows(old: Sequence[LayerRow], new: Sequence[LayerRow], pairing: Pairing) -> list[LayerChange]:
    """Make the rows in the order of the head, each removed layer behind the one that it followed."""
    paired = {base: head for head, base in pairing.items()}
    behind: dict[int, list[LayerChange]] = {}
    anchor = -1
    for position, row in enumerate(old):
        if position in paired:
            anchor = paired[position]
        else:
            behind.setdefault(anchor, []).append(LayerChange("removed", row, None))
    rows = behind.get(-1, [])
    for position, row in enumerate(new):
        if position in pairing:
            rows.append(_compare(old[pairing[position]], row))
        else:
            rows.append(LayerChange("added", None, row))
        rows += behind.get(position, [])
    return rows


def _compare(old: LayerRow, new: LayerRow) -> LayerChange:
    changes = () if old is new else tuple(_changes(old, new))
    if changes:
        return LayerChange("changed", old, new, changes)
    return LayerChange("unchanged" if old.name == new.name else "renamed", old, new)


def _changes(old: LayerRow, new: LayerRow) -> Iterable[Change]:
    """What changed about a layer: its type, its arguments, and only then what follows from another layer."""
    if old.type != new.type:
        yield Change("type", old.type, new.type)
    before, after = (arguments(old), arguments(new)) if old.arguments != new.arguments else ({}, {})
    for name in dict.fromkeys([*after, *before]):
        if before.get(name) != after.get(name):
            yield Change(name, before.get(name), after.get(name))
    if old.shares != new.shares and (old.shares is None) != (new.shares is None):
        yield Change("parameters", _owner(old), _owner(new))
    if old.input_shapes != new.input_shapes:
        yield Change("input", show_shapes(old.input_shapes), show_shapes(new.input_shapes))
    elif old.output_shapes != new.output_shapes:
        yield Change("output", show_shapes(old.output_shapes), show_shapes(new.output_shapes))
    if old.runs != new.runs:
        yield Change("calls", old.runs, new.runs)
    if old.params == new.params and old.trainable_params != new.trainable_params:
        yield Change("trainable_params", old.trainable_params, new.trainable_params)
    # What nothing above explains is still a difference, and is not to be hidden.
    is_same = old.type == new.type and old.input_shapes == new.input_shapes and old.runs == new.runs
    if before == after and is_same:
        for name in ("params", "buffers", "macs", "weight_bytes"):
            if getattr(old, name) != getattr(new, name):
                yield Change(name, getattr(old, name), getattr(new, name))


def arguments(row: LayerRow) -> Mapping[str, Any]:
    """The arguments of a layer, as they are after having been saved and read.

    What was not written has its default, so that a layer of a spec and one of a Python model can be compared.
    """
    from convstat.layers import NAMES

    given = {name: _frozen(value) for name, value in row.arguments.items()}
    if (kind := NAMES.get(row.type)) is None:
        return given
    found = {
        name: given[name] if name in given else _frozen(argument.default_value)
        for name, argument in kind.arguments.items()
        if name in given or (argument.infer is None and argument.default_value is not None)
    }
    return {**found, **given}


def signature(row: LayerRow) -> tuple[Any, ...]:
    """What a layer is, whatever it is called."""
    return (
        row.type,
        tuple(sorted(arguments(row).items(), key=lambda item: item[0])),
        row.input_shapes,
        row.output_shapes,
        row.params,
        row.trainable_params,
        row.macs,
    )


def _frozen(value: Any) -> Any:
    from convstat.grammar.axes import plain

    if isinstance(value, (list, tuple)):
        items = tuple(_frozen(item) for item in value)
        # A size that is the same in every direction is written once.
        return items[0] if len(set(items)) == 1 else items
    if isinstance(value, Mapping):
        return tuple((name, _frozen(item)) for name, item in value.items())
    plainer = plain(value)
    return plainer if isinstance(plainer, (int, float, str, type(None))) else str(plainer)


def _owner(row: LayerRow) -> str:
    return f"of {row.shares}" if row.shares else "its own"
