"""How a target is to be counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convstat.grammar.axes import plain


@dataclass(frozen=True, slots=True)
class Asked:
    """How a model was to be counted: what the command line or the settings said beside its name.

    Where it ran changes no figure, so two runs on different devices ask for the same.
    """

    overrides: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    batch: int = 1
    dtype: str = "float32"
    per: str = "input"
    device: str = field(default="auto", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "batch": self.batch,
            "dtype": self.dtype,
            "inputs": list(self.inputs),
            "overrides": {name: plain(value) for name, value in self.overrides.items()},
            "per": self.per,
        }
