"""The peak memory that is predicted on meta, beside the peak of active bytes on a GPU: a table of differences.

    python tests/device/memory.py [--device cuda|cpu] [--seconds 330] [--nets NAME,...] [--batches 2,8] [--size 224]

Each network of torchvision is run in inference, in training with SGD and with AdamW, and with checkpoints, at each of
two batches. On a GPU the truth is ``torch.cuda.memory_stats()["active_bytes.all.peak"]``; without one, ``--device cpu``
takes the sum of the storages that a ledger of the tests sees, to try the script itself. The difference has two parts:
the allocator's rounding of each storage up to 512 bytes, which is computed, and the rest, the workspaces of kernels.
The last line gives the median and the largest difference.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

NETS = """
    alexnet vgg11 vgg16_bn resnet18 resnet50 resnet152 wide_resnet50_2 resnext50_32x4d densenet121 densenet201
    squeezenet1_1 inception_v3 googlenet mobilenet_v2 mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x1_0
    mnasnet1_0 efficientnet_b0 efficientnet_b3 efficientnet_v2_s regnet_y_400mf regnet_x_3_2gf convnext_tiny
    convnext_small vit_b_16 vit_b_32 swin_t swin_v2_t maxvit_t
""".split()  # noqa: SIM905 - a list of names is read as words

ROUNDING = 512
"""Bytes to which the allocator of CUDA rounds each storage up."""


class Row(NamedTuple):
    """One run: bytes that were predicted, those with each storage rounded up, and those that there were."""

    net: str
    way: str
    batch: int
    predicted: int
    rounded: int
    real: int

    @property
    def error(self) -> float:
        """The difference that rounding does not explain, as a part of what there was."""
        return (self.rounded - self.real) / self.real


def ways(device: str) -> dict[str, Any]:
    """The four ways of running a network."""
    from convstat.trace.training import Step, Way

    halves = frozenset({"layer1", "layer2", "layer3", "features.2", "features.3", "encoder.layers.encoder_layer_3"})
    return {
        "infer": Way(None, device),
        "sgd": Way(Step("momentum"), device),
        "adamw": Way(Step("adamw"), device),
        "checkpoint": Way(Step("none"), device, None, halves),
    }


def predicted(make: Callable[[], Any], shape: tuple[int, ...], way: Any) -> tuple[int, int]:
    """The peak on meta, as it is and with each storage rounded up."""
    import torch

    from convstat.trace.training import follow

    with torch.device("meta"):
        model, image = make(), torch.empty(shape)
    lifetimes, _ = follow(model, (image,), None, way)
    return max(lifetimes.curve()), max(lifetimes.curve(ROUNDING))


def on_cuda(make: Callable[[], Any], shape: tuple[int, ...], way: Any) -> int:
    """The peak of active bytes, of the second of two runs: in the first, libraries set themselves up."""
    import gc

    import torch

    from convstat.trace.training import follow

    cuda: Any = torch.cuda
    before = 0
    for _ in range(2):
        gc.collect()
        cuda.empty_cache()
        before = cuda.memory_stats()["active_bytes.all.current"]
        cuda.reset_peak_memory_stats()
        with torch.device("cuda"):
            model, image = make(), torch.zeros(shape)
        follow(model, (image,), None, way)
        peak: int = cuda.memory_stats()["active_bytes.all.peak"] - before
        del model, image
    return peak


def on_cpu(make: Callable[[], Any], shape: tuple[int, ...], way: Any) -> int:
    """The sum of the storages that the tests' own ledger sees."""
    import torch
    from test_lifetimes import real_curve

    return max(real_curve(make(), (torch.zeros(shape),), way))


def measure(device: str, nets: list[str], batches: list[int], size: int, until: float) -> Iterator[Row]:
    """Run until the time is up."""
    from functools import partial

    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    import torchvision

    real = on_cuda if device == "cuda" else on_cpu
    for name in nets:
        make = partial(torchvision.models.get_model, name, weights=None)
        for way, how in ways(device).items():
            for batch in batches:
                if time.monotonic() > until:
                    return
                side = 299 if name == "inception_v3" else max(size, 224) if name.startswith(("vit", "maxvit")) else size
                shape = (batch, 3, side, side)
                try:
                    yield Row(name, way, batch, *predicted(make, shape, how), real(make, shape, how))
                except Exception as error:
                    print(f"{name} {way} {batch}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)


def main() -> int:
    """Print the table; 1 where the median exceeds 2 % or the largest difference 5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=330.0)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--batches", default="2,8")
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    batches = [int(batch) for batch in given.batches.split(",")]
    rows = []
    print(f"{'net':<20} {'run':<10} {'batch':>5} {'predicted':>14} {'rounding':>10} {'real':>14} {'rest':>12} {'%':>7}")
    for row in measure(given.device, given.nets.split(","), batches, given.size, until):
        rows.append(row)
        print(
            f"{row.net:<20} {row.way:<10} {row.batch:>5} {row.predicted:>14,} {row.rounded - row.predicted:>10,} "
            f"{row.real:>14,} {row.real - row.rounded:>12,} {100 * row.error:>7.2f}",
            flush=True,
        )
    if not rows:
        print("nothing was measured", file=sys.stderr)
        return 1
    errors = sorted(abs(row.error) for row in rows)
    print(f"{len(rows)} runs: median {100 * median(errors):.2f} %, largest {100 * errors[-1]:.2f} %")
    return int(median(errors) > 0.02 or errors[-1] > 0.05)


if __name__ == "__main__":
    sys.exit(main())
