"""The command line: arguments, one call, a renderer."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, NoReturn


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        from convstat.patches.collection import collect_no_more, collect_rarely
        from convstat.patches.limits import own_process
        from convstat.text.reading import fill_closed_streams

        fill_closed_streams()
        own_process()
        from convstat.cli.run import run

        collect_rarely()
        code = run(sys.argv[1:])
        collect_no_more()
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        # Without descriptors, not even what writes messages can be imported.
        code = 2
        with suppress(OSError):
            os.write(2, f"error: cannot continue: {str(error.strerror).lower()}\n".encode())
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process; at once where a model has left threads.

    They would be waited for, or go on while the interpreter is taken down.
    """
    threading: Any = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        from convstat.patches.child import flush_streams, foreign_threads

        if foreign_threads():
            flush_streams()
            os._exit(code)
    sys.exit(code)
