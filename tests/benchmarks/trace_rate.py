"""Prints, as JSON, what a trace on meta costs: against FlopCounterMode on CPU, and by the depth of the network."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def against_flop_counter(name: str, runs: int = 7) -> float:
    """The ratio of trace and count on meta to FlopCounterMode on CPU, as the median over pairs of runs."""
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    import torch
    import torchvision
    from torch.utils.flop_counter import FlopCounterMode

    import convstat

    with torch.device("meta"):
        bare = torchvision.models.get_model(name, weights=None)
    full = torchvision.models.get_model(name, weights=None).eval()
    image = torch.rand(1, 3, 224, 224)

    def ours() -> None:
        convstat.analyze(bare, inputs=(torch.empty(1, 3, 224, 224, device="meta"),))

    def theirs() -> None:
        with FlopCounterMode(display=False):
            full(image)

    ours(), theirs()
    return median(seconds(ours) / seconds(theirs) for _ in range(runs))


def by_depth(depth: int) -> float:
    """Seconds for each convolution of a chain, the best of three: what disturbs a run only adds to it."""
    import torch
    from big_models import Chain

    import convstat

    with torch.device("meta"):
        chain = Chain(depth)
    image = torch.empty(1, 4, 8, 8, device="meta")
    return min(seconds(lambda: convstat.analyze(chain, inputs=(image,))) for _ in range(3)) / depth


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    by_depth(10)
    print(
        json.dumps(
            {
                "ratios": {
                    name: against_flop_counter(name) for name in ("resnet50", "vit_b_16", "swin_v2_b", "densenet201")
                },
                "per_layer": {str(depth): by_depth(depth) for depth in (10, 100, 1000, 10_000)},
            }
        )
    )


if __name__ == "__main__":
    main()
