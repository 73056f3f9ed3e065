"""Wildcards, in one grammar wherever a pattern may stand: layers, models, files, variants and the names of lists.

``*`` and ``?`` stay within a level, ``**`` goes across levels; nothing else has a special meaning.
Levels are parted by dots in the names of layers, and by slashes elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from convstat.errors import UsageError

HELP = "* and ? stay within a level, ** goes across levels"

MOST_ENTRIES = 200_000
"""How many files and folders are looked at for one pattern."""


def is_pattern(text: str) -> bool:
    """Whether a text has wildcards.

    >>> is_pattern("configs/*.yaml"), is_pattern("net.yaml")
    (True, False)
    """
    return "*" in text or "?" in text


@lru_cache(maxsize=512)
def pattern(text: str, separator: str) -> re.Pattern[str]:
    """Compile a pattern: ``*`` and ``?`` within a level, ``**`` across levels, also across none."""
    level = f"[^{re.escape(separator)}]"
    join = re.escape(separator)
    compiled = ""
    parts = text.split(separator)
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        if part == "**":
            # "a.**" is a and all below it; "**.b" is b at any depth.
            if not last:
                compiled += f"(?:{level}+{join})*"
            elif compiled:
                compiled = f"{compiled.removesuffix(join)}(?:{join}.+)?"
            else:
                compiled = ".+"
        else:
            compiled += "".join(f"{level}*" if c == "*" else level if c == "?" else re.escape(c) for c in part)
            compiled += "" if last else join
    return re.compile(compiled, re.DOTALL)


def matching(text: str, names: Sequence[str], separator: str = "/") -> list[str]:
    """Give the names that a pattern stands for, in their order.

    >>> matching("layer1.*", ["layer1.conv", "layer1.0.conv"], "."), matching("res*18", ["resnet18", "resnet50"])
    (['layer1.conv'], ['resnet18'])
    """
    compiled = pattern(text, separator)
    return [name for name in names if compiled.fullmatch(name)]


def files(text: str) -> list[str]:
    """Give the files that a pattern of paths stands for, in the order of their names.

    As a shell does, it passes hidden files and folders over unless the pattern names them.
    """
    parts = os.path.normpath(text).replace(os.sep, "/").split("/")
    fixed = next((i for i, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    folder = "/".join(parts[:fixed]) or ("/" if text.startswith("/") else "")
    budget = [MOST_ENTRIES]
    found = sorted(_walk(folder, parts[fixed:], budget))
    if budget[0] < 0:
        raise UsageError(
            f"the pattern '{text}' goes through more than {MOST_ENTRIES:,} files and folders",
            help="start it with a directory",
        )
    return found


def _walk(folder: str, parts: Sequence[str], budget: list[int]) -> Iterator[str]:
    first, *rest = parts
    if first == "**" and rest:
        yield from _walk(folder, rest, budget)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        budget[0] -= 1
        if budget[0] < 0:
            return
        hidden = entry.name.startswith(".") and not first.startswith(".")
        if hidden or not (first == "**" or pattern(first, "/").fullmatch(entry.name)):
            continue
        path = os.path.join(folder, entry.name) if folder else entry.name
        if first == "**":
            # A link may lead back to where one came from.
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(path, parts, budget)
            elif not rest and entry.is_file():
                yield path
        elif rest and entry.is_dir():
            yield from _walk(path, rest, budget)
        elif not rest and entry.is_file():
            yield path
