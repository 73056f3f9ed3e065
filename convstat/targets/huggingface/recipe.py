"""From a config to a recipe of the model that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.patches.offline import offline
from convstat.patches.quiet import unlogged
from convstat.targets.entry import plain
from convstat.targets.huggingface import files, tasks
from convstat.targets.huggingface.fields import overridden
from convstat.targets.huggingface.library import importing
from convstat.text.printable import plain as printable
from convstat.trace.foreign import users_code
from convstat.trace.recipe import Example, Recipe

if TYPE_CHECKING:
    import torch

TASK, ATTENTION = "task", "attn_implementation"
"""The overrides that are no fields: which class is built, and how it computes attention."""

ATTENTIONS = ("eager", "sdpa")
"""Those that run everywhere; kernels of their own are for GPUs."""


def of_type(argument: str, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make the model of a type with its default config: ``transformers/llama``."""
    _, _, name = argument.partition("/")
    with importing(argument):
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    if name not in CONFIG_MAPPING_NAMES:
        raise SourceError(
            f"transformers has no model type '{name}'",
            help=did_you_mean(name, CONFIG_MAPPING_NAMES, also=f"convstat list zoo transformers/{name[:4]}"),
        )
    return _transformers(argument, name, "zoo", {"model_type": name}, overrides)


def of_file(argument: str, path: str, variant: str | None, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make the model of a config file, of a folder with one, or one of a pipeline's."""
    config = files.read(files.find(path))
    if config.library != "transformers":
        from convstat.targets.huggingface import diffusers

        return diffusers.recipe(
            argument,
            config,
            variant,
            overrides,
            lambda source, fields: _transformers(source, source, "config", fields, overrides),
        )
    if variant is not None:
        raise UsageError(f"{path} is one model, and has none called '{variant}'", help="its class: --task NAME")
    return _transformers(argument, argument, "config", config.fields, overrides)


def _transformers(source: str, shown: str, kind: str, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> Recipe:
    values = {key: plain(value) for key, value in overrides.items()}
    task = values.pop(TASK, None)
    task = None if task is None else str(task)
    attention = values.get(ATTENTION)
    if attention is not None and attention not in ATTENTIONS:
        raise UsageError(
            f"unknown attention '{attention}'",
            help=(*did_you_mean(str(attention), ATTENTIONS), f"--attn takes {' or '.join(ATTENTIONS)}"),
        )
    _refuse_remote(source, given)
    with importing(source):
        import transformers  # noqa: F401

    with offline(), unlogged("transformers"):
        default = _made(source, given)
        fields = overridden(source, given, default, values) if values else dict(given)
        config = _made(source, fields, _with(values)) if values else default
    with importing(source):
        cls, said = tasks.class_of(source, config, task, given.get("architectures") or ())

    if attention is not None and getattr(cls, f"_supports_{attention}", True) is False:
        other = next(name for name in ATTENTIONS if name != attention)
        raise UsageError(f"{cls.__name__} has no {attention} attention", help=f"it has --attn {other}")

    def make() -> tuple[torch.nn.Module, Example | None]:
        from convstat.targets.huggingface.cache import copies_caches

        with offline(), unlogged("transformers"), users_code(f"{source} could not be created{_with(values)}"):
            # A model may change its config.
            module = cls._from_config(_made(source, fields))
        copies_caches(module)
        return module, None

    return Recipe(cls.__name__, source, kind, make, notes=(said,) if said else ())


def _with(values: Mapping[str, Any]) -> str:
    return f" with {', '.join(f'{key}={value}' for key, value in values.items())}" if values else ""


def _made(source: str, fields: Mapping[str, Any], how: str = "") -> Any:
    """The config object; raises SourceError where its class refuses the fields."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    given = {key: value for key, value in fields.items() if key != "transformers_version"}
    name = given.pop("model_type", None)
    if name is None:
        name = _type_of(source, given.get("architectures") or ())
    if name not in CONFIG_MAPPING:
        raise SourceError(
            f"{source}: transformers has no model type '{name}'",
            help=did_you_mean(str(name), CONFIG_MAPPING.keys(), also="convstat list zoo transformers/"),
        )
    with users_code(f"{source} is not a valid config{how}"):
        try:
            return CONFIG_MAPPING[name](**given)
        except Exception as error:  # of whatever checks the fields
            raise SourceError(f"{source} is not a valid config{how}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What is wrong with a field, where that is said in the lines below which field it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [type(error).__name__])[0])


def _type_of(source: str, architectures: Any) -> str:
    """The model type of a class, for configs that only say that."""
    for name in architectures:
        for table in tasks.tasks().values():
            for model_type, classes in table.items():
                if name in ((classes,) if isinstance(classes, str) else classes):
                    return str(model_type)
    raise SourceError(
        f"{source} has no model_type, and transformers does not know {', '.join(architectures) or 'its class'}",
        help="add the model_type: convstat list zoo transformers/ names them all",
    )


def _refuse_remote(source: str, fields: Mapping[str, Any]) -> None:
    """Refuse a config whose model is in code that lies beside it, unless transformers has a class of its own."""
    if not fields.get("auto_map"):
        return
    with importing(source):
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    named = fields.get("architectures") or ()
    if fields.get("model_type") in CONFIG_MAPPING_NAMES and all(hasattr(transformers, name) for name in named):
        return
    code = next((str(place) for place in fields["auto_map"].values()), "modeling.py")
    file = code.rpartition("--")[2].partition(".")[0]
    raise SourceError(
        f"{source} is for code of its own (auto_map: {code}), which is not run",
        help=(
            f"look through the code, and name a function in it that makes the model: {file}.py:build",
            "or remove auto_map, where transformers has the model type itself",
        ),
    )
