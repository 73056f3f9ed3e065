"""Who asks counters: each call in a process of its own, several at a time; or here, where that is asked for or needed.

A question is asked when it is put, or as soon as there is room for it, and answered when the answer is wanted:
what is done in between runs beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from convstat.counters import wire
from convstat.counters.base import CounterFailure
from convstat.counters.capture import first_line
from convstat.errors import ConvstatError, InternalError
from convstat.patches.child import why_not_forked
from convstat.patches.forked import Call, Lost, wait
from convstat.patches.room import alone
from convstat.patches.streams import keep_standard_output
from convstat.patches.time_limit import Overtime, seconds_allowed, time_limit

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

MOST = 4
"""Processes at a time, where there are as many processors; only one of them computes on real tensors."""


class Late(CounterFailure):
    """The tool gave no answer in the time that it has."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it gave no answer within {seconds:g} seconds", "--timeout SECONDS sets a longer limit")


class Question(Generic[T]):
    """A call of a counter; ``check`` refuses what is no answer to it.

    ``model`` is what it may touch; ``is_large`` says that it computes on real tensors, which fill memory.
    """

    def __init__(
        self,
        crew: Crew,
        ask: Callable[[], Any],
        check: Callable[[Any], T],
        model: torch.nn.Module | None,
        device: str,
    ) -> None:
        self.crew = crew
        self.ask = ask
        self.check = check
        self.model = model
        self.device = device
        self.is_large = device not in ("meta", "fake")
        self.is_here = crew.in_process
        self.call: Call | None = None

    def asked(self) -> T:
        """Ask, and check what comes."""
        return self.check(self.ask())

    def answer(self) -> T:
        """The answer, once it is there; raises CounterFailure for whatever goes wrong with it."""
        call = self.crew.finished(self)
        if call is None:
            return guarded(self.asked, self.model, self.crew.seconds)
        try:
            answer = wire.answer(call.answer())
        except Lost as lost:
            raise Late(call.seconds) if lost.is_late else CounterFailure(str(lost)) from None
        except ValueError:
            raise CounterFailure("its process gave no readable answer") from None
        # Whoever could write this could write anything.
        return self.check(answer)


class Crew:
    """Asks counters, each for as long as foreign code may take.

    It is used as a context: no process outlives it.
    """

    def __init__(self, *, in_process: bool = False) -> None:
        self.seconds = seconds_allowed()
        self.in_process = in_process
        self._waiting: list[Question[Any]] = []
        self._running: list[Question[Any]] = []
        self._calls: list[Call] = []
        self._room = min(MOST, _processors())

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()
        for call in self._calls:
            call.end()
        for call in self._calls:
            call.reap()

    def ask(
        self,
        ask: Callable[[], Any],
        check: Callable[[Any], T],
        model: torch.nn.Module | None,
        device: str,
    ) -> Question[T]:
        """Put a question."""
        keep_standard_output()
        question = Question(self, ask, check, model, device)
        if not self.in_process:
            self._waiting.append(question)
            self._start()
        return question

    def finished(self, question: Question[Any]) -> Call | None:
        """Wait for the end of a call, and look after the others meanwhile; None for what is to be asked here."""
        if question in self._waiting:
            # What is wanted now comes first.
            self._waiting.remove(question)
            self._waiting.insert(0, question)
        while not question.is_here and (question.call is None or not question.call.is_over):
            self._start()
            wait(other.call for other in self._running if other.call is not None)
        self._start()
        return None if question.is_here else question.call

    def _start(self) -> None:
        """Start what there is room for."""
        self._running = [q for q in self._running if q.call is not None and not q.call.is_over]
        self._calls = [call for call in self._calls if not (call.is_over and call.is_gone())]
        for question in list(self._waiting):
            if why_not_forked(question.device) is not None:
                question.is_here = True
                self._waiting.remove(question)
                continue
            is_full = len(self._running) >= self._room
            if is_full or (question.is_large and any(other.is_large for other in self._running)):
                continue
            pipes = [other.call.pipe for other in self._running if other.call is not None]
            question.call = Call(partial(_outcome, question.asked), self.seconds, pipes)
            self._calls.append(question.call)
            self._waiting.remove(question)
            self._running.append(question)


def _outcome(ask: Callable[[], Any]) -> bytes:
    """What is done in a process of its own: it may fill the memory that there is, and no more."""
    from convstat.trace.bounds import limited_memory, room

    def limited() -> Any:
        with limited_memory(room()):
            return ask()

    return wire.outcome(limited)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


@alone
def guarded(ask: Callable[[], T], model: torch.nn.Module | None, seconds: float) -> T:
    """Ask in this process; whatever goes wrong with it is a CounterFailure, and nothing else is touched.

    Without a ``model``, what is asked is known to touch nothing.
    """
    from convstat.patches.isolation import isolated

    try:
        with isolated(model) if model is not None else nullcontext(), time_limit(seconds):
            return ask()
    except (CounterFailure, ConvstatError, InternalError, KeyboardInterrupt):
        raise
    except Overtime:
        raise Late(seconds) from None
    except BaseException as error:
        # What ends a process, SystemExit, ends this row alone.
        raise CounterFailure(first_line(error)) from error
