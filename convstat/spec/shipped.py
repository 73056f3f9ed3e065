"""The blocks shipped with convstat, written in the grammar of specs; the file is read when one is named."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from convstat.errors import Mark, SourceText
from convstat.spec.load import Map, Tree, load, unless_null

NAMES = ("DepthwiseSeparableConv", "SpatiallySeparableConv", "ACBlock", "InvertedResidual", "SqueezeExcitation")
"""Their names, known without reading the file."""

FILE = Path(__file__).with_name("blocks.yaml")

SOURCE = f"convstat/spec/{FILE.name}"
"""What their file is called in messages."""

ODD = {"ACBlock": "kernel_size"}
"""Parameters that must be odd: a kernel of another size has no middle for its vertical and horizontal ones."""


@cache
def trees() -> Mapping[str, Map]:
    """All of them by name, uncompiled."""
    tree = load(SourceText(SOURCE, FILE.read_text(encoding="utf-8")))
    assert isinstance(tree, Map)
    return {key.text: value for key, value in tree if isinstance(value, Map)}


def params(block: Map) -> dict[str, Tree | None]:
    """The parameters of a block, shipped or not, and their defaults; a required one has None.

    >>> {name for name, default in params(trees()["ACBlock"]).items() if default is None}
    {'out_channels'}
    """
    written = block.get("params")
    if not isinstance(written, Map):
        return {}
    return {key.text: unless_null(value) for key, value in written}


def defaults(name: str) -> dict[str, str | None]:
    """The parameters of a shipped block and their defaults as text; a required one has None."""
    found = params(trees()[name])
    return {key: None if value is None else getattr(value, "text", "-") for key, value in found.items()}


def note(name: str) -> str:
    """The note of a shipped block, or an empty text."""
    return getattr(trees()[name].get("note"), "text", "")


def holds(mark: Mark) -> bool:
    """Whether a place is in their file, and not in the user's."""
    return mark.source.name == SOURCE
