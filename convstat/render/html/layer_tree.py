"""Every layer of a report in the blocks that it is in, each block with the sums of what is in it.

Unlike the tree of the table, repeats are not folded: each layer has an entry of its own, as long as there is room.
"""

from __future__ import annotations

from dataclasses import dataclass

from convstat.render.views.tree import ITSELF, path_of
from convstat.results.report import NEVER_CALLED, LayerRow, Place, Report
from convstat.text.printable import counted, printable, show_shapes


@dataclass(slots=True)
class Entry:
    """A layer, or a block; ``level`` is how many blocks it is in, ``layers`` how many layers it stands for."""

    name: str
    path: str
    level: int
    type: str = ""
    is_block: bool = False
    shape: str = ""
    source: Place | None = None
    params: int = 0
    macs: int = 0
    layers: int = 0

    def add(self, row: LayerRow) -> None:
        """Take a layer in."""
        self.params += row.params
        self.macs += row.macs
        self.layers += 1


def entries(report: Report, most: int) -> list[Entry]:
    """List blocks and layers in order, at most that many.

    Where there are more, the lower levels are left out, so that blocks become the last entries;
    where even the highest level has too many, those that cost least stand together in one.
    """
    every = _all(report)
    if len(every) <= most:
        return every
    depth = max(entry.level for entry in every)
    while depth and sum(entry.level <= depth for entry in every) > most:
        depth -= 1
    kept = [entry for entry in every if entry.level <= depth]
    for entry in kept:
        if entry.is_block and entry.level == depth:
            entry.is_block = False
            entry.type = entry.type or f"({counted(entry.layers, 'layer')})"
    if len(kept) <= most:
        return kept
    largest = sorted(kept, key=lambda entry: (-entry.macs, -entry.params))
    chosen = {id(entry) for entry in largest[: most - 1]}
    sums = {name: sum(getattr(e, name) for e in largest[most - 1 :]) for name in ("params", "macs", "layers")}
    rest = Entry(f"[other {counted(sums['layers'], 'layer')}]", "", 0, **sums)
    return [*(entry for entry in kept if id(entry) in chosen), rest]


def _all(report: Report) -> list[Entry]:
    found: list[Entry] = []
    opened: list[Entry] = []
    paths = [tuple(path_of(row)) for row in report.layers]
    holds = {path[:end] for path in paths for end in range(1, len(path))}
    for row, path in zip(report.layers, paths, strict=True):
        # What a block does itself is in it, as everything else that is.
        *blocks, last = (*path, ITSELF) if path in holds else path
        common = 0
        while common < min(len(opened), len(blocks)) and opened[common].name == blocks[common]:
            common += 1
        del opened[common:]
        for name in blocks[common:]:
            where = f"{opened[-1].path}.{name}" if opened else name
            block = Entry(name, where, len(opened), type=report.groups.get(where, ""), is_block=True)
            opened.append(block)
            found.append(block)
        about = f" (= {row.shares})" if row.shares else f" ({row.note})" if row.note == NEVER_CALLED else ""
        shape = show_shapes(row.output_shapes)
        leaf = Entry(last, row.name, len(opened), f"{row.type}{about}", shape=shape, source=row.source)
        found.append(leaf)
        for entry in (*opened, leaf):
            entry.add(row)
    for entry in found:
        entry.name, entry.type, entry.path = printable(entry.name), printable(entry.type), printable(entry.path)
    return found
