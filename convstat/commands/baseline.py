"""Write, list and remove baseline files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.errors import OutputError, Together, UsageError
from convstat.grammar.basis import DEFAULT
from convstat.grammar.paths import as_target, split_file
from convstat.history.baseline import Baselines, file_name
from convstat.results.report import Report
from convstat.targets import analysis, resolve
from convstat.targets.request import NOBODY, Listener, Request

Entry = Mapping[str, Any]


def write(
    files: Baselines, targets: Sequence[str], requests: Requests, *, update: bool, listener: Listener = NOBODY
) -> tuple[Entry, ...]:
    """Count models and write their files; without targets, an update counts every model that has a file.

    Nothing is written unless everything can be: a model that cannot be counted stops the others too.
    """
    plans = [(request, files.path(request)) for request in (requests.of(resolve(target)) for target in targets)]
    if not targets and update:
        plans = [_plan_of(files, path) for path in files.files()]
    if not plans:
        raise UsageError(
            f"there is no baseline file in {files.folder}" if update else "no target given",
            help="convstat baseline save torchvision/resnet18",
        )
    texts: list[tuple[str, Path, str, Report, Report | None]] = []
    problems = Together()
    for request, path in plans:
        target = request.argument
        with problems:
            before = analysis.load_report(str(path)) if path.exists() else None
            if before is None and update:
                raise UsageError(f"{target} has no baseline file to update", help=f"convstat baseline save {target}")
            listener.progress(f"counting {target}")
            if request.target.kind == "report":
                raise UsageError(
                    f"{target} is a saved report: it can be used as a base directly", help=f"--base {target}"
                )
            report = analysis.count(request)
            text = files.text(request, report)
            if before is not None and not update and path.read_text(encoding="utf-8") != text:
                raise OutputError(
                    f"{path} already has other figures",
                    help=f"to accept the current figures: convstat baseline update {target}",
                )
            texts.append((target, path, text, report, before))
    problems.tell()
    return tuple(
        _entry(target, path, report, before, "written" if files.write(path, text) else "unchanged")
        for target, path, text, report, before in texts
    )


def _plan_of(files: Baselines, path: Path) -> tuple[Request, Path]:
    """Say how a file was made, so that it can be made again."""
    kept = analysis.load_baseline(str(path))
    asked = kept.asked
    target = named = kept.target
    place, rest = split_file(target)
    if place is not None and not os.path.isabs(place):
        target = as_target(os.path.relpath(files.root / place)) + rest
    request = Request(
        resolve(target), asked.overrides, asked.inputs, asked.batch, asked.dtype, asked.per,
        weights=asked.weights, activations=asked.activations, fuse=asked.fuse,
    )  # fmt: skip
    if asked.per == DEFAULT and file_name(named, replace(request, per=None)) == path.name:
        # It was not asked for: a spec may say otherwise.
        request = replace(request, per=None)
    if file_name(named, request) != path.name:
        raise UsageError(
            f"{path} claims to be the baseline of {named}, but is not",
            help=f"remove it, and save it again: convstat baseline save {named}",
        )
    return request, path


def show(files: Baselines, targets: Sequence[str]) -> tuple[Entry, ...]:
    """List the files, or those of some models."""
    wanted = {files.named(target) for target in targets}
    found = [(analysis.load_report(str(path)), path) for path in files.files()]
    if unknown := wanted - {report.model.source for report, _ in found}:
        raise UsageError(
            f"{', '.join(sorted(unknown))} has no baseline file in {files.folder}",
            help=f"convstat baseline save {min(unknown)}",
        )
    return tuple(
        _entry(report.model.source, path, report, None, "")
        for report, path in found
        if not wanted or report.model.source in wanted
    )


def prune(files: Baselines, settings: Config, targets: Sequence[str]) -> tuple[Entry, ...]:
    """Remove the files of these models, or of all that the settings do not name."""
    if not targets and not settings.models:
        raise UsageError(
            "the settings list no models, so none can be identified as removed",
            help="name them: convstat baseline prune TARGET",
        )
    found = [(analysis.load_report(str(path)), path) for path in files.files()]
    named = {files.named(target) for target in targets or settings.models}
    if targets and (unknown := named - {report.model.source for report, _ in found}):
        raise UsageError(f"{', '.join(sorted(unknown))} has no baseline file in {files.folder}")
    gone = [(report, path) for report, path in found if (report.model.source in named) == bool(targets)]
    for _, path in gone:
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}") from None
    return tuple(_entry(report.model.source, path, report, None, "removed") for report, path in gone)


def _entry(target: str, path: Path, report: Report, before: Report | None, state: str) -> Entry:
    totals = report.totals

    def figure(name: str, word: str) -> str:
        now: int = getattr(totals, name)
        grown = now - getattr(before.totals, name) if before is not None else 0
        return f"{now:,} {word}" + (f" ({grown:+,})" if grown else "")

    return {
        "model": target,
        "figures": f"{figure('params', 'params')}, {figure('macs', 'MACs')}",
        "params": totals.params,
        "macs": totals.macs,
        "layers": len(report.layers),
        "file": str(path),
        "state": state,
    }


SHOWN = ("model", "figures", "file", "state")
"""The fields of an entry that people are shown."""
