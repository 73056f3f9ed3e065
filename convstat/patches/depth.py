"""Know whether a kernel is running."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class KernelDepth(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how many kernels are running inside each other: 0 is outside of all."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.depth = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nobody compiles under it, and the wrapper that would be put around __torch_dispatch__ costs at every kernel.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.depth += 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.depth -= 1
