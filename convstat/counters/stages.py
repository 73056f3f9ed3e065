"""The model that counters are run on: on each device that is wanted, with its inputs and its trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from convstat.counters.base import CounterFailure, Unfit
from convstat.counters.capture import first_line
from convstat.counters.inputs import Inputs
from convstat.errors import DeviceError, InternalError
from convstat.graph import Graph
from convstat.patches.room import patch

if TYPE_CHECKING:
    import torch

    from convstat.counters.jit.graph import Recordings
    from convstat.trace import Trace
    from convstat.trace.recipe import Example, Recipe
    from convstat.trace.run import ExampleOf, Traced


FAKE = "fake"
"""Where a model is that was traced with fake tensors."""


class Stages(Protocol):
    """Makes the model, its inputs and its trace on a device, when they are first needed."""

    def model(self, device: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        """The model and its positional inputs; an :class:`Inputs` where some are passed by name."""

    def trace(self, device: str) -> Trace:
        """The call tree of the model."""

    def foresight(self) -> tuple[str, Trace]:
        """A trace that is there without running the model for real, after the device that it is of."""

    def why_not_meta(self) -> str | None:
        """Why the model itself cannot run on the meta device, None where it can."""

    def rests_on_data(self) -> bool:
        """Whether something was assumed in the trace of meta that a run on real values may find otherwise."""

    @property
    def recordings(self) -> Recordings:
        """The graphs that were recorded of the model."""

    def running(self, device: str) -> AbstractContextManager[object]:
        """What must be entered while a counter runs the model."""


class GraphStages:
    """A spec: its torch twin is built on each device."""

    def __init__(self, graph: Graph, dtype: str) -> None:
        self.graph = graph
        self.dtype = dtype
        self._models: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor, ...]]] = {}
        self._traces: dict[str, Trace] = {}
        self.recordings: Recordings = {}

    def model(self, device: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        """The built model and example inputs."""
        if device not in self._models:
            from convstat.trace.build import build, example_inputs

            if device == "cpu":
                self._check_room()
            try:
                self._models[device] = (
                    build(self.graph, device=device, dtype=self.dtype),
                    example_inputs(self.graph, device=device, dtype=self.dtype),
                )
            except (RuntimeError, MemoryError) as error:
                raise self._error(device, error) from error
            except Exception as error:
                raise InternalError.of(f"build {self.graph.name} in torch", error) from error
        return self._models[device]

    def trace(self, device: str) -> Trace:
        """The call tree of the model."""
        if device not in self._traces:
            from convstat.trace.record import record

            model, inputs = self.model(device)
            try:
                with self.running(device):
                    self._traces[device] = record(model, inputs)
            except (RuntimeError, MemoryError) as error:
                raise self._error(device, error) from error
            except Exception as error:
                raise InternalError.of(f"trace {self.graph.name} in torch", error) from error
        return self._traces[device]

    def _check_room(self) -> None:
        from convstat.trace.bounds import room

        most = room()
        size = 2 if self.dtype in ("float16", "bfloat16") else 4
        needed = size * sum(node.layer.params() for node in self.graph.nodes if not node.is_shared)
        if most is not None and needed > most:
            raise DeviceError(
                f"the cpu cannot run {self.graph.name}: its weights take {needed / 2**30:,.1f} GiB,"
                f" and {most / 2**30:,.1f} GiB of memory are free for them",
                help="omit --device: nothing is then allocated or computed if that gives the same answers",
            )

    def foresight(self) -> tuple[str, Trace]:
        """That of the meta device."""
        return "meta", self.trace("meta")

    def why_not_meta(self) -> str | None:
        """Every layer of the vocabulary runs there."""
        return None

    def rests_on_data(self) -> bool:
        """No layer of the vocabulary does."""
        return False

    def running(self, device: str) -> AbstractContextManager[object]:
        """Nothing is needed; on meta, what was answered for one counter need not be found out for the next."""
        if device != "meta":
            return nullcontext()
        from convstat.trace.remembering import Remembering

        return Remembering()

    def _error(self, device: str, error: BaseException) -> DeviceError | InternalError:
        if device == "meta" and self.dtype == "float32":
            # Nothing there depends on the machine: what the vocabulary counts, its twins have to run.
            return InternalError.of(f"run {self.graph.name} in torch", error)
        return DeviceError(
            f"{device} cannot run {self.graph.name} in {self.dtype}: {first_line(error)}",
            help="omit --device: nothing is then allocated or computed if that gives the same answers",
        )


class ModuleStages:
    """A Python model: traced already in some way, and made anew where a counter needs another device."""

    def __init__(self, recipe: Recipe, example_of: ExampleOf, traced: Traced) -> None:
        self.recipe = recipe
        self.example_of = example_of
        self.traced = traced
        first = traced.device
        self._models: dict[str, tuple[torch.nn.Module, Example]] = {first: (traced.module, traced.example)}
        self._traces: dict[str, Trace] = {first: traced.trace}
        self._failures: dict[str, CounterFailure] = {}
        self.recordings: Recordings = {}
        if traced.way == "fake tensors":
            # A counter needs real values where meta has no answer; for a prediction fake ones will do.
            self._models = {FAKE: self._models[first]}
            self._traces = {FAKE: traced.trace}

    def model(self, device: str) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        """The model, and the arguments that it was traced with."""
        module, example = self._made(device)
        return module, Inputs.of(example.args, example.kwargs)

    def _made(self, device: str) -> tuple[torch.nn.Module, Example]:
        if device in self._failures:
            raise self._failures[device]
        if device not in self._models:
            from convstat.trace.run import make

            try:
                if device == "cpu" and not self.recipe.is_made:
                    self._check_room()
                with self._redirected(device):
                    self._models[device] = make(self.recipe, self.example_of, device, self.traced.seed)
            except Exception as error:
                # What cannot be made for one counter is not tried again for the next.
                self._failures[device] = _unmade(device, error)
                raise self._failures[device] from error
        return self._models[device]

    def _redirected(self, device: str) -> AbstractContextManager[object]:
        """A model that asked for a GPU, where there is none, is made and run without it here too."""
        from convstat.trace.placing import Redirected

        return Redirected(device) if self.traced.redirected else nullcontext()

    def _check_room(self) -> None:
        """Refuse what cannot fit: the model was made without its weights, and tells how large they are."""
        from convstat.trace.bounds import room
        from convstat.trace.failures import UnfitError
        from convstat.trace.placing import stored_bytes

        needed, most = stored_bytes(self.traced.module), room()
        if most is not None and needed > most:
            raise UnfitError(f"its weights take {needed / 2**30:,.1f} GiB, and its limit is {most / 2**30:,.1f} GiB")

    def trace(self, device: str) -> Trace:
        """The call tree of the model."""
        if device not in self._traces:
            from convstat.trace.record import record

            module, example = self._made(device)
            with self.running(device):
                try:
                    self._traces[device] = record(module, example.args, example.kwargs)
                except Exception as error:
                    raise CounterFailure(f"the model does not run on the {device}: {first_line(error)}") from error
        return self._traces[device]

    def foresight(self) -> tuple[str, Trace]:
        """The one that the report was made from."""
        return FAKE if FAKE in self._traces else self.traced.device, self.traced.trace

    def why_not_meta(self) -> str | None:
        """Whether the trace came from the meta device tells whether the model runs there."""
        return None if self.traced.device == "meta" else "the model itself does not run on the meta device"

    def rests_on_data(self) -> bool:
        """Whether masks, indices or values were assumed."""
        return self.traced.is_open

    @patch
    def running(self, device: str) -> Iterator[None]:
        """On meta, the model's tensors are put there, and what depends on values is answered as in the trace."""
        from contextlib import ExitStack

        from torch._guards import detect_fake_mode

        from convstat.patches.compiler import compiler_off
        from convstat.patches.operators import declared_operators
        from convstat.patches.preserve import drawn
        from convstat.trace.answers import Answers
        from convstat.trace.bounds import limited_memory, room
        from convstat.trace.placing import placed

        with ExitStack() as stack:
            stack.enter_context(self.recipe.around())
            stack.enter_context(compiler_off())
            # All runs of the model draw the same.
            stack.enter_context(drawn(self.traced.seed))
            if device == FAKE:
                # A counter may be foreseen by another run, which is to be as the one that was traced.
                mode = detect_fake_mode([*self.traced.module.parameters(), *self.traced.module.buffers()])
                stack.enter_context(mode or nullcontext())
                yield
                return
            stack.enter_context(self._redirected(device))
            if device == "cpu":
                stack.enter_context(limited_memory(room()))
            module, _ = self._made(device)
            stack.enter_context(placed(module, device, self.recipe.dtype, copied=self.recipe.is_made))
            if device == "meta":
                stack.enter_context(declared_operators())
                stack.enter_context(Answers(self.traced.choice))
            yield


def _unmade(device: str, error: Exception) -> CounterFailure:
    """What is said of a model that cannot be made on a device: it does not fit, or it fails."""
    from convstat.trace.bounds import is_out_of_memory
    from convstat.trace.failures import UnfitError

    if isinstance(error, UnfitError):
        return Unfit(f"it would have to run on the {device}, which has too little memory for the model: {error}")
    if is_out_of_memory(error):
        return Unfit(f"it would have to run on the {device}, which has too little memory for the model")
    return CounterFailure(f"the model cannot be created on the {device}: {first_line(error)}")
