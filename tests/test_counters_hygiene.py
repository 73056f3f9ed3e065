"""Whatever a peer does, the model and the process are as they were."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from live import CPU_ONLY, NAMES, PEERS, installed
from torch import nn
from torch.nn import functional as F  # noqa: N812

from convstat.counters import COUNTERS, CounterFailure
from convstat.patches.functions import PATCHED
from convstat.patches.operators import torchvision_compat
from convstat.patches.preserve import preserved
from convstat.trace.record import record

IMAGE = (2, 3, 8, 8)


class Stumbles(nn.Module):
    """Calls functions that peers patch, shares a module, and raises in the middle if it is told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Sequential(self.norm, nn.ReLU())
        self.drop = nn.Dropout()
        self.drop.eval()
        self.head = nn.Linear(4, 2)
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run, and stumble before the end."""
        x = self.drop(self.again(self.norm(F.relu(self.conv(x)))))
        x = torch.matmul(x, x.mT)
        if self.error is not None:
            raise self.error
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _of_module(module: nn.Module) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(module).items()}


def _of_model(model: nn.Module) -> dict[str, Any]:
    # Compared by identity: a tensor that was replaced by an equal one is a change too.
    return {path: _of_module(module) for path, module in model.named_modules(remove_duplicate=False)}


def _of_process() -> dict[str, Any]:
    from ptflops import pytorch_engine
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
    from torchsummary import torchsummary

    patched = {
        f"{owner_name}.{name}": vars(owner).get(name)
        for owner_name, (owner, _) in PATCHED.items()
        for name in (*vars(owner), *PATCHED[owner_name][1])
        if not name.startswith("__")
    }
    return {
        **patched,
        "call": nn.Module.__call__,
        "wrapper": pytorch_engine.torch_function_wrapper.__call__,
        "torch of torchsummary": vars(torchsummary)["torch"],
        "globals of torchsummary": set(vars(torchsummary)),
        "random": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "modes": len(_get_current_dispatch_mode_stack()),
        "streams": (sys.stdout, sys.stderr),
        "hooks": len(nn.modules.module._global_forward_hooks) + len(nn.modules.module._global_forward_pre_hooks),
    }


def _run(name: str) -> Callable[[nn.Module, torch.Tensor], object]:
    if name == "trace":
        return lambda model, image: record(model, (image,))
    counter = COUNTERS[installed(name)]
    return lambda model, image: counter.run(model, (image,))


ERRORS: dict[str, BaseException | None] = {
    "it succeeds": None,
    "it fails": ValueError("stumbled"),
    "it is interrupted": KeyboardInterrupt(),
}
WHO = (*NAMES, *PEERS)


@pytest.fixture(autouse=True)
def _importable() -> None:
    torchvision_compat()


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("who", [*WHO, "trace"])
def test_the_model_and_the_process_are_left_as_found(who: str, how: str, device: str) -> None:
    """Hooks, attributes, modes, statistics, random state, patched functions: after success, failure and Ctrl-C."""
    model = Stumbles(ERRORS[how]).to(device)
    model.train()
    model.drop.eval()
    handle = model.norm.register_forward_hook(lambda *_: None)
    image = torch.rand(IMAGE, device=device)
    with torch.no_grad():
        model_before, process_before = _of_model(model), _of_process()
        values_before = {name: value.clone() for name, value in model.state_dict().items()}
        # Some do not begin on meta.
        begins = device != "meta" or who not in CPU_ONLY
        interrupted = pytest.raises(KeyboardInterrupt) if how == "it is interrupted" and begins else suppress(Exception)
        with interrupted:
            _run(who)(model, image)
        assert process_before == _of_process()
    after = _of_model(model)
    assert model_before.keys() == after.keys()
    for path, attributes in model_before.items():
        assert attributes.keys() == after[path].keys(), path
        for name, value in attributes.items():
            same = value == after[path][name] if isinstance(value, (dict, bool)) else value is after[path][name]
            assert same, f"{path}.{name}"
    if device == "cpu":
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in values_before.items())
    handle.remove()


@pytest.mark.parametrize("who", WHO)
def test_an_interrupted_peer_answers_the_next_time(who: str, capfd: pytest.CaptureFixture[str]) -> None:
    """ptflops' next call dies with a KeyError after Ctrl-C unless torch is put back; nothing is printed either."""
    installed(who)
    model, image = Stumbles(), torch.rand(IMAGE)
    expected = COUNTERS[who].run(model, (image,))
    with pytest.raises(KeyboardInterrupt):
        COUNTERS[who].run(Stumbles(KeyboardInterrupt()), (image,))
    assert expected == COUNTERS[who].run(model, (image,))
    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("who", WHO)
def test_a_failure_is_a_reason_in_one_line(who: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The exception's type and message, no traceback, nothing printed."""
    with pytest.raises(CounterFailure, match=r"^ValueError: stumbled$"):
        COUNTERS[installed(who)].run(Stumbles(ValueError("stumbled\nand more")), (torch.rand(IMAGE),))
    assert ("", "") == capfd.readouterr()


def test_what_is_preserved_is_really_put_back() -> None:
    """The guard can be seen at work: without it each of these would stay."""
    model = Stumbles()
    model.train()
    relu, weight = F.relu, model.conv.weight
    state, before = torch.get_rng_state(), vars(torch.Tensor).get("mm")
    with preserved(model):
        F.relu = print
        torch.Tensor.mm = print
        model.extra = 1
        model.conv.weight = nn.Parameter(torch.zeros(1))
        model.eval()
        model.norm.running_mean.fill_(7)
        model.register_forward_hook(lambda *_: None)
        torch.rand(3)
        torch.set_grad_enabled(False)
    assert F.relu is relu
    assert vars(torch.Tensor).get("mm") is before
    assert not hasattr(model, "extra")
    assert model.conv.weight is weight
    assert model.norm.training
    assert 0 == model.norm.running_mean.abs().sum().item()
    assert not model._forward_hooks
    assert torch.equal(state, torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_every_function_that_ptflops_patches_is_watched() -> None:
    """The table of patched functions names at least those in ptflops' source, whatever its version."""
    import inspect
    import re

    from ptflops import pytorch_engine

    source = inspect.getsource(pytorch_engine)
    names = set(re.findall(r"^\s+((?:F|torch|torch\.Tensor)\.\w+) = \w+\(", source, re.MULTILINE))
    names |= set(re.findall(r"^\s+((?:F|torch|torch\.Tensor)\.\w+) = torch_function_wrapper", source, re.MULTILINE))
    assert 6 + 4 * 3 + 3 + 13 <= len(names)
    watched = {f"{owner}.{name}" for owner, (_, attributes) in PATCHED.items() for name in attributes}
    assert set() == {name.replace("F.", "torch.nn.functional.") for name in names} - watched


def test_the_per_layer_table_of_ptflops_changes_nothing() -> None:
    """It is left out, and the figures are the same with it."""
    from ptflops import get_model_complexity_info

    model = Stumbles()
    with preserved(model):
        plain = get_model_complexity_info(model, IMAGE[1:], print_per_layer_stat=False, as_strings=False)
    with preserved(model):
        printed = get_model_complexity_info(model, IMAGE[1:], as_strings=False, ost=io.StringIO())
    assert plain == printed
