"""The specs that come with convstat: examples of real networks, and starters for one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

STARTERS = ("plain", "residual", "mobile")
"""The networks that ``convstat init`` writes to start from, by name."""

_PACKAGE = Path(__file__).resolve().parent.parent
# In a clone, a link to the folder at the top; where git made no link, that folder itself.
_FOLDER = next((folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir()), _PACKAGE)

_FOR_EDITORS = "# yaml-language-server:"


def files() -> Mapping[str, Path]:
    """The files of the examples, by name.

    >>> "resnet50" in files()
    True
    """
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def example(name: str) -> str:
    """The text of an example, without the line that points editors to the schema in a clone."""
    text = files()[name].read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(_FOR_EDITORS))


def starter(name: str) -> str:
    """The text of a starter."""
    return (_PACKAGE / "spec" / "starters" / f"{name}.yaml").read_text(encoding="utf-8")


def about(path: Path) -> str:
    """The first sentence of the comment that a spec starts with."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.lstrip("#").strip()
        if not line.startswith("#") or (words and not text):
            break
        if text and not line.startswith(_FOR_EDITORS):
            words.append(text)
    sentence, _, _ = " ".join(words).partition(". ")
    return sentence.rstrip(".:")
