"""A whole report in another counter's convention: its totals and its layers, as that counter would count them.

The figures are those of the counter's prediction, which is made of terms for each layer; the counter is not run.
So they sum up to what it would say, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from convstat.errors import ConvstatError, UsageError, did_you_mean, torch_is_missing
from convstat.results.report import CONVSTAT, LayerRow, Report
from convstat.results.sums import total
from convstat.targets import analysis
from convstat.targets.request import NOBODY, Listener, Request

if TYPE_CHECKING:
    from convstat.counters import Counter, Prediction

NO_LAYER = "(no layer)"
"""The row of what belongs to none, such as the rounding of a sum."""


def express(request: Request, name: str, *, listener: Listener = NOBODY) -> Report:
    """Count a target as a counter would."""
    counter = _counter(name)
    argument = request.argument
    if request.target.kind == "report":
        raise UsageError(
            f"{argument} is a saved report: it cannot be counted again with --as {name}",
            help="name the model that the report was made from",
        )
    subject = analysis.prepare(request, listener=listener)
    if counter is None:
        return subject.report
    if not subject.report.is_one_call:
        raise UsageError(f"{argument} has parts that are called several times, and {name} counts one call of each")
    from convstat.counters.capture import first_line
    from convstat.counters.measure import Asking, foresee

    try:
        asking = Asking(request.device, predict=True)
        foreseen = foresee(counter, subject.report, subject.stages, asking)
    except (ConvstatError, KeyboardInterrupt):
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            raise torch_is_missing(f"--as {name}") from None
        raise UsageError(f"--as {name}: no prediction for {argument}: {first_line(error)}") from error
    if not foreseen.prediction.applies:
        raise UsageError(
            f"--as {name}: {foreseen.prediction.failure}",
            help="name a language model: a class with the config of a decoder, called with token ids",
        )
    if foreseen.prediction.failure is not None:
        raise UsageError(
            f"--as {name}: the counter would give no answer for {argument}: {foreseen.prediction.failure}",
            help=f"to compare it with others: convstat analyze {argument} --counters {name}",
        )
    return converted(subject.report, counter, foreseen.prediction, foreseen.note)


def _counter(name: str) -> Counter | None:
    """The counter of that name, None for convstat itself."""
    from convstat.counters import CONVENTIONS, COUNTERS, LANGUAGE_MODELS, find

    if name == CONVSTAT:
        return None
    try:
        return find(name)
    except KeyError:
        known = [CONVSTAT, *COUNTERS, *CONVENTIONS, *LANGUAGE_MODELS]
        help = did_you_mean(name, known, also="convstat list counters")
        raise UsageError(f"unknown counter '{name}' in --as", help=help) from None


def converted(report: Report, counter: Counter, prediction: Prediction, note: str | None = None) -> Report:
    """The report as a counter would count, of which ``prediction`` is the prediction.

    What it has no figure of stays convstat's. A layer that is called several times is one row: the terms of a
    prediction belong to modules and not to calls.
    """
    from convstat.commands.explain import grouped
    from convstat.counters import reconcile
    from convstat.results.report import registered

    amounts: dict[str, list[int]] = {}
    for share in reconcile.shares(report.layers, prediction):
        amount = amounts.setdefault(share.layer, [0, 0])
        amount[0] += share.params
        amount[1] += share.macs
    rows: list[LayerRow] = []
    for calls in grouped(report.layers).values():
        params, macs = amounts.pop(registered(calls[0].shares or calls[0].name), (0, 0))
        rows.append(_row(calls, params, macs))
    params, macs = (sum(amount[place] for amount in amounts.values()) for place in range(2))
    if params or macs:
        rows.append(LayerRow(NO_LAYER, counter.name, (), (), params, macs, trainable_params=params))
    totals = total(rows, report.totals.pixels, report.totals.pixel_basis)
    assert prediction.params in (None, totals.params), "the rows do not sum up to the prediction"
    assert prediction.macs in (None, totals.macs), "the rows do not sum up to the prediction"
    notes = [*report.model.notes, *([note] if note else []), *_missing(counter, prediction)]
    model = replace(report.model, convention=counter.name, counts=said(counter), notes=tuple(notes))
    # Its activations are figures of its own, if it has any.
    totals = replace(totals, activations=None, conv_activations=None, output_elements=None)
    return replace(report, model=model, totals=totals, layers=tuple(rows), counters=())


def said(counter: Counter) -> str:
    """What a counter's figures are, in words."""
    from convstat.counters.measure import version_of

    version = version_of(counter)
    name = f"{counter.name} {version}" if version else counter.name
    return f"as {name} counts: {counter.unit}; predicted, not run"


def _missing(counter: Counter, prediction: Prediction) -> list[str]:
    found = [f"{counter.name} counts no params; the params are convstat's"] if prediction.params is None else []
    return found + (
        [f"{counter.name} counts no operations; the MACs are convstat's"] if prediction.macs is None else []
    )


def _row(calls: Sequence[LayerRow], params: int, macs: int) -> LayerRow:
    """One row for all calls of a layer, with what the counter counts more or less."""
    first = calls[0]
    params += sum(row.params for row in calls)
    notes = [first.note] if first.note else []
    if len(calls) > 1:
        notes.append(f"{len(calls)} calls")
    return replace(
        first,
        params=params,
        trainable_params=params,
        macs=macs + sum(row.macs for row in calls),
        buffers=sum(row.buffers for row in calls),
        weight_bytes=sum(row.weight_bytes for row in calls),
        other={},
        activations=0,
        conv_activations=0,
        shares=None,
        note="; ".join(notes) or None,
    )
