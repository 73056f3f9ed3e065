"""Pictures of comparisons, as files: PNG and SVG; and the drawing in the middle of a page of HTML.

Whoever writes a file looks through the suffixes of all formats, so what draws is imported by those who draw.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from convstat.errors import UsageError
from convstat.render.base import Options, Renderer, Result

if TYPE_CHECKING:
    from convstat.render.console import Terminal
    from convstat.results.arena import Arena
    from convstat.results.comparison import Comparison
    from convstat.results.memory import Memory


class PngRenderer(Renderer):
    """A picture: of a sweep params and MACs along an axis and their Pareto front, of memory what is alive."""

    name = "png"
    suffixes = (".png",)
    about = "for sweeps: a plot of params and MACs along an axis, and their Pareto front; for memory: its curve"
    expresses = ("comparison", "memory", "arena")
    is_view = False

    def prepare(self, kind: str) -> None:
        from convstat.render.plots import draw

        draw.require()

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Refuse: a picture is no text."""
        raise UsageError("a PNG is no text", help="write it to a file: -o sweep.png")

    def encode(self, results: Sequence[Result], options: Options) -> bytes:
        found = _drawn(results, "png")
        assert found is not None
        return found

    def show(self, results: Sequence[Result], options: Options, terminal: Terminal) -> None:
        """Write the picture to a pipe or a file; a terminal could not show it."""
        if terminal.is_terminal:
            raise UsageError("a terminal cannot show a PNG", help="write it to a file: -o sweep.png")
        terminal.write_bytes(self.encode(results, options))


class SvgRenderer(Renderer):
    """The same of a sweep as vectors, its text as text; of any other result, what a terminal shows."""

    name = "svg"
    suffixes = (".svg",)
    about = "for web pages and papers: a vector plot of a sweep, otherwise the terminal output"

    def prepare(self, kind: str) -> None:
        from convstat.render.plots import draw

        if kind in PngRenderer.expresses:
            draw.require()

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Draw sweeps; let rich export everything else."""
        if (found := _drawn(results, "svg")) is not None:
            return found.decode("utf-8")
        from convstat.render.formats.terminal import TableRenderer, recorded

        svg = recorded(TableRenderer().pages(results, options), options).export_svg(title="convstat")
        # The picture fetches nothing: a font that is not installed is another one.
        return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def _drawn(results: Sequence[Result], format: str, *, ground: str = "white") -> bytes | None:
    """The picture of results of one kind; None where there is none of that kind."""
    from convstat.results.arena import Arena
    from convstat.results.comparison import Comparison
    from convstat.results.memory import Memory

    if plans := [result for result in results if isinstance(result, Arena)]:
        from convstat.render.plots import arena

        return arena.draw(plans, format, ground=ground)
    if profiles := [result for result in results if isinstance(result, Memory)]:
        from convstat.render.plots import curve

        return curve.draw(profiles, format, ground=ground)
    if comparisons := [result for result in results if isinstance(result, Comparison)]:
        from convstat.render.plots import draw
        from convstat.render.plots.chart import chart_of

        return draw.draw([chart_of(comparison) for comparison in comparisons], format, ground=ground)
    return None


def figure(result: Comparison | Memory | Arena) -> str:
    """The drawing as a part of a page of HTML, in the page's own colours; without matplotlib, how to get it."""
    from convstat.render.plots import draw

    if not draw.is_installed():
        return f'<p class="quiet">not drawn: there is no matplotlib ({escape(draw.INSTALL)})</p>\n'
    picture = _drawn([result], "svg", ground="none")
    assert picture is not None
    text = picture.decode("utf-8")
    _, start, rest = text.partition("<svg ")
    # Its rules of style would be rules for the whole page, and its size is that of the page.
    rest = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", rest, flags=re.DOTALL)
    head, close, body = rest.partition(">")
    size = re.search(r'viewBox="[^"]*"', head)
    label = escape(_label(result))
    body = body.replace(draw.INK, "currentColor").replace(draw.LINE, "var(--line)")
    box = size[0] if size else ""
    return (
        '<figure class="plot" style="margin:1rem 0">'
        f'{start}{box} role="img" aria-label="{label}" style="max-width:100%;height:auto;stroke-linejoin:round"{close}'
        f"{body.rstrip()}</figure>\n"
    )


def _label(result: Comparison | Memory | Arena) -> str:
    from convstat.render.plots.chart import chart_of
    from convstat.results.arena import Arena
    from convstat.results.memory import Memory

    if isinstance(result, Arena):
        return f"arena of {result.model.name}"
    if isinstance(result, Memory):
        return f"memory of {result.model.name}"
    return f"params and MACs of {chart_of(result).title or 'models'}"
