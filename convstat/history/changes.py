"""What became of every layer of a base in a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from convstat.results.diff import Change, Diff, LayerChange, Side
from convstat.results.report import BlockCall, LayerRow, Report, Totals
from convstat.text.printable import show_shapes


def compare(base: Report, head: Report, *, labels: tuple[str, str] | None = None) -> Diff:
    """Match the layers of two reports, by name and then by structure, and say what changed."""
    from convstat.history.matching import match

    names = labels or (base.model.source, head.model.source)
    notes = []
    if base.totals.pixel_basis != head.totals.pixel_basis and base.totals.pixels != head.totals.pixels:
        notes.append(
            f"MACs/pixel divides by {head.totals.pixel_basis}, which was {base.totals.pixel_basis} in the base"
        )
    old, new = (tuple(i.shape for i in report.model.inputs) for report in (base, head))
    if old != new:
        notes.append(f"the input is {show_shapes(new)}, and was {show_shapes(old)} in the base")
    if base.model.dtype != head.model.dtype:
        notes.append(f"the dtype is {head.model.dtype}, and was {base.model.dtype} in the base")
    if base.model.weights != head.model.weights:
        was, now = (model.weights or model.dtype for model in (base.model, head.model))
        notes.append(f"the weights are stored as {now}, and were as {was} in the base")
    same = base.layers is head.layers
    rows = (
        unchanged(head.layers)
        if same
        else tuple(_by_call(row, base.calls, head.calls) for row in match(base.layers, head.layers))
    )
    notes += [
        f"the MACs of {name} are {side.model.rests_on}"
        for name, side in zip(names, (base, head), strict=True)
        if side is not None and side.model.rests_on
    ]
    return Diff(Side.of(base, names[0]), Side.of(head, names[1]), rows, tuple(notes))


def _by_call(change: LayerChange, before: Mapping[str, BlockCall], after: Mapping[str, BlockCall]) -> LayerChange:
    """Trace a layer's change to the outermost call around it whose arguments are not what they were."""
    if change.status in ("unchanged", "renamed") or not before or not after:
        return change
    old = [path for path in _around(change.old or change.row) if path in before]
    new = [path for path in _around(change.new or change.row) if path in after]
    for was, path in zip(old, new, strict=False):
        then, now = before[was].arguments, after[path].arguments
        if then == now:
            continue
        made = [
            Change(name, then.get(name), now.get(name), path)
            for name in dict.fromkeys([*now, *then])
            if then.get(name) != now.get(name)
        ]
        # What the layer takes over under the same name would only be said again.
        said = {(item.argument, str(item.old), str(item.new)) for item in made}
        own = [item for item in change.changes if (item.argument, str(item.old), str(item.new)) not in said]
        return replace(change, changes=(*made, *own), call=after[path].source)
    return change


def _around(row: LayerRow) -> list[str]:
    """The paths of the blocks that a layer is in, the outermost first."""
    steps = row.name.split(".")
    return [".".join(steps[:end]) for end in range(1, len(steps))]


def unchanged(layers: Iterable[LayerRow]) -> tuple[LayerChange, ...]:
    """Make the rows of a model that is what it was."""
    return tuple(LayerChange("unchanged", row, row) for row in layers)


def added(head: Report, base_label: str) -> Diff:
    """Make the diff of a model that has no base."""
    rows = tuple(LayerChange("added", None, row) for row in head.layers)
    return Diff(Side(base_label, None, _empty(head.totals)), Side.of(head), rows)


def removed(base: Report, head_label: str) -> Diff:
    """Make the diff of a model that is no more."""
    rows = tuple(LayerChange("removed", row, None) for row in base.layers)
    return Diff(Side.of(base), Side(head_label, None, _empty(base.totals)), rows)


def _empty(like: Totals) -> Totals:
    return Totals(pixels=like.pixels, pixel_basis=like.pixel_basis, pixels_read=like.pixels_read)
