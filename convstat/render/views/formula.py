"""What ``convstat formula`` says: the formulas of a network, figure by figure, or that of a kind of layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from convstat.formulas.notation import Symbol, spaced
from convstat.formulas.notes import Form
from convstat.formulas.symbolic.forms import total
from convstat.formulas.symbolic.writing import Text
from convstat.render.base import Options
from convstat.render.page import Block, Column, Heading, Item, Items, Line, Pairs, Row, Table
from convstat.render.views.layers import LayerLine, layer_lines
from convstat.render.views.report import CONVENTION, input_fact, set_facts
from convstat.render.views.report import title as title_of
from convstat.results.closed import ClosedForms, LayerForms, Letter
from convstat.results.formula import Formula, KindFormula, NetworkFormula, Term, combined, gathered, joined
from convstat.results.ratio import RatioFormula
from convstat.text.printable import counted, exact, printable

FIGURES = ("MACs", "params")
TOGETHER = 2
"""So many terms stand in one line; of more, each has its own."""


def blocks(formula: Formula, options: Options) -> Iterator[Block]:
    """What the page of the formulas of a network says, or of a kind of layer."""
    if isinstance(formula, NetworkFormula):
        return _network(formula, options)
    if isinstance(formula, RatioFormula):
        return _ratio(formula)
    assert isinstance(formula, KindFormula)
    return _kind(formula)


RATIO_FIGURES = {"macs": "MACs", "weights": "weights", "params": "params"}
"""What the figures of a ratio are called; weights are parameters without biases and norms."""


def _ratio(formula: RatioFormula) -> Iterator[Block]:
    first, second = formula.first, formula.second
    yield Heading(f"{printable(first.name)} / {printable(second.name)}", 1)
    facts = [("letters", _letters(formula.letters))]
    facts += [("assumed" if place == 0 else "", text) for place, text in enumerate(formula.assumed)]
    if formula.telling:
        facts.append(("valid where", "; ".join(map(Text().condition, formula.telling))))
    yield Pairs(tuple(facts))
    yield Heading("ratio")
    items = []
    for found in formula.ratios:
        name = RATIO_FIGURES[found.figure]
        items.append(Item(name, f"{spaced(found.symbols)} = {float(found.value):.6g}"))
        if found.special is not None:
            items.append(Item("", f"{spaced(found.special)}   where {found.case}"))
    yield Items(tuple(items), "left")
    for side in (first, second):
        yield Heading(printable(side.name))
        texts = {"macs": side.written_macs, "weights": side.written_weights, "params": side.written_params}
        yield Items(
            tuple(
                Item(RATIO_FIGURES[figure], f"{spaced(text)} = {exact(side.counts[figure])}")
                for figure, text in texts.items()
            ),
            "left",
        )
    yield from _legend(formula.symbols())


def _network(formula: NetworkFormula, options: Options) -> Iterator[Block]:
    model = formula.report.model
    yield Heading(title_of(model.name, model.source), 1)
    yield Pairs((("input", input_fact(model)), *set_facts(model), ("counts", CONVENTION)))
    for figure in FIGURES:
        yield Heading(figure)
        yield _table(figure, formula, options)
    if items := tuple(_by_kind(formula)):
        yield Heading("by kind of layer")
        yield Items(items, "left")
    yield from _legend(formula.symbols())
    if formula.closed is not None:
        yield from closed_blocks(formula, formula.closed, options)


def _by_kind(formula: NetworkFormula) -> Iterator[Item]:
    """Each formula once: where the room is short, the table has the numbers alone."""
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for layer in formula.layers:
        for figure, terms in (("MACs", layer.macs), ("params", layer.params)):
            together = [term for term in combined(terms) if term.symbols]
            # Where a letter has two values, the sum of its terms would look like a multiple of one.
            texts = [joined(term.in_symbols for term in together)] if _agree(together) else []
            parts = ", ".join(dict.fromkeys(spaced(term.symbols) for term in together))
            text = f"{figure} = {spaced(texts[0])}" if texts else f"{figure}: the sum of {parts}, for each part"
            if together:
                seen.setdefault((layer.row.type, figure), {}).setdefault(text)
    for (kind, _), found in sorted(seen.items()):
        yield from (Item(printable(kind), text) for text in found)


def _legend(symbols: Sequence[Symbol]) -> Iterator[Block]:
    if symbols:
        yield Heading("symbols")
        yield Items(tuple(Item(symbol.text, symbol.meaning) for symbol in symbols), "left")


class FormulaLine(NamedTuple):
    """One line of the table of a figure; ``amount`` is None for a title, whose parts stand below it.

    ``words`` stand in the place of the formula where there is none.
    """

    name: str
    type: str
    symbols: str
    numbers: str
    amount: int | None
    indent: int = 0
    words: str = ""


def formula_lines(figure: str, formula: NetworkFormula, options: Options) -> tuple[FormulaLine, ...]:
    """Choose the lines as for ``analyze``; those without any of the figure are one line, so the sum is the total."""
    if options.top is not None and options.sort is None:
        options = options._replace(sort=figure.lower())
    terms = {id(layer.row): layer.macs if figure == "MACs" else layer.params for layer in formula.layers}
    found: list[FormulaLine] = []
    titles: list[FormulaLine] = []
    without = 0
    for line in layer_lines(formula.report, options):
        if line.is_title:
            titles = [*(title for title in titles if title.indent < line.indent), _title(line)]
            continue
        count = line.macs if figure == "MACs" else line.params
        if not count:
            without += line.layers
            continue
        found += [title for title in titles if title.indent < line.indent]
        titles = []
        found += _lines(line, count, [term for row in line.rows for term in terms[id(row)]])
    if without:
        found.append(FormulaLine(f"[{counted(without, 'layer')} without {figure}]", "", "", "", 0))
    return tuple(found)


def _title(line: LayerLine) -> FormulaLine:
    return FormulaLine(line.name, line.type, "", "", None, line.indent)


def _lines(line: LayerLine, count: int, terms: Sequence[Term]) -> Iterator[FormulaLine]:
    """The line of a layer, with the terms below it where they are many; of a block, what they sum up to."""
    together = combined(terms)
    kinds = {row.type for row in line.rows}
    if len(kinds) > 1 or (len(together) > TOGETHER and len({_shape(row) for row in line.rows}) > 1):
        yield FormulaLine(line.name, line.type, "", "", count, line.indent, f"({len(terms)} terms)")
    elif len(together) <= TOGETHER and _agree(together):
        symbols, numbers = joined(part.in_symbols for part in together), joined(part.in_numbers for part in together)
        yield FormulaLine(line.name, line.type, symbols, numbers, count, line.indent)
    else:
        yield _title(line)
        for part in gathered(terms):
            about = printable(part.about) or "(the others)"
            yield FormulaLine(about, "", part.in_symbols, part.in_numbers, part.total, line.indent + 1)


def _shape(row: object) -> object:
    return getattr(row, "input_shapes", ()), tuple(getattr(row, "arguments", {}).items())


def _agree(terms: Iterable[Term]) -> bool:
    """Whether each letter has one value in all of them."""
    values: dict[str, int] = {}
    return all(values.setdefault(letter, size) == size for term in terms for letter, size in term.values)


def _table(figure: str, formula: NetworkFormula, options: Options) -> Table:
    columns = (
        Column("layer", "left", shortens=True, comfort=18),
        Column("type", "left", 0 if options.sort == "type" else 2),
        Column("in symbols", "left", 1, breaks=True),
        Column("in numbers", "left", breaks=True),
        Column(figure),
    )
    totals = formula.report.totals
    layers = len(formula.report.layers)
    rows = []
    for line in formula_lines(figure, formula, options):
        is_title = line.amount is None
        amount = "" if line.amount is None else exact(line.amount)
        cells = (line.name, line.type, line.symbols, line.numbers or line.words, amount)
        rows.append(Row(cells, "quiet" if is_title else "", line.indent))
    whole = totals.macs if figure == "MACs" else totals.params
    total = Row((f"total ({counted(layers, 'layer')})", "", "", "", exact(whole)), "strong")
    return Table(columns, tuple(rows), total)


def _letters(letters: Sequence[Letter]) -> str:
    # Where a model is specialised on all that was asked for, none is left.
    return ", ".join(f"{letter.name} = {number(letter.value)}" for letter in letters) or "none"


def facts_of(closed: ClosedForms, writer: Text | None = None) -> Iterator[tuple[str, str]]:
    """What closed forms are in, and what they rest on."""
    write = writer or closed.writer
    yield "letters", _letters(closed.letters)
    if closed.settled:
        fixed = ", ".join(f"{item.name} = {number(item.value)}" for item in closed.settled)
        yield "fixed", f"{fixed}: {'; '.join(dict.fromkeys(item.why for item in closed.settled))}"
    if telling := closed.telling:
        yield "valid where", "; ".join(map(write.condition, telling))


def closed_lines(
    formula: NetworkFormula, closed: ClosedForms, options: Options
) -> Iterator[tuple[LayerLine, LayerForms]]:
    """The lines of a table as for ``analyze``, each with the closed forms of what it stands for."""
    forms = {id(layer.row): found for layer, found in zip(formula.layers, closed.layers, strict=True)}
    titles: list[LayerLine] = []
    for line in layer_lines(formula.report, options):
        if line.is_title:
            titles = [*(title for title in titles if title.indent < line.indent), line]
            continue
        inside = [forms[id(row)] for row in line.rows]
        found = LayerForms(total(form.macs for form in inside), total(form.params for form in inside))
        if found.macs or found.params:
            yield from ((title, NONE) for title in titles if title.indent < line.indent)
            titles = []
            yield line, found


NONE = LayerForms(total(()), total(()))


def closed_blocks(formula: NetworkFormula, closed: ClosedForms, options: Options) -> Iterator[Block]:
    """The closed forms of a network."""
    write = closed.writer
    yield Heading("closed forms")
    yield Pairs(tuple(facts_of(closed)))
    yield Items(
        tuple(
            Item(figure, spaced(write.form(form)))
            for figure, form in zip(FIGURES, (closed.macs, closed.params), strict=True)
        ),
        "left",
    )
    rows = []
    for line, found in closed_lines(formula, closed, options):
        texts = ("", "") if line.is_title else tuple(write.form(form) if form else "" for form in found)
        rows.append(Row((line.name, line.type, *texts), "quiet" if line.is_title else "", line.indent))
    columns = (
        Column("layer", "left", shortens=True, comfort=18),
        Column("type", "left", 0 if options.sort == "type" else 2),
        *(Column(figure, "left", breaks=True) for figure in FIGURES),
    )
    yield Heading("closed forms of the layers")
    yield Table(columns, tuple(rows))


def number(value: int | Fraction) -> str:
    """A value of a letter: a decimal where it is one.

    >>> number(Fraction(3, 4)), number(Fraction(1, 3)), number(224)
    ('0.75', '1/3', '224')
    """
    is_decimal = isinstance(value, Fraction) and 10**12 % value.denominator == 0
    return f"{float(value):.12g}" if is_decimal else str(value)


def _kind(formula: KindFormula) -> Iterator[Block]:
    yield Heading(formula.name, 1)
    yield Line(formula.about)
    for figure, forms in (("MACs", formula.macs), ("params", formula.params)):
        yield Heading(figure)
        yield Items(tuple(_forms(figure, forms)), "left")
    yield from _legend(formula.symbols())
    notes = formula.notes
    yield Heading("why")
    yield from (Line(text) for text in notes.why)
    if notes.special:
        yield Heading("special cases")
        yield Items(tuple(Item(case, text) for case, text in notes.special), "left")
    facts: list[tuple[str, str]] = []
    if notes.output:
        facts.append(("output", notes.output))
    facts += [("source" if place == 0 else "", text) for place, text in enumerate(notes.sources)]
    if formula.use:
        facts.append(("with sizes", formula.use))
    if facts:
        yield Heading("more")
        yield Pairs(tuple(facts))


def _forms(figure: str, forms: Sequence[Form]) -> Iterator[Item]:
    """The sum of the terms, then each with what it counts; a single one stands alone."""
    if not forms:
        yield Item(figure, "0")
        return
    usual = [form for form in forms if form.usual]
    if len(forms) > 1 or not usual:
        others = "   with the defaults" if len(usual) < len(forms) else ""
        yield Item(figure, (spaced(" + ".join(form.symbols for form in usual)) or "0") + others)
    for form in forms:
        condition = f"   {form.condition}" if form.needs else ""
        yield Item(form.about or figure, f"{spaced(form.symbols)}{condition}")
