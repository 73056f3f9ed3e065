"""Expressions in a spec: exact arithmetic over ints and fractions, and nothing else.

The text is parsed by Python's own parser, checked against a list of allowed syntax,
rewritten so that every operation goes through a guarded function, and compiled once to a Python function.
No attribute, subscript, string, comprehension or foreign call can pass, so nothing but arithmetic ever runs.
Decimals and ``/`` are exact rationals: ``0.1 * 3`` is 3/10, and 224 / 32 is 7.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import Any

from convstat.patches.quiet import unwarned
from convstat.spec.scalars import MAX_BITS, NO_VALUE, ExpressionError, Value, bits, bounded, number, yaml_trap

MAX_LENGTH = 500
MAX_DEPTH = 40


class UnknownNameError(ExpressionError):
    """A name that means nothing here."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(f"undefined variable '{name}'", offset, len(name))
        self.name = name


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression: ``evaluate`` takes the values of ``names``; ``constant`` is the result where none."""

    text: str
    evaluate: Callable[[Mapping[str, Value]], Value]
    names: frozenset[str] = frozenset()
    constant: Value = None

    is_simple: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether no name is in it."""
        return not self.names


def round8(value: int | Fraction) -> int:
    """Round a width to a multiple of 8, at least 8 and never below 90 % of it.

    The rule of the MobileNets (``make_divisible`` in tensorflow/models, research/slim/nets/mobilenet/mobilenet.py):
    round to the nearest multiple, halves up, and go one up where that lost more than a tenth.

    >>> round8(Fraction(32 * 3, 4)), round8(1), round8(11), round8(10)
    (24, 8, 16, 16)
    """
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if 10 * rounded < 9 * value else rounded


def _numbers(left: Value, right: Value, sign: str, at: int) -> None:
    for value in (left, right):
        if not isinstance(value, (int, Fraction)):
            what = f"the word '{value}'" if isinstance(value, str) else "null" if value is None else "a list"
            raise ExpressionError(f"cannot calculate with {what}: '{sign}' takes numbers", at, len(sign))


_NUMBER = frozenset((int, Fraction))


def _add(left: Value, right: Value, at: int) -> Value:
    if left.__class__ not in _NUMBER or right.__class__ not in _NUMBER:
        _numbers(left, right, "+", at)
    return left + right


def _sub(left: Value, right: Value, at: int) -> Value:
    if left.__class__ not in _NUMBER or right.__class__ not in _NUMBER:
        _numbers(left, right, "-", at)
    return left - right


def _mul(left: Value, right: Value, at: int) -> Value:
    if left.__class__ not in _NUMBER or right.__class__ not in _NUMBER:
        _numbers(left, right, "*", at)
    return left * right


def _div(left: Value, right: Value, at: int) -> Value:
    _numbers(left, right, "/", at)
    if not right:
        raise ExpressionError("division by zero", at, 1)
    return Fraction(left) / right


def _floordiv(left: Value, right: Value, at: int) -> Value:
    _numbers(left, right, "//", at)
    if not right:
        raise ExpressionError("division by zero", at, 2)
    return left // right


def _mod(left: Value, right: Value, at: int) -> Value:
    _numbers(left, right, "%", at)
    if not right:
        raise ExpressionError("division by zero", at, 1)
    return left % right


def _pow(base: Value, exponent: Value, at: int) -> Value:
    _numbers(base, exponent, "**", at)
    if exponent != int(exponent):
        raise ExpressionError("an exponent must be a whole number, so that the result is exact", at, 2)
    exponent = int(exponent)
    if not base and exponent < 0:
        raise ExpressionError("division by zero", at, 2)
    if base not in (0, 1, -1) and (bits(base) - 1 or 1) * abs(exponent) > MAX_BITS:
        raise ExpressionError(f"the result has more than {MAX_BITS} bits", at, 2)
    return Fraction(base) ** exponent if exponent < 0 else base**exponent


FUNCTIONS: Mapping[str, tuple[Callable[..., Value], int, int]] = {
    "min": (min, 2, 100),
    "max": (max, 2, 100),
    "ceil": (math.ceil, 1, 1),
    "floor": (math.floor, 1, 1),
    "round8": (round8, 1, 1),
    "abs": (abs, 1, 1),
}
"""What may be called, and with how many arguments."""

CONSTANTS: Mapping[str, Value] = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "None": None, "Null": None, "NULL": None,
}  # fmt: skip

_BINARY: Mapping[type, str] = {
    ast.Add: "_add", ast.Sub: "_sub", ast.Mult: "_mul", ast.Div: "_div",
    ast.FloorDiv: "_floordiv", ast.Mod: "_mod", ast.Pow: "_pow",
}  # fmt: skip
_SIGNS: Mapping[str, str] = {
    "_add": "+", "_sub": "-", "_mul": "*", "_div": "/", "_floordiv": "//", "_mod": "%", "_pow": "**",
}  # fmt: skip
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)

_GLOBALS: dict[str, Any] = {
    "__builtins__": {},
    "_add": _add, "_sub": _sub, "_mul": _mul, "_div": _div, "_floordiv": _floordiv, "_mod": _mod, "_pow": _pow,
    "_result": bounded, **{f"_{name}": entry[0] for name, entry in FUNCTIONS.items()},
}  # fmt: skip


class _Compiler:
    def __init__(self, text: str, known: Container[str], words: Container[str]) -> None:
        self.text = text
        self.known = known
        self.words = words
        self.names: set[str] = set()
        self.constants: dict[str, Value] = {}

    def error(self, message: str, node: ast.AST, help: tuple[str, ...] = ()) -> ExpressionError:
        start = getattr(node, "col_offset", 0)
        end = getattr(node, "end_col_offset", start + 1)
        return ExpressionError(message, start, end - start, help)

    def visit(self, node: ast.expr, depth: int) -> ast.expr:
        if depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep", node)
        below = depth + 1
        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.BinOp):
            function = _BINARY.get(type(node.op))
            if function is None:
                raise self.error("only + - * / // % ** are allowed here", node)
            sign = _SIGNS[function]
            at = self.text.find(sign, node.left.end_col_offset or 0)
            operands = [self.visit(node.left, below), self.visit(node.right, below), ast.Constant(at)]
            return _call(function, operands)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd, ast.Not)):
            if isinstance(node.op, ast.Not):
                return ast.UnaryOp(node.op, self.visit(node.operand, below))
            function = "_sub" if isinstance(node.op, ast.USub) else "_add"
            return _call(function, [ast.Constant(0), self.visit(node.operand, below), ast.Constant(node.col_offset)])
        if isinstance(node, ast.BoolOp):
            return ast.BoolOp(node.op, [self.visit(value, below) for value in node.values])
        if isinstance(node, ast.Compare):
            if not all(isinstance(op, _COMPARISONS) for op in node.ops):
                raise self.error("only == != < <= > >= are allowed here", node)
            return ast.Compare(
                self.visit(node.left, below), node.ops, [self.visit(right, below) for right in node.comparators]
            )
        if isinstance(node, ast.IfExp):
            return ast.IfExp(*(self.visit(part, below) for part in (node.test, node.body, node.orelse)))
        if isinstance(node, ast.Call):
            return self.call(node, below)
        raise self.error(f"{_described(node)} is not allowed in an expression", node)

    def constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if value is None or isinstance(value, bool):
            return ast.Constant(value)
        if isinstance(value, (int, float)):
            exact = number(self.text[node.col_offset : node.end_col_offset], node.col_offset)
            if isinstance(exact, int):
                return ast.Constant(exact)
            name = f"_c{len(self.constants)}"
            self.constants[name] = exact
            return ast.Name(name, ast.Load())
        raise self.error(f"{_described(node)} is not allowed in an expression", node)

    def name(self, node: ast.Name) -> ast.expr:
        name = node.id
        if name in self.known:
            self.names.add(name)
            return ast.Subscript(ast.Name("_e", ast.Load()), ast.Constant(name), ast.Load())
        if name in CONSTANTS:
            return ast.Constant(CONSTANTS[name])
        if name in self.words:
            return ast.Constant(name)
        if name in FUNCTIONS:
            raise self.error(f"'{name}' is a function: call it, as in {name}(...)", node)
        raise UnknownNameError(name, node.col_offset)

    def call(self, node: ast.Call, depth: int) -> ast.expr:
        allowed = " ".join(FUNCTIONS)
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            what = f"'{node.func.id}'" if isinstance(node.func, ast.Name) else "this"
            raise self.error(f"{what} cannot be called in an expression", node.func, (f"functions: {allowed}",))
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            raise self.error(f"{node.func.id}() takes plain arguments only", node)
        _, low, high = FUNCTIONS[node.func.id]
        if not low <= len(node.args) <= high:
            wanted = "one argument" if high == 1 else f"at least {low} arguments"
            raise self.error(f"{node.func.id}() takes {wanted}, not {len(node.args)}", node)
        return _call(f"_{node.func.id}", [self.visit(argument, depth) for argument in node.args])


def _call(function: str, arguments: list[ast.expr]) -> ast.expr:
    return ast.Call(ast.Name(function, ast.Load()), arguments, [])


def _described(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return "a string" if isinstance(node.value, str) else f"a constant of type {type(node.value).__name__}"
    kinds = {
        "Attribute": "an attribute", "Subscript": "a subscript", "List": "a list", "Tuple": "a tuple", "Dict": "a dict",
        "Lambda": "a lambda", "ListComp": "a comprehension", "GeneratorExp": "a comprehension", "JoinedStr": "a string",
        "NamedExpr": "an assignment", "UnaryOp": "'~'", "Set": "a set", "Starred": "'*'",
    }  # fmt: skip
    return kinds.get(type(node).__name__, "this")


def compile_expression(text: str, known: Container[str] = (), words: Container[str] = ()) -> Expression:
    """Compile an expression; ``known`` are the names that will have values, ``words`` those that stand for themselves.

    >>> compile_expression("32*alpha", {"alpha"}).evaluate({"alpha": Fraction(1, 2)})
    16
    """
    if text.isdecimal() and text.isascii() and len(text) < 16 and (text[0] != "0" or text == "0"):
        return Expression(text, _never, constant=int(text), is_simple=True)
    if text in known and text not in CONSTANTS:
        return Expression(text, itemgetter(text), frozenset((text,)), is_simple=True)
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    flat = re.sub(r"\s", " ", text)
    odd = next((i for i, c in enumerate(flat) if not (c.isascii() and c.isprintable())), None)
    if odd is not None:
        help = ("write * to multiply",) if flat[odd] in "×·∗" else ()
        raise ExpressionError(f"the character '{text[odd]}' is not allowed in an expression", odd, 1, help)
    lead = len(flat) - len(flat.lstrip())
    try:
        tree = _parse(flat.strip())
    except ExpressionError as error:
        error.offset += lead
        raise
    compiler = _Compiler(flat.strip(), known, words)
    try:
        body = compiler.visit(tree, 0)
        arguments = ast.arguments([], [ast.arg("_e")], None, [], [], None, [])
        function = ast.Expression(ast.Lambda(arguments, _call("_result", [body])))
        scope = {**_GLOBALS, **compiler.constants} if compiler.constants else _GLOBALS
        evaluate = eval(compile(ast.fix_missing_locations(function), "<expression>", "eval"), scope)
        names = frozenset(compiler.names)
        constant = None if names else work_out(evaluate, {})
    except ExpressionError as error:
        error.offset += lead
        raise
    return Expression(text, evaluate, names, constant)


def _never(values: Mapping[str, Value]) -> Value:
    raise AssertionError("a constant is not worked out")


def work_out(evaluate: Callable[[Mapping[str, Value]], Value], values: Mapping[str, Value]) -> Value:
    """Evaluate, and turn whatever Python says about the types of the operands into an ExpressionError."""
    try:
        return evaluate(values)
    except KeyError as error:
        raise ExpressionError(f"'{error.args[0]}' {NO_VALUE}") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError("this takes numbers, and was given something else") from None


def _parse(text: str) -> ast.expr:

    if not text:
        raise ExpressionError("an expression is missing")
    trap = yaml_trap(text)
    if trap:
        raise ExpressionError(trap[0], 0, len(text), (trap[1],))
    try:
        with unwarned():  # "1if x else 2" and its like: a SyntaxWarning about style
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        offset = max(0, min((error.offset or 1) - 1, len(text) - 1))
        help: tuple[str, ...] = ()
        if "${" in text:
            help = ("write the name of a variable alone: c, not ${c}",)
        elif "^" in text:
            help = ("write ** for a power",)
        elif re.search(r"\dx\d", text):
            help = ("write sizes as a list: [3, 3]",)
        elif re.fullmatch(r"[\d_.,]+\s*[kKMG]i?B?", text):
            help = ("write the number out: 1.5e6, or 1_500_000",)
        raise ExpressionError("not an expression", offset, 1, help) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("the expression is too deeply nested, or a number in it is too long") from None
