"""What each kernel costs: the vocabulary of the trace, as ``convstat.layers`` is that of the spec.

``price`` asks in turn what was registered, the rules that ship, and the list of what is free with its reasons.
A kernel in none of them is uncounted, never a silent zero.

Rules for custom operators are registered with :func:`register`, or by a distribution that names them in the entry-point
group ``convstat.count.ops``::

    [project.entry-points."convstat.kernels"]
    "mylib::my_op" = "mylib.costs:my_op"

A function of Python that launches kernels of its own has none that torch knows; its rule goes by its dotted name, with
:func:`register_function` or in the entry-point group ``convstat.functions``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from convstat.count.ops import attention, linalg, other, products, quantized, recurrent
from convstat.count.ops.base import Rule, UnreadableError, argument, inputs
from convstat.count.ops.free import FREE
from convstat.formulas.cost import FREE as NO_COST
from convstat.formulas.cost import OTHER_ENTRIES, Cost
from convstat.patches.guard import in_words
from convstat.patches.plugins import load
from convstat.patches.time_limit import Overtime
from convstat.text.printable import plain
from convstat.trace.calls import FunctionCall, KernelCall
from convstat.trace.functions import FunctionRule, register_function, rule_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "convstat.kernels"
"""The entry-point group in which other distributions name rules by operator."""


def _table() -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for family in (products, attention, recurrent, quantized, linalg, other):
        for name, rule in family.RULES.items():
            if name in table or name in FREE:
                raise RuntimeError(f"two rules for the kernel {name}")
            table[name] = rule
    return table


_RULES = _table()
_REGISTERED: dict[str, Rule] = {}

RULES: Mapping[str, Rule] = MappingProxyType(_RULES)
"""The rules that ship, by operator: ``aten.convolution``."""


class Pricing:
    """Prices the kernels of one trace; ``notes`` say which rules from elsewhere failed."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What went wrong, each once."""
        return tuple(self.problems)

    def price(self, call: KernelCall) -> Cost | None:
        """The cost of one kernel, or None where nothing is known about it.

        In-place forms (``aten.relu_``) cost what the others do. One on nested tensors costs what its samples do.
        """
        if samples := call.per_sample():
            costs = [self.price(sample) for sample in samples]
            return sum((cost for cost in costs if cost is not None), NO_COST) if None not in costs else None
        name = call.op
        rule = _find(name)
        if rule is None and name not in FREE and name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
            rule = _find(name)
        if rule is None:
            if name in FREE:
                return NO_COST
            rule = self._from_elsewhere(call.op)
            if rule is None:
                return None
        if rule is _RULES.get(name):
            try:
                return _of_complex(rule(call), call)
            except UnreadableError:
                return None
        return self._ask(call.op, rule, call)

    def price_function(self, call: FunctionCall) -> Cost | None:
        """The cost of one call of a function that has a rule, or None where the rule does not say."""
        rule = rule_of(call.name)
        return None if rule is None else self._ask(call.name, rule.cost, call)

    def _ask(self, name: str, rule: Callable[[Any], Cost], call: KernelCall | FunctionCall) -> Cost | None:
        """Ask a rule that is not ours: what it does wrong is a note, and its kernel uncounted."""
        try:
            cost = rule(call)
            _check(cost)
        except UnreadableError:
            return None
        except (KeyboardInterrupt, Overtime):
            raise
        except BaseException as error:
            self.problems[f"the rule for {name} failed: {plain(in_words(error))}"] = None
            return None
        return cost

    def _from_elsewhere(self, name: str) -> Rule | None:
        """A rule that an installed distribution names; looked for when an operator is unknown, and not before."""
        entry = _plugins().get(name)
        if entry is None:
            return None
        try:
            rule = load(entry, f"the rule for {name}")
            if not callable(rule):
                raise TypeError(f"{entry.value} is not a function")
        except Exception as error:
            self.problems[f"the rule for {name} could not be loaded: {plain(in_words(error))}"] = None
            return None
        _REGISTERED[name] = rule
        return rule  # type: ignore[no-any-return]


def _find(name: str) -> Rule | None:
    if name in _REGISTERED:
        return _REGISTERED[name]
    return _RULES.get(name)


def _of_complex(cost: Cost, call: KernelCall) -> Cost:
    """A product of complex numbers is one multiply-accumulate too, and four multiplications of real numbers."""
    if call.third > 1:
        return NO_COST
    if cost.macs and (call.third or any(tensor.dtype.startswith("complex") for tensor in inputs(call))):
        return cost + Cost(0, {"complex": 4 * cost.macs})
    return cost


def _check(cost: object) -> None:
    """Refuse what is no cost: counts are whole numbers, and ``other`` has the entries that are documented."""
    if not isinstance(cost, Cost):
        raise TypeError(f"it gave {cost!r}, and not a convstat Cost")
    for entry, amount in (("macs", cost.macs), *cost.other.items()):
        if type(amount) is not int or amount < 0:
            raise TypeError(f"{entry} is {amount!r}, and not a count")
        if entry != "macs" and entry not in OTHER_ENTRIES:
            raise ValueError(f"'{entry}' is none of {', '.join(OTHER_ENTRIES)}")


_PLUGINS: dict[str, EntryPoint] | None = None


def _plugins() -> Mapping[str, EntryPoint]:
    global _PLUGINS
    if _PLUGINS is None:
        from importlib.metadata import entry_points

        _PLUGINS = {entry.name.replace("::", "."): entry for entry in entry_points(group=GROUP)}
    return _PLUGINS


def price(call: KernelCall) -> Cost | None:
    """The cost of one kernel, or None where nothing is known about it."""
    return Pricing().price(call)


def registered(call: KernelCall | FunctionCall) -> Cost | None:
    """The cost of a kernel or a function by a rule that does not ship with convstat; None where there is none."""
    pricing = Pricing()
    if isinstance(call, FunctionCall):
        return pricing.price_function(call) if call.has_rule else None
    # An in-place form goes by the rule of the other, as in ``price``.
    names = (call.op, call.op.removesuffix("_"))
    if any(name in _REGISTERED for name in names):
        return pricing.price(call)
    # What ships comes before what a distribution names, which takes a while to look up.
    is_ours = any(name in _RULES or name in FREE for name in names)
    return pricing.price(call) if not is_ours and call.op in _plugins() else None


def register(name: str, rule: Rule, *, replace: bool = False) -> Callable[[], None]:
    """Give a rule for a custom operator, by the name torch gives it: ``mylib::my_op``; returns what takes it back.

    The rule takes a :class:`~convstat.trace.calls.KernelCall` and returns a :class:`~convstat.layers.base.Cost`.
    An operator that already has a rule is refused unless ``replace`` says that it is meant.
    """
    name = name.replace("::", ".")
    if "." not in name:
        raise ValueError(f"an operator is named with its library, mylib::my_op, not '{name}'")
    if not replace and (name in _RULES or name in FREE or name in _REGISTERED):
        raise ValueError(f"the kernel {name} has a rule already; pass replace=True to override it")
    before = _REGISTERED.get(name)
    _REGISTERED[name] = rule

    def unregister() -> None:
        if before is None:
            _REGISTERED.pop(name, None)
        else:
            _REGISTERED[name] = before

    return unregister


__all__ = [
    "FREE",
    "GROUP",
    "RULES",
    "FunctionRule",
    "Pricing",
    "Rule",
    "UnreadableError",
    "argument",
    "price",
    "register",
    "register_function",
    "registered",
]
