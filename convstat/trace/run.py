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
from time import monotonic
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import nn

from convstat.errors import ConvstatError, DeviceError
from convstat.patches.collection import without_collection
from convstat.patches.compiler import compiler_not_loaded
from convstat.patches.guard import EndlessError, own
from convstat.patches.modes import borrowed_modes
from convstat.patches.operators import declared_operators
from convstat.patches.preserve import drawn, process_preserved
from convstat.patches.quiet import unlogged, unwarned
from convstat.patches.room import alone
from convstat.patches.states import Changes
from convstat.patches.threads import followed
from convstat.patches.torch_states import modes_left
from convstat.patches.values import values_asked_for
from convstat.trace import forward
from convstat.trace.answers import Answers, Reading
from convstat.trace.assumed import (
    KNOWN,
    LARGEST,
    MOST_TURNED,
    SETS,
    Choice,
    Kind,
    Outcome,
    Tried,
    Values,
    largest,
    same_macs,
    verdict,
)
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
from convstat.trace.foreign import foreign
from convstat.trace.placing import Counting, Redirected, building, place, placed, running, stored_bytes
from convstat.trace.recipe import Example, Recipe, TooLargeError, definition, failed, quiet, wants_gpu
from convstat.trace.record import aside, record, run_again
from convstat.trace.trial import Trial
from convstat.trace.unseen import guarded

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
        "cpu": "run on the CPU: {}",
    }
)
"""What is said of a way that is not the first, with the reason why the first did not work."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A model that ran: its trace, the way it ran, and what it ran on.

    ``redirected`` says that it asked for a GPU that is not there, and was kept from it.
    ``choice`` is what was assumed of values that were not there; ``rests_on`` says on what of it the count rests, if it
    does. ``is_open`` says that something was assumed, whether it matters or not; ``seed`` is what was drawn from, and
    ``values`` says, in words, what the inputs were where some were read.
    """

    trace: Trace
    way: str
    module: nn.Module
    example: Example
    device: str
    notes: tuple[str, ...] = ()
    redirected: bool = False
    choice: Choice = LARGEST
    rests_on: str | None = None
    is_open: bool = False
    seed: int = 0
    values: str | None = None


SEEDS = (0, 1, 2)
"""What is drawn from: the weights and inputs of a real run, and of the runs that see whether these matter."""

REPEATED_SECONDS = 20.0
"""The longest that a real run may take to be repeated."""

Weigh = Callable[[Trace], tuple[int, dict[str, int]]]
"""What a forward pass costs: MACs, and the rest by its entries."""


@alone
def run(recipe: Recipe, example_of: ExampleOf, weigh: Weigh, *, device: str = "auto", train: bool = False) -> Traced:
    """Make the model and record one forward pass; raises SourceError in the user's own words if no way works."""
    with aside(), foreign(f"{recipe.source} does not run"):
        return _first_way(recipe, example_of, weigh, device=device, train=train)


def _first_way(recipe: Recipe, example_of: ExampleOf, weigh: Weigh, *, device: str, train: bool) -> Traced:
    failures: list[Failure] = []
    uncertain: Traced | None = None
    wants_data = False
    for way in _ways(recipe, device):
        if wants_data and way != "cpu":
            continue
        if way == "cpu" and failures and all(failure.is_memory for failure in failures):
            break
        for redirected in (False, True):
            attempt = _Attempt(recipe, example_of, weigh, way, failures, train=train, redirected=redirected)
            try:
                with _around(recipe) as kept:
                    traced = attempt.run()
            except (Exception, EndlessError) as error:
                failures.append(attempt.failed(error))
            else:
                traced = replace(traced, notes=tuple(dict.fromkeys((*attempt.left, *traced.notes, *kept.notes))))
                noted = _noted(traced, recipe, way, redirected, failures, wants_data=wants_data)
                if not attempt.wants_data or len(_ways(recipe, device)) == 1:
                    return noted
                uncertain, wants_data = noted, True
                break
            if attempt.uncertain is not None:
                uncertain = uncertain or _noted(attempt.uncertain, recipe, way, redirected, failures[:-1])
            if redirected or not wants_gpu(failures[-1].cause):
                break
            del failures[-1]
        if failures and failures[-1].is_final:
            break
    if uncertain is not None and (not failures or failures[-1].is_artefact or failures[-1].is_unfit):
        return uncertain
    raise give_up(recipe.source, device, failures)


@contextmanager
def _around(recipe: Recipe) -> Iterator[Changes]:
    """What holds while a model is made and run in one way."""
    with (
        process_preserved() as kept,
        foreign(f"{recipe.source} does not run"),
        compiler_not_loaded(),
        followed(_with_modes),
        quiet(),
        recipe.around(),
    ):
        yield kept


@alone
def make(recipe: Recipe, example_of: ExampleOf, device: str, seed: int = 0) -> tuple[nn.Module, Example]:
    """Make a model and its inputs on a device, for who else wants to run it, and knows that there is room."""
    stripped = device == "meta" and not recipe.is_made
    with process_preserved(), foreign(f"{recipe.source} could not be created"), ExitStack() as stack:
        for entered in (quiet(), recipe.around(), drawn(seed)):
            stack.enter_context(entered)
        if not stripped:
            stack.enter_context(torch.device(device))
        stack.enter_context(limited_memory(None if stripped else room()))
        stack.enter_context(building("meta" if stripped else None, watched=stripped))
        stack.enter_context(unwarned())
        with modes_left():
            module, given = recipe.make()
        with torch.device(device):
            example = redrawn(example_of(module, given), seed)
    return module, on_device(example, device)


def _with_modes() -> AbstractContextManager[None]:
    """What a thread that the constructor starts makes is made as in the one that starts it."""
    return borrowed_modes(lambda: False)


def _ways(recipe: Recipe, device: str) -> tuple[str, ...]:
    if recipe.needs_cpu:
        if device not in ("auto", "cpu"):
            raise DeviceError(f"{recipe.source} only runs on the CPU", help="omit --device")
        return ("cpu",)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("there is no CUDA device on this machine", help="use --device auto, cpu or meta")
    if device != "auto":
        return (device,)
    # The constructor of a model that is there already is over.
    return (META, "cpu") if recipe.is_made else (META, STRIPPED, FAKE, "cpu")


def _noted(
    traced: Traced,
    recipe: Recipe,
    way: str,
    redirected: bool,
    failures: Sequence[Failure],
    *,
    wants_data: bool = False,
) -> Traced:
    said = _said(way, redirected, failures, wants_data=wants_data)
    return replace(traced, notes=(*recipe.notes, *said, *traced.notes))


def _said(way: str, redirected: bool, failures: Sequence[Failure], *, wants_data: bool) -> Iterator[str]:
    if wants_data:
        yield NOTES[way].format("the count depends on the data, and these are given")
    elif failures:
        yield NOTES[way].format(failures[0].why())
    if redirected:
        yield "it requests a GPU, and there is none; it was not moved"


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
        self.wants_data = False
        self.seed = 0
        self.left: tuple[str, ...] = ()

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
            stack.enter_context(drawn(self.seed))
            # What is warned of is for who runs it, and of tensors without values for nobody.
            stack.enter_context(unwarned())
            with modes_left() as left:
                self.module, given = self.recipe.make()
            self.left = tuple(left.notes)
        return self.module, given

    def _record(self, example: Example, answers: Answers | None = None) -> Traced:
        assert self.module is not None
        self.example = example
        try:
            with running(), drawn(self.seed):
                trace = record(self.module, example.args, example.kwargs, train=self.train)
        finally:
            self.assumed = answers is not None and bool(answers.assumed)
        traced = Traced(trace, self.way, self.module, example, self.device, redirected=self.redirected, seed=self.seed)
        if answers is None:
            return traced
        return replace(traced, notes=answers.notes, choice=answers.choice, is_open=bool(answers.assumed))

    def _meta(self) -> Traced:
        with limited_memory():
            module, given = self._make(stripped=self.way == STRIPPED)
            with torch.device("meta"):
                example = self.example_of(module, given)
            example = on_device(example, "meta")
            if not self.recipe.assume_values and is_large(stored_bytes(module)):
                passed = self._whatever_it_reads(module, example)
                if passed is not None:
                    return self._settled(*passed, module, example)
            answers = Answers(Choice(KNOWN if self.recipe.assume_values else None))
            return self._settled(self._run_on_meta(module, example, answers), answers, module, example)

    def _settled(self, traced: Traced, answers: Answers, module: nn.Module, example: Example) -> Traced:
        """Run it with other choices where some were made, to see whether they matter; if so, given data decide."""
        if not answers.masks and not answers.routed:
            return traced
        trial = Trial(Tried(*self.weigh(traced.trace), traced), answers)
        while (choice := trial.next()) is not None:
            most = 1000 + 4 * max(sum(1 for _ in tried.found.trace.kernels()) for tried in trial.outcomes)
            passing = _Passing(self, module, example, choice, None, most=most)
            try:
                found = passing.run()
            except (Exception, EndlessError):
                trial.fail(choice)
            else:
                assert found is not None
                trial.add(choice, Tried(*self.weigh(found.trace), found))
        found = trial.best.found
        said = () if trial.rests_on else (trial.verdict,)
        # What was said of values that were read holds for all.
        notes = dict.fromkeys((*found.notes, *traced.notes, *said))
        self.wants_data = trial.rests_on is not None and example.values is not None
        return replace(found, way=traced.way, notes=tuple(notes), rests_on=trial.rests_on, is_open=True)

    def _run_on_meta(self, module: nn.Module, example: Example, answers: Answers) -> Traced:
        with self._on_meta(module, example, answers):
            return self._record(example, answers)

    @contextmanager
    def _on_meta(self, module: nn.Module, example: Example, answers: Answers) -> Iterator[None]:
        if not self.recipe.is_made:
            with answers:
                initialise(module, example)
        asking = nullcontext() if answers.values is None else values_asked_for()
        with (
            placed(module, "meta", self.recipe.dtype) as moved,
            declared_operators(),
            asking,
            answers,
            without_collection(),
        ):
            # The tensors of a model that was made before are its own.
            guarded(moved if self.recipe.is_made else (*module.parameters(), *module.buffers()))
            yield

    def _whatever_it_reads(self, module: nn.Module, example: Example) -> tuple[Traced, Answers] | None:
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
            passing = _Passing(self, module, example, Choice(values), first)
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
                return None if found is None else (found, passing.answers)
        # A check that no answer passes ends the pass, and says nothing of its cost.
        unclear = sum(isinstance(error, EndlessError) or not is_raised_by_the_model(error) for error in errors)
        if found is None:
            if errors and not unclear and asked <= {"truth"}:
                raise errors[0]
            return None
        place = next((f" ({mark.file}:{mark.line})" for mark in passing.answers.asked.values() if mark), "")
        said = verdict(outcomes, unclear)
        notes = (NOTES[ASSUMED].format(VALUES + place), said)
        found = replace(found, way=ASSUMED, notes=(*found.notes, *notes), is_open=True)
        if same_macs(outcomes) and not unclear:
            assert first is not None
            return found, first
        self.uncertain = replace(found, rests_on=f"an upper bound: values were assumed, and {said}")
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
        """Run it for real; where it reads values that were drawn, again with others, to see whether they matter."""
        if not (self.recipe.needs_cpu or self.recipe.is_made):
            _check_room(self.recipe, next((f.weights for f in self.before if f.weights is not None), None))
        began = monotonic()
        with limited_memory(room()):
            first, reads = self._really()
            if not reads and not any(failure.reads_values for failure in self.before):
                return first
            first = replace(first, values=_values_of(first.example, 0))
            if self.recipe.is_made and first.example.values is not None:
                # Nothing is drawn by us.
                return first
            outcomes = [Tried(*self.weigh(first.trace), first)]
            unclear = 0
            if self._may_repeat(first, monotonic() - began):
                for self.seed in SEEDS[1:]:
                    try:
                        traced, _ = self._really()
                    except (Exception, EndlessError):
                        unclear += 1
                    else:
                        traced = replace(traced, values=_values_of(traced.example, self.seed))
                        outcomes.append(Tried(*self.weigh(traced.trace), traced))
        return drawn_verdict(outcomes, unclear)

    def _really(self) -> tuple[Traced, bool]:
        module, given = self._make()
        with drawn(self.seed):
            example = self.example_of(module, given)
        watching = Reading("the forward pass", room())
        with placed(module, self.device, self.recipe.dtype, copied=self.recipe.is_made), watching:
            traced = self._record(on_device(redrawn(example, self.seed), self.device))
        return traced, watching.reads

    def _may_repeat(self, traced: Traced, seconds: float) -> bool:
        """Whether it can be run again in a time and a memory that nobody minds."""
        most = room()
        return seconds < REPEATED_SECONDS and (most is None or 3 * stored_bytes(traced.module) < most)

    def failed(self, error: BaseException) -> Failure:
        """Say what went wrong; raises at once where no other way can be better."""
        source, cause = self.recipe.source, own(error)
        if isinstance(error, ConvstatError):
            if not isinstance(error.__cause__, (Exception, EndlessError)):
                raise error
            cause = error.__cause__
        if isinstance(cause, EndlessError) and not isinstance(cause, TooLargeError):
            raise failed(f"{source} does not terminate", cause, help=ENDLESS) from cause
        if not isinstance(cause, (Exception, EndlessError)):
            raise failed(f"{source} does not run", cause) from cause
        failure = self._failure(error)
        # What its frames hold may fill the memory that the next way needs.
        self.module = self.example = None
        for passed in (error, cause, *context_of(cause)):
            traceback.clear_frames(passed.__traceback__)
        return failure

    def _failure(self, error: BaseException) -> Failure:
        weights = None
        try:
            with process_preserved(), foreign(f"{self.recipe.source} does not run"):
                weights = None if self.module is None else stored_bytes(self.module)
                if self.example is not None and self.module is not None:
                    return Failure(
                        self.way,
                        error,
                        signature=forward.signature_text(self.module),
                        inputs=_in_words(self.module, self.example),
                        forward=definition(getattr(self.module.forward, "__func__", None)),
                        weights=weights,
                        assumed=self.assumed,
                    )
        except Exception:
            # It does not even say what it is; what it raised before says more.
            return Failure(self.way, error, signature=None if self.example is None else "...", weights=weights)
        return Failure(self.way, error, weights=weights)


class _Passing:
    """A forward pass on meta with a choice; where the model refuses an answer, that one is turned."""

    def __init__(
        self,
        attempt: _Attempt,
        module: nn.Module,
        example: Example,
        choice: Choice,
        first: Answers | None,
        *,
        most: int | None = None,
    ) -> None:
        self.attempt, self.module, self.example = attempt, module, example
        self.choice = choice
        self.first = first
        # A loop that goes on for as long as a value says so need not be followed to its end.
        self.most = most if first is None else 1000 + 4 * len(first.ran)
        self.turned: set[int] = set()
        self.answers = Answers(choice)

    def run(self) -> Traced | None:
        """Record it; nothing is recorded of what does the same as the first."""
        if self.first is not None and not self.attempt.train:
            self._turning(self._again)
            if self.answers.ran == self.first.ran:
                return None
        return self._turning(self._recorded)

    def _turning(self, run: Callable[[], Found]) -> Found:
        while True:
            self.answers = answers = Answers(self.choice, turned=self.turned, most=self.most)
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


def initialise(module: nn.Module, example: Example) -> None:
    """Run a model that has lazy modules, so that it is what it becomes, for us and for who else runs it."""
    if any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        with torch.no_grad():
            module(*example.args, **example.kwargs)


def on_device(example: Example, device: str) -> Example:
    """The same inputs on a device."""
    kept = {name: value for name, value in example.kwargs.items() if name in example.constants and device == "meta"}
    return replace(example, args=place(example.args, device), kwargs={**place(dict(example.kwargs), device), **kept})


def redrawn(example: Example, seed: int) -> Example:
    """Inputs of which only the shapes were asked for: zeros, or drawn; indices stay zero, which is always one."""
    from torch.utils._pytree import tree_map

    if example.values is not None or not seed:
        return example

    def draw(value: object) -> object:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return torch.randn_like(value)
        return value

    with drawn(seed):
        return replace(example, args=tree_map(draw, example.args), kwargs=tree_map(draw, dict(example.kwargs)))


def _values_of(example: Example, seed: int) -> str:
    return example.values or (f"random (seed {seed})" if seed else "zeros")


def drawn_verdict(outcomes: Sequence[Tried[Traced]], unclear: int) -> Traced:
    """Say what runs on several draws came to: the largest is given."""
    found = outcomes[0].found if same_macs(outcomes) else largest(outcomes).found
    least, most = min(outcome.macs for outcome in outcomes), max(outcome.macs for outcome in outcomes)
    if least != most:
        rests_on = (
            f"the largest of {len(outcomes)} runs on random values, on which the count depends: {least:,} to {most:,} "
            f"MACs"
        )
    elif len(outcomes) == 1 or unclear:
        rests_on = "the count of one run on random values, on which it may depend"
    else:
        note = f"it reads values; in {len(outcomes)} runs on different ones the MACs are the same"
        return replace(found, notes=(*found.notes, note))
    return replace(found, rests_on=rests_on)


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
