"""What is no target is told what it most likely is, and what to type instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from convstat.errors import ConvstatError, SourceError, UsageError
from convstat.targets import analysis, resolve


@pytest.mark.parametrize(
    ("argument", "help"),
    [
        ("nn.Conv2d(4,8,3)", "help: write Conv2d(4,8,3)"),
        ("torch.nn.ReLU()", "help: write ReLU()"),
        ("ReLU", "help: write 'ReLU()'"),
        ("nn.ReLU", "help: write 'ReLU()'"),
        ("Conv2d", "help: write 'Conv2d(out_channels=..., kernel_size=...)'"),
        ("Conv2d(4,8,3", "help: write 'Conv2d(4,8,3)'"),
        ("Conv2d(4, 8, kernel_size=(3, 3", "help: write 'Conv2d(4, 8, kernel_size=(3, 3))'"),
        ("ACBlock", "help: write 'ACBlock(...)'"),
    ],
)
def test_a_layer_that_is_written_otherwise_is_shown_as_it_should_be(argument: str, help: str) -> None:
    """The help is a line that can be typed."""
    with pytest.raises(ConvstatError) as caught:
        resolve(argument).load()
    assert help in str(caught.value)


def test_the_style_of_an_inline_layer_is_not_remarked_on(recwarn: pytest.WarningsRecorder) -> None:
    """Python warns of a number that runs into a word; whoever writes a layer did not ask Python."""
    resolve("Conv2d(4, 8, 1if True else 3)").load()
    assert not recwarn.list


def test_a_directory_or_another_file_is_called_what_it_is(tmp_path: Path) -> None:
    """By its name alone: a file that cannot be read is told the same."""
    (tmp_path / "net.yaml").write_text("", encoding="utf-8")
    other = tmp_path / "net.txt"
    other.write_text("", encoding="utf-8")
    other.chmod(0)
    with pytest.raises(UsageError, match=r"is a directory\nhelp: it contains .*net\.yaml"):
        resolve(str(tmp_path))
    with pytest.raises(UsageError, match=r"its name ends in \.txt\nhelp: a spec ends in \.yaml"):
        resolve(str(other))
    with pytest.raises(UsageError, match="cannot recognise 'nothing'"):
        resolve("nothing")


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"schema": "convstat.report/1"}', '"text"'])
def test_a_wrong_report_is_named(text: str, tmp_path: Path) -> None:
    """Whatever is wrong with it, the message says which file it is."""
    path = tmp_path / "saved.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        analysis.load_report(str(path))
    assert str(path) in str(caught.value)
