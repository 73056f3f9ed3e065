"""The pools of small models: each made to be odd in one way, with the inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jit_probes import JIT
from measured_probes import MEASURED, example
from probe_pool import MORE, PROBES
from torch import nn
from versions import needs_grouped_queries

Probe = tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]

POOLS: dict[str, Mapping[str, Probe]] = {"probes": PROBES, "more": MORE, "measured": MEASURED, "jit": JIT}
MODELS = [(pool, name) for pool, probes in POOLS.items() for name in probes]


def made(pool: str, name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """A model and its inputs, on the CPU."""
    if pool == "measured":
        return example(name)
    needs_grouped_queries(name)
    torch.manual_seed(0)
    make, shapes = POOLS[pool][name]
    return make(), tuple(torch.rand(shape) for shape in shapes)
