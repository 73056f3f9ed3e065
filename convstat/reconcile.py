"""Line a counter up with convstat and split the difference into named causes.

A prediction is made of terms. Those without a code stand for what convstat counts too, layer by layer;
those with one are what only this counter counts, or misses. So::

    reported - convstat = (reported - predicted) + (predicted - convstat)
                        = unexplained            + sum of causes

and it holds to the unit, whatever the figures are.
If the prediction is wrong, the error stands in ``unexplained``, where everybody sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from convstat.counters.base import Prediction, Reported, Status
from convstat.counters.causes import CAUSES, UNATTRIBUTED
from convstat.report import Cause, CounterRow, Figures, LayerRow


@dataclass(slots=True)
class _Own:
    """What convstat counts for one layer, all its calls together."""

    params: int = 0
    macs: int = 0
    calls: int = 0


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


def reconcile(
    layers: Iterable[LayerRow],
    reported: Reported,
    prediction: Prediction,
    *,
    name: str,
    variant: str = "",
    version: str | None = None,
    device: str | None = None,
) -> CounterRow:
    """Make the row of a counter that answered: its difference from convstat, and the causes that sum to it."""
    own = _own(layers)
    difference = Figures(
        params=_minus(reported.params, sum(layer.params for layer in own.values())),
        macs=_minus(reported.macs, sum(layer.macs for layer in own.values())),
    )
    foreseen = prediction.failure is None
    unexplained = Figures(
        # Without a prediction nothing is explained.
        params=_minus(reported.params, prediction.params) if foreseen else difference.params,
        macs=_minus(reported.macs, prediction.macs) if foreseen else difference.macs,
    )
    predicted = Figures(prediction.params, prediction.macs, prediction.memory_mib) if foreseen else None
    return CounterRow(
        name=name,
        variant=variant,
        version=version,
        status="ok",
        reported=Figures(reported.params, reported.macs, reported.memory_mib),
        predicted=predicted,
        difference=difference,
        causes=_causes(own, prediction) if foreseen else (),
        unexplained=unexplained,
        device=device,
        native=reported.native,
    )


def _minus(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else left - right


def _own(layers: Iterable[LayerRow]) -> dict[str, _Own]:
    """Sum convstat's figures by the layer that holds the parameters: a module is one thing, however often called."""
    own: dict[str, _Own] = {}
    for row in layers:
        layer = own.setdefault(registered(row.shares or row.name), _Own())
        layer.params += row.params
        layer.macs += row.macs
        layer.calls += 1
    return own


def registered(name: str) -> str:
    """The path of the registered module that a row belongs to: the root is written in brackets, and so is what is not
    registered.

    >>> registered("(root)"), registered("block.(Conv2d)"), registered("block.conv")
    ('', 'block', 'block.conv')
    """
    return f".{name}".partition(".(")[0].lstrip(".")


def locate(path: str, layers: Mapping[str, object]) -> str:
    """The layer that a module path belongs to: itself, or the innermost layer around it; empty if there is none.

    >>> locate("encoder.self_attn.out_proj", {"encoder": ..., "head": ...})
    'encoder'
    """
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path


def _causes(own: Mapping[str, _Own], prediction: Prediction) -> tuple[Cause, ...]:
    amounts: dict[str, _Amount] = {}
    matched = {name: _Own() for name in own}
    for term in prediction.terms:
        layer = locate(term.layer, own)
        if term.code is None:
            same = matched.setdefault(layer, _Own())
            same.params += term.params
            same.macs += term.macs
        else:
            amounts.setdefault(term.code, _Amount()).add(layer, term.params, term.macs, term.calls)

    because: dict[str, str] = {}
    for path, code in prediction.because.items():
        because.setdefault(locate(path, own), code)
    for layer, same in matched.items():
        mine = own.get(layer, _Own())
        params = 0 if prediction.params is None else same.params - mine.params
        macs = 0 if prediction.macs is None else same.macs - mine.macs
        code = because.get(layer) or _around(layer, prediction.because) or UNATTRIBUTED
        if params:
            known = code if code == "unregistered" else UNATTRIBUTED
            amounts.setdefault(known, _Amount()).add(layer, params, 0, mine.calls)
        if macs:
            amounts.setdefault(code, _Amount()).add(layer, 0, macs, mine.calls)

    causes = [
        Cause(code, *CAUSES[code], amount.params, amount.macs, amount.calls, tuple(amount.layers))
        for code, amount in amounts.items()
        # Layers that are not understood are told also where their amounts cancel out.
        if amount.params or amount.macs or code == UNATTRIBUTED
    ]
    causes.sort(key=lambda cause: (-abs(cause.macs), -abs(cause.params), cause.code))
    return (*causes, *_remarks(own, prediction))


_OF_ALL_INSIDE = ("fused_kernel", "inside_counted", "unregistered")
"""Codes that explain whatever is inside the module for which they are given."""


def _around(layer: str, because: Mapping[str, str]) -> str | None:
    """The code of the nearest module around a layer that explains what is inside it."""
    while layer:
        layer = layer.rpartition(".")[0]
        if because.get(layer) in _OF_ALL_INSIDE:
            return because[layer]
    return None


def _remarks(own: Mapping[str, _Own], prediction: Prediction) -> Iterator[Cause]:
    """Causes that explain figures other than params and MACs, so their amounts are zero."""
    amounts: dict[str, _Amount] = {}
    for remark in prediction.remarks:
        code = remark.code or UNATTRIBUTED
        amounts.setdefault(code, _Amount()).add(locate(remark.layer, own), 0, 0, remark.calls)
    for code, amount in amounts.items():
        yield Cause(code, *CAUSES[code], calls=amount.calls, layers=tuple(amount.layers))
