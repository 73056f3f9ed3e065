"""Expressions in a spec: exact arithmetic over ints and fractions, and nothing else.

The text is parsed by Python's own parser, checked against a list of allowed syntax,
rewritten so that every operation goes through a guarded function, and compiled once to a Python function.
No attribute, subscript, string, comprehension or foreign call can pass, so nothing but arithmetic ever runs.
Decimals and ``/`` are exact rationals: ``0.1 * 3`` is 3/10, and 224 / 32 is 7.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from convstat.errors import Mark, SourceText
from convstat.formulas.rounding import round8
from convstat.formulas.symbolic import Symbolic, largest, smallest
from convstat.patches.quiet import unwarned
from convstat.spec.load import Scalar

MAX_LENGTH = 500
MAX_DEPTH = 40

MAX_BITS = 256
"""The size of a result; a wider one is a mistake or an attack."""

LIMIT = 1 << MAX_BITS
MAX_DIGITS = 77
"""Decimal digits that always fit."""

Value = Any
"""int, Fraction, bool, str, None, or a tuple of them."""

NO_VALUE = "has no value here"
"""How the message ends where a name of an expression has no value."""

NOWHERE = Mark(SourceText("", "", is_file=False), 1, 1)


class ExpressionError(ValueError):
    """An expression that cannot be read or worked out; ``offset`` and ``length`` say where in its text."""

    def __init__(self, message: str, offset: int = 0, length: int = 0, help: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.help = help


class UnknownNameError(ExpressionError):
    """A name that is not defined."""

    def __init__(self, name: str, offset: int) -> None:
        super().__init__(f"undefined variable '{name}'", offset, len(name))
        self.name = name


@dataclass(frozen=True, slots=True)
class Expression(Scalar):
    """A compiled value of a spec: a constant, or a function of the values of the names that it reads.

    A list of values compiles to one expression.
    """

    names: frozenset[str] = frozenset()
    constant: Value = None
    evaluate: Callable[[Mapping[str, Value]], Value] | None = None

    def at(self, written: Scalar) -> Expression:
        """The same expression, written somewhere else."""
        return Expression(written.text, written.mark, written.plain, self.names, self.constant, self.evaluate)

    def value(self, values: Mapping[str, Value]) -> Value:
        """Evaluate the expression; raises ExpressionError, also for operands of the wrong type."""
        if self.evaluate is None:
            return self.constant
        try:
            return self.evaluate(values)
        except KeyError as error:
            raise ExpressionError(f"'{error.args[0]}' {NO_VALUE}") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, ExpressionError):
                raise
            raise ExpressionError("this takes only numbers") from None


def bits(value: int | Fraction) -> int:
    """The number of bits of the numerator or denominator, whichever is larger."""
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def bounded(value: Value) -> Value:
    """Return the value, a whole fraction as an int; raises ExpressionError where it is too large."""
    if value.__class__ is int:
        if -LIMIT < value < LIMIT:
            return value
    elif value.__class__ is Fraction:
        if bits(value) <= MAX_BITS:
            return value.numerator if value.denominator == 1 else value
    else:
        return value
    raise ExpressionError(f"the result has more than {MAX_BITS} bits")


_LITERAL = re.compile(r"(\d[\d_]*)?(\.[\d_]*)?([eE][-+]?\d[\d_]*)?")


def number(text: str, offset: int = 0) -> int | Fraction:
    """Read a decimal literal exactly.

    >>> number("1e6"), number("1_000_000"), number("0.1")
    (1000000, 1000000, Fraction(1, 10))
    """
    match = _LITERAL.fullmatch(text)
    if match is None or not (match.group(1) or match.group(2)):
        raise ExpressionError(f"'{text}' is not a decimal number", offset, len(text))
    if len(text) > 100 or abs(int((match.group(3) or "e0")[1:].replace("_", ""))) > 77:
        raise ExpressionError(f"the number has more than {MAX_BITS} bits", offset, len(text))
    value = Fraction(text.replace("_", ""))
    result: int | Fraction = bounded(value)
    return result


def yaml_trap(text: str) -> tuple[str, str] | None:
    """What YAML 1.1 would have made of a number, and what to write; None where it is no trap.

    >>> yaml_trap("010")
    ("'010' is ambiguous: YAML 1.1 reads it as 8", 'write 10, or 8 if octal was meant')
    >>> yaml_trap("12:30")
    ("'12:30' is ambiguous: YAML 1.1 reads it as 750", 'write 750, or a list: [12, 30]')
    """
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").replace("_", "")
    if len(digits) > 30:
        return None
    if re.fullmatch(r"0[0-9]+", digits):
        plain = sign * int(digits)
        if re.fullmatch(r"0[0-7]+", digits):
            octal = sign * int(digits, 8)
            return (
                f"'{text}' is ambiguous: YAML 1.1 reads it as {octal}",
                f"write {plain}, or {octal} if octal was meant",
            )
        return f"'{text}' has a leading zero", f"write {plain}"
    if re.fullmatch(r"0[oO][0-7]+", digits):
        return f"'{text}' is octal", f"write {sign * int(digits[2:], 8)}"
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", digits):
        return f"'{text}' is hexadecimal", f"write {sign * int(digits, 16)}"
    if re.fullmatch(r"0[bB][01]+", digits):
        return f"'{text}' is binary", f"write {sign * int(digits, 2)}"
    if re.fullmatch(r"[0-9]+(:[0-5]?[0-9])+", digits):
        parts = [int(part) for part in digits.split(":")]
        total = 0
        for part in parts:
            total = 60 * total + part
        return (
            f"'{text}' is ambiguous: YAML 1.1 reads it as {sign * total}",
            f"write {sign * total}, or a list: [{', '.join(map(str, parts))}]",
        )
    return None


_NUMBER = frozenset((int, Fraction))


def _guarded(sign: str, operate: Callable[[Value, Value], Value], *, divides: bool = False) -> Callable[..., Value]:
    """Wrap an operator so that it takes two numbers only; ``at`` is the offset of its sign, for messages."""

    def guarded(left: Value, right: Value, at: int) -> Value:
        if left.__class__ not in _NUMBER or right.__class__ not in _NUMBER:
            for value in (left, right):
                if not isinstance(value, (int, Fraction, Symbolic)):
                    what = f"the word '{value}'" if isinstance(value, str) else "null" if value is None else "a list"
                    raise ExpressionError(f"cannot compute with {what}: '{sign}' takes numbers", at, len(sign))
        if divides and not right:
            raise ExpressionError("division by zero", at, len(sign))
        try:
            return operate(left, right)
        except ExpressionError as error:
            raise ExpressionError(error.message, at, len(sign)) from None

    return guarded


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(base, Symbolic) or isinstance(exponent, Symbolic):
        return base**exponent
    if exponent != int(exponent):
        raise ExpressionError("an exponent must be an integer, so that the result is exact")
    exponent = int(exponent)
    if not base and exponent < 0:
        raise ExpressionError("division by zero")
    if base not in (0, 1, -1) and (bits(base) - 1 or 1) * abs(exponent) > MAX_BITS:
        raise ExpressionError(f"the result has more than {MAX_BITS} bits")
    return Fraction(base) ** exponent if exponent < 0 else base**exponent


def _quotient(left: Value, right: Value) -> Value:
    return (left if isinstance(left, Symbolic) else Fraction(left)) / right


FUNCTIONS: Mapping[str, tuple[Callable[..., Value], int, int]] = {
    "min": (smallest, 2, 100),
    "max": (largest, 2, 100),
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

_OPERATORS: Mapping[str, tuple[str, Callable[..., Value]]] = {
    "Add": ("+", _guarded("+", operator.add)),
    "Sub": ("-", _guarded("-", operator.sub)),
    "Mult": ("*", _guarded("*", operator.mul)),
    "Div": ("/", _guarded("/", _quotient, divides=True)),
    "FloorDiv": ("//", _guarded("//", operator.floordiv, divides=True)),
    "Mod": ("%", _guarded("%", operator.mod, divides=True)),
    "Pow": ("**", _guarded("**", _power)),
}
"""The operators, by the names of Python's syntax tree."""

_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)

_GLOBALS: dict[str, Any] = {
    "__builtins__": {},
    "_result": bounded,
    **{f"_{name}": operation for name, (_, operation) in _OPERATORS.items()},
    **{f"_{name}": function for name, (function, _, _) in FUNCTIONS.items()},
}


class _Compiler:
    """Rewrites the syntax tree of an expression; ``names`` are those whose values it reads."""

    def __init__(self, text: str, known: Container[str], is_word: Callable[[str], bool]) -> None:
        self.text = text
        self.known = known
        self.is_word = is_word
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
            name = type(node.op).__name__
            if name not in _OPERATORS:
                raise self.error("only + - * / // % ** are allowed here", node)
            at = self.text.find(_OPERATORS[name][0], node.left.end_col_offset or 0)
            operands = [self.visit(node.left, below), self.visit(node.right, below), ast.Constant(at)]
            return _call(f"_{name}", operands)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd, ast.Not)):
            if isinstance(node.op, ast.Not):
                return ast.UnaryOp(node.op, self.visit(node.operand, below))
            function = "_Sub" if isinstance(node.op, ast.USub) else "_Add"
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
        if self.is_word(name):
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


def compile_expression(
    text: str, known: Container[str] = (), is_word: Callable[[str], bool] = lambda word: False
) -> Expression:
    """Compile an expression; ``known`` are the names that will have values, and words stand for themselves.

    >>> compile_expression("32*alpha", {"alpha"}).value({"alpha": Fraction(1, 2)})
    16
    """
    if text.isdecimal() and text.isascii() and len(text) <= MAX_DIGITS and (text[0] != "0" or text == "0"):
        return Expression(text, NOWHERE, constant=int(text))
    if text in known and text not in CONSTANTS:
        return Expression(text, NOWHERE, names=frozenset((text,)), evaluate=operator.itemgetter(text))
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    flat = re.sub(r"\s", " ", text)
    odd = next((i for i, c in enumerate(flat) if not (c.isascii() and c.isprintable())), None)
    if odd is not None:
        help = ("write * to multiply",) if flat[odd] in "×·∗" else ()
        raise ExpressionError(f"the character '{text[odd]}' is not allowed in an expression", odd, 1, help)
    try:
        compiler = _Compiler(flat.strip(), known, is_word)
        body = compiler.visit(_parse(flat.strip()), 0)
        arguments = ast.arguments([], [ast.arg("_e")], None, [], [], None, [])
        function = ast.Expression(ast.Lambda(arguments, _call("_result", [body])))
        scope = {**_GLOBALS, **compiler.constants}
        evaluate = eval(compile(ast.fix_missing_locations(function), "<expression>", "eval"), scope)
        made = Expression(text, NOWHERE, names=frozenset(compiler.names), evaluate=evaluate)
        return made if made.names else Expression(text, NOWHERE, constant=made.value({}))
    except ExpressionError as error:
        error.offset += len(flat) - len(flat.lstrip())
        raise


def _parse(text: str) -> ast.expr:
    if not text:
        raise ExpressionError("missing expression")
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
            help = ("write the name of a variable without ${}: c, not ${c}",)
        elif "^" in text:
            help = ("write ** for a power",)
        elif re.search(r"\dx\d", text):
            help = ("write sizes as a list: [3, 3]",)
        elif re.fullmatch(r"[\d_.,]+\s*[kKMG]i?B?", text):
            help = ("write the number in full: 1.5e6, or 1_500_000",)
        raise ExpressionError("not an expression", offset, 1, help) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("the expression is too deeply nested, or a number in it is too long") from None
