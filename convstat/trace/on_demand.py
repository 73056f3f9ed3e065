"""Load two large parts of torch when they are used, and not when they are mentioned.

- torchvision imports one function of ``torch._dynamo.utils``, which only ``roi_align`` calls, and seldom.
- Meta kernels ask ``torch.fx.experimental.symbolic_shapes``, which stands on sympy, about sizes and conditions that are
  plain ints and bools unless a compiler is at work; and they ask whether an argument is an expression of sympy's.

Together they take as long to import as torch itself. Meanwhile a stand-in takes a module's place, which has the few
functions that are asked for and answers what is plain. Whatever else is asked of it loads the module, which then takes
its own place and answers. Nothing of it stays behind: kernels import what they need each time they run.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

DYNAMO = "torch._dynamo"
ALGEBRA = "torch.fx.experimental.symbolic_shapes"
SYMPY = "sympy"


@contextmanager
def compiler_on_demand() -> Iterator[None]:
    """Let packages be imported that import ``torch._dynamo`` only to have it."""
    utils = f"{DYNAMO}.utils"
    functions = {"is_compile_supported": _real(utils, "is_compile_supported")}
    with _standing_in({DYNAMO: {}, utils: functions}):
        yield


@contextmanager
def algebra_on_demand() -> Iterator[None]:
    """Let kernels ask about what is plain."""
    # A neighbour that kernels read and that is there only because the module imports it.
    importlib.import_module("torch.fx.experimental._config")
    functions = {name: _plain_or_real(name, *known) for name, known in _PLAIN.items()}
    with _standing_in({ALGEBRA: functions}), _standing_in({SYMPY: {"Basic": _Basic}}):
        yield


class _Basic:
    """What ``sympy.Basic`` is while there is no expression: a class without instances."""


@contextmanager
def _standing_in(modules: Mapping[str, Mapping[str, Callable[..., Any]]]) -> Iterator[None]:
    if any(name in sys.modules for name in modules):
        yield
        return
    stand_ins = {name: _StandIn(name, functions) for name, functions in modules.items()}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        _take_away(stand_ins)


class _StandIn(ModuleType):
    """A module that is imported when something is asked of it that it does not have."""

    def __init__(self, name: str, functions: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(name)
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        if name in ("__spec__", "__file__") or (name == "__path__" and self.__name__ not in (DYNAMO, SYMPY)):
            # What Python's own import asks, to find out what it has in hands.
            raise AttributeError(name)
        return getattr(_load(self.__name__), name)


def _load(name: str) -> ModuleType:
    """The module itself; who holds the stand-in finds all of it there from now on."""
    stand_ins = {key: module for key, module in sys.modules.items() if isinstance(module, _StandIn)}
    _take_away(stand_ins)
    module = importlib.import_module(name)
    for key, stand_in in stand_ins.items():
        if key in sys.modules:
            vars(stand_in).update(vars(sys.modules[key]))
    return module


def _take_away(modules: Mapping[str, ModuleType]) -> None:
    for name, module in modules.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _real(module: str, name: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: getattr(_load(module), name)(*args, **kwargs)


def _plain_or_real(name: str, is_plain: Callable[..., bool], plain: Callable[..., Any]) -> Callable[..., Any]:
    """A function for plain values, and torch's own for symbolic ones and for what it would refuse."""

    def function(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and is_plain(*args):
            return plain(*args)
        return getattr(_load(ALGEBRA), name)(*args, **kwargs)

    return function


def _are_bools(*values: Any) -> bool:
    return bool(values) and all(type(value) is bool for value in values)


def _is_bool(*values: Any) -> bool:
    return len(values) == 1 and type(values[0]) is bool


def _is_int(*values: Any) -> bool:
    return len(values) == 1 and type(values[0]) is int


def _are_sizes(*values: Any) -> bool:
    """Two ints, or two shapes."""
    return len(values) == 2 and (
        all(type(value) is int for value in values)
        or all(isinstance(value, (tuple, list)) and all(type(size) is int for size in value) for value in values)
    )


_PLAIN: Mapping[str, tuple[Callable[..., bool], Callable[..., Any]]] = {
    "sym_and": (_are_bools, lambda *values: all(values)),
    "sym_or": (_are_bools, lambda *values: any(values)),
    "sym_eq": (_are_sizes, lambda one, other: one == other if isinstance(one, int) else [*one] == [*other]),
    "guard_or_false": (_is_bool, lambda value: value),
    "guard_or_true": (_is_bool, lambda value: value),
    "guard_size_oblivious": (_is_bool, lambda value: value),
    "statically_known_true": (_is_bool, lambda value: value),
    "expect_true": (_is_bool, lambda value: value),
    "guarding_hint_or_throw": (_is_int, lambda value: value),
    "has_guarding_hint": (_is_int, lambda value: True),
    "is_nested_int": (_is_int, lambda value: False),
}
"""What kernels ask, by name: when the values are plain, and what is to be said then."""
