"""What of a target is a path in the working tree."""

from __future__ import annotations

import os
import re

FILES = (".yaml", ".yml", ".json")
"""What the files end with that are targets by themselves."""


def split_variant(argument: str) -> tuple[str, str | None]:
    """Take the variant off a target; a name that ends as files do has none, whatever else is in it.

    >>> split_variant("net.yaml#small"), split_variant("torchvision/resnet18"), split_variant("./a#b.yaml")
    (('net.yaml', 'small'), ('torchvision/resnet18', None), ('./a#b.yaml', None))
    """
    if argument.endswith(FILES):
        return argument, None
    path, mark, variant = argument.rpartition("#")
    return (path, variant) if mark else (argument, None)


def is_plain(path: str) -> bool:
    """Whether a path is one by itself: no revision is before its colon."""
    return ":" not in path or path.startswith((".", os.sep, "/"))


def as_target(path: str) -> str:
    """Write a path so that it names the file wherever a target may stand.

    >>> as_target("net.yaml"), as_target("a=b.yaml"), as_target("a:b.yaml"), as_target("/a:b.yaml")
    ('net.yaml', './a=b.yaml', './a:b.yaml', '/a:b.yaml')
    """
    is_odd = (":" in path or "=" in path) and not path.startswith((".", os.sep, "/"))
    return f"./{path}" if is_odd else path


def split_file(argument: str) -> tuple[str | None, str]:
    """Take the file out of a target, and give what is behind it; None where it names no file of the working tree.

    >>> split_file("nets/unet.py:UNet"), split_file("net.yaml#small"), split_file("main:net.yaml")
    (('nets/unet.py', ':UNet'), ('net.yaml', '#small'), (None, ''))
    """
    if match := re.fullmatch(r"(.+\.py)(:[^:]+)", argument):
        return match[1], match[2]
    path, variant = split_variant(argument)
    if not (path.endswith(FILES) and is_plain(path)):
        return None, ""
    return path, "" if variant is None else f"#{variant}"
