"""Draw a chart with matplotlib, on no screen and with no setting of the user: the same chart is the same picture."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from convstat.errors import UsageError
from convstat.patches.quiet import unlogged, unwarned
from convstat.patches.room import patch, undone
from convstat.render.plots.chart import Chart, Family, Point, front, is_wide, unit_of, with_letter
from convstat.render.plots.names import name_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOURS = ("#3577cf", "#dd7a24", "#2a9d64", "#b9519b", "#7f68cc", "#b3911a", "#2f9bb0", "#cf504b", "#7d8790", "#8a5a3c")
"""Apart from each other, and to be read on light and on dark ground."""

MOST_NAMED = 12
"""The most lines that the legend names."""

MOST_MARKED = 60
"""A line with more points than this is drawn without a mark for each."""

MOST_SCATTERED = 5_000
"""The most points of a drawing of MACs against params; the front is always that of all."""

MOST_ROWS = 5
"""The most lines that have a row each for what cannot be built."""

MOST_TICKS = 12

INK, LINE = "#1c2127", "#d6dae0"

_STYLE: Mapping[str, Any] = {
    "font.size": 10,
    "font.family": ["DejaVu Sans"],
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "convstat",
    "figure.dpi": 150,
    "savefig.dpi": 150,
}

INSTALL = "pip install matplotlib"


def is_installed() -> bool:
    """Whether a plot can be drawn, found out without importing anything."""
    from importlib.util import find_spec

    try:
        return find_spec("matplotlib") is not None
    except (ImportError, ValueError):
        return False


def require() -> None:
    """Refuse to plan a plot that cannot be drawn."""
    if not is_installed():
        raise UsageError("a plot needs matplotlib, which is not installed", help=INSTALL)


@patch
def _matplotlib(ground: str) -> Iterator[None]:
    """Have matplotlib as it comes: no settings file, no notes on standard error."""
    require()
    # A name may have characters that the font has not: a box stands for each.
    with unlogged("matplotlib"), unwarned():
        try:
            import matplotlib
        except Exception as error:
            raise UsageError(f"a plot needs matplotlib, and importing it fails: {error}") from error
        settings: Any = matplotlib.rcParams
        # Past its own look-up, which imports pyplot to find a backend.
        before = {name: dict.__getitem__(settings, name) for name in dict.__iter__(settings)}
        with undone(lambda: dict.update(settings, before)), matplotlib.rc_context():
            matplotlib.rcdefaults()
            settings.update(_STYLE)
            settings["axes.facecolor"] = ground
            yield


def draw(charts: Sequence[Chart], format: str, *, ground: str = "white") -> bytes:
    """Draw charts one below the other, as ``png`` or ``svg``."""

    def onto(figure: Figure) -> None:
        heights = [_height(chart) for chart in charts]
        parts = figure.subfigures(len(charts), 1, squeeze=False, height_ratios=heights)
        for part, chart in zip(parts[:, 0], charts, strict=True):
            part.set_facecolor(ground)
            _chart(figure, part, chart)

    wide = any(chart.axis is not None for chart in charts)
    return drawn(onto, (14 if wide else 9, sum(map(_height, charts))), format, ground=ground)


T = TypeVar("T")


def drawn(onto: Callable[[Figure], None], size: tuple[float, float], format: str, *, ground: str = "white") -> bytes:
    """Let something be drawn onto a figure of a size in inches, and give the file."""
    from io import BytesIO

    stream = BytesIO()
    with _matplotlib(ground):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained", facecolor=ground)
        onto(figure)
        # Neither a date nor a version: the same result is the same file.
        metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
        figure.savefig(stream, format=format, facecolor=ground, metadata=metadata)
    data = stream.getvalue()
    # Where this font is not installed, the next of its kind is asked for.
    return data.replace(b"'DejaVu Sans'", b"'DejaVu Sans', Verdana, sans-serif") if format == "svg" else data


def stacked(results: Sequence[T], plot: Callable[[Axes, T], None], format: str, *, ground: str = "white") -> bytes:
    """Plot results one below the other, each on axes of its own."""

    def onto(figure: Figure) -> None:
        grid = figure.subplots(len(results), 1, squeeze=False)
        for axes, result in zip(grid[:, 0], results, strict=True):
            plot(axes, result)

    return drawn(onto, (11, 4.8 * len(results)), format, ground=ground)


def _height(chart: Chart) -> float:
    if chart.axis is None:
        return 6.4
    lines = -(-min(len(chart.families), MOST_NAMED) // 4) if len(chart.families) > 1 else 1
    return 4.6 + 0.22 * lines


def _chart(figure: Figure, part: SubFigure, chart: Chart) -> None:
    colours = _colours(len(chart.families))
    if chart.axis is None:
        axes = part.subplots()
        _scatter(figure, axes, chart, colours, every=True)
        if chart.notes:
            part.supxlabel(_wrapped("  ".join(chart.notes), 110), fontsize=8)
    else:
        params, macs, both = part.subplots(1, 3)
        _against(params, chart, "params", colours)
        _against(macs, chart, "macs", colours)
        _scatter(figure, both, chart, colours, every=False)
        _legend(part, chart, colours)
    part.suptitle(_wrapped(chart.title, 110 if chart.axis is not None else 80), fontsize=11)


def _wrapped(text: str, width: int) -> str:
    """Break a long text into at most three lines."""
    return "\n".join(textwrap.wrap(text, width, max_lines=3, placeholder=" ...")) if text else ""


def _colours(count: int) -> list[Any]:
    """One colour for each line; many are shades in their order."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    from matplotlib import colormaps

    return [colormaps["viridis"](0.05 + 0.85 * place / (count - 1)) for place in range(count)]


def _against(axes: Axes, chart: Chart, metric: str, colours: Sequence[Any]) -> None:
    """Draw one count along the axis, a line for each family."""
    counts = [getattr(point, metric) for point in chart.points]
    is_powers = is_wide(counts, 10 if chart.is_log else 500)
    unit, letter = (1, "") if is_powers else unit_of(counts)
    for family, colour in zip(chart.families, colours, strict=True):
        # A point between two that cannot be is alone, and has to be seen.
        is_marked = family.invalid or chart.ticks or len(family.points) <= MOST_MARKED
        line = _line(family, metric, unit)
        axes.plot(
            *zip(*line, strict=True) if line else ((), ()),
            color=colour,
            marker="o" if is_marked else "",
            markersize=4.5 if len(family.points) <= MOST_MARKED else 2,
            linewidth=1.6,
            # What has no order is not joined.
            linestyle="" if chart.ticks else "-",
        )
    _invalid(axes, chart.families, colours)
    if chart.is_log:
        axes.set_xscale("log")
    if is_powers:
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis, counts)
    elif counts:
        # Counts that are all the same have a range of nothing: room above is a part of the largest.
        axes.set_ylim(0, 1.06 * max(counts) / unit or 1)
    _ticks(axes, chart)
    title = "params" if metric == "params" else "MACs"
    together = _together(chart.families, metric)
    axes.set_title(f"{title} ({together} lines lie on each other)" if together else title, fontsize=10)
    axes.set_xlabel(chart.axis or "")
    axes.set_ylabel(f"{title} ({letter})" if letter else title)


def _invalid(axes: Axes, families: Sequence[Family], colours: Sequence[Any]) -> None:
    """Mark on the axis where nothing can be: there is no count. A few lines have a row each, many have one together."""
    rows = [(family.invalid, colour) for family, colour in zip(families, colours, strict=True) if family.invalid]
    if len(rows) > MOST_ROWS:
        rows = [(tuple({x for places, _ in rows for x in places}), INK)]
    for place, (invalid, colour) in enumerate(rows):
        are_many = len(invalid) > MOST_MARKED
        axes.plot(
            [float(x) for x in invalid],
            [0.02 + 0.035 * place] * len(invalid),
            color=colour,
            marker="|" if are_many else "x",
            markersize=6,
            markeredgewidth=0.6 if are_many else 1.8,
            linestyle="",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=5,
        )


def _line(family: Family, metric: str, unit: int) -> list[tuple[float, float]]:
    """The points of a line from left to right, with a gap where one cannot be."""
    found = [(float(point.x), getattr(point, metric) / unit) for point in family.points]
    return sorted([*found, *((float(x), float("nan")) for x in family.invalid)], key=lambda place: place[0])


def _together(families: Sequence[Family], metric: str) -> int:
    """The number of lines that are hidden by another or hide one."""
    shapes = Counter(tuple((point.x, getattr(point, metric)) for point in family.points) for family in families)
    return sum(count for shape, count in shapes.items() if shape and count > 1)


def _ticks(axes: Axes, chart: Chart) -> None:
    """Put ticks where the points are, as long as there are few."""
    if chart.ticks:
        # Of many words, some are written.
        step = -(-len(chart.ticks) // (2 * MOST_TICKS))
        shown = chart.ticks[::step]
        is_steep = max(len(word) for _, word in shown) * len(shown) > 36
        words = [word if len(word) <= 24 else f"{word[:12]}...{word[-9:]}" for _, word in shown]
        _write_ticks(axes, [x for x, _ in shown], words, is_steep, fontsize=8 if is_steep else 10)
        axes.margins(x=0.5 / max(2, len(chart.ticks)))
        return
    places = sorted({point.x for point in chart.points} | {x for family in chart.families for x in family.invalid})
    if len(places) <= MOST_TICKS and (chart.is_log or _is_even(places)):
        labels = [f"{float(place):g}" if place.denominator != 1 else str(place) for place in places]
        _write_ticks(axes, places, labels, sum(map(len, labels)) > 36)
        axes.minorticks_off()
    elif chart.is_log:
        _plain_numbers(axes.xaxis)


def _write_ticks(axes: Axes, places: Sequence[Any], labels: Sequence[str], is_steep: bool, **look: Any) -> None:
    turned: dict[str, Any] = {"rotation": 60, "ha": "right"} if is_steep else {"rotation": 0, "ha": "center"}
    axes.set_xticks([float(place) for place in places], labels, rotation_mode="anchor", **turned, **look)


def _is_even(places: Sequence[Any]) -> bool:
    """Whether ticks at these places do not run into each other."""
    gaps = [after - before for before, after in pairwise(places)]
    return not gaps or min(gaps) * MOST_TICKS >= places[-1] - places[0]


def _plain_numbers(axis: Any, counts: Sequence[int] = ()) -> None:
    """Write 1, 10, 100, 1k, 10k on an axis of powers, and those between where there are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0,), numticks=9))
    is_narrow = not is_wide(counts, 200)
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0), numticks=9) if is_narrow else NullLocator())
    written = FuncFormatter(lambda value, _: with_letter(value))
    axis.set_major_formatter(written)
    axis.set_minor_formatter(written)
    axis.set_tick_params(which="minor", labelsize=7)


def _scatter(figure: Figure, axes: Axes, chart: Chart, colours: Sequence[Any], *, every: bool) -> None:
    """Draw MACs against params, and the front: the points that no other is better than in both."""
    points = chart.points
    params, macs = [point.params for point in points], [point.macs for point in points]
    # An axis of powers has the letter at each number.
    x_powers, y_powers = is_wide(params, 10), is_wide(macs, 10)
    x_unit, x_letter = (1, "") if x_powers else unit_of(params)
    y_unit, y_letter = (1, "") if y_powers else unit_of(macs)
    step = -(-len(points) // MOST_SCATTERED) if points else 1
    for family, colour in zip(chart.families, colours, strict=True):
        drawn = family.points[::step]
        axes.plot(
            [point.params / x_unit for point in drawn],
            [point.macs / y_unit for point in drawn],
            color=colour,
            marker="o",
            markersize=6 if every else 4 if len(points) <= 200 else 2.5,
            linestyle="",
        )
    best = front(points)
    x_best, y_best = [point.params / x_unit for point in best], [point.macs / y_unit for point in best]
    axes.plot(
        x_best, y_best, color=INK, drawstyle="steps-post", linestyle="--", linewidth=1.1, marker="o",
        markerfacecolor="none", markersize=9, markeredgewidth=1.2,
    )  # fmt: skip
    if x_powers:
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, params)
    if y_powers:
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis, macs)
    of = f"{len(best):,} of {len(points):,}" if points else "none"
    axes.set_title(f"MACs against params (ringed: Pareto front, {of})", fontsize=10)
    if step > 1:
        axes.text(0.01, 0.99, f"1 in {step:,} points drawn", transform=axes.transAxes, va="top", fontsize=8)
    axes.set_xlabel(f"params ({x_letter})" if x_letter else "params")
    axes.set_ylabel(f"MACs ({y_letter})" if y_letter else "MACs")
    axes.margins(0.14 if every else 0.1)
    # Where there is no room for all names, the front has its own.
    named: Sequence[Point] = (*best, *points) if every else best
    if not every and len(best) > MOST_NAMED:
        named = (best[0], best[-1])
    name_points(figure, axes, named, x_unit, y_unit)


def _legend(part: SubFigure, chart: Chart, colours: Sequence[Any]) -> None:
    """Name the lines below the panels: all, or some of many."""
    from matplotlib.lines import Line2D

    families = list(zip(chart.families, colours, strict=True))
    handles: list[Line2D] = []
    labels: list[str] = []
    if len(families) > 1:
        for family, colour in _some(families):
            handles.append(
                Line2D([], [], color=colour, marker="o", markersize=4.5, linestyle="" if chart.ticks else "-")
            )
            name = family.name if len(family.name) <= 48 else f"{family.name[:28]}...{family.name[-17:]}"
            # What starts with an underscore is left out of a legend.
            labels.append(f" {name}" if name.startswith("_") else name)
        if len(families) > len(handles):
            handles.append(Line2D([], [], linestyle=""))
            labels.append(f"({len(handles) - 1} of {len(families):,} lines)")
    if any(family.invalid for family in chart.families):
        handles.append(Line2D([], [], color=INK, marker="x", markersize=6, markeredgewidth=1.8, linestyle=""))
        labels.append("cannot be built")
    if handles:
        columns = min(len(handles), max(1, 130 // (8 + max(map(len, labels)))))
        note = _wrapped("  ".join(chart.notes), 170)
        part.legend(
            handles, labels, loc="outside lower center", ncols=columns, fontsize=9, title=note or None, title_fontsize=8
        )


def _some(families: Sequence[tuple[Family, Any]]) -> list[tuple[Family, Any]]:
    if len(families) <= MOST_NAMED:
        return list(families)
    last = len(families) - 1
    return [families[place * last // (MOST_NAMED - 1)] for place in range(MOST_NAMED)]
