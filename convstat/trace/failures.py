"""Why a way of running a model did not work, and which of several reasons says most."""

from __future__ import annotations

import re
from dataclasses import dataclass

from convstat.errors import ConvstatError, Mark, SourceError
from convstat.sources.recipe import NO_GPU, failed, reason, users_line, wants_gpu

VALUES = "it reads values of tensors"

_VALUES = re.compile(
    r"\.item\(\) cannot be called on meta|of meta tensor; no data|convert meta device type tensor"
    r"|tolist\(\) shouldn't|unallocated storage|[Dd]ata.?[Dd]ependent|unbacked|not supported for tensor subclasses"
    r"|_local_scalar_dense|convert a FakeTensor|the data pointer of|Cannot access data pointer"
)
"""What torch says where a tensor without values is read."""

_NO_KERNEL = re.compile(r"(\w+::\w+).*(?:[Mm]eta|fake)|'(\w+::\w+)' with arguments from the '\w*Meta\w*' backend")

_OF_THE_WAY = re.compile(
    r"[Ff]ake ?[Tt]ensor|[Mm]eta tensor|on device meta|and meta!|Couldn't swap|incompatible tensor type"
)
"""What torch says where tensors of two ways meet."""

_NO_OPERATORS = re.compile(r"Couldn't load custom C\+\+ ops|torchvision::\w+")


@dataclass(frozen=True, slots=True)
class Failure:
    """One way that did not work.

    ``signature``, ``options`` and ``inputs`` say what the forward takes, how to give it, and what it was given;
    the signature is None where the model could not even be made.
    """

    way: str
    error: BaseException
    signature: str | None = None
    options: str = ""
    inputs: str = ""
    forward: Mark | None = None

    @property
    def cause(self) -> BaseException:
        """What the model itself raised."""
        inner = self.error.__cause__
        return inner if isinstance(self.error, ConvstatError) and inner is not None else self.error

    @property
    def is_unfit(self) -> bool:
        """Whether the way was not even tried."""
        return isinstance(self.error, UnfitError)

    @property
    def is_artefact(self) -> bool:
        """Whether it comes from the way: on real tensors, with all operators, the model would have gone on."""
        text = str(self.cause)
        return any(pattern.search(text) for pattern in (_VALUES, _OF_THE_WAY, _NO_OPERATORS)) or self.lacks is not None

    @property
    def lacks(self) -> str | None:
        """The operator that has no kernel there."""
        match = _NO_KERNEL.search(str(self.cause)) if isinstance(self.cause, NotImplementedError) else None
        return match and (match[1] or match[2])

    @property
    def mark(self) -> Mark | None:
        """The user's own line; where it was not reached, that of the forward."""
        return users_line(self.cause) or self.forward

    def why(self) -> str:
        """The reason in a few words, with the place."""
        place = f" ({self.mark.file}:{self.mark.line})" if self.mark is not None else ""
        if _VALUES.search(str(self.cause)):
            return VALUES + place
        if self.lacks:
            return f"{self.lacks} only runs on real tensors{place}"
        text = reason(self.cause)
        return (text if len(text) <= 100 else f"{text[:100].rstrip()}...") + place


class UnfitError(Exception):
    """A way that cannot be tried for this model; the message says why."""


def give_up(source: str, device: str, failures: list[Failure]) -> ConvstatError:
    """Make one error of all ways that failed: the one that is the model's own, as a real run would show it."""
    tried = [failure for failure in failures if not failure.is_unfit]
    if not tried:
        return SourceError(f"{source} does not run: {failures[-1].error}")
    own = [failure for failure in tried if not failure.is_artefact]
    chosen = own[-1] if own else tried[0]
    notes = [f"a real run was not tried: {failure.error}" for failure in failures if failure.is_unfit and not own]
    if chosen.inputs:
        notes.append(f"it was given {chosen.inputs}")
    what = f"{source} does not run" if chosen.signature is not None else f"{source} could not be made"
    error = failed(what, chosen.cause, notes=tuple(notes), help=tuple(_help(chosen, device, failures)))
    error.__cause__ = chosen.cause
    return error


def _help(chosen: Failure, device: str, failures: list[Failure]) -> list[str]:
    text = str(chosen.cause)
    if wants_gpu(chosen.cause):
        return [NO_GPU]
    if chosen.is_artefact:
        if device == "meta":
            return ["leave --device out, or run it for real with --device cpu"]
        help = []
        if any(_NO_OPERATORS.search(str(failure.cause)) for failure in failures):
            help.append("torchvision's operators do not load beside this torch: install the build that fits it")
        if any(failure.is_unfit for failure in failures):
            help.append("make it smaller, or run it for real with --device cpu on a machine with more memory")
        return help or ["run it for real with --device cpu"]
    if chosen.signature is None:
        return ["it is called with the overrides alone: NAME=VALUE"] if isinstance(chosen.cause, TypeError) else []
    if isinstance(chosen.cause, RecursionError):
        return ["its forward calls itself without end, or nests deeper than Python can"]
    if "memory" in text:
        return ["give a smaller input or batch"]
    return [f"its forward takes ({chosen.signature})", f"for example: {chosen.options}"]
