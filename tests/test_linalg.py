"""Solving systems and factorising matrices: the algorithm itself, written out, counts what it multiplies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convstat.api import analyze

sizes = st.integers(1, 6)


class Of(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> object:
        return self.function(*tensors)


def linalg_of(function: Callable[..., object], *tensors: torch.Tensor) -> int:
    """The entry of a function; all of its operators have a rule, and none of its work is MACs."""
    report = analyze(Of(function), tensors, counters="none", device="cpu")
    assert (report.uncounted, report.totals.macs) == ((), 0)
    return report.totals.other["linalg"]


def substituted(size: int, columns: int) -> int:
    """Solve L x = b in every column."""
    return sum(1 for _ in range(columns) for unknown in range(size) for _before in range(unknown))


def eliminated(rows: int, columns: int) -> int:
    """Factorise by Gauss: subtract from all that is below and to the right of each pivot."""
    return sum(1 for p in range(min(rows, columns)) for _ in range(p + 1, rows) for _ in range(p + 1, columns))


def rooted(size: int) -> int:
    """Factorise by Cholesky: each element of the lower half is what is left after the columns before it."""
    return sum(1 for row in range(size) for column in range(row + 1) for _before in range(column))


def mirrored(rows: int, columns: int, across: int) -> int:
    """Apply Householder's reflections: v (v^T b) is two products with each column of b, from its row on."""
    return sum(2 for p in range(min(rows, columns)) for _ in range(p, rows) for _ in range(across))


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 3), size=sizes, columns=sizes)
def test_triangular_systems(batch: int, size: int, columns: int) -> None:
    """One for each unknown that is known before, in each column; from the right, in each row."""
    matrix, sides = torch.eye(size).repeat(batch, 1, 1), torch.rand(batch, size, columns)
    once = batch * substituted(size, columns)
    if not once:
        return
    solve = torch.linalg.solve_triangular
    assert once == linalg_of(lambda a, b: solve(a, b, upper=True), matrix, sides)
    assert once == linalg_of(lambda a, b: solve(a, b.mT, upper=True, left=False), matrix, sides)
    assert 2 * once == linalg_of(torch.cholesky_solve, sides, matrix)
    whole = batch * eliminated(size, size) + 2 * once
    assert whole == linalg_of(torch.linalg.solve, matrix, sides)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 3), rows=st.integers(2, 6), columns=st.integers(2, 6))
def test_factorisations(batch: int, rows: int, columns: int) -> None:
    """By elimination, by roots and by reflections; each counted by running through its loops."""
    matrices = torch.rand(batch, rows, columns)
    square = torch.eye(rows).repeat(batch, 1, 1)
    assert batch * eliminated(rows, columns) == linalg_of(torch.linalg.lu, matrices)
    assert batch * rooted(rows) == linalg_of(torch.linalg.cholesky, square)
    inverse = eliminated(rows, rows) + 2 * substituted(rows, rows)
    assert batch * inverse == linalg_of(torch.linalg.inv, square)
    least = min(rows, columns)
    # To its right, each reflection meets one column less than the one before.
    triangle = sum(2 for p in range(least) for _ in range(p, rows) for _ in range(p + 1, columns))
    assert batch * (triangle + mirrored(rows, columns, least)) == linalg_of(torch.linalg.qr, matrices)
    assert batch * (triangle + mirrored(rows, columns, rows)) == linalg_of(
        lambda a: torch.linalg.qr(a, mode="complete"), matrices
    )


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_solve_costs_the_same_on_every_device(device: str) -> None:
    """By its shape: 2 systems of 4 unknowns with 3 columns, each unknown after those before it."""
    model = Of(lambda a, b: torch.linalg.solve_triangular(a, b, upper=False))
    report = analyze(model, (torch.eye(4).repeat(2, 1, 1), torch.rand(2, 4, 3)), counters="none", device=device)
    assert report.totals.other == {"linalg": 2 * 3 * (1 + 2 + 3)}


def test_what_goes_on_until_it_converges_is_uncounted_and_says_why() -> None:
    """The report is incomplete, and a note gives the reason."""
    report = analyze(Of(torch.linalg.svdvals), torch.rand(4, 4), counters="none")
    assert ["aten._linalg_svd"] == [each.op for each in report.uncounted]
    assert any("aten._linalg_svd is not counted: goes on until it converges" in note for note in report.model.notes)
