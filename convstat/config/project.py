"""Settings of a project: the nearest ``convstat.toml``, or ``pyproject.toml`` with a ``[tool.convstat]`` table.

There is one file and no cascade: what is not written there has its default.
Relative paths are relative to the file. An unknown key is an error, because a key that does nothing is a trap.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from convstat.budgets.tables import BUDGET_KEYS
from convstat.config.places import Places
from convstat.errors import ConfigError, Diagnostic, Mark, SourceText, UsageError, did_you_mean
from convstat.grammar import patterns
from convstat.grammar.paths import as_target, split_file, split_variant
from convstat.text.reading import decoded, read_file
from convstat.units import UnitError

KEYS: Mapping[str, str] = {
    "model": "the default target, or a pattern of specs: configs/*.yaml; a list is allowed",
    "input": "the shapes of that model's inputs, as for --input; a list if there are several",
    "models": "settings of individual models: a list of tables",
    "batch": "the batch size, an integer of at least 1",
    "device": "the device of other counters: auto, cpu, cuda or meta",
    "dtype": "float32, float16 or bfloat16",
    "weights": "the width of stored weights, as for --weights: int8",
    "activations": "the width of activations, as for --activations",
    "counters": "the counters that analyze runs: names with commas or a list, default, all, conventions, llm or none",
    "per": "the divisor of MACs/pixel, as for --per",
    "format": "the format of standard output",
    "base": "the base of relative budgets and diff: a git revision, such as origin/main",
    "missing-baseline": "error or skip: how to treat relative budgets without a base",
    "existing": "error or warn: how to treat budgets that the base already exceeds",
    "budget": "the budgets: a list of short forms ('params<=5M') or tables",
}
"""Every key of the table, and what it means."""

MODEL_KEYS: Mapping[str, str] = {
    "model": "the target, or a pattern of targets; a list is allowed",
    "input": "the shapes of its inputs, as for --input; a list if there are several",
    "overrides": "values of its parameters, a table: {width = 32}",
    "config": "a file with the fields of its config object, as for --config",
    "batch": "the batch size, an integer of at least 1",
    "device": "the device: auto, cpu, cuda or meta",
    "dtype": "float32, float16 or bfloat16",
    "weights": "the width of its stored weights, as for --weights",
    "activations": "the width of its activations, as for --activations",
    "per": "the divisor of MACs/pixel, as for --per",
}
"""Every key of a table of ``models``, and what it means."""

ENVIRONMENT: Mapping[str, str] = {"base": "CONVSTAT_BASE", "format": "CONVSTAT_FORMAT", "config": "CONVSTAT_CONFIG"}
"""The variables of the environment that go before the settings; the last one names the file of the settings."""

DEVICES = ("auto", "cpu", "cuda", "meta")
MISSING = ("error", "skip")
EXISTING = ("error", "warn")
DTYPES = ("float32", "float16", "bfloat16")

_LONGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A budget as it is written: its short form, or the keys of its table, each with its place."""

    written: str | Mapping[str, object]
    mark: Mark
    marks: Mapping[str, Mark] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What one table of ``models`` says: None or empty where nothing is set. ``targets`` are the models it is for."""

    targets: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None
    device: str | None = None
    dtype: str | None = None
    per: str | None = None
    mark: Mark | None = None
    weights: str | None = None
    activations: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The settings; None or empty where nothing is set.

    ``path`` is the file, as one would name it from the working directory.
    ``models`` and the budgets' model patterns are usable from the working directory; ``models`` holds those of the
    tables in ``by_model`` too.
    ``origins`` says of each key that is set where it is: ``pyproject.toml:5``, or a variable of the environment.
    ``marks`` has the places of those in the file, for what can be told only where the setting is used.
    """

    path: str | None = None
    models: tuple[str, ...] = ()
    models_mark: Mark | None = None
    by_model: tuple[ModelSettings, ...] = ()
    inputs: tuple[str, ...] = ()
    batch: int | None = None
    device: str | None = None
    dtype: str | None = None
    counters: str | None = None
    per: str | None = None
    format: str | None = None
    base: str | None = None
    missing_baseline: str | None = None
    existing: str | None = None
    budgets: tuple[Entry, ...] = ()
    weights: str | None = None
    activations: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)

    def of(self, target: str) -> ModelSettings:
        """Give what is set for one model, which may be a variant of one that is listed; nothing where it is not."""
        name = _normal(target)
        listed = {_normal(model): table for table in self.by_model for model in table.targets}
        return listed.get(name) or listed.get(split_variant(name)[0]) or ModelSettings((target,))


def _normal(target: str) -> str:
    """One spelling for each target: ``./nets/../net.py:Net`` is ``net.py:Net``."""
    path, rest = split_file(target)
    return target if path is None else as_target(os.path.normpath(path).replace(os.sep, "/")) + rest


def find(start: Path | None = None) -> Path | None:
    """Give the nearest file that has settings, from a folder upward to the root of the git repository."""
    folder = (start or Path()).resolve()
    for current in (folder, *folder.parents):
        own = current / "convstat.toml"
        if own.is_file():
            return own
        shared = current / "pyproject.toml"
        if shared.is_file() and has_settings(shared):
            return shared
        if (current / ".git").exists():
            return None
    return None


def load(path: str | Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Read the settings of a file, or of the nearest one that has any, and what the environment says before them."""
    variables = os.environ if environment is None else environment
    named = variables.get(ENVIRONMENT["config"]) if path is None else None
    found = Path(path) if path is not None else Path(named) if named else find()
    if found is None:
        read = Config()
    else:
        if named and not found.is_file():
            raise ConfigError(f"{ENVIRONMENT['config']} names {named}, which does not exist")
        shown = _shown(found)
        read = parse(_read(found, shown), shown)
    given = {key: value for key in ("base", "format") if (value := variables.get(ENVIRONMENT[key]))}
    if not given:
        return read
    origins = {**read.origins, **{key: ENVIRONMENT[key] for key in given}}
    marks = {key: mark for key, mark in read.marks.items() if key not in given}
    return replace(read, **given, origins=origins, marks=marks)  # type: ignore[arg-type]


def parse(text: str, name: str) -> Config:
    """Read settings; raises ConfigError with every problem, each with its place.

    ``name`` is the path of the file: its last part tells where the table is, and paths are relative to its folder.
    """
    # The import takes milliseconds that a run without settings need not pay.
    import tomllib

    source = SourceText(name, text)
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        message, mark = str(error), Mark(source, 1, 1)
        if match := re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message):
            message, mark = message[: match.start()], Mark(source, *_place(source, match[1], match[2]))
        raise ConfigError(Diagnostic(f"not TOML: {message[:1].lower()}{message[1:]}", mark)) from None
    except RecursionError:
        raise ConfigError(Diagnostic("cannot be read: nested too deeply", Mark(source, 1, 1))) from None
    own = os.path.basename(name) != "pyproject.toml"
    table = document if own else document.get("tool", {}).get("convstat", {})
    places = Places(source, "" if own else "tool.convstat")
    if not isinstance(table, dict):
        raise ConfigError(Diagnostic("tool.convstat must be a table", places.of("convstat")))
    return _Reader(table, places.of, os.path.dirname(name)).config(name, places)


def _place(source: SourceText, line: str | None, column: str | None) -> tuple[int, int]:
    """Where TOML is wrong: its lines end with a line feed alone; without a line, it is the end of the text."""
    if line is None or column is None:
        return source.place(len(source.text.rstrip()))
    before = source.text.split("\n")[: int(line) - 1]
    return source.place(sum(len(text) + 1 for text in before) + int(column) - 1)


class _Reader:
    """One pass over the table that collects problems instead of stopping at the first."""

    def __init__(self, table: Mapping[str, Any], place: Callable[[str], Mark], folder: str) -> None:
        self.table = table
        self.place = place
        self.folder = folder
        self.problems: list[Diagnostic] = []

    def wrong(self, message: str, mark: Mark, *help: str, notes: tuple[str, ...] = ()) -> None:
        self.problems.append(Diagnostic(message, mark, help=help, notes=notes))

    def know(
        self, table: Mapping[str, Any], known: Mapping[str, object], of: str, place: Callable[[str], Mark]
    ) -> None:
        """Look for keys that are unknown in a table ``of`` something."""
        for key in table:
            if key not in known:
                help = did_you_mean(key, known) or (f"keys: {', '.join(known)}",)
                if key == "tool" and not of:
                    help = ("in convstat.toml, keys are at the top level, without [tool.convstat]",)
                self.wrong(f"unknown key '{key}'{of}", place(key), *help)

    def config(self, name: str, places: Places) -> Config:
        self.know(self.table, KEYS, "", self.place)
        listed = [found for model in self.words("model") for found in self.targets(model)]
        by_model = self.by_model(places)
        named = [target for settings in by_model for target in settings.targets]
        config = Config(
            path=name,
            models=tuple(dict.fromkeys([*listed, *named])),
            models_mark=next((self.place(key) for key in ("model", "models") if key in self.table), None),
            by_model=by_model,
            inputs=self.words("input"),
            batch=self.batch(),
            device=self.choice("device", DEVICES),
            dtype=self.choice("dtype", DTYPES),
            counters=",".join(self.words("counters")) or None,
            weights=self.width("weights"),
            activations=self.width("activations"),
            per=self.basis("per"),
            format=self.text("format"),
            base=self.text("base"),
            missing_baseline=self.choice("missing-baseline", MISSING),
            existing=self.choice("existing", EXISTING),
            budgets=self.budgets(places),
            origins={key: f"{name}:{self.place(key).line}" for key in self.table if key in KEYS},
            marks={key: self.place(key) for key in self.table if key in KEYS},
        )
        if self.problems:
            raise ConfigError(self.problems)
        return config

    def by_model(self, places: Places) -> tuple[ModelSettings, ...]:
        value = self.take("models", lambda v: isinstance(v, list) and v and all(isinstance(i, dict) for i in v),
                          "a list of tables: [[tool.convstat.models]]")  # fmt: skip
        found: list[ModelSettings] = []
        seen: dict[str, Mark] = {}
        for index, table in enumerate(value or ()):
            reader = _Reader(table, partial(places.in_item, "models", index), self.folder)
            settings = reader.model()
            self.problems += reader.problems
            for target in settings.targets:
                assert settings.mark is not None
                if target in seen:
                    notes = (f"the other: {seen[target].file}:{seen[target].line}",)
                    self.wrong(f"'{target}' has two tables", settings.mark, notes=notes)
                seen[target] = settings.mark
            found.append(settings)
        return tuple(found)

    def model(self) -> ModelSettings:
        """Read one table of ``models``."""
        self.know(self.table, MODEL_KEYS, " of a model", self.place)
        mark = self.place("model")
        if "model" not in self.table:
            self.wrong("a table of models needs a model", mark, 'for example model = "nets/unet.py:UNet"')
        given = self.take("overrides", lambda v: isinstance(v, dict), "a table: {width = 32}")
        return ModelSettings(
            targets=tuple(found for model in self.words("model") for found in self.targets(model)),
            inputs=self.words("input"),
            overrides={**self.config_file(), **dict(_flat(given or {}))},
            batch=self.batch(),
            device=self.choice("device", DEVICES),
            dtype=self.choice("dtype", DTYPES),
            per=self.basis("per"),
            weights=self.width("weights"),
            activations=self.width("activations"),
            mark=mark,
        )

    def config_file(self) -> dict[str, str]:
        """The override that ``--config`` is; its path is relative to the settings."""
        written = self.text("config")
        if written is None:
            return {}
        name, mark, path = written.rpartition("=")
        return {"--config": name + mark + os.path.normpath(os.path.join(self.folder, path))}

    def batch(self) -> int | None:
        value: int | None = self.take("batch", lambda v: type(v) is int and v >= 1, "an integer of at least 1")
        return value

    def take(self, key: str, fits: Callable[[Any], object], wanted: str) -> Any:
        value = self.table.get(key)
        if value is None or fits(value):
            return value
        self.wrong(f"{key} must be {wanted}, not {_toml(value)}", self.place(key))
        return None

    def text(self, key: str) -> str | None:
        value: str | None = self.take(key, lambda v: isinstance(v, str) and v, "a text")
        return value

    def choice(self, key: str, words: tuple[str, ...]) -> str | None:
        value: str | None = self.take(key, lambda v: isinstance(v, str), "a text")
        if value is None or value in words:
            return value
        help = (*did_you_mean(value, words), f"it is one of {', '.join(words)}")
        self.wrong(f"unknown {key} '{value}'", self.place(key), *help)
        return None

    def basis(self, key: str) -> str | None:
        value = self.text(key)
        if value:
            from convstat.grammar.basis import check

            try:
                check(value)
            except UsageError as error:
                self.problems += [replace(d, mark=self.place(key)) for d in error.diagnostics]
        return value

    def width(self, key: str) -> str | None:
        value = self.text(key)
        if value:
            from convstat.grammar import widths

            try:
                return widths.one_way(value) if key == "weights" else widths.known(value)
            except UnitError as error:
                self.wrong(f"{key}: {error.message}", self.place(key), *([error.help] if error.help else []))
        return value

    def words(self, key: str) -> tuple[str, ...]:
        value = self.take(key, _is_text_or_texts, "a string or a list of strings")
        return () if value is None else (value,) if isinstance(value, str) else tuple(value)

    def targets(self, written: str) -> list[str]:
        """Give the targets that a model of the settings stands for: a pattern of files stands for all of them."""
        mark = self.place("model")
        target = self.path(written, mark)
        path, variant = split_variant(target)
        if not path.endswith((".yaml", ".yml")) or not patterns.is_pattern(path):
            return [target]
        if not self.is_inside(path):
            help = "a pattern must match inside the git repository of the settings, or inside their directory"
            self.wrong(f"model '{written}' is a pattern of files outside", mark, help)
            return []
        try:
            found = patterns.files(path)
        except UsageError as error:
            self.problems += [replace(d, mark=mark) for d in error.diagnostics]
            return []
        if not found:
            self.wrong(f"model '{written}' matches no file", mark, patterns.HELP)
        return [as_target(name) + ("" if variant is None else f"#{variant}") for name in found]

    def is_inside(self, path: str) -> bool:
        """Whether a path that may have wildcards is in the project that the settings are of."""
        home = Path(self.folder or ".").resolve()
        root = next((folder for folder in (home, *home.parents) if (folder / ".git").exists()), home)
        return Path(os.path.abspath(path)).is_relative_to(root)

    def path(self, target: str, mark: Mark) -> str:
        """Give a path of the file as one from the working directory; leave what is no path alone."""
        from convstat.targets import resolve

        try:
            resolve(target)
        except UsageError as error:
            self.problems += [Diagnostic(d.message, mark, help=d.help) for d in error.diagnostics]
            return target
        path, rest = split_file(target)
        return target if path is None else as_target(os.path.normpath(os.path.join(self.folder, path))) + rest

    def budgets(self, places: Places) -> tuple[Entry, ...]:
        value = self.take("budget", lambda v: isinstance(v, list), "a list of strings or tables")
        if value is not None and not value:
            self.wrong("budget is an empty list", self.place("budget"), "omit the key, or add a limit")
        entries = []
        for index, item in enumerate(value or ()):
            mark = places.item("budget", index, item)
            if isinstance(item, str):
                entries.append(Entry(item, mark))
            elif isinstance(item, dict):
                marks = {key: places.in_item("budget", index, key) for key in item}
                self.know(item, BUDGET_KEYS, " of a budget", marks.__getitem__)
                if isinstance(item.get("model"), str):
                    item = {**item, "model": self.path(item["model"], marks["model"])}
                entries.append(Entry(item, mark, marks))
            else:
                self.wrong(f"a budget is a string or a table, not {_toml(item)}", mark)
        return tuple(entries)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give overrides by their dotted keys, numbers exact: ``{args = {width = 0.5}}`` is ``args.width``."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _exact(value)


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return Fraction(value) if isinstance(value, Decimal) else value


def _is_text_or_texts(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) and item for item in value)
    return isinstance(value, str) and bool(value)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else str(value)


def has_settings(path: Path) -> bool:
    """Whether a pyproject.toml has our table."""
    text = _read(path, str(path))
    if not re.search(r"tool\s*\.\s*[\"']?convstat\b(?!-)|^\s*\[\s*tool\s*\]", text, re.MULTILINE):
        return False
    import tomllib

    try:
        tool = tomllib.loads(text).get("tool")
    except (tomllib.TOMLDecodeError, RecursionError):
        # It names the table but is damaged: reading it will say how.
        return True
    return isinstance(tool, dict) and "convstat" in tool


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _read(path: Path, shown: str) -> str:
    try:
        data = read_file(path, _LONGEST)
        if len(data) > _LONGEST:
            raise ConfigError(f"{shown} is larger than {_LONGEST:,} bytes")
        return decoded(data, shown, ConfigError)
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {error.strerror}") from None
