"""What the user named -> something that can be counted.

A target is recognised by its form and never by trial: nothing is opened, imported or run to find out what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convstat.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from convstat.spec import Spec

FORMS = (
    "a spec:           configs/resnet50.yaml, net.yaml#small, or - for standard input",
    "an inline layer:  'Conv2d(64, 128, kernel_size=3)' --input 64x56x56",
    "a Python model:   package.module:build, path/to/file.py:Net",
    "a zoo model:      torchvision/resnet50, timm/mobilenetv3_small_100",
    "a saved report:   report.json",
)
"""The forms of a target, for messages."""

_INLINE = re.compile(r"\s*[A-Za-z_]\w*\s*\(.*\)\s*", re.DOTALL)

_ENTRY = re.compile(r"(?:.+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Target:
    """A target as written, and what its form says it is.

    ``kind`` is ``spec``, ``inline``, ``module``, ``zoo`` or ``report``;
    ``path`` is what is named without its ``#variant``.
    """

    argument: str
    kind: str
    path: str
    variant: str | None = None

    @property
    def needs_torch(self) -> bool:
        """Whether it is a Python model: made by running code that the user named."""
        return self.kind in ("module", "zoo")

    def load(self) -> Spec:
        """Read the spec or the inline layer; raises SpecError or SourceError."""
        if self.kind == "inline":
            from convstat.sources import inline

            return inline.read(self.argument)
        from convstat.sources import yaml

        return yaml.read(self.path)


def resolve(argument: str) -> Target:
    """Tell what kind of target an argument is.

    >>> resolve("net.yaml#small")
    Target(argument='net.yaml#small', kind='spec', path='net.yaml', variant='small')
    >>> resolve("Conv2d(3, 8, 3)").kind
    'inline'
    >>> resolve("nets/unet.py:UNet").kind, resolve("torchvision/vit_b_16").kind
    ('module', 'zoo')
    """
    if _INLINE.fullmatch(argument):
        return Target(argument, "inline", argument)
    path, _, variant = argument.partition("#")
    if path == "-" or path.endswith((".yaml", ".yml")):
        return Target(argument, "spec", path, variant or None)
    if path.endswith(".json"):
        return Target(argument, "report", path)
    if path.startswith(("torchvision/", "timm/")):
        return Target(argument, "zoo", path, variant or None)
    if _ENTRY.fullmatch(argument):
        return Target(argument, "module", argument)
    raise UsageError(
        f"cannot tell what '{argument}' is",
        help=(*did_you_mean(argument, _nearby()), *(f"a target is {form}" for form in FORMS)),
    )


def _nearby() -> list[str]:
    """Specs that lie around: what a mistyped target may have meant."""
    from pathlib import Path

    found: list[str] = []
    for folder in (Path(), Path("configs")):
        if folder.is_dir():
            found += sorted(str(path) for path in folder.glob("*.y*ml"))[:500]
    return found
