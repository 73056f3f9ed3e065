"""The document of a baseline file: what of a report is kept beside the code, and the report that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from convstat.errors import SourceError
from convstat.grammar import widths
from convstat.results.documents.codec import SPARSE, Count, Keys, Least, Matches, Saved
from convstat.results.report import CONVSTAT, InputInfo, LayerRow, ModelInfo, Report, Totals, Uncounted


@dataclass(frozen=True, slots=True)
class Asked:
    """How a target was to be counted, as options say it."""

    batch: Annotated[int, Least(1)]
    dtype: str
    inputs: tuple[str, ...]
    overrides: Mapping[str, Any]
    per: str
    weights: Annotated[Annotated[str, Matches(widths.PATTERN)] | None, SPARSE] = None
    activations: Annotated[Annotated[str, Matches(widths.PATTERN)] | None, SPARSE] = None
    fuse: Annotated[bool, SPARSE] = False


@dataclass(frozen=True, slots=True)
class Baseline(Saved):
    """What is kept of a report; what is zero or empty is left out of a layer: most are their name and shapes."""

    KEYS: ClassVar = Keys(
        "asked convention inputs layers mode name pixel_basis pixels rests_on schema target totals uncounted"
    )
    schema: ClassVar[str] = "convstat.baseline/1"
    target: str
    asked: Asked
    name: str
    mode: str
    inputs: tuple[InputInfo, ...]
    pixels: Count
    pixel_basis: str
    totals: Annotated[
        Totals,
        Keys(
            "params trainable_params buffers weight_bytes macs other activations conv_activations output_elements",
        ),
    ]
    layers: tuple[
        Annotated[
            LayerRow,
            Keys(
                "arguments in=input_shapes name out=output_shapes type "
                "params trainable_params buffers weight_bytes macs other activations conv_activations shares weights "
                "runs",
                sparse="params trainable_params buffers weight_bytes macs other shares",
            ),
        ],
        ...,
    ]
    uncounted: tuple[Uncounted, ...]
    rests_on: Annotated[str | None, SPARSE] = None
    convention: str = CONVSTAT

    @classmethod
    def of(cls, report: Report, target: str, asked: Asked) -> Baseline:
        """Keep what a target cost."""
        model, totals = report.model, report.totals
        return cls(
            target,
            asked,
            model.name,
            model.mode,
            model.inputs,
            totals.pixels,
            totals.pixel_basis,
            totals,
            report.layers,
            report.uncounted,
            model.rests_on,
        )

    @property
    def report(self) -> Report:
        """The report that it stands for. Raises SourceError where it was counted by another convention."""
        if self.convention != CONVSTAT:
            raise SourceError(f"it was counted by the convention {self.convention!r}, not '{CONVSTAT}'")
        asked = self.asked
        return Report(
            ModelInfo(
                self.name,
                self.target,
                "report",
                self.inputs,
                batch=asked.batch,
                mode=self.mode,
                dtype=asked.dtype,
                overrides=asked.overrides,
                rests_on=self.rests_on,
                weights=asked.weights,
                activations=asked.activations,
            ),
            replace(self.totals, pixels=self.pixels, pixel_basis=self.pixel_basis),
            self.layers,
            uncounted=self.uncounted,
        )
