"""What the commands that make a result have in common: settings, notes, progress, outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from convstat.cli.options import Shared
from convstat.cli.output import Outputs
from convstat.cli.progress import Progress
from convstat.cli.run import show_problems
from convstat.config import project as settings_file
from convstat.config.requests import ATTENTION, CONFIG, TASK, Requests
from convstat.errors import ConfigError, Diagnostic, UsageError
from convstat.grammar.paths import split_variant
from convstat.render.base import Options, Result
from convstat.render.console import DEFAULT_WIDTH
from convstat.render.formats.registry import RENDERERS
from convstat.targets import FORMS, resolve
from convstat.targets.request import Listener
from convstat.targets.selection import select
from convstat.units import COUNT

if TYPE_CHECKING:
    from convstat.grammar.axes import Value
    from convstat.results.report import Report
    from convstat.targets import Target


T = TypeVar("T")

KINDS: Mapping[str, str] = {
    "spec": "a spec",
    "inline": "an inline layer",
    "report": "a saved report",
    "module": "a Python model",
    "zoo": "a zoo model",
    "config": "a model's config",
}
"""What ``-v`` calls the kinds of targets."""


def kind_in_words(kind: str) -> str:
    """Say what kind of target something is.

    >>> kind_in_words("spec")
    'a spec'
    """
    return KINDS.get(kind, kind)


SAVED = "batch dtype weights activations fuse per picture edges worst_case tokens prefill decode image audio task attn"
"""The options that change how something is counted, which a saved report has been already."""


class Session:
    """One command: how much it says, how it shows results, and the settings of the project."""

    def __init__(self, given: Shared, *, needs_settings: bool = True) -> None:
        """Take the options as they come from the command line; refuse those that make no sense.

        Without ``needs_settings``, settings that cannot be read are no reason to stop.
        """
        from convstat.render.views.layers import check_options

        self.given = given
        self.progress = Progress(enabled=not given.quiet)
        self.listener = Listener(self.progress, self.warn)
        width = DEFAULT_WIDTH if given.width is None else given.width
        self.options = Options(width, given.ascii, given.depth, given.flat, given.sort, given.top)
        self.options = self._for_papers(self.options)
        if given.score is not None:
            from convstat.render.templates.ntire import read_score

            self.options = self.options._replace(score=read_score(given.score))
        check_options(self.options)
        self.config = self._settings(needs_settings)
        self.options = self.options._replace(per=bool(given.per or self.config.per))
        if self.config.path:
            self.detail(f"settings: {self.config.path}")

    def _for_papers(self, options: Options) -> Options:
        """Take the columns, the units and the labels of tables."""
        given = self.given
        names = [name.strip() for name in (given.columns or "").split(",")]
        if given.columns is not None and not all(names):
            raise UsageError("--columns takes names with commas between them", help="--columns layer,params,MACs")
        if given.units is not None and given.units not in ("auto", *COUNT):
            raise UsageError(f"unknown unit '{given.units}'", help=f"--units takes auto, {', '.join(COUNT)}")
        labels = {}
        for text in given.label or ():
            name, mark, label = text.rpartition("=") if text.count("=") == 1 else text.partition("=")
            if not mark or not name or not label:
                raise UsageError(f"--label takes NAME=LATEX, not '{text}'", help=r"--label 'stem=$\mathrm{stem}$'")
            labels[name] = label
        return options._replace(columns=tuple(filter(None, names)), units=given.units, labels=labels)

    def _settings(self, are_needed: bool) -> settings_file.Config:
        try:
            return settings_file.load()
        except ConfigError as error:
            if are_needed:
                raise
            first = error.diagnostics[0]
            self.warn([replace(first, message=f"{first.message}; the settings are ignored", severity="warning")])
            return settings_file.Config()

    def given_of(self, options: str) -> list[str]:
        """Name those of some options that were given, as they are written."""
        values = {name: getattr(self.given, name) for name in options.split()}
        # A zero is given too.
        return [f"--{name.replace('_', '-')}" for name, v in values.items() if v is not None and v is not False]

    def refuse_saved(self, targets: Sequence[str], options: str = SAVED) -> None:
        """Refuse options that would change how a saved report was made; only those that were given count."""
        given = self.given_of(options)
        for argument in targets if given else ():
            if resolve(argument).kind == "report":
                last = f" and no {given[-1]}" if len(given) > 1 else ""
                listed = ", no ".join(given[:-1]) if last else given[0]
                raise UsageError(
                    f"{argument} is a saved report: it takes no {listed}{last}",
                    help="analyze the model itself, with these options",
                )

    @staticmethod
    def pick(*values: T | None) -> T:
        """Give the first that is set: the option, the setting, the default."""
        return next(value for value in values if value is not None)

    def requests(self, named: Sequence[str], overrides: Mapping[str, Value]) -> Requests:
        """Say how each target is counted, from the options as they were given and the settings."""
        given = self.given
        options = {CONFIG: given.config, TASK: given.task, ATTENTION: given.attn}
        overrides = {**{name: text for name, text in options.items() if text is not None}, **overrides}
        said = (given.batch, given.dtype, given.per, given.device, given.mode)
        form = (given.weights, given.activations, given.fuse, given.receptive_field, given.memory)
        checkpoint = tuple(given.checkpoint or ())
        if given.edges is not None and given.picture is None and not given.worst_case:
            raise UsageError("--edges is about blocks of a picture", help="name its size: --picture 1920x1080")
        picture, edges, worst = given.picture, given.edges, tuple(given.worst_case or ())
        asked = Requests(overrides, given.inputs, *said, *form, given.language or bool(checkpoint), checkpoint)
        return replace(
            asked, config=self.config, from_settings=not named, picture=picture, edges=edges, worst_case=worst
        )

    def target(self, named: Sequence[str], command: str) -> Target:
        """Give the one target of a command: the one named, else that of the settings."""
        targets = self.targets(named)
        if len(targets) != 1:
            raise UsageError(f"{command} takes one target, not {len(targets)}", help=f"for example: {targets[0]}")
        return resolve(targets[0])

    def targets(self, named: Sequence[str]) -> Sequence[str]:
        """Give the targets: those named, else those of the settings; what has wildcards is what it stands for."""
        if named:
            targets = select(named)
            if self.given.verbose:
                for argument in targets:
                    self.detail(f"'{argument}' is {kind_in_words(resolve(argument).kind)}")
            return targets
        if self.config.models:
            self.detail(f"no target given: {', '.join(self.config.models)}, from {self.config.path}")
            return select(self.config.models)
        raise UsageError(
            "no target given",
            help=(*(f"a target is {form}" for form in FORMS), 'or set model = "net.yaml" in [tool.convstat]'),
        )

    @contextmanager
    def setting(self, key: str) -> Iterator[None]:
        """Say where a setting is from, if what reads it refuses its value."""
        try:
            yield
        except UsageError as error:
            mark, origin = self.config.marks.get(key), self.config.origins.get(key)
            notes = () if mark else (f"{key} is from {origin}",)
            raise ConfigError([replace(d, mark=mark, notes=(*d.notes, *notes)) for d in error.diagnostics]) from None

    @contextmanager
    def writing(self, targets: Sequence[str], kind: str | None = None) -> Iterator[Outputs]:
        """See that all outputs can be written and can say this kind of result, then let the work be done."""
        inputs = [split_variant(target)[0] for target in targets]
        if self.given.format is None and self.config.format:
            with self.setting("format"):
                RENDERERS.named(self.config.format)
        outputs = Outputs(
            self.given.format or self.config.format,
            self.given.output or (),
            self.options,
            width=self.given.width,
            inputs=inputs,
            silent=self.given.quiet > 1,
            kind=kind,
        )
        with outputs, self.progress:
            yield outputs

    def warn(self, problems: Sequence[Diagnostic]) -> None:
        """Show warnings on standard error."""
        if not self.given.quiet:
            show_problems(problems)

    def note(self, text: str) -> None:
        """Say something on standard error that is worth knowing."""
        if not self.given.quiet:
            show_problems([Diagnostic(text, severity="note")])

    def detail(self, text: str) -> None:
        """Say something on standard error that only ``-v`` asks for."""
        if self.given.verbose:
            show_problems([Diagnostic(text, severity="note")])

    def environment(self, reports: Sequence[Report]) -> None:
        """Say what was special about this installation, once; it changes no count."""
        if not self.given.verbose:
            return
        from convstat.patches.operators import NOTE

        if any(NOTE in report.model.notes for report in reports):
            self.detail(NOTE)

    def write(self, outputs: Outputs, results: Sequence[Result]) -> None:
        """Write the results everywhere, and tell the code host that runs this."""
        from convstat.cli import hosts

        self.progress.clear()
        outputs.write(results)
        self.warn(hosts.announce(results, outputs))
        if self.given.verbose:
            for file in outputs.files:
                self.detail(f"written: {file.path}")
