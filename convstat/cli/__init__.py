"""The command line: arguments, one call, a renderer."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    from convstat.patches.collection import collect_no_more, collect_rarely
    from convstat.patches.limits import own_process

    own_process()
    try:
        from convstat.cli.run import run

        collect_rarely()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    collect_no_more()
    sys.exit(code)
