"""Draw the plan of an arena: each tensor as a box, from the operator that makes it to the last that needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convstat.render.plots.draw import COLOURS, INK, stacked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from convstat.results.arena import Arena

MOST_NAMED = 8
"""The most tensors whose shape is written into a plan: the largest."""

LEAST_NAMED = 0.18
"""The part of the arena that such a tensor takes at least: a lower box has no room for its shape."""


def draw(plans: Sequence[Arena], format: str, *, ground: str = "white") -> bytes:
    """Draw plans one below the other, as ``png`` or ``svg``."""
    return stacked(plans, _plan, format, ground=ground)


def _plan(axes: Axes, found: Arena) -> None:
    from matplotlib.patches import Rectangle

    named = {id(tensor) for tensor in sorted(found.tensors, key=lambda tensor: -tensor.bytes)[:MOST_NAMED]}
    for number, tensor in enumerate(found.tensors):
        left, width = tensor.first - 0.5, tensor.last - tensor.first + 1
        bottom, height = tensor.offset / 1024, tensor.bytes / 1024
        colour = COLOURS[number % len(COLOURS)]
        axes.add_patch(Rectangle((left, bottom), width, height, facecolor=colour, edgecolor=INK, linewidth=0.4))
        if id(tensor) in named and tensor.bytes > LEAST_NAMED * found.arena_bytes:
            text = "x".join(map(str, tensor.shape[1:]))
            centre = (left + width / 2, bottom + height / 2)
            axes.text(*centre, text, ha="center", va="center", fontsize=7, color="white", rotation=90)
    peak = found.operators[found.peak]
    needed = [operator.alive / 1024 for operator in found.operators]
    axes.step(range(1, len(needed) + 1), needed, where="mid", color=INK, linewidth=1.2, label="alive")
    axes.plot([found.peak + 1], [peak.alive / 1024], "v", color=INK, markersize=7, clip_on=False)
    axes.axhline(found.arena_bytes / 1024, color=INK, linewidth=0.8, linestyle=":")
    axes.set_title(
        f"{found.model.name}: arena {found.arena_bytes / 1024:,.2f} KiB, most is alive at {peak.layer}", loc="left"
    )
    axes.set_xlabel("operator")
    axes.set_ylabel("KiB")
    axes.set_xlim(-0.5, len(found.operators) + 0.5)
    axes.legend(loc="upper right")
    axes.set_ylim(0, found.arena_bytes / 1024 * 1.08)
