"""What MACs/pixel divide by, as the command, the spec or the settings say it, with the values of its expressions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from convstat.errors import Diagnostic, UsageError, did_you_mean
from convstat.grammar import basis
from convstat.spec import Spec
from convstat.spec.expressions import ExpressionError, UnknownNameError, compile_expression
from convstat.targets.request import Request


def basis_of(request: Request, values: Mapping[str, Any], spec: Spec | None = None) -> str:
    """Say what MACs/pixel divide by: as the request says, else the spec, else the settings.

    ``values`` are those of the variables of the spec, or of the parameters of a Python model that were set.
    Raises BasisError where an expression has a value that no size can have, UsageError where it cannot be read.
    """
    per = request.per
    if per is None and spec is not None:
        per = spec.per(request.target.variant, values)
    if per is None:
        per = request.usual_per
    basis.check(per)
    if per in basis.BASES:
        return per
    return basis.fill(per, partial(_evaluate, per, request, values), partial(basis.place, per))


def _evaluate(per: str, request: Request, values: Mapping[str, Any], text: str, offset: int) -> object:
    try:
        return compile_expression(text, values, lambda word: False).value(values)
    except ExpressionError as error:
        message, help = error.message, error.help
        if isinstance(error, UnknownNameError):
            kind = "variable" if request.target.is_spec else "parameter that is set"
            message = f"{request.argument} has no {kind} '{error.name}'"
            known = ", ".join(sorted(values))
            help = did_you_mean(error.name, values) or ((f"it has {known}",) if known else ())
        elif not text.strip():
            message = "the braces are empty"
        mark = basis.place(per, offset + error.offset, error.length or len(text))
        raise UsageError(Diagnostic(f"--per {per}: {message}", mark, help=help)) from None
