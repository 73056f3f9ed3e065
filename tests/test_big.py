"""Networks that no single machine holds are counted in the memory of a torch import and little more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("depth", [10, 10_000])
def test_a_chain_of_any_depth_is_counted(depth: int) -> None:
    """No part of the way recurses with the depth of the network."""
    totals, _ = counted("big_models.py:Chain", f"depth={depth}", "--input", "4x8x8")
    assert depth * (4 * 4 * 3 * 3 + 4) == totals["params"]
    assert depth * 4 * 8 * 8 * 4 * 3 * 3 == totals["macs"]
