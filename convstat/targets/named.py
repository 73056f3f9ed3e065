"""Inputs that are named by what they are: tokens, a picture, a sound, as ``--tokens`` and its like ask for them.

A model of transformers says by its config and its signature what that comes to. Any other is given it as its first
argument, which is the rule for language models, classifiers of pictures and models of sound alike.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.errors import UsageError
from convstat.grammar.sizes import Sizes
from convstat.trace.recipe import Example

if TYPE_CHECKING:
    import torch


def example(
    source: str, module: torch.nn.Module, sizes: Sizes, batch: int, dtype: torch.dtype | None = None
) -> Example | None:
    """Make the inputs of a model; None where nothing is asked for and nothing is known of it.

    ``dtype`` is the floating-point type that the model will be cast to, None where it stays as it is.
    """
    from convstat.targets.huggingface import diffusers, feed

    if diffusers.is_model(module):
        return diffusers.example(source, module, sizes, batch, dtype)
    if feed.core_of(module) is not None:
        return feed.example(module, sizes, batch, dtype)
    return _of_first(source, module, sizes, batch, dtype) if sizes.asked else None


def _of_first(source: str, module: Any, sizes: Sizes, batch: int, dtype: torch.dtype | None) -> Example:
    """The first argument of a model that says nothing of what it takes."""
    import torch

    for name in ("decode", "prefill"):
        if name in sizes.asked:
            raise UsageError(
                f"{source} takes no --{name}: it is not a model of transformers, so its cache is not known",
                help="write a function that returns the model and its inputs, with the cache among them",
            )
    if len(sizes.asked) > 1:
        raise UsageError(
            f"{source} takes one of --{', --'.join(sizes.asked)}: it is not a model of transformers",
            help="name its inputs: --input ids=Nx128:int64 --input picture=3x224x224",
        )
    floating = dtype or next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    if sizes.tokens is not None:
        return Example(args=(torch.zeros(batch, sizes.tokens, dtype=torch.int64),))
    if sizes.image is not None:
        return Example(args=(torch.zeros(batch, 3, *sizes.image, dtype=floating),))
    if isinstance(sizes.audio, Fraction):
        raise UsageError(f"{source} has no sampling rate", help="give the number of samples: --audio 480000")
    return Example(args=(torch.zeros(batch, sizes.audio or 0, dtype=floating),))
