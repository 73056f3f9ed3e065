"""What the tests of conventions share: a network of torch, the row of a convention, and counts by naive loops."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from torch import nn

from convstat.count import traces
from convstat.counters import CONVENTIONS, Prediction
from convstat.counters.causes import CAUSES, UNATTRIBUTED
from convstat.counters.measure import predict
from convstat.counters.reconcile import foreseen
from convstat.results.report import CounterRow
from convstat.trace.record import record


def predicted(name: str, model: nn.Module, *args: torch.Tensor) -> Prediction:
    """What a convention gives for a model in evaluation mode."""
    model = model.eval()
    with torch.no_grad():
        trace = record(model, args)
        return predict(CONVENTIONS[name], model, args, trace)


def row(name: str, model: nn.Module, *args: torch.Tensor) -> CounterRow:
    """The row of a convention beside convstat's count; every unit of the difference has a known cause."""
    model = model.eval()
    with torch.no_grad():
        trace = record(model, args)
        prediction = predict(CONVENTIONS[name], model, args, trace)
    layers = traces.count(trace, name="", source="", inputs=()).layers
    found = foreseen(layers, prediction, status="predicted", name=name)
    for figure in ("params", "macs"):
        difference = getattr(found.difference, figure)
        assert difference in (None, sum(getattr(cause, figure) for cause in found.causes)), name
    codes = {cause.code for cause in found.causes}
    assert UNATTRIBUTED not in codes, name
    assert codes <= set(CAUSES), name
    return found


def causes(found: CounterRow) -> Mapping[str, int]:
    """The MACs of each cause of a row."""
    return {cause.code: cause.macs for cause in found.causes if cause.macs}


def meta(*shape: int) -> torch.Tensor:
    """An input without values."""
    return torch.zeros(shape, device="meta")


def taps_inside(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, shape: tuple[int, ...]) -> int:
    """Run the loops of a convolution on a picture, and count where they multiply a value by a weight."""
    batch, channels, *spatial = shape
    out = layer.to("meta")(meta(*shape)).shape[2:]
    sides: list[list[int]] = []
    for size, places, taps, stride, padding, dilation in zip(
        spatial, out, layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True
    ):
        assert isinstance(padding, int)
        # For each place of the output, the taps that lie inside of the picture.
        sides.append([])
        for place in range(places):
            inside = 0
            for tap in range(taps):
                position = place * stride - padding + tap * dilation
                if 0 <= position < size:
                    inside += 1
            sides[-1].append(inside)
    count = 0
    for position in product(*map(range, out)):
        taps = 1
        for side, place in zip(sides, position, strict=True):
            taps *= side[place]
        count += taps
    return batch * layer.out_channels * (channels // layer.groups) * count


def taps_within(layer: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d, shape: tuple[int, ...]) -> int:
    """Scatter the values of a picture, and count what falls inside of the output of a transposed convolution."""
    batch, channels, *spatial = shape
    out = layer.to("meta")(meta(*shape)).shape[2:]
    count = 0
    for position in product(*map(range, spatial)):
        for tap in product(*map(range, layer.kernel_size)):
            places = [
                i * s - int(p) + t * d
                for i, s, p, t, d in zip(position, layer.stride, layer.padding, tap, layer.dilation, strict=True)
            ]
            count += all(0 <= place < size for place, size in zip(places, out, strict=True))
    return batch * channels * (layer.out_channels // layer.groups) * count
