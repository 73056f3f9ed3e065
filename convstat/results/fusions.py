"""The report of a deployed form, beside that of the trained one."""

from __future__ import annotations

from dataclasses import replace

from convstat.results.fusion import Changes, Fusion, Trained
from convstat.results.report import Report


def beside(trained: Report, deployed: Report, changes: Changes, check: str | None = None) -> Report:
    """Say in the report of the deployed form what was fused, and what the trained form costs."""
    totals = trained.totals
    before = Trained(
        totals.params,
        totals.trainable_params,
        totals.buffers,
        totals.weight_bytes,
        totals.macs,
        len(trained.layers),
    )
    return replace(deployed, fusion=Fusion(before, **changes._asdict(), check=check))
