"""What only some versions of torch have: the tests run beside the oldest that is allowed, too (``make compat``)."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

TORCH = Version(version("torch"))


def has_torch(oldest: str) -> bool:
    """Whether torch is of that version or newer."""
    return Version(oldest) <= TORCH


def since(oldest: str, why: str) -> pytest.MarkDecorator:
    """Skip a test where torch is older than what the test is about."""
    return pytest.mark.skipif(not has_torch(oldest), reason=f"torch {oldest} has {why}; here is {TORCH}")


def needs_grouped_queries(name: str) -> None:
    """Skip a probe that is named for attention with fewer heads for keys than for queries, before torch 2.5."""
    if ("gqa" in name or name == "sdpa of groups") and not has_torch("2.5"):
        pytest.skip(f"torch 2.5 has enable_gqa; here is {TORCH}")
