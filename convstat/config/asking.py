"""How each model is counted: as the command says, else as the settings say of that model, else of all models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from convstat.config.project import Config
from convstat.errors import UsageError
from convstat.grammar.axes import Value
from convstat.targets import Target
from convstat.targets.configured import CONFIG
from convstat.targets.request import Asked

__all__ = ["CONFIG", "Asking"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """What one command says of all its models: None or empty where it says nothing.

    ``from_settings``: no model was named, so they are those of the settings, and have the input that stands there.
    """

    overrides: Mapping[str, Value] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    batch: int | None = None
    dtype: str | None = None
    per: str | None = None
    device: str | None = None
    config: Config = field(default_factory=Config)
    from_settings: bool = False

    def of(self, target: Target) -> Asked:
        """Say how a target is counted. Overrides add to those of the settings; inputs replace them."""
        shared = self.config
        if target.kind == "report":
            return Asked(self.overrides, self.inputs, *self._defaults(shared, shared))
        own = shared.of(_named(target))
        if target.kind != "module" and CONFIG in self.overrides:
            raise UsageError(
                f"{target.argument} takes no {CONFIG}: that is for the config object of a Python model",
                help="set its parameters: NAME=VALUE",
            )
        everywhere = shared.inputs if self.from_settings else ()
        return Asked(
            {**own.overrides, **self.overrides},
            self.inputs or own.inputs or everywhere,
            *self._defaults(own, shared),
        )

    def _defaults(self, own: object, shared: Config) -> tuple[int, str, str, str]:
        """The batch, dtype, basis and device."""

        def first(name: str, default: T) -> T:
            found = (getattr(place, name) for place in (self, own, shared))
            return next((value for value in found if value is not None), default)

        return first("batch", 1), first("dtype", "float32"), first("per", "input"), first("device", "auto")


def _named(target: Target) -> str:
    """A target as the settings would name it: a file of a revision as that of the working tree."""
    if target.revision is None:
        return target.argument
    from convstat.targets import revisions

    repository = revisions.find()
    path = target.path if repository is None else repository.shown(target.path)
    return path + (f"#{target.variant}" if target.variant else "")
