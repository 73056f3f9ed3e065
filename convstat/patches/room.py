"""One lock, one journal of what is to be put back, and one helper that replaces something.

Whatever convstat changes in a process for a while, an attribute of torch, the environment, an entry of a table, is
written into the journal before it is changed, and put back in reverse order. Two threads never change things at the
same time: the second one waits until the first has put everything back. One thread may nest as deep as it likes.

Ctrl-C may come up between any two steps of Python, also while something is put back. So what is at the outside of
everything is a function under :func:`alone`, which puts back what the journal holds twice: what an interruption keeps
the first from doing is left to the second, and to put back a second time what is back already changes nothing.
A single ``with`` cannot do it, as an interruption where it ends keeps it from ending.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import RLock, get_ident
from typing import Any, ParamSpec, TypeVar

from convstat.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")

Undo = Callable[[], object]
"""Puts something back; to call it twice is to call it once."""


class _Session:
    """The time from when a thread takes the room to when it leaves.

    ``started`` are the threads that it started, ``in_force`` names what need not be replaced a second time.
    """

    def __init__(self, holder: int) -> None:
        self.holder = holder
        self.started: set[int] = set()
        self.in_force: set[str] = set()


_lock: Any = RLock()
_journal: list[Undo] = []
_nobody = _Session(0)
_session = _nobody


def _after_fork() -> None:
    """In a process that another thread than the one in the room has forked: that one is not here to put things back."""
    global _lock, _session
    if not _lock._is_owned():
        _lock, _session = RLock(), _nobody
        _put_back(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def ours() -> bool:
    """Whether this thread is the one that has taken the room, or one that it has started since."""
    session, ident = _session, get_ident()
    return session.holder == ident or ident in session.started


def session() -> _Session:
    """Who has the room now; another one each time that it is taken."""
    return _session


class _Level:
    """Leaves the room as it was found: with the journal that it had, and free if it was free.

    To enter it does nothing, and to leave it twice is to leave it once.
    """

    def __init__(self) -> None:
        self.nested = _lock._is_owned()
        self.mark = len(_journal) if self.nested else 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if _lock._is_owned():
            _put_back(self.mark)
            if not self.nested:
                _leave()


class _Taken(_Level):
    """Takes the room, too."""

    def __enter__(self) -> None:
        if not self.nested:
            _take()


def _take() -> None:
    global _session
    if ours():
        raise UsageError(
            "convstat is asked by a thread that was started by a model that is being counted: each would wait for the"
            " other",
            help="count in the thread that runs the model, or after it",
        )
    _lock.acquire()
    _session = _Session(get_ident())


def _leave() -> None:
    global _session
    _session = _nobody
    _lock.release()


def _put_back(mark: int) -> None:
    """Put back what was changed since the journal was that long, the last first; a failure is raised at the end."""
    failure: Exception | None = None
    while len(_journal) > mark:
        try:
            _journal[-1]()
        except Exception as error:
            failure = failure or error
        _journal.pop()
    if failure is not None:
        raise failure


def alone(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function run while no other thread is in the room, and put back all that was changed in it, come what may.

    >>> from types import SimpleNamespace
    >>> thing, never_left = SimpleNamespace(value=1), []
    >>> @alone
    ... def change():
    ...     never_left.append(replaced(thing, "value", 2))
    ...     never_left[0].__enter__()
    ...     return thing.value
    >>> change(), thing.value
    (2, 1)
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with _Level(), _Taken():
            return function(*args, **kwargs)

    return run


class in_room:  # noqa: N801 - used as contextlib's are
    """Take the room, where this thread has not yet, until this is left; what is undone inside is undone by then."""

    def __init__(self) -> None:
        self.level = _Taken()
        self.session = _session if self.level.nested else None

    def __enter__(self) -> None:
        try:
            self.level.__enter__()
            self.session = _session
        except BaseException:
            self.level.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        # A generator that an interruption cut off may hear of its end when somebody else has the room.
        if self.session is _session and not self.level.nested:
            self.level.__exit__()


class undone:  # noqa: N801
    """Call a function when this is left, at the latest when the room is: it puts back what is changed in between.

    It is in the journal before anything inside runs. The room has to be taken before what is there is noted:
    else it could be what another thread has put there for a while.
    """

    def __init__(self, undo: Undo) -> None:
        if not _lock._is_owned():
            raise RuntimeError("nothing may be replaced outside of the room")
        self.mark = len(_journal)
        # An object of its own: who finds it in the journal finds this entry.
        self.entry = functools.partial(undo)

    def __enter__(self) -> None:
        _journal.append(self.entry)

    def __exit__(self, *_: object) -> None:
        # Where it is not there any more, who is around it has put it back before.
        if _lock._is_owned() and len(_journal) > self.mark and _journal[self.mark] is self.entry:
            _put_back(self.mark)


PATCHES: list[Callable[..., AbstractContextManager[Any]]] = []
"""All that are made by :func:`patch`, as far as they are imported."""


def patch(generator: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Make a context manager of a generator, which runs in the room."""

    @contextmanager
    @functools.wraps(generator)
    def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        with in_room():
            yield from generator(*args, **kwargs)

    PATCHES.append(run)
    return run


class _Missing:
    pass


MISSING = _Missing()
"""What stands for an attribute or an entry that is not there."""


def own(owner: Any, name: str) -> Any:
    """An attribute as it stands on its owner, or MISSING where the owner has or inherits it otherwise."""
    return vars(owner).get(name, MISSING)


def put(owner: Any, name: str, value: Any) -> None:
    """Make an attribute what :func:`own` said that it was."""
    if own(owner, name) is value:
        return
    if value is MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


@patch
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an attribute of a class or a module be another one for a while.

    What the owner only inherits is deleted again, and not written into it.

    >>> class Thing:
    ...     pass
    >>> with replaced(Thing, "__str__", lambda _: "replaced"):
    ...     str(Thing())
    'replaced'
    >>> "__str__" in vars(Thing)
    False
    """
    with undone(functools.partial(put, owner, name, own(owner, name))):
        setattr(owner, name, value)
        yield


@patch
def replaced_globals(module: Any, **values: Any) -> Iterator[None]:
    """Give some globals of a module other values for a while."""
    before = {name: own(module, name) for name in values}

    def put_back() -> None:
        for name, value in before.items():
            put(module, name, value)

    with undone(put_back):
        vars(module).update(values)
        yield


def routed(
    original: Callable[..., Any], instead: Callable[..., Any], sees: Callable[[], bool] = ours
) -> Callable[..., Any]:
    """A function that is ``instead`` for the threads of who has the room now, until it is left, and else ``original``.

    Other threads run their own models meanwhile, and whoever picks it up may keep it for good.
    """
    of = _session

    @functools.wraps(original, updated=())
    def route(*args: Any, **kwargs: Any) -> Any:
        return (instead if of is _session and sees() else original)(*args, **kwargs)

    return route


@patch
def rerouted(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Let a function that is an attribute be ``make(function)`` for a while, in the threads of who has the room."""
    original = getattr(owner, name)
    before = own(owner, name)
    with undone(functools.partial(put, owner, name, before)):
        setattr(owner, name, routed(original, make(original)))
        yield


@patch
def once(name: str) -> Iterator[bool]:
    """Whether nobody around is doing the same thing already; what is inside does it, or need not."""
    in_force = _session.in_force
    if name in in_force:
        yield False
        return
    with undone(functools.partial(in_force.discard, name)):
        in_force.add(name)
        yield True
