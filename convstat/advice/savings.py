"""What a change of a layer that is no mistake would save."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

from convstat.advice.effect import Edit, NoChangeError, Setting, effect
from convstat.advice.finding import Finding, is_convolution, is_dense, is_spatial, window
from convstat.advice.mistakes import CHANNELS, off_by
from convstat.advice.net import Call, Net

SEPARABLE, GROUPS, STRIDE = "separable", "groups", "earlier-stride"


def separable(net: Net) -> Iterator[Finding]:
    """A dense convolution that could be a depthwise and a 1x1 one."""
    for call in net.calls.values():
        if is_spatial(call) and is_dense(call) and min(call.argument("in_channels"), call.argument("out_channels")) > 1:
            what = f"a dense {window(call)} convolution that could be a depthwise {window(call)} and a 1x1"
            yield Finding(SEPARABLE, what, (call.name,), (Edit(call.name, split=True),))


def groups(net: Net) -> Iterator[Finding]:
    """A convolution that could have twice as many groups."""
    for call in net.calls.values():
        if not is_convolution(call, transposed=True):
            continue
        twice = 2 * call.argument("groups")
        if call.argument("in_channels") % twice == 0 == call.argument("out_channels") % twice:
            what = "a convolution that could have twice as many groups"
            yield Finding(GROUPS, what, (call.name,), (Edit(call.name, {"groups": Setting(twice, "twice")}),))


def earlier_stride(net: Net) -> Iterator[Finding]:
    """A stride that could come in the convolution before, if what is behind keeps its shape.

    Where one line makes several layers, those of them that have no stride are found with the others: for them, the
    edit changes nothing.
    """
    for call in net.calls.values():
        if not is_convolution(call) or (prod(call.argument("stride")) == 1 and len(net.places.get(call.place, ())) < 2):
            continue
        before = net.layer_before(call)
        if before is None or before.kind != call.kind or prod(before.argument("stride")) > 1:
            continue
        one = (1,) * len(call.argument("stride"))
        edits = (
            Edit(before.name, {"stride": Setting(call.argument("stride"), "like", call.name)}),
            Edit(call.name, {"stride": Setting(one)}),
        )
        if prod(call.argument("stride")) == 1 or _keeps_shape(net, before, call, edits):
            yield Finding(STRIDE, "a stride that could come a layer earlier", (before.name, call.name), edits)


def _keeps_shape(net: Net, first: Call, last: Call, edits: tuple[Edit, ...]) -> bool:
    """Whether edits change no shape but those between two calls."""
    try:
        return effect(net, edits).reached <= {between.name for between in net.between(first, last)}
    except NoChangeError:
        return False


def channels(net: Net) -> Iterator[Finding]:
    """A number of channels that is two off a multiple of 8."""
    yield from off_by(net, 2)


RULES: tuple[Callable[[Net], Iterator[Finding]], ...] = (separable, groups, earlier_stride, channels)

__all__ = ["CHANNELS", "GROUPS", "RULES", "SEPARABLE", "STRIDE", "channels", "earlier_stride", "groups", "separable"]
