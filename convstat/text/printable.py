"""Numbers and names as text: exact, whole, and safe to print.

A count is printed with all its digits.
A quotient is printed with enough digits that two different values never look equal to their reference.
A name comes from a file or from somebody's code, so nothing in it may act on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

UNICODE_ELLIPSIS = "…"
ASCII_ELLIPSIS = "..."


def printable(text: str) -> str:
    r"""Write control characters as escapes, so that a name cannot move the cursor or end a line.

    >>> printable("x[/b]:x:|=<script>"), printable("a\x1b[31m\n")
    ('x[/b]:x:|=<script>', 'a\\x1b[31m\\n')
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


_OBJECT = re.compile(r"<(?:[\w<>]+\.)*(\w+) object(?: at 0x[0-9a-fA-F]+)?>")
_CLASS = re.compile(r"<class '([\w.<>]+)'>")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_ASIDE = re.compile(
    r"\s*(?:Hint: |This is (?:almost )?definitely a bug|\(Triggered internally"
    r"|Please (?:report|file) |If you see this).*"
)


def plain(text: str) -> str:
    """Take out of an exception's line what says nothing to its reader: addresses, Python's way of showing objects and
    classes, and what torch tells its own developers.

    >>> plain("no rule for mode <torch.utils.FlopCounterMode object at 0x7f5a>.Hint: set <...>")
    'no rule for mode FlopCounterMode.'
    >>> plain("unsupported type: <class 'generator'>, <generator object Net.forward at 0x7efe>")
    'unsupported type: generator, <generator object Net.forward>'
    """
    return _ASIDE.sub("", _ADDRESS.sub("", _CLASS.sub(r"\1", _OBJECT.sub(r"\1", text))))


_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def harmless(text: str) -> str:
    r"""Write what could act on a terminal as escapes, in a text of several lines: the last look at what goes out.

    >>> harmless("a\tb\n\x1b[2J")
    'a\tb\n\\x1b[2J'
    """
    return _ACTS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shown(text: str, *, ascii: bool = False) -> str:
    r"""Write a text as a terminal may show it: nothing in it acts, and with ``ascii`` all of it is.

    >>> shown("a\x1b[2J"), shown("1 \u2026 2", ascii=True)
    ('a\\x1b[2J', '1 \\u2026 2')
    """
    if not text.isprintable():
        text = harmless(text)
    return text.encode("ascii", "backslashreplace").decode("ascii") if ascii and not text.isascii() else text


_NARROW = frozenset("…·×─│└├█▉▊▋▌▍▎▏")
"""What we draw with; it needs no table of widths."""


def cells(text: str) -> int:
    """Give the number of terminal cells that a text takes, as rich counts them; wide characters take two."""
    if text.isascii() or all(c < "\u0300" or c in _NARROW for c in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut_off(text: str, width: int, ellipsis: str = UNICODE_ELLIPSIS) -> str:
    """Cut a sentence at its end, between two words where there are any.

    >>> cut_off("kernel_size: 3 -> 5, padding: 1 -> 2", 26, "...")
    'kernel_size: 3 -> 5...'
    """
    if cells(text) <= width:
        return text
    kept = text
    while kept and cells(kept) + len(ellipsis) > width:
        kept = kept[:-1]
    words = kept.rpartition(", ")[0] or kept.rpartition(" ")[0]
    return (words.rstrip(" ,:") or kept) + ellipsis if width > len(ellipsis) else ellipsis[:width]


def shorten(text: str, width: int, ellipsis: str = UNICODE_ELLIPSIS) -> str:
    """Shorten a name in its middle: both the outermost block and the layer itself stay readable.

    >>> shorten("backbone.stage3.pointwise", 14, "...")
    'backb...ntwise'
    >>> shorten("conv1", 14)
    'conv1'

    A number in it is there whole or not at all, because a part of one is another number:

    >>> shorten("features.1024.conv", 14, "...")
    'featu....conv'
    """
    if cells(text) <= width:
        return text
    room = width - len(ellipsis)
    if room < 2:
        return ellipsis[:width]
    head, tail = text, ""
    while cells(head) > room // 2:
        head = head[:-1]
    rest = text[len(head) :]
    tail = rest
    while cells(tail) > room - cells(head):
        tail = tail[1:]
    head, tail = _whole_numbers(text, head, tail)
    return head + ellipsis + tail


def _whole_numbers(text: str, head: str, tail: str) -> tuple[str, str]:
    """Take from the ends of a shortened text what is only a part of a number."""
    start, end = len(head), len(text) - len(tail)
    for match in re.finditer(r"\d+(?:[.,]\d+)*", text):
        if match.start() < start < match.end():
            start = match.start()
        if match.start() < end < match.end():
            end = match.end()
    # A name of digits only has no other part to show.
    return (text[:start], text[end:]) if start or end < len(text) else (head, tail)


def without_aside(text: str, width: int) -> str:
    """Leave away what stands in brackets behind a name, where it has no room.

    >>> without_aside("total (175 layers)", 10), without_aside("total (175 layers)", 18)
    ('total', 'total (175 layers)')
    """
    head, bracket, _ = text.partition(" (")
    return head if bracket and text.endswith(")") and cells(head) <= width < cells(text) else text


def exact(number: int | None) -> str:
    """Write a count with all its digits, in groups of three; a dash where there is none.

    >>> exact(4089184256), exact(None)
    ('4,089,184,256', '-')
    """
    return "-" if number is None else f"{number:,}"


def counted(number: int, word: str) -> str:
    """Write how many there are of something.

    >>> counted(1, "layer"), counted(1234, "layer")
    ('1 layer', '1,234 layers')
    """
    return f"{number:,} {word}{'s' if number != 1 else ''}"


def signed(number: int | None) -> str:
    """Write a difference with its sign; ``=`` where there is none.

    >>> signed(43252712), signed(-1), signed(0), signed(None)
    ('+43,252,712', '-1', '=', '-')
    """
    if number is None:
        return "-"
    return f"{number:+,}" if number else "="


def significant(value: Fraction | int, decimals: int, *, least: int = 2) -> str:
    """Write a quotient with some decimals, or with more where fewer than ``least`` digits of it would be seen.

    >>> significant(Fraction(1, 3), 2), significant(Fraction(1, 30000), 2), significant(0, 2)
    ('0.33', '0.000033', '0')
    """
    return quotient(value.numerator, value.denominator, decimals, least=least)


MOST_DECIMALS = 30


def quotient(above: int, below: int, decimals: int, *, least: int = 2) -> str:
    """Write ``above / below`` as ``significant`` does; in integers all the way, since sweeps write many of them.

    >>> quotient(2, 3, 2), quotient(-12345, 10, 1), quotient(7, 1, 0)
    ('0.67', '-1,234.5', '7')
    """
    if not above:
        return "0"
    size = abs(above)
    while size % below and decimals < MOST_DECIMALS and size * 10**decimals < below * 10 ** (least - 1):
        decimals += 1
    scaled = rounded(size, below, decimals)
    whole, part = divmod(scaled, 10**decimals)
    sign = "-" if above < 0 and scaled else ""
    return f"{sign}{whole:,}.{part:0{decimals}d}" if decimals else f"{sign}{whole:,}"


def rounded(above: int, below: int, decimals: int) -> int:
    """Give ``above / below`` in units of its last decimal, half to even.

    >>> rounded(1, 8, 2), rounded(3, 8, 2), rounded(2, 3, 0)
    (12, 38, 1)
    """
    # A power of an int is Any to mypy, because its exponent might be negative.
    shifted: int = above * 10**decimals
    whole, rest = divmod(shifted, below)
    up = 2 * rest > below or (2 * rest == below and whole % 2 == 1)
    return whole + up


def mib(size: int) -> str:
    """Bytes in MiB.

    >>> mib(114_396_672), mib(1000)
    ('109.10', '0.00095')
    """
    return significant(Fraction(size, 2**20), 2)


def change(ratio: Fraction | None) -> str:
    """Write a ratio as a change in percent; ``=`` only where nothing changed at all.

    >>> change(Fraction(1, 2)), change(Fraction(10001, 10000)), change(Fraction(1)), change(Fraction(0))
    ('-50.0%', '+0.010%', '=', '-100%')
    >>> change(Fraction(1, 1000000)), change(None)
    ('-99.9999%', '-')
    """
    if ratio is None:
        return "-"
    above, below = ratio.numerator, ratio.denominator
    if above == below:
        return "="
    if not above:
        return "-100%"
    percent = 100 * (above - below)
    decimals = 1 if abs(percent) >= 10 * below else 2
    # -99.99995 % is not -100 %: something is left.
    while percent < 0 and decimals < MOST_DECIMALS and rounded(-percent, below, decimals) == 100 * 10**decimals:
        decimals += 1
    return f"{'+' if percent > 0 else ''}{quotient(percent, below, decimals)}%"


def factor(ratio: Fraction | None) -> str:
    """Write a ratio as a factor; ``=`` only where it is exactly one.

    >>> factor(Fraction(1, 2)), factor(Fraction(1)), factor(Fraction(100001, 100000)), factor(Fraction(1, 900))
    ('x0.50', '=', 'x1.00001', 'x0.0011')
    """
    if ratio is None:
        return "-"
    above, below = ratio.numerator, ratio.denominator
    if above == below:
        return "="
    decimals = 2
    while decimals < MOST_DECIMALS and rounded(above, below, decimals) == 10**decimals:
        decimals += 1
    return f"x{quotient(above, below, decimals)}"


def share(part: int, whole: int) -> str:
    """Write a part of a whole in percent; something never looks like nothing, nor like everything.

    >>> share(1, 3), share(0, 3), share(3, 3), share(1, 1000000), share(999999, 1000000)
    ('33.3%', '0%', '100%', '<0.1%', '>99.9%')
    """
    if not part or not whole:
        return "0%"
    if part == whole:
        return "100%"
    tenths = rounded(100 * part, whole, 1)
    return {0: "<0.1%", 1000: ">99.9%"}.get(tenths) or f"{tenths // 10}.{tenths % 10}%"


def apart(value: Fraction | int, other: Fraction | int) -> str:
    """Write a value so that it never reads the same as another one that it differs from.

    >>> apart(Fraction(100000001, 1000), 100000), apart(5, 5)
    ('100,000.001', '5')
    """
    if value == int(value):
        return exact(int(value))
    decimals = 2
    while decimals < MOST_DECIMALS and value != other and round(value * 10**decimals) == round(other * 10**decimals):
        decimals += 1
    return significant(value, decimals)


class Scale(NamedTuple):
    """The one unit of a column of quotients: its name, what it divides by, and its decimals."""

    title: str
    divisor: int
    decimals: int

    def write(self, value: Fraction | None) -> str:
        """Write one value of the column."""
        if value is None:
            return "-"
        return quotient(value.numerator, value.denominator * self.divisor, self.decimals)


def per_pixel_scale(values: Sequence[Fraction | None]) -> Scale:
    """Choose one unit for a column of MACs/pixel: the largest value shows about six digits.

    >>> scale = per_pixel_scale([Fraction(568740352, 50176), Fraction(32, 10)])
    >>> scale.title, scale.write(Fraction(568740352, 50176)), scale.write(Fraction(32, 10))
    ('kMACs/pixel', '11.3349', '0.0032')
    """
    largest = max((value for value in values if value is not None), default=Fraction(0))
    prefix, divisor = "", 1
    for name, size in (("k", 10**3), ("M", 10**6), ("G", 10**9), ("T", 10**12)):
        if largest >= 10 * size:
            prefix, divisor = name, size
    if divisor == 1 and all(value is None or value.denominator == 1 for value in values):
        return Scale("MACs/pixel", 1, 0)
    digits = len(str(int(largest / divisor)))
    return Scale(f"{prefix}MACs/pixel", divisor, max(2, 6 - digits))


_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(part: int, whole: int, width: int, *, ascii: bool = False) -> str:
    """Draw a part of a whole; something is never drawn as nothing.

    >>> bar(1, 2, 8), bar(1, 2, 8, ascii=True), bar(1, 1000, 8), bar(0, 1, 8)
    ('████', '####', '▏', '')
    """
    if part <= 0 or whole <= 0:
        return ""
    if ascii:
        return "#" * max(1, round(Fraction(part * width, whole)))
    eighths = max(1, round(Fraction(8 * part * width, whole)))
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def show_shapes(shapes: Iterable[Sequence[int]]) -> str:
    """Write shapes with their batch left out, as ``--input`` takes them.

    >>> show_shapes([(1, 64, 56, 56)]), show_shapes([(1,), (1, 10)])
    ('64x56x56', 'scalar, 10')
    """
    return ", ".join("x".join(map(str, shape[1:])) or "scalar" for shape in shapes)
