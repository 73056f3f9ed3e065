"""The inputs that ``--input`` names: shapes, names and dtypes, and tensors made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convstat.errors import UsageError
from convstat.graph import Shape

_INPUT = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?:(?P<scalar>scalar)|(?P<batch>[Nn][x×])?(?P<shape>\d+(?:[x×]\d+)*))"
    r"(?::(?P<dtype>\w+))?",
    re.ASCII | re.IGNORECASE,
)

HELP = "write the sizes: 3x224x224, x=3x224x224 or ids=128:int64"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One ``--input`` as it was written.

    ``says_batch`` is True where the sizes begin with ``N``: what follows is one sample, whatever its rank.
    """

    text: str
    name: str | None
    shape: Shape
    dtype: str | None
    says_batch: bool = False

    def with_batch(self, batch: int, usual: Shape | None = None) -> Shape:
        """The whole shape for a model that states none of its own.

        A spec's inputs never include the batch. A Python model's may: so the batch is added where the sizes begin
        with ``N``, where they are those of one sample of the model's ``usual`` input, and otherwise where they are
        features (1 size) or C x H x W (3 sizes); any other number of sizes is taken as written.

        >>> parse("3x224x224").with_batch(1), parse("1x128:int64").with_batch(1), parse("Nx197x768").with_batch(2)
        ((1, 3, 224, 224), (1, 128), (2, 197, 768))
        """
        if usual is not None:
            add = self.says_batch or len(self.shape) == len(usual) - 1
        else:
            add = self.says_batch or len(self.shape) in (1, 3)
        if add:
            return (batch, *self.shape)
        if batch != 1 and self.shape and self.shape[0] != batch:
            raise UsageError(
                f"--input {self.text} states a first size of {self.shape[0]}, and --batch says {batch}",
                help=f"write N for the batch: --input {self.name + '=' if self.name else ''}Nx...",
            )
        return self.shape


def parse(text: str) -> InputSpec:
    """Read one ``--input``: an optional name, the sizes, an optional dtype; ``scalar`` has no sizes.

    >>> parse("ids=128:int64")
    InputSpec(text='ids=128:int64', name='ids', shape=(128,), dtype='int64', says_batch=False)
    """
    match = _INPUT.fullmatch(text.replace(" ", "").replace(",", "x"))
    if match is None:
        raise UsageError(f"cannot read the input shape '{text}'", help=HELP)
    shape = () if match["scalar"] else tuple(int(size) for size in re.split("[x×]", match["shape"].lower()))
    if shape and min(shape) < 1:
        raise UsageError(f"the input shape '{text}' has a size of 0")
    return InputSpec(text, match["name"], shape, match["dtype"], bool(match["batch"]))


def parse_all(texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Read every ``--input``; refuses a name that is given twice."""
    specs = tuple(parse(text) for text in texts)
    names = [spec.name for spec in specs if spec.name]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"input '{name}' is given twice")
    return specs
