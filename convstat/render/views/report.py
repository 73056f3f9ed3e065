"""What ``convstat analyze`` says: the model, the counters side by side, why they differ, and the layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from convstat.render.base import Options
from convstat.render.page import Block, Column, Fields, Heading, Item, Items, Line, Pairs, Row, Table, Tone, tabulated
from convstat.render.views import extents, fusion, language
from convstat.render.views.layers import layer_table
from convstat.results.report import (
    BACKWARD_PASS,
    GIVE_A_RULE,
    Answer,
    Blocks,
    BlockShape,
    CacheInfo,
    Candidate,
    CounterRow,
    Figures,
    InputInfo,
    ModelInfo,
    PartRow,
    Place,
    Report,
    Totals,
)
from convstat.text.printable import (
    change,
    counted,
    exact,
    mib,
    per_pixel_scale,
    printable,
    share,
    show_shapes,
    signed,
    significant,
)

if TYPE_CHECKING:
    from convstat.results.explanation import View

C = TypeVar("C", "CounterRow", "View")

CONVENTION = (
    "MACs are the multiply-accumulates of convolutions and matrix products; FLOPs = 2 x MACs; "
    "bias, norms, activations and pooling are not MACs"
)

EDGES: Mapping[str, str] = {
    "pad": "every block reads its whole border, padded outside of the picture",
    "clip": "the border ends at the edges of the picture",
}

DEVICES: Mapping[str, str] = {
    "meta": "on meta tensors: nothing is allocated or computed; the answers equal those of a run on the CPU",
    "cpu": "on the CPU, on real tensors",
    "cuda": "on the GPU, on real tensors",
}

TRACED: Mapping[str, str] = {
    "meta": "on the meta device: nothing is allocated or computed",
    "fake": "with fake tensors: nothing is computed",
    "cpu": "on the CPU",
    "cuda": "on the GPU",
}

RESTS_ON = "MACs are"
"""What leads the fact that the MACs depend on data, and how."""

PYTHON = ("module", "zoo", "config")
"""The kinds of models that are traced."""

USUAL_NAMES = ("x", "input", "inputs")
"""Names that say nothing where there is one input alone."""

MOST_NAMES = 4
"""The most names of layers that one note lists."""

PRODUCTS = ("input_product", "tuple_product")
"""Causes that make a memory figure too large by many orders of magnitude."""

NATIVE: Mapping[str, str] = {
    "flops": "FLOPs",
    "macs_with_padding": "MACs with the taps on padding",
    "arithmetic_ops": "arithmetic operations",
    "activations": "activations",
    "convolutions": "convolutions",
    "transcendentals": "transcendental functions",
    "bit_operations": "bit operations",
    "forward_flops": "FLOPs of a forward pass",
    "inference_flops": "FLOPs of inference",
    "training_flops_per_token": "FLOPs of training per token",
    "training_flops_without_checkpointing": "FLOPs of a step of training without checkpointing",
}
"""A counter's own unit -> how it is written."""


def blocks(report: Report, options: Options) -> Iterator[Block]:
    """What the page of a report says."""
    yield Heading(title(report.model.name, report.model.source), 1)
    yield Pairs(tuple(_facts(report)))
    yield from fusion.blocks(report)
    yield counter_table(report, per=options.per)
    for counter in report.counters:
        if counter.status != "ok":
            yield from _no_answer(counter)
        elif counter.note:
            yield Line(f"{label(counter)}: {printable(counter.note)}", "bad")
    for counter in report.counters:
        if counter.status == "ok" or counter.is_prediction:
            yield from _causes(counter)
    if report.uncounted:
        yield Heading("uncounted: work without a rule")
        yield Items(
            tuple(
                Item(counted(u.calls, "call"), _in_layers(printable(u.op), u.layers), "bad") for u in report.uncounted
            )
        )
        yield Line("The figures are incomplete: they do not include the MACs of this work.", "bad")
        yield Line(GIVE_A_RULE)
    if report.parts:
        yield Heading("parts")
        yield part_table(report)
    if report.blocks is not None:
        yield from block_tables(report)
    if report.language is not None and not report.is_foreign:
        yield from language.blocks(report.language)
    if report.totals.other:
        yield Heading("work that is not MACs")
        yield Items(tuple(_other(report.totals.other)))
    yield Heading("layers")
    yield layer_table(report, options)
    if notes := tuple(_notes(report)):
        yield Heading("notes")
        yield Pairs(notes)


def overhead_fact(totals: Totals) -> str:
    """Say what is read for the pixels of blocks: ``x1.266: 20,736 positions read for 16,384 pixels``."""
    times = f"x{significant(totals.border_overhead or 0, 4)}"
    return f"{times}: {totals.pixels_read:,} positions read for {totals.pixels:,} pixels"


def block_tables(report: Report) -> Iterator[Block]:
    """The blocks of a picture, each shape in a row; and the block sizes of which this one costs most."""
    blocks = report.blocks
    assert blocks is not None
    if blocks.worst_of:
        yield Heading("worst case" + (f" of a picture of {_by(blocks.picture)}" if blocks.picture else ""))
        yield candidate_table(blocks)
    if blocks.picture is not None:
        yield Heading("blocks: height x width")
        yield block_table(report)


def part_table(report: Report) -> Table:
    """The parts of a model, each with what one call costs and what all of them do."""
    totals = report.totals
    scale = per_pixel_scale([totals.macs_per_pixel, *(totals.per_pixel(part.macs) for part in report.parts)])
    fields: Fields[PartRow] = [
        (Column("part", "left", shortens=True), lambda part: printable(part.name)),
        (Column("input", "left", 3, shortens=True), lambda part: show_inputs([part.inputs[0]]).rpartition(" ")[2]),
        (Column("calls"), lambda part: exact(part.calls)),
        (Column("params"), lambda part: exact(part.params)),
        (Column("MACs of one", priority=2), lambda part: exact(part.macs_of_one)),
        (Column("MACs"), lambda part: exact(part.macs)),
        (Column(scale.title, priority=1), lambda part: scale.write(totals.per_pixel(part.macs))),
        (Column("share", priority=4), lambda part: share(part.macs, totals.macs)),
        (Column("weights of", "left", 5), lambda part: printable(part.same or "")),
    ]
    if not any(part.same for part in report.parts):
        fields = fields[:-1]
    calls = sum(part.calls for part in report.parts)
    cells = (
        "total",
        "",
        exact(calls),
        exact(totals.params),
        "",
        exact(totals.macs),
        scale.write(totals.macs_per_pixel),
    )
    rest = ("100%" if totals.macs else "", "")[: len(fields) - len(cells)]
    return tabulated(fields, report.parts)._replace(total=Row((*cells, *rest), "strong"))


def _by(picture: tuple[int, ...]) -> str:
    """The size of a picture, width first."""
    return f"{picture[1]}x{picture[0]}"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def block_table(report: Report) -> Table:
    """The shapes of the blocks, with what one of each costs and what all of them do."""
    blocks, totals = report.blocks, report.totals
    assert blocks is not None
    scale = per_pixel_scale([totals.macs_per_pixel, *(shape.macs_per_pixel for shape in blocks.shapes)])
    fields: Fields[BlockShape] = [
        (Column("block", "left"), lambda shape: _size(shape.size)),
        (Column("reads", "left"), lambda shape: _size(shape.read)),
        (Column("blocks"), lambda shape: exact(shape.count)),
        (Column("MACs of one", priority=2), lambda shape: exact(shape.macs)),
        (Column("MACs"), lambda shape: exact(shape.count * shape.macs)),
        (Column(scale.title), lambda shape: scale.write(shape.macs_per_pixel)),
        (Column("border", priority=1, name="border overhead"), lambda s: f"x{significant(s.border_overhead or 0, 4)}"),
    ]
    border = f"x{significant(totals.border_overhead or 0, 4)}"
    total = ("total", "", exact(blocks.count), "", exact(totals.macs), scale.write(totals.macs_per_pixel), border)
    return tabulated(fields, blocks.shapes)._replace(total=Row(total, "strong"))


def candidate_table(blocks: Blocks) -> Table:
    """The block sizes of a worst case; the one that costs most per pixel stands out."""
    scale = per_pixel_scale([candidate.macs_per_pixel for candidate in blocks.worst_of])
    worst = max(blocks.worst_of, key=lambda candidate: candidate.macs_per_pixel or 0)
    fields: Fields[Candidate] = [
        (Column("block", "left"), lambda candidate: _size(candidate.block)),
        (Column("border"), lambda candidate: exact(candidate.border)),
        (Column("MACs"), lambda candidate: exact(candidate.macs)),
        (Column("pixels"), lambda candidate: exact(candidate.pixels)),
        (Column(scale.title), lambda candidate: scale.write(candidate.macs_per_pixel)),
        (Column("overhead", priority=1), lambda c: f"x{significant(c.border_overhead or 0, 4)}"),
        (Column("", "left", name="worst"), lambda candidate: "worst" if candidate is worst else ""),
    ]
    return tabulated(fields, blocks.worst_of, lambda candidate: "strong" if candidate is worst else "")


def _no_answer(counter: CounterRow) -> Iterator[Line]:
    """Why a counter was not run, or gave no answer; what is shown of it then is a prediction."""
    tone: Tone = "bad" if counter.status == "failed" else "warn"
    # Where all were to be predicted, the header says so.
    if counter.status != "predicted" or not counter.is_prediction:
        said = f"{label(counter)} {counter.status}: {printable(counter.error or 'no reason given')}"
        yield Line(f"{said} (its figures are predicted)" if counter.is_prediction else said, tone)
    if counter.note:
        yield Line(f"{label(counter)}: {printable(counter.note)}", "warn")


def _notes(report: Report) -> Iterator[tuple[str, str]]:
    """What is said of the whole model, then of its layers: what is said of several, once."""
    if report.model.notes:
        from convstat.patches.operators import NOTE

        # What is true of an installation and changes no count is said with -v alone.
        yield from (("model", printable(note)) for note in report.model.notes if note != NOTE)
    layers: dict[str, list[str]] = {}
    for row in report.layers:
        if row.note and row.note != BACKWARD_PASS:
            layers.setdefault(row.note, []).append(printable(row.name))
    for note, names in layers.items():
        if len(names) == 1:
            yield names[0], printable(note)
        else:
            listed = ", ".join(names[:MOST_NAMES])
            more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
            yield f"{len(names):,} layers", f"{printable(note)}: {listed}{more}"


def title(name: str, source: str) -> str:
    """Name a model and where it comes from, once where both are the same."""
    return printable(name) if name == source else f"{printable(name)}  {printable(source)}"


def cache_fact(cache: CacheInfo) -> str:
    """Say what a step of decoding begins with."""
    plural = "s" if cache.tokens != 1 else ""
    return f"{cache.tokens:,} token{plural} before, {cache.bytes:,} bytes ({printable(cache.kind)})"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    model, totals = report.model, report.totals
    yield "input", input_fact(model)
    if model.cache is not None:
        yield "cache", cache_fact(model.cache)
    if model.activations:
        yield "activations", printable(model.activations)
    if model.values:
        yield "values", printable(model.values)
    if model.rests_on:
        yield RESTS_ON, printable(model.rests_on)
    yield from set_facts(model)
    yield "counts", printable(model.counts) if report.is_foreign else CONVENTION
    if totals.pixels:
        yield "pixels", f"{totals.pixels:,} ({printable(totals.pixel_basis)})"
    if totals.border_overhead is not None:
        yield "border", overhead_fact(totals)
    if report.blocks is not None and report.blocks.picture is not None:
        yield "edges", EDGES[report.blocks.edges]
    yield from extents.facts(report)
    frozen = totals.params - totals.trainable_params
    if report.is_foreign:
        # What a peer makes of parameters says nothing about memory.
        yield from _runs(report)
        return
    weights = f"{totals.weight_bytes:,} bytes of params ({printable(stored(report))})"
    if any(row.weights for row in report.layers):
        weights += f", {in_memory(totals.weight_bytes)}"
    if frozen:
        weights += f", {totals.trainable_params:,} params trainable, {frozen:,} not"
    if totals.buffers:
        weights += f"; {totals.buffers:,} values in buffers"
    yield "weights", weights
    if totals.peak_memory_bytes is not None:
        yield "memory", memory_fact(totals)
    yield from _runs(report)
    for counter in report.counters:
        who = f"predicted for {label(counter)}" if counter.is_prediction else f"by {label(counter)}"
        if memory := counter.shown.memory_mib:
            figures = ", ".join(f"{printable(name.replace('_', '/'))} {amount:.2f}" for name, amount in memory.items())
            odd = [printable(cause.text) for cause in counter.causes if cause.code.endswith(PRODUCTS)]
            remark = f", which {' and '.join(odd)}" if odd else ""
            yield "memory", f"{figures} MiB, {who}{remark}"
        if counter.native:
            sums = (f"{amount:,} {printable(NATIVE.get(name, name))}" for name, amount in counter.native.items())
            yield "native", f"{', '.join(sums)}, {who}"


def stored(report: Report) -> str:
    """Say in which types the parameters are stored: the model's own, or the widths that were set."""
    from convstat.grammar.widths import parse

    found = dict.fromkeys(row.weights for row in report.layers if row.params)
    if not any(found):
        return report.model.dtype
    return "; ".join(report.model.dtype if width is None else parse(width).words for width in found)


def in_memory(size: int) -> str:
    """Write bytes in each of the units that memory is given in.

    >>> in_memory(478546)
    '0.479 MB, 0.456 MiB, 467.33 KiB'
    """
    units = (("MB", 10**6, 3), ("MiB", 2**20, 3), ("KiB", 2**10, 2))
    return ", ".join(f"{significant(Fraction(size, unit), decimals)} {name}" for name, unit, decimals in units)


def _runs(report: Report) -> Iterator[tuple[str, str]]:
    """Where the model was traced, if it was, and where the peers ran it."""
    model = report.model
    ran: dict[str, list[str]] = {}
    for counter in report.counters:
        if counter.device and counter.status in ("ok", "failed"):
            ran.setdefault(counter.device, []).append(label(counter))
    devices = () if model.device == "none" else tuple(model.device.split("+"))
    if model.kind in PYTHON or model.mode != "eval":
        passes = "a forward and a backward pass" if model.mode == "train" else "a forward pass"
        where = TRACED.get(devices[0], f"on {printable(devices[0])}") if devices else ""
        yield "traced", f"{passes} {where}; {printable(model.mode)} mode"
    if foreseen := [label(counter) for counter in report.counters if counter.status == "predicted"]:
        who = "" if len(foreseen) == len(report.counters) else f"{', '.join(foreseen)} "
        yield "peers", f"{who}not run: {'their' if not who else 'the'} figures are predicted from a trace of the model"
    for device, counters in ran.items():
        where = DEVICES.get(device, f"on {printable(device)}")
        if device == "meta" and model.rests_on:
            where = "on meta tensors, with the same assumption about data: nothing is allocated or computed"
        # On one device there is nothing to tell apart.
        who = f"{', '.join(counters)} ran" if len(ran) > 1 else "ran"
        yield "peers", f"{who} {where}; {printable(model.mode)} mode"


def memory_fact(totals: Totals) -> str:
    """The peaks of inference and of training, and what of the first are activations."""
    peak, activations, training = totals.peak_memory_bytes, totals.activation_bytes, totals.training_bytes
    said = [f"peak {mib(peak or 0)} MiB in inference, {mib(activations or 0)} of them activations"]
    said.append("training needs torch" if training is None else f"{mib(training)} MiB in training with AdamW")
    return ", ".join(said)


def show_place(source: Place | None) -> str:
    """Write a place in a file; nothing where there is none."""
    return f"{printable(source.file)}:{source.line}" if source else ""


def set_facts(model: ModelInfo) -> list[tuple[str, str]]:
    """Say which parameters were set, where any were."""
    written = (f"{printable(name)}={printable(show_value(value))}" for name, value in model.overrides.items())
    return [("set", " ".join(written))] if model.overrides else []


def input_fact(model: ModelInfo) -> str:
    """Write the inputs and the batch; those of a Python model in full where it is not the batch that they begin with.

    >>> input_fact(ModelInfo("net", "net.yaml", "spec", (InputInfo("x", (2, 3, 8, 8)),), batch=2))
    '3x8x8, batch 2'
    >>> input_fact(ModelInfo("net", "net.py:Net", "module", (InputInfo("x", (2, 3, 8, 8)),)))
    '2x3x8x8'
    """
    is_nested = [any(sign in item.name for sign in "[.") for item in model.inputs]
    whole = [
        model.kind in PYTHON and (item.shape[:1] != (model.batch,) or nested)
        for item, nested in zip(model.inputs, is_nested, strict=True)
    ]
    # One more size in front is what gets left out again.
    shown = [
        InputInfo(item.name, (1, *item.shape), item.dtype) if is_whole else item
        for item, is_whole in zip(model.inputs, whole, strict=True)
    ]
    return show_inputs(shown) if all(whole) else f"{show_inputs(shown)}, batch {model.batch}"


def show_inputs(inputs: Sequence[InputInfo]) -> str:
    """Write inputs without the batch, each with its name unless it is the only one and called as inputs are.

    A dtype is written where it is not the usual one. Inputs inside of others that look the same stand together.

    >>> show_inputs([InputInfo("x", (1, 3, 8, 8))])
    '3x8x8'
    >>> show_inputs([InputInfo("x", (1, 3, 8, 8)), InputInfo("ids", (1, 128), "int64")])
    'x 3x8x8, ids 128 int64'
    >>> show_inputs([InputInfo("ids", (1, 1), "int64"), *(InputInfo(f"past[{i}]", (1, 2, 4, 8)) for i in range(3))])
    'ids 1 int64, past[*] 3 x 2x4x8'
    """
    groups: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
    for item in inputs:
        nested = any(sign in item.name for sign in "[.")
        alike = re.sub(r"\d+", "*", item.name) if nested else item.name
        groups.setdefault((alike, item.shape, item.dtype), []).append(item.name)
    texts = []
    for (alike, shape, dtype), names in groups.items():
        name = names[0] if len(names) == 1 else f"{alike} {len(names):,} x"
        known = [] if len(inputs) == 1 and name in USUAL_NAMES else [printable(name)]
        texts.append(" ".join([*known, show_shapes([shape]), *([printable(dtype)] if dtype != "float32" else [])]))
    return ", ".join(texts)


def show_value(value: Any) -> str:
    """Write the value of an override as one would type it.

    >>> show_value(Fraction(1, 2)), show_value(True), show_value([1, 2]), show_value("same")
    ('0.5', 'true', '[1,2]', 'same')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, Fraction):
        return str(value.numerator) if value.denominator == 1 else f"{float(value):.12g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(show_value(item) for item in value) + "]"
    return str(value)


def figures(counts: Callable[[C], Answer | Figures]) -> Fields[C]:
    """The columns that say which counter it is, what it counts, and how that differs from convstat's figures."""
    return [
        (Column("counter", "left", shortens=True, comfort=26), label),
        (Column("params"), lambda counter: exact(counts(counter).params)),
        (Column("difference", priority=1, name="params difference"), lambda counter: signed(counter.difference.params)),
        (Column("MACs"), lambda counter: exact(counts(counter).macs)),
        (Column("difference", name="MACs difference"), lambda counter: signed(counter.difference.macs)),
    ]


def label(counter: CounterRow | View) -> str:
    """Name a counter with its version and variant.

    >>> label(CounterRow("ptflops", "pytorch", "0.7.5", "ok"))
    'ptflops 0.7.5 (pytorch)'
    """
    parts = [counter.name]
    if counter.version:
        parts.append(counter.version)
    # torchsummary has one way to count only; ptflops has two.
    if counter.variant not in ("", "default", "summary", counter.name):
        parts.append(f"({counter.variant})")
    return printable(" ".join(parts))


def verdict(counter: CounterRow) -> str:
    """Sum a counter's row up in one word."""
    if counter.is_prediction:
        return "predicted"
    if counter.status == "predicted":
        return "no answer"
    if counter.status != "ok":
        return counter.status
    if not counter.is_explained:
        return "UNEXPLAINED"
    if counter.difference.params or counter.difference.macs:
        return "explained"
    return "agrees"


def counter_table(report: Report, *, per: bool = False) -> Table:
    """Set convstat and its peers side by side; FLOPs and MACs/pixel are made of each one's MACs by our rules."""
    totals = report.totals
    scale = per_pixel_scale([totals.macs_per_pixel, *(totals.per_pixel(c.shown.macs) for c in report.counters)])

    def shown(counter: CounterRow) -> Answer:
        return counter.shown

    def percent(counter: CounterRow) -> str:
        macs = counter.shown.macs
        return change(Fraction(macs, totals.macs) if macs is not None and totals.macs else None)

    fields: Fields[CounterRow] = [
        *figures(shown),
        (Column("in %", priority=2, name="MACs difference in %"), percent),
        (Column("FLOPs", priority=4), lambda counter: exact(counter.shown.flops)),
        (Column(scale.title, priority=0 if per else 3), lambda c: scale.write(totals.per_pixel(c.shown.macs))),
        (Column("verdict", "left"), verdict),
    ]
    # What sets a counter beside convstat says nothing about convstat itself.
    beside = {"difference": "", "in %": "", "verdict": "" if report.status == "complete" else report.status}
    if not report.counters:
        fields = [field for field in fields if field[0].title not in beside]
    own = CounterRow(report.model.convention, "", None, "ok", Answer(totals.params, totals.macs))
    first = [beside.get(column.title, write(own)).replace("_", " ") for column, write in fields]
    table = tabulated(fields, report.counters, lambda c: "bad" if verdict(c) in ("UNEXPLAINED", "failed") else "")
    return table._replace(rows=(Row(tuple(first), "strong"), *table.rows))


def difference_tables(report: Report) -> Iterator[Block]:
    """For each counter that differs, a table that leads from convstat's figures to its own, cause by cause."""
    for counter in report.counters:
        shown = counter.shown
        rest = counter.unexplained
        causes = [cause for cause in counter.causes if cause.macs or cause.params]
        if not (causes or rest.params or rest.macs):
            continue
        has = {name: getattr(shown, name) is not None for name in ("params", "macs")}

        def row(text: str, verdict: str, params: int | None, macs: int | None, layers: int = 0) -> Row:
            figures = (signed(params) if has["params"] else "-", signed(macs) if has["macs"] else "-")  # noqa: B023
            return Row((text, verdict, *figures, exact(layers) if layers else ""))

        rows = [
            Row((report.model.convention, "", exact(report.totals.params), exact(report.totals.macs), ""), "strong")
        ]
        rows += [row(printable(c.text), c.verdict, c.params, c.macs, len(c.layers)) for c in causes]
        if rest.params or rest.macs:
            rows.append(row("no known cause", "unexplained", rest.params, rest.macs))
        total = Row((label(counter), "", exact(shown.params), exact(shown.macs), ""), "strong")
        columns = (
            Column("cause", "left", shortens=True, prose=True),
            Column("verdict", "left"),
            Column("params"),
            Column("MACs"),
            Column("layers"),
        )
        yield Heading(f"from convstat to {label(counter)}")
        yield Table(columns, tuple(rows), total)


def _causes(counter: CounterRow) -> Iterator[Block]:
    unexplained = counter.unexplained
    # Those without an amount explain memory, which is no difference; or nobody understands them, and they cancel out.
    causes = [cause for cause in counter.causes if cause.macs or cause.params or cause.verdict == "unexplained"]
    if not causes and not unexplained.params and not unexplained.macs:
        return
    yield Heading(f"why {label(counter)} {'would differ' if counter.is_prediction else 'differs'}")
    items = [
        Item(
            amount(cause.macs, cause.params),
            f"{_in_layers(printable(cause.text), cause.layers)} [{cause.verdict}]",
            "bad" if cause.verdict == "unexplained" else "",
        )
        for cause in causes
    ]
    if unexplained.params or unexplained.macs:
        text = "UNEXPLAINED: no known cause accounts for this part of the difference"
        items.append(Item(amount(unexplained.macs or 0, unexplained.params or 0), text, "bad"))
    elif counter.is_explained or counter.is_prediction:
        whole = amount(counter.difference.macs or 0, counter.difference.params or 0)
        said = "the whole difference, as predicted" if counter.is_prediction else "the difference is fully explained"
        items.append(Item(whole, said, "good"))
    yield Items(tuple(items))


def amount(macs: int, params: int) -> str:
    """Write an amount with its unit.

    >>> amount(-12, 0), amount(5, 7), amount(0, 0)
    ('-12 MACs', '+5 MACs, +7 params', '0')
    """
    parts = [f"{macs:+,} MACs"] if macs else []
    if params:
        parts.append(f"{params:+,} params")
    return ", ".join(parts) or "0"


def _in_layers(text: str, layers: tuple[str, ...]) -> str:
    if not layers:
        return text
    if len(layers) == 1:
        return f"{text}, in {printable(layers[0]) or 'the model itself'}"
    return f"{text}, in {len(layers):,} layers"


def _other(other: Mapping[str, int]) -> Iterator[Item]:
    from convstat.formulas.cost import OTHER_ENTRIES

    for name, count in other.items():
        words = OTHER_ENTRIES.get(name)
        yield Item(exact(count), f"{printable(name)}: {words}" if words else printable(name))
