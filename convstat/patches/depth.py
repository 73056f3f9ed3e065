"""Know whether a kernel is running."""

from __future__ import annotations

from typing import Any

from convstat.patches.dispatch import Watching


class KernelDepth(Watching):  # type: ignore[no-untyped-call]
    """Counts how many kernels are running inside each other: 0 is outside of all."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self.depth += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.depth -= 1
