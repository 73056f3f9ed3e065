"""Complex numbers: a multiply-accumulate of them is one, whichever way torch goes about it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convstat.api import analyze
from convstat.errors import ConvstatError

KINDS = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}


class Stored(nn.Module):
    """Calls a function that nothing can be put in the place of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3, dtype=torch.cfloat))
        self.call = torch.ops.aten.conv2d.default

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x, self.weight)


class ByHand(nn.Module):
    """Multiplies real and imaginary parts itself: four convolutions of real numbers, and no complex one."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.imaginary = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(x)
        a, b = parts[..., 0], parts[..., 1]
        return torch.complex(self.real(a) - self.imaginary(b), self.real(b) + self.imaginary(a))


@pytest.mark.parametrize("mode", ["eval", "train"])
@settings(max_examples=25, deadline=None)
@given(
    dims=st.sampled_from((1, 2, 3)),
    groups=st.sampled_from((1, 2)),
    kernel=st.integers(1, 4),
    transposed=st.booleans(),
    bias=st.booleans(),
    same=st.booleans(),
    batch=st.integers(0, 2),
)
def test_a_convolution_multiplies_as_one_of_real_numbers_does(
    mode: str, dims: int, groups: int, kernel: int, transposed: bool, bias: bool, same: bool, batch: int
) -> None:
    """The same layer of real numbers says how much; each MAC is four real multiplications."""
    options = {"groups": groups, "bias": bias} | ({"padding": "same"} if same and not transposed else {})
    figures = []
    for dtype in (torch.float32, torch.complex64):
        layer = KINDS[dims][transposed](4, 6, kernel, dtype=dtype, **options)
        given = torch.zeros(*((batch,) if batch else ()), 4, *(5,) * dims, dtype=dtype)
        figures.append(analyze(layer, given, counters="none", mode=mode).totals)
    real, complex_ = figures
    assert real.macs == complex_.macs > 0
    assert (real.params, real.other.get("bias")) == (complex_.params, complex_.other.get("bias"))
    assert (real.other.get("complex"), complex_.other["complex"]) == (None, 4 * real.macs)


@pytest.mark.parametrize(
    ("model", "shape", "macs"),
    [
        (nn.Linear(5, 6, dtype=torch.cfloat), (2, 5), 2 * 5 * 6),
        (Stored(), (1, 3, 8, 8), 4 * 3 * 3 * 3 * 6 * 6),
        (torch.jit.script(nn.Conv2d(3, 4, 3, dtype=torch.cfloat)), (1, 3, 8, 8), 4 * 3 * 3 * 3 * 6 * 6),
    ],
)
def test_one_convention_for_all(model: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    """Matrix products, scripted layers and functions that were stored elsewhere: one MAC a product."""
    totals = analyze(model, torch.zeros(shape, dtype=torch.cfloat), counters="none").totals
    assert (totals.macs, totals.other["complex"]) == (macs, 4 * macs)


def test_products_that_a_model_makes_of_real_parts_are_its_own() -> None:
    """Four real convolutions of 4 x 3 x 3 x 3 weights on 6 x 6 places: nothing is taken for a complex one."""
    totals = analyze(ByHand(), torch.zeros(1, 3, 8, 8, dtype=torch.cfloat), counters="none").totals
    assert (totals.macs, totals.other.get("complex")) == (4 * 4 * 3 * 3 * 3 * 6 * 6, None)


class Spectral(nn.Module):
    """Complex weights that multiply what a Fourier transform made of a real input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4, 5, dtype=torch.cfloat))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bif,iof->bof", torch.fft.rfft(x), self.weight)


def test_an_input_is_real_unless_it_is_asked_for() -> None:
    """Complex weights say nothing of the input; where it has to be complex, the help says how to give it."""
    report = analyze(Spectral(), "Nx3x8", batch=2, counters="none")
    assert report.model.inputs[0].dtype == "float32"
    assert report.totals.macs == 2 * 3 * 4 * 5
    layer = nn.Conv2d(3, 4, 3, dtype=torch.cfloat)
    with pytest.raises(ConvstatError) as raised:
        analyze(layer, "3x8x8", counters="none")
    assert "3x224x224:complex64" in str(raised.value)
    assert analyze(layer, "3x8x8:complex64", counters="none").totals.macs == 4 * 3 * 3 * 3 * 6 * 6


@pytest.mark.parametrize("device", ["auto", "meta"])
@pytest.mark.parametrize("dtype", ["complex64", "float64", "int64"])
@pytest.mark.parametrize("layer", [nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Conv1d(3, 4, 3)])
def test_numbers_that_no_device_multiplies_are_refused(layer: nn.Module, dtype: str, device: str) -> None:
    """Meta takes a product of operands of any two dtypes; no CPU does, so there is nothing to count."""
    with pytest.raises(ConvstatError, match=r"dtype|should be the same"):
        analyze(layer, f"3x8:{dtype}", counters="none", device=device)
