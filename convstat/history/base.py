"""What a model is compared with: the same spec at the merge-base, a baseline file, a saved report or another model.

A spec is read as it was where HEAD left the base branch, and counted with today's code and today's overrides,
so that a new version of convstat is no growth of a model. A Python model has a baseline file.
Every way in which there may be no base has a name and an explanation; none of them is a pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from convstat.config.requests import Requests
from convstat.errors import ConvstatError, SpecError, UsageError
from convstat.history import baseline
from convstat.history.baseline import Baselines
from convstat.results.report import Report
from convstat.targets import Target, analysis, resolve, revisions
from convstat.targets.request import Request
from convstat.targets.revisions import Moved, Repository

Count = Callable[[Request], Report]


@dataclass(frozen=True, slots=True)
class Base:
    """The base of one model.

    ``state`` is ``found``, ``new`` (there is a base, and the model is not in it) or ``missing`` (there is none).
    ``kind`` is ``git``, ``baseline``, ``report``, ``target`` or ``none``; ``label`` says in words what it is.
    """

    state: str
    kind: str
    label: str
    report: Report | None = None
    commit: str | None = None
    reason: str | None = None
    help: tuple[str, ...] = ()


class Bases:
    """Finds the base of each model of one run; each repository is asked once, for all its specs together."""

    def __init__(self, base: str | None, *, requests: Requests, files: Baselines, count: Count) -> None:
        """``base`` is a revision, a saved report or another target; None where nobody named one.

        ``count`` counts what is found, as the heads are counted.
        """
        self.base = base
        self.requests = requests
        self.files = files
        self.count = count
        self.other = _as_target(base)
        self._found: dict[str, _Repository] = {}

    def prepare(self, targets: Sequence[Target]) -> None:
        """Read the texts that the bases of these specs will need."""
        if self.other is not None and len(targets) > 1:
            raise UsageError(
                f"--base {self.base} is a single model, but {len(targets)} are checked",
                help="name a revision, or check one model",
            )
        if self.base is None or self.other is not None:
            return
        wanted: dict[str, list[str]] = {}
        for target in targets:
            if (place := self._place(target)) is not None:
                wanted.setdefault(place[0].top, []).append(place[1])
        for top, paths in wanted.items():
            self._found[top] = _Repository(Repository(top), self.base, paths)

    def _place(self, target: Target) -> tuple[Repository, str] | None:
        """The repository of a file, and its path in it."""
        if target.kind not in ("spec", "report") or target.path == "-":
            return None
        repository = revisions.find("." if target.revision else target.path)
        if repository is None:
            return None
        if target.revision and not target.path.startswith("."):
            return repository, target.path
        path = repository.relative(target.path)
        return None if path is None else (repository, path)

    def of(self, request: Request, head: Report) -> Base:
        """Give the base of a model that is now counted as ``head``."""
        target = request.target
        if self.other is not None:
            kind = "report" if self.other.kind == "report" else "target"
            return Base("found", kind, self.other.argument, self.count(self.requests.of(self.other)))
        if target.kind in ("spec", "report") and target.path != "-" and self.base is not None:
            return self._at_revision(request, head)
        return self._of_file(request)

    def _of_file(self, request: Request) -> Base:
        target = request.target
        path = self.files.path(request)
        label = os.path.relpath(path)
        if path.is_file():
            report = analysis.load_report(str(path))
            if report.model.source != self.files.named(target.argument):
                raise UsageError(f"{label} is the baseline of {report.model.source}, not of {target.argument}")
            return Base("found", "baseline", label, report)
        save = f"convstat baseline save {_quoted(target.argument)}{self._options()}"
        if target.kind == "spec" and target.path != "-":
            return Base(
                "missing", "none", "no base", None, None, "no base is set",
                ("name a revision: --base origin/main", 'or set base = "origin/main" in [tool.convstat]',
                 f"or keep a file: {save}"),
            )  # fmt: skip
        if target.kind in ("module", "zoo", "config"):
            return Base("missing", "baseline", label, None, None, f"there is no baseline file {label}", (save,))
        what = {"inline": "an inline layer", "report": "a saved report"}.get(target.kind, "standard input")
        help = ("give a base: --base report.json",)
        return Base("missing", "none", "no base", None, None, f"{what} has no history", help)

    def _options(self) -> str:
        said = self.requests
        words = [f" {name}={value}" for name, value in said.overrides.items()]
        words += [f" -i {_quoted(shape)}" for shape in said.inputs]
        words += [f" --batch {said.batch}"] if said.batch is not None else []
        words += [f" --dtype {said.dtype}"] if said.dtype is not None else []
        words += [f" --weights {said.weights}"] if said.weights is not None else []
        words += [f" --activations {said.activations}"] if said.activations is not None else []
        words += [" --fuse"] if said.fuse else []
        words += [f" --per {said.per}"] if said.per is not None else []
        return "".join(words)

    def _at_revision(self, request: Request, head: Report) -> Base:
        target = request.target
        place = self._place(target)
        if place is None:
            inside = revisions.find("." if target.revision else target.path)
            reason = (
                f"{target.argument} is not in a git repository"
                if inside is None
                else f"{target.argument} is not in the working tree of {inside.top}"
            )
            found = self._of_file(request)
            if found.state == "found":
                return found
            help = (f"compare with a file: convstat baseline save {_quoted(target.argument)}, or --base report.json",)
            return Base("missing", "git", str(self.base), None, None, reason, help)
        repository, path = place
        asked = self._found.get(repository.top)
        if asked is None:
            asked = self._found[repository.top] = _Repository(repository, str(self.base), [path])
        if asked.problem is not None:
            first = asked.problem.diagnostics[0]
            return Base("missing", "git", str(self.base), None, None, first.message, first.help)
        label = f"{self.base} at {asked.commit[:8]}"
        was, data = asked.text(path)
        if data is None:
            return Base("new", "git", label, None, asked.commit, f"it is not in {label}")
        name = f"{asked.commit[:8]}:{was}"
        if was != path:
            label = f"{label}, as {was}"
        if asked.is_same(target, path, data):
            # Today's code on the same text gives the same figures.
            return Base("found", "git", label, head, asked.commit)
        return self._count(request, data, name, label, asked.commit)

    def _count(self, request: Request, data: bytes, name: str, label: str, commit: str) -> Base:
        from convstat.targets import yaml

        target = request.target
        try:
            if target.kind == "report":
                return Base("found", "git", label, analysis.read_report(data, name), commit)
            spec = yaml.parse(data, name)
            if target.variant is not None and target.variant not in spec.variants:
                return Base("new", "git", label, None, commit, f"{label} has no variant '{target.variant}'")
            return Base("found", "git", label, self.count(replace(request, spec=spec)), commit)
        except ConvstatError as error:
            first = error.diagnostics[0]
            # What is wrong with an argument is right with the head: the base knows no such variable or input.
            if isinstance(error, UsageError) or (first.mark is not None and not first.mark.source.is_file):
                return Base(
                    "new",
                    "git",
                    label,
                    None,
                    commit,
                    f"{label} cannot be counted with these arguments: {first.message}",
                )
            place = f"{first.mark}: " if first.mark else ""
            return Base(
                "missing", "git", label, None, commit, f"its base cannot be counted: {place}{first.message}",
                (*first.help, "to continue without this base: --missing-baseline skip"),
            )  # fmt: skip

    def gone(self) -> list[tuple[Repository, str, bytes]]:
        """List the specs of the base that are no more, beside those that were asked for."""
        return [
            (asked.repository, path, data)
            for asked in self._found.values()
            if asked.problem is None
            for path, data in asked.gone()
        ]

    def text_at_base(self, path: str) -> bytes | None:
        """Give a file as it was on the base; None where it was not, or where there is no base."""
        repository = revisions.find(path)
        if repository is None or (asked := self._found.get(repository.top)) is None or asked.problem is not None:
            return None
        place = repository.relative(path)
        return None if place is None else repository.read(asked.commit, [place]).get(place)


class _Repository:
    """One repository at its merge-base with a revision: the texts that were asked for, and what was moved since."""

    def __init__(self, repository: Repository, revision: str, paths: Iterable[str]) -> None:
        self.repository = repository
        self.problem: ConvstatError | None = None
        self.commit = ""
        self.paths = list(paths)
        self.texts: dict[str, bytes | None] = {}
        try:
            self.commit = repository.merge_base(revision)
            self.texts = repository.read(self.commit, self.paths)
        except ConvstatError as error:
            self.problem = error

    @cached_property
    def moved(self) -> list[Moved]:
        """The specs that differ from the base in the working tree."""
        return self.repository.moved(self.commit)

    def text(self, path: str) -> tuple[str, bytes | None]:
        """Give the path and the text of a file on the base; a file that was renamed is followed."""
        if path not in self.texts:
            self.texts |= self.repository.read(self.commit, [path])
        data = self.texts[path]
        if data is not None:
            return path, data
        old = next((move.old for move in self.moved if move.status == "R" and move.new == path), None)
        return (path, None) if old is None else (old, self.repository.read(self.commit, [old]).get(old))

    def is_same(self, target: Target, path: str, data: bytes) -> bool:
        """Whether a file is now what it was."""
        return not target.revision and self.repository.here(path) == data

    def gone(self) -> Iterable[tuple[str, bytes]]:
        """The specs that were beside those asked for, and are no more."""
        folders = {os.path.dirname(path) for path in self.paths}
        paths = [m.old for m in self.moved if m.status == "D" and os.path.dirname(m.old) in folders]
        texts: Mapping[str, bytes | None] = self.repository.read(self.commit, paths)
        return [(path, data) for path in paths if (data := texts.get(path)) is not None and revisions.is_spec(data)]


def _as_target(base: str | None) -> Target | None:
    """Tell by its form whether a base is a target of its own: a saved report, or another model."""
    if base is None:
        return None
    try:
        return resolve(base)
    except (UsageError, SpecError):
        return None


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


__all__ = ["Base", "Baselines", "Bases", "Count", "baseline"]
