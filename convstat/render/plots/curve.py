"""Draw how memory rises and falls over a run: stacked by what it is for, the peak marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convstat.render.plots.draw import COLOURS, INK, stacked
from convstat.render.views.memory import NAMES, PHASES
from convstat.results.memory import KINDS
from convstat.text.printable import mib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from convstat.results.memory import Memory


def draw(profiles: Sequence[Memory], format: str, *, ground: str = "white") -> bytes:
    """Draw profiles one below the other, as ``png`` or ``svg``."""
    return stacked(profiles, _curve, format, ground=ground)


def _curve(axes: Axes, found: Memory) -> None:
    kernels = [point.kernel for point in found.curve]
    shown = [kind for kind in KINDS if any(point.kinds[kind] for point in found.curve)]
    layers = [[point.kinds[kind] / 2**20 for point in found.curve] for kind in shown]
    colours = [COLOURS[KINDS.index(kind)] for kind in shown]
    axes.stackplot(kernels, *layers, labels=[NAMES[kind] for kind in shown], colors=colours, step="post", linewidth=0)
    top = found.peak.bytes / 2**20
    axes.plot([found.peak.kernel], [top], "v", color=INK, markersize=7, clip_on=False)
    where = f" at {found.peak.layer}" if found.peak.layer else ""
    axes.set_title(
        f"{found.model.name}: peak {mib(found.peak.bytes)} MiB, {PHASES[found.peak.phase]}{where}", loc="left"
    )
    axes.set_xlabel("kernel")
    axes.set_ylabel("MiB")
    axes.set_xlim(0, max(found.kernels, 1))
    axes.set_ylim(0, top * 1.08)
    for before, after in zip(found.curve, found.curve[1:], strict=False):
        if before.phase != after.phase and before.phase != "before":
            axes.axvline(after.kernel, color=INK, linewidth=0.8, linestyle=":")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
