"""The inputs of a spec, and its variants: other values of its variables, or another input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.errors import Mark, did_you_mean
from convstat.spec.items import check_name
from convstat.spec.load import List, Map, Scalar, Tree
from convstat.spec.plan import INPUT, InputPlan, Variant
from convstat.spec.problems import Problems
from convstat.spec.values import Formula, Scope, unknown

if TYPE_CHECKING:
    from convstat.spec.compile import Compiler

DTYPES = ("float32", "int64")
MAX_VARIANTS = 100


def ordered(problems: Problems, formulas: Mapping[str, Formula]) -> tuple[tuple[str, Formula], ...]:
    """The variables, each after those that it reads; every cycle is reported with its path."""
    order: dict[str, Formula] = {}
    wrong: set[str] = set()
    for start in formulas:
        # Depth first with a stack of its own: a chain of variables may be longer than Python's.
        path: dict[str, None] = {}
        stack = [(start, False)]
        while stack:
            name, done = stack.pop()
            if done:
                path.pop(name, None)
                order[name] = formulas[name]
                continue
            if name in order:
                continue
            if name in path:
                names = list(path)
                cycle = [*names[names.index(name) :], name]
                problems.add(f"variables read each other: {' -> '.join(cycle)}", formulas[cycle[-2]].mark)
                wrong.update(cycle)
                continue
            path[name] = None
            stack.append((name, True))
            stack += [(read, False) for read in sorted(formulas[name].names) if read in formulas and read not in order]
    return tuple((name, unknown(name, formula.mark) if name in wrong else formula) for name, formula in order.items())


def read_inputs(compiler: Compiler, tree: Tree) -> tuple[InputPlan, ...]:
    """Read the inputs: one list of sizes, or named ones."""
    if isinstance(tree, List):
        return (_one_input(compiler, INPUT, tree, tree.mark),)
    if not isinstance(tree, Map) or not len(tree):
        compiler.problems.add(
            "the input is a list of sizes", tree.mark, help="input: [3, 224, 224], or {x: [...], y: [...]}"
        )
        return ()
    found = []
    for key, value in tree:
        if key.text == INPUT or check_name(key, "an input", compiler):
            found.append(_one_input(compiler, key.text, value, key.mark))
    return tuple(found)


def _one_input(compiler: Compiler, name: str, tree: Tree, mark: Mark) -> InputPlan:
    """Read one input: a list of sizes, or ``{shape: [...], dtype: ...}``; it has no sizes where they are wrong."""
    dtype = None
    if isinstance(tree, Map):
        entries = compiler.keys(tree, ("shape", "dtype"), "an input")
        written = entries.get("dtype")
        if written is not None:
            dtype = written.text if isinstance(written, Scalar) else ""
            if dtype not in DTYPES:
                help = did_you_mean(dtype, DTYPES) or (f"it is one of {', '.join(DTYPES)}",)
                compiler.problems.add(f"unknown dtype '{dtype}'", written.mark, help=help)
        shape = entries.get("shape")
        if shape is None:
            compiler.problems.add(f"input '{name}' needs a shape", mark, help="{shape: [128], dtype: int64}")
            return InputPlan(name, (), None, mark)
        tree = shape
    if not isinstance(tree, List) or not tree.items:
        compiler.problems.add("the sizes of one sample are expected here, as a list", tree.mark, help="[3, 224, 224]")
        return InputPlan(name, (), None, mark)
    scope = Scope(compiler.variables, compiler.problems, words=compiler.names)
    sizes = [scope.compile(item) for item in tree.items]
    compiler.used_by_inputs |= scope.used
    known = tuple(size for size in sizes if size is not None)
    return InputPlan(name, known if len(known) == len(sizes) else (), dtype, mark)


def read_variants(compiler: Compiler, tree: Tree | None, inputs: tuple[InputPlan, ...]) -> dict[str | None, Variant]:
    """Read the variants: each sets variables, and may have an input of its own."""
    found: dict[str | None, Variant] = {None: Variant("", ordered(compiler.problems, compiler.variables), inputs)}
    if tree is None or (isinstance(tree, Scalar) and tree.is_null):
        return found
    if not isinstance(tree, Map):
        compiler.problems.add("models is a mapping: {small: {alpha: 0.5}}", tree.mark)
        return found
    compiler.at_most(MAX_VARIANTS, tree, "variants")
    scope = Scope(compiler.variables, compiler.problems, words=compiler.names)
    for key, value in tree:
        check_name(key, "a variant", compiler)
        formulas, own_inputs, note = dict(compiler.variables), inputs, None
        if isinstance(value, Scalar) and value.is_null:
            value = Map((), value.mark)
        if not isinstance(value, Map):
            compiler.problems.add("a variant sets variables: {alpha: 0.5}", value.mark)
            continue
        for name, setting in value:
            if name.text == "input" and name.text not in compiler.variables:
                own_inputs = read_inputs(compiler, setting)
            elif name.text == "note" and name.text not in compiler.variables:
                note = setting.text if isinstance(setting, Scalar) else None
            elif name.text in compiler.variables:
                formula = scope.compile(setting)
                formulas[name.text] = formula or formulas[name.text]
            else:
                help = did_you_mean(name.text, (*compiler.variables, "input", "note"))
                compiler.problems.add(
                    f"variant '{key.text}' sets '{name.text}', which is no variable", name.mark, help=help
                )
        found[key.text] = Variant(key.text, ordered(compiler.problems, formulas), own_inputs, note)
    return found
