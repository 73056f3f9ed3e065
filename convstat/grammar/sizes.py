"""The grammar of ``--tokens``, ``--prefill``, ``--decode``, ``--image`` and ``--audio``: inputs by what they are.

::

    tokens  = int                 so many tokens
    prefill = int                 so many tokens, of which the last is the only one whose logits are asked for
    decode  = int "@" int         a step of so many new tokens, with a cache that holds so many
    image   = int "x" int         height and width, as everywhere
    audio   = number "s" | int    seconds, or samples

Beside shapes, one is written with its name and a blank: ``tokens 4096``, ``decode 1@1024``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from convstat.errors import UsageError

NAMES = ("tokens", "prefill", "decode", "image", "audio")
"""What an input can be named by; each is an option too."""

_WRITTEN = rf"(?s)\s*({'|'.join(NAMES)})\s+(.*)"
_COUNT = r"(?a)[1-9]\d{0,8}"

_FORMS = {
    "tokens": ("a number of tokens", "--tokens 4096"),
    "prefill": ("a number of tokens", "--prefill 4096"),
    "decode": ("new tokens and the length of the cache", "--decode 1@1024: one token after 1,024"),
    "image": ("height x width", "--image 224x224"),
    "audio": ("seconds or samples", "--audio 30s, or --audio 480000"),
}

FEWEST_SAMPLES = 100
"""Fewer samples than this were meant to be seconds."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the inputs are that were named; None where nothing is said.

    ``decode`` are the new tokens and the length of the cache, ``image`` is height and width, ``audio`` are seconds (a
    fraction) or samples (an integer).
    """

    tokens: int | None = None
    prefill: int | None = None
    decode: tuple[int, int] | None = None
    image: tuple[int, int] | None = None
    audio: int | Fraction | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """The names of those that are given."""
        return tuple(name for name in NAMES if getattr(self, name) is not None)


def split(text: str) -> tuple[str, str] | None:
    """Take ``tokens 4096`` apart; None for an input that is written as a shape.

    >>> split("tokens 4096"), split("tokens=4096"), split("3x8x8")
    (('tokens', '4096'), None, None)
    """
    found = re.fullmatch(_WRITTEN, text)
    return (found[1], found[2].strip()) if found else None


def parse(name: str, text: str) -> Sizes:
    """Read one of them.

    >>> parse("tokens", "4096").tokens, parse("decode", "1@1024").decode, parse("image", "224x336").image
    (4096, (1, 1024), (224, 336))
    >>> parse("audio", "1.5s").audio, parse("audio", "480000").audio
    (Fraction(3, 2), 480000)
    """
    if name == "tokens" and re.fullmatch(_COUNT, text):
        return Sizes(tokens=int(text))
    if name == "prefill" and re.fullmatch(_COUNT, text):
        return Sizes(prefill=int(text))
    if name == "decode" and (found := re.fullmatch(rf"({_COUNT[4:]})@({_COUNT[4:]}|0)", text, re.ASCII)):
        return Sizes(decode=(int(found[1]), int(found[2])))
    if name == "image" and (found := re.fullmatch(rf"({_COUNT[4:]})[x×]({_COUNT[4:]})", text, re.ASCII)):
        return Sizes(image=(int(found[1]), int(found[2])))
    if name == "image" and re.fullmatch(_COUNT, text):
        return Sizes(image=(int(text), int(text)))
    if name == "audio" and (found := re.fullmatch(r"(?a)(\d{1,9}(?:\.\d{1,9})?)s", text)) and Fraction(found[1]) > 0:
        return Sizes(audio=Fraction(found[1]))
    if name == "audio" and re.fullmatch(_COUNT, text):
        if int(text) < FEWEST_SAMPLES:
            raise UsageError(f"--audio {text} is {text} samples", help=f"for seconds: --audio {text}s")
        return Sizes(audio=int(text))
    what, example = _FORMS[name]
    hint = (f"for one new token after {text}: --decode 1@{text}",) if name == "decode" and text.isdigit() else ()
    raise UsageError(f"--{name} takes {what}, not '{text}'", help=(*hint, f"for example {example}"))


def together(texts: Iterable[str]) -> Sizes:
    """Read all that are among some inputs; refuses what is given twice, and tokens that are asked for in two ways."""
    found = Sizes()
    for text in texts:
        if (parts := split(text)) is None:
            continue
        name, value = parts
        if getattr(found, name) is not None:
            raise UsageError(f"--{name} is given twice")
        found = replace(found, **{name: getattr(parse(name, value), name)})
    if found.prefill is not None and (found.tokens is not None or found.decode is not None):
        other = "--tokens" if found.tokens is not None else "--decode"
        raise UsageError(f"--prefill cannot be combined with {other}", help="count them one after the other")
    return found
