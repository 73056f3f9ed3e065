"""The blocks that come with convstat, written in the grammar that they are used in; read when one is named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from convstat.errors import Mark, SourceText
from convstat.spec.load import Map, Tree, load, unless_null

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


def params(block: Map) -> dict[str, Tree | None]:
    """The parameters of a block, shipped or of a spec, and their defaults; None where it must be given.

    >>> {name for name, default in params(trees()["ACBlock"]).items() if default is None}
    {'out_channels'}
    """
    written = block.get("params")
    if not isinstance(written, Map):
        return {}
    return {key.text: unless_null(value) for key, value in written}


def defaults(name: str) -> dict[str, str | None]:
    """The parameters of a shipped block and their defaults as they are written; None where it must be given."""
    found = params(trees()[name])
    return {key: None if value is None else getattr(value, "text", "-") for key, value in found.items()}


def holds(mark: Mark) -> bool:
    """Whether a place is in one of them, and not in what a user wrote."""
    return mark.source.name == SOURCE
