"""What is run to follow its memory: a forward pass, or one step of training as PyTorch's own loops do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from convstat.lifetimes import Kind, Lifetimes, Phase
from convstat.patches.autocast import autocast_on_meta
from convstat.patches.checkpoint import checkpointed
from convstat.patches.kernels_of import kernels_of, numbers_on_meta
from convstat.patches.room import alone
from convstat.trace.describe import ModuleTable, leaves
from convstat.trace.following import Following
from convstat.trace.foreign import foreign
from convstat.trace.record import ready


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2), which torch does not have: one state per parameter."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move by the sign of the interpolated gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                average = state["exp_avg"]
                update = average.mul(first).add_(parameter.grad, alpha=1 - first).sign_()
                parameter.add_(update, alpha=-group["lr"])
                average.mul_(second).add_(parameter.grad, alpha=1 - second)


_MAKERS: Mapping[str, Callable[..., Optimizer] | None] = {
    "none": None,
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lion": Lion,
    "adafactor": getattr(torch.optim, "Adafactor", None),
}

OPTIMIZERS = tuple(name for name, make in _MAKERS.items() if make is not None or name == "none")
"""The optimizers by their names, as far as this torch has them; ``none`` keeps the gradients and moves no parameter."""

_HAVE_FOREACH = ("sgd", "momentum", "adam", "adamw")
"""Those that work on all parameters at once where these are on a GPU, with temporaries as large as the weights."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training: an optimizer, and over how many batches the gradients are summed up."""

    optimizer: str = "none"
    accumulated: int = 1

    def made(self, parameters: list[nn.Parameter], device: str) -> Optimizer | None:
        """The optimizer, with the states that it has from the first step on."""
        make = _MAKERS[self.optimizer]
        if make is None or not parameters:
            return None
        options = {"foreach": device == "cuda"} if self.optimizer in _HAVE_FOREACH else {}
        optimizer = make(parameters, **options)
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        with numbers_on_meta():
            optimizer.step()
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
        return optimizer


@dataclass(frozen=True, slots=True)
class Way:
    """How a model is run: a forward pass without gradients, or where there is one, a ``step`` of training.

    ``device`` is the kind of device whose ways are followed on meta, ``cpu`` or ``cuda``: the kernels of attention, of
    optimizers and what autocast casts differ. ``amp`` is the dtype of autocast, None for none. ``checkpointed`` are the
    paths of modules whose activations are not kept for the backward pass, but computed again there.
    """

    step: Step | None = None
    device: str = "cuda"
    amp: torch.dtype | None = None
    checkpointed: frozenset[str] = frozenset()

    def autocast(self, place: str) -> AbstractContextManager[object]:
        """Cast as asked for, on tensors that are on ``place``."""
        if self.amp is None:
            return nullcontext()
        if place == "meta":
            return autocast_on_meta(self.device, self.amp)
        return torch.autocast(place, self.amp)


@alone
def follow(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, way: Way = Way()
) -> tuple[Lifetimes, ModuleTable]:
    """Run a model once in some ``way``, and follow its memory.

    A step of training is: forward pass, backward pass from ones at every output, for each batch; then the optimizer,
    whose states are there from the step before. Gradients are set to None in between, as ``zero_grad`` does. From the
    second batch on, batches are alike, so that at most two are run. Outputs are released before the next batch.
    """
    following = watched(model, inputs, dict(kwargs or {}), way)
    return following.found, following.table


def watched(
    model: nn.Module, inputs: tuple[Any, ...], kwargs: dict[str, Any], way: Way, plainly: frozenset[str] = frozenset()
) -> Following:
    """Run a model once in some ``way``, and watch it; ``plainly`` as :class:`Following` has it."""
    with prepared(model, way, kernels="kernels" not in plainly) as place_of:
        table = ModuleTable(model)
        given = leaves((inputs, kwargs))
        place = place_of((*given, *table.tensors))
        following = Following(table, place, plainly)
        trained = [value for value in model.parameters() if value.requires_grad]
        optimizer = None if way.step is None else way.step.made(trained, way.device)
        for index, module in enumerate(table.modules):
            following.take(module._parameters.values(), "weights", index)
            following.take(module._buffers.values(), "buffers", index)
        following.take(given, "inputs")
        if optimizer is not None:
            # The number of the step is a tensor on the CPU, wherever the parameters are.
            states = leaves(list(optimizer.state.values()))
            following.ignore(state for state in states if isinstance(state, torch.Tensor) and not state.dim())
            places = {
                id(value): place for place, module in enumerate(table.modules) for value in module._parameters.values()
            }
            for parameter, state in optimizer.state.items():
                following.take(leaves(list(state.values())), "optimizer", places.get(id(parameter)))
        handles: list[Any] = []
        if plainly and way.step is not None:
            for value in trained:
                # What arrives, and what is kept of it: a copy where others have it too.
                handles.append(value.register_hook(following.mark))  # type: ignore[no-untyped-call]
                handles.append(
                    value.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                        lambda kept: following.mark(kept.grad)
                    )
                )
        with following.following():
            run(model, inputs, kwargs, way, place, optimizer, following)
        for handle in handles:
            handle.remove()
        return following


@contextmanager
def prepared(model: nn.Module, way: Way, *, kernels: bool = True) -> Iterator[Callable[[Iterable[Any]], str]]:
    """Get a model ready to be run in some way; gives what finds the kind of device that tensors are on."""
    is_trained = way.step is not None
    with foreign(f"{type(model).__qualname__} does not run"), ready(model, (), train=is_trained) as stack:
        if kernels:
            stack.enter_context(kernels_of(way.device))

        def place_of(tensors: Iterable[Any]) -> str:
            place = next((value.device.type for value in tensors if isinstance(value, torch.Tensor)), "cpu")
            for name, module in model.named_modules():
                if name in way.checkpointed:
                    # On a device that has autocast, torch's checkpoint enters it again by itself.
                    again = partial(way.autocast, place) if place == "meta" else nullcontext
                    stack.enter_context(checkpointed(module, again))
            return place

        yield place_of


class Watch:
    """What is told of the course of a run."""

    phase: Phase = "before"

    def keep(self) -> None:
        """The forward pass is over."""

    def take(self, tensors: Iterable[Any], kind: Kind) -> None:
        """Some tensors are there, as what they are."""

    def again(self) -> None:
        """Another batch begins."""


def run(
    model: nn.Module,
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any],
    way: Way,
    place: str,
    optimizer: Optimizer | None,
    watch: Watch | Following,
) -> None:
    """Run a model once in some way, and tell ``watch`` how far it is."""
    step = way.step
    if step is None:
        watch.phase = "forward"
        with torch.no_grad(), way.autocast(place):
            # Until the run is over, the caller has the outputs.
            output = model(*inputs, **kwargs)
        del output
        return
    trained = [value for value in model.parameters() if value.requires_grad]
    for batch in range(min(step.accumulated, 2)):
        if batch:
            watch.again()
        watch.phase = "forward"
        with way.autocast(place):
            output = model(*inputs, **kwargs)
        watch.keep()
        ends = [leaf for leaf in leaves(output) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        watch.phase = "backward"
        if ends:
            torch.autograd.backward(ends, [torch.ones_like(end) for end in ends])
        watch.take((parameter.grad for parameter in trained), "gradients")
        del output, ends
    watch.phase = "step"
    if optimizer is not None:
        with numbers_on_meta():
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for parameter in trained:
        parameter.grad = None
