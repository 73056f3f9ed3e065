"""Models that a counter would never have gone through: that is foreseen, from how it goes down a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import counted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convstat.counters import COUNTERS
from convstat.counters.base import CounterFailure
from convstat.counters.capture import running
from convstat.counters.crew import Crew
from convstat.patches.time_limit import allowed
from convstat.trace import walks
from convstat.trace.recipe import Recipe
from convstat.trace.record import record

CONV = 3 * 3 * 9 * 64
LEVELS = 40


class Block(nn.Module):
    """Holds some modules, and runs the first of them."""

    def __init__(self, **held: nn.Module) -> None:
        super().__init__()
        for name, module in held.items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return next(iter(self.children()))(x)


def conv() -> nn.Module:
    """A layer of 27 products for each output."""
    return nn.Conv2d(3, 3, 3, padding=1, bias=False)


def holds_itself() -> nn.Module:
    """A root that is a child of its child."""
    block = Block(conv=conv(), child=nn.Identity())
    block.child.parent = block
    return block


def is_its_own_child() -> nn.Module:
    """A root that is a child of its own."""
    block = Block(conv=conv())
    block.add_module("me", block)
    return block


def holds_what_holds_itself() -> nn.Module:
    """The circle is further down."""
    return Block(stem=holds_itself())


def levels(count: int, leaf: Callable[[], nn.Module] = conv) -> nn.Module:
    """Each level holds two modules that hold the one below, which so has two to the power of ``count`` ways to it."""
    inner = leaf()
    for _ in range(count):
        inner = Block(a=Block(inner=inner), b=Block(inner=inner))
    return inner


def levels_by_name(count: int, leaf: Callable[[], nn.Module] = conv) -> nn.Module:
    """Each level holds the one below under two names."""
    inner = leaf()
    for _ in range(count):
        inner = Block(a=inner, b=inner)
    return inner


def rows(make: Callable[[], nn.Module]) -> dict[str, Any]:
    """What is said of each counter that is there; the count itself holds in any case."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (make(), None))
    report = counted.traced(recipe, inputs=("3x8x8",), counters="all")
    assert CONV == report.totals.macs
    return {row.name: row for row in report.counters if row.status != "unavailable"}


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (holds_itself, "the model holds itself, as 'child.parent'"),
        (is_its_own_child, "the model holds itself, as 'me'"),
        (holds_what_holds_itself, "'stem' holds itself, as 'stem.child.parent'"),
    ],
)
def test_no_counter_is_run_on_a_model_that_holds_itself(make: Callable[[], nn.Module], place: str) -> None:
    """All of them go into what a module holds, again and again; the row says so, and what goes round."""
    for row in rows(make).values():
        assert ("failed", True) == (row.status, row.is_foreseen), row
        assert row.error.startswith(f"it was not run: {place}, so ")
        assert row.error.endswith(", which visits all submodules, does not terminate")


def test_no_counter_is_run_that_would_go_every_one_of_too_many_ways() -> None:
    """Two to the power of forty are too many for all; only ModuleTracker remembers where it was."""
    found = rows(lambda: levels(LEVELS))
    assert "ok" == found.pop("flopcountermode").status
    for row in found.values():
        assert ("failed", True) == (row.status, row.is_foreseen), row
        assert "visits a module once per path to it, makes more than 10,000,000 visits" in row.error


def test_two_names_for_one_module_are_two_ways_for_those_that_go_by_names() -> None:
    """``children()`` gives each module once."""
    found = rows(lambda: levels_by_name(LEVELS))
    failed = {name for name, row in found.items() if row.status == "failed"}
    assert {"torchinfo", "fvcore", "torchprofile"} & set(found) == failed
    assert all(found[name].is_foreseen for name in failed)
    for name in found.keys() - failed:
        assert (0, 0) == (found[name].unexplained.params or 0, found[name].unexplained.macs or 0), name


class Ends(Block):
    """Goes round by itself, in all of the ways that are a module's own."""

    def train(self, mode: bool = True) -> Any:
        for module in self.modules():
            module.training = mode
        return self

    def apply(self, fn: Any) -> Any:
        for module in self.modules():
            fn(module)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.conv.state_dict(*args, **kwargs)


def test_a_model_that_ends_a_walk_itself_is_given_to_the_counters_that_use_it() -> None:
    """A class with an ``apply`` or a ``train`` of its own may go another way: their answers are as good as ever."""

    def make() -> nn.Module:
        block = Ends(conv=conv())
        block.add_module("me", block)
        return block

    found = rows(make)
    answering = {"ptflops-aten", "torchsummary", "torchstat", "torchprofile", "deepspeed", "ultralytics-thop"} & set(
        found
    )
    assert answering == {name for name, row in found.items() if row.status == "ok"}
    for name in answering:
        assert (0, 0) == (found[name].unexplained.params or 0, found[name].unexplained.macs or 0), name


VISITS: Counter[str] = Counter()
"""What a module that tallies its visits was visited by: it stands outside, as a model is put back after a run."""


class Tallies(nn.Conv2d):
    """Notes by which of a module's own ways it is visited."""

    def train(self, mode: bool = True) -> Any:
        VISITS[walks.EVAL.name] += 1
        return super().train(mode)

    def apply(self, fn: Any) -> Any:
        VISITS[walks.APPLY.name] += 1
        return super().apply(fn)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        VISITS[walks.STATE_DICT.name] += 1
        return super().state_dict(*args, **kwargs)


INSTALLED = [name for name in COUNTERS if COUNTERS[name].version()]


@pytest.mark.parametrize("name", INSTALLED)
def test_the_ways_that_a_counter_goes_are_those_of_the_tool(name: str) -> None:
    """A module at the end of eight ways is visited by each of them eight times, once or a few times over."""
    net = levels(3, lambda: Tallies(3, 3, 3, padding=1))
    VISITS.clear()
    with running(net):
        ours = VISITS.copy()
    VISITS.clear()
    COUNTERS[name].run(net, (torch.zeros(1, 3, 8, 8),))
    VISITS.subtract(ours)
    own = {walk.name for walk in COUNTERS[name].walks if walk.methods}
    assert own == {way for way, visits in VISITS.items() if visits >= 2**3}, VISITS
    assert all(VISITS[way] // 2**3 in (1, 2, 3, 4, 5) for way in own), VISITS


@pytest.mark.parametrize("name", [name for name in INSTALLED if any(not walk.methods for walk in COUNTERS[name].walks)])
def test_a_way_of_a_counters_own_does_not_end(name: str) -> None:
    """With all other ways ended, the tool still goes round until the stack or its time is over."""
    block = Ends(conv=conv())
    block.add_module("me", block)
    inputs = (torch.zeros(1, 3, 8, 8),)
    with allowed(3), Crew() as crew, pytest.raises(CounterFailure, match=r"RecursionError|no answer within 3 seconds"):
        crew.ask(lambda: COUNTERS[name].run(block, inputs), lambda answer: answer, block, "cpu").answer()


@st.composite
def nets(draw: st.DrawFn) -> nn.Module:
    """Blocks that hold some of those before them, one under several names now and then."""
    made: list[nn.Module] = [conv()]
    for _ in range(draw(st.integers(1, 6))):
        held = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3))
        made.append(Block(**{f"m{place}": module for place, module in enumerate(held)}))
    return made[-1]


@settings(max_examples=30, deadline=None)
@given(net=nets())
def test_visits_are_counted_as_torch_makes_them(net: nn.Module) -> None:
    """``apply`` comes to each module as often as there are ways to it, and ``state_dict`` for each name too."""
    visited: Counter[int] = Counter()
    net.apply(lambda module: visited.update([id(module)]))
    trace = record(net, (torch.zeros(1, 3, 4, 4),))
    modules = dict(net.named_modules())
    assert visited == {id(modules[trace.modules[place].path]): times for place, times in walks.ways(trace).items()}
    for walk, total in ((walks.APPLY, visited.total()), (walks.STATE_DICT, names(net))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(walks, "MOST_VISITS", total)
            assert walks.why_endless(net, (walk,)) is None
            patch.setattr(walks, "MOST_VISITS", total - 1)
            assert f"makes more than {total - 1:,} visits" in str(walks.why_endless(net, (walk,)))


def names(net: nn.Module) -> int:
    """How many names there are, for all ways to all modules."""
    return 1 + sum(names(child) for child in net._modules.values() if child is not None)


def test_deep_nets_are_looked_through_without_a_deep_stack() -> None:
    """Twenty thousand levels end; torch itself cannot go so far down."""
    net = conv()
    for _ in range(20_000):
        net = nn.Sequential(net)
    assert walks.why_endless(net, (walks.APPLY, walks.STATE_DICT)) is None
    # Its parts are let go one by one, as the stack is no deeper here either.
    while isinstance(net, nn.Sequential):
        net = net._modules.pop("0")
