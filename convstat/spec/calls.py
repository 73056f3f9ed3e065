"""Compiles one call of a layer or a block: its arguments, by name or by its bare value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convstat.errors import Mark, did_you_mean
from convstat.layers.base import Layer
from convstat.spec.load import Map, Scalar, Tree
from convstat.spec.plan import BlockCall, LayerCall
from convstat.spec.values import Formula, Scope

if TYPE_CHECKING:
    from convstat.spec.compile import Compiler


def layer_call(
    kind: type[Layer], op: Scalar, arguments: Tree | None, scope: Scope, compiler: Compiler
) -> LayerCall | None:
    """Compile a layer with its arguments, by torch's names or their short forms."""
    problems = compiler.problems
    given: dict[str, Formula] = {}
    keys: dict[str, Mark] = {}
    complete = True
    if isinstance(arguments, Map):
        for key, tree in arguments:
            name = kind.shorts.get(key.text, key.text)
            if name not in kind.arguments:
                names = (*kind.arguments, *kind.shorts)
                problems.add(
                    f"{kind.kind()} has no argument '{key.text}'",
                    key.mark,
                    help=did_you_mean(key.text, names)
                    or ((f"it takes {', '.join(kind.arguments)}",) if kind.arguments else ("it takes no arguments",)),
                )
                complete = False
                continue
            if name in keys:
                problems.add(f"'{name}' is given twice, once as '{key.text}'", key.mark)
            keys[name] = key.mark
            formula = scope.compile(tree, kind.arguments[name].kind)
            if formula is None:
                complete = False
            else:
                given[name] = formula
    elif arguments is not None:
        scalar = kind.scalar_argument()
        if scalar is None:
            problems.add(f"{kind.kind()} takes no arguments", arguments.mark)
            return None
        keys[scalar] = arguments.mark
        formula = scope.compile(arguments, kind.arguments[scalar].kind)
        if formula is None:
            complete = False
        else:
            given[scalar] = formula
    if not complete:
        return None
    names, formulas = tuple(given), tuple(given.values())
    constants = tuple(f.constant for f in formulas) if all(f.evaluate is None for f in formulas) else None
    frozen: tuple[Any, ...] = () if constants is None else (constants, tuple(map(type, constants)))
    return LayerCall(kind, names, formulas, keys, constants, (kind.kind(), names, *frozen))


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
        compiler.problems.add(f"block '{name}' needs {key}", op.mark, help=f"{name}: {{{key}: ...}}")
    if not complete or missing:
        return None
    return BlockCall(name, tuple(given), tuple(given.values()))
