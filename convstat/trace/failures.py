"""Why a way of running a model did not work, and which of several reasons says most."""

from __future__ import annotations

import dis
import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convstat.errors import ConvstatError, Diagnostic, InputError, Mark, SourceError
from convstat.patches.guard import own
from convstat.trace.bounds import MEMORY_WITHOUT_WEIGHTS, is_out_of_memory
from convstat.trace.recipe import (
    NO_GPU,
    TooLargeError,
    failed,
    is_foreign,
    is_torchs,
    reason,
    text_of,
    users_line,
    wants_gpu,
)
from convstat.trace.refusals import is_refusal

VALUES = "it reads values of tensors"

VALUES_ARE_READ = re.compile(
    r"\.item\(\) cannot be called on meta|of meta tensor; no data|convert meta device type tensor"
    r"|tolist\(\) shouldn't|unallocated storage|[Dd]ata.?[Dd]ependent|unbacked|not supported for tensor subclasses"
    r"|_local_scalar_dense|convert a FakeTensor|the data pointer of|Cannot access data pointer"
)
"""What torch says where a tensor without values is read."""

_NO_KERNEL = re.compile(r"(\w+::\w+).*(?:[Mm]eta|fake)|'(\w+::\w+)' with arguments from the '\w*Meta\w*' backend")

_NO_FAKE = re.compile(r"no fake impl registered for <CustomOpDef\((\w+::\w+)\)>")
"""What torch says of an operator that is written in Python."""

_NOT_HERE = re.compile(r"'(\w+::\w+)' with arguments from the '\w+' backend")
"""What torch says of an operator that runs on other devices only."""

_OF_THE_WAY = re.compile(
    r"[Ff]ake ?[Tt]ensor|[Mm]eta tensor|on device meta|and meta!|Couldn't swap|incompatible tensor type"
)
"""What torch says where tensors of two ways meet."""

_NO_OPERATORS = re.compile(r"Couldn't load custom C\+\+ ops|torchvision::\w+")


@dataclass(frozen=True, slots=True)
class Failure:
    """One way that did not work.

    ``signature`` and ``inputs`` say what the forward takes and what it was given;
    the signature is None where the model could not even be made.
    ``weights`` are their bytes, where it was made; ``assumed`` says that its values had been assumed before it failed.
    """

    way: str
    error: BaseException
    signature: str | None = None
    inputs: str = ""
    forward: Mark | None = None
    weights: int | None = None
    assumed: bool = False

    @property
    def cause(self) -> BaseException:
        """What the model itself raised."""
        inner = self.error.__cause__
        return inner if isinstance(self.error, ConvstatError) and inner is not None else own(self.error)

    @property
    def is_unfit(self) -> bool:
        """Whether the way was not even tried."""
        return isinstance(self.error, UnfitError)

    @property
    def is_memory(self) -> bool:
        """Whether it needs too much memory."""
        return isinstance(self.cause, TooLargeError) or is_out_of_memory(self.cause)

    @property
    def reads_values(self) -> bool:
        """Whether its forward pass read a value that was not there."""
        return self.signature is not None and VALUES_ARE_READ.search(text_of(self.cause)) is not None

    @property
    def is_artefact(self) -> bool:
        """Whether it comes from the way: on real tensors, with all operators, the model would have gone on."""
        return self.is_memory or self.lacks is not None or _comes_from_the_way(self.cause)

    @property
    def is_final(self) -> bool:
        """Whether no other way can mend it: the model itself raised it, or Python did for what it wrote."""
        if self.assumed or self.is_unfit:
            return False
        if is_refusal(self.cause):
            return True
        if isinstance(self.cause, MemoryError):
            # Python's own: it is no tensor that is too large.
            return True
        if self.is_artefact or any(_comes_from_the_way(error) for error in context_of(self.cause)):
            return False
        return is_raised_by_the_model(self.cause) or (
            is_large(self.weights) and _SHAPES.search(text_of(self.cause)) is not None
        )

    @property
    def lacks(self) -> str | None:
        """The operator that has no kernel there."""
        text = text_of(self.cause)
        if type(self.cause).__name__ == "UnsupportedOperatorException":
            # Of fake tensors: mylib.my_op.default.
            return "::".join(text.split(".")[:2])
        if (match := _NO_FAKE.search(text)) is not None:
            return match[1]
        if not isinstance(self.cause, NotImplementedError):
            return None
        match = _NO_KERNEL.search(text) or (_NOT_HERE.search(text) if self.way in DEVICES else None)
        return match and next(group for group in match.groups() if group)

    @property
    def mark(self) -> Mark | None:
        """The user's own line; where it was not reached, that of the forward."""
        return users_line(self.cause) or self.forward

    def why(self) -> str:
        """The reason in a few words, with the place."""
        place = f" ({self.mark.file}:{self.mark.line})" if self.mark is not None else ""
        if VALUES_ARE_READ.search(text_of(self.cause)):
            return VALUES + place
        if self.is_memory:
            return "it needs too much memory" + place
        if self.lacks:
            return f"{self.lacks} only runs on real tensors{place}"
        text = reason(self.cause)
        return (text if len(text) <= 100 else f"{text[:100].rstrip()}...") + place


def _comes_from_the_way(error: BaseException) -> bool:
    text = text_of(error)
    return any(pattern.search(text) for pattern in (VALUES_ARE_READ, _OF_THE_WAY, _NO_OPERATORS))


def context_of(error: BaseException) -> Iterator[BaseException]:
    """What was being handled when an exception was raised."""
    seen = {id(error)}
    before = error.__cause__ or error.__context__
    while before is not None and id(before) not in seen:
        yield before
        seen.add(id(before))
        before = before.__cause__ or before.__context__


def is_raised_by_the_model(error: BaseException) -> bool:
    """Whether a statement of the model's raised an exception, or Python did where the model was running.

    torch's compiled code raises without a frame of its own, so what torch may have raised does not count; and what
    asks for a device may be content with another.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    text, code = text_of(error), last.tb_frame.f_code
    if isinstance(error, TypeError) and _CALLS.search(text):
        return True
    if not (is_foreign(code.co_filename) or is_torchs(Path(code.co_filename), "nn/modules", "nn/functional.py")):
        return False
    if _DEVICES.search(text) or _DEVICES.search(linecache.getline(code.co_filename, last.tb_lineno)):
        return False
    is_raise = code.co_code[last.tb_lasti] == _RAISE
    return is_raise or isinstance(error, _PYTHONS) or (isinstance(error, IndexError) and "range" in text)


_RAISE = dis.opmap["RAISE_VARARGS"]
_PYTHONS = (NameError, AttributeError, KeyError, ZeroDivisionError, ImportError)
_CALLS = re.compile(r"missing \d+ required|positional arguments? but|unexpected keyword|multiple values for")
_DEVICES = re.compile(r"\b(?:meta|device|devices|cpu|cuda|gpu|is_cpu|is_meta|is_cuda|data_ptr)\b", re.IGNORECASE)
_SHAPES = re.compile(
    r"shapes cannot be multiplied|same reduction dim|must match the size|Sizes of tensors must match"
    r"|is invalid for input|to have \d+ channels|[Ss]ize mismatch|normalized_shape|should be equal to input_size"
    r"|expected to have size"
)
"""What torch says of shapes that do not fit, on meta as on a CPU, though in other words."""


def is_large(weights: int | None) -> bool:
    """Whether weights of so many bytes are too large to be made only to find something out."""
    return weights is not None and weights > SMALL_WEIGHTS


SMALL_WEIGHTS = 256 * 2**20
"""Bytes of weights up to which a real run is always worth a try."""


class UnfitError(Exception):
    """A way that cannot be tried for this model; the message says why."""


DEVICES = ("cpu", "cuda")
"""The ways that are real runs."""

ENDLESS = ("a model is created and run once: move loops over steps, samples and epochs to the caller",)


def give_up(source: str, device: str, failures: list[Failure]) -> ConvstatError:
    """Make one error of all ways that failed: the one that is the model's own, as a real run would show it."""
    tried = [failure for failure in failures if not failure.is_unfit]
    if not tried:
        return SourceError(f"{source} does not run: {failures[-1].error}")
    own = [failure for failure in tried if not failure.is_artefact]
    chosen = own[-1] if own else next((failure for failure in tried if not failure.is_memory), tried[0])
    if chosen.is_memory and chosen.way not in DEVICES:
        most = f"{MEMORY_WITHOUT_WEIGHTS / 2**30:.0f} GiB"
        what = f"{source} needs more than {most} of memory without its weights"
        return failed(what, chosen.cause, mark=chosen.mark, help=ENDLESS)
    notes = [f"a real run was not tried: {failure.error}" for failure in failures if failure.is_unfit and not own]
    if chosen.inputs:
        notes.append(f"its inputs were {chosen.inputs}")
    what = f"{source} does not run" if chosen.signature is not None else f"{source} could not be created"
    help = tuple(_help(chosen, device, failures))
    error = failed(what, chosen.cause, mark=chosen.mark, notes=tuple(notes), help=help)
    if chosen.lacks is not None and all(failure.lacks == chosen.lacks for failure in tried):
        message = f"{what}: {chosen.lacks} has no kernel that runs here, and no fake kernel"
        error = SourceError(Diagnostic(message, chosen.mark, notes=tuple(notes), help=help))
    if help == (_signature(chosen),):
        error = InputError(error.diagnostics)
    error.__cause__ = chosen.cause
    return error


def _help(chosen: Failure, device: str, failures: list[Failure]) -> list[str]:
    text = text_of(chosen.cause)
    if wants_gpu(chosen.cause):
        return [NO_GPU]
    if chosen.is_artefact:
        help = []
        if chosen.lacks is not None and not chosen.lacks.startswith(("aten::", "torchvision::")):
            name = chosen.lacks
            help.append(f"define its output shapes: @torch.library.register_fake('{name}')")
            if chosen.way in DEVICES or device == "auto":
                help.append(f"or its CPU kernel: @torch.library.register_kernel('{name}', 'cpu')")
            return help
        if device == "meta":
            return ["omit --device, or run the model with --device cpu"]
        if any(_NO_OPERATORS.search(text_of(failure.cause)) for failure in failures):
            help.append("torchvision's operators cannot be loaded with this torch: install the matching build")
        if any(failure.is_unfit for failure in failures):
            help.append("make it smaller, or run it with --device cpu on a machine with more memory")
        return help or ["run it with --device cpu"]
    if chosen.signature is None:
        return ["it is called with the overrides alone: NAME=VALUE"] if isinstance(chosen.cause, TypeError) else []
    if isinstance(chosen.cause, RecursionError):
        return ["its forward recurses without end, or deeper than Python allows"]
    if "memory" in text:
        return ["give a smaller input or batch"]
    return [_signature(chosen)]


def _signature(chosen: Failure) -> str:
    return f"its forward takes ({chosen.signature})"
