"""Prints how many variants of MobileNetV1 one second compares, rows included."""

from __future__ import annotations

import time

from convstat import sweep

# The multiplier in steps that change the channels, and some resolutions: no variant is like another.
ARGUMENTS = ["alpha=0.25..2.125:0.03125", "resolution=32..1024:16"]


def main() -> None:
    """Compare once, from reading the file to the last row."""
    start = time.perf_counter()
    comparison = sweep.compare(["configs/mobilenet_v1.yaml"], ARGUMENTS)
    seconds = time.perf_counter() - start
    assert not comparison.invalid
    distinct = {(row.totals.params, row.totals.macs) for row in comparison.rows if row.totals}
    assert len(distinct) == len(comparison.rows), "some variants are the same network"
    print(len(comparison.rows) / seconds)


if __name__ == "__main__":
    main()
