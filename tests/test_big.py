"""Networks that no single machine holds are counted in the memory of a torch import and little more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import big_models
import pytest

HERE = Path(__file__).parent
GIB = 2**30

# A process's own peak: what the child reports of itself, since the kernel's figure for children includes the parent's.
PEAK = """
import runpy, sys
from convstat.cli import main
sys.argv[0] = "convstat"
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), file=sys.stderr)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def counted(*arguments: str) -> tuple[dict[str, int], int]:
    """The totals that convstat gives, and the peak memory of its process in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "analyze", *arguments, "--counters", "none", "-f", "json", "-q"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr
    totals: dict[str, int] = json.loads(done.stdout)["totals"]
    return totals, int(done.stderr.split()[-1])


def test_a_decoder_of_405_billion_parameters_is_counted_under_two_gibibytes() -> None:
    """Llama 3.1 405B: embedding and output, and in each of 126 layers 4 projections, 3 of the MLP, 2 norms."""
    totals, peak = counted("big_models.py:Llama", "--input", "ids=1x2048:int64")
    dim, hidden, kv, vocabulary = 16384, 53248, 8 * 128, 128256
    products = dim * dim + 2 * dim * kv + dim * dim + 3 * dim * hidden
    assert 2 * vocabulary * dim + 126 * (products + 2 * dim) + dim == totals["params"]
    assert 405_853_388_800 == totals["params"]
    # The look-up is free; scores and weighted sum are not halved by the causal mask.
    attention = 2 * 2048 * 2048 * dim
    assert 126 * (2048 * products + attention) + 2048 * dim * vocabulary == totals["macs"]
    assert peak < 2 * GIB


def test_a_vision_transformer_of_22_billion_parameters_is_counted_under_two_gibibytes() -> None:
    """ViT-22B's sizes: 6144 wide, 48 blocks, an MLP of 24576."""
    totals, peak = counted("big_models.py:ViT22B", "--input", "3x224x224")
    dim, hidden = 6144, 24576
    block = dim + 3 * dim * dim + 2 * 128 + (dim * dim + dim) + (dim * hidden + hidden) + (hidden * dim + dim)
    ends = (dim * 3 * 14 * 14 + dim) + 256 * dim + 2 * dim + (dim * 1000 + 1000)
    assert 48 * block + ends == totals["params"]
    assert 21.7e9 < totals["params"] < 21.8e9
    assert peak < 2 * GIB


def test_a_network_whose_constructor_computes_is_counted_under_two_gibibytes() -> None:
    """regnet_y_128gf reads values while it is made, and weighs 2.4 GiB."""
    totals, peak = counted("torchvision/regnet_y_128gf")
    assert 644_812_894 == totals["params"]
    assert peak < 2 * GIB


LLAMAS = {
    "8b": (4096, 32, 32, 8, 14336, 8_030_261_248),
    "70b": (8192, 80, 64, 8, 28672, 70_553_706_496),
}
"""Width, layers, heads, heads of keys and values, width of the MLP; and the parameters that are published."""


@pytest.fixture(scope="session")
def import_peaks() -> Callable[[str], int]:
    """The peak memory of a process that only imports some libraries."""

    @cache
    def peak(libraries: str) -> int:
        code = f"import {libraries}\nlines = open('/proc/self/status').read().splitlines()\n"
        code += "print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM')))"
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    return peak


@pytest.mark.parametrize("way", ["", "_that_reads", "_that_reads_as_it_is_made"])
@pytest.mark.parametrize("size", LLAMAS)
def test_a_function_that_makes_a_large_model_is_counted_within_a_gibibyte(
    size: str, way: str, import_peaks: Callable[[str], int]
) -> None:
    """Whether it reads values or not: of memory that its process holds at its peak, above what imports take."""
    name = f"llama_{size}{way}"
    if not hasattr(big_models, name):
        pytest.skip("one size does for it")
    totals, peak = counted(f"big_models.py:{name}", "--input", "ids=1x128:int64")
    dim, layers, heads, kv_heads, hidden, params = LLAMAS[size]
    kv, vocabulary = kv_heads * dim // heads, 128256
    products = 2 * dim * dim + 2 * dim * kv + 3 * dim * hidden
    assert 2 * vocabulary * dim + layers * (products + 2 * dim) + dim == totals["params"] == params
    assert layers * (128 * products + 2 * 128 * 128 * dim) + 128 * dim * vocabulary == totals["macs"]
    assert peak - import_peaks("torch") < GIB


def test_sixty_layers_and_a_value_are_counted_within_a_gibibyte(import_peaks: Callable[[str], int]) -> None:
    """The weights alone take 3.75 GiB."""
    totals, peak = counted("big_models.py:Sixty", "--input", "4096")
    assert 60 * (4096 * 4096 + 4096) == totals["params"]
    assert 60 * 4096 * 4096 == totals["macs"]
    assert peak - import_peaks("torch") < GIB


def test_constants_of_any_size_are_counted_within_a_gibibyte(import_peaks: Callable[[str], int]) -> None:
    """Six GiB of them, and four of parameters that are made before they are registered."""
    totals, peak = counted("big_models.py:KeepsTables", "--input", "4096")
    assert 60 * 4096 * 4096 == totals["macs"] == totals["params"]
    assert peak - import_peaks("torch") < GIB


@pytest.mark.parametrize("depth", [10, 10_000])
def test_a_chain_of_any_depth_is_counted(depth: int) -> None:
    """No part of the way recurses with the depth of the network."""
    totals, _ = counted("big_models.py:Chain", f"depth={depth}", "--input", "4x8x8")
    assert depth * (4 * 4 * 3 * 3 + 4) == totals["params"]
    assert depth * 4 * 8 * 8 * 4 * 3 * 3 == totals["macs"]
