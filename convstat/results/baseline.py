"""Baseline documents: what of a report is kept beside the code, and the report that is read back from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convstat.errors import SourceError
from convstat.results.report import InputInfo, LayerRow, ModelInfo, Report, Totals, Uncounted

SCHEMA = "convstat.baseline/1"


CONVENTION = "convstat"


COUNTS = ("params", "trainable_params", "buffers", "weight_bytes", "macs")
"""The counts of a layer and of the totals, by the names of their fields."""


def report_of(document: Mapping[str, Any]) -> Report:
    """Make a report of a baseline file that fits its schema."""
    if document.get("convention") != CONVENTION:
        raise SourceError(f"it was counted by the convention {document.get('convention')!r}, not '{CONVENTION}'")
    asked, totals = document["asked"], document["totals"]
    return Report(
        model=ModelInfo(
            name=document["name"],
            source=document["target"],
            kind="report",
            inputs=tuple(InputInfo(i["name"], tuple(i["shape"]), i["dtype"]) for i in document["inputs"]),
            batch=asked["batch"],
            mode=document["mode"],
            dtype=asked["dtype"],
            overrides=asked["overrides"],
            rests_on=document.get("rests_on"),
        ),
        totals=Totals(
            **{name: totals[name] for name in COUNTS},
            other=totals["other"],
            pixels=document["pixels"],
            pixel_basis=document["pixel_basis"],
        ),
        layers=tuple(_layer_of(line) for line in document["layers"]),
        uncounted=tuple(Uncounted(u["op"], u["calls"], tuple(u["layers"])) for u in document["uncounted"]),
    )


def _layer_of(line: Mapping[str, Any]) -> LayerRow:
    return LayerRow(
        name=line["name"],
        type=line["type"],
        input_shapes=tuple(map(tuple, line["in"])),
        output_shapes=tuple(map(tuple, line["out"])),
        arguments=line["arguments"],
        other=line.get("other", {}),
        shares=line.get("shares"),
        **{name: line.get(name, 0) for name in COUNTS},
    )
