"""Kernels that solve systems and factorise matrices by a direct algorithm: their work follows from the shapes.

These are no matrix products, and so no MACs: what they multiply and accumulate is the entry ``linalg``.
The figures are the additions in LAPACK Working Note 41, "Installation Guide for LAPACK", appendix C, which is one for
each multiply-accumulate. What converges to a result, as a singular value decomposition does, has no count by shape.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from convstat.count.ops.base import Rule, argument, output, shape_of, table
from convstat.formulas.cost import Cost
from convstat.trace.calls import KernelCall


def triangular(size: int, columns: int) -> int:
    """TRSM: each unknown but the first is what is left after those before it, in every column.

    >>> triangular(4, 3), 3 * (1 + 2 + 3)
    (18, 18)
    """
    return columns * size * (size - 1) // 2


def lu(rows: int, columns: int) -> int:
    """GETRF: after each pivot, an outer product is subtracted from what is below it and to its right.

    >>> lu(4, 4), 3 * 3 + 2 * 2 + 1 * 1
    (14, 14)
    """
    return sum((rows - pivot) * (columns - pivot) for pivot in range(1, min(rows, columns) + 1))


def cholesky(size: int) -> int:
    """POTRF: the same for half of a symmetric matrix.

    >>> cholesky(4), 3 * 4 // 2 + 2 * 3 // 2 + 1
    (10, 10)
    """
    return (size**3 - size) // 6


def reflected(rows: int, columns: int, across: int) -> int:
    """ORMQR and ORGQR: each of ``columns`` reflections, shorter by one than the last, meets ``across`` columns twice.

    >>> reflected(4, 2, 3), 2 * 3 * (4 + 3)
    (42, 42)
    """
    return 2 * across * sum(rows - place for place in range(min(rows, columns)))


def qr(rows: int, columns: int) -> int:
    """GEQRF: each reflection meets the columns to its right twice.

    >>> qr(4, 3), 2 * (4 * 2 + 3 * 1)
    (22, 22)
    """
    return 2 * sum((rows - place) * (columns - place - 1) for place in range(min(rows, columns)))


def _each(place: int, name: str, work: Callable[[int, int], int]) -> Rule:
    """The rule of what is done to each matrix of an operand by itself."""

    def rule(call: KernelCall) -> Cost:
        *batch, rows, columns = shape_of(call, place, name)
        return Cost(0, {"linalg": prod(batch) * work(rows, columns)})

    return rule


def _columns(call: KernelCall, size: int) -> int:
    """The columns of all right-hand sides: the elements of the solution by its unknowns."""
    return output(call).numel // size if size else 0


def _solving(place: int, name: str, times: int, before: Callable[[int], int] = lambda size: 0) -> Rule:
    """The rule of what solves so many triangular systems with each matrix, after it was factorised perhaps."""

    def rule(call: KernelCall) -> Cost:
        matrices = shape_of(call, place, name)
        size = matrices[-1]
        columns = _columns(call, size)
        return Cost(0, {"linalg": times * triangular(size, columns) + prod(matrices[:-2]) * before(size)})

    return rule


def inverse(size: int) -> int:
    """An inverse is the solution for every column of the unit matrix."""
    return lu(size, size) + 2 * triangular(size, size)


def full_qr(call: KernelCall) -> Cost:
    """``linalg_qr``: the factorisation, and Q where it is asked for."""
    *batch, rows, columns = shape_of(call, 0, "A")
    mode = argument(call, 1, "mode", "reduced")
    across = {"r": 0, "complete": rows}.get(str(mode), min(rows, columns))
    return Cost(0, {"linalg": prod(batch) * (qr(rows, columns) + reflected(rows, columns, across))})


def ormqr(call: KernelCall) -> Cost:
    """``ormqr``: the reflections in a matrix, applied to another one from one side."""
    *_, rows, columns = shape_of(call, 0, "self")
    other = shape_of(call, 2, "input3")
    across = prod(other) // rows if rows else 0
    return Cost(0, {"linalg": reflected(rows, columns, across)})


RULES: dict[str, Rule] = table(
    ("aten", "linalg_solve_triangular", _solving(0, "self", 1)),
    ("aten", "triangular_solve", _solving(1, "A", 1)),
    ("aten", "cholesky_solve _cholesky_solve_helper", _solving(1, "input2", 2)),
    ("aten", "linalg_lu_solve", _solving(0, "LU", 2)),
    ("aten", "linalg_ldl_solve", _solving(0, "LD", 2)),
    ("aten", "_linalg_solve_ex", _solving(0, "A", 2, lambda size: lu(size, size))),
    ("aten", "linalg_inv_ex", _each(0, "A", lambda rows, columns: inverse(rows))),
    ("aten", "cholesky_inverse", _each(0, "self", lambda rows, columns: 2 * triangular(rows, rows))),
    ("aten", "linalg_lu_factor_ex linalg_lu _linalg_det _linalg_slogdet", _each(0, "A", lu)),
    ("aten", "linalg_cholesky_ex cholesky", _each(0, "self", lambda rows, columns: cholesky(rows))),
    ("aten", "linalg_ldl_factor_ex", _each(0, "self", lambda rows, columns: cholesky(rows))),
    ("aten", "linalg_qr", full_qr),
    ("aten", "geqrf", _each(0, "self", qr)),
    ("aten", "linalg_householder_product", _each(0, "input", lambda rows, columns: reflected(rows, columns, columns))),
    ("aten", "ormqr", ormqr),
)
