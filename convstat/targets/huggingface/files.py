"""Config files: what a JSON file or a folder holds, told by its content.

======================  ==============================================================================
content                 what it is
======================  ==============================================================================
``model_type``,         a config of transformers
``architectures``
``_class_name``         a config of one model of diffusers
``model_index.json``    a pipeline of diffusers: a folder with one config for each of its models
``schema``              a document of convstat's, which is none of these
======================  ==============================================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convstat.errors import Diagnostic, Mark, SourceError, SourceText, did_you_mean
from convstat.text.reading import decoded, read_file

LARGEST = 8 << 20
"""Bytes of the largest config that is read; those that list a million labels are smaller."""

CONFIG, INDEX = "config.json", "model_index.json"

PREFIX = "hf:"
"""What names a folder or a file to be a config, whatever is in it."""

Library = Literal["transformers", "diffusers", "pipeline"]


@dataclass(frozen=True, slots=True)
class Config:
    """A config as it stands in its file, and whose it is."""

    path: str
    fields: Mapping[str, Any]
    library: Library


def is_config(path: str) -> bool:
    """Whether a JSON file or a folder is a config, and not a saved report; nothing is raised for one that is neither.

    A report says what it is in its first characters, so however large one is, no more of it is read.
    """
    if os.path.isdir(path):
        return any(os.path.isfile(os.path.join(path, name)) for name in (CONFIG, INDEX))
    try:
        if b'"convstat.' in read_file(path, 4095)[:512]:
            return False
        data = read_file(path, LARGEST)
    except OSError:
        return False
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        # A file that is broken says by its name what it was meant to be.
        return os.path.basename(path) in (CONFIG, INDEX)
    return isinstance(found, dict) and library_of(found) is not None


def library_of(fields: Mapping[str, Any]) -> Library | None:
    """Whose config this is; None where it is none.

    >>> library_of({"model_type": "llama"}), library_of({"_class_name": "UNet2DModel"}), library_of({"schema": "x/1"})
    ('transformers', 'diffusers', None)
    """
    if "schema" in fields:
        return None
    if "_class_name" in fields:
        return "pipeline" if any(_is_component(value) for value in fields.values()) else "diffusers"
    return "transformers" if "model_type" in fields or "architectures" in fields else None


def _is_component(value: object) -> bool:
    """Whether a pipeline says here of what library and class a part of it is; lists of blocks look much the same."""
    return isinstance(value, list) and len(value) == 2 and value[0] in ("diffusers", "transformers")


def find(written: str) -> str:
    """The file that a target names: itself, or the config in a folder; raises SourceError where there is none."""
    path = written.removeprefix(PREFIX)
    if os.path.isdir(path):
        for name in (INDEX, CONFIG):
            if os.path.isfile(os.path.join(path, name)):
                return os.path.join(path, name)
        held = sorted(os.listdir(path))[:5]
        raise SourceError(
            f"{path} contains no {CONFIG}",
            help=f"it contains {', '.join(held)}" if held else "it is empty",
        )
    if os.path.isfile(path):
        return path
    if (cached := _cached(path)) is not None:
        return cached
    if os.path.exists(path):
        raise SourceError(f"{path} is neither a file nor a folder")
    parent = Path(path).parent
    near = [str(entry) for entry in parent.iterdir()] if parent.is_dir() else []
    fetch = f"hf download {path} {CONFIG} --local-dir {Path(path).name}"
    raise SourceError(
        f"no such file or folder: {path}",
        help=(*did_you_mean(path, near), f"nothing is downloaded; a config of the hub is fetched with: {fetch}"),
    )


def _cached(name: str) -> str | None:
    """The config of a model of the hub that was downloaded before, in the folder where its library keeps it."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        return None
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    hub = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    folder = Path(hub) / f"models--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    for file in (INDEX, CONFIG):
        path = folder / "snapshots" / revision / file
        if path.is_file():
            return str(path)
    return None


def read(path: str) -> Config:
    """Read a config from its file; raises SourceError with the place of what is wrong."""
    try:
        data = read_file(path, LARGEST)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    return parse(data, path)


def parse(data: bytes, path: str) -> Config:
    """Read a config from its bytes."""
    if len(data) > LARGEST:
        raise SourceError(f"{path} is larger than {LARGEST:,} bytes: it is no config")
    text = decoded(data, path, SourceError)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        mark = Mark(SourceText(path, text), error.lineno, error.colno)
        raise SourceError(Diagnostic(f"not JSON: {error.msg}", mark)) from None
    except RecursionError:
        raise SourceError(f"{path} is nested too deeply to be a config") from None
    library = library_of(found) if isinstance(found, dict) else None
    if library is None:
        raise SourceError(
            f"{path} is not a config: it has no model_type, architectures or _class_name",
            help="a config.json of transformers says its model_type; a saved report is named without hf:",
        )
    return Config(path, found, library)
