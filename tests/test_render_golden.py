"""Golden outputs of hand-made results, in every format and at several widths."""

from __future__ import annotations

import pytest
from golden_files import assert_golden
from hand_made import CHECK, DIFF, FULL, HUGE, NASTY, OWN, SWEEP

from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS

RESULTS = {"report": FULL, "own": OWN, "nasty": NASTY, "huge": HUGE, "comparison": SWEEP, "check": CHECK, "diff": DIFF}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", RESULTS)
def test_golden_tables_at_every_width(name: str, width: int) -> None:
    """Each result is laid out as it was when somebody last looked at it."""
    text = RENDERERS.named("table").render([RESULTS[name]], Options(width=width))  # type: ignore[list-item]
    assert_golden(f"{name}-{width}.txt", text)


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize(("format", "suffix"), [("json", "json"), ("csv", "csv"), ("markdown", "md")])
def test_golden_documents(name: str, format: str, suffix: str) -> None:
    """Each result is written as it was when somebody last looked at it."""
    assert_golden(f"{name}.{suffix}", RENDERERS.named(format).render([RESULTS[name]], Options()))  # type: ignore[list-item]


SUFFIXES = {
    "tree": "tree",
    "jsonl": "jsonl",
    "comment": "comment.md",
    "latex": "tex",
    "github": "github",
    "gitlab": "gitlab.json",
    "junit": "xml",
    "sarif": "sarif",
}


@pytest.mark.parametrize("name", ["report", "nasty", "comparison", "check", "diff"])
@pytest.mark.parametrize("format", SUFFIXES)
def test_golden_documents_for_hosts_and_papers(name: str, format: str) -> None:
    """Each result is written as it was when somebody last looked at it, where the format can say it."""
    result = RESULTS[name]
    if result.kind in RENDERERS[format].expresses:
        assert_golden(f"{name}.{SUFFIXES[format]}", RENDERERS.named(format).render([result], Options()))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flat", Options(flat=True)),
        ("depth-1", Options(depth=1)),
        ("depth-2", Options(depth=2)),
        ("top-2", Options(top=2)),
        ("sort-params", Options(sort="params")),
        ("ascii", Options(ascii=True)),
    ],
)
def test_golden_ways_to_show_layers(name: str, options: Options) -> None:
    """Folding, sorting and leaving out look as they did."""
    assert_golden(f"layers-{name}.txt", RENDERERS.named("table").render([OWN], options))
