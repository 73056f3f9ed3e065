r"""Formulas for papers: those of a network as tables for booktabs, that of a kind of layer as displayed mathematics.

It needs ``booktabs`` and, for the aligned terms, ``amsmath``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from convstat.formulas.notation import Symbol, latex
from convstat.formulas.notes import Form
from convstat.formulas.symbolic.writing import Latex, latex_letter
from convstat.render.views.formula import FIGURES, FormulaLine, closed_lines, facts_of, formula_lines
from convstat.results.closed import ClosedForms
from convstat.results.formula import Formula, KindFormula, NetworkFormula
from convstat.results.ratio import RatioFormula
from convstat.text.latex import escape, indented, tabular
from convstat.text.printable import counted, printable

if TYPE_CHECKING:
    from convstat.render.base import Options

RATIO_NAMES = {
    "macs": r"\mathrm{MACs}", "weights": r"\mathrm{weights}", "params": r"\mathrm{params}",
}  # fmt: skip
NAMES = {"MACs": r"\mathrm{MACs}", "params": r"\mathrm{params}"}


def write_formula(formula: Formula, options: Options) -> Iterator[str]:
    """Write the lines of one result."""
    yield r"% needs \usepackage{amsmath} too"
    if isinstance(formula, NetworkFormula):
        yield from _network(formula, options)
    elif isinstance(formula, RatioFormula):
        yield from _ratio(formula)
    elif isinstance(formula, KindFormula):
        yield from _kind(formula)


def _ratio(formula: RatioFormula) -> Iterator[str]:
    """Each ratio as displayed mathematics, with the quotient that it comes from."""
    write = Latex()
    first, second = formula.first, formula.second
    yield ""
    yield f"% {printable(first.name)} / {printable(second.name)}"
    yield from (f"% {text}" for text in formula.assumed)
    yield r"\begin{align*}"
    lines = []
    for found in formula.ratios:
        name = RATIO_NAMES[found.figure]
        over, under = (write.form(getattr(side, found.figure)) for side in (first, second))
        lines.append(rf"\frac{{{name}_1}}{{{name}_2}} &= \frac{{{over}}}{{{under}}} = {found.quotient.write(write)}")
        if found.in_case is not None and found.case is not None:
            letters = [latex_letter(name) for name in found.case.split(" = ")]
            case = rf"\text{{where }} {' = '.join(letters)}"
            lines.append(rf"&= {found.in_case.write(write)} && {case}")
    yield from (rf"{line} \\" for line in lines[:-1])
    yield lines[-1]
    yield r"\end{align*}"
    if formula.telling:
        yield rf"% valid where ${r'$, $'.join(map(write.condition, formula.telling))}$"
    yield from _symbols(formula.symbols())


def _network(formula: NetworkFormula, options: Options) -> Iterator[str]:
    totals = formula.report.totals
    layers = len(formula.report.layers)
    for figure in FIGURES:
        whole = totals.macs if figure == "MACs" else totals.params
        total = (f"total ({counted(layers, 'layer')})", "", "", f"{whole:,}")
        rows = map(_line, formula_lines(figure, formula, options))
        yield from ("", f"% {figure} of {printable(formula.report.model.name)}")
        yield from tabular("lllr", ("layer", figure, "with values", figure), rows, total)
    yield from _symbols(formula.symbols())
    if formula.closed is not None:
        yield from _closed(formula, formula.closed, options)


def _closed(formula: NetworkFormula, closed: ClosedForms, options: Options) -> Iterator[str]:
    """The closed forms: the whole as displayed mathematics, a term on each line, and a table of the layers."""
    write = Latex(closed.sizes)
    yield ""
    yield f"% closed forms of {printable(formula.report.model.name)}"
    yield from (f"% {lead}: {printable(text)}" for lead, text in facts_of(closed))
    yield r"\begin{align*}"
    lines: list[str] = []
    for figure, form in zip(FIGURES, (closed.macs, closed.params), strict=True):
        first, *others = write.terms(form)
        lines += [f"{NAMES[figure]} &= {first}", *(rf"&\quad {term}" for term in others)]
    yield from (rf"{line} \\" for line in lines[:-1])
    yield lines[-1]
    yield r"\end{align*}"
    if closed.telling:
        yield rf"% valid where ${r'$, $'.join(map(write.condition, closed.telling))}$"
    rows = []
    for line, found in closed_lines(formula, closed, options):
        texts = [f"${write.form(form)}$" if form and not line.is_title else "" for form in found]
        rows.append((indented(escape(line.name), line.indent), *texts))
    yield ""
    yield from tabular("lll", ("layer", *FIGURES), rows)


def _line(line: FormulaLine) -> tuple[str, ...]:
    symbols = f"${latex(line.symbols)}$" if line.symbols else escape(line.words)
    numbers = f"${latex(line.numbers)}$" if line.numbers else ""
    amount = "" if line.amount is None else f"{line.amount:,}"
    return indented(escape(line.name), line.indent), symbols, numbers, amount


def _symbols(symbols: Sequence[Symbol]) -> Iterator[str]:
    if symbols:
        yield ""
        yield from tabular("ll", ("symbol", "meaning"), ((f"${s.latex}$", escape(s.meaning)) for s in symbols))


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
