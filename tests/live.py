"""Ask a real peer and its prediction the same question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from convstat.counters import COUNTERS, CounterFailure, Prediction, Reported
from convstat.counters.inputs import Inputs
from convstat.counters.measure import predict
from convstat.patches.operators import torchvision_compat
from convstat.trace.record import record

NAMES = ("ptflops", "ptflops-aten", "torchsummary")

PEERS = (
    "flopcountermode",
    "torchinfo",
    "ultralytics-thop",
    "thop",
    "torchscan",
    "torchstat",
    "calflops",
    "deepspeed",
    "fvcore",
    "torchprofile",
)
"""The counters that run only where they are named; all but the first have to be installed."""


def installed(name: str) -> str:
    """The name, if the counter is installed; the test is skipped if not."""
    if COUNTERS[name].version() is None:
        pytest.skip(f"{name} is not installed; {COUNTERS[name].help}")
    return name


CPU_ONLY = ("torchstat", "fvcore", "torchprofile")
"""Those that do not run on meta."""


PAIRS: list[tuple[str, bool]] = []
"""The counters that a test compared with their predictions, and whether they agreed; conftest reports them."""


@contextmanager
def pair(name: str) -> Iterator[None]:
    """Compare one counter with its prediction on one network."""
    try:
        yield
    except BaseException:
        PAIRS.append((name, False))
        raise
    PAIRS.append((name, True))


@dataclass(frozen=True)
class Answer:
    """What a peer said, what was predicted, and why meta might say something else."""

    name: str
    reported: Reported | None
    failure: str | None
    prediction: Prediction
    why_not_meta: str | None

    def check(self, about: str) -> None:
        """The prediction is right to the unit and to the printed digit, failures included."""
        with pair(self.name):
            self._check(about)

    def _check(self, about: str) -> None:
        if self.reported is None:
            assert self.prediction.failure, f"{about}: nobody foresaw {self.failure}"
            return
        assert None is self.prediction.failure, about
        expected = (self.reported.params, self.reported.macs, self.reported.memory_mib)
        actual = (self.prediction.params, self.prediction.macs, self.prediction.memory_mib)
        assert expected == actual, about
        if self.prediction.native is not None:
            assert self.reported.native == self.prediction.native, about
        terms = self.prediction.terms
        assert (self.reported.params or 0) == sum(term.params for term in terms), about
        assert (self.reported.macs or 0) == sum(term.macs for term in terms), about


def ask(model: nn.Module, *args: torch.Tensor, only: tuple[str, ...] = NAMES, **kwargs: Any) -> dict[str, Answer]:
    """Run the peers on a model, and predict them from one trace."""
    torchvision_compat()
    inputs = Inputs.of(args, kwargs)
    trace = record(model, args, kwargs)
    answers = {}
    for name in only:
        counter = COUNTERS[name]
        reported, failure = None, None
        try:
            reported = counter.run(model, inputs)
        except CounterFailure as error:
            failure = str(error)
        prediction = predict(counter, model, inputs, trace)
        answers[name] = Answer(name, reported, failure, prediction, counter.why_not_meta(trace))
    return answers


def to_meta(model: nn.Module) -> nn.Module:
    """Put a model, or a copy where it has one, on the meta device; ``model.to`` would untie its tied parameters."""
    # Some models stand in the pool for several tests. One whose weight is computed cannot be copied, and is made anew.
    with suppress(RuntimeError):
        model = deepcopy(model)
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
                module._parameters[name] = moved.setdefault(id(parameter), there)
    return model.to("meta")


def check_on_both_devices(model: nn.Module, *inputs: torch.Tensor, only: tuple[str, ...] = NAMES) -> None:
    """The predictions hold on the CPU and on meta, and the answers are the same unless we say why not."""
    on_cpu = ask(model, *inputs, only=only)
    for name, answer in on_cpu.items():
        answer.check(f"{name} on cpu")
    on_meta = ask(to_meta(model), *(tensor.to("meta") for tensor in inputs), only=only)
    for name, answer in on_meta.items():
        if name in CPU_ONLY:
            # So that is what is predicted, but where the CPU has a kernel that meta has not.
            if "fused_kernel" not in {term.code for term in on_cpu[name].prediction.terms}:
                assert on_cpu[name].prediction.macs == answer.prediction.macs, f"{name}: predicted from meta"
            continue
        answer.check(f"{name} on meta")
        if answer.why_not_meta is None:
            assert on_cpu[name].reported == answer.reported, f"{name}: cpu, then meta"
