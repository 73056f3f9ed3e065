"""The format for spreadsheets: rectangular, raw integers, one heading.

The column ``row`` says what a row is: ``layer``, ``part``, ``block``, ``total``, ``cache`` (a layer of that),
``counter``, ``variant`` or ``budget``.
Sum the rows of one kind; the layers add up to the total.
A name from a model that a spreadsheet would take for a formula is led by an apostrophe:
one that starts with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return.
A dash alone (standard input) and the options that a budget comes from (``--max macs=5M``) stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

from convstat.render.base import Options, Renderer, Result
from convstat.results.comparison import LANGUAGE
from convstat.results.documents.codec import to_document
from convstat.results.report import Figures, LayerRow, Place, Report, Totals
from convstat.text.printable import printable

if TYPE_CHECKING:
    from convstat.formulas.symbolic.forms import Form
    from convstat.results.advice import Advice
    from convstat.results.arena import Arena
    from convstat.results.check import Check
    from convstat.results.closed import ClosedForms
    from convstat.results.comparison import Comparison, ComparisonRow
    from convstat.results.diff import Diff
    from convstat.results.explanation import Explanation
    from convstat.results.formula import Formula
    from convstat.results.identification import Identification
    from convstat.results.listing import Listing
    from convstat.results.memory import Memory
    from convstat.results.mfu import Mfu

Record = dict[str, Any]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NO_FORMULA = r"-|--(?:max|min|exact) \w.*"


class CsvRenderer(Renderer):
    """One row per layer and one for the total; per variant for compare; per budget for check."""

    name = "csv"
    suffixes = (".csv",)
    about = "for spreadsheets: one row per layer and a total, raw integers"
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write all results under one heading; a cell is empty where a row has no such figure."""
        return write([record for result in results for record in RECORDS[result.kind](result)])


def write(records: Sequence[Mapping[str, Any]]) -> str:
    """Write records as CSV; the heading is the union of their keys, in the order in which they come up."""
    import csv
    import io

    heading = list(dict.fromkeys(key for record in records for key in record))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([text_cell(name) for name in heading])
    writer.writerows([cell(record.get(name)) for name in heading] for record in records)
    return stream.getvalue()


def cell(value: object) -> str:
    """Write one cell.

    >>> cell(1234567), cell(None), cell(True), cell("=1+1"), cell(Fraction(1, 2)), cell(-3)
    ('1234567', '', 'true', "'=1+1", '0.5', '-3')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Fraction):
        return str(value.numerator) if value.denominator == 1 else repr(float(value))
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        from convstat.render.views.report import show_value

        return text_cell(show_value(value))
    return text_cell(str(value))


def text_cell(text: str) -> str:
    """Make a text safe: no control characters, and nothing that a spreadsheet would run.

    >>> text_cell("-"), text_cell("--max macs=500k"), text_cell("@SUM(A1)")
    ('-', '--max macs=500k', "'@SUM(A1)")
    """
    safe = printable(text)
    is_formula = text.lstrip(" ").startswith(FORMULA_STARTS) and not re.fullmatch(NO_FORMULA, text)
    return f"'{safe}" if is_formula else safe


ELEMENTS = ("activations", "conv_activations", "output_elements")

COUNTS = ("params", "trainable_params", "buffers", "weight_bytes", "macs", "flops")


def _counts(counts: Totals | LayerRow, totals: Totals) -> Record:
    # Where the totals have none, as in another counter's convention, the layers have none to speak of.
    known = COUNTS if totals.activations is None else (*COUNTS, *ELEMENTS)
    record: Record = {name: getattr(counts, name) for name in known}
    return {**record, "macs_per_pixel": totals.per_pixel(counts.macs)}


def _shapes(shapes: Iterable[Sequence[int]]) -> str:
    return " ".join("x".join(map(str, shape)) for shape in shapes)


def _place(source: Place | None) -> Record:
    return {"source_file": source.file if source else None, "source_line": source.line if source else None}


def _report_records(report: Report) -> Iterable[Record]:
    totals = report.totals
    lead = {"model": report.model.name, "source": report.model.source}
    names = list(totals.other)

    def other(counts: Totals | LayerRow) -> Record:
        return {f"other_{name}": counts.other.get(name, 0) for name in names}

    for row in report.layers:
        yield {
            "row": "layer",
            **lead,
            "name": row.name,
            "type": row.type,
            "input_shapes": _shapes(row.input_shapes),
            "output_shapes": _shapes(row.output_shapes),
            **_counts(row, totals),
            **other(row),
            **_place(row.source),
            "status": None,
        }
    for uncounted in report.uncounted:
        calls = f"{uncounted.calls} call{'s' if uncounted.calls != 1 else ''}"
        yield {"row": "uncounted", **lead, "name": uncounted.op, "type": calls}
    for part in report.parts:
        figures = {name: getattr(part, name) for name in COUNTS}
        per_pixel = {"macs_per_pixel": totals.per_pixel(part.macs), "calls": part.calls}
        yield {"row": "part", **lead, "name": part.name, "type": "part", **figures, **per_pixel}
    for shape in report.blocks.shapes if report.blocks is not None else ():
        sizes = {"input_shapes": _shapes([shape.read]), "output_shapes": _shapes([shape.size]), "calls": shape.count}
        macs = {"macs": shape.count * shape.macs, "macs_per_pixel": shape.macs_per_pixel}
        yield {"row": "block", **lead, "name": f"block {_shapes([shape.size])}", "type": "block", **sizes, **macs}
    yield {
        "row": "total",
        **lead,
        **_counts(totals, totals),
        **other(totals),
        "status": report.status,
        **_tokens(report),
    }
    for held in report.language.cache.layers if report.language and report.language.cache else ():
        figures = {"cache_bytes": held.bytes, "cache_bytes_per_token": held.bytes_per_token}
        yield {"row": "cache", **lead, "name": f"cache {held.layer}", "type": held.kind, **figures}
    for counter in report.counters:
        reported, predicted = counter.reported, counter.predicted or Figures()
        yield {
            "row": "counter",
            **lead,
            "name": counter.name,
            "type": counter.variant,
            **{name: getattr(reported, name) for name in ("params", "macs", "flops")},
            "macs_per_pixel": totals.per_pixel(reported.macs),
            "status": counter.status,
            **{f"predicted_{name}": getattr(predicted, name) for name in ("params", "macs")},
        }


def _tokens(found: Report | ComparisonRow) -> Record:
    """The figures of a model that takes tokens."""
    language = found.language
    return {} if language is None else {name: getattr(language, name) for name in LANGUAGE.split()}


def _comparison_records(comparison: Comparison) -> Iterable[Record]:
    # A parameter may be called as one of our columns is.
    keys = [key for key in comparison.varying if key != "model"]
    for row in comparison.rows:
        record: Record = {"row": "variant", "model": row.model}
        record |= {f"set_{key}": row.values.get(key) for key in keys}
        record |= {"status": row.status, "reason": row.reason}
        if row.totals is not None:
            record |= _counts(row.totals, row.totals)
            record |= {f"{name}_vs_base": value for name, value in (row.vs_base or {}).items()}
            record |= _tokens(row)
        for counter in row.counters:
            record |= {
                f"{counter.name}_{counter.variant}_{name}": getattr(counter.reported, name)
                for name in ("params", "macs")
            }
        yield record


def _explanation_records(explanation: Explanation) -> Iterable[Record]:
    for layer in explanation.layers:
        lead = {"row": "layer", "model": explanation.model.name, "name": layer.name, "type": layer.type}
        yield {**lead, "counter": "convstat", "params": layer.params.value, "macs": layer.macs.value}
        for view in layer.views:
            differences = {f"{name}_difference": count for name, count in to_document(view.difference).items()}
            yield {**lead, "counter": view.name, **to_document(view.counts), **differences}


def _formula_records(formula: Formula) -> Iterable[Record]:
    """A row for each term of each layer and figure; of a kind of layer, for each term."""
    from convstat.results.formula import KindFormula, NetworkFormula
    from convstat.results.ratio import RatioFormula

    if isinstance(formula, RatioFormula):
        for side in (formula.first, formula.second):
            texts = {"macs": side.written_macs, "weights": side.written_weights, "params": side.written_params}
            for figure, text in texts.items():
                yield {
                    "row": "form",
                    "name": side.name,
                    "figure": figure,
                    "symbols": text,
                    "value": side.counts[figure],
                }
        for part in formula.ratios:
            lead = {"row": "ratio", "name": f"{formula.first.name} / {formula.second.name}", "figure": part.figure}
            yield {
                **lead,
                "symbols": part.symbols,
                "value": float(part.value),
                "case": part.case,
                "special": part.special,
            }
    if isinstance(formula, KindFormula):
        for figure, forms in (("macs", formula.macs), ("params", formula.params)):
            for form in forms:
                lead = {"row": "term", "layer": formula.name, "figure": figure}
                yield {**lead, **to_document(form), "needs": form.condition}
    if isinstance(formula, NetworkFormula):
        model = formula.report.model.name
        for layer in formula.layers:
            for figure, terms in (("macs", layer.macs), ("params", layer.params)):
                for term in terms:
                    lead = {"row": "term", "model": model, "name": layer.row.name, "type": layer.row.type}
                    texts = {"about": term.about, "symbols": term.symbols, "numbers": term.numbers}
                    yield {**lead, "figure": figure, **texts, "value": term.value, "times": term.times}
        if formula.closed is not None:
            for layer, found in zip(formula.layers, formula.closed.layers, strict=True):
                lead = {"row": "closed", "model": model, "name": layer.row.name, "type": layer.row.type}
                yield from _closed_records(lead, formula.closed, found.macs, found.params)
            lead = {"row": "closed total", "model": model}
            yield from _closed_records(lead, formula.closed, formula.closed.macs, formula.closed.params)


def _closed_records(lead: Record, closed: ClosedForms, *forms: Form) -> Iterable[Record]:
    """A row for each figure that is not zero, with its value for the present values of the letters."""
    values = {letter.name: letter.value for letter in closed.letters}
    for figure, form in zip(("macs", "params"), forms, strict=True):
        if form:
            yield {**lead, "figure": figure, "symbols": closed.writer.form(form), "value": form.value(values)}


def _identification_records(found: Identification) -> Iterable[Record]:
    for kind, candidates in (("match", found.matches), ("near", found.near)):
        for candidate in candidates:
            yield {"row": kind, "model": found.model.name, "asked": found.number.text, **to_document(candidate)}


def _advice_records(advice: Advice) -> Iterable[Record]:
    """A row for each change, and one for the list that reaches the budgets."""
    lead = {"model": advice.model.name}
    for one in advice.suggestions:
        record: Record = {"row": "suggestion", **lead, "number": one.number, "verdict": one.verdict, "kind": one.kind}
        record |= {"place": one.place, "layers": len(one.layers), "what": one.what}
        record |= {"saves_params": one.saves.params, "saves_macs": one.saves.macs, "saves_flops": one.saves.flops}
        yield record
    if (plan := advice.plan) is not None:
        changes = " ".join(map(str, plan.changes))
        budgets = " ".join(goal.budget for goal in plan.goals)
        saves = {"saves_params": plan.saves.params, "saves_macs": plan.saves.macs, "saves_flops": plan.saves.flops}
        yield {"row": "plan", **lead, "number": changes, "what": budgets, **saves, "reached": plan.reached}


def _memory_records(found: Memory) -> Iterable[Record]:
    lead = {"model": found.model.name}
    for moment in found.phases:
        yield {"row": "peak" if moment == found.peak else "phase", **lead, **to_document(moment)}
    for alive in found.alive:
        yield {"row": "alive", **lead, **to_document(alive)}
    for point in found.curve:
        yield {
            "row": "point",
            **lead,
            "kernel": point.kernel,
            "phase": point.phase,
            "bytes": point.bytes,
            **point.kinds,
        }


def _mfu_records(found: Mfu) -> Iterable[Record]:
    hardware, speed = found.hardware, found.speed
    lead: Record = {"model": found.model.name, "mode": found.mode, "card": hardware.card, "dtype": hardware.dtype}
    lead |= {"gpus": hardware.gpus, "peak_flops": hardware.peak_flops, "units": speed.units}
    lead |= {"per_second": float(speed.per_second), "step_seconds": float(speed.step_seconds)}
    return ({"row": "utilisation", **lead, **to_document(row)} for row in found.rows)


def _arena_records(found: Arena) -> Iterable[Record]:
    lead = {"model": found.model.name}
    for operator in found.operators:
        yield {"row": "operator", **lead, **to_document(operator)}
    for tensor in found.tensors:
        yield {"row": "tensor", **lead, **to_document(tensor)}
    for patches in found.patches:
        yield {"row": "patches", **lead, **to_document(patches)}
    sizes = {name: getattr(found, name) for name in ("arena_bytes", "least_bytes", "flash_bytes", "macs")}
    yield {"row": "total", **lead, **sizes}


def _check_records(check: Check) -> Iterable[Record]:
    names = ["model", "metric", "scope", "on", "comparison", "limit", "actual", "headroom", "status", "reason", "where",
             "per", "pixel_basis"]  # fmt: skip
    for result in check.results:
        yield {"row": "budget", **{name: getattr(result, name) for name in names}}


def _diff_records(diff: Diff) -> Iterable[Record]:
    from convstat.results.diff import COUNTS

    lead = {"base": diff.base.label, "head": diff.head.label}

    def figures(base: Callable[[str], int], head: Callable[[str], int]) -> Record:
        return {f"{name}_{of}": value(name) for name in COUNTS for of, value in (("base", base), ("head", head))}

    for layer in diff.layers:
        yield {
            "row": "layer",
            **lead,
            "status": layer.status,
            "name": layer.name,
            "base_name": layer.old_name,
            "type": layer.type,
            **figures(partial(layer.value, of="old"), partial(layer.value, of="new")),
            "what": layer.why or None,
            **_place(layer.source),
        }
    totals = figures(partial(getattr, diff.base.totals), partial(getattr, diff.head.totals))
    yield {"row": "total", **lead, "status": diff.state, **totals}


def _listing_records(listing: Listing) -> Iterable[Record]:
    # Sentences, one after the other.
    return ({k: " ".join(v) if isinstance(v, list) else v for k, v in entry.items()} for entry in listing.to_dict())


RECORDS: Mapping[str, Callable[[Any], Iterable[Record]]] = {
    "report": _report_records,
    "comparison": _comparison_records,
    "check": _check_records,
    "diff": _diff_records,
    "listing": _listing_records,
    "explanation": _explanation_records,
    "identification": _identification_records,
    "memory": _memory_records,
    "mfu": _mfu_records,
    "arena": _arena_records,
    "formula": _formula_records,
    "advice": _advice_records,
}
"""What makes the records of each kind of result."""
