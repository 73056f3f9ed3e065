"""A picture counted in blocks, and the block size that costs most: one count for each shape of a block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from convstat.count.blocks import EDGES, Tile, tiles
from convstat.errors import ConvstatError, Diagnostic, UsageError, did_you_mean
from convstat.grammar.basis import BasisError, BlockSize, block_of
from convstat.results.report import Blocks, BlockShape, Candidate, InputInfo, LayerRow, PartRow, Report
from convstat.results.sums import total
from convstat.targets.request import Request

Count = Callable[[Request], Report]

_PICTURE = r"(?a)(\d{1,6})x(\d{1,6})"
_CANDIDATE = r"(?a)\d{1,6}(?:x\d{1,6})?(?:\+\d{1,6})?"


def picture_of(written: str) -> tuple[int, int]:
    """Read the size of a picture, which is written width first, as video formats are; give height and width.

    >>> picture_of("1920x1080")
    (1080, 1920)
    """
    match = re.fullmatch(_PICTURE, written.strip())
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"--picture takes WIDTHxHEIGHT, not '{written}'", help="for example --picture 1920x1080")
    return int(match[2]), int(match[1])


def candidates_of(written: Sequence[str], border: int) -> list[BlockSize]:
    """Read the block sizes of a worst case, ``64`` or ``64x128``, height first as in ``block:64x128``.

    >>> candidates_of(["64,8x16+2"], 4)
    [BlockSize(height=64, width=64, border=4), BlockSize(height=8, width=16, border=2)]
    """
    found = []
    for text in (part.strip() for item in written for part in item.split(",")):
        block = block_of(f"block:{text}") if re.fullmatch(_CANDIDATE, text) else None
        if block is None or not block.height or not block.width:
            raise UsageError(
                f"--worst-case takes block sizes, and '{text}' is none",
                help="for example --worst-case 8,16x32,64 or 64+8 with a border of its own",
            )
        found.append(block if "+" in text else block._replace(border=border))
    return found


def count(request: Request, basis: Callable[[], str], count_one: Count) -> Report:
    """Count a picture in blocks, a picture as a whole, or the block that costs most per pixel.

    ``basis`` says what MACs/pixel are divided by, and ``count_one`` counts a request that is about neither.
    Raises UsageError for what cannot be read, and what a count raises for a block that the model cannot take.
    """
    if request.edges not in EDGES:
        help = (*did_you_mean(request.edges, EDGES), f"it is one of {', '.join(EDGES)}")
        raise UsageError(f"unknown rule for edges '{request.edges}'", help=help)
    picture = None if request.picture is None else picture_of(request.picture)
    plain = replace(request, picture=None, worst_case=())
    per = basis()
    block = block_of(per)
    if not request.worst_case:
        assert picture is not None
        if block is None:
            return _Picture(replace(plain, per=per), count_one).whole(picture)
        return _Picture(plain, count_one).tiled(picture, block)
    found = [
        _Picture(plain, count_one).tiled(picture, candidate)
        for candidate in candidates_of(request.worst_case, block.border if block is not None else 0)
    ]
    worst = max(found, key=lambda report: report.totals.macs_per_pixel or 0)
    assert worst.blocks is not None
    return replace(worst, blocks=replace(worst.blocks, worst_of=tuple(map(_candidate, found))))


class _Picture:
    """One model, ready to be counted on inputs of other sizes than its own."""

    def __init__(self, request: Request, count_one: Count) -> None:
        self.request = request
        self.count_one = count_one
        self.native: Report | None = None

    def whole(self, picture: tuple[int, int]) -> Report:
        """Count the model on the picture as a whole."""
        return self.at(picture, self.request)

    def tiled(self, picture: tuple[int, int] | None, block: BlockSize) -> Report:
        """Count the blocks of a picture, or one block; each shape once."""
        parts = (Tile(block[:2], block.read, 1),) if picture is None else tiles(picture, block, self.request.edges)
        request = replace(self.request, per="input")
        reports = [self.at(tile.read, request, tile) for tile in parts]
        batch = reports[0].model.batch
        rows = _merged(parts, reports)
        pixels = batch * sum(prod(tile.size) * tile.times for tile in parts)
        read = batch * sum(prod(tile.read) * tile.times for tile in parts)
        number = sum(tile.times for tile in parts)
        words = f"block {block.height}x{block.width}, border {block.border}"
        if picture is not None:
            height, width = picture
            kinds = f"{number:,} block{'s' if number != 1 else ''} of up to {block.height}x{block.width}"
            words = f"picture {width}x{height} in {kinds}, border {block.border}"
        shapes = tuple(
            BlockShape(
                tile.size, tile.read, tile.times, report.totals.macs, batch * prod(tile.size), batch * prod(tile.read)
            )
            for tile, report in zip(parts, reports, strict=True)
        )
        blocks = Blocks(picture, block[:2], block.border, self.request.edges, shapes)
        first = reports[0]
        if first.fusion is not None:
            # It compares two forms on one block.
            notes = (*first.model.notes, "the deployed form is counted: batch norms folded, branches merged")
            first = replace(first, fusion=None, model=replace(first.model, notes=notes))
        totals = total(rows, pixels, words, read)
        return replace(first, totals=totals, layers=rows, blocks=blocks, parts=_merged_parts(parts, reports))

    def at(self, size: tuple[int, int], request: Request, tile: Tile | None = None) -> Report:
        """Count the model where its first input has this height and width, its other inputs in proportion."""
        native = self.of_itself()
        first = native.model.inputs[0]
        if first.shape[-2:] == size and request.per == "input":
            return native
        try:
            return self.count_one(replace(request, inputs=self.resized(native.model.inputs, size)))
        except ConvstatError as error:
            height, width = size
            note = f"the model was to be counted on {height}x{width}"
            if tile is not None:
                note = f"a block of {tile.size[0]}x{tile.size[1]} reads {height}x{width}"
            found = [replace(d, notes=(*d.notes, note)) for d in error.diagnostics]
            raise type(error)(found) from None

    def of_itself(self) -> Report:
        """Count the model on its own inputs: these say which shapes it takes."""
        if self.native is None:
            self.native = self.count_one(replace(self.request, per="input"))
            shape = self.native.model.inputs[0].shape
            if len(shape) != 4:
                shown = "x".join(map(str, shape[1:]))
                raise UsageError(
                    f"{self.request.argument} takes no pictures: its first input is {shown}, not C x H x W"
                )
        return self.native

    def resized(self, inputs: Sequence[InputInfo], size: tuple[int, int]) -> tuple[str, ...]:
        """Write the inputs as ``--input`` does, the spatial ones in proportion to the first.

        Those of the further parts of a model follow from the variables that the first one sets.
        """
        if self.native is not None and self.native.parts:
            return (f"{inputs[0].name}={'x'.join(map(str, (inputs[0].shape[1], *size)))}",)
        height, width = inputs[0].shape[-2:]
        texts = []
        for item in inputs:
            shape = item.shape
            if len(shape) == 4:
                sizes = (shape[2] * size[0], shape[3] * size[1])
                if sizes[0] % height or sizes[1] % width:
                    raise BasisError(
                        f"the input '{item.name}' has {shape[2]}x{shape[3]} where the first has {height}x{width}: no"
                        f" whole number of positions for {size[0]}x{size[1]}"
                    )
                shape = (*shape[:2], sizes[0] // height, sizes[1] // width)
            dtype = f":{item.dtype}" if item.dtype not in ("float32", "float16", "bfloat16") else ""
            name = f"{item.name}=" if len(inputs) > 1 else ""
            if self.request.target.is_spec:
                texts.append(f"{name}{'x'.join(map(str, shape[1:]))}{dtype}")
            else:
                texts.append(f"{name}[{','.join(map(str, shape))}]{dtype}")
        return tuple(texts)


def _merged(parts: Sequence[Tile], reports: Sequence[Report]) -> tuple[LayerRow, ...]:
    """Sum the rows of the same layer over all blocks; its parameters are there once."""
    first = reports[0]
    for tile, report in zip(parts, reports, strict=True):
        if (report.totals.params, report.totals.buffers) != (first.totals.params, first.totals.buffers):
            (height, width), (rows, columns) = parts[0].size, tile.size
            raise UsageError(
                Diagnostic(
                    f"{report.model.name} has {first.totals.params:,} params for blocks of {height}x{width}, and"
                    f" {report.totals.params:,} for blocks of {rows}x{columns}: it is not one network for all of them",
                    help=("a layer depends on the size of its input, as Linear behind Flatten does",),
                )
            )
    found: dict[tuple[str, int], LayerRow] = {}
    for tile, report in zip(parts, reports, strict=True):
        met: dict[str, int] = {}
        for row in report.layers:
            key = row.name, met.get(row.name, 0)
            met[row.name] = key[1] + 1
            before = found.get(key)
            macs = tile.times * row.macs
            other = {name: tile.times * amount for name, amount in row.other.items()}
            if before is None:
                found[key] = replace(row, macs=macs, other=other, runs=tile.times * row.runs)
            else:
                added = _added(before.other, other)
                found[key] = replace(
                    before, macs=before.macs + macs, other=added, runs=before.runs + tile.times * row.runs
                )
    return tuple(found.values())


def _merged_parts(tiles: Sequence[Tile], reports: Sequence[Report]) -> tuple[PartRow, ...]:
    """The parts of a model over all blocks: their calls, and what all of these do."""
    merged = []
    for rows in zip(*(report.parts for report in reports), strict=True):
        each = {row.macs_of_one for row in rows}
        merged.append(
            replace(
                rows[0],
                calls=sum(tile.times * row.calls for tile, row in zip(tiles, rows, strict=True)),
                macs=sum(tile.times * row.macs for tile, row in zip(tiles, rows, strict=True)),
                macs_of_one=each.pop() if len(each) == 1 else None,
            )
        )
    return tuple(merged)


def _added(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in (*first, *second)}


def _candidate(report: Report) -> Candidate:
    blocks, totals = report.blocks, report.totals
    assert blocks is not None
    return Candidate(blocks.block, blocks.border, totals.macs, totals.pixels, totals.pixels_read)
