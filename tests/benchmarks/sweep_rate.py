"""Prints how many variants of MobileNetV1 one second compares, rows included."""

from __future__ import annotations

import time

from convstat.commands import compare

# The paper's four widths at every resolution.
ARGUMENTS = ["alpha=0.25,0.5,0.75,1", "resolution=32..1024"]


def main() -> None:
    """Compare once, from reading the file to the last row."""
    start = time.perf_counter()
    comparison = compare.compare(["configs/mobilenet_v1.yaml"], ARGUMENTS)
    seconds = time.perf_counter() - start
    assert not comparison.invalid
    assert len(comparison.rows) == 4 * (1024 - 32 + 1)
    print(len(comparison.rows) / seconds)


if __name__ == "__main__":
    main()
