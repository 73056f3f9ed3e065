"""From a config to a recipe of the model that it describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.patches.offline import offline
from convstat.patches.quiet import unlogged, unwarned
from convstat.targets.entry import plain
from convstat.targets.huggingface import files, tasks
from convstat.targets.huggingface.fields import overridden
from convstat.trace.foreign import users_code
from convstat.trace.recipe import Example, Recipe

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'convstat[hf]'"

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
        raise SourceError(f"{path} is a config of diffusers")
    if variant is not None:
        raise UsageError(f"{path} is one model, and has none called '{variant}'", help="its class: --task NAME")
    return _transformers(argument, argument, "config", config.fields, overrides)


@contextmanager
def importing(argument: str, package: str = "transformers") -> Iterator[None]:
    """Import a library that knows configs, quietly and offline."""
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    try:
        with offline(), unwarned():
            yield
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == package:
            raise SourceError(f"{argument} needs {package}, which is not installed", help=INSTALL) from None
        raise SourceError(f"{package} cannot be imported: {error}") from None


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

    with offline(), users_code(f"{source} is not a valid config"):
        default = _made(source, given)
        fields = overridden(source, given, default, values) if values else dict(given)
    with offline(), users_code(f"{source} is not a valid config" + _with(values)):
        config = _made(source, fields) if values else default
    with importing(source):
        cls, said = tasks.class_of(source, config, task, given.get("architectures") or ())

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


def _made(source: str, fields: Mapping[str, Any]) -> Any:
    """The config object."""
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
    return CONFIG_MAPPING[name](**given)


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
