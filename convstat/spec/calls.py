"""Compiles one call of a layer or a block: its arguments, by name or by its bare value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convstat.errors import LayerError, Mark, did_you_mean
from convstat.layers.base import Layer
from convstat.spec.load import Map, Scalar, Tree
from convstat.spec.plan import BlockCall, LayerCall
from convstat.spec.values import Formula, Scope, types_of

if TYPE_CHECKING:
    from convstat.spec.compile import Compiler


def layer_call(
    kind: type[Layer], op: Scalar, arguments: Tree | None, scope: Scope, compiler: Compiler, *, borrows: bool = False
) -> LayerCall | None:
    """Compile a layer with its arguments, by torch's names or their short forms.

    A layer that ``borrows`` the weights of another may leave all of them out.
    """
    given: dict[str, Formula | None] = {}
    keys: dict[str, Mark] = {}
    written: dict[str, str] = {}
    complete = True
    for key, mark, tree in _written(kind, arguments, compiler):
        name = kind.shorts.get(key, key)
        if name not in kind.arguments:
            near = did_you_mean(key, (*kind.arguments, *kind.shorts))
            takes = f"it takes {', '.join(kind.arguments)}" if kind.arguments else "it takes no arguments"
            compiler.problems.add(f"{kind.kind()} has no argument '{key}'", mark, help=near or (takes,))
            complete = False
            continue
        if name in keys:
            other = key if key != name else written[name]
            compiler.problems.add(f"'{name}' is given twice, once as '{other}'", mark)
        keys[name], written[name] = mark, key
        given[name] = _argument(kind, name, tree, scope, compiler)
    missing = [name for name, argument in kind.arguments.items() if argument.required and name not in given]
    if missing and complete and not (borrows and not given):
        compiler.problems.add(
            f"{kind.kind()} needs {' and '.join(missing)}", op.mark, help=_example(kind.kind(), missing, op)
        )
        return None
    formulas = tuple(formula for formula in given.values() if formula is not None)
    if not complete or len(formulas) < len(given):
        return None
    names = tuple(given)
    constants = tuple(f.constant for f in formulas) if all(f.evaluate is None for f in formulas) else None
    frozen: tuple[Any, ...] = () if constants is None else (constants, types_of(constants))
    return LayerCall(kind, names, formulas, keys, constants, (kind.kind(), names, *frozen))


def _example(name: str, missing: list[str], op: Scalar) -> str:
    """The call with what is missing, as one would write it there: in a file, or on the command line."""
    if op.mark.source.is_file:
        return f"{name}: {{{', '.join(f'{argument}: ...' for argument in missing)}}}"
    given = op.mark.source.text.strip().removesuffix(")").rstrip(", ")
    more = ", ".join(f"{argument}=..." for argument in missing)
    return f"{given}{'' if given.endswith('(') else ', '}{more})"


def _written(kind: type[Layer], arguments: Tree | None, compiler: Compiler) -> list[tuple[str, Mark, Tree]]:
    """The arguments as they are written: a mapping, or one bare value."""
    if arguments is None:
        return []
    if isinstance(arguments, Map):
        return [(key.text, key.mark, tree) for key, tree in arguments]
    scalar = kind.scalar_argument()
    if scalar is None:
        compiler.problems.add(f"{kind.kind()} takes no arguments", arguments.mark)
        return []
    return [(scalar, arguments.mark, arguments)]


def _argument(kind: type[Layer], name: str, tree: Tree, scope: Scope, compiler: Compiler) -> Formula | None:
    """Compile one argument; what is a value already is checked at once."""
    argument = kind.arguments[name]
    formula = scope.compile(tree, argument.kind)
    if formula is None or formula.evaluate is not None or (formula.constant is None and argument.infer is not None):
        return formula
    try:
        argument.kind.parse(formula.constant, name)
    except LayerError as error:
        compiler.problems.add(error.message, formula.mark, help=error.help)
        return None
    return formula


def block_call(name: str, op: Scalar, arguments: Tree | None, scope: Scope, compiler: Compiler) -> BlockCall | None:
    """Compile a call of a block; a bare value is its first parameter that must be given, else its first."""
    params = compiler.block_params(name)
    if params is None:
        return None
    compiler.calls(name, op.mark)
    given: dict[str, Formula] = {}
    complete = True
    entries: list[tuple[str, Mark, Tree]] = []
    if isinstance(arguments, Map):
        entries = [(key.text, key.mark, value) for key, value in arguments]
    elif arguments is not None:
        if not params:
            compiler.problems.add(f"block '{name}' takes no parameters", arguments.mark)
            return None
        first = next((key for key, required in params.items() if required), next(iter(params)))
        entries = [(first, arguments.mark, arguments)]
    for key, mark, tree in entries:
        if key not in params:
            compiler.problems.add(
                f"block '{name}' has no parameter '{key}'",
                mark,
                help=did_you_mean(key, params)
                or ((f"it takes {', '.join(params)}",) if params else ("it takes no parameters",)),
            )
            complete = False
            continue
        formula = scope.compile(tree)
        if formula is None:
            complete = False
        else:
            given[key] = formula
    missing = [key for key, required in params.items() if required and key not in {entry[0] for entry in entries}]
    for key in missing:
        compiler.problems.add(f"block '{name}' needs {key}", op.mark, help=_example(name, [key], op))
    if not complete or missing:
        return None
    return BlockCall(name, tuple(given), tuple(given.values()))
