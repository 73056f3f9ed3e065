"""Receptive fields, jumps and halos in words and columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from convstat.render.page import Column
from convstat.results.extent import Extent, Halo
from convstat.results.report import LayerRow, Report
from convstat.text.printable import printable


class HasRows(Protocol):
    """A line of the table of layers."""

    @property
    def rows(self) -> tuple[LayerRow, ...]:
        """The layers that it stands for."""

    @property
    def is_title(self) -> bool:
        """Whether it has no figures."""


def extent_fields() -> list[tuple[Column, Callable[[HasRows], str]]]:
    """The columns; a line of several layers has what its last one has."""

    def cell(write: Callable[[Extent], str]) -> Callable[[HasRows], str]:
        def of(line: HasRows) -> str:
            extent = line.rows[-1].extent if line.rows else None
            return "" if extent is None else write(extent)

        return of

    return [
        (Column("field", name="receptive field"), cell(size)),
        (Column("jump"), cell(jump)),
        (Column("halo"), cell(halo)),
    ]


def size(extent: Extent) -> str:
    """Write a receptive field; ``all`` where it is the whole input.

    >>> size(Extent((3, 5), (1, 1), (Halo(1, 1), Halo(2, 2)), (1, 1), (0, 0)))
    '3x5'
    """
    if extent.is_known:
        return "x".join(map(str, extent.size))
    unknown = "?" if extent.note and "not known" in extent.note else "all"
    known = {part for part in extent.size if part is not None}
    return "x".join(unknown if part is None else str(part) for part in extent.size) if known else unknown


def jump(extent: Extent) -> str:
    """Write a jump, once where it is the same along all dimensions.

    >>> from fractions import Fraction
    >>> jump(Extent((3, 3), (Fraction(1, 2),) * 2, (Halo(1, 1),) * 2, (1, 1), (0, 0)))
    '1/2'
    """
    return _each([None if part is None else str(part) for part in extent.jump])


def halo(extent: Extent) -> str:
    """Write a halo: before and after a block, once where it is the same.

    >>> halo(Extent((3, 3), (2, 2), (Halo(1, 0),) * 2, (2, 2), (0, 0)))
    '1/0'
    """
    return _each([None if part is None else _sides(part) for part in extent.halo])


def _sides(part: Halo) -> str:
    return str(part.before) if part.before == part.after else f"{part.before}/{part.after}"


def _each(parts: Sequence[str | None]) -> str:
    if None in parts and len({*parts}) == 1:
        return ""
    written = ["-" if part is None else part for part in parts]
    return written[0] if len({*written}) == 1 else " x ".join(written)


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """What the output depends on, and how exact processing by blocks has to be done."""
    extent = report.extent
    if extent is None:
        return
    if extent.is_known:
        units = [part for part in extent.unit if part is not None]
        blocks = "" if {*units} == {1} else f", for blocks of a multiple of {'x'.join(map(str, units))}"
        sides = " x ".join(
            f"{part.before} before and {part.after} after" for part in dict.fromkeys(extent.halo) if part
        )
        yield "field", f"{size(extent)}, jump {jump(extent)}; halo {sides} a block{blocks}"
        return
    last = next((row for row in reversed(report.layers) if row.extent and row.extent.is_known), None)
    before = f"; at {printable(last.name)} {size(last.extent)}" if last is not None and last.extent else ""
    yield "field", f"{printable(extent.note or '')}{before}"
