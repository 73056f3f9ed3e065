"""Pictures of comparisons: what is drawn is decided without a plotting library, and drawn the same every time."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convstat.commands import compare
from convstat.config.requests import Requests
from convstat.errors import UsageError
from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS
from convstat.render.plots import draw
from convstat.render.plots.chart import Chart, Family, Point, chart_of, front, is_geometric
from convstat.results.comparison import Comparison

LAYER = "Conv2d(8, 16, kernel_size=3, padding=1)"
INPUT = ("8x32x32",)


def compared(*assignments: str, targets: tuple[str, ...] = (LAYER,), zip: bool = False) -> Comparison:
    """Compare layers."""
    return compare.compare(targets, assignments, Requests(inputs=tuple(INPUT)), zip=zip)


def svg(*comparisons: Comparison) -> str:
    """Draw as SVG."""
    return RENDERERS.named("svg").render(comparisons, Options())


def words(text: str) -> list[str]:
    """The texts of an SVG, in their order."""
    return ["".join(item.itertext()) for item in ElementTree.fromstring(text).iter() if item.tag.endswith("}text")]


def test_a_sweep_is_drawn_along_its_axis() -> None:
    """One numeric key is the axis, its points go from left to right with exact counts."""
    chart = chart_of(compared("out_channels=32,16,64"))
    assert ("out_channels", True, 1) == (chart.axis, chart.is_log, len(chart.families))
    assert [(n, n * 8 * 9 + n, n * 8 * 9 * 32 * 32) for n in (16, 32, 64)] == [
        (point.x, point.params, point.macs) for point in chart.points
    ]


def test_of_several_keys_the_one_with_most_numbers_is_the_axis() -> None:
    """The others make one line for each combination."""
    chart = chart_of(compared("kernel_size=1,3", "out_channels=8..64:8", "bias=true,false"))
    assert "out_channels" == chart.axis
    assert not chart.is_log
    assert [f"kernel_size={k}, bias={b}" for k in (1, 3) for b in ("true", "false")] == [f.name for f in chart.families]
    assert {8} == {len(family.points) for family in chart.families}


def test_words_stand_side_by_side_in_their_order() -> None:
    """An axis without numbers has a place for each word."""
    chart = chart_of(compared("padding_mode=zeros,reflect,circular"))
    assert ((0, "zeros"), (1, "reflect"), (2, "circular")) == chart.ticks
    assert [0, 1, 2] == [point.x for point in chart.points]


def test_axes_that_go_together_are_one_axis() -> None:
    """Zipped keys make one line, and the axis says what goes with it."""
    chart = chart_of(compared("out_channels=8,16,24", "kernel_size=1,3,5", zip=True))
    assert ("out_channels (with kernel_size)", 1) == (chart.axis, len(chart.families))


def test_models_are_set_against_each_other_without_their_common_folder(root: Path) -> None:
    """Without an axis there are no lines but named points."""
    names = ("conv2d", "resnet50", "unet")
    chart = chart_of(compare.compare([str(root / "configs" / f"{name}.yaml") for name in names], []))
    assert chart.axis is None
    assert [f"{name}.yaml" for name in names] == [point.name for point in chart.points]
    shown = words(draw.draw([chart], "svg").decode())
    assert {"conv2d.yaml", "resnet50.yaml", "unet.yaml", "params", "MACs"} <= set(shown)


def test_points_that_cannot_be_built_are_marked_and_explained() -> None:
    """They have a place on the axis, no count, a gap in the line, and a reason below."""
    comparison = compared("groups=1..8")
    chart = chart_of(comparison)
    assert (1, 2, 4, 8) == tuple(point.x for point in chart.points)
    assert (3, 5, 6, 7) == chart.families[0].invalid
    shown = " ".join(words(svg(comparison)))
    assert "cannot be built" in shown
    assert "4 of 8 points cannot be built: in_channels must be divisible by groups" in shown
    line = draw._line(chart.families[0], "macs", 1)
    assert [3.0, 5.0, 6.0, 7.0] == [x for x, y in line if y != y]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 2, 4, 8, 16), True),
        ((1, 3, 10, 30, 100), True),
        ((Fraction(1, 4), Fraction(1, 2), 1, 2), True),
        ((1, 2, 3, 4), False),
        ((16, 32, 48, 64), False),
        ((1, 2), False),
        ((0, 1, 10, 100), False),
        ((-4, -2, -1), False),
        ((7, 7, 7), False),
    ],
)
def test_an_axis_has_powers_where_its_steps_are_ratios(values: tuple[int | Fraction, ...], expected: bool) -> None:
    """Doubling is drawn evenly, adding is drawn evenly, and zero is on no axis of powers."""
    assert expected == is_geometric(values)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
def test_the_front_is_every_point_that_no_other_beats(places: list[tuple[int, int]]) -> None:
    """The quick way gives what comparing every two points gives."""
    points = [Point(0, str(number), *place) for number, place in enumerate(places)]
    unbeaten = {
        point.name
        for point in points
        if not any(
            other.params <= point.params and other.macs <= point.macs and other[2:] != point[2:] for other in points
        )
    }
    assert unbeaten == {point.name for point in front(points)}


def test_units_are_in_the_labels_or_at_the_numbers() -> None:
    """A plain axis has its unit in its label; one of powers has letters at its numbers."""
    shown = words(svg(compared("out_channels=8..64:8")))
    assert {"params (k)", "MACs (M)", "out_channels"} <= set(shown)
    shown = words(svg(compared("out_channels=8,80,800,8000")))
    assert {"params", "MACs", "1k", "10k", "100k", "10M", "100M"} <= set(shown)


def test_a_legend_names_the_lines() -> None:
    """A few lines are all named; of many, some, and how many there are."""
    assert {"kernel_size=1", "kernel_size=3"} <= set(words(svg(compared("out_channels=8..64:8", "kernel_size=1,3"))))
    many = words(svg(compared("out_channels=1..40", "kernel_size=1..31:2")))
    assert "(12 of 16 lines)" in many
    assert {"kernel_size=1", "kernel_size=31"} <= set(many)


def test_lines_that_hide_each_other_are_said_to() -> None:
    """Params do not depend on the input, so the lines of two inputs are one, and the title says so."""
    shown = words(svg(compared("out_channels=8..64:8", "stride=1,2")))
    assert "params (2 lines lie on each other)" in shown
    assert "MACs" in shown


@pytest.mark.parametrize("count", [1, 2, 13, 1000])
def test_any_number_of_points_can_be_drawn(count: int) -> None:
    """One point has no axis, others have three panels; something is in it, and an SVG of many points stays small."""
    comparison = compared(f"out_channels=1..{count}")
    data = RENDERERS.named("png").encode([comparison], Options())
    picture = Image.open(io.BytesIO(data))
    assert ("PNG", 1350 if count == 1 else 2100) == (picture.format, picture.width)
    assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50
    assert len(svg(comparison)) < 400_000


def test_a_comparison_with_nothing_valid_is_drawn_too() -> None:
    """All points are marked as impossible, and nothing fails."""
    assert "2 of 2 points cannot be built" in " ".join(words(svg(compared("groups=3,5"))))


def test_the_same_sweep_is_the_same_file(tmp_path: Path) -> None:
    """Neither a date nor a number drawn at random nor the user's own style is in the file."""
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\nfont.size: 30\nsvg.fonttype: path\n", encoding="utf-8")
    program = "from convstat.cli import main; main()"
    for name, folder in (("a", Path(__file__).parent), ("b", tmp_path)):
        command = [sys.executable, "-c", program, "compare", "groups=1,2,4", "-qq"]
        files = [f"{tmp_path}/{name}.{kind}" for kind in ("png", "svg", "html")]
        outputs = [part for file in files for part in ("-o", file)]
        answer = subprocess.run([*command, *outputs], cwd=folder, capture_output=True, text=True, check=False)
        assert (0, "", "") == (answer.returncode, answer.stdout, answer.stderr)
    for kind in ("png", "svg", "html"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_names_are_literal() -> None:
    """No name is read as mathematics or markup, left out of the legend, or able to end a tag."""
    names = ("$x^2$ & <script>alert(1)</script>", "_hidden", "a\nb", "x[/b]:x:|=", "100% \\frac")
    families = tuple(
        Family(name, (Point(1, name, 10 * i + 10, 5), Point(2, name, 20 * i + 11, 9))) for i, name in enumerate(names)
    )
    shown = [text.strip() for text in words(draw.draw([Chart("$t$ <b>", "k_$", families)], "svg").decode())]
    assert {"$x^2$ & <script>alert(1)</script>", "_hidden", "x[/b]:x:|=", "100% \\frac", "$t$ <b>", "k_$"} <= set(shown)


def test_names_of_points_do_not_lie_on_each_other() -> None:
    """Each name that is written is free of every other one, and those without room are counted."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    from convstat.render.plots.names import name_points

    points = [Point(0, f"model number {n}", 1000 + 7 * (n % 9), 5000 + 11 * (n % 13)) for n in range(40)]
    figure = Figure(figsize=(9, 6), dpi=150)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([point.params for point in points], [point.macs for point in points], "o")
    name_points(figure, axes, points, 1, 1)
    canvas.draw()
    written = [text for text in axes.texts if "without a name" not in text.get_text()]
    boxes = [Text.get_window_extent(text) for text in written]
    assert not [(i, j) for i, one in enumerate(boxes) for j in range(i) if one.overlaps(boxes[j])]
    left_out = [text.get_text() for text in axes.texts if "without a name" in text.get_text()]
    missing = int(left_out[0].split()[0]) if left_out else 0
    assert 40 == len(written) + missing
    assert len(written) > 20


def test_a_page_has_the_drawing_in_its_own_colours() -> None:
    """It is in the page itself, with no rule of style for the rest, no address to fetch, and no fixed ink."""
    page = RENDERERS.named("html").render([compared("groups=1,2,3,4")], Options())
    (figure,) = re.findall(r'<figure class="plot".*?</figure>', page, re.DOTALL)
    ElementTree.fromstring(re.sub(r"\s(?:xlink:)?href=", " data-href=", figure))
    assert "currentColor" in figure
    assert "var(--line)" in figure
    assert not re.search(r"<style|<metadata|<image|#1c2127|#ffffff|url\((?!#)", figure)


def test_without_matplotlib_a_page_says_how_to_get_the_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is complete without it, and names the command."""
    monkeypatch.setattr(draw, "is_installed", lambda: False)
    page = RENDERERS.named("html").render([compared("groups=1,2,4")], Options())
    assert "pip install matplotlib" in page
    assert "<figure" not in page


WITHOUT = """
import sys
class No:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("matplotlib",):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, No())
from convstat.cli import main
main()
"""


def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run convstat in a process of its own."""
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, check=False)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_without_matplotlib_a_plot_is_refused_before_the_work(suffix: str, tmp_path: Path) -> None:
    """Exit code 2, the command to install it, nothing on standard output and no file."""
    answer = run(WITHOUT, "compare", "groups=1,2", "-o", f"sweep.{suffix}", cwd=tmp_path)
    assert (2, b"") == (answer.returncode, answer.stdout)
    assert b"a plot needs matplotlib, which is not installed" in answer.stderr
    assert b"help: pip install matplotlib\n" in answer.stderr
    assert [] == list(tmp_path.iterdir())
    assert 0 == run(WITHOUT, "compare", "groups=1,2", "-o", "sweep.md", cwd=tmp_path).returncode


def test_matplotlib_is_imported_for_a_plot_alone(tmp_path: Path) -> None:
    """A comparison into other files leaves it alone; the second half shows that the first can fail."""
    program = (
        "import sys\nfrom convstat.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    answer = run(program, "compare", "groups=1,2", "-o", "a.md", "-o", "a.json", "-qq", cwd=tmp_path)
    assert b"False False False\n" == answer.stdout
    answer = run(program, "compare", "groups=1,2", "-o", "a.svg", "-qq", cwd=tmp_path)
    assert b"True False False\n" == answer.stdout


def test_a_picture_goes_through_a_pipe_as_its_bytes(tmp_path: Path) -> None:
    """Standard output can be a PNG, and nothing else is in it."""
    answer = run("from convstat.cli import main; main()", "compare", "groups=1,2,4", "-f", "png", cwd=tmp_path)
    assert (0, "PNG") == (answer.returncode, Image.open(io.BytesIO(answer.stdout)).format)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_terminal_is_not_given_bytes(tmp_path: Path) -> None:
    """Exit code 2, and the way to a file."""
    main, side = os.openpty()
    answer = subprocess.run(
        [sys.executable, "-c", "from convstat.cli import main; main()", "compare", "groups=1,2", "-f", "png"],
        cwd=tmp_path, stdout=side, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(side)
    os.close(main)
    assert 2 == answer.returncode
    assert b"a terminal cannot show a PNG" in answer.stderr


def test_only_comparisons_have_pictures(root: Path) -> None:
    """Asked for another, it is refused with the formats that can."""
    answer = run("from convstat.cli import main; main()", "analyze", "configs/conv2d.yaml", "-o", "a.png", cwd=root)
    assert 2 == answer.returncode
    assert b"the format png cannot represent a report" in answer.stderr
    with pytest.raises(UsageError, match="a PNG is no text"):
        RENDERERS.named("png").render([compared("groups=1,2")], Options())


def test_no_point_lies_beyond_the_picture() -> None:
    """Counts that are all alike, nearly alike or zero are inside of their panels."""
    from matplotlib.figure import Figure

    for counts in ((448, 432), (7, 7), (0, 0), (0, 10**18)):
        points = tuple(Point(x, str(x), count, count) for x, count in enumerate(counts))
        axes = Figure().subplots()
        draw._against(axes, Chart("", "x", (Family("", points),)), "macs", ["red"])
        for line in axes.lines:
            assert all(axes.get_ylim()[0] <= y < axes.get_ylim()[1] for y in line.get_ydata()), counts
