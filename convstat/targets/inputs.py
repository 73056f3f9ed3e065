"""The inputs that ``--input`` names: shapes, names and dtypes.

::

    input = [name "="] sizes [":" dtype]
    sizes = ["N" "x"] size { "x" size }      one sample, or with its batch: see InputSpec.with_batch
          | "N"                              the batch alone, as time steps have it
          | "[" size { "," size } "]"        the whole shape, exactly
          | "scalar"                         a tensor without dimensions
    data  = [name "="] "@" path              the values in a file (convstat.targets.data), as --data names it
    named = name blank size                  an input by what it is (convstat.grammar.sizes), as --tokens names it
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from convstat.errors import UsageError
from convstat.formulas.cost import Shape
from convstat.grammar import sizes

_SIZES = r"\d{1,18}(?:x\d{1,18})*"
_INPUT = re.compile(
    rf"(?:(?P<name>(?u:[^\W\d]\w*))=)?"
    rf"(?:(?P<scalar>scalar)|\[(?P<exact>{_SIZES})\]|(?P<batch>N)(?:x(?P<sample>{_SIZES}))?|(?P<shape>{_SIZES}))"
    r"(?::(?P<dtype>\w+))?",
    re.ASCII | re.IGNORECASE,
)

_DATA = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)\s*=\s*)?@(?P<path>.+)", re.ASCII)

_SEPARATORS = str.maketrans({",": "x", "\u00d7": "x"})

HELP = "write the sizes: 3x224x224, x=3x224x224, ids=Nx128:int64, t=N, or [2,3,4] for a whole shape"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One ``--input`` as it was written.

    ``says_batch`` is True where the sizes begin with ``N``: ``shape`` is then one sample, whatever its rank.
    ``is_exact`` is True where ``shape`` is the whole one, batch or not.
    ``data`` is the file that it is from, where it has values; it says no shape then. Nor does it where ``size`` names
    it by what it is: ``tokens 4096``.
    """

    text: str
    name: str | None
    shape: Shape
    dtype: str | None
    says_batch: bool = False
    is_exact: bool = False
    data: str | None = None
    size: str | None = None

    def with_batch(self, batch: int, usual: Shape | None = None) -> Shape:
        """The whole shape for a model that states none of its own.

        A spec's inputs never include the batch. A Python model's may: so the batch is added

        - where the sizes begin with ``N``;
        - where the model has a ``usual`` input, and the sizes are those of one sample of it;
        - without one, where they are features (1 size) or C x H x W (3 sizes).

        Anything else is taken as written, and so are brackets, always.

        >>> parse("3x224x224").with_batch(1), parse("1x128:int64").with_batch(1), parse("Nx197x768").with_batch(2)
        ((1, 3, 224, 224), (1, 128), (2, 197, 768))
        >>> parse("[3,4,5]").with_batch(1), parse("t=N:int64").with_batch(8), parse("scalar").with_batch(8)
        ((3, 4, 5), (8,), ())
        """
        if self.is_exact:
            return self.shape
        ranks = (1, 3) if usual is None else (len(usual) - 1,)
        if self.says_batch or (self.shape and len(self.shape) in ranks):
            return (batch, *self.shape)
        if batch != 1 and self.shape and self.shape[0] != batch:
            raise UsageError(
                f"--input {self.text} has a first size of {self.shape[0]}, but --batch is {batch}",
                help=f"write N for the batch, --input {self._called('Nx...')}, or brackets: {self._called('[...]')}",
            )
        return self.shape

    def _called(self, sizes: str) -> str:
        return f"{self.name}={sizes}" if self.name else sizes


def parse(text: str) -> InputSpec:
    """Read one ``--input``: an optional name, the sizes, an optional dtype.

    >>> spec = parse("ids=128:int64")
    >>> spec.name, spec.shape, spec.dtype
    ('ids', (128,), 'int64')
    >>> parse("ids=@ids.npy").data
    'ids.npy'
    """
    if (named := sizes.split(text)) is not None:
        sizes.parse(*named)
        return InputSpec(text, None, (), None, is_exact=True, size=named[0])
    data = _DATA.fullmatch(text.strip())
    if data is not None:
        return InputSpec(text, data["name"], (), None, is_exact=True, data=data["path"])
    # Blanks may stand around a separator; between two sizes they are no separator themselves.
    match = _INPUT.fullmatch(re.sub(r"\s*([=:x,\u00d7\[\]])\s*", r"\1", text.strip()).translate(_SEPARATORS))
    if match is None:
        raise UsageError(f"cannot read the input shape '{text}'", help=HELP)
    written = match["exact"] or match["sample"] or match["shape"]
    shape = tuple(int(size) for size in written.lower().split("x")) if written else ()
    if shape and min(shape) < 1:
        raise UsageError(f"the input shape '{text}' has a size of 0")
    is_exact = bool(match["exact"] or match["scalar"])
    return InputSpec(text, match["name"], shape, match["dtype"], bool(match["batch"]), is_exact)


def parse_all(texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Read every ``--input``; refuses a name that is given twice."""
    specs = tuple(parse(text) for text in texts)
    sizes.together(texts)
    names = [spec.name for spec in specs if spec.name]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"input '{name}' is given twice")
    return specs
