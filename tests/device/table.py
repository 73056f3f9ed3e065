"""Print one table of what ``tests/test_cuda.py`` measured, and write it where ``$OUT`` says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(rows: Path, summary: Path) -> None:
    """Read the rows, one JSON object a line, and what pytest said at its end."""
    found = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    lines = list(table(found))
    skipped = [
        line.strip() for line in summary.read_text().splitlines() if line.startswith(("SKIPPED", "FAILED", "ERROR"))
    ]
    text = "\n".join([where(), "", *lines, *([""] if lines else []), *skipped, *last(summary)]) + "\n"
    sys.stdout.write(text)
    if out := os.environ.get("OUT"):
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "device.txt").write_text(text)
        (folder / "device.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def where() -> str:
    """The torch and the GPU that it ran on."""
    try:
        import torch
    except ImportError:
        return "there is no torch"
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return f"torch {torch.__version__}, {name}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each count, counter and network."""
    cells = [("network", "what", "params", "MACs", "predicted", "note")]
    for row in rows:
        note = row.get("failure") or ""
        if row.get("peak"):
            note = f"peak {row['peak'] / 2**20:,.1f} MiB"
        elif "on_cpu" in row:
            note = "as on the CPU" if row["on_cpu"] == row["macs"] else f"{row['on_cpu']:,} on the CPU"
        elif row["kind"] == "counter" and not note:
            note = "as predicted" if row["macs"] == row["predicted"] else "NOT as predicted"
        what = row.get("counter") or {"count": "convstat", "spec": "convstat"}[row["kind"]]
        numbers = ("-" if row.get(key) is None else f"{row[key]:,}" for key in ("params", "macs", "predicted"))
        cells.append((row["network"], what, *numbers, note[:60]))
    if len(cells) == 1:
        return []
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    return [
        "  ".join(
            text.rjust(width) if column in (2, 3, 4) else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def last(summary: Path) -> list[str]:
    """How many passed, failed and were skipped."""
    lines = [line.strip("= ") for line in summary.read_text().splitlines() if " in " in line and line.rstrip("= ")]
    return lines[-1:]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
