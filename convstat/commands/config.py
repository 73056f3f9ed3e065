"""What the settings say in full, and where each value is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convstat.budgets.limits import read_short
from convstat.budgets.tables import read_table
from convstat.config.project import KEYS, Config, Entry, ModelSettings
from convstat.grammar.axes import plain

DEFAULTS: Mapping[str, Any] = {
    "batch": 1,
    "device": "auto",
    "dtype": "float32",
    "counters": "default",
    "per": "input",
    "format": "table",
    "missing-baseline": "error",
    "existing": "error",
}
"""What holds where a key is not set; the other keys have none."""


def entries(config: Config) -> tuple[Mapping[str, Any], ...]:
    """Give every key with its value and its place; ``default`` where it is not set. Reads the budgets."""
    return tuple(_entries(config))


def _entries(config: Config) -> Iterator[Mapping[str, Any]]:
    values: Mapping[str, Any] = {
        "model": ", ".join(model for model in config.models if not any(model in t.targets for t in config.by_model)),
        "input": ", ".join(config.inputs),
        **{
            key: getattr(config, key.replace("-", "_"), None)
            for key in KEYS
            if key not in ("model", "input", "models", "budget")
        },
    }
    for key, value in values.items():
        if value in (None, ""):
            yield {"key": key, "value": DEFAULTS.get(key, "not set"), "from": "default"}
        else:
            yield {"key": key, "value": value, "from": config.origins.get(key, "default")}
    tables = [(_model(t), f"{t.mark.file}:{t.mark.line}" if t.mark else "") for t in config.by_model]
    budgets = [said for entry in config.budgets for said in _budget(entry)]
    for key, found in (("models", tables), ("budget", budgets)):
        for text, place in found or [("not set", "default")]:
            yield {"key": key, "value": text, "from": place}


def _model(table: ModelSettings) -> str:
    """What one table of models says, as one would type it."""
    words = [*table.targets, *(f"--input {shape}" for shape in table.inputs)]
    words += [f"{name}={plain(value)}" for name, value in table.overrides.items()]
    options = {name: getattr(table, name) for name in ("batch", "device", "dtype", "weights", "activations", "per")}
    return " ".join([*words, *(f"--{name} {value}" for name, value in options.items() if value is not None)])


def _budget(entry: Entry) -> Iterator[tuple[str, str]]:
    if isinstance(entry.written, str):
        limit = read_short(entry.written, entry.mark)
        yield limit.short, limit.where
        return
    for limit in read_table(entry.written, entry.mark, entry.marks):
        yield limit.short + (f" for {limit.model}" if limit.model else ""), limit.where


def notes(config: Config) -> tuple[str, ...]:
    """Say what is there and is not read."""
    if config.path is None or Path(config.path).name != "convstat.toml":
        return ()
    from convstat.config.project import has_settings

    other = Path(config.path).with_name("pyproject.toml")
    if other.is_file() and has_settings(other):
        return (f"{other} also has a table [tool.convstat], which is ignored: {config.path} takes precedence",)
    return ()
