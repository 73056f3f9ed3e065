"""The command line: arguments, one call, a renderer."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        from convstat.cli.run import run
        from convstat.collection import collect_rarely

        collect_rarely()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
