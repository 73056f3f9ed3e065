"""Line a counter up with convstat and split the difference into named causes.

A prediction is made of terms. Those without a code stand for what convstat counts too, layer by layer;
those with one are what only this counter counts, or misses. So::

    reported - convstat = (reported - predicted) + (predicted - convstat)
                        = unexplained            + sum of causes

and it holds to the unit, whatever the figures are.
If the prediction is wrong, the error stands in ``unexplained``, where everybody sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from convstat.counters.base import Prediction, Reported, Status
from convstat.counters.causes import CAUSES, UNATTRIBUTED
from convstat.results.report import Answer, Cause, CounterRow, Figures, LayerRow, registered


@dataclass(slots=True)
class _Own:
    """What convstat counts for one layer, all its calls together."""

    params: int = 0
    macs: int = 0
    calls: int = 0
    packed: int = 0


@dataclass(slots=True)
class _Amount:
    """What one cause comes to."""

    params: int = 0
    macs: int = 0
    calls: int = 0
    layers: dict[str, None] = field(default_factory=dict)

    def add(self, layer: str, params: int, macs: int, calls: int) -> None:
        self.params += params
        self.macs += macs
        self.calls += calls
        if layer:
            self.layers[layer] = None


def failed(
    name: str, variant: str, version: str | None, status: Status, error: str, device: str | None = None
) -> CounterRow:
    """Make the row of a counter that has no answer."""
    return CounterRow(name, variant, version, status, error=error, device=device)


def foreseen(
    layers: Iterable[LayerRow],
    prediction: Prediction | None,
    *,
    status: Status,
    name: str,
    variant: str = "",
    version: str | None = None,
    device: str | None = None,
    error: str | None = None,
    note: str | None = None,
    causes: Causes | None = None,
) -> CounterRow:
    """Make the row of a counter that was not run: what its convention gives, and how that differs from convstat.

    There is no answer, so nothing is left to be explained: all of the difference is its causes.
    """
    row = CounterRow(name, variant, version, status, error=error, device=device, note=note)
    if prediction is None:
        return row
    if prediction.failure is not None:
        said = error or (f"it will fail: {prediction.failure}" if prediction.applies else prediction.failure)
        return replace(row, error=said, is_foreseen=status == "predicted")
    own = _own(layers, prediction.fused)
    return replace(
        row,
        predicted=Answer(prediction.params, prediction.macs, prediction.memory_mib),
        difference=_difference(own, prediction),
        causes=_causes(own, prediction, causes),
        native=prediction.native,
    )


def reconcile(
    layers: Iterable[LayerRow],
    reported: Reported,
    prediction: Prediction,
    *,
    name: str,
    variant: str = "",
    version: str | None = None,
    device: str | None = None,
    causes: Causes | None = None,
) -> CounterRow:
    """Make the row of a counter that answered: its difference from convstat, and the causes that sum to it.

    ``causes`` are codes that only this counter knows.
    """
    own = _own(layers, prediction.fused)
    difference = _difference(own, reported)
    is_foreseen = prediction.failure is None
    unexplained = Figures(
        # Without a prediction nothing is explained.
        params=_minus(reported.params, prediction.params) if is_foreseen else difference.params,
        macs=_minus(reported.macs, prediction.macs) if is_foreseen else difference.macs,
    )
    predicted = Answer(prediction.params, prediction.macs, prediction.memory_mib) if is_foreseen else None
    return CounterRow(
        name=name,
        variant=variant,
        version=version,
        status="ok",
        reported=Answer(reported.params, reported.macs, reported.memory_mib),
        predicted=predicted,
        difference=difference,
        causes=_causes(own, prediction, causes) if is_foreseen else (),
        unexplained=unexplained,
        device=device,
        native=reported.native,
        note=_otherwise(reported, prediction) if is_foreseen else None,
    )


def on_other_data(row: CounterRow, counted: Sequence[LayerRow], ran: Sequence[LayerRow]) -> CounterRow:
    """Take a row that was lined up with the layers of a run, and line it up with those that were counted.

    The two differ by the data that they are of; that part of the difference is a cause of its own.
    """
    before, after = (sum(layer.macs for layer in layers) for layers in (counted, ran))
    costs: dict[str, int] = {}
    for layers, sign in ((ran, 1), (counted, -1)):
        for layer in layers:
            name = registered(layer.shares or layer.name)
            costs[name] = costs.get(name, 0) + sign * layer.macs
    moved = tuple(name for name, macs in costs.items() if macs)
    if row.difference.macs is None or before == after:
        return row
    text = CAUSES["other_data"]
    cause = Cause("other_data", *text, macs=after - before, calls=len(moved), layers=moved)
    difference = replace(row.difference, macs=row.difference.macs + after - before)
    return replace(row, difference=difference, causes=(*row.causes, cause))


def _otherwise(reported: Reported, prediction: Prediction) -> str | None:
    """What was predicted otherwise of the figures that are neither MACs nor params."""
    pairs = (("memory", reported.memory_mib, prediction.memory_mib), ("native", reported.native, prediction.native))
    wrong = [f"{name} {dict(foreseen)}" for name, said, foreseen in pairs if said and foreseen and said != foreseen]
    return f"UNEXPLAINED: the prediction differs: {', '.join(wrong)}" if wrong else None


def _difference(own: Mapping[str, _Own], figures: Reported | Prediction) -> Figures:
    return Figures(
        params=_minus(figures.params, sum(layer.params for layer in own.values())),
        macs=_minus(figures.macs, sum(layer.macs for layer in own.values())),
    )


def _minus(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left - right


def _own(layers: Iterable[LayerRow], fused: tuple[str, ...]) -> dict[str, _Own]:
    """Sum convstat's figures by the layer that holds the parameters: a module is one thing, however often called."""
    own: dict[str, _Own] = {}
    for row in layers:
        path = registered(row.shares or row.name)
        around = next((module for module in fused if f"{path}.".startswith(f"{module}.") or not module), path)
        layer = own.setdefault(around, _Own())
        layer.params += row.params
        layer.packed += row.packed_params
        layer.macs += row.macs
        layer.calls += 1
    return own


def locate(path: str, layers: Mapping[str, object]) -> str:
    """The layer that a module path belongs to: itself, or the innermost layer around it; empty if there is none.

    >>> locate("encoder.self_attn.out_proj", {"encoder": ..., "head": ...})
    'encoder'
    """
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path


class Share(NamedTuple):
    """The part of a difference that one code has in one layer; ``layer`` is empty where it belongs to none."""

    layer: str
    code: str
    params: int
    macs: int
    calls: int


def shares(layers: Iterable[LayerRow], prediction: Prediction) -> list[Share]:
    """Split the difference between a prediction and convstat by layer and code; they sum to it exactly."""
    return _shares(_own(layers, prediction.fused), prediction)


def _shares(own: Mapping[str, _Own], prediction: Prediction) -> list[Share]:
    found: list[Share] = []
    matched = {name: _Own() for name in own}
    for term in prediction.terms:
        layer = locate(term.layer, own)
        if term.code is None:
            same = matched.setdefault(layer, _Own())
            same.params += term.params
            same.macs += term.macs
        else:
            found.append(Share(layer, term.code, term.params, term.macs, term.calls))

    for layer, mine in own.items():
        if mine.packed and prediction.params is not None:
            found.append(Share(layer, "packed_elements", -mine.packed, 0, mine.calls))
    # What the counter's rules and the kernels' shapes say of a layer, and convstat does not, nobody has a name for.
    for layer, same in matched.items():
        mine = own.get(layer, _Own())
        params = 0 if prediction.params is None else same.params - mine.params + mine.packed
        macs = 0 if prediction.macs is None else same.macs - mine.macs
        if params or macs:
            found.append(Share(layer, UNATTRIBUTED, params, macs, mine.calls))
    # Terms that do not sum to their prediction are an adapter's mistake, and no reason for ours.
    params = 0 if prediction.params is None else prediction.params - sum(term.params for term in prediction.terms)
    macs = 0 if prediction.macs is None else prediction.macs - sum(term.macs for term in prediction.terms)
    if params or macs:
        found.append(Share("", UNATTRIBUTED, params, macs, 0))
    return found


def _causes(own: Mapping[str, _Own], prediction: Prediction, known: Causes | None) -> tuple[Cause, ...]:
    return (*summed(_shares(own, prediction), known), *_remarks(own, prediction, known))


def summed(parts: Iterable[Share], known: Causes | None = None) -> tuple[Cause, ...]:
    """Sum shares up to causes, the largest first."""
    amounts: dict[str, _Amount] = {}
    for part in parts:
        amounts.setdefault(part.code, _Amount()).add(part.layer, part.params, part.macs, part.calls)
    causes = [
        Cause(code, *said(code, known), amount.params, amount.macs, amount.calls, tuple(amount.layers))
        for code, amount in amounts.items()
        # Layers that are not understood are told also where their amounts cancel out.
        if amount.params or amount.macs or code == UNATTRIBUTED
    ]
    causes.sort(key=lambda cause: (-abs(cause.macs), -abs(cause.params), cause.code))
    return tuple(causes)


Causes = Mapping[str, tuple[str, str]]
"""Codes with their verdicts and sentences, as in :data:`convstat.counters.causes.CAUSES`."""


def said(code: str, known: Causes | None = None) -> tuple[str, str]:
    """The verdict and the sentence of a code: ours, or those of the counter that gives it.

    >>> said("bias")[0], said("mood", {"mood": ("convention", "counts what it likes")})[1], said("no such")[0]
    ('convention', 'counts what it likes', 'unexplained')
    """
    if code in CAUSES:
        return CAUSES[code]
    return (known or {}).get(code) or ("unexplained", f"reports a cause that convstat does not know: {code}")


def _remarks(own: Mapping[str, _Own], prediction: Prediction, known: Causes | None) -> Iterator[Cause]:
    """Causes that explain figures other than params and MACs, so their amounts are zero."""
    amounts: dict[str, _Amount] = {}
    for remark in prediction.remarks:
        code = remark.code or UNATTRIBUTED
        amounts.setdefault(code, _Amount()).add(locate(remark.layer, own), 0, 0, remark.calls)
    for code, amount in amounts.items():
        yield Cause(code, *said(code, known), calls=amount.calls, layers=tuple(amount.layers))
