"""What ``convstat memory`` says: the peak, what it consists of, which layers hold it, and what fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from convstat.render.base import Options
from convstat.render.page import Block, Column, Heading, Line, Pairs, Row, Table
from convstat.render.views.report import input_fact, set_facts, title
from convstat.results.memory import Memory, Moment, PeerMemory
from convstat.text.printable import counted, exact, mib, printable, share

NAMES = {
    "weights": "weights",
    "buffers": "buffers",
    "inputs": "inputs",
    "activations": "activations",
    "saved": "saved for backward",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "temporaries": "temporaries",
}
"""What each kind of memory is called."""

PHASES = {"before": "before the run", "forward": "forward pass", "backward": "backward pass", "step": "optimizer step"}

MOST_ROWS = 12
"""Rows of what is alive at the peak, unless more are asked for."""


def blocks(found: Memory, options: Options) -> Iterator[Block]:
    """What the page of a model's memory says."""
    yield Heading(title(found.model.name, found.model.source), 1)
    yield Pairs(tuple(_facts(found)))
    yield Heading("peak")
    yield _kinds(found)
    yield Heading("alive at the peak")
    yield _alive(found, options.top or MOST_ROWS)
    for peer in found.peers:
        yield from _peer(found, peer)
    if found.fit is not None:
        yield Line(_fit(found), "strong" if found.fit.largest else "bad")
    for note in found.model.notes:
        yield Line(printable(note), "warn")


def _facts(found: Memory) -> Iterator[tuple[str, str]]:
    yield "input", input_fact(found.model)
    yield from set_facts(found.model)
    run = found.run
    said = ["inference, without gradients" if run.mode == "infer" else f"a step of training, optimizer {run.optimizer}"]
    if run.amp:
        said.append(f"autocast to {run.amp}")
    if run.accumulated > 1:
        said.append(f"gradients of {run.accumulated:,} batches")
    if run.checkpoint:
        said.append(f"checkpoints at {', '.join(run.checkpoint)}")
    yield "run", printable(", ".join(said))
    yield "kernels", f"{found.kernels:,}, as on {'a GPU' if run.device == 'cuda' else 'a CPU'}"
    yield "peak", f"{mib(found.peak.bytes)} MiB ({exact(found.peak.bytes)} bytes) {_moment(found.peak)}"
    others = [moment for moment in found.phases if moment.phase != found.peak.phase]
    if others:
        yield "others", ", ".join(f"{PHASES[moment.phase]} {mib(moment.bytes)} MiB" for moment in others)


def _moment(moment: Moment) -> str:
    if not moment.kernel:
        return "before the run"
    where = f" of {printable(moment.layer)}" if moment.layer else ""
    return f"in the {PHASES[moment.phase]}, at {printable(moment.op.removeprefix('aten.'))}{where}"


def _kinds(found: Memory) -> Table:
    columns = (Column("memory", "left"), Column("MiB"), Column("bytes", priority=1), Column("share", priority=2))
    rows = [
        Row((NAMES[kind], mib(size), exact(size), share(size, found.peak.bytes)))
        for kind, size in found.kinds.items()
        if size
    ]
    return Table(columns, tuple(rows), Row(("total", mib(found.peak.bytes), exact(found.peak.bytes), ""), "strong"))


def _alive(found: Memory, top: int) -> Table:
    columns = (
        Column("layer", "left", shortens=True),
        Column("memory", "left"),
        Column("MiB"),
        Column("tensors", priority=3),
        Column("largest", priority=2),
        Column("dtype", "left", priority=4),
    )
    rows = [
        Row(
            (
                printable(alive.layer or "-"),
                NAMES[alive.kind],
                mib(alive.bytes),
                exact(alive.storages),
                "x".join(map(str, alive.shape)) or "scalar",
                alive.dtype,
            )
        )
        for alive in found.alive[:top]
    ]
    rest = found.alive[top:]
    if rest:
        size, number = sum(alive.bytes for alive in rest), sum(alive.storages for alive in rest)
        rows.append(Row((f"{counted(len(rest), 'other')}", "", mib(size), exact(number), "", ""), "quiet"))
    return Table(columns, tuple(rows))


_ALSO_SAVED = "activations and saved"


def _peer(found: Memory, peer: PeerMemory) -> Iterator[Block]:
    """What another tool says, by kind, and why it says something else."""
    yield Heading(f"{peer.name}, torch {printable(peer.version)}")
    if peer.status != "ok":
        yield Line(f"{peer.status}: {printable(peer.error or '')}", "warn")
        return
    columns = (Column("memory", "left"), Column("convstat"), Column(peer.name), Column("difference"))
    rows = [
        Row((_name(kind), exact(size - peer.difference[kind]), exact(size), _signed(peer.difference[kind])))
        for kind, size in peer.kinds.items()
        if size or peer.difference[kind]
    ]
    difference = sum(peer.difference.values())
    total = Row(("total", exact(peer.bytes - difference), exact(peer.bytes), _signed(difference)), "strong")
    yield Table(columns, tuple(rows), total)
    for cause in peer.causes:
        yield Line(f"{cause.bytes:+,} bytes: {cause.text} ({_by_kind(cause.kinds)})")
    if any(peer.unexplained.values()):
        yield Line(f"unexplained: {_by_kind(peer.unexplained)}", "bad")


def _name(kind: str) -> str:
    return _ALSO_SAVED if kind == "activations" else NAMES[kind]


def _signed(amount: int) -> str:
    return f"{amount:+,}" if amount else "="


def _by_kind(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{_name(kind)} {size:+,}" for kind, size in kinds.items() if size)


def _fit(found: Memory) -> str:
    fit = found.fit
    assert fit is not None
    limit = f"{mib(fit.limit)} MiB{f' ({fit.device})' if fit.device else ''}"
    if fit.largest is None:
        return f"Not even {fit.variable} = 1 fits into {limit}: {mib(fit.bytes)} MiB."
    after = "" if fit.next_bytes is None else f"; the next takes {mib(fit.next_bytes)} MiB"
    return f"The largest {fit.variable} that fits into {limit} is {fit.largest:,}: {mib(fit.bytes)} MiB{after}."
