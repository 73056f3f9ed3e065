"""Load large parts of torch when they are used, and not when they are mentioned; load parts of a tool alone.

- torchvision imports one function of ``torch._dynamo.utils``, which only ``roi_align`` calls, and seldom.
- Meta kernels ask ``torch.fx.experimental.symbolic_shapes``, which stands on sympy, about sizes and conditions that are
  plain ints and bools unless a compiler is at work; and they ask whether an argument is an expression of sympy's.

Together they take as long to import as torch itself. Nothing takes their place in ``sys.modules``, where others would
find it: only who is known to ask is answered otherwise. torchvision's module gets a function that imports the real one
when it is called. Kernels, which import what they need each time they run, are answered at the ``import`` statement,
inside a function of torch's, in a thread of who has the room: what they get is gone when the function returns.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType, SimpleNamespace
from typing import Any

from convstat.patches.room import once, patch, rerouted, undone

DYNAMO = "torch._dynamo"
ALGEBRA = "torch.fx.experimental.symbolic_shapes"
SYMPY = "sympy"


# What torchvision imports.

LATE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "torchvision.ops.roi_align": (f"{DYNAMO}.utils", ("is_compile_supported",)),
}
"""Modules that import functions of the compiler as they are imported themselves, from where, and which."""


@patch
def compiler_on_demand() -> Iterator[None]:
    """Let packages be imported that import ``torch._dynamo`` only to have it."""
    with once("the compiler is imported late") as first:
        if not first or DYNAMO in sys.modules:
            yield
            return
        finders: list[Any] = sys.meta_path
        with undone(lambda: _without(finders, _Late)):
            finders.insert(0, _Late)
            yield


def _without(items: list[Any], gone: object) -> None:
    items[:] = [item for item in items if item is not gone]


class _Late:
    """Finds the modules in ``LATE`` as Python does, and has them import functions when these are called."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The protocol of ``sys.meta_path``."""
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _LateLoader(name, spec.loader.path)
        return spec


class _LateLoader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        """Run the module; afterwards it looks as if Python had loaded it."""
        loader = SourceFileLoader(self.name, self.path)
        code = _with_late_imports(loader.get_data(self.path), self.path, *LATE[self.name])
        module.__loader__ = loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader
        if code is None:
            loader.exec_module(module)
        else:
            exec(code, vars(module))


def _with_late_imports(source: bytes, path: str, place: str, names: tuple[str, ...]) -> Any:
    """The code of a module in which some imported functions import themselves when they are called.

    None where it imports anything else from there.
    """
    tree = ast.parse(source, path)
    for number, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module == place and node.level == 0:
            if any(item.name not in names or item.asname for item in node.names):
                return None
            late = "".join(
                f"def {item.name}(*args, **kwargs):\n"
                f"    from {place} import {item.name}\n"
                f"    return {item.name}(*args, **kwargs)\n"
                for item in node.names
            )
            functions = ast.parse(late).body
            for function in functions:
                for part in ast.walk(function):
                    if hasattr(part, "lineno"):
                        ast.copy_location(part, node)
            tree.body[number : number + 1] = functions
            return compile(tree, path, "exec", dont_inherit=True)
    return None


# What kernels import.


@patch
def algebra_on_demand() -> Iterator[None]:
    """Let kernels ask about what is plain."""
    with once("kernels are answered") as first:
        if not first:
            yield
            return
        # A neighbour that kernels read and that is there only because the module imports it.
        importlib.import_module("torch.fx.experimental._config")
        with rerouted(builtins, "__import__", _answering):
            yield


class _Basic:
    """What ``sympy.Basic`` is while there is no expression: a class without instances."""


class _Sympy:
    """What a kernel knows as ``sympy`` while it is not loaded."""

    Basic = _Basic

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(SYMPY), name)


def _answering(original: Callable[..., Any]) -> Callable[..., Any]:
    """An ``__import__`` that answers functions of torch's where they ask about what is plain."""
    algebra = SimpleNamespace(**{name: _plain_or_real(name, *known) for name, known in _PLAIN.items()})
    sympy = _Sympy()

    def answer(
        name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        # An import on import, of a module or in a class, comes with its names; one in a function has none.
        if locals is None and level == 0 and name in _ASKED and name not in sys.modules and _is_of_torch(globals):
            if name == SYMPY and not fromlist:
                return sympy
            if name == ALGEBRA and fromlist and all(item in _PLAIN for item in fromlist):
                return algebra
        return original(name, globals, locals, fromlist, level)

    return answer


def _plain_or_real(name: str, is_plain: Callable[..., bool], plain: Callable[..., Any]) -> Callable[..., Any]:
    """A function for plain values, and torch's own for symbolic ones and for what it would refuse."""

    def function(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and is_plain(*args):
            return plain(*args)
        return getattr(importlib.import_module(ALGEBRA), name)(*args, **kwargs)

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


_ASKED = frozenset((ALGEBRA, SYMPY))


def _is_of_torch(globals: Any) -> bool:
    return globals is not None and f"{globals.get('__name__')}.".startswith("torch.")


# What a tool imports.


@patch
def given(package: str, modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Let the modules of one package get namespaces where they import some modules by name, and nobody else.

    What they get they keep: it has to do for good.
    """
    spaces = {name: SimpleNamespace(**values) for name, values in modules.items()}

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def answer(
            name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
        ) -> Any:
            importer = "" if globals is None else str(globals.get("__name__"))
            if level == 0 and name in spaces and f"{importer}.".startswith(f"{package}."):
                return spaces[name]
            return original(name, globals, locals, fromlist, level)

        return answer

    with rerouted(builtins, "__import__", make):
        yield


@patch
def forgotten(*packages: str) -> Iterator[None]:
    """Take out of ``sys.modules`` what is imported meanwhile of some packages; what was there before stays."""
    before = set(sys.modules)

    def put_back() -> None:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in packages:
                del sys.modules[name]

    with undone(put_back):
        yield


def load_parts(package: str, folder: str, *names: str) -> tuple[ModuleType, ...]:
    """Modules of a package, without the package itself and what that imports.

    They are imported under a name of their own: who imports the package meanwhile gets the real one.
    """
    alias = f"_convstat_{package}"
    with forgotten(alias):
        holder = ModuleType(alias)
        vars(holder)["__path__"] = [folder]
        sys.modules[alias] = holder
        return tuple(importlib.import_module(f"{alias}.{name}") for name in names)


@patch
def found_first(finder: Any) -> Iterator[None]:
    """Let a finder of ``sys.meta_path`` be asked just before installed packages are looked for."""
    finders: list[Any] = sys.meta_path
    with undone(lambda: _without(finders, finder)):
        finders.insert(finders.index(PathFinder) if PathFinder in finders else len(finders), finder)
        yield


def forget(names: Sequence[str]) -> None:
    """Have some modules imported afresh by who imports them next."""
    for name in names:
        sys.modules.pop(name, None)


def register(name: str, module: ModuleType) -> None:
    """Let a module that is about to run be found by its name."""
    sys.modules[name] = module
