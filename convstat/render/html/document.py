"""The format for looking closer: one page of HTML that needs nothing besides itself.

The page fetches nothing, and forbids itself to: it can be mailed, archived, and opened years later without a network.
Everything is in the page as it is written, the numbers as text; the script sorts, folds and finds.
Any name is escaped, and none gets into the script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, cast

from convstat.grammar.paths import split_variant
from convstat.render.base import Options, Renderer, Result
from convstat.render.html import icicle
from convstat.render.html.layer_tree import Entry, entries
from convstat.render.html.page import classes, write_block
from convstat.render.page import Page, Table
from convstat.render.views.report import show_place
from convstat.results.report import Report
from convstat.text.printable import counted, exact, per_pixel_scale, printable, share, shorten

if TYPE_CHECKING:
    from convstat.results.arena import Arena
    from convstat.results.comparison import Comparison
    from convstat.results.memory import Memory

MOST = 3_000
"""The rows of the table of layers: a page stays small enough to open and to send."""

LONGEST_PATH = 300
"""A name in full, beside the pointer, is shortened to this: the blocks that it is in are above it anyway."""

UNFOLDED = 60
"""A table with no more rows than these is not folded at first."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What the page may do: run what is in it, and load nothing from anywhere."""


class HtmlRenderer(Renderer):
    """A page: facts, the reconciliation, a drawing of what costs how much, and every layer."""

    name = "html"
    suffixes = (".html", ".htm")
    about = "for inspection: one page for the browser, without network access"
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        from convstat import __version__
        from convstat.render.views import view

        sections = []
        for number, result in enumerate(results):
            # Nothing is folded or left out to make room; of very many changes, the largest are shown.
            page = view(result, Options(top=MOST if result.kind == "diff" else None))
            body = "".join(_report(page, result, number) if isinstance(result, Report) else _plain(page, result))
            sections.append(f"<section>{body}</section>\n")
        style, script = (Path(__file__).with_name(f"document.{kind}").read_text("utf-8") for kind in ("css", "js"))
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(_title(results))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            f"{''.join(sections)}<footer>convstat {escape(__version__)}</footer>\n"
            f"<script>\n{script}</script>\n</body>\n</html>\n"
        )


def _title(results: Sequence[Result]) -> str:
    names = [printable(result.model.name) for result in results if isinstance(result, Report)]
    return f"convstat: {', '.join(names)}" if names else "convstat"


def _plain(page: Page, result: Result) -> Iterator[str]:
    """Write the blocks of a page; above the table of a comparison, and the first one of memory, is its plot."""
    is_drawn = result.kind not in ("comparison", "memory", "arena")
    for block in page.blocks:
        if isinstance(block, Table) and (not is_drawn or result.kind == "comparison"):
            from convstat.render.plots.formats import figure

            is_drawn = True
            yield figure(cast("Comparison | Memory | Arena", result))
        yield write_block(block, classes, 1)


def _report(page: Page, report: Report, number: int) -> Iterator[str]:
    """Write the blocks of a report, its table of layers with a drawing above it."""
    for block in page.blocks:
        if isinstance(block, Table) and block.columns[0].title == "layer":
            listed = entries(report, MOST)
            prefix = f"s{number}-" if number else ""
            yield _drawings(report, listed, number, prefix)
            yield _layers(report, listed, prefix)
        else:
            yield write_block(block, classes, 1)


def _drawings(report: Report, listed: Sequence[Entry], number: int, prefix: str) -> str:
    name = printable(report.model.name)
    drawn = [metric for metric in icicle.METRICS if getattr(report.totals, metric.name)]
    if not drawn:
        return ""
    choices, figures = [], []
    for place, metric in enumerate(drawn):
        key = f"metric-{number}-{metric.name}"
        checked = " checked" if place == 0 else ""
        choices.append(
            f'<input type="radio" name="metric-{number}" id="{key}"{checked}><label for="{key}">{metric.title}</label>'
        )
        figures.append(icicle.drawing(listed, metric, getattr(report.totals, metric.name), name, prefix))
    return f'<div class="icicle">{"".join(choices)}{"".join(figures)}</div>'


def _layers(report: Report, listed: Sequence[Entry], prefix: str) -> str:
    """Write every entry; a block has the sums of its layers, which are in it and not added to the total again."""
    totals = report.totals
    scale = per_pixel_scale([totals.per_pixel(entry.macs) for entry in listed] + [totals.macs_per_pixel])
    has_places = any(entry.source for entry in listed)
    heads = [("layer", ""), ("type", ""), ("output", ""), ("params", "r"), ("MACs", "r"), ("FLOPs", "r")]
    heads += [
        *([(scale.title, "r")] if totals.pixels else []),
        ("share of MACs", "r"),
        *([("where", "")] if has_places else []),
    ]
    many = len(listed) > UNFOLDED

    def figures(params: int, macs: int) -> str:
        numbers = [exact(params), exact(macs), exact(2 * macs)]
        numbers += [scale.write(totals.per_pixel(macs))] if totals.pixels else []
        return "".join(f'<td class="r">{text}</td>' for text in numbers)

    rows = []
    for place, entry in enumerate(listed):
        width = f"{100 * entry.macs / totals.macs:.2f}%" if totals.macs else "0"
        folded = " data-f" if many and entry.is_block and entry.level else ""
        kind = ' class="block"' if entry.is_block else ""
        where = show_place(entry.source)
        short = where.rpartition("/")[2]
        if entry.source and entry.source.file == split_variant(report.model.source)[0]:
            short = f"line {entry.source.line}"
        link = f'<td title="{escape(where)}">{escape(short)}</td>'
        rows.append(
            f'<tr id="{prefix}r{place}" data-l="{entry.level}"{kind}{folded}>'
            f'<td style="--l:{min(entry.level, 30)}" title="{escape(shorten(entry.path, LONGEST_PATH))}">'
            f"{escape(entry.name)}</td>"
            f"<td>{escape(entry.type)}</td><td>{escape(entry.shape)}</td>{figures(entry.params, entry.macs)}"
            f'<td class="r"><span class="share"><i style="width:{width}"></i></span>'
            f"<b>{escape(share(entry.macs, totals.macs))}</b></td>"
            f"{link if has_places else ''}</tr>\n"
        )
    count = len(report.layers)
    foot = (
        f"<tr><td>total ({counted(count, 'layer')})</td><td></td><td></td>"
        f'{figures(totals.params, totals.macs)}<td class="r">{"100%" if totals.macs else ""}</td>'
        f"{'<td></td>' if has_places else ''}</tr>"
    )
    left_out = sum(entry.layers for entry in listed if not entry.is_block) - sum(not e.is_block for e in listed)
    are = "s are" if left_out != 1 else " is"
    note = f'<p class="quiet">{left_out:,} layer{are} shown as part of a block.</p>' if left_out > 0 else ""
    head = "".join(f'<th scope="col"{f" class={kind}" if kind else ""}>{escape(text)}</th>' for text, kind in heads)
    return (
        f'{note}<div class="wide"><table class="layers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody><tfoot>{foot}</tfoot></table></div>"
    )
