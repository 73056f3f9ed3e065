"""Kernels whose meta version is stricter than the one of the CPU: answered by shape, as the CPU would."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convstat.api import analyze
from convstat.trace.answers import Answers

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def outcome(call: object, *operands: torch.Tensor, **options: object) -> tuple[object, ...]:
    """Shape, strides and dtype of a result; nothing where it is refused."""
    try:
        result = call(*operands, **options)
    except RuntimeError:
        return ()
    return tuple(result.shape), result.stride(), result.dtype


@settings(max_examples=150, deadline=None)
@given(
    dims=st.tuples(st.sampled_from((2, 3)), st.sampled_from((2, 3))),
    sizes=st.tuples(*(st.sampled_from((3, 4, 8, 10, 16)) for _ in range(3))),
    turned=st.tuples(st.booleans(), st.booleans()),
    dtype=st.sampled_from(DTYPES),
    with_offsets=st.booleans(),
    off=st.sampled_from((0, 0, 0, 4)),
)
def test_grouped_products_on_meta_are_those_of_the_cpu(
    dims: tuple[int, int],
    sizes: tuple[int, int, int],
    turned: tuple[bool, bool],
    dtype: torch.dtype,
    with_offsets: bool,
    off: int,
) -> None:
    """The same calls are refused, and the others give the same shape, strides and dtype."""
    n, k, m = sizes
    ends = {"2d @ 3d": n, "2d @ 2d": k, "3d @ 2d": m}.get(f"{dims[0]}d @ {dims[1]}d", 0)
    operands = []
    for rank, (rows, columns), flip in zip(dims, ((n, k), (k + off, m)), turned, strict=True):
        shape = (2,) * (rank - 2) + ((columns, rows) if flip else (rows, columns))
        operands.append(torch.zeros(shape, dtype=dtype).mT if flip else torch.zeros(shape, dtype=dtype))
    offsets = torch.tensor([ends // 2, ends], dtype=torch.int32) if with_offsets else None
    expected = outcome(torch.ops.aten._grouped_mm, *operands, offs=offsets)
    with Answers():
        on_meta = [operand.to("meta") for operand in operands]
        offs = None if offsets is None else offsets.to("meta")
        assert outcome(torch.ops.aten._grouped_mm, *on_meta, offs=offs) == expected


class Experts(nn.Module):
    """Four experts of 16 -> 24, of which each row meets one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 16, 24))

    def forward(self, x: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return torch._grouped_mm(x, self.weight, offs=ends)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_mixture_of_experts_is_counted_on_meta(mode: str) -> None:
    """12 rows of 16 x 24; the gradient of the weight is as much again."""
    ends = torch.tensor([3, 6, 9, 12], dtype=torch.int32)
    report = analyze(Experts(), (torch.zeros(12, 16), ends), counters="none", mode=mode)
    assert report.model.device == "meta"
    assert report.totals.macs == 12 * 16 * 24 * (2 if mode == "train" else 1)


@pytest.mark.parametrize("sizes", [(3, 5, 7), (16, 32, 64)])
def test_products_of_8_bit_floats_of_any_size_have_a_shape(sizes: tuple[int, int, int]) -> None:
    """A CPU takes sizes that are no multiples of 16."""
    n, k, m = sizes
    left, right = (torch.zeros(shape).to(torch.float8_e4m3fn) for shape in ((n, k), (m, k)))
    one = torch.ones(())
    expected = outcome(torch.ops.aten._scaled_mm, left, right.t(), one, one, out_dtype=torch.float32)
    operands = [value.to("meta") for value in (left, right.t(), one, one)]
    with Answers():
        assert outcome(torch.ops.aten._scaled_mm, *operands, out_dtype=torch.float32) == expected
