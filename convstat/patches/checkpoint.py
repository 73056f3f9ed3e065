"""Let a module be checkpointed for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from convstat.patches.room import patch, replaced

if TYPE_CHECKING:
    from torch import nn

Context = AbstractContextManager[object]


@patch
def checkpointed(module: nn.Module, again: Callable[[], Context]) -> Iterator[None]:
    """Let a module keep its inputs alone for the backward pass, which runs its forward ``again`` in that context."""
    from torch.utils.checkpoint import checkpoint

    original = module.forward

    def contexts() -> tuple[Context, Context]:
        return nullcontext(), again()

    def forward(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(original, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    with replaced(module, "forward", forward):
        yield
