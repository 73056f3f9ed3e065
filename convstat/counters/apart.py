"""A counter of another package, held apart: each of its calls is a question to a crew, as the run of every counter is.

Our own adapters run no foreign code but in ``run``, and in ``retrace`` the model, so they are asked directly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from convstat.counters import checked
from convstat.counters.base import Counter

if TYPE_CHECKING:
    from convstat.counters.crew import Crew
    from convstat.trace import Trace


def is_ours(counter: Counter) -> bool:
    """Whether the adapter of a counter is a part of convstat."""
    return type(counter).__module__.startswith("convstat.")


class Apart:
    """What a counter says of itself and of a trace; raises CounterFailure for whatever goes wrong with it."""

    def __init__(self, counter: Counter, crew: Crew) -> None:
        self.counter = counter
        self.crew = crew
        self._reasons: dict[int, str | None] = {}

    def version(self) -> str | None:
        """The installed version, None where it is not installed."""
        return self._text("version", self.counter.version)

    def unavailable(self) -> str:
        """Why it is not there. A counter may have more to say: two distributions can share the name of an import."""
        said = getattr(self.counter, "unavailable", None)
        reason = self._text("reason", said) if said is not None else None
        return reason or f"it is not installed; {self.counter.help}"

    def why_not_meta(self, trace: Trace) -> str | None:
        """Why its answer on the meta device may not be that on a real one."""
        # A trace lives as long as the stages that it is asked for.
        if id(trace) not in self._reasons:
            self._reasons[id(trace)] = self._text("reason", partial(self.counter.why_not_meta, trace))
        return self._reasons[id(trace)]

    def reads_values(self, trace: Trace) -> str | None:
        """Why no trace can tell its answer, None where one can: a counter may add up values."""
        reads = getattr(self.counter, "reads_values", None)
        return None if reads is None else self._text("reason", partial(reads, trace))

    def _text(self, name: str, ask: Callable[[], Any]) -> str | None:
        if is_ours(self.counter):
            return checked.text(name, ask())
        return self.crew.ask(ask, partial(checked.text, name), None, "meta").answer()
