"""Follow the memory of what was counted: run it on meta in some way, and measure what is alive."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from convstat.errors import UsageError, did_you_mean
from convstat.grammar.patterns import matching
from convstat.results.memory import Memory, Run
from convstat.results.report import MEMORY
from convstat.targets.request import NOBODY, Listener
from convstat.targets.subject import Subject

if TYPE_CHECKING:
    from torch import nn

    from convstat.trace.training import Way


def run_of(
    mode: str, device: str, optimizer: str | None, accumulated: int, amp: str | None, checkpoint: tuple[str, ...]
) -> Run:
    """Check what is said of a run; an optimizer, checkpoints and accumulated gradients are for training."""
    for value, name, words in ((mode, "--mode", ("infer", "train")), (device, "--device", ("cuda", "cpu"))):
        if value not in words:
            raise UsageError(f"unknown {name} '{value}'", help=f"it is {' or '.join(words)}")
    if optimizer is not None:
        mode = "train"
        from convstat.trace.training import OPTIMIZERS

        if optimizer not in OPTIMIZERS:
            raise UsageError(
                f"unknown optimizer '{optimizer}'",
                help=(*did_you_mean(optimizer, OPTIMIZERS), f"optimizers: {', '.join(OPTIMIZERS)}"),
            )
    if amp not in (None, "float16", "bfloat16"):
        raise UsageError(f"unknown dtype '{amp}' for --amp", help="it is float16 or bfloat16")
    if mode == "infer" and (checkpoint or accumulated != 1):
        name = "--checkpoint" if checkpoint else "--grad-accumulation"
        raise UsageError(f"{name} is for training", help="add --mode train")
    return Run(mode, device, optimizer or "none", accumulated, amp, checkpoint)


PEERS = ("memtracker",)
"""The other tools that can be run beside: torch's own tracker."""


def peers_of(text: str | None) -> tuple[str, ...]:
    """Read which other tools are to be run beside."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    for name in names:
        if name not in PEERS:
            raise UsageError(
                f"unknown counter '{name}' for memory",
                help=(*did_you_mean(name, PEERS), f"counters of memory: {', '.join(PEERS)}"),
            )
    return tuple(dict.fromkeys(names))


def of_subject(subject: Subject, run: Run, peers: tuple[str, ...] = (), *, listener: Listener = NOBODY) -> Memory:
    """Follow the memory of what was counted: a spec in inference without torch, anything else as torch runs it.

    With ``peers``, other tools are run on the same model, and what they say is explained.
    """
    found = _of_subject(subject, run, listener)
    if not peers:
        return found
    from convstat.counters import memtracker

    listener.progress(f"running {', '.join(peers)}")
    ready = _ready(subject, run)
    with ready.running:
        peer = memtracker.compared(ready.model, ready.inputs, ready.kwargs, ready.way)
    return replace(found, peers=(peer,))


def _of_subject(subject: Subject, run: Run, listener: Listener) -> Memory:
    from convstat.count.memory import measure

    model_info = subject.report.model
    if subject.graph is not None and subject.graph.parts:
        names = ", ".join(part.name for part in subject.graph.parts)
        raise UsageError(
            f"memory is followed in one network, and {model_info.source} has parts: {names}",
            help="write a part as a spec of its own",
        )
    listener.progress(f"following the memory of {model_info.name}")
    if subject.graph is not None and run.mode == "infer" and run.amp is None:
        from convstat.count.lifetimes import of_graph

        try:
            found, places = of_graph(subject.graph, model_info.dtype, run.device)
        except NotImplementedError:
            # A kind of another package that does not say what it runs.
            return _followed(subject, run)
        return measure(found, model_info, run, places.__getitem__)
    return _followed(subject, run)


def _followed(subject: Subject, run: Run) -> Memory:
    from convstat.count.memory import measure
    from convstat.trace.training import follow

    ready = _ready(subject, run)
    with ready.running:
        lifetimes, table = follow(ready.model, ready.inputs, ready.kwargs, ready.way)
    return measure(lifetimes, subject.report.model, run, table.name)


class _Ready(NamedTuple):
    """The torch model with its inputs, the way in which it is run, and what must be entered meanwhile."""

    model: nn.Module
    inputs: tuple[Any, ...]
    kwargs: dict[str, Any]
    way: Way
    running: AbstractContextManager[object]


def _ready(subject: Subject, run: Run) -> _Ready:
    import torch

    from convstat.counters.inputs import keywords_of
    from convstat.trace.training import Step, Way

    place, _ = subject.stages.foresight()
    model, inputs = subject.stages.model(place)
    way = Way(
        Step(run.optimizer, run.accumulated) if run.mode == "train" else None,
        run.device,
        None if run.amp is None else getattr(torch, run.amp),
        chosen(model, run.checkpoint),
    )
    return _Ready(model, tuple(inputs), dict(keywords_of(inputs)), way, subject.stages.running(place))


def chosen(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """The paths of the modules that patterns stand for; of one in another, the outer one."""
    names = [name for name, _ in model.named_modules() if name]
    found: set[str] = set()
    for pattern in patterns:
        named = matching(pattern, names, ".")
        if not named:
            raise UsageError(
                f"--checkpoint {pattern} matches no module",
                help=(*did_you_mean(pattern, names), "for example 'layer1' or 'blocks.*'"),
            )
        found.update(named)
    return frozenset(name for name in found if not any(name.startswith(f"{other}.") for other in found))


TRAINING = Run("train", "cuda", "adamw")
"""The step of training whose memory a report has."""

TRAINING_BYTES = MEMORY[-1]


def with_memory(subject: Subject, wanted: tuple[str, ...], *, listener: Listener = NOBODY) -> Subject:
    """Add to the totals of a report the peak memory of inference and of a step of training, as far as ``wanted``."""
    found = dict.fromkeys(wanted, 0)
    if wanted != (TRAINING_BYTES,):
        inference = of_subject(subject, Run(), listener=listener)
        kept = sum(inference.kinds[kind] for kind in ("weights", "buffers", "inputs"))
        found |= {"peak_memory_bytes": inference.peak.bytes, "activation_bytes": inference.peak.bytes - kept}
    if TRAINING_BYTES in wanted:
        found[TRAINING_BYTES] = of_subject(subject, TRAINING, listener=listener).peak.bytes
    figures: dict[str, Any] = {name: found[name] for name in wanted}
    totals = replace(subject.report.totals, **figures)
    return subject._replace(report=replace(subject.report, totals=totals))
