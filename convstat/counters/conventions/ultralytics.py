"""ultralytics: the GFLOPs of ``model.info()``, counted on a picture of one stride and multiplied up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.counters import parameters
from convstat.counters.base import Ledger, Prediction
from convstat.counters.conventions.base import Convention
from convstat.counters.conventions.convolution import KERNELS, Convolution
from convstat.counters.passes import Made
from convstat.trace import KernelCall, Trace
from convstat.trace.walks import APPLY, EVAL

if TYPE_CHECKING:
    import torch

STRIDE = 32
"""The side of the picture that a model is run on, where its own stride is not larger."""


@dataclass(frozen=True, slots=True)
class StridedTrace(Trace):
    """The trace of a model on its picture, and the two runs of the tool: neither where both of them fail.

    ``whole`` is that on a picture of the full size, in a batch of one; ``small`` that on a picture of one stride.
    """

    whole: Trace | None = None
    small: Trace | None = None
    scale: Fraction = Fraction(1)


class Ultralytics(Convention):
    """``get_flops``: twice the MACs of ultralytics-thop at stride x stride, times the ratio of the areas."""

    name = "ultralytics"
    made: Made = "params"
    walks = (EVAL, APPLY)
    takes_jagged = True
    unit = "MACs as ultralytics-thop counts, extrapolated from a picture of stride x stride"
    source = "ultralytics 8.4, get_flops in utils/torch_utils.py"
    counts = (
        "what ultralytics-thop counts on a picture of one stride (32, or more where the model has a larger one), times "
        "the ratio of the areas, and all parameters; GFLOPs are twice that"
    )
    defects = (
        "Attention over positions grows with the square of the area: at 640 and stride 32, its products are 400 times "
        "too few.",
        "A head on a pooled picture does not grow with the area, and comes out 400 times too large.",
        "Where the small picture fails, the whole one is counted; where that fails too, it prints no GFLOPs.",
        "Always counts a batch of one, with as many channels as the second size of the first parameter.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Walk both runs by the rules of ultralytics-thop."""
        from convstat.counters.uthop import walk

        own = walk.predict(trace)
        assert isinstance(trace, StridedTrace)
        terms = Ledger()
        for term in own.terms:
            terms.add(term.layer, term.code, macs=term.macs, calls=term.calls)
        full, whole = _by_layer(own), _by_layer(walk.predict(trace.whole) if trace.whole else None)
        _enter(terms, full, whole, "one_sample" if trace.whole else "failed_run")
        scaled = {}
        if trace.small is not None:
            small = _by_layer(walk.predict(trace.small))
            scaled = {layer: int(macs * trace.scale) for layer, macs in small.items()}
            _enter(terms, whole, scaled, "area_scaled")
            terms.add("", "rounding", macs=int(sum(small.values()) * trace.scale) - sum(scaled.values()))
        macs = terms.macs
        parameters.enter(trace, terms)
        return Prediction(terms.params, macs, terms.terms(), fused=own.fused)

    def retrace(self, model: torch.nn.Module, inputs: tuple[Any, ...], trace: Trace) -> Trace:
        """Run the model on the pictures that the tool makes."""
        like = inputs[0] if inputs else None
        channels = _channels(model)
        if channels is None or getattr(like, "ndim", 0) != 4:
            # It has no picture to make, or the model takes none: both of its runs fail.
            return trace.extended(StridedTrace)
        assert like is not None
        batch, own_channels, *sides = like.shape
        is_same = (batch, own_channels) == (1, channels)
        whole = trace if is_same else _run(model, like, (1, channels, *sides))
        stride = _stride(model)
        if stride is None or (small := _run(model, like, (1, channels, stride, stride))) is None:
            return trace.extended(StridedTrace, whole=whole)
        scale = Fraction(sides[0] * sides[1], stride * stride)
        return trace.extended(StridedTrace, whole=whole, small=small, scale=scale)


def _channels(model: torch.nn.Module) -> int | None:
    """The second size of the first parameter; None where there is none."""
    first = next(model.parameters(), None)
    return first.shape[1] if first is not None and first.ndim > 1 else None


def _stride(model: torch.nn.Module) -> int | None:
    """The side of the small picture; None where the model's own stride is not what the tool takes it for."""
    if not hasattr(model, "stride"):
        return STRIDE
    try:
        return max(int(model.stride.max()), STRIDE)  # type: ignore[operator]
    except Exception:
        return None


def _run(model: torch.nn.Module, like: torch.Tensor, shape: tuple[int, ...]) -> Trace | None:
    from convstat.trace.record import record

    try:
        trace = record(model, (like.new_empty(shape),))
        # On meta, a transposed convolution takes any number of channels.
        return trace if all(_fits(call) for call, _ in trace.kernels() if call.op in KERNELS) else None
    except Exception:
        return None


def _fits(call: KernelCall) -> bool:
    convolution = Convolution.of(call)
    channels = convolution.weight[0] if convolution.is_transposed else convolution.weight[1] * convolution.groups
    return convolution.source[1] == channels


def _by_layer(prediction: Prediction | None) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for term in prediction.terms if prediction is not None else ():
        found[term.layer] = found.get(term.layer, 0) + term.macs
    return found


def _enter(terms: Ledger, before: Mapping[str, int], after: Mapping[str, int], code: str) -> None:
    for layer in {**before, **after}:
        terms.add(layer, code, macs=after.get(layer, 0) - before.get(layer, 0))


ULTRALYTICS = Ultralytics()
