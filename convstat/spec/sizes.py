"""The names of the sizes of what comes into a layer."""

from __future__ import annotations

from collections.abc import Mapping

from convstat.formulas.cost import Shape

_AXES: Mapping[int, tuple[str, ...]] = {
    2: ("cin",),
    3: ("cin", "lin"),
    4: ("cin", "hin", "win"),
    5: ("cin", "din", "hin", "win"),
}


def sizes_of(shape: Shape | None) -> dict[str, int]:
    """The sizes of what comes in, by name.

    >>> sizes_of((1, 64, 56, 56)) == {"cin": 64, "hin": 56, "win": 56, "fin": 56}
    True
    """
    if shape is None:
        return {}
    named = dict(zip(_AXES.get(len(shape), ("cin",)), shape[1:], strict=False))
    named["fin"] = shape[-1]
    return named
