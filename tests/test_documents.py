"""Saved documents are not trusted: mutated in every way, each is read right or refused with a path into it."""

from __future__ import annotations

import copy
import csv
import importlib
import io
import json
import pkgutil
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar

import counted
import jsonschema
import pytest
from hand_made import CHECK, DIFF, FULL, HUGE, LAYERS, NASTY, OWN, SWEEP, report

from convstat import results
from convstat.cli.run import run
from convstat.commands import baseline, check
from convstat.config.project import Config
from convstat.config.requests import Requests
from convstat.errors import ConvstatError, DeviceError, SourceError, SpecError, UsageError
from convstat.history import changes
from convstat.history.baseline import Baselines, asked
from convstat.render.base import Options
from convstat.render.console import Terminal
from convstat.render.formats.csv import FORMULA_STARTS, NO_FORMULA
from convstat.render.formats.registry import RENDERERS
from convstat.results.baseline import Baseline
from convstat.results.documents import reading
from convstat.results.documents.codec import (
    ADDED,
    BLANK,
    SPARSE,
    Count,
    Each,
    Example,
    Keys,
    Matches,
    OneOf,
    Ratio,
    Saved,
    declared,
    node_of,
    problems,
)
from convstat.results.documents.problems import LARGEST, Problems, written
from convstat.results.documents.schema import KINDS
from convstat.results.report import Place, Report
from convstat.targets import analysis

REAL = counted.analyze("Conv2d(4, 8, kernel_size=3, groups=2)", inputs=["4x8x8"], counters="all", predict=True)
SAVED = [subject.to_dict() for subject in (FULL, OWN, HUGE, NASTY, REAL)]
BASELINES = [Baseline.of(subject, "net.yaml", asked(counted.request("net.yaml"))).to_dict() for subject in (OWN, NASTY)]
FORMATS = [name for name in RENDERERS.able("report") if name != "jsonl"] + ["jsonl"]

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 10**15, 10**30, LARGEST - 1, LARGEST, 10**400, 1.0, 0.5, -0.0, 1e300, "", "x", "1",
    "=1+1", "@SUM(A1)", "\x1b[31mred\x07", "a\nb", "\u202eabc", "\x9b31m", "\ud800", "<script>", "[x](y)|z", "\t=2",
    "é" * 50, "meta", "cuda", "module", "report", "ok", "failed", "predicted", "(root)", "a" * 5_000, "..", ".", "a..b",
    "(backward)", [], [[]], [1], ["x"], {}, {"a": 1}, {"x": {"y": []}}, [None], {"\x1b": 1}, {"=x": 2}, float("inf"),
]  # fmt: skip
"""What a value may be replaced with."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutate(document: Any, chance: random.Random) -> Any:
    """Change a document in one to three places: another value, a field less, one more, or one of another place."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        known = list(places(document))
        if not known:
            break
        path = chance.choice(known)
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        how = chance.randrange(10)
        if how < 5:
            parent[path[-1]] = copy.deepcopy(chance.choice(VALUES))
        elif how == 5:
            del parent[path[-1]]
        elif how == 6:
            other = document
            for key in chance.choice(known):
                other = other[key]
            parent[path[-1]] = copy.deepcopy(other)
        elif how == 7 and isinstance(parent, list):
            parent.insert(path[-1], copy.deepcopy(parent[path[-1]]))
        elif how == 8 and isinstance(parent, dict):
            parent[chance.choice(("x", "", "\x1b[2J", "=1", "macs", "shape", "bias add"))] = parent[path[-1]]
        elif isinstance(parent[path[-1]], int):
            parent[path[-1]] += chance.choice((-1, 1, 2**40))
        elif isinstance(parent[path[-1]], str):
            parent[path[-1]] = chance.choice(("\x1b[1m", "=", "\r", "\u2028", ".", "")) + parent[path[-1]]
    return document


def spoil(data: bytes, chance: random.Random) -> bytes:
    """Damage the bytes of a file."""
    position = chance.randrange(len(data))
    return (
        data[:position],
        data[:position] + bytes([chance.randrange(256)]) + data[position + 1 :],
        data[:position] + data[position + 1 :],
        b"\xef\xbb\xbf" + data,
        data[:position] + chance.choice((b"NaN", b"[" * 2_000, b"1" * 5_000, b"\x00", b"1e999")) + data[position:],
    )[chance.randrange(5)]


def read_or_refused(data: bytes) -> Any:
    """Read a document; None where it is refused, which is said with its name."""
    try:
        return analysis.read_report(data, "r.json")
    except SourceError as error:
        for problem in error.diagnostics:
            assert re.match(r"r\.json(: | is| holds)", problem.message), problem.message
        return None


def is_safe(text: str, format: str) -> None:
    """Nothing in a text acts on a terminal, nor in CSV on a spreadsheet."""
    assert not [c for c in text if not c.isprintable() and c != "\n"], format
    if format == "csv":
        for row in csv.reader(io.StringIO(text)):
            for value in row:
                is_number = re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value)
                assert is_number or not value.startswith(FORMULA_STARTS) or re.fullmatch(NO_FORMULA, value), value


def use(found: Any, original: Any) -> None:
    """Do with a report what convstat does with one."""
    for format in FORMATS:
        renderer = RENDERERS.named(format)
        is_safe(renderer.render([found], Options()), format)
    for options in (Options(width=40, ascii=True, depth=1), Options(flat=True, sort="macs", top=2)):
        is_safe(RENDERERS.named("table").render([found], options), "table")
    for pair in ((found, original), (original, found)):
        made = changes.compare(*pair, labels=("a", "b"))
        for format in RENDERERS.able("diff"):
            is_safe(RENDERERS.named(format).render([made], Options()), format)


def attack(seeds: range) -> int:
    """Read and use mutated documents; give the number of those that were taken."""
    taken = 0
    for seed in seeds:
        chance = random.Random(seed)
        document = chance.choice(SAVED * 3 + BASELINES)
        mutated = mutate(document, chance)
        data = json.dumps(mutated).encode()
        if chance.random() < 0.15:
            data = spoil(data, chance)
        try:
            found = read_or_refused(data)
            if found is not None:
                taken += 1
                use(found, FULL)
        except ConvstatError:
            raise
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return taken


def test_mutated_documents_are_refused_or_shown() -> None:
    """A sample of what the long run takes; both happen, so neither is tested on nothing."""
    assert 20 < attack(range(200)) < 180


def attack_baselines(folder: Path, seeds: range) -> tuple[int, int]:
    """Mutate the baseline file of a spec, and do all that is done with one; give how often it was taken and refused."""
    layers = "[{Conv2d: {out_channels: 8, kernel_size: 3}}]"
    (folder / "net.yaml").write_text(f"convstat: 1\ninput: [4, 8, 8]\nlayers: {layers}\n")
    files = Baselines(folder)
    baseline.write(files, [str(folder / "net.yaml")], Requests(), update=False)
    [path] = files.files()
    original = path.read_bytes()
    settings = Config(path=str(folder / "convstat.toml"))
    verdicts = [0, 0]
    for seed in seeds:
        chance = random.Random(seed)
        data = json.dumps(mutate(json.loads(original), chance)).encode()
        path.write_bytes(spoil(data, chance) if chance.random() < 0.15 else data)
        uses = (
            lambda: check.check([str(folder / "net.yaml")], Requests(config=settings), max_growth=["macs=1%"]),
            lambda: baseline.show(files, ()),
            lambda: baseline.write(files, (), Requests(), update=True),
        )
        for use_it in uses:
            try:
                use_it()
                verdicts[0] += 1
            except (UsageError, SourceError, SpecError, DeviceError):
                verdicts[1] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            path.write_bytes(data)
    return verdicts[0], verdicts[1]


def test_mutated_baseline_files_are_refused_or_used(tmp_path: Path) -> None:
    """By the check that compares with one, by the list, and by the update that counts again what it names."""
    assert all(attack_baselines(tmp_path, range(100)))


@pytest.mark.verify
def test_very_many_mutated_baseline_files_are_refused_or_used(tmp_path: Path) -> None:
    """The long run."""
    assert all(attack_baselines(tmp_path, range(1_000, 6_000)))


def test_a_baseline_file_speaks_for_its_own_model_alone(tmp_path: Path) -> None:
    """One that names another does not make an update count that: it may be somebody's code."""
    (tmp_path / "net.yaml").write_text("convstat: 1\ninput: [4, 8, 8]\nlayers: [ReLU]\n")
    files = Baselines(tmp_path)
    baseline.write(files, [str(tmp_path / "net.yaml")], Requests(), update=False)
    [path] = files.files()
    path.write_text(path.read_text().replace(json.dumps(str(tmp_path / "net.yaml")), '"os:getcwd"'))
    with pytest.raises(ConvstatError, match="claims to be the baseline of os:getcwd, but is not"):
        baseline.write(files, (), Requests(), update=True)


def test_what_goes_out_is_looked_at_once_more(tmp_path: Path) -> None:
    """A renderer that forgets a name is not enough: neither a terminal nor a file gets what acts on a terminal."""

    class Forgetful(RENDERERS["markdown"]):  # type: ignore[misc]
        def render(self, results: Any, options: Any) -> str:
            return "a\x1b[2J\x9b1m\u202e\n"

    safe = "a\\x1b[2J\\x9b1m\\u202e\n"
    assert safe == Forgetful().encode([OWN], Options()).decode()
    stream = io.StringIO()
    terminal = Terminal(stream, "test", environment={})
    terminal.write("a\x1b[2J\x9b1m\u202e\n")
    assert safe == stream.getvalue()


@pytest.mark.verify
def test_very_many_mutated_documents_are_refused_or_shown() -> None:
    """Twenty thousand of them."""
    assert attack(range(1_000, 21_000))


def one_of(validator: Any, values: list[Any], value: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """The keyword ``enum``, where 1.0 is not 1 either."""
    if not any(value == known and type(value) is type(known) for known in values):
        yield jsonschema.ValidationError(f"{value!r} is not one of {values!r}")


STRICT = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    validators={"enum": one_of},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, v: type(v) is int),
)
"""The standard's validator, in which 1.0 is no integer."""
STRICTER = ("an integer of more than 100 digits", "a number that is not finite")
"""What the standard has no word for."""


def standard(kind: type) -> Any:
    """The standard's validator of the schema of a class."""
    definitions: dict[str, Any] = {}
    return STRICT({**declared(kind).schema(definitions), "$defs": definitions})


def compare_validators(seeds: range) -> tuple[int, int]:
    """Hold mutated documents against what is declared and against its schema; give how many they took and refused."""
    theirs = {kind: standard(kind) for kind in (*KINDS, Baseline)}
    verdicts = [0, 0]
    for seed in seeds:
        chance = random.Random(seed)
        kind, document = chance.choice(NAMED)
        mutated = mutate(document, chance)
        found = [p for p in problems(kind, mutated) if p.message not in STRICTER]
        assert (not found) == theirs[kind].is_valid(mutated), (seed, found)
        verdicts[not found] += 1
        paths = {written(tuple(error.absolute_path)) for error in theirs[kind].iter_errors(mutated)}
        if len(paths) == 1 and not any("anyOf" in e.schema_path for e in theirs[kind].iter_errors(mutated)):
            assert paths == {problem.path for problem in found}, seed
    return verdicts[1], verdicts[0]


NAMED: list[tuple[type, Any]] = [
    *((Report, document) for document in SAVED),
    *((Baseline, document) for document in BASELINES),
    *(
        (type(subject), json.loads(RENDERERS.named("json").render([subject], Options())))
        for subject in (SWEEP, CHECK, DIFF)
    ),
]


def test_the_checks_are_those_of_the_schema() -> None:
    """On mutated documents of every kind: the same verdict, and where one thing is wrong the same place."""
    taken, refused = compare_validators(range(300))
    assert taken > 50
    assert refused > 50


@pytest.mark.verify
def test_the_checks_are_those_of_the_schema_of_very_many() -> None:
    """The long run."""
    assert all(compare_validators(range(1_000, 11_000)))


@pytest.mark.parametrize(
    ("declaration", "value", "message"),
    [
        (int, 1.0, "1.0 where an integer belongs"),
        (int, True, "true where an integer belongs"),
        (Count, -1, "-1 is less than 0"),
        (int, LARGEST, "an integer of more than 100 digits"),
        (int, -LARGEST, "an integer of more than 100 digits"),
        (float, float("inf"), "a number that is not finite"),
        (Fraction, "1/2", "'1/2' where a number belongs"),
        (int | Fraction | None, [], "a list where a number or null belongs"),
        (str | None, [], "a list where a text or null belongs"),
        (bool, 1, "1 where true or false belongs"),
        (Annotated[int, OneOf(0, 1)], True, "true is none of 0, 1"),
        (Annotated[str, OneOf("a")], "b", "'b' is not 'a'"),
        (Annotated[str, OneOf("a", "b")] | None, 1, "1 where 'a' or 'b' or null belongs"),
        (Annotated[str, Matches(r"^\d+$")], "x", r"'x' does not have the form ^\d+$"),
        (str, "x" * 100_001, "a text of 100,001 characters: the limit is 100,000"),
        (tuple[Count, ...], [0, -1], "[1]: -1 is less than 0"),
        (Mapping[str, Count], {"a b": "x"}, "[\"a b\"]: 'x' where an integer of at least 0 belongs"),
        (Annotated[Mapping[str, Count], Each("a", "b")], {"a": 1}, "'b' is missing"),
        (Mapping[str, Any], {"a b": {"c": [2e999]}}, '["a b"].c[0]: a number that is not finite'),
        (Mapping[str, Any], {"x" * 100_001: 1}, "a name of 100,001 characters: the limit is 100,000"),
        (Place, {"file": "a"}, "'line' is missing"),
        (Place | None, {"file": "a", "line": 0}, "line: 0 is less than 1"),
        (Place | None, 3, "3 where an object or null belongs"),
        (Annotated[Place, Keys("at=line")], {"at": "1"}, "at: '1' where an integer of at least 1 belongs"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_words(declaration: Any, value: Any, message: str) -> None:
    """What there is, and what belongs there."""
    found = Problems()
    node_of(declaration).check(value, (), found)
    assert [message] == [str(problem) for problem in found]


@dataclass(frozen=True)
class Wheel:
    """A part of a car."""

    KEYS: ClassVar = Keys("size share", name="wheel")
    size: Annotated[Count, "in inches", Example(17)]

    def share(self, car: Car) -> Ratio:
        """Its part of all sizes; what it is a part of is given to it."""
        return Fraction(self.size, sum(wheel.size for wheel in car.wheels))


@dataclass(frozen=True)
class Car(Saved):
    """A result with all that can be declared."""

    KEYS: ClassVar = Keys("schema called=name owner spare.size wheels doors=count note colour year")
    schema: ClassVar[str] = "car/1"
    name: str
    owner: Annotated[str, BLANK]
    wheels: tuple[Wheel, ...]
    spare: Wheel | None = None
    note: Annotated[str, ADDED] = "none"
    colour: Annotated[str | None, SPARSE] = None
    year: Annotated[int | None, SPARSE, "of its making"] = None

    @property
    def count(self) -> Annotated[Mapping[str, Count], Each("left", "right")]:
        """The doors."""
        return {"left": 2, "right": 1}


def test_a_declaration_is_the_document_its_reading_back_and_its_schema() -> None:
    """Each written out by hand: names, bounds, what is computed, left out, added later, and said about a field."""
    car = Car("a", "", (Wheel(1), Wheel(3)), colour="red")
    document = {
        "schema": "car/1",
        "called": "a",
        "owner": None,
        "size": None,
        "wheels": [{"size": 1, "share": 0.25}, {"size": 3, "share": 0.75}],
        "doors": {"left": 2, "right": 1},
        "note": "none",
        "colour": "red",
    }
    assert document == car.to_dict()
    assert list(document) == list(car.to_dict())
    assert 17 == Car("a", "b", (), spare=Wheel(17)).to_dict()["size"]
    assert car == Car.from_dict(document)
    del document["note"], document["colour"]
    assert [] == problems(Car, document)
    assert replace(car, colour=None) == Car.from_dict(document)
    definitions: dict[str, Any] = {}
    text, size = {"type": "string"}, {"description": "in inches", "examples": [17]}
    assert {
        "type": "object",
        "properties": {
            "schema": {"const": "car/1"},
            "called": text,
            "owner": {"type": ["string", "null"]},
            "size": {"type": ["integer", "null"], "minimum": 0, **size},
            "wheels": {"type": "array", "items": {"$ref": "#/$defs/wheel"}},
            "doors": {
                "type": "object",
                "properties": {"left": {"type": "integer", "minimum": 0}, "right": {"type": "integer", "minimum": 0}},
                "required": ["left", "right"],
            },
            "note": text,
            "colour": text,
            "year": {"type": "integer", "description": "of its making"},
        },
        "required": ["schema", "called", "owner", "size", "wheels", "doors"],
    } == declared(Car).schema(definitions)
    assert {
        "wheel": {
            "type": "object",
            "properties": {"size": {"type": "integer", "minimum": 0, **size}, "share": {"type": "number"}},
            "required": ["size", "share"],
        }
    } == definitions


@pytest.mark.parametrize("declaration", [set[int], object, frozenset], ids=str)
def test_a_type_that_has_no_document_is_refused(declaration: Any) -> None:
    """A field that is passed over would be a check that is not made."""
    with pytest.raises(TypeError, match="nothing says what"):
        node_of(declaration)


def test_a_key_that_a_class_does_not_have_is_refused() -> None:
    """When the document is declared, not when one is written."""
    with pytest.raises(KeyError, match="lines"):
        declared(Place, Keys("file lines"))


@pytest.mark.parametrize("subject", [FULL, OWN, HUGE, NASTY, REAL], ids=lambda subject: subject.model.name[:5])
def test_what_is_kept_of_a_report_reads_back_as_it_was(subject: Report) -> None:
    """The counts, the shapes and the arguments; through JSON nothing of it is lost."""
    document = Baseline.of(subject, "net.yaml", asked(counted.request("net.yaml"))).to_dict()
    kept = Baseline.from_dict(json.loads(json.dumps(document)))
    assert document == kept.to_dict()
    found = kept.report
    assert (subject.totals, subject.uncounted) == (found.totals, found.uncounted)
    assert list(found.layers) == [
        replace(row, source=None, note=None, arguments=json.loads(json.dumps(row.arguments))) for row in subject.layers
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["layers"][3].update(params="5"), "layers[3].params: '5' where an integer of at least 0 belongs"),
        (lambda d: d["layers"][1].pop("macs"), "layers[1]: 'macs' is missing"),
        (lambda d: d["model"].update(notes="x"), "model.notes: 'x' where a list belongs"),
        (lambda d: d["totals"].update(macs=1), "totals.macs: 1, and that of the layers sums up to"),
        (lambda d: d["totals"]["other"].update(norm=1), "totals.other: 1 of 'norm', and the layers sum up to 200704"),
        (lambda d: d["counters"][0]["causes"].pop(), "counters[0].difference.macs: "),
    ],
)
def test_a_path_says_what_is_wrong(change: Callable[[Any], Any], message: str) -> None:
    """The name of the file, then the place in it."""
    document = json.loads(json.dumps(FULL.to_dict()))
    change(document)
    with pytest.raises(SourceError) as caught:
        analysis.read_report(json.dumps(document).encode(), "report.json")
    assert f"error: report.json: {message}" in str(caught.value)


def test_the_command_says_it_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever a report can be named; control characters of the file stay out of the message."""
    path = tmp_path / "report.json"
    document = OWN.to_dict()
    document["layers"][0]["params"] = "\x1b[31m"
    document["layers"][0]["other"] = {"\x1b]0;x\x07": -1}
    path.write_text(json.dumps(document))
    for command in (["render"], ["check", "--max", "macs=1"], ["diff", str(path)], ["analyze"], ["compare"]):
        assert 2 == run([command[0], str(path), *command[1:]]), command
        out, error = capsys.readouterr()
        assert ("", True) == (out, "layers[0].params: '\\x1b[31m' where an integer" in error), (command, error)
        assert "\x1b" not in error


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf ", "is not a JSON document"),
        (b"\xff{}", "is not a JSON document"),
        (b"[" * 100_000, "nests too deep"),
        (b'{"a": ' * 500 + b"1" + b"}" * 500, "it names no schema"),
        (b'{"schema": "convstat.report/1", "totals": {"macs": ' + b"9" * 5_000 + b"}}", "is not a JSON document"),
        (b'{"a": NaN}', "NaN is not a value of JSON"),
        (b"[1]", "is not a saved report"),
        (b"[]", "holds 0 reports"),
        (b'{"schema": [1]}', "its schema is a list"),
        (b'{"schema": "convstat.comparison/1"}', "its schema is 'convstat.comparison/1'"),
    ],
)
def test_what_is_no_report_is_refused(data: bytes, message: str) -> None:
    """Each in one sentence."""
    with pytest.raises(SourceError, match=r"^error: r\.json") as caught:
        analysis.read_report(data, "r.json")
    assert message in str(caught.value)


def test_there_is_a_limit_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is seen before it is read whole, and the number of its values before they are made."""
    monkeypatch.setattr(reading, "MAX_BYTES", 1_000)
    path = tmp_path / "r.json"
    with path.open("wb") as stream:
        stream.truncate(10**12)
    with pytest.raises(SourceError, match="larger than 1,000 bytes"):
        analysis.load_report(str(path))
    monkeypatch.setattr(reading, "MAX_VALUES", 10)
    with pytest.raises(SourceError, match="more than 10 values"):
        analysis.read_report(b"[" + b"0," * 10 + b"0]", "r.json")


def test_the_largest_report_of_a_spec_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are far beyond what there can be: each layer of 100,000 may have 1,280 bytes and 100 values."""
    size = len(json.dumps(report(LAYERS).to_dict()["layers"]).encode())
    assert size / len(LAYERS) * 100_000 < reading.MAX_BYTES
    assert 40 * 100_000 < reading.MAX_VALUES


def test_no_two_classes_have_one_name_in_a_schema() -> None:
    """A definition is looked up by its name: the second class of that name would be described as the first one."""
    found: dict[str, set[str]] = {}
    for module in pkgutil.walk_packages(results.__path__, f"{results.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            keys = vars(kind).get("KEYS") if isinstance(kind, type) else None
            if isinstance(keys, Keys) and keys.name:
                found.setdefault(keys.name, set()).add(f"{kind.__module__}.{kind.__qualname__}")
    assert {name: kinds for name, kinds in found.items() if len(kinds) > 1} == {}
    assert len(found) > 10
