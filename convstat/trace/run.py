"""Run any model for its trace: without weights where that is possible, and as it is where it is not.

What is tried, in turn, until one way works:

1. ``meta``: the constructor and the forward pass on the meta device; nothing is allocated or computed.
2. ``meta``, with a constructor that runs on the CPU: its parameters move to meta as they are registered.
3. ``fake``: fake tensors, for what meta has no kernel for.
4. ``cpu``: a real run, if the weights fit into the memory that is there.

Where the weights are large, a forward pass on meta that reads values is given some: it is taken at once if they do not
matter, and at last if no other way works (:mod:`convstat.trace.assumed`).
The way that was taken is reported with the result, with the reason why no earlier one was.
What the model itself raises is the same in every way, and ends the search.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import nn

from convstat.errors import ConvstatError, DeviceError
from convstat.patches.collection import without_collection
from convstat.patches.compiler import compiler_not_loaded
from convstat.patches.modes import borrowed_modes
from convstat.patches.operators import declared_operators
from convstat.patches.preserve import process_preserved
from convstat.patches.quiet import unlogged
from convstat.patches.room import alone
from convstat.patches.threads import followed
from convstat.patches.values import values_asked_for
from convstat.sources.recipe import EndlessError, Example, Recipe, TooLargeError, definition, failed, quiet, wants_gpu
from convstat.trace import forward
from convstat.trace.answers import Answers
from convstat.trace.assumed import KNOWN, MOST_TURNED, SETS, Kind, Outcome, Values, largest, same_macs, verdict
from convstat.trace.bounds import available_memory, limited_memory, room
from convstat.trace.calls import Trace
from convstat.trace.failures import (
    DEVICES,
    ENDLESS,
    VALUES,
    Failure,
    UnfitError,
    context_of,
    give_up,
    is_large,
    is_raised_by_the_model,
)
from convstat.trace.placing import Counting, Redirected, building, place, placed, running, stored_bytes
from convstat.trace.record import record, run_again

ExampleOf = Callable[[nn.Module, Example | None], Example]
"""Makes the arguments of a forward pass, from the module and from what the entry point gave along with it."""

META = "meta"
STRIPPED = "meta, made on cpu"
FAKE = "fake tensors"
ASSUMED = "meta, values assumed"

NOTES: Mapping[str, str] = MappingProxyType(
    {
        STRIPPED: "traced on meta; its constructor ran on the CPU without weights: {}",
        FAKE: "traced with fake tensors: {}",
        ASSUMED: "traced on meta with assumed values: {}",
        "cpu": "run for real on the CPU: {}",
    }
)
"""What is said of a way that is not the first, with the reason why the first did not work."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A model that ran: its trace, the way it ran, and what it ran on.

    ``redirected`` says that it asked for a GPU that is not there, and was kept from it.
    ``values`` are what it read, where that was assumed.
    """

    trace: Trace
    way: str
    module: nn.Module
    example: Example
    device: str
    notes: tuple[str, ...] = ()
    redirected: bool = False
    values: Values | None = None


Weigh = Callable[[Trace], tuple[int, dict[str, int]]]
"""What a forward pass costs: MACs, and the rest by its entries."""


@alone
def run(recipe: Recipe, example_of: ExampleOf, weigh: Weigh, *, device: str = "auto", train: bool = False) -> Traced:
    """Make the model and record one forward pass; raises SourceError in the user's own words if no way works."""
    failures: list[Failure] = []
    uncertain: Traced | None = None
    for way in _ways(recipe, device):
        if way == "cpu" and failures and all(failure.is_memory for failure in failures):
            break
        for redirected in (False, True):
            attempt = _Attempt(recipe, example_of, weigh, way, failures, train=train, redirected=redirected)
            try:
                with process_preserved(), compiler_not_loaded(), followed(_with_modes), quiet(), recipe.around():
                    traced = attempt.run()
            except (ConvstatError, EndlessError, Exception, SystemExit) as error:
                failures.append(attempt.failed(error))
            else:
                return _noted(traced, recipe, way, redirected, failures)
            if attempt.uncertain is not None:
                uncertain = uncertain or _noted(attempt.uncertain, recipe, way, redirected, failures[:-1])
            if redirected or not wants_gpu(failures[-1].cause):
                break
            del failures[-1]
        if failures and failures[-1].is_final:
            break
    if uncertain is not None and (failures[-1].is_artefact or failures[-1].is_unfit):
        return uncertain
    raise give_up(recipe.source, device, failures)


@alone
def make(recipe: Recipe, example_of: ExampleOf, device: str) -> tuple[nn.Module, Example]:
    """Make a model and its inputs on a device, for who else wants to run it, and knows that there is room."""
    stripped = device == "meta" and not recipe.is_made
    with process_preserved(), quiet(), recipe.around(), ExitStack() as stack:
        if not stripped:
            stack.enter_context(torch.device(device))
        stack.enter_context(limited_memory(None if stripped else room()))
        stack.enter_context(building("meta" if stripped else None, watched=stripped))
        module, given = recipe.make()
        with torch.device(device):
            example = example_of(module, given)
    return module, _placed(example, device)


def _with_modes() -> AbstractContextManager[None]:
    """What a thread that the constructor starts makes is made as in the one that starts it."""
    return borrowed_modes(lambda: False)


def _ways(recipe: Recipe, device: str) -> tuple[str, ...]:
    if recipe.needs_cpu:
        if device not in ("auto", "cpu"):
            raise DeviceError(f"{recipe.source} only runs on the CPU", help="leave --device out")
        return ("cpu",)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("there is no CUDA device on this machine", help="use --device auto, cpu or meta")
    if device != "auto":
        return (device,)
    # The constructor of a model that is there already is over.
    return (META, "cpu") if recipe.is_made else (META, STRIPPED, FAKE, "cpu")


def _noted(traced: Traced, recipe: Recipe, way: str, redirected: bool, failures: Sequence[Failure]) -> Traced:
    return replace(traced, notes=(*recipe.notes, *_said(way, redirected, failures), *traced.notes))


def _said(way: str, redirected: bool, failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        yield NOTES[way].format(failures[0].why())
    if redirected:
        yield "it asks for a GPU, and there is none: it was kept where it is"


class _Attempt:
    """One way of making and running a model; remembers how far it came."""

    def __init__(
        self,
        recipe: Recipe,
        example_of: ExampleOf,
        weigh: Weigh,
        way: str,
        before: Sequence[Failure],
        *,
        train: bool,
        redirected: bool,
    ) -> None:
        self.recipe = recipe
        self.example_of = example_of
        self.weigh = weigh
        self.way = way
        self.before = before
        self.train = train
        self.redirected = redirected
        self.device = {META: "meta", STRIPPED: "meta", FAKE: "cpu"}.get(way, way)
        self.module: nn.Module | None = None
        self.example: Example | None = None
        self.assumed = False
        self.uncertain: Traced | None = None

    def run(self) -> Traced:
        """Make the model, run it and record it."""
        with ExitStack() as stack:
            if self.redirected:
                stack.enter_context(Redirected(self.device))
            if self.way == FAKE:
                return self._fake()
            return self._meta() if self.device == "meta" else self._real()

    def _make(self, *, stripped: bool = False) -> tuple[nn.Module, Example | None]:
        with ExitStack() as stack:
            if self.way != FAKE and not stripped:
                stack.enter_context(torch.device(self.device))
            stack.enter_context(building("meta" if stripped else None, watched=self.way not in DEVICES))
            self.module, given = self.recipe.make()
        return self.module, given

    def _record(self, example: Example, answers: Answers | None = None) -> Traced:
        assert self.module is not None
        self.example = example
        try:
            with running():
                trace = record(self.module, example.args, example.kwargs, train=self.train)
        finally:
            self.assumed = answers is not None and bool(answers.assumed)
        notes = answers.notes if answers is not None else ()
        values = answers.values if answers is not None else None
        return Traced(trace, self.way, self.module, example, self.device, notes, self.redirected, values)

    def _meta(self) -> Traced:
        with limited_memory():
            module, given = self._make(stripped=self.way == STRIPPED)
            with torch.device("meta"):
                example = self.example_of(module, given)
            example = _placed(example, "meta")
            if not self.recipe.assume_values and is_large(stored_bytes(module)):
                traced = self._whatever_it_reads(module, example)
                if traced is not None:
                    return traced
            return self._run_on_meta(module, example, Answers(KNOWN if self.recipe.assume_values else None))

    def _run_on_meta(self, module: nn.Module, example: Example, answers: Answers) -> Traced:
        with self._on_meta(module, example, answers):
            return self._record(example, answers)

    @contextmanager
    def _on_meta(self, module: nn.Module, example: Example, answers: Answers) -> Iterator[None]:
        if not self.recipe.is_made:
            with answers:
                _initialise(module, example)
        asking = nullcontext() if answers.values is None else values_asked_for()
        with placed(module, "meta", self.recipe.dtype), declared_operators(), asking, answers, without_collection():
            yield

    def _whatever_it_reads(self, module: nn.Module, example: Example) -> Traced | None:
        """Run it with several sets of values, if it reads any; gives nothing if they matter."""
        outcomes: list[Outcome] = []
        tried: list[Values] = []
        errors: list[Exception | EndlessError] = []
        first: Answers | None = None
        found: Traced | None = None
        asked: set[Kind] = set()
        for values in SETS:
            if any(values.only(asked) == before.only(asked) for before in tried):
                continue
            tried.append(values)
            passing = _Passing(self, module, example, values, first)
            try:
                traced = passing.run()
            except (Exception, EndlessError) as error:
                errors.append(error)
            else:
                if traced is not None:
                    outcomes.append(Outcome(*self.weigh(traced.trace)))
                    found = traced if outcomes[-1] is largest(outcomes) else found
                    first = first or passing.answers
            asked |= passing.answers.asked.keys()
            if not asked and not errors:
                return found
        # A check that no answer passes ends the pass, and says nothing of its cost.
        unclear = sum(isinstance(error, EndlessError) or not is_raised_by_the_model(error) for error in errors)
        if found is None:
            if errors and not unclear and asked <= {"truth"}:
                raise errors[0]
            return None
        place = next((f" ({mark.file}:{mark.line})" for mark in passing.answers.asked.values() if mark), "")
        notes = (NOTES[ASSUMED].format(VALUES + place), verdict(outcomes, unclear))
        found = replace(found, way=ASSUMED, notes=(*found.notes, *notes))
        if same_macs(outcomes) and not unclear:
            return found
        self.uncertain = found
        return None

    def _fake(self) -> Traced:
        from torch._subclasses.fake_tensor import FakeTensorMode

        with limited_memory(), unlogged("torch._subclasses.fake_tensor"), FakeTensorMode(allow_non_fake_inputs=True):
            module, given = self._make()
            if any(not _is_fake(t) for t in (*module.parameters(), *module.buffers())):
                raise UnfitError("the module was made before, with real tensors")
            if self.recipe.dtype is not None:
                module.to(self.recipe.dtype)
            with Counting("the forward pass"):
                return self._record(self.example_of(module, given))

    def _real(self) -> Traced:
        if not (self.recipe.needs_cpu or self.recipe.is_made):
            _check_room(self.recipe, next((f.weights for f in self.before if f.weights is not None), None))
        with limited_memory(room()):
            module, given = self._make()
            with (
                placed(module, self.device, self.recipe.dtype, copied=self.recipe.is_made),
                Counting("the forward pass", room()),
            ):
                return self._record(_placed(self.example_of(module, given), self.device))

    def failed(self, error: BaseException) -> Failure:
        """Say what went wrong; raises at once where no other way can be better."""
        source, cause = self.recipe.source, error
        if isinstance(error, ConvstatError):
            if error.__cause__ is None or isinstance(error.__cause__, SystemExit):
                raise error
            cause = error.__cause__
        if isinstance(cause, EndlessError) and not isinstance(cause, TooLargeError):
            raise failed(f"{source} does not end", cause, help=ENDLESS) from cause
        if isinstance(cause, SystemExit):
            raise failed(f"{source} does not run", cause) from cause
        failure = self._failure(error)
        # What its frames hold may fill the memory that the next way needs.
        self.module = self.example = None
        for passed in (error, cause, *context_of(cause)):
            traceback.clear_frames(passed.__traceback__)
        return failure

    def _failure(self, error: BaseException) -> Failure:
        weights = None if self.module is None else stored_bytes(self.module)
        if self.example is None or self.module is None:
            return Failure(self.way, error, weights=weights)
        return Failure(
            self.way,
            error,
            signature=forward.signature_text(self.module),
            options=forward.example_options(self.module),
            inputs=_in_words(self.module, self.example),
            forward=definition(getattr(self.module.forward, "__func__", None)),
            weights=weights,
            assumed=self.assumed,
        )


class _Passing:
    """A forward pass on meta with a set of values; where the model refuses an answer, that one is turned."""

    def __init__(
        self, attempt: _Attempt, module: nn.Module, example: Example, values: Values, first: Answers | None
    ) -> None:
        self.attempt, self.module, self.example = attempt, module, example
        self.values = values
        self.first = first
        self.turned: set[int] = set()
        self.answers = Answers(values)

    def run(self) -> Traced | None:
        """Record it; nothing is recorded of what does the same as the first."""
        if self.first is not None and not self.attempt.train:
            self._turning(self._again)
            if self.answers.ran == self.first.ran:
                return None
        return self._turning(self._recorded)

    def _turning(self, run: Callable[[], Found]) -> Found:
        while True:
            # A loop that goes on for as long as a value says so need not be followed to its end.
            most = None if self.first is None else 1000 + 4 * len(self.first.ran)
            self.answers = answers = Answers(self.values, turned=self.turned, most=most)
            try:
                return run()
            except Exception as error:
                last = answers.questions - 1
                is_new = last >= 0 and last not in self.turned and len(self.turned) < MOST_TURNED
                if not is_new or not is_raised_by_the_model(error):
                    raise
                self.turned.add(last)

    def _recorded(self) -> Traced:
        return self.attempt._run_on_meta(self.module, self.example, self.answers)

    def _again(self) -> None:
        with self.attempt._on_meta(self.module, self.example, self.answers), running():
            run_again(self.module, self.example.args, self.example.kwargs)


Found = TypeVar("Found")


def _initialise(module: nn.Module, example: Example) -> None:
    """Run a model that has lazy modules, so that it is what it becomes, for us and for who else runs it."""
    if any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        with torch.no_grad():
            module(*example.args, **example.kwargs)


def _placed(example: Example, device: str) -> Example:
    return Example(place(example.args, device), place(dict(example.kwargs), device))


def _check_room(recipe: Recipe, needed: int | None) -> None:
    """Refuse a real run of a model whose weights alone do not fit; made without them first, to find out."""
    if needed is None:
        try:
            with limited_memory(), building("meta"):
                module, _ = recipe.make()
        except (Exception, TooLargeError):
            return
        needed = stored_bytes(module)
    most = room()
    if most is not None and needed > most:
        free = available_memory() or 0
        raise UnfitError(f"its weights take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free")


def _in_words(module: nn.Module, example: Example) -> str:
    named = forward.named_infos(module, example.args, example.kwargs)
    return ", ".join(
        f"{name} {'x'.join(map(str, tensor.shape)) or 'scalar'} {tensor.dtype}"
        for name, tensor in list(named.items())[:8]
    )


def _is_fake(tensor: torch.Tensor) -> bool:
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor) or isinstance(tensor.data, FakeTensor)
