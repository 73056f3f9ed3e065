"""What is said of the kinds of layers and of the blocks: why a formula is so, special cases, and the source.

The words are in ``notes.yaml``, which is read when a formula in general is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from convstat.formulas.notes import Form, Notes

FILE = Path(__file__).with_name("notes.yaml")


class Block(NamedTuple):
    """A block: its sum, and what is said of it."""

    about: str
    macs: tuple[Form, ...]
    params: tuple[Form, ...]
    notes: Notes


def of_kind(name: str, family: str) -> Notes:
    """The notes of a kind, by its name without its number of dimensions; without any, those of its family.

    >>> of_kind("Embedding", "linear").why
    ('A row of the table is copied, not multiplied.',)
    """
    found = _read()
    return _notes(found["kinds"].get(name) or found["families"].get(family) or {"why": ()})


def of_block(name: str) -> Block:
    """The sum of a block that comes with convstat, and its notes."""
    found = _read()["blocks"][name]
    return Block(found["about"], _forms(found["macs"]), _forms(found["params"]), _notes(found))


@cache
def _read() -> Mapping[str, Mapping[str, Any]]:
    import yaml

    text = FILE.read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Any]] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


def _notes(found: Mapping[str, Any]) -> Notes:
    special = tuple(found.get("special", {}).items())
    return Notes(tuple(found["why"]), special, tuple(found.get("sources", ())), found.get("output", ""))


def _forms(found: list[Mapping[str, Any]]) -> tuple[Form, ...]:
    return tuple(Form(**{**form, "needs": tuple(form.get("needs", ()))}) for form in found)
