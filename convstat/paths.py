"""What of a target is a path in the working tree."""

from __future__ import annotations

import re


def split_file(argument: str) -> tuple[str | None, str]:
    """Take the file out of a target, and give what is behind it; None where it names no file of the working tree.

    >>> split_file("nets/unet.py:UNet"), split_file("net.yaml#small"), split_file("main:net.yaml")
    (('nets/unet.py', ':UNet'), ('net.yaml', '#small'), (None, ''))
    """
    if match := re.fullmatch(r"(.+\.py)(:[^:]+)", argument):
        return match[1], match[2]
    path, mark, variant = argument.partition("#")
    is_file = path.endswith((".yaml", ".yml", ".json")) and ":" not in path
    return (path, mark + variant) if is_file else (None, "")
