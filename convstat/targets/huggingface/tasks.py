"""Which class a config is built as: by the name in ``architectures``, or by a task of the auto classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from convstat.errors import SourceError, UsageError, did_you_mean

BASE = "base"
"""The task of the model without a head."""

_RENAMED = {"seq-to-seq-causal-lm": "seq2seq-lm", "speech-seq-2-seq": "speech-seq2seq"}

FIRST = (
    "seq2seq-lm",
    "speech-seq2seq",
    "image-text-to-text",
    "masked-lm",
    "causal-lm",
    "multimodal-lm",
    "image-classification",
    "ctc",
    "semantic-segmentation",
    "object-detection",
    "universal-segmentation",
    "depth-estimation",
    "video-classification",
    "audio-classification",
    "zero-shot-image-classification",
)
"""What a model type is built as where nothing says it: the first of these that it has, else without a head."""


@cache
def tasks() -> Mapping[str, Mapping[str, Any]]:
    """The classes of each model type, by task, as the auto classes of transformers name them."""
    from transformers.models.auto import modeling_auto

    found: dict[str, Mapping[str, Any]] = {BASE: modeling_auto.MODEL_MAPPING_NAMES}
    for name, table in vars(modeling_auto).items():
        if (match := re.fullmatch(r"MODEL_FOR_(\w+?)(?:_MAPPING)?_NAMES", name)) and isinstance(table, Mapping):
            task = match[1].lower().replace("_", "-")
            found[_RENAMED.get(task, task)] = table
    return found


def of_type(model_type: str) -> Mapping[str, str]:
    """The tasks of a model type, each with the name of its class."""
    found = {task: table[model_type] for task, table in tasks().items() if model_type in table}
    return {task: name if isinstance(name, str) else name[0] for task, name in found.items()}


def types() -> tuple[str, ...]:
    """The model types that there is a class for, each once."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return tuple(sorted(name for name in CONFIG_MAPPING_NAMES if of_type(name)))


def class_of(source: str, config: Any, task: str | None, architectures: Sequence[str]) -> tuple[type[Any], str]:
    """Choose the class: that of the task, else the one that the config names, else the usual one of its type.

    Gives the class, and what is said of the choice.
    """
    import transformers

    model_type = config.model_type
    known = of_type(model_type)
    if task is not None:
        if task not in known:
            everywhere = task in tasks()
            said = f"{source} has no task '{task}'" if everywhere else f"unknown task '{task}'"
            listed = f"tasks of {model_type}: {', '.join(known) or 'none'}"
            raise UsageError(said, help=(*did_you_mean(task, known or tasks()), listed))
        return getattr(transformers, known[task]), _said(task, known)
    for name in architectures:
        found = getattr(transformers, name, None)
        if isinstance(found, type) and hasattr(found, "from_pretrained"):
            return found, ""
    if not known:
        named = f" ({', '.join(architectures)})" if architectures else ""
        raise SourceError(
            f"{source}: transformers has no class that builds a {model_type}{named}",
            help="name the class in architectures, or write a function that makes the model: file.py:build",
        )
    chosen = next((task for task in FIRST if task in known), next(iter(known)))
    return getattr(transformers, known[chosen]), _said(chosen, known)


def _said(task: str, known: Mapping[str, str]) -> str:
    others = [name for name in known if name != task and known[name] != known[task]]
    return f"built as {known[task]} (--task {task}" + (f"; others: {', '.join(others)})" if others else ")")
