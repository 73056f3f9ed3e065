"""``python -m convstat``."""

from __future__ import annotations

from convstat.cli import main

if __name__ == "__main__":
    main()
