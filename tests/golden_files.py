"""Golden outputs: what a command printed when somebody last looked at it.

``make golden`` rewrites them; review the change with ``git diff``.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def assert_golden(name: str, text: str) -> None:
    """Compare a text with the file of that name in tests/golden, or write it where CONVSTAT_GOLDEN is set."""
    path = FOLDER / name
    if os.environ.get("CONVSTAT_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: run `make golden` and review it"
    assert path.read_text(encoding="utf-8") == text, f"{path} differs: run `make golden` and review the change"
