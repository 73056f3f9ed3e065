"""Read texts and integers from the command line without pydantic.

Recent versions of Typer convert every value with it, and importing it takes longer than counting a network.
Our parameters are texts, integers and flags, which need no more than this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class PlainValue:
    """What Typer asks for a value that it has split from the command line."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.read = read

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Convert a value, or each of several; raises BadParameter for one that cannot be."""
        several = param.multiple or param.nargs == -1
        try:
            if several:
                return [self.read(item) for item in value or ()]
            return None if value is None else self.read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def integer(value: Any) -> int:
    """Read an integer; a count of flags is one already."""
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"'{value}' is not an integer") from None


READERS: dict[object, Callable[[Any], Any]] = {str: str, list[str]: str, int: integer, bool: bool}


def use_plain_value(parameter: Any) -> None:
    """Give a parameter its plain reader.

    Versions of Typer that do not know of such readers convert values in their own way, which is as right.
    """
    descriptor = getattr(parameter, "type_descriptor", None)
    reader = READERS.get(getattr(descriptor, "annotation", None))
    if reader is not None and hasattr(parameter, "_runtime_param"):
        parameter._runtime_param = PlainValue(reader)


class _Plain:
    """What has parameters, and reads them plainly, ``--help`` included."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in params:
            use_plain_value(parameter)
        return params


class PlainCommand(_Plain, TyperCommand):
    """A command."""

    def make_parser(self, ctx: Any) -> Any:
        """Give the parser of the arguments, one that refuses what contradicts itself."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(args=args)
            for param in order:
                if order.count(param) > 1 and not (param.multiple or param.nargs == -1 or _adds_up(param)):
                    option = max(param.opts, key=len)
                    raise typer.BadParameter("it is given twice but takes one value", ctx=ctx, param_hint=f"'{option}'")
            return values, rest, order

        parser.parse_args = parse_once
        return parser


def _adds_up(param: Any) -> bool:
    """Whether giving an option again says nothing against what was said before."""
    return bool(getattr(param, "is_flag", False) or getattr(param, "count", False))


class PlainGroup(_Plain, TyperGroup):
    """All commands, and what stands before them."""
