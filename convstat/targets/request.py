"""How something is to be counted: a target, and everything that decides what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convstat.errors import Diagnostic, UsageError
from convstat.grammar.basis import DEFAULT
from convstat.targets import Target
from convstat.units import UnitError

if TYPE_CHECKING:
    from convstat.spec import Spec
    from convstat.trace.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Request:
    """A target and how it is to be counted.

    ``inputs`` are shapes as ``--input`` takes them. ``per`` is the basis of MACs/pixel; where it is None, that is what
    the spec says, or else ``usual_per``.
    ``weights`` and ``activations`` are the widths of stored weights and of activations: ``int8``; None where not set.
    ``picture`` is the size of one that is counted in blocks, ``1920x1080``, ``edges`` the rule at its edges (see
    :mod:`convstat.count.blocks`), and ``worst_case`` are the block sizes of which the one that costs most is counted.
    With ``fuse``, the deployed form is counted; with ``extents``, each layer's receptive field is found too, with
    ``memory``, the figures of memory that it names (:data:`convstat.results.report.MEMORY`), with ``arena`` those of a
    microcontroller, and with ``language`` those figures of a language model that take further runs: in that of
    training, the modules that ``checkpoint`` names are run again.
    ``spec`` is the text of the target where it has been read already, or where it is that of another time; ``recipe``
    is how a Python model is made where that is known already.
    Where it runs changes no figure, so requests for different devices are equal.
    """

    target: Target
    overrides: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    batch: int = 1
    dtype: str = "float32"
    per: str | None = None
    mode: str = "eval"
    weights: str | None = None
    activations: str | None = None
    fuse: bool = False
    extents: bool = False
    memory: tuple[str, ...] = ()
    language: bool = False
    checkpoint: tuple[str, ...] = ()
    arena: bool = False
    device: str = field(default="auto", compare=False)
    usual_per: str = DEFAULT
    picture: str | None = None
    edges: str = "pad"
    worst_case: tuple[str, ...] = ()
    spec: Spec | None = field(default=None, compare=False, repr=False)
    recipe: Recipe | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse widths that do not exist, and write one in one way: ``int8+int32`` is ``int8``."""
        if self.weights is None and self.activations is None:
            return
        from convstat.grammar import widths

        for name, read in (("weights", widths.one_way), ("activations", widths.known)):
            if (written := getattr(self, name)) is not None:
                try:
                    object.__setattr__(self, name, read(written))
                except UnitError as error:
                    raise UsageError(f"--{name}: {error.message}", help=error.help or ()) from None

    @property
    def argument(self) -> str:
        """The target as written."""
        return self.target.argument

    @property
    def is_in_blocks(self) -> bool:
        """Whether a picture or several block sizes are to be counted."""
        return self.picture is not None or bool(self.worst_case)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is said beside the name of the target."""
        return self == Request(self.target)


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what is going on, in words, and the warnings about each spec that is read."""

    progress: Callable[[str], object] = lambda text: None
    warn: Callable[[Sequence[Diagnostic]], object] = lambda problems: None


NOBODY = Listener()
