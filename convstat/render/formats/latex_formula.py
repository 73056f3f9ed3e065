r"""Formulas for papers: those of a network as tables for booktabs, that of a kind of layer as displayed mathematics.

It needs ``booktabs`` and, for the aligned terms, ``amsmath``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from convstat.formulas.notation import Symbol, latex
from convstat.layers.notes import Form
from convstat.render.views.formula import FIGURES, formula_lines
from convstat.results.formula import Formula, KindFormula, NetworkFormula
from convstat.text.latex import escape
from convstat.text.printable import printable

if TYPE_CHECKING:
    from convstat.render.base import Options

NAMES = {"MACs": r"\mathrm{MACs}", "params": r"\mathrm{params}"}


def write_formula(formula: Formula, options: Options) -> Iterator[str]:
    """Write the lines of one result."""
    yield r"% needs \usepackage{amsmath} too"
    if isinstance(formula, NetworkFormula):
        yield from _network(formula, options)
    elif isinstance(formula, KindFormula):
        yield from _kind(formula)


def _network(formula: NetworkFormula, options: Options) -> Iterator[str]:
    totals = formula.report.totals
    layers = len(formula.report.layers)
    for figure in FIGURES:
        yield ""
        yield f"% {figure} of {printable(formula.report.model.name)}"
        yield r"\begin{tabular}{lllr}"
        yield r"\toprule"
        yield rf"layer & {figure} & with values & {figure} \\"
        yield r"\midrule"
        for line in formula_lines(figure, formula, options):
            name = escape(line.name)
            lead = rf"\hspace*{{{line.indent}em}}{name}" if line.indent else name
            symbols = f"${latex(line.symbols)}$" if line.symbols else escape(line.words)
            numbers = f"${latex(line.numbers)}$" if line.numbers else ""
            amount = "" if line.amount is None else f"{line.amount:,}"
            yield rf"{lead} & {symbols} & {numbers} & {amount} \\"
        yield r"\midrule"
        whole = totals.macs if figure == "MACs" else totals.params
        yield rf"total ({layers} layer{'s' if layers != 1 else ''}) & & & {whole:,} \\"
        yield r"\bottomrule"
        yield r"\end{tabular}"
    yield from _symbols(formula.symbols())


def _symbols(symbols: Sequence[Symbol]) -> Iterator[str]:
    if not symbols:
        return
    yield ""
    yield r"\begin{tabular}{ll}"
    yield r"\toprule"
    yield r"symbol & meaning \\"
    yield r"\midrule"
    for symbol in symbols:
        yield rf"${symbol.latex}$ & {escape(symbol.meaning)} \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _kind(formula: KindFormula) -> Iterator[str]:
    yield ""
    yield f"% {formula.name}: {formula.about}"
    yield r"\begin{align*}"
    lines: list[str] = []
    for figure, forms in (("MACs", formula.macs), ("params", formula.params)):
        lines += _terms(NAMES[figure], forms)
    yield from (rf"{line} \\" for line in lines[:-1])
    yield lines[-1]
    yield r"\end{align*}"
    yield from _symbols(formula.symbols())
    for source in formula.notes.sources:
        yield f"% {source}"


def _terms(name: str, forms: Sequence[Form]) -> Iterator[str]:
    """Each term on a line of its own, with what it counts."""
    if not forms:
        yield f"{name} &= 0"
        return
    for place, form in enumerate(forms):
        words = " ".join(text for text in (form.about, form.condition) if text)
        about = rf" && \text{{{escape(words)}}}" if words else ""
        lead = f"{name} &=" if place == 0 else r"&\quad +"
        yield f"{lead} {latex(form.symbols)}{about}"
