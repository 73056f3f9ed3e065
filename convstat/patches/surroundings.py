"""What else belongs to the whole process: how deep calls may nest, what imports leave behind, the command line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

from convstat.patches.room import patch, replaced, undone


@patch
def deeper_calls(times: int) -> Iterator[None]:
    """Let calls nest so many times as deep as they may."""
    limit = sys.getrecursionlimit()
    with undone(functools.partial(sys.setrecursionlimit, limit)):
        sys.setrecursionlimit(times * limit)
        yield


@patch
def no_compiled_files() -> Iterator[None]:
    """Let imports leave no compiled files behind."""
    with undone(functools.partial(setattr, sys, "dont_write_bytecode", sys.dont_write_bytecode)):
        sys.dont_write_bytecode = True
        yield


@patch
def own_arguments(program: str) -> Iterator[None]:
    """Let code that reads the command line find that of a program without arguments, and not that of convstat."""
    with undone(functools.partial(setattr, sys, "argv", sys.argv)):
        sys.argv = [program]
        yield


@patch
def default_device_kept() -> Iterator[None]:
    """Let torch's default device be ours alone: where a model is made and run is decided by who counts it."""
    import torch

    with replaced(torch, "set_default_device", lambda device: None):
        yield
