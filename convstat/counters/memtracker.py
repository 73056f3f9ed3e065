"""torch's own ``MemTracker`` beside ``convstat memory``: what it says of the same run, and why it says something else.

``torch.distributed._tools.mem_tracker.MemTracker`` is a mode that keeps a weak reference to each storage, as convstat
does, and counts what it sees on the device that the model is on. So it runs here as anybody would run it on meta. What
it says differs for reasons that are computed from further runs, in each of which one more thing is taken as it is seen
on meta; none of them reads what the tracker said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from convstat.lifetimes import Lifetimes, Storage
from convstat.patches.room import alone
from convstat.results.memory import MemoryCause, PeerMemory
from convstat.trace.describe import leaves
from convstat.trace.following import Following
from convstat.trace.training import Watch, Way, prepared, run, watched

NAME = "memtracker"

WORDS = {
    "Parameter": "weights",
    "Buffer": "buffers",
    "Other": "inputs",
    "Activation": "activations",
    "Gradient": "gradients",
    "Optstate": "optimizer",
    "Temp": "temporaries",
}
"""What the tracker calls each kind; what is saved for the backward pass are activations to it."""

CAUSES = (
    ("kernels", "it runs the kernels of meta: attention in products and a softmax, biases added to a copy"),
    ("statistics", "on meta, batch norm returns statistics in evaluation, which no other device allocates"),
    ("sums", "gradients of one tensor are summed up in another where a mode looks on, and in place otherwise"),
)
"""What is seen on meta, in the order in which it is added: its name in ``Following``, and in words."""

LABELS = "it calls gradients temporary until they are handed over, and all that an optimizer allocates its state"


def compared(model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any], way: Way) -> PeerMemory:
    """Run the tracker on the model, and explain how it differs from what was followed in some way."""
    torch_version = version("torch")
    try:
        reported = tracked(model, inputs, dict(kwargs), way)
    except ImportError:
        return PeerMemory(NAME, torch_version, "unavailable", error="this torch has no MemTracker")
    except Exception as error:
        return PeerMemory(NAME, torch_version, "failed", error=str(error).partition("\n")[0])
    before = _at_peak(watched(model, inputs, dict(kwargs), way).found)
    ours, causes, plainly = before, [], frozenset[str]()
    for code, text in CAUSES:
        plainly |= {code}
        following = watched(model, inputs, dict(kwargs), way, plainly)
        after = _at_peak(following.found)
        causes.append(MemoryCause(code, text, _change(before, after)))
        before = after
    after = _labelled(following)
    causes.append(MemoryCause("labels", LABELS, _change(before, after)))
    shown = tuple(cause for cause in causes if any(cause.kinds.values()))
    return PeerMemory(NAME, torch_version, "ok", reported, _change(ours, reported), shown, _change(after, reported))


@alone
def tracked(model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], way: Way) -> dict[str, int]:
    """Run a model under the tracker as its documentation says; its peak by convstat's words."""
    from torch.distributed._tools.mem_tracker import MemTracker

    class Told(Watch):
        def again(self) -> None:
            tracker.reset_mod_stats()  # type: ignore[no-untyped-call, unused-ignore]

    with prepared(model, way, kernels=False) as place_of:
        given = [leaf for leaf in leaves((inputs, kwargs)) if isinstance(leaf, torch.Tensor)]
        place = place_of([*given, *model.parameters(), *model.buffers()])
        trained = [value for value in model.parameters() if value.requires_grad]
        optimizer = None if way.step is None else way.step.made(trained, way.device)
        tracker = MemTracker()
        tracker.track_external(model, *given, *([optimizer] if optimizer is not None else []))
        with tracker:
            run(model, inputs, kwargs, way, place, optimizer, Told())
        peak = tracker.get_tracker_snapshot("peak")
    found = dict.fromkeys(WORDS.values(), 0)
    for device, amounts in peak.items():
        if device.type == place:
            for kind, amount in amounts.items():
                if (word := WORDS.get(getattr(kind, "value", kind))) is not None:
                    found[word] += amount
    return found


def _at_peak(lifetimes: Lifetimes) -> dict[str, int]:
    return _summed((storage, storage.kind) for storage in lifetimes.alive(_peak(lifetimes)))


def _peak(lifetimes: Lifetimes) -> int:
    curve = lifetimes.curve()
    return max(range(len(curve)), key=curve.__getitem__)


def _labelled(following: Following) -> dict[str, int]:
    """What is alive at the peak, as the tracker calls it."""
    peak = _peak(following.found)

    def label(storage: Storage) -> str:
        if storage.phase == "step" and storage.kind == "temporaries":
            return "optimizer"
        if storage.phase == "backward" and storage.kind in ("gradients", "temporaries"):
            if storage.op == "aten.ones_like" and storage.module is None:
                # It is made before the backward pass begins.
                return "activations"
            return "gradients" if following.marked.get(id(storage), peak) < peak else "temporaries"
        return storage.kind

    return _summed((storage, label(storage)) for storage in following.found.alive(peak))


def _summed(storages: Iterable[tuple[Storage, str]]) -> dict[str, int]:
    found = dict.fromkeys(WORDS.values(), 0)
    for storage, kind in storages:
        found["activations" if kind == "saved" else kind] += storage.size
    return found


def _change(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {kind: after[kind] - before[kind] for kind in before}
