"""Warnings about a spec reach whoever counts, checks or compares it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import counted
import pytest

from convstat.commands import check, compare
from convstat.errors import Diagnostic
from convstat.spec import read
from convstat.targets.request import Listener

SPEC = """
convstat: 1
input: {x: [3, 8, 8], spare: [2]}
layers: [Conv2d: {out_channels: 8, kernel_size: 3}]
budget: params<=1k
"""

NAMED = """
convstat: 1
input: [3, 8, 8]
vars: {wide: true, middle: "wider if wide else ReLU"}
blocks:
  wider: {params: {inner: narrow}, layers: [inner]}
  narrow: [Conv2d: {out_channels: 4, kernel_size: 3}]
  forgotten: [ReLU]
layers: [middle]
"""

Warn = Callable[[Sequence[Diagnostic]], None]
USES: dict[str, Callable[[str, Warn], object]] = {
    "analyze": lambda path, warn: counted.analyze(path, counters="none", listener=Listener(warn=warn)),
    "check": lambda path, warn: check.check([path], listener=Listener(warn=warn)),
    "compare": lambda path, warn: compare.compare([path], listener=Listener(warn=warn)),
}


@pytest.mark.parametrize("use", USES)
def test_a_warning_is_told_once_whatever_is_asked(use: str, tmp_path: Path) -> None:
    """Analyze, check and compare tell the same warnings of a spec, each once."""
    path = tmp_path / "net.yaml"
    path.write_text(SPEC, encoding="utf-8")
    told: list[Diagnostic] = []
    USES[use](str(path), told.extend)
    assert ["the input 'spare' is never used"] == [warning.message for warning in told]
    assert ["warning"] == [warning.severity for warning in told]


def test_a_block_that_a_variable_or_a_parameter_names_is_used() -> None:
    """Its name in a value is enough, whether or not that value is taken; a block that nothing names is told."""
    spec = read(NAMED, "net.yaml")
    assert ["middle.inner.conv2d"] == [node.name for node in spec.expand().nodes]
    assert ["the block 'forgotten' is never used"] == [warning.message for warning in spec.warnings]
