"""Functions of Python that have a rule of their own, by their dotted name: ``flash_attn.flash_attn_func``.

A library that launches its own kernels is not seen by torch's dispatcher. Where its function has a rule, the call is
intercepted while a model is traced: it stands in the trace as one call, which the rule prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from convstat.patches.interception import intercepted
from convstat.patches.plugins import load
from convstat.trace.calls import FunctionCall

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from torch import nn

    from convstat.formulas.cost import Cost

GROUP = "convstat.functions"
"""The entry-point group in which other distributions name rules by the function's dotted name."""


@dataclass(frozen=True, slots=True)
class FunctionRule:
    """What a function costs, and what it returns.

    ``cost`` takes the :class:`~convstat.trace.calls.FunctionCall`. ``output`` takes the arguments of the function and
    makes what it would return, in shape and dtype; then the function itself is not run. Without it the function runs.
    """

    cost: Callable[[FunctionCall], Cost]
    output: Callable[..., Any] | None = None


_REGISTERED: dict[str, FunctionRule] = {}
_PLUGINS: dict[str, EntryPoint] | None = None

Through = Callable[[str, Callable[..., Any], FunctionRule, tuple[Any, ...], dict[str, Any]], Any]


def register_function(
    name: str,
    cost: Callable[[FunctionCall], Cost],
    *,
    output: Callable[..., Any] | None = None,
    replace: bool = False,
) -> Callable[[], None]:
    """Give a rule for a function of Python, by its dotted name; returns what takes it back.

    ``name`` is where the function can be looked up: its module, and its place there (``mylib.ops.attend``,
    ``mylib.ops.Attend.apply``). See :class:`FunctionRule` for ``cost`` and ``output``.
    A function that already has a rule is refused unless ``replace`` says that it is meant.
    """
    if not all(part.isidentifier() for part in name.split(".")) or "." not in name:
        raise ValueError(f"a function is named with its module, mylib.ops.attend, not '{name}'")
    if name.startswith("torch."):
        raise ValueError(f"{name} is torch's own: what it costs is that of the operators that it runs")
    if not replace and name in _REGISTERED:
        raise ValueError(f"the function {name} has a rule already; pass replace=True to override it")
    before = _REGISTERED.get(name)
    _REGISTERED[name] = FunctionRule(cost, output)

    def unregister() -> None:
        if before is None:
            _REGISTERED.pop(name, None)
        else:
            _REGISTERED[name] = before

    return unregister


def _plugins() -> Mapping[str, EntryPoint]:
    global _PLUGINS
    if _PLUGINS is None:
        from importlib.metadata import entry_points

        _PLUGINS = {entry.name: entry for entry in entry_points(group=GROUP)}
    return _PLUGINS


def rule_of(name: str) -> FunctionRule | None:
    """The rule of a function; one that cannot be loaded says so when it is asked."""
    if name not in _REGISTERED and (entry := _plugins().get(name)) is not None:
        try:
            loaded = load(entry, f"the rule for {name}")
            if not callable(loaded) and not isinstance(loaded, FunctionRule):
                raise TypeError(f"{entry.value} is neither a function nor a FunctionRule")
        except Exception as error:
            return FunctionRule(partial(_fail, error))
        _REGISTERED[name] = loaded if isinstance(loaded, FunctionRule) else FunctionRule(loaded)
    return _REGISTERED.get(name)


def _fail(error: Exception, call: FunctionCall) -> Cost:
    raise error


@contextmanager
def intercepting(through: Through, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Send every call of a function that has a rule to ``through(name, function, rule, args, kwargs)``."""
    names = {*_REGISTERED, *_plugins()}
    if not names:
        yield
        return

    def make(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        rule = rule_of(name)
        assert rule is not None

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return through(name, function, rule, args, kwargs)

        return stand_in

    with intercepted(names, make, modules):
        yield
