"""A layer on the command line: ``'Conv2d(64, 128, kernel_size=3, groups=4)'``.

It is written as in Python, positional arguments in torch's order, and read with Python's parser; nothing is executed.
It becomes a spec of one layer, whose arguments can be overridden by their bare names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import NamedTuple

from convstat import layers
from convstat.errors import Diagnostic, Mark, SourceText, SpecError, did_you_mean
from convstat.patches.quiet import unwarned
from convstat.spec import Spec
from convstat.spec.expressions import Expression, Value
from convstat.spec.items import Blocks, compile_items
from convstat.spec.load import List, Map, Scalar, Tree
from convstat.spec.plan import INPUT, InputPlan, Plan, Variant
from convstat.spec.problems import Problems
from convstat.spec.values import is_layer

MAX_LENGTH = 1000


class Letters(NamedTuple):
    """What of a layer is a letter: ``values`` of the letters, ``put`` in place of arguments, and its input's ``sizes``.

    An argument that is put in and a size are expressions; an argument need not be written to be replaced.
    """

    values: Mapping[str, Value]
    put: Mapping[str, str]
    sizes: tuple[str, ...]


def read(text: str, letters: Letters | None = None) -> Spec:
    """Read one layer or shipped block; raises SpecError.

    Its input has no shape of its own: :meth:`Spec.expand` must be given one, except where it is made of ``letters``.

    >>> spec = read("Conv2d(64, 128, kernel_size=3, groups=4)")
    >>> spec.measure({"groups": 2}, inputs={"input": (64, 56, 56)}).params == 128*32*9 + 128
    True
    """
    source, call, blocks = _start(text)
    name, entries = _entries(source, call, blocks)
    op = Scalar(name, _mark(source, call.func))
    # The shape is the caller's to give; a spec needs a place for it.
    unknown = InputPlan(INPUT, (), None, op.mark)
    scope, variables = blocks.scope(), {}
    if letters is not None:
        put = {key: (Scalar(key, op.mark), Scalar(value, op.mark)) for key, value in letters.put.items()}
        entries = [put.pop(key.text, (key, value)) for key, value in entries] + list(put.values())
        scope = blocks.scope(letters.values)
        variables = {n: Expression(n, op.mark, constant=value) for n, value in letters.values.items()}
        sizes = [scope.compile(Scalar(size, op.mark)) for size in letters.sizes]
        unknown = InputPlan(INPUT, tuple(size for size in sizes if size is not None), None, op.mark)
    item = Map(((op, Map(tuple(entries), op.mark)),), op.mark)
    items = compile_items(List((item,), op.mark), scope, blocks)
    blocks.problems.raise_if_any()
    plan = Plan(source, text.strip(), {None: Variant(variables, (unknown,))}, blocks.compiled, items)
    return Spec(plan, ())


def arguments(text: str) -> tuple[str, dict[str, str]]:
    """The name of a layer or block, and its arguments as they are written; raises SpecError.

    >>> arguments("Conv2d(64, 128, kernel_size=K)")
    ('Conv2d', {'in_channels': '64', 'out_channels': '128', 'kernel_size': 'K'})
    """
    name, entries = _entries(*_start(text))
    return name, {key.text: value.text if isinstance(value, Scalar) else "" for key, value in entries}


def _start(text: str) -> tuple[SourceText, ast.Call, Blocks]:
    source = SourceText(f"argument '{text}'" if len(text) <= 200 else "argument", text, is_file=False)
    return source, _parse(source), Blocks(Problems())


def _entries(source: SourceText, call: ast.Call, blocks: Blocks) -> tuple[str, list[tuple[Scalar, Tree]]]:
    """The name of a layer, and its arguments by name."""
    assert isinstance(call.func, ast.Name)
    name = call.func.id
    order = _order(name, call, source, blocks)
    entries: list[tuple[Scalar, Tree]] = []
    for position, node in enumerate(call.args):
        if isinstance(node, ast.Starred):
            raise _problem("'*' is not allowed here", source, node)
        if position >= len(order):
            raise _problem(f"{name} takes at most {len(order)} arguments, not {len(call.args)}", source, node)
        entries.append((Scalar(order[position], _mark(source, node)), _tree(node, source)))
    given = {key.text for key, _ in entries}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _problem("'**' is not allowed here", source, keyword.value)
        if keyword.arg in given:
            raise _problem(f"'{keyword.arg}' is given twice", source, keyword)
        given.add(keyword.arg)
        mark = Mark(source, *_place(source, keyword.lineno, keyword.col_offset + 1), len(keyword.arg))
        entries.append((Scalar(keyword.arg, mark), _tree(keyword.value, source)))
    return name, entries


def _parse(source: SourceText) -> ast.Call:
    text = source.text
    if len(text) > MAX_LENGTH:
        raise SpecError(f"an inline layer is at most {MAX_LENGTH} characters long")
    if not text.isascii():
        column = next(i for i, c in enumerate(text) if not c.isascii())
        mark = Mark(source, *source.place(column))
        raise SpecError(Diagnostic(f"the character '{text[column]}' is not allowed here", mark))
    try:
        with unwarned():
            tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        message = f"not a layer: {error.msg}"
        mark = Mark(source, *_place(source, error.lineno or 1, error.offset or 1))
        raise SpecError(Diagnostic(message, mark, help=_EXAMPLE)) from None
    except (ValueError, RecursionError, MemoryError):
        raise SpecError(Diagnostic("not a layer: too deeply nested", Mark(source, 1, 1))) from None
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute):
        dotted = ast.unparse(tree.func)
        alone = dotted.rpartition(".")[2]
        help = (f"write {alone}{text.strip()[len(dotted) :]}",)
        raise _problem(f"write only the layer name: {alone}, not {dotted}", source, tree.func, help)
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise SpecError(Diagnostic("not a layer", Mark(source, 1, 1, len(text)), help=_EXAMPLE))
    return tree


_EXAMPLE = ("a layer is written as in Python: 'Conv2d(64, 128, kernel_size=3)'",)


def _order(name: str, call: ast.Call, source: SourceText, blocks: Blocks) -> tuple[str, ...]:
    """The names of the positional arguments."""
    if name in blocks and name not in layers.NAMES:
        return tuple(blocks.params(name))
    if is_layer(name):
        return tuple(layers.NAMES[name].arguments)
    near = did_you_mean(name, (*layers.NAMES, *blocks.names()), also="convstat list layers")
    raise _problem(f"unknown layer '{name}'", source, call.func, near)


def _tree(node: ast.expr, source: SourceText) -> Tree:
    """A Python value as what one would write in YAML."""
    mark = _mark(source, node)
    if isinstance(node, (ast.Tuple, ast.List)):
        return List(tuple(_tree(item, source) for item in node.elts), mark)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return Scalar(node.value, mark, plain=False)
    segment = ast.get_source_segment(source.text.strip(), node) or ""
    return Scalar(re.sub(r"\s+", " ", segment), mark)


def _mark(source: SourceText, node: ast.AST) -> Mark:
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
    end = getattr(node, "end_col_offset", column) if getattr(node, "end_lineno", line) == line else column
    return Mark(source, *_place(source, line, column), max(1, end - column + 1))


def _place(source: SourceText, line: int, column: int) -> tuple[int, int]:
    """A place in what is parsed, which has no spaces around it, as one in the argument."""
    lead = len(source.text) - len(source.text.lstrip())
    return source.place(lead + SourceText("", source.text.strip()).offset(line, column))


def _problem(message: str, source: SourceText, node: ast.AST, help: tuple[str, ...] = ()) -> SpecError:
    return SpecError(Diagnostic(message, _mark(source, node), help=help))
