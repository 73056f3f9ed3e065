"""Which positions of an input an output position depends on, along one dimension; exactly, with holes and phases.

A layer is a :class:`Window`: its outputs read the same pattern of inputs, over and over. A convolution with stride 2
has one pattern that moves by two inputs, a transposed one has two patterns that take turns. A :class:`Reach` is what
remains of that after many layers: for each of ``len(phases)`` neighbouring outputs the set of positions of the
network's input, which repeats ``unit`` positions further on. From it follow the receptive field, the jump and the halo.

Positions are those of an endless input: what padding delivers does not depend on it.
Reference: Araujo, Norris and Sim, *Computing Receptive Fields of Convolutional Neural Networks* (Distill, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

MOST_PHASES = 4096
MOST_POSITIONS = 1 << 16


class Window(NamedTuple):
    """Output ``q * len(taps) + r`` reads the inputs ``q * step + tap`` for each tap of ``taps[r]``.

    ``ends`` are input positions by the same rule: an output is there if the input reaches to that one. With padding,
    that is before the last tap; where outputs are cut off, it is behind it.
    """

    step: int
    taps: tuple[tuple[int, ...], ...]
    ends: tuple[int, ...]


SAME = Window(1, ((0,),), (0,))
"""Each output reads the input at its own position."""


def conv(kernel: int, stride: int = 1, before: int = 0, dilation: int = 1, after: int | None = None) -> Window:
    """A convolution or a pooling; ``before`` and ``after`` are the padding, the same unless both are given.

    >>> conv(3, stride=2, before=1)
    Window(step=2, taps=((-1, 0, 1),), ends=(0,))
    """
    taps = tuple(tap * dilation - before for tap in range(kernel))
    return Window(stride, (taps,), (taps[-1] - (before if after is None else after),))


def conv_transpose(kernel: int, stride: int = 1, before: int = 0, dilation: int = 1, more: int = 0) -> Window:
    """A transposed convolution: input ``i`` is spread over the outputs ``i * stride - before + tap * dilation``.

    As many outputs as ``before`` are cut off at the end too, less the ``more`` of an output padding.

    >>> conv_transpose(3, stride=2, before=1).taps
    ((0,), (0, 1))
    """
    found, ends = [], []
    for output in range(stride):
        reached = (output + before - tap * dilation for tap in range(kernel))
        found.append(tuple(sorted(place // stride for place in reached if place % stride == 0)))
        ends.append(-((dilation * (kernel - 1) + more - 2 * before - output) // stride))
    return Window(1, tuple(found), tuple(ends))


def shifted(before: int, after: int = 0) -> Window:
    """A border before and after the input; of a negative one, that much is cut off.

    >>> shifted(2), shifted(-1, -3)
    (Window(step=1, taps=((-2,),), ends=(-2,)), Window(step=1, taps=((1,),), ends=(4,)))
    """
    return Window(1, ((-before,),), (-before - after,))


def resized(mode: str, scale: Fraction) -> Window | None:
    """An interpolation without aligned corners that moves by ``scale`` inputs; None without a short period.

    >>> resized("nearest", Fraction(1, 2)).taps, resized("linear", Fraction(1, 2)).taps
    (((0,), (0,)), ((-1, 0), (0, 1)))
    """
    step, phases = scale.numerator, scale.denominator
    if phases > MOST_PHASES:
        return None
    half, cubic = Fraction(1, 2), mode == "bicubic"
    found: list[tuple[int, ...]] = []
    for output in range(phases):
        if mode.startswith("nearest"):
            found.append((((output + half * (mode == "nearest-exact")) * scale).__floor__(),))
            continue
        place = (output + half) * scale - half
        first = place.__floor__()
        found.append((first,) if place == first else tuple(range(first - cubic, first + 2 + cubic)))
    return Window(step, tuple(found), tuple(((output + 1) * scale).__ceil__() - 1 for output in range(phases)))


class Phase(NamedTuple):
    """The input positions that an output depends on: the first, and a bit for each from there on; no bits for none.

    ``low`` and ``high`` are the input positions from which and up to which a part of the input has to reach, so that
    everything on the way to the output is there, and none of it is padding instead; up to ``there``, the output itself
    is, whatever its value.
    """

    first: int
    bits: int
    low: Fraction
    high: int
    there: int

    def moved(self, by: int) -> Phase:
        """That of the output one or several turns further on."""
        return Phase(self.first + by, self.bits, self.low + by, self.high + by, self.there + by)


class Reach(NamedTuple):
    """The input positions that outputs depend on: of ``len(phases)`` neighbours, which repeat after ``unit`` inputs."""

    unit: int
    phases: tuple[Phase, ...]

    def through(self, window: Window) -> Reach | None:
        """What reads this through a window; None where there are too many phases or positions to follow.

        >>> START.through(conv(3)).through(conv(3, stride=2)).size
        5
        """
        count, taken = len(self.phases), len(window.taps)
        times = count // gcd(count, window.step)
        if times * taken > MOST_PHASES:
            return None
        unit = times * window.step * self.unit // count
        found = []
        for output in range(times * taken):
            turn, place = divmod(output, taken)
            first = turn * window.step
            read = [self.at(first + tap) for tap in window.taps[place]]
            there = self.at(first + window.ends[place]).there
            found.append(_union(read, Fraction(output * unit, times * taken), there))
        made = Reach(unit, tuple(found))
        return made if made.size <= MOST_POSITIONS else None

    def at(self, output: int) -> Phase:
        """What one output depends on."""
        turn, place = divmod(output, len(self.phases))
        return self.phases[place].moved(turn * self.unit)

    def joined(self, other: Reach) -> Reach | None:
        """What reads both at the same position; None where a step of one is not a step of the other."""
        if self == other:
            return self
        if self.jump != other.jump:
            return None
        count = lcm(len(self.phases), len(other.phases))
        if count > MOST_PHASES:
            return None
        places = range(count)
        pairs = [(self.at(place), other.at(place)) for place in places]
        phases = tuple(
            _union(pair, self.jump * place, max(part.there for part in pair)) for place, pair in enumerate(pairs)
        )
        return Reach(self.unit * count // len(self.phases), phases)

    @property
    def size(self) -> int:
        """The receptive field: from the first to the last position that an output depends on, of the widest phase."""
        return max(phase.bits.bit_length() for phase in self.phases)

    @property
    def jump(self) -> Fraction:
        """The input positions from one output to the next.

        >>> START.through(conv(2, stride=2)).jump, START.through(conv_transpose(2, stride=2)).jump
        (Fraction(2, 1), Fraction(1, 2))
        """
        return Fraction(self.unit, len(self.phases))

    @property
    def offset(self) -> int:
        """The input position that the first output belongs to, a multiple of ``unit``: 0 unless padding was omitted.

        >>> START.through(conv(5)).offset, START.through(conv(5, before=2)).offset
        (2, 0)
        """
        read = [(phase.first, phase.first + phase.bits.bit_length() - 1) for phase in self.phases if phase.bits]
        if not read:
            return 0
        middle = Fraction(min(first for first, _ in read) + max(last for _, last in read) - self.unit + 1, 2)
        return int(middle / self.unit) * self.unit

    @property
    def halo(self) -> tuple[int, int]:
        """The input positions before and after a block that its outputs depend on, if the network runs on that part.

        A block is a multiple of ``unit`` long and begins at one, as does the part that is run. Its outputs are those
        that belong to it: output ``o`` to the position ``o * jump + offset``.

        >>> START.through(conv(3, before=1)).halo, START.through(conv(3)).halo
        ((1, 1), (1, 1))
        >>> START.through(conv(3, stride=2, before=1)).halo
        (1, 0)
        """
        offset = self.offset
        before = max(offset - phase.low for phase in self.phases)
        after = max(phase.high - offset - self.unit + 1 for phase in self.phases)
        return max(before.__ceil__(), 0), max(after, 0)

    def positions(self, output: int) -> set[int]:
        """All input positions that one output depends on."""
        phase = self.at(output)
        return {phase.first + place for place in range(phase.bits.bit_length()) if phase.bits >> place & 1}


START = Reach(1, (Phase(0, 1, Fraction(0), 0, 0),))
"""The input itself."""


def _union(read: Sequence[Phase], own: Fraction, there: int) -> Phase:
    """What an output that is at ``own`` depends on, by what it reads."""
    low = min([own, *(phase.low for phase in read)])
    high = max([there, *(phase.high for phase in read)])
    held = [phase for phase in read if phase.bits]
    first = min((phase.first for phase in held), default=0)
    bits = 0
    for phase in held:
        bits |= phase.bits << (phase.first - first)
    return Phase(first, bits, low, high, there)
