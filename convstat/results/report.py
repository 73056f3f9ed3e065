"""The frozen result that every command makes, saves or shows.

Field names are those of the JSON document ``convstat.report/1``; see ``convstat schema report``.
Counts are exact integers. FLOPs are always twice the MACs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Annotated, Any, ClassVar

from convstat.grammar import widths
from convstat.results.documents.codec import (
    ADDED,
    SPARSE,
    Count,
    Keys,
    Least,
    Matches,
    OneOf,
    Ratio,
    Saved,
    Shape,
)
from convstat.results.extent import Extent
from convstat.results.fusion import Fusion
from convstat.results.language import Language

CONVSTAT = "convstat"
"""Whose figures a report holds, unless it says otherwise."""

ROOT = "(root)"
"""The name of the row of what a Python model does itself, outside its submodules."""

BACKWARD = " (backward)"
"""What the name of a row ends with where it is a module's backward pass."""

NEVER_CALLED = "never called"
"""The note of a row of parameters that nothing used."""

BACKWARD_PASS = "backward pass"
"""The note of a row that is a module's backward pass."""


@dataclass(frozen=True, slots=True)
class InputInfo:
    """One input: its shape includes the batch."""

    KEYS: ClassVar = Keys(name="input")
    name: str
    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """The cache that a step of decoding begins with: its class, the tokens that went in before, and its bytes."""

    KEYS: ClassVar = Keys(name="cache")
    kind: str
    tokens: Annotated[int, Least(1)]
    bytes: Count


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was counted, and how it was run.

    ``source`` is the file, or the argument as written; ``kind`` is ``spec``, ``inline``, ``module`` or ``report``.
    ``device`` is ``meta``, ``cpu``, ``cuda``, or ``none``.
    ``convention`` is convstat's, unless ``--as`` asked for another counter's; ``counts`` says what those count.
    """

    name: str
    source: str
    kind: str
    inputs: tuple[InputInfo, ...]
    batch: Annotated[int, Least(1)] = 1
    device: Annotated[str, "where the peers ran; none where nothing had to run"] = "none"
    mode: str = "eval"
    dtype: str = "float32"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    notes: Annotated[tuple[str, ...], ADDED] = ()
    rests_on: Annotated[
        str | None,
        ADDED,
        "what the MACs are where they depend on data, and why: an upper bound, or those of a run",
    ] = None
    values: Annotated[str | None, ADDED, "where the values of the inputs are from, if read"] = None
    convention: Annotated[str, SPARSE, "the counter in whose convention the figures are, by --as"] = CONVSTAT
    counts: Annotated[str, SPARSE] = ""
    weights: Annotated[
        Annotated[str, Matches(widths.PATTERN)] | None,
        SPARSE,
        "the width of stored weights and biases, by --weights: int8, int8+int16",
    ] = None
    activations: Annotated[
        Annotated[str, Matches(widths.PATTERN)] | None, SPARSE, "the width of activations, by --activations: int8"
    ] = None
    cache: Annotated[CacheInfo | None, SPARSE, "the cache of keys, values and other states, by --decode"] = None


@dataclass(frozen=True, slots=True)
class Place:
    """The line of a spec that made a layer."""

    KEYS: ClassVar = Keys(name="place")
    file: str
    line: Annotated[int, Least(1)]


@dataclass(frozen=True, slots=True)
class BlockCall:
    """One call of a block of a spec: the arguments that it was given, and its line."""

    arguments: Mapping[str, Any]
    source: Place | None


Other = Annotated[Mapping[str, Count], "work that is not MACs, by name"]
PerPixel = Annotated[Ratio | None, "macs / pixels; null where there are no pixels"]


MEMORY = ("peak_memory_bytes", "activation_bytes", "training_bytes")
"""The figures of memory, which are there where they were asked for; the last needs torch for any model."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the layers; ``pixels`` is what MACs are divided by, ``pixel_basis`` says in words what that is."""

    KEYS: ClassVar = Keys(
        "params trainable_params buffers macs flops macs_per_pixel pixels pixel_basis "
        "pixels_read border_overhead weight_bytes activations conv_activations output_elements "
        "peak_memory_bytes activation_bytes training_bytes arena_bytes flash_bytes other",
        name="totals",
    )
    params: Count = 0
    trainable_params: Count = 0
    buffers: Count = 0
    macs: Count = 0
    weight_bytes: Count = 0
    pixels: Count = 0
    pixel_basis: str = ""
    other: Other = field(default_factory=dict)
    pixels_read: Annotated[Count, SPARSE, "positions that are read for these pixels, where blocks have a border"] = 0
    activations: Annotated[Count | None, SPARSE, "elements of the outputs of convolutions and matrix products"] = None
    conv_activations: Annotated[Count | None, SPARSE, "those of convolutions alone"] = None
    output_elements: Annotated[Count | None, SPARSE, "elements of the outputs of all layers"] = None
    peak_memory_bytes: Annotated[Count | None, SPARSE, "the peak of an inference, where it was asked for"] = None
    activation_bytes: Annotated[Count | None, SPARSE, "what is not weights, buffers and inputs at that peak"] = None
    training_bytes: Annotated[Count | None, SPARSE, "the peak of a step of training with AdamW"] = None
    arena_bytes: Annotated[Count | None, SPARSE, "the arena of TensorFlow Lite Micro, where a budget asks"] = None
    flash_bytes: Annotated[Count | None, SPARSE, "the int8 weights and int32 biases of that form"] = None

    @property
    def flops(self) -> Count:
        """Twice the MACs: one multiplication and one addition each."""
        return 2 * self.macs

    @property
    def macs_per_pixel(self) -> PerPixel:
        """MACs / pixels, exactly; None where there are no pixels."""
        return self.per_pixel(self.macs)

    @property
    def weight_mb(self) -> Annotated[Ratio, ADDED, "weight_bytes / 10^6"]:
        """The memory of the parameters in MB, exactly."""
        return Fraction(self.weight_bytes, 10**6)

    @property
    def weight_mib(self) -> Annotated[Ratio, ADDED, "weight_bytes / 2^20"]:
        """The memory of the parameters in MiB, exactly."""
        return Fraction(self.weight_bytes, 2**20)

    @property
    def border_overhead(self) -> Annotated[Ratio | None, SPARSE, "pixels_read / pixels: what borders multiply work by"]:
        """Positions read for each pixel, exactly; None where the pixels are not those of blocks."""
        return Fraction(self.pixels_read, self.pixels) if self.pixels and self.pixels_read else None

    def per_pixel(self, macs: int | None) -> Fraction | None:
        """Divide any MACs by the pixels, exactly; None where there are none of one or of the other."""
        return None if macs is None or not self.pixels else Fraction(macs, self.pixels)


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One call of one layer.

    Where it runs several times, for each block of a picture or each call of a part, ``runs`` says how often. Its MACs
    and its other work are then those of all runs, and its shapes those of the first.
    ``params`` counts what this call owns: zero on the second call of a shared layer, whose ``shares`` names the first.
    """

    KEYS: ClassVar = Keys(
        "name type input_shapes output_shapes params trainable_params buffers weight_bytes macs flops macs_per_pixel "
        "other activations conv_activations arguments shares weights packed_params extent note runs source"
    )
    name: str
    type: str
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    params: Count = 0
    macs: Count = 0
    trainable_params: Count = 0
    buffers: Count = 0
    weight_bytes: Count = 0
    other: Other = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: Place | None = None
    shares: Annotated[str | None, "the layer whose parameters this call uses"] = None
    note: str | None = None
    weights: Annotated[
        Annotated[str, Matches(widths.PATTERN)] | None, SPARSE, "the width of its stored weights, where one was set"
    ] = None
    packed_params: Annotated[
        int, SPARSE, "params without an element of their own in torch's parameters: several are packed into one"
    ] = 0
    runs: Annotated[Count, SPARSE, "how often it runs; macs and other are those of all runs"] = 1
    extent: Annotated[
        Extent | None, SPARSE, "the receptive field, the jump and the halo in the first input, where asked for"
    ] = None

    activations: Annotated[Count, SPARSE, "elements of the outputs of its convolutions and matrix products"] = 0
    conv_activations: Annotated[Count, SPARSE, "those of convolutions alone"] = 0

    @property
    def output_elements(self) -> Count:
        """The elements of its first output, of all runs; a backward pass has none."""
        if self.note == BACKWARD_PASS or not self.output_shapes:
            return 0
        return self.runs * prod(self.output_shapes[0])

    @property
    def flops(self) -> Count:
        """Twice the MACs."""
        return 2 * self.macs

    def macs_per_pixel(self, report: Report) -> PerPixel:
        """MACs / pixels of the model that it is a layer of, exactly."""
        return report.totals.per_pixel(self.macs)


@dataclass(frozen=True, slots=True)
class Figures:
    """A pair of amounts, which may be less than nothing; None where there is no such figure."""

    KEYS: ClassVar = Keys(name="figures")
    params: int | None = None
    macs: int | None = None

    @property
    def flops(self) -> int | None:
        """Twice the MACs."""
        return None if self.macs is None else 2 * self.macs


@dataclass(frozen=True, slots=True)
class Answer(Figures):
    """The counts that a counter gives; None where it has no such figure."""

    KEYS: ClassVar = Keys(name="reported")
    params: Count | None = None
    macs: Count | None = None
    memory_mib: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """One named reason for a part of a difference: reported minus convstat."""

    code: str
    verdict: Annotated[str, OneOf("convention", "defect", "blindness", "normalisation", "environment", "unexplained")]
    text: str
    params: int = 0
    macs: int = 0
    calls: Count = 0
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CounterRow:
    """One counter's answer, what its convention predicts, and why it differs from convstat's.

    ``difference`` = sum of ``causes`` + ``unexplained``, for params and for MACs.
    A counter that was not run reports nothing; its ``difference`` is then that of what is ``predicted``.
    ``is_foreseen`` is True where the counter has no answer and its prediction says that it has none.
    """

    KEYS: ClassVar = Keys(
        "name variant version status device native reported predicted difference causes unexplained error "
        "foreseen=is_foreseen note"
    )
    name: str
    variant: str
    version: str | None
    status: Annotated[
        str,
        OneOf("ok", "failed", "unavailable", "skipped", "predicted"),
        "predicted: it was not to be run, so it reported nothing; see predicted",
    ]
    reported: Answer = Answer()
    predicted: Answer | None = None
    difference: Annotated[
        Figures,
        "reported - convstat = sum of causes + unexplained; predicted - convstat if it was not run",
    ] = Figures()
    causes: tuple[Cause, ...] = ()
    unexplained: Annotated[Figures, "reported - predicted"] = Figures()
    error: str | None = None
    device: str | None = None
    native: Annotated[
        Mapping[str, Count] | None,
        SPARSE,
        "what the counter prints, by its own unit, where that is not MACs",
    ] = None
    is_foreseen: Annotated[bool, ADDED, "whether its prediction says that it gives no answer"] = False
    note: Annotated[str | None, ADDED, "what is to be known about its figures"] = None

    @property
    def shown(self) -> Answer:
        """What there is to show: what it reported, or else what is predicted."""
        return self.reported if self.status == "ok" or self.predicted is None else self.predicted

    @property
    def counts(self) -> Annotated[Answer, Keys("params macs")]:
        """What it reported, without memory."""
        return self.reported

    @property
    def is_prediction(self) -> bool:
        """Whether what it shows was predicted, because it was not run."""
        return self.status != "ok" and self.predicted is not None

    @property
    def is_reconciled(self) -> bool:
        """Whether its answer, or that it has none, is what its convention predicts; a prediction alone is that."""
        if self.status == "predicted":
            return self.is_prediction or self.is_foreseen
        if self.status != "ok":
            return self.is_foreseen
        if self.predicted is None or self.unexplained.params or self.unexplained.macs:
            return False
        return self.predicted.memory_mib == self.reported.memory_mib and self.note is None

    @property
    def is_explained(self) -> bool:
        """Whether it is reconciled, and no part of its difference from convstat is without a cause that is known."""
        return self.is_reconciled and all(cause.verdict != "unexplained" for cause in self.causes)


GIVE_A_RULE = "To give an operator or a function a rule: convstat docs rules"
"""Said wherever something is not counted."""


@dataclass(frozen=True, slots=True)
class Uncounted:
    """An operator without a rule, or work that torch's dispatcher did not see: never a silent zero.

    ``op`` is the operator's name, or says in words what showed the work, and in which function.
    """

    KEYS: ClassVar = Keys(name="uncounted")
    op: str
    calls: Count
    layers: tuple[str, ...] = ()


Status = Annotated[
    str,
    OneOf("complete", "upper_bound", "incomplete"),
    "upper_bound: the count rests on an assumption about data; see model.rests_on",
]


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part of a model: ``calls`` is how often it is called; MACs are those of all calls, ``macs_of_one`` of one.

    ``same`` names the part whose weights it uses: its own params are zero then.
    """

    KEYS: ClassVar = Keys(
        "name calls inputs params trainable_params buffers weight_bytes macs flops macs_of_one macs_per_pixel same",
        name="part",
    )
    name: str
    calls: Annotated[int, Least(1)]
    inputs: tuple[InputInfo, ...]
    params: Count
    macs: Count
    trainable_params: Count = 0
    buffers: Count = 0
    weight_bytes: Count = 0
    same: str | None = None
    macs_of_one: Annotated[Count | None, "null where calls differ, in blocks of several shapes"] = None

    @property
    def flops(self) -> Count:
        """Twice the MACs."""
        return 2 * self.macs

    def macs_per_pixel(self, report: Report) -> PerPixel:
        """MACs of all calls / pixels of the model, exactly."""
        return report.totals.per_pixel(self.macs)


class _InBlocks:
    """What blocks cost for each pixel that they give."""

    __slots__ = ()
    macs: Count
    pixels: Count
    pixels_read: Count

    @property
    def macs_per_pixel(self) -> PerPixel:
        """MACs / pixels, exactly."""
        return Fraction(self.macs, self.pixels) if self.pixels else None

    @property
    def border_overhead(self) -> PerPixel:
        """Positions read for each pixel, exactly."""
        return Fraction(self.pixels_read, self.pixels) if self.pixels else None


@dataclass(frozen=True, slots=True)
class BlockShape(_InBlocks):
    """The blocks of one shape: ``count`` of them, with ``macs`` each; sizes are height and width.

    ``pixels`` and ``pixels_read`` are those of one block.
    """

    KEYS: ClassVar = Keys("size read count macs pixels pixels_read macs_per_pixel border_overhead", name="block_shape")
    size: Shape
    read: Shape
    count: Count
    macs: Count
    pixels: Count
    pixels_read: Count


@dataclass(frozen=True, slots=True)
class Candidate(_InBlocks):
    """One block size of a worst case: the whole picture in such blocks, or one block where there is no picture."""

    KEYS: ClassVar = Keys("block border macs pixels pixels_read macs_per_pixel border_overhead", name="candidate")
    block: Shape
    border: Count
    macs: Count
    pixels: Count
    pixels_read: Count


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a picture is counted in blocks; sizes are height and width.

    ``edges`` says what is read beyond the picture: with ``pad``, every block has its whole border; with ``clip``, that
    ends at the picture. ``worst_of`` are the block sizes of which this one costs most per pixel.
    """

    KEYS: ClassVar = Keys("picture block border edges count shapes worst_of", name="blocks")
    picture: Annotated[Shape | None, "height and width; null for one block by itself"]
    block: Shape
    border: Count
    edges: Annotated[str, OneOf("pad", "clip")]
    shapes: tuple[BlockShape, ...]
    worst_of: tuple[Candidate, ...] = ()

    @property
    def count(self) -> Count:
        """The number of blocks."""
        return sum(shape.count for shape in self.shapes)


@dataclass(frozen=True, slots=True)
class Report(Saved):
    """What one model costs; ``groups`` says of each block, by its path, what it is."""

    KEYS: ClassVar = Keys(
        "schema model totals layers parts blocks counters uncounted groups calls fusion extent language status",
        name="report",
    )
    kind: ClassVar[str] = "report"
    schema: ClassVar[str] = "convstat.report/1"
    model: ModelInfo
    totals: Annotated[
        Totals,
        Keys(
            "params trainable_params buffers weight_bytes weight_mb weight_mib macs flops macs_per_pixel other pixels "
            "pixel_basis pixels_read border_overhead activations conv_activations output_elements peak_memory_bytes "
            "activation_bytes training_bytes arena_bytes flash_bytes",
            name="totals",
        ),
    ]
    layers: tuple[LayerRow, ...]
    counters: tuple[CounterRow, ...] = ()
    uncounted: tuple[Uncounted, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    calls: Annotated[Mapping[str, BlockCall], ADDED, "how the blocks of a spec were called, by their paths"] = field(
        default_factory=dict
    )
    fusion: Annotated[Fusion | None, SPARSE, "how the deployed form that is counted here was made, by --fuse"] = None
    parts: Annotated[tuple[PartRow, ...], SPARSE, "the parts of a model, each with how often it is called"] = ()
    blocks: Annotated[Blocks | None, SPARSE, "the blocks of a picture, where it is counted block by block"] = None

    extent: Annotated[Extent | None, SPARSE, "that of the first output"] = None
    language: Annotated[Language | None, SPARSE, "the figures of a model that takes tokens"] = None

    @property
    def status(self) -> Status:
        """``complete``; ``upper_bound`` where the count rests on an assumption about data, which ``model.rests_on`` and
        the notes state; ``incomplete`` where there is work without a rule.
        """
        return "incomplete" if self.uncounted else "upper_bound" if self.model.rests_on else "complete"

    @property
    def is_one_call(self) -> bool:
        """Whether everything runs once, so that what counts one call of a model counts the same."""
        return all(part.calls == 1 for part in self.parts) and self.blocks is None

    @property
    def is_foreign(self) -> bool:
        """Whether its figures are in another counter's convention."""
        return self.model.convention != CONVSTAT

    @property
    def is_explained(self) -> bool:
        """Whether every counter's answer is what was predicted, and no difference has a part without a cause.

        A counter without an answer has none to explain only where its failure was predicted too.
        """
        return all(row.is_explained for row in self.counters)


def registered(name: str) -> str:
    """The path of the registered module that a row belongs to: the root is written in brackets, and so is what is not
    registered.

    >>> registered("(root)"), registered("block.(Conv2d)"), registered("block.conv")
    ('', 'block', 'block.conv')
    """
    return f".{name}".partition(".(")[0].lstrip(".")
