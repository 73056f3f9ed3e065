"""Let no library fetch anything while a model is made from its config."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from convstat.patches.room import patch, replaced, undone

VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")
"""What the hub's library and those that use it read as they are imported."""


@patch
def offline() -> Iterator[None]:
    """Let the hub's library, imported or not yet, take nothing from the network for a while."""
    with ExitStack() as stack:
        for name in VARIABLES:
            stack.enter_context(undone(partial(_put, name, os.environ.get(name))))
            os.environ[name] = "1"
        constants = sys.modules.get("huggingface_hub.constants")
        if constants is not None:
            stack.enter_context(replaced(constants, "HF_HUB_OFFLINE", True))
        yield


def _put(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
