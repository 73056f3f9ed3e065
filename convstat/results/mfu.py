"""How much of an accelerator's peak a model uses: its FLOPs, by every way of counting them, over time and peak."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

from convstat.results.documents.codec import BLANK, Count, Document, Keys, Least, OneOf, Ratio
from convstat.results.report import ModelInfo

UNITS = ("tokens", "samples")
"""What the speed of training and inference is stated in."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What it runs on: so many accelerators, each with a peak in FLOP/s of dense products of one type.

    ``card`` is empty where the peak was given as a number.
    """

    KEYS: ClassVar = Keys(name="hardware")
    card: Annotated[str, BLANK]
    dtype: Annotated[str, BLANK]
    peak_flops: Annotated[Count, "FLOP/s of each accelerator"]
    gpus: Annotated[Count, Least(1)]
    source: Annotated[str, BLANK]


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast it runs: so many ``units`` in a second, which were given, or the seconds of a step."""

    KEYS: ClassVar = Keys(name="speed")
    units: Annotated[str, OneOf(*UNITS)]
    per_second: Ratio
    step_seconds: Annotated[Ratio, "seconds of the step that was counted"]


@dataclass(frozen=True, slots=True)
class Utilisation:
    """What one way of counting makes of it; ``counted`` says what is counted, in words.

    ``flops`` are those of the step that was counted, ``utilisation`` the part of the peak that they come to.
    ``error`` is why there is no figure.
    """

    KEYS: ClassVar = Keys(name="utilisation")
    counter: str
    counted: str
    flops: Count | None = None
    flops_per_unit: Annotated[Ratio | None, "FLOPs per token or sample"] = None
    utilisation: Annotated[Ratio | None, "of the peak"] = None
    error: Annotated[str, BLANK] = ""


@dataclass(frozen=True, slots=True)
class Mfu(Document):
    """Model-FLOPs utilisation: the FLOPs that a model needs in a second, as a part of the peak.

    ``mode`` says whether a step of training is counted or a forward pass, ``step_units`` how many tokens or samples
    it has. ``rows`` are the ways of counting, convstat's own first.
    """

    KEYS: ClassVar = Keys("schema model mode step_units speed hardware rows", name="mfu")
    kind: ClassVar[str] = "mfu"
    schema: ClassVar[str] = "convstat.mfu/1"
    model: Annotated[ModelInfo, Keys("name source kind inputs batch dtype overrides notes")]
    mode: Annotated[str, OneOf("train", "infer")]
    step_units: Count
    speed: Speed
    hardware: Hardware
    rows: tuple[Utilisation, ...]

    @property
    def own(self) -> Fraction | None:
        """The utilisation by convstat's own count."""
        return self.rows[0].utilisation
