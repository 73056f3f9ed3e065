"""What is likely a mistake: a layer that does nothing, or one that is most likely not what was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from convstat.advice.effect import Edit, NoChangeError, Setting, effect, is_depthwise
from convstat.advice.finding import (
    Finding,
    is_convolution,
    is_dense,
    is_pointwise,
    is_spatial,
    keeps_channels,
    window,
)
from convstat.advice.net import Call, Net

DENSE, BIAS, NORM, ACTIVATION, LINEAR, CHANNELS = (
    "dense-depthwise",
    "bias-before-norm",
    "norm-twice",
    "activation-twice",
    "linear-twice",
    "odd-channels",
)

LONG = 3
"""From so many on, convolutions that alternate with 1x1 are those of a net of depthwise separable convolutions."""


def dense_depthwise(net: Net) -> Iterator[Finding]:
    """A dense convolution that stands where MobileNets have a depthwise one.

    It is the widest place between two 1x1 convolutions, of which the first does not reduce and the second does: the
    dense 3x3 of a ResNet is the narrowest (MobileNetV2, arXiv:1801.04381, section 3.3). Or it is one of several that
    alternate with single 1x1 convolutions and are part of no residual block (MobileNetV1, arXiv:1704.04861). Where one
    is found, so are those of the same window in blocks that have no first 1x1, as the first blocks of these networks.
    """
    candidates = {
        call.name: call
        for call in net.calls.values()
        if is_spatial(call) and is_dense(call) and keeps_channels(call) and _second(net, call) is not None
    }
    found = {name for name, call in candidates.items() if _is_widest(net, call)}
    for run in _runs(net, candidates):
        if len(run) >= LONG:
            found.update(run)
    windows = {candidates[name].argument("kernel_size") for name in found}
    for name, call in candidates.items():
        second = _second(net, call)
        assert second is not None
        is_no_wider = second.argument("out_channels") <= call.argument("in_channels")
        is_first = is_no_wider or _follows_stem(net, call, second)
        if is_first and call.argument("kernel_size") in windows and _first(net, call) is None:
            found.add(name)
    for name, call in candidates.items():
        if name in found:
            channels = call.argument("in_channels")
            what = (
                f"a dense {window(call)} convolution before a 1x1, where depthwise separable networks have a depthwise "
                "one: groups is missing"
            )
            yield Finding(DENSE, what, (name,), (Edit(name, {"groups": Setting(channels, "cin")}),))


def _follows_stem(net: Net, call: Call, second: Call) -> bool:
    """Whether a call comes directly after the convolution of a stem, and is part of no residual block."""
    before = net.layer_before(call)
    return before is not None and is_spatial(before) and not _ends_in_sum(net, second)


def _first(net: Net, call: Call) -> Call | None:
    """The dense 1x1 convolution before."""
    found = net.layer_before(call)
    return found if found is not None and is_pointwise(found) else None


def _second(net: Net, call: Call) -> Call | None:
    """The dense 1x1 convolution after, behind a gate where there is one."""
    found = net.layer_after(call)
    if found is None:
        last = call
        while (following := net.after(last)) is not None and following.family in ("normalisation", "activation"):
            last = following
        found = net.layer_after(net.behind_gate(last))
    return found if found is not None and is_pointwise(found) else None


def _is_widest(net: Net, call: Call) -> bool:
    first, second = _first(net, call), _second(net, call)
    width = call.argument("in_channels")
    return bool(first and second and first.argument("in_channels") <= width > second.argument("out_channels"))


def _runs(net: Net, candidates: Mapping[str, Call]) -> Iterator[list[str]]:
    """The candidates in runs, each after a single 1x1 of the one above that is part of no residual block."""
    following: dict[str, str] = {}
    for name, call in candidates.items():
        second = _second(net, call)
        if second is not None and not _ends_in_sum(net, second):
            after = net.layer_after(second)
            if after is not None and after.name in candidates:
                following[name] = after.name
    for name in candidates.keys() - set(following.values()):
        run = [name]
        while run[-1] in following:
            run.append(following[run[-1]])
        yield run


def _ends_in_sum(net: Net, call: Call) -> bool:
    """Whether the output of a call is added to another, or taken by several."""
    following = net.layer_after(call)
    return following is None and call.name not in net.outputs


def bias_before_norm(net: Net) -> Iterator[Finding]:
    """A bias that the mean of the normalisation behind it takes away again."""
    for call in net.calls.values():
        if not call.argument("bias") or call.family not in ("convolution", "linear") or call.name in net.outputs:
            continue
        users = [net.calls[name] for name in net.users[call.name]]
        if not users or not all(_takes_the_mean(user, call) for user in users):
            continue
        what = f"a bias before {users[0].kind}, which subtracts the mean of each channel and so the bias with it"
        yield Finding(BIAS, what, (call.name,), (Edit(call.name, {"bias": Setting(False)}),))


def _takes_the_mean(user: Call, call: Call) -> bool:
    """Whether a normalisation takes away the mean of each channel that a call gives."""
    if call.family == "linear" and (call.kind != "Linear" or len(call.output_shape) != 2):
        return False
    if user.kind.startswith("InstanceNorm"):
        return not user.argument("track_running_stats")
    return user.kind.startswith("BatchNorm")


def norm_twice(net: Net) -> Iterator[Finding]:
    """A batch normalisation of what another one has normalised."""
    for call in net.calls.values():
        before = net.before(call)
        if before is None or net.after(before) is not call:
            continue
        if call.kind.startswith("BatchNorm") and before.kind == call.kind:
            what = f"a {call.kind} directly after another: its input is normalised already"
            yield Finding(NORM, what, (call.name,), (Edit(call.name, drop=True),))


POSITIVE = ("ReLU", "ReLU6", "Sigmoid", "Hardsigmoid", "Softmax", "Softplus")
"""Activations whose output a ReLU does not change."""

BOUNDED = ("ReLU6", "Sigmoid", "Hardsigmoid", "Softmax")
"""Activations whose output a ReLU6 does not change."""


def activation_twice(net: Net) -> Iterator[Finding]:
    """An activation directly after another that leaves nothing to it, or that is the same."""
    for call in net.calls.values():
        before = net.before(call)
        if call.family != "activation" or before is None or net.after(before) is not call:
            continue
        if call.kind == "GLU" or before.family != "activation":
            continue
        if (call.kind == "ReLU" and before.kind in POSITIVE) or (call.kind == "ReLU6" and before.kind in BOUNDED):
            what = f"a {call.kind} directly after {_article(before.kind)} changes nothing"
        elif call.kind == before.kind:
            what = f"{_article(call.kind)} directly after another"
        else:
            continue
        yield Finding(ACTIVATION, what, (call.name,), (Edit(call.name, drop=True),))


def _article(kind: str) -> str:
    """A kind with its article.

    >>> _article("ReLU"), _article("ELU")
    ('a ReLU', 'an ELU')
    """
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def linear_twice(net: Net) -> Iterator[Finding]:
    """Two linear maps of each position, with nothing between them: together they are one.

    Where the width between them is so small that one map would cost more, it is a factorisation, and meant.
    """
    for call in net.calls.values():
        before = net.before(call)
        if before is None or net.after(before) is not call or before.kind != call.kind:
            continue
        if not (_is_linear_map(before) and _is_linear_map(call)):
            continue
        needs_bias = before.argument("bias") and not call.argument("bias")
        settings = {"bias": Setting(True)} if needs_bias else {}
        edits = (Edit(before.name, drop=True), *([Edit(call.name, settings)] if settings else []))
        try:
            saves = effect(net, edits).saves
        except NoChangeError:
            continue
        if saves.macs > 0 and saves.params > 0:
            kind = "1x1 convolutions" if call.family == "convolution" else "linear layers"
            what = f"two {kind} with nothing between them are one linear map: the second alone can be that"
            yield Finding(LINEAR, what, (before.name, call.name), edits)


def _is_linear_map(call: Call) -> bool:
    """Whether a call maps each position by one matrix."""
    if call.kind == "Linear":
        return True
    if not is_pointwise(call):
        return False
    return set(call.argument("stride")) == {1} and call.argument("padding") in (
        "same",
        "valid",
        (0,) * (len(call.output_shape) - 2),
    )


def odd_channels(net: Net) -> Iterator[Finding]:
    """A number of channels that is one more or one less than a multiple of 8."""
    yield from off_by(net, 1)


def off_by(net: Net, distance: int) -> Iterator[Finding]:
    """Layers whose number of channels is so far from the nearest multiple of 8, and can be that."""
    for call in net.calls.values():
        if not (is_convolution(call, transposed=True) or call.kind == "Linear"):
            continue
        name = "out_features" if call.kind == "Linear" else "out_channels"
        channels = call.argument(name)
        nearest = (channels + 4) // 8 * 8
        if channels < 15 or abs(channels - nearest) != distance or (call.layer and is_depthwise(call.layer)):
            continue
        side = "more" if channels > nearest else "less"
        what = f"{channels} channels, {distance} {side} than {nearest}, which is a multiple of 8"
        yield Finding(CHANNELS, what, (call.name,), (Edit(call.name, {name: Setting(nearest, "multiple")}),))


RULES: tuple[Callable[[Net], Iterator[Finding]], ...] = (
    dense_depthwise,
    bias_before_norm,
    norm_twice,
    activation_twice,
    linear_twice,
    odd_channels,
)
