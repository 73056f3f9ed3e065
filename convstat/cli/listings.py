"""``convstat list``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convstat.cli import options as o
from convstat.errors import ExitCode

FOLDER = "configs"
"""Where ``list configs`` looks for specs in the working directory, besides the examples that come with convstat."""

if TYPE_CHECKING:
    from convstat.layers import Layer

Entry = Mapping[str, Any]


def layers() -> tuple[Entry, ...]:
    """The layer kinds that a spec can name; an argument is [inferred], required, optional=default, and name/short."""
    from convstat.layers import KINDS, load_plugins
    from convstat.layers.base import REQUIRED, show

    def written(kind: type[Layer], name: str) -> str:
        argument = kind.arguments[name]
        shown = f"{name}/{argument.short}" if argument.short else name
        if argument.infer is not None:
            return f"[{shown}]"
        return shown if argument.default is REQUIRED else f"{shown}={show(argument.default)}"

    load_plugins()
    return tuple(
        {
            "family": kind.family or kind.__module__.rpartition(".")[2],
            "name": name,
            "arguments": ", ".join(written(kind, argument) for argument in kind.arguments) or "no arguments",
            "aliases": f"also {', '.join(kind.aliases)}" if kind.aliases else "",
        }
        for name, kind in KINDS.items()
    )


def blocks() -> tuple[Entry, ...]:
    """The blocks that come with convstat."""
    from convstat.spec import shipped

    return tuple(
        {
            "name": name,
            "parameters": ", ".join(
                key if default is None else f"{key}={default}" for key, default in shipped.defaults(name).items()
            ),
            "about": shipped.note(name),
        }
        for name in shipped.NAMES
    )


def counters() -> tuple[Entry, ...]:
    """The other counters, and which of them are there; then those that are predicted only."""
    from convstat.counters import CONVENTIONS, COUNTERS, DEFAULT, LANGUAGE_MODELS
    from convstat.counters.measure import version_of

    versions = {name: version_of(counter) for name, counter in COUNTERS.items()}
    run = tuple(
        {
            "name": name,
            "version": versions[name] or "not installed",
            "unit": counter.unit,
            "default": "runs by default" if name in DEFAULT else "",
            # A counter of another package may say less of itself.
            "counts": getattr(counter, "counts", ""),
            "defects": tuple(getattr(counter, "defects", ())),
            "install": "" if versions[name] else counter.help,
            "source": "",
        }
        for name, counter in COUNTERS.items()
    )
    predicted = tuple(
        {
            "name": name,
            "version": "predicted",
            "unit": counter.unit,
            "default": "",
            "counts": counter.counts,
            "defects": tuple(counter.defects),
            "install": "",
            "source": counter.source,
        }
        for name, counter in {**CONVENTIONS, **LANGUAGE_MODELS}.items()
    )
    return (*run, *predicted)


def formats() -> tuple[Entry, ...]:
    """The output formats."""
    from convstat.render.base import KINDS
    from convstat.render.formats.registry import RENDERERS

    RENDERERS.load_plugins()
    return tuple(
        {
            "name": name,
            "about": renderer.about,
            "expresses": "anything" if renderer.expresses == tuple(KINDS) else ", ".join(renderer.expresses),
            "suffixes": " ".join(renderer.suffixes),
        }
        for name, renderer in RENDERERS.items()
    )


def metrics() -> tuple[Entry, ...]:
    """What a budget can limit."""
    from convstat.budgets.limits import METRICS

    return tuple({"name": name, "about": about} for name, about in METRICS.items())


def advice() -> tuple[Entry, ...]:
    """What advice looks for."""
    from convstat.results.advice import KINDS

    return tuple({"name": name, "about": about} for name, about in KINDS.items())


def configs() -> tuple[Entry, ...]:
    """The examples that come with convstat, by name, and other specs in ``configs/`` of the working directory."""
    from pathlib import Path

    from convstat.targets import examples

    shipped = examples.files()
    folder = Path(FOLDER)
    known = {path.resolve() for path in shipped.values()}
    own = {str(path): path for path in sorted(folder.glob("*.y*ml")) if path.resolve() not in known}
    return tuple({"name": name, "about": examples.about(path)} for name, path in {**shipped, **own}.items())


def zoo() -> tuple[Entry, ...]:
    """The names in model zoos, from the list that ships; whether they can be counted needs the zoo itself."""
    from convstat.targets.zoo import ZOOS, names

    return tuple({"zoo": name, "name": f"{name}/{model}"} for name in ZOOS for model in names(name))


def matching(entries: tuple[Entry, ...], what: str, pattern: str | None) -> tuple[Entry, ...]:
    """Keep the entries with a name that a pattern is in, or matches where it has wildcards; case does not matter."""
    from convstat.errors import UsageError, did_you_mean
    from convstat.grammar import patterns

    if pattern is None:
        return entries
    wanted = pattern.lower()
    is_wild = patterns.is_pattern(wanted)
    kept = tuple(
        entry
        for entry in entries
        if (patterns.matching(wanted, _names(entry)) if is_wild else any(wanted in name for name in _names(entry)))
    )
    if not kept:
        known = [name for entry in entries for name in _names(entry)]
        raise UsageError(f"no name in the list of {what} matches '{pattern}'", help=did_you_mean(pattern, known))
    return kept


def _names(entry: Entry) -> tuple[str, ...]:
    """A name in full, and without its folder or zoo."""
    full = str(entry["name"]).lower()
    return full, full.rpartition("/")[2]


COUNTER_FACTS = {
    "unit": "unit", "counts": "counts", "install": "install", "source": "rules", "defects": "wrong",
}  # fmt: skip
"""What is said of a counter on lines of its own, and how it is led."""

LISTS: Mapping[str, tuple[Callable[[], tuple[Entry, ...]], str, str | None]] = {
    "layers": (layers, "layers", "family"),
    "blocks": (blocks, "blocks", None),
    "counters": (counters, "counters", None),
    "formats": (formats, "formats", None),
    "metrics": (metrics, "metrics of budgets", None),
    "advice": (advice, "what advise looks for", None),
    "configs": (configs, "examples (convstat init --from NAME writes one)", None),
    "zoo": (zoo, "models in zoos", "zoo"),
}
"""What can be listed."""


@o.takes("format width ascii")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="|".join(LISTS),
            help="What to list.",
            show_default=False,
            autocompletion=o.complete_words(*LISTS),
        ),
    ],
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Only names that contain this word or match this pattern: resnet, 'torchvision/*_fpn'.",
            show_default=False,
        ),
    ] = None,
    *,
    given: o.Shared,
) -> int:
    """List layers, blocks, counters and more."""
    from convstat.cli.session import Session
    from convstat.errors import UsageError, did_you_mean
    from convstat.results.listing import Listing

    if what not in LISTS:
        raise UsageError(f"cannot list '{what}'", help=(*did_you_mean(what, LISTS), f"lists: {', '.join(LISTS)}"))
    read, title, group = LISTS[what]
    session = Session(given, needs_settings=False)
    with session.writing((), "listing") as outputs:
        facts = COUNTER_FACTS if what == "counters" else {}
        session.write(outputs, [Listing(title, matching(read(), what, pattern), group, facts)])
    return ExitCode.OK
