"""Baseline files: what a model cost when somebody last accepted it, kept beside the code.

A spec's base is its text at the merge-base of a git branch, which no file has to repeat.
For a Python model there is no such text, so its counts are kept in a file: one for each model, its keys in order,
one line for each layer, exact integers, and nothing that changes by itself: no time, no commit, no version.
So saving twice gives the same bytes, and a change of a model is a change of a few lines.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convstat.errors import OutputError
from convstat.grammar.axes import plain
from convstat.grammar.paths import as_target, split_file
from convstat.results.baseline import Asked, Baseline
from convstat.results.documents.codec import to_document
from convstat.results.report import Report
from convstat.targets.request import Request
from convstat.text.writing import replacing

FOLDER = os.path.join(".convstat", "baselines")


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baseline files of a project, in one folder below its root."""

    root: Path

    @classmethod
    def of(cls, settings: str | None) -> Baselines:
        """Find the root: the folder of the settings, else the top of the git repository, else the working folder."""
        if settings is not None:
            return cls(Path(os.path.dirname(settings) or "."))
        current = Path.cwd()
        for folder in (current, *current.parents):
            if (folder / ".git").exists():
                return cls(Path(os.path.relpath(folder)))
        return cls(Path("."))

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.root / FOLDER

    def named(self, argument: str) -> str:
        """Give a target as the files call it: a path in it is from the root."""
        path, rest = split_file(argument)
        if path is None or os.path.isabs(path):
            return argument
        return as_target(os.path.relpath(path, self.root).replace(os.sep, "/")) + rest

    def path(self, request: Request) -> Path:
        """Give the file of a model; two models, or one counted in two ways, never share one."""
        return self.folder / file_name(self.named(request.argument), request)

    def files(self) -> Iterator[Path]:
        """Every baseline file, in the order of their names."""
        return iter(sorted(self.folder.glob("*.json")))

    def text(self, request: Request, report: Report) -> str:
        """Write the file of a model."""
        return to_text(Baseline.of(report, self.named(request.argument), asked(request)).to_dict())

    def write(self, path: Path, text: str) -> bool:
        """Write a file, whole or not at all; False where it already says so."""
        try:
            if path.exists() and path.read_text(encoding="utf-8") == text:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part, open(part, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        return True


def file_name(target: str, request: Request) -> str:
    """Name the file of a model: readable, and different for what is different.

    >>> from convstat.targets import resolve
    >>> plain = Request(resolve("torchvision/resnet18"))
    >>> file_name("torchvision/resnet18", plain), file_name("nets.unet:build", plain)
    ('torchvision-resnet18.json', 'nets.unet--build.json')
    >>> file_name("torchvision/resnet18", Request(plain.target, batch=2))
    'torchvision-resnet18-df8a045a.json'
    """
    readable = re.sub(r"[^A-Za-z0-9_.\-]+", "-", target.replace(":", "--")).strip("-.")[:80] or "model"
    # Only such names say all that there is to say; any other gets a mark that does.
    is_plain = re.fullmatch(r"[a-z0-9_.]+([/:][a-z0-9_.]+)*", target) is not None and len(target) <= 60
    if is_plain and request.is_plain:
        return f"{readable}.json"
    import hashlib

    identity = json.dumps([target, to_document(asked(request))], sort_keys=True)
    return f"{readable}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}.json"


def asked(request: Request) -> Asked:
    """Say how a target is to be counted, as a baseline file does."""
    return Asked(
        request.batch,
        request.dtype,
        request.inputs,
        request.overrides,
        request.per or request.usual_per,
        request.weights,
        request.activations,
        request.fuse,
    )


def to_text(document: Mapping[str, Any]) -> str:
    """Write a document so that the same content is the same bytes, with one line for each layer."""

    def write(value: Any) -> str:
        return json.dumps(value, sort_keys=True, allow_nan=False, default=_plain)

    lines = []
    for key in sorted(document):
        value = document[key]
        if isinstance(value, list) and value:
            rows = ",\n".join(f"  {write(item)}" for item in value)
            lines.append(f'"{key}": [\n{rows}\n ]')
        else:
            lines.append(f'"{key}": {write(value)}')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _plain(value: object) -> object:
    """Give what JSON does not have as what it has; what is left is a text, never the address of an object."""
    found = plain(value)
    return found if isinstance(found, (int, float)) else re.sub(r" at 0x[0-9a-f]+", "", str(value))
