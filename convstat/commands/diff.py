"""From what ``convstat diff`` is asked for to the diffs: two targets, one target and its past, or two revisions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from convstat.config.requests import Requests
from convstat.errors import Diagnostic, Together, UsageError
from convstat.grammar.axes import Value
from convstat.history import changes
from convstat.history.base import Bases
from convstat.history.baseline import Baselines
from convstat.results.diff import Diff
from convstat.results.report import Report
from convstat.spec import Spec
from convstat.targets import Target, analysis, resolve, revisions
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.revisions import Repository
from convstat.targets.selection import select


@dataclass(frozen=True, slots=True)
class Sides:
    """What both sides of a diff have in common: how they are counted, and where a base is looked for.

    ``of_base`` and ``of_head`` are overrides of one of two targets alone.
    """

    requests: Requests
    base: str | None = None
    files: Baselines | None = None
    listener: Listener = NOBODY
    of_base: Mapping[str, Value] = field(default_factory=dict)
    of_head: Mapping[str, Value] = field(default_factory=dict)

    def request(self, target: Target, spec: Spec | None = None, *, own: Mapping[str, Value] | None = None) -> Request:
        """How a target is counted, or this text of it, with overrides of its ``own``; a saved report is what it is."""
        if target.kind == "report" and spec is None:
            return Request(target)
        request = self.requests.of(target)
        return replace(request, overrides={**request.overrides, **(own or {})}, spec=spec)

    def count(self, request: Request) -> Report:
        """Count one side."""
        if request.target.kind == "report":
            request = Request(request.target)
        return analysis.count(request, listener=self.listener)

    def bases(self, base: str | None) -> Bases:
        """Where bases are looked for; what they were is counted as the heads are."""
        files = self.files or Baselines.of(None)
        return Bases(base, requests=self.requests, files=files, count=self.count)


def differences(arguments: Sequence[str], sides: Sides, *, all: bool = False) -> tuple[Diff, ...]:
    """Make the diffs that are asked for.

    Two targets are compared with each other, and one target with what it was at the base;
    a revision, or two, or none, stands for every spec that changed since; a revision and a target for that one spec.
    ``all`` keeps those in which nothing changed.
    """
    targets = [_target(argument) for argument in arguments]
    match targets:
        case [Target() as old, Target() as new]:
            return (_pair(old, new, sides),)
        case [Target() as new]:
            return (_past(new, None, sides),)
        case [None, Target() as new]:
            return (_past(new, arguments[0], sides),)
        case [Target() as old, None]:
            if old.kind not in ("spec", "report") or old.revision or old.path == "-":
                raise UsageError(f"{old.argument} cannot be read at revision '{arguments[1]}'")
            return (_pair(old, _at(old, arguments[1]), sides),)
        case [] | [None] | [None, None]:
            return _changed(arguments, sides, all=all)
    raise UsageError(
        f"diff takes a base and a head, not {len(arguments)} targets",
        help="to compare several targets: convstat compare",
    )


def all_saved(arguments: Sequence[str]) -> bool:
    """Whether all that is compared are saved reports, which are what they are."""
    return all(argument.endswith(".json") for argument in arguments)


def _target(argument: str) -> Target | None:
    """Tell a target from a revision, by its form; None for what is no target."""
    try:
        return resolve(argument)
    except UsageError as error:
        # What has the form of neither is told as a target that is not known.
        if not _may_be_revision(argument) or os.path.exists(argument) or revisions.find() is None:
            raise
        try:
            _ends([argument], revisions.here(f"'{argument}'"))
        except UsageError as unknown:
            raise UsageError([*unknown.diagnostics, *error.diagnostics]) from None
        return None


def _may_be_revision(argument: str) -> bool:
    return bool(argument) and "=" not in argument and not argument.startswith("-") and " " not in argument


def _pair(old: Target, new: Target, sides: Sides) -> Diff:
    counted = []
    problems = Together()
    for target, own in ((old, sides.of_base), (new, sides.of_head)):
        with problems:
            counted.append(sides.count(sides.request(target, own=own)))
    problems.tell()
    return changes.compare(*counted, labels=(old.argument, new.argument))


def _at(target: Target, revision: str) -> Target:
    """Name a spec of the working tree at a revision."""
    repository = revisions.find(target.path)
    place = None if repository is None else repository.relative(target.path)
    if repository is None or place is None:
        raise UsageError(f"{target.argument} is not in a git repository, so it has no revisions")
    variant = f"#{target.variant}" if target.variant else ""
    # A revision of another repository than that of the working directory is read from there.
    if (here := revisions.find()) is None or here.top != repository.top:
        raise UsageError(f"{target.argument} is in another repository: run convstat in {repository.top}")
    return resolve(f"{repository.commit(revision)[:12]}:{place}{variant}")


def _past(new: Target, revision: str | None, sides: Sides) -> Diff:
    """Compare a target with what it was: at a revision, at the base, at HEAD, or in its baseline file."""
    request = sides.request(new)
    head = sides.count(request)
    base = revision or sides.base
    if revision is not None and ".." in revision:
        raise UsageError(
            f"{new.argument} is compared with one revision, not with {revision}",
            help=f"convstat diff {revision.partition('..')[0]} {new.argument}",
        )
    if revision is not None or (base is None and new.kind == "spec" and new.path != "-" and revisions.find(new.path)):
        old = _at(new, revision or "HEAD")
        report = _count_past(old, sides)
        label = f"{revision or 'HEAD'}:{old.path}"
        if report is None:
            return changes.added(head, label)
        return changes.compare(report, head, labels=(label, new.argument))
    bases = sides.bases(base)
    bases.prepare([new])
    found = bases.of(request, head)
    if found.state == "missing":
        raise UsageError(f"nothing to compare {new.argument} with: {found.reason}", help=found.help)
    if found.report is None:
        return changes.added(head, found.label)
    return changes.compare(found.report, head, labels=(found.label, new.argument))


def _count_past(old: Target, sides: Sides) -> Report | None:
    """Count a spec of the past; None where it was not there, or had no such variant."""
    from convstat.targets import yaml

    repository = revisions.here(old.argument)
    assert old.revision is not None
    data = repository.read(repository.commit(old.revision), [old.path]).get(old.path)
    if data is None:
        return None
    if old.kind == "report":
        return analysis.read_report(data, old.argument)
    spec = yaml.parse(data, f"{old.revision}:{old.path}")
    return sides.count(sides.request(old, spec)) if old.variant is None or old.variant in spec.variants else None


def _ends(
    arguments: Sequence[str], repository: Repository, default: str | None = None
) -> tuple[str, str, str | None, str]:
    """Give the two commits that are meant, the second None for the working tree, each with its name."""
    if not arguments:
        if default is None:
            return repository.commit("HEAD"), "HEAD", None, "working tree"
        return repository.merge_base(default), default, None, "working tree"
    if len(arguments) == 2:
        return repository.commit(arguments[0]), arguments[0], repository.commit(arguments[1]), arguments[1]
    first, dots, second = _dotted(arguments[0])
    if not dots:
        return repository.commit(first), first, None, "working tree"
    base, head = first or "HEAD", second or "HEAD"
    old, new = repository.commit(base), repository.commit(head)
    parted = repository.one("merge-base", old, new) if dots == "..." else old
    if parted is None:
        raise UsageError(f"'{first}' and '{head}' have no common commit")
    return parted, base, new, head


def _dotted(argument: str) -> tuple[str, str, str]:
    for dots in ("...", ".."):
        first, found, second = argument.partition(dots)
        if found:
            return first, found, second
    return argument, "", ""


def _changed(arguments: Sequence[str], sides: Sides, *, all: bool) -> tuple[Diff, ...]:
    """Compare every spec that is not the same text at two revisions, each of its variants too."""
    repository = revisions.here(f"'{arguments[0]}'" if arguments else "the base of a diff without targets")
    old, old_name, new, new_name = _ends(arguments, repository, sides.base)
    moved = [move for move in repository.moved(old, new, untracked=True) if move.old or move.new]
    before = repository.read(old, [move.old for move in moved if move.status != "A"])
    there = [move.new for move in moved if move.status != "D"]
    after = {path: repository.here(path) for path in there} if new is None else repository.read(new, there)
    found: list[Diff] = []
    problems = Together()
    for move in sorted(moved, key=lambda move: move.new):
        texts = (
            before.get(move.old) if move.status != "A" else None,
            after.get(move.new) if move.status != "D" else None,
        )
        if not any(revisions.is_spec(text) for text in texts):
            continue
        names = (f"{old_name}:{move.old}", move.new if new is None else f"{new_name}:{move.new}")
        with problems:
            found += _of_texts(texts, names, sides)
    # No text says what a Python model of the settings was, so these are not among the changed files.
    named = map(resolve, select(sides.requests.config.models))
    for target in [target for target in named if target.needs_torch]:
        with problems:
            found += _of_traced(target, sides, new_name if new is not None else None)
    problems.tell()
    return tuple(item for item in found if all or item.state != "unchanged")


def _of_traced(target: Target, sides: Sides, revision: str | None) -> list[Diff]:
    """Compare a Python model with its baseline file; where that cannot be, say so."""
    help: tuple[str, ...] = ()
    why = f"it cannot be read at {revision}, since old code is not run"
    if revision is None:
        request = sides.request(target)
        head = sides.count(request)
        base = sides.bases(None).of(request, head)
        if base.report is not None:
            return [changes.compare(base.report, head, labels=(base.label, target.argument))]
        why, help = base.reason or "there is no base", base.help
    sides.listener.warn([Diagnostic(f"{target.argument} is not compared: {why}", severity="note", help=help)])
    return []


def _of_texts(texts: Sequence[bytes | None], names: Sequence[str], sides: Sides) -> list[Diff]:
    """Compare two texts of a spec, and each variant that either has; what is no spec on one side is not there."""
    from convstat.targets import yaml

    specs = [
        yaml.parse(text, name) if text is not None and revisions.is_spec(text) else None
        for text, name in zip(texts, names, strict=True)
    ]
    variants: dict[str | None, None] = {None: None}
    for spec in specs:
        variants |= dict.fromkeys(spec.variants if spec is not None else ())
    made = []
    for variant in variants:
        mark = f"#{variant}" if variant else ""
        old, new = (
            None
            if spec is None or (variant is not None and variant not in spec.variants)
            else sides.count(sides.request(Target(name + mark, "spec", name, variant), spec))
            for spec, name in zip(specs, names, strict=True)
        )
        labels = (names[0] + mark, names[1] + mark)
        if old is not None and new is not None:
            made.append(changes.compare(old, new, labels=labels))
        elif new is not None:
            made.append(changes.added(new, labels[0]))
        elif old is not None:
            made.append(changes.removed(old, labels[1]))
    return made
