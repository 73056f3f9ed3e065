"""Two figures for an einsum, from shapes alone: what torch multiplies, and what numpy's ``einsum_path`` prints of it.

DeepSpeed's profiler, calflops and fvcore make arrays of zeros to ask numpy, and read four digits from what it prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import prod

Letters = frozenset[str]


def printed_flops(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """The count as it is printed: rounded to four digits, and with the one that numpy adds against division by zero.

    Two terms cost a multiplication, and an addition where a letter is summed over.

    >>> printed_flops("bij,bjk->bik", [(3, 4, 5), (3, 5, 6)]), 2 * 3 * 4 * 5 * 6 + 1
    (721, 721)
    """
    terms, kept = _letters(equation.replace(" ", ""), shapes)
    sizes = _sizes(terms, shapes)
    sets = [frozenset(term) for term in terms]
    flops = 1 + _flops(sets, frozenset(kept), sizes, limit=max(_size(term, sizes) for term in [*terms, kept]))
    return int(float(f"{flops:.3e}"))


def contracted(equation: str, shapes: Sequence[tuple[int, ...]], path: Sequence[int] = ()) -> int:
    """What ``torch.einsum`` multiplies and accumulates: two operands at a time become one, by ``bmm``.

    Where no letter of both is summed over, they are multiplied element by element, and nothing is accumulated.
    ``path`` has two places for each step; without it, the first two operands that are left are taken.
    What is made stands first then, with a path it stands last.

    >>> contracted("bij,bjk->bik", [(3, 4, 5), (3, 5, 6)]), 3 * 4 * 5 * 6
    (360, 360)
    >>> contracted("i,j->ij", [(4,), (5,)])
    0
    """
    terms, kept = _letters(equation.replace(" ", ""), shapes)
    sizes = _sizes(terms, shapes)
    # A dimension of one is as good as none: it is stretched to what the other operand has.
    left = [
        frozenset(letter for letter, size in zip(term, shape, strict=True) if size != 1)
        for term, shape in zip(terms, shapes, strict=True)
    ]
    steps = iter(path)
    products = 0
    while len(left) > 1:
        first, second = (next(steps), next(steps)) if path else (0, 1)
        one, other = left[first], left[second]
        rest = [term for place, term in enumerate(left) if place not in (first, second)]
        wanted = frozenset(kept).union(*rest)
        # What only one of them has is summed up before.
        joined = (one & other) | ((one | other) & wanted)
        if (one & other) - wanted:
            products += _size(joined, sizes)
        left = [*rest, joined & wanted] if path else [joined & wanted, *rest]
    return products


def _letters(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """The letters of each term and of the result; dots become the letters of the dimensions that they stand for."""
    if len({letter for letter in equation if letter.isalpha()}) > 26:
        # They are renamed to what follows "a", and after "z" comes "{".
        raise ValueError("Character { is not a valid symbol.")
    written, arrow, kept = equation.partition("->")
    terms = written.split(",")
    if len(terms) != len(shapes):
        raise ValueError("Number of einsum subscripts must be equal to the number of operands.")
    # Named from the right: dots of several terms are lined up there. A term gets only as many as it has dimensions.
    dots = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    longest = 0
    for place, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        if "..." in term:
            count = len(shape) - (len(term) - 3)
            longest = max(longest, count)
            terms[place] = term.replace("...", dots[len(dots) - count :])
    if arrow:
        return terms, kept.replace("...", dots[len(dots) - longest :])
    together = "".join(terms)
    once = [letter for letter in sorted(set(together)) if together.count(letter) == 1]
    return terms, dots[len(dots) - longest :] + "".join(letter for letter in once if letter not in dots)


def _sizes(terms: Iterable[str], shapes: Iterable[tuple[int, ...]]) -> dict[str, int]:
    """The size of each letter; a dimension of one is stretched to what other terms have."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                raise ValueError(f"Size of label '{letter}' does not match previous terms")
    return sizes


def _size(letters: Iterable[str], sizes: Mapping[str, int]) -> int:
    return prod(sizes[letter] for letter in letters)


def _flops(terms: list[Letters], kept: Letters, sizes: Mapping[str, int], limit: int) -> int:
    """The cost of the cheapest order in which no intermediate result is larger than the largest term or result."""
    if len(terms) <= 2 or frozenset().union(*terms) == kept:
        return _contract(tuple(range(len(terms))), terms, kept, sizes)[0]
    found = [(0, terms)]
    while len(found[0][1]) > 1:
        further = []
        for cost, left in found:
            for pair in combinations(range(len(left)), 2):
                more, rest = _contract(pair, left, kept, sizes)
                if _size(rest[-1], sizes) <= limit:
                    further.append((cost + more, rest))
        if not further:
            cost, left = min(found, key=_cost)
            return cost + _contract(tuple(range(len(left))), left, kept, sizes)[0]
        found = further
    return min(found, key=_cost)[0]


def _cost(found: tuple[int, list[Letters]]) -> int:
    return found[0]


def _contract(
    places: tuple[int, ...], terms: list[Letters], kept: Letters, sizes: Mapping[str, int]
) -> tuple[int, list[Letters]]:
    """What it costs to make one term of some, and the terms that are left, the new one last."""
    joined = frozenset[str]().union(*(terms[place] for place in places))
    rest = [term for place, term in enumerate(terms) if place not in places]
    result = joined & kept.union(*rest)
    additions = 1 if joined != result else 0
    return _size(joined, sizes) * (max(1, len(places) - 1) + additions), [*rest, result]
