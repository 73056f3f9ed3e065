"""The blocks that come with convstat, written in the grammar that they are used in; read when one is named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from convstat.errors import Mark, SourceText
from convstat.spec.load import Map, load

NAMES = ("DepthwiseSeparableConv", "SpatiallySeparableConv", "ACBlock", "InvertedResidual", "SqueezeExcitation")
"""Their names, known without reading them."""

FILE = Path(__file__).with_name("blocks.yaml")

SOURCE = f"convstat/spec/{FILE.name}"
"""What their file is called in messages."""


ODD = {"ACBlock": "kernel_size"}
"""Parameters that must be odd: a kernel of another size has no middle for its vertical and horizontal ones."""


@cache
def trees() -> Mapping[str, Map]:
    """All of them, uncompiled."""
    tree = load(SourceText(SOURCE, FILE.read_text(encoding="utf-8")))
    assert isinstance(tree, Map)
    return {key.text: value for key, value in tree if isinstance(value, Map)}


def tree(name: str) -> Map | None:
    """One of them, or None where there is no such block."""
    return trees().get(name) if name in NAMES else None


def holds(mark: Mark) -> bool:
    """Whether a place is in one of them, and not in what a user wrote."""
    return mark.source.name == SOURCE
