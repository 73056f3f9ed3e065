"""What the user named -> something that can be counted.

A target is recognised by its form and never by trial: nothing is imported or run to find out what it is. Only a JSON
file and a folder are looked into: a config of transformers or diffusers is named as a saved report is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convstat.errors import UsageError, did_you_mean
from convstat.grammar.paths import FILES, split_variant
from convstat.targets.revisions import split

if TYPE_CHECKING:
    from convstat.spec import Spec

FORMS = (
    "a spec:           configs/resnet50.yaml, net.yaml#small, or - for standard input",
    "an inline layer:  'Conv2d(64, 128, kernel_size=3)' --input 64x56x56",
    "a Python model:   package.module:build, path/to/file.py:Net",
    "a zoo model:      torchvision/resnet50, timm/mobilenetv3_small_100, transformers/llama",
    "a model's config: config.json, a folder with one, or hf:FOLDER",
    "a saved report:   report.json",
    "at a revision:    main:configs/net.yaml, v1.0:report.json",
)
"""The forms of a target, for messages."""

_INLINE = re.compile(r"\s*[A-Za-z_][\w.]*\s*\(.*\)\s*", re.DOTALL)
_OPENED = re.compile(r"\s*[A-Za-z_][\w.]*\s*\(.*", re.DOTALL)

_NAMES = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_ENTRY = re.compile(rf"(?:.+\.py|{_NAMES}):{_NAMES}")


@dataclass(frozen=True, slots=True)
class Target:
    """A target as written, and what its form says it is.

    ``kind`` is ``spec``, ``inline``, ``module``, ``zoo``, ``config`` or ``report``;
    ``path`` is what is named without its ``#variant`` and its ``revision``, the state of a git repository.
    """

    argument: str
    kind: str
    path: str
    variant: str | None = None
    revision: str | None = None

    @property
    def needs_torch(self) -> bool:
        """Whether it is a Python model: made by running code that the user named."""
        return self.kind in ("module", "zoo", "config")

    @property
    def is_config(self) -> bool:
        """Whether it is made from a config of transformers or diffusers, whose fields overrides then are."""
        return self.kind == "config" or (self.kind == "zoo" and self.path.startswith("transformers/"))

    @property
    def is_spec(self) -> bool:
        """Whether it is YAML or an inline layer, which is counted without torch."""
        return self.kind in ("spec", "inline")

    def load(self) -> Spec:
        """Read the spec or the inline layer; raises SpecError or SourceError."""
        if self.kind == "inline":
            from convstat.targets import inline

            return inline.read(self.argument)
        from convstat.targets import yaml

        return yaml.read(self.path) if self.revision is None else yaml.read_at(self.revision, self.path)


def resolve(argument: str) -> Target:
    """Tell what kind of target an argument is.

    >>> resolve("net.yaml#small")
    Target(argument='net.yaml#small', kind='spec', path='net.yaml', variant='small', revision=None)
    >>> resolve("main:net.yaml").revision
    'main'
    >>> resolve("Conv2d(3, 8, 3)").kind
    'inline'
    >>> resolve("nets/unet.py:UNet").kind, resolve("torchvision/vit_b_16").kind
    ('module', 'zoo')
    """
    if _INLINE.fullmatch(argument):
        return Target(argument, "inline", argument)
    path, variant = split_variant(argument)
    if path.startswith("hf:") or _is_config(path):
        return Target(argument, "config", path, variant or None)
    if path == "-" or path.endswith(FILES):
        kind = "report" if path.endswith(".json") else "spec"
        revision, place = split(path) or (None, path)
        return Target(argument, kind, place, variant or None if kind == "spec" else None, revision)
    if path.startswith(("torchvision/", "timm/", "transformers/")):
        return Target(argument, "zoo", path, variant or None)
    if _ENTRY.fullmatch(argument):
        return Target(argument, "module", argument)
    raise _unknown(argument, path)


def _is_config(path: str) -> bool:
    """Whether a file or a folder is there, and is a config by what it holds."""
    import os

    if not (path.endswith(".json") or os.path.isdir(path)):
        return False
    from convstat.targets.huggingface import files

    return files.is_config(path)


def _unknown(argument: str, path: str) -> UsageError:
    """Say what an argument that has no form of a target most likely is."""
    from pathlib import Path

    from convstat import layers
    from convstat.spec import shipped

    if _OPENED.fullmatch(argument) and (missing := argument.count("(") - argument.count(")")) > 0:
        fixed = argument.strip() + ")" * missing
        return UsageError(f"'{argument}' looks like a layer, but ')' is missing at its end", help=f"write '{fixed}'")
    name = argument.rpartition(".")[2]
    if name in layers.NAMES:
        required = [key for key, spec in layers.NAMES[name].arguments.items() if spec.required]
        call = f"{name}({', '.join(f'{key}=...' for key in required)})"
        return UsageError(f"'{argument}' is a layer without parentheses", help=f"write '{call}'")
    if name in shipped.NAMES:
        return UsageError(f"'{argument}' is a block without parentheses", help=f"write '{name}(...)'")
    forms = tuple(f"a target is {form}" for form in FORMS)
    try:
        place = Path(path)
        if place.is_dir():
            near = sorted(str(entry) for entry in place.glob("*.y*ml"))[:5]
            help = f"it contains {', '.join(near)}" if near else "it contains no .yaml or .yml file"
            return UsageError(f"'{path}' is a directory", help=help)
        if place.is_file():
            end = f"ends in {place.suffix}" if place.suffix else "has no suffix"
            python = (f"to name a model in it: {path}:Net",) if place.suffix == ".py" else ()
            known = ("a spec ends in .yaml or .yml, a saved report in .json",)
            return UsageError(f"cannot recognise the file '{path}': its name {end}", help=python or known)
    except (OSError, ValueError):
        pass  # no name that a file can have
    return UsageError(f"cannot recognise '{argument}'", help=(*did_you_mean(argument, _nearby()), *forms))


def _nearby() -> list[str]:
    """Specs that lie around: what a mistyped target may have meant."""
    from pathlib import Path

    found: list[str] = []
    for folder in (Path(), Path("configs")):
        if folder.is_dir():
            found += sorted(str(path) for path in folder.glob("*.y*ml"))[:500]
    return found
