"""How each target of a command is counted: as the command says, else the settings of that model, else of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

from convstat.config.project import Config
from convstat.errors import UsageError
from convstat.grammar.axes import Value
from convstat.results.report import MEMORY
from convstat.targets import Target
from convstat.targets.configured import CONFIG
from convstat.targets.request import Request

__all__ = ["ATTENTION", "CONFIG", "TASK", "Requests"]

TASK, ATTENTION = "--task", "--attn"
"""Overrides of models that are made from a config, by the options that set them."""

_OVERRIDES = {TASK: "task", ATTENTION: "attn_implementation"}


@dataclass(frozen=True, slots=True)
class Requests:
    """What one command says of all its targets: None or empty where it says nothing.

    ``from_settings``: no model was named, so they are those of the settings, and have the input that stands there.
    """

    overrides: Mapping[str, Value] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    batch: int | None = None
    dtype: str | None = None
    per: str | None = None
    device: str | None = None
    mode: str | None = None
    weights: str | None = None
    activations: str | None = None
    fuse: bool = False
    extents: bool = False
    memory: bool = False
    language: bool = False
    checkpoint: tuple[str, ...] = ()
    config: Config = field(default_factory=Config)
    from_settings: bool = False
    picture: str | None = None
    edges: str | None = None
    worst_case: tuple[str, ...] = ()

    def for_form(self, inputs: tuple[str, ...]) -> Requests:
        """With the inputs of a form, where none are given."""
        return self if self.inputs or not inputs else replace(self, inputs=inputs)

    def of(self, target: Target) -> Request:
        """Say how a target is counted. Overrides add to those of the settings; inputs replace them."""
        shared = self.config
        if target.kind == "report":
            return Request(target, self.overrides, self.inputs, **self._defaults(shared, shared))
        own = shared.of(_named(target))
        if target.kind != "module" and CONFIG in self.overrides:
            raise UsageError(
                f"{target.argument} takes no {CONFIG}, which sets the config object of a Python model",
                help="set its parameters: NAME=VALUE",
            )
        overrides = {**own.overrides, **self.overrides}
        for option, name in _OVERRIDES.items():
            if option in overrides:
                if not target.is_config:
                    raise UsageError(
                        f"{target.argument} takes no {option}, which is for models of transformers",
                        help="name a model type or a config: transformers/llama, config.json",
                    )
                overrides[name] = overrides.pop(option)
        everywhere = shared.inputs if self.from_settings else ()
        return Request(target, overrides, self.inputs or own.inputs or everywhere, **self._defaults(own, shared))

    def _defaults(self, own: object, shared: Config) -> dict[str, Any]:
        """What is said of the batch, the types, the basis, the device and the mode; of the rest, nothing is."""
        said: dict[str, Any] = {
            name: v for name in ("mode", "picture", "edges") if (v := getattr(self, name)) is not None
        }
        for name in ("fuse", "extents", "language"):
            if getattr(self, name):
                said[name] = True
        if self.memory:
            # Inference of a spec is followed without torch; its training is not.
            said["memory"] = MEMORY if find_spec("torch") is not None else MEMORY[:-1]
        for name in ("worst_case", "checkpoint"):
            if getattr(self, name):
                said[name] = getattr(self, name)
        for name in ("batch", "dtype", "per", "device", "weights", "activations"):
            # What a spec says of its own basis goes before what the settings say of all models.
            places = (self, own) if name == "per" and own is not shared else (self, own, shared)
            values = (getattr(place, name) for place in places)
            if (value := next((value for value in values if value is not None), None)) is not None:
                said[name] = value
        if shared.per is not None:
            said["usual_per"] = shared.per
        return said


def _named(target: Target) -> str:
    """A target as the settings would name it: a file of a revision as that of the working tree."""
    if target.revision is None:
        return target.argument
    from convstat.targets import revisions

    repository = revisions.find()
    path = target.path if repository is None else repository.shown(target.path)
    return path + (f"#{target.variant}" if target.variant else "")
