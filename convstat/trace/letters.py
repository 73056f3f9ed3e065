"""One forward pass on inputs whose sizes are letters, by torch's own symbolic shapes.

The model is made of fake tensors, and so are its inputs; a size that is a letter is a symbol of a ``ShapeEnv``, which
follows it through every kernel. What torch or the model decides by such a size is a guard of that environment:
it is a condition of all that is found, and where it sets a size, the model is specialised on that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from convstat.errors import ConvstatError, UsageError
from convstat.formulas.symbolic.facts import (
    NOT_NEGATIVE,
    NOT_ZERO,
    POSITIVE,
    ZERO,
    Condition,
    Facts,
)
from convstat.formulas.symbolic.numbers import Number
from convstat.formulas.symbolic.terms import LARGEST, SMALLEST, Polynomial
from convstat.patches.operators import declared_operators
from convstat.patches.preserve import drawn, process_preserved
from convstat.patches.quiet import unlogged, unwarned
from convstat.patches.room import alone
from convstat.trace import forward
from convstat.trace.calls import KernelCall, ListInfo, TensorInfo, Value
from convstat.trace.describe import describe, dtype_name
from convstat.trace.foreign import foreign
from convstat.trace.placing import placed, running
from convstat.trace.recipe import Example, Recipe, failed, quiet
from convstat.trace.record import operator, ready
from convstat.trace.run import Traced, on_device


class Axis(NamedTuple):
    """A size of an input that is a letter: the name of the input and the place of the size."""

    input: str
    place: int


class Ran(NamedTuple):
    """A kernel that ran: the module that it ran in, by its path, which call of that module it was, and the call."""

    path: str
    number: int
    call: KernelCall


class Lettered(NamedTuple):
    """What ran, and what it rests on; ``places`` says where a condition is from."""

    kernels: tuple[Ran, ...]
    facts: Facts
    places: Mapping[Condition, str]


class UnsupportedError(ValueError):
    """An expression of torch's that has no closed form here."""


@alone
def run_in_letters(recipe: Recipe, traced: Traced, axes: Mapping[str, tuple[Axis, ...]]) -> Lettered:
    """Run a model once more; ``axes`` are the sizes of its inputs that each letter stands for.

    Raises SourceError where it does not run on fake tensors, and UnsupportedError where a size has no formula.
    """
    what = f"{recipe.source} does not run with letters for sizes"
    with ExitStack() as stack:
        for entered in (
            process_preserved(),
            foreign(what),
            quiet(),
            recipe.around(),
            unlogged("torch._subclasses.fake_tensor"),
            unlogged("torch.fx.experimental.symbolic_shapes"),
            drawn(traced.seed),
            unwarned(),
            # On meta, no backend is chosen by a size.
            placed(traced.module, "meta", recipe.dtype),
            declared_operators(),
        ):
            stack.enter_context(entered)
        try:
            try:
                return _run(traced.module, traced.example, axes, nullcontext())
            except (UnsupportedError, ConvstatError):
                raise
            except Exception:
                # It may make tensors of its own, which belong to meta too.
                return _run(traced.module, traced.example, axes, torch.device("meta"))
        except (UnsupportedError, ConvstatError):
            raise
        except Exception as error:
            raise failed(what, error, help=("leave fewer sizes as letters: --in N",)) from error


def _run(
    module: nn.Module, given: Example, axes: Mapping[str, tuple[Axis, ...]], around: AbstractContextManager[object]
) -> Lettered:
    from torch._dispatch.python import enable_python_dispatcher
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    env = ShapeEnv(duck_shape=False)
    fake = FakeTensorMode(allow_non_fake_inputs=True, shape_env=env)
    letters: dict[Any, str] = {}
    example = _with_letters(module, on_device(given, "meta"), axes, fake, letters)
    facts = Facts()
    for symbol, name in letters.items():
        # torch treats sizes of 1 apart: its symbols stand for larger ones.
        facts.conditions[Condition(NOT_NEGATIVE, _letter(name) - _number(_least(env, symbol)))] = None
    reader = _Reader(letters, facts)
    mode = _Kernels(module, reader)
    # Some kernels take sizes with letters only in their form in Python.
    in_python = enable_python_dispatcher()
    with in_python, fake, around, ready(module, (), train=False), mode.following(), running(), mode:
        module(*example.args, **example.kwargs)
    places: dict[Condition, str] = {}
    for guard in env.guards:
        for condition in reader.conditions(guard.expr):
            facts.conditions.setdefault(condition)
            places.setdefault(condition, _place(guard))
    for symbol, value in env.replacements.items():
        if symbol in letters:
            condition = Condition(ZERO, _letter(letters[symbol]) - reader.polynomial(value))
            facts.conditions.setdefault(condition)
    return Lettered(tuple(mode.kernels), facts, places)


def _letter(name: str) -> Polynomial:
    return Polynomial.letter(name, integer=True)


def _number(value: int) -> Polynomial:
    return Polynomial.number(value)


def _least(env: Any, symbol: Any) -> int:
    found = env.var_to_range.get(symbol)
    try:
        return max(1, int(found.lower)) if found is not None else 1
    except (TypeError, ValueError, OverflowError):
        return 1


def _place(guard: Any) -> str:
    """The line of the model that a guard is from, as torch notes it."""
    said = getattr(getattr(guard, "sloc", None), "user_loc", None) or getattr(guard.sloc, "framework_loc", None) or ""
    match = re.search(r'([^"\s/]+\.py)"?(?:, line |:)(\d+)', str(said))
    return f"{match[1]}:{match[2]}" if match else ""


def _with_letters(
    module: nn.Module, example: Example, axes: Mapping[str, tuple[Axis, ...]], fake: Any, letters: dict[Any, str]
) -> Example:
    """The inputs with letters in the place of sizes; ``letters`` gets the symbol of each."""
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    tensors = forward.named_tensors(module, example.args, example.kwargs)
    made: dict[int, Any] = {}
    for name, tensor in tensors.items():
        own = {axis.place: letter for letter, places in axes.items() for axis in places if axis.input == name}
        if not own:
            continue
        # A size of 1 would not become a letter.
        shape = [max(int(size), 2) if place in own else int(size) for place, size in enumerate(tensor.shape)]
        real = torch.empty(shape, dtype=tensor.dtype, device="meta")
        kinds = [DimDynamic.DYNAMIC if place in own else DimDynamic.STATIC for place in range(len(shape))]
        with fake:
            found = fake.from_tensor(
                real, source=ConstantSource(name), symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds)
            )
        for place, letter in own.items():
            letters[found.shape[place].node.expr] = letter
        made[id(tensor)] = found

    def changed(value: Any) -> Any:
        return made.get(id(value), value)

    return replace(example, args=tree_map(changed, example.args), kwargs=tree_map(changed, dict(example.kwargs)))


class _Reader:
    """Reads torch's symbolic sizes as numbers with formulas."""

    def __init__(self, letters: Mapping[Any, str], facts: Facts) -> None:
        self.letters = letters
        self.facts = facts
        self._known: dict[Any, Polynomial] = {}

    def size(self, value: Any) -> Any:
        """A size: a plain integer, or a number with a formula."""
        if not isinstance(value, torch.SymInt):
            return value
        node = value.node
        found = self.polynomial(node.expr)
        return Number(found, int(node.hint), self.facts) if found.constant is None else found.constant

    def polynomial(self, expression: Any) -> Polynomial:
        """The polynomial of an expression of sympy; raises UnsupportedError for what has none."""
        found = self._known.get(expression)
        if found is None:
            found = self._known[expression] = self._read(expression)
        return found

    def _read(self, expression: Any) -> Polynomial:
        import sympy

        if isinstance(expression, (int, sympy.Integer)):
            return _number(int(expression))
        if isinstance(expression, sympy.Rational):
            return _number(int(expression.p)) / _number(int(expression.q))
        if isinstance(expression, sympy.Float) and float(expression).is_integer():
            return _number(int(expression))
        if isinstance(expression, sympy.Symbol):
            if expression not in self.letters:
                raise UnsupportedError(f"a size depends on data: {expression}")
            return _letter(self.letters[expression])
        args = expression.args
        if isinstance(expression, sympy.Add):
            return sum((self.polynomial(arg) for arg in args), Polynomial({}))
        if isinstance(expression, sympy.Mul):
            total = _number(1)
            for arg in args:
                total = total * self.polynomial(arg)
            return total
        if isinstance(expression, sympy.Pow) and args[1].is_Integer:
            return self.polynomial(args[0]) ** int(args[1])
        name = type(expression).__name__
        rule = _FUNCTIONS.get(name)
        if rule is None:
            raise UnsupportedError(f"a size is {expression}, for which there is no closed form")
        return rule(self.facts, *map(self.polynomial, args))

    def conditions(self, expression: Any) -> Iterator[Condition]:
        """What a guard says."""
        import sympy

        if expression in (True, sympy.true):
            return
        if isinstance(expression, sympy.And):
            for part in expression.args:
                yield from self.conditions(part)
            return
        kinds = {sympy.Eq: ZERO, sympy.Ne: NOT_ZERO, sympy.Ge: NOT_NEGATIVE, sympy.Gt: POSITIVE}
        for kind, says in kinds.items():
            if isinstance(expression, kind):
                left, right = map(self.polynomial, expression.args)
                yield from self._known_or(Condition(says, left - right))
                return
        for kind, says in {sympy.Le: NOT_NEGATIVE, sympy.Lt: POSITIVE}.items():
            if isinstance(expression, kind):
                left, right = map(self.polynomial, expression.args)
                yield from self._known_or(Condition(says, right - left))
                return
        if isinstance(expression, sympy.Not):
            yield from self.conditions(sympy.Not(expression.args[0], evaluate=True))
            return
        raise UnsupportedError(f"it is only known for sizes with {expression}")

    def _known_or(self, condition: Condition) -> Iterator[Condition]:
        if self.facts.tells(condition) is not True:
            yield condition


def _modulo(facts: Facts, over: Polynomial, under: Polynomial) -> Polynomial:
    return over - under * facts.floor(over / under)


_FUNCTIONS: Mapping[str, Callable[..., Polynomial]] = {
    "FloorDiv": lambda facts, over, under: facts.floor(over / under),
    "CleanDiv": lambda facts, over, under: facts.floor(over / under),
    "CeilDiv": lambda facts, over, under: -facts.floor(-(over / under)),
    "CeilToInt": lambda facts, about: -facts.floor(-about),
    "FloorToInt": lambda facts, about: facts.floor(about),
    # Of sizes, which are not negative.
    "TruncToInt": lambda facts, about: facts.floor(about),
    "floor": lambda facts, about: facts.floor(about),
    "ceiling": lambda facts, about: -facts.floor(-about),
    "IntTrueDiv": lambda facts, over, under: over / under,
    "FloatTrueDiv": lambda facts, over, under: over / under,
    "ToFloat": lambda facts, about: about,
    "Identity": lambda facts, about: about,
    "Mod": _modulo,
    "PythonMod": _modulo,
    "ModularIndexing": lambda facts, base, under, size: _modulo(facts, facts.floor(base / under), size),
    "Max": lambda facts, *parts: _folded(facts, LARGEST, parts),
    "Min": lambda facts, *parts: _folded(facts, SMALLEST, parts),
    "PowByNatural": lambda facts, base, exponent: base ** int(exponent.constant),
}
"""The functions of torch's sizes, by their names."""


def _folded(facts: Facts, kind: str, parts: tuple[Polynomial, ...]) -> Polynomial:
    found = parts[0]
    for part in parts[1:]:
        found = facts.chosen(kind, found, part)
    return found


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every kernel with its sizes, and the module that it runs in."""

    def __init__(self, module: nn.Module, reader: _Reader) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.module = module
        self.reader = reader
        self.kernels: list[Ran] = []
        self.inside: list[tuple[str, int]] = []
        self.calls: dict[str, int] = {}

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which module runs, by hooks that are removed at the end."""
        handles = []
        for path, module in self.module.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                handles.append(module.register_forward_pre_hook(self._enter(path)))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: object) -> None:
            number = self.calls[path] = self.calls.get(path, -1) + 1
            self.inside.append((path, number))

        return enter

    def _leave(self, module: nn.Module, args: object, output: object) -> None:
        del self.inside[-1:]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        op, overload, _ = operator(func)
        described = {name: self.describe(value) for name, value in (kwargs or {}).items()}
        call = KernelCall(op, overload, tuple(map(self.describe, args)), described, self.describe(result))
        self.kernels.append(Ran(*(self.inside[-1] if self.inside else ("", 0)), call))
        return result

    def describe(self, value: Any) -> Value:
        """What is remembered of a value, as of any other trace, with numbers that have formulas."""
        if isinstance(value, torch.Tensor):
            return TensorInfo(tuple(self.reader.size(size) for size in value.shape), dtype_name(value.dtype))
        if isinstance(value, torch.SymInt):
            found: Value = self.reader.size(value)
            return found
        if isinstance(value, list):
            return ListInfo(tuple(map(self.describe, value)))
        if isinstance(value, tuple):
            return tuple(map(self.describe, value))
        return None if isinstance(value, (torch.SymFloat, torch.SymBool)) else describe(value)


def refused(recipe: Recipe, error: UnsupportedError) -> UsageError:
    """What is said where a model has no closed form."""
    return UsageError(
        f"{recipe.source} has no closed form in these sizes: {error}", help="leave fewer sizes as letters: --in N"
    )
