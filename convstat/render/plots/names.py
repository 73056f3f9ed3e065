"""Write names beside points so that none lies on another: each takes the nearest place that is free."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import cos, pi, sin
from typing import TYPE_CHECKING

from convstat.render.plots.chart import Point, shared_names
from convstat.text.printable import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 8
"""The size of a name in points."""

LONGEST = 52

MOST = 60
"""The most names that are written; the others have no room."""

Box = tuple[float, float, float, float]


def name_points(figure: Figure, axes: Axes, points: Sequence[Point], x_unit: int, y_unit: int) -> None:
    """Name points; where there is no room for a name, a line below says how many have none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = shared_names(points)
    # The places of the points on the paper are known when it has been laid out.
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    pixel = figure.dpi / 72
    places = {key: tuple(axes.transData.transform((key[0] / x_unit, key[1] / y_unit))) for key in names}
    frame = axes.get_window_extent()
    taken: list[Box] = [(x - 4 * pixel, y - 4 * pixel, x + 4 * pixel, y + 4 * pixel) for x, y in places.values()]
    left_out = 0
    for number, (key, text) in enumerate(names.items()):
        text = shorten(text, LONGEST, "...")
        x, y = places[key]
        width, height = 0.62 * SIZE * pixel * len(text), 1.3 * SIZE * pixel
        for dx, dy in _around() if number < MOST else ():
            left = x + dx * pixel - (0 if dx > 0.5 else width if dx < -0.5 else width / 2)
            bottom = y + dy * pixel - height / 2
            box = (left, bottom, left + width, bottom + height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1] and box[3] <= frame.y1
            if inside and not any(_overlap(box, other) for other in taken):
                break
        else:
            left_out += 1
            continue
        taken.append(box)
        far = dx * dx + dy * dy > 400
        axes.annotate(
            text,
            (key[0] / x_unit, key[1] / y_unit),
            xytext=(dx, dy),
            textcoords="offset points",
            fontsize=SIZE,
            ha="left" if dx > 0.5 else "right" if dx < -0.5 else "center",
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#7d8790"} if far else None,
        ).set_in_layout(False)
    if left_out:
        axes.text(
            1, 0.01, f"{left_out:,} without a name: no room", transform=axes.transAxes, ha="right", va="bottom",
            fontsize=7, color="#7d8790",
        )  # fmt: skip


def _around() -> Iterator[tuple[float, float]]:
    """Places around a point, the nearest first."""
    for radius in (9, 14, 22, 32, 46, 62):
        for eighth in (0, 4, 2, 6, 1, 7, 3, 5):
            yield radius * cos(eighth * pi / 4), radius * sin(eighth * pi / 4)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
