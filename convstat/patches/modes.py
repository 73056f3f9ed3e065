"""Take the modes of one thread along to those that it starts: torch keeps them for each thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

_overrides: Any = torch.overrides


class _Dispatching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode of another thread, which ends when ``is_over`` says so: that of a thread can be left nowhere else."""

    def __init__(self, mode: Any, is_over: Callable[[], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = mode
        self.is_over = is_over

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_over():
            return func(*args, **(kwargs or {}))
        return self.mode.__torch_dispatch__(func, types, args, kwargs or {})


class _Overriding(TorchFunctionMode):
    """The same for a mode of functions."""

    def __init__(self, mode: Any, is_over: Callable[[], bool]) -> None:
        super().__init__()
        self.mode = mode
        self.is_over = is_over

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_over():
            return func(*args, **(kwargs or {}))
        return self.mode.__torch_function__(func, types, args, kwargs or {})


def borrowed_modes(is_over: Callable[[], bool]) -> AbstractContextManager[None]:
    """Note the modes of this thread, to be entered in another one; where that one has borrowed some, it keeps them."""
    dispatching, overriding = _get_current_dispatch_mode_stack(), list(_overrides._get_current_function_mode_stack())

    @contextmanager
    def entered() -> Iterator[None]:
        if any(isinstance(mode, _Dispatching) and not mode.is_over() for mode in _get_current_dispatch_mode_stack()):
            yield
            return
        # Held until they are popped: torch 2.4 touches what it pops after it has let go of it.
        held: list[Any] = []
        for mode in dispatching:
            # Those of torch's own have places of their own and are found there, as that of fake tensors.
            is_torchs = getattr(mode, "_mode_key", None) is not None or isinstance(mode, _Dispatching)
            held.append(mode if is_torchs else _Dispatching(mode, is_over))
            _python_dispatch._push_mode(held[-1])
        for mode in overriding:
            held.append(mode if isinstance(mode, _Overriding) else _Overriding(mode, is_over))
            _overrides._push_mode(held[-1])
        try:
            yield
        finally:
            for _ in overriding:
                _overrides._pop_mode()
            for mode in reversed(dispatching):
                _python_dispatch._pop_mode(getattr(mode, "_mode_key", None))

    return entered()
