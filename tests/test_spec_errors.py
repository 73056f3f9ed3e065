"""Mistakes in a spec: the catalogue with its exact texts, overrides, inline layers, files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from convstat.errors import SpecError
from convstat.spec import read
from convstat.targets import inline
from convstat.targets import yaml as files

CATALOGUE = sorted((Path(__file__).parent / "errors").glob("*.yaml"))


def said(text: str, name: str = "net.yaml", **overrides: object) -> str:
    """Everything that is said about a spec: its warnings, then its errors."""
    try:
        spec = read(text, name)
        spec.expand(overrides)
    except SpecError as error:
        return str(error)
    return "\n".join(map(str, spec.warnings))


@pytest.mark.parametrize("path", CATALOGUE, ids=lambda path: path.stem)
def test_a_mistake_is_explained_where_it_is(path: Path) -> None:
    """Each mistake of the catalogue gives exactly the text beside it, and nothing else."""
    found = said(path.read_text(encoding="utf-8"), path.name) + "\n"
    expected = path.with_suffix(".txt")
    if os.environ.get("UPDATE_ERRORS"):
        expected.write_text(found, encoding="utf-8")
    assert expected.read_text(encoding="utf-8") == found


def test_every_text_has_its_mistake() -> None:
    """No expectation is left over from a fixture that is gone."""
    folder = Path(__file__).parent / "errors"
    assert [path.stem for path in CATALOGUE] == sorted(path.stem for path in folder.glob("*.txt"))


def test_at_most_twenty_problems_are_shown() -> None:
    """Thirty unknown layers: twenty in full, and the number of the others."""
    text = "convstat: 1\ninput: [3, 8, 8]\nlayers:\n" + "".join(f"  - Layer{number}\n" for number in range(30))
    with pytest.raises(SpecError) as caught:
        read(text, "net.yaml")
    assert 20 + 1 == len(caught.value.diagnostics)
    assert "error: and 10 more errors, in lines 24, 25, 26, 27, 28, 29, 30, 31, 32, 33" == str(
        caught.value.diagnostics[-1]
    )


def test_mistakes_of_several_layers_are_found_in_one_run() -> None:
    """After a layer that does not fit, what can be said of the next ones still is."""
    text = """
convstat: 1
input: [3, 8, 8]
vars: {k: 9, half: 1/2}
layers:
  - Conv2d: {out_channels: 8, kernel_size: k}
  - Conv2d: {out_channels: 8 * half, kernel_size: half}
  - ReLU:
    from: nothing
"""
    found = said(text)
    assert 3 == found.count("error:")
    assert "the output would be 0x0" in found
    assert "kernel_size must be an integer, not 0.5" in found
    assert "no earlier item is named 'nothing'" in found


HEAD = "convstat: 1\ninput: [3, 8, 8]\n"
MODEL = HEAD + "vars: {width: 8}\nlayers: [{Conv2d: {out_channels: width, kernel_size: 3}, name: stem}, ReLU]\n"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {"widht": 16},
            "argument 'widht=16': error: no variable 'widht'\n"
            "    1 | widht=16\n      | ^^^^^\nhelp: did you mean 'width'?",
        ),
        (
            {"stem.kernelsize": 5},
            "argument 'stem.kernelsize=5': error: no argument 'stem.kernelsize' in net.yaml\n"
            "    1 | stem.kernelsize=5\n      | ^^^^^^^^^^^^^^^\n"
            "help: did you mean 'stem.kernel_size' or 'stem.stride'?",
        ),
        (
            {"stem.kernel_size": 9},
            "argument 'stem.kernel_size=9': error: "
            "the output would be 0x0: kernel_size=9 is larger than the padded input 3x8x8\n"
            "    1 | stem.kernel_size=9\n      | ^^^^^^^^^^^^^^^^\n"
            "note: the input 3x8x8 comes from net.yaml:2 (input)",
        ),
        (
            {"width": Fraction(1, 3)},
            "net.yaml:4:34: error: out_channels must be an integer, not 0.333333\n"
            "    4 | layers: [{Conv2d: {out_channels: width, kernel_size: 3}, name: stem}, ReLU]\n"
            "      |                                  ^^^^^\n"
            "note: width=1/3, from argument 'width=1/3'\n"
            "help: use // for integer division, or floor(), ceil() or round8()",
        ),
    ],
)
def test_a_wrong_override_is_explained(overrides: dict[str, object], expected: str) -> None:
    """The place is the argument; what is meant is looked for among variables and paths."""
    with pytest.raises(SpecError) as caught:
        read(MODEL, "net.yaml").expand(overrides)
    assert expected == str(caught.value)


def test_an_unknown_variant_is_explained() -> None:
    """The variants that there are, or that there are none."""
    spec = read(MODEL + "models: {small: {width: 4}}\n", "net.yaml")
    with pytest.raises(SpecError, match="no variant 'smal'\nhelp: did you mean 'small'"):
        spec.expand(variant="smal")
    with pytest.raises(SpecError, match="it has no variants"):
        read(MODEL, "net.yaml").expand(variant="small")


@pytest.mark.parametrize("block", ["[ReLU]", "{layers: [ReLU]}"])
def test_the_name_of_a_block_is_checked_however_the_block_is_written(block: str) -> None:
    """A dotted path could not name what is in it."""
    with pytest.raises(SpecError, match=r"net.yaml:3:10: error: the name of a block must be letters, digits, _ and -"):
        read(f"input: [3, 8, 8]\nlayers: [ReLU]\nblocks: {{a.b: {block}}}\n", "net.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Conv2d(64, 128, kernel_sise=3)", "has no argument 'kernel_sise'"),
        ("Conv2d(64, 128)", "Conv2d needs kernel_size"),
        ("Conv2d(64, 128)", "help: Conv2d(64, 128, kernel_size=...)"),
        ("Conv2d()", "help: Conv2d(out_channels=..., kernel_size=...)"),
        ("ACBlock()", "help: ACBlock(out_channels=...)"),
        ("ACBlock(8, kernel_size=4)", "kernel_size of ACBlock must be odd, not 4"),
        ("Cnov2d(64, 128, 3)", "did you mean 'Conv2d'"),
        ("nn.Conv2d(64, 128, 3)", "write only the layer name: Conv2d"),
        ("Conv2d(64, 128, 3", "not a layer"),
        ("Conv2d(*a)", "'*' is not allowed"),
        ("Conv2d(64, 128, **a)", "'**' is not allowed"),
        ("Conv2d(64, 128, out_channels=3)", "given twice"),
        ("ReLU(True, 1)", "takes at most 1 argument"),
        ("Conv2d(64, 128, kernel_size=k)", "undefined variable 'k'"),
        ("Conv2d(64, 128, kernel_size=open('x'))", "cannot be called"),
        ("Conv2d(64, 128, kernel_size=lambda: 3)", "a lambda is not allowed"),
        ("Conv2d(64, 12×8, 3)", "is not allowed here"),
        ("Conv2d(" + "(" * 900 + ")", "not a layer"),
        ("Conv2d(" + "1," * 900 + ")", "at most 1000 characters"),
        ("f(3)(4)", "not a layer"),
    ],
)
def test_a_wrong_inline_layer_is_explained(text: str, message: str) -> None:
    """A layer on the command line gets the same care as one in a file."""
    with pytest.raises(SpecError) as caught:
        inline.read(text).expand(inputs={"input": (64, 8, 8)})
    assert message in str(caught.value)


def test_an_inline_layer_without_input_says_how_to_give_one() -> None:
    """The example has the channels that the layer asks for."""
    with pytest.raises(SpecError, match="--input 48x56x56"):
        inline.read("Conv2d(48, 128, kernel_size=3)").expand()
    with pytest.raises(SpecError, match=r"--input 64x56$"):
        inline.read("Conv1d(64, 128, kernel_size=3)").expand()
    with pytest.raises(SpecError, match=r"--input 10$"):
        inline.read("Linear(10, 20)").expand()


def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    """Missing, a directory, not text, not UTF-8, too large."""
    (tmp_path / "network.yaml").write_text(MODEL, encoding="utf-8")
    with pytest.raises(SpecError, match=r"did you mean '.*network.yaml'"):
        files.read(str(tmp_path / "netwrk.yaml"))
    with pytest.raises(SpecError, match=r"is a directory\nhelp: .*network.yaml"):
        files.read(str(tmp_path))
    binary = tmp_path / "weights.yaml"
    binary.write_bytes(b"\x80\x02\0\0")
    with pytest.raises(SpecError, match="is not a text file"):
        files.read(str(binary))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("convstat: 1\nname: Caf\xe9\n".encode("latin-1"))
    with pytest.raises(SpecError, match=r"latin.yaml:2:10: error: not UTF-8: the byte 0xe9"):
        files.read(str(latin))
    large = tmp_path / "large.yaml"
    large.write_text("#" * 1_000_001, encoding="utf-8")
    with pytest.raises(SpecError, match="larger than 1,000,000 bytes"):
        files.read(str(large))


def test_standard_input_is_a_file_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """``-``, with the same limits and places."""
    stream = io.TextIOWrapper(io.BytesIO(b"convstat: 1\ninput: [3, 8, 8]\nlayers: [ReLU, Cnov2d]\n"))
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(SpecError, match=r"^<stdin>:3:16: error: unknown layer 'Cnov2d'"):
        files.read("-")


def test_a_shape_given_from_outside_is_named_as_such() -> None:
    """Where the file says 8x8 and ``--input`` 2x2, the file is not to blame."""
    with pytest.raises(SpecError, match=r"the input 3x2x2 comes from the given shape \(--input\)"):
        read(MODEL, "net.yaml").expand(inputs={"input": (3, 2, 2)})


def test_control_characters_are_named_with_their_place() -> None:
    """YAML forbids them, and an editor hides them."""
    assert "net.yaml:2:9: error: not text: it contains the control character U+0007" in said(
        "convstat: 1\nname: ab\x07c\n"
    )


NESTED = "[" * 100_000
BILLION = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
TOWER = HEAD + "blocks:\n  b0: [ReLU]\n" + "".join(f"  b{n}: [b{n - 1}, b{n - 1}]\n" for n in range(1, 60))
EMPTY = "".join(f"  b{n}: {{layers: [b{n - 1}, b{n - 1}]}}\n" for n in range(1, 40)) + "layers: [b39, ReLU]\n"
CHAIN = HEAD + "blocks:\n  b0: [ReLU]\n" + "".join(f"  b{n}: [b{n - 1}]\n" for n in range(1, 5000))
HOSTILE = {
    "a billion aliases": HEAD + BILLION,
    "an alias that contains itself": HEAD + "vars: &v {a: *v}\n",
    "deep flow lists": HEAD + f"layers: {NESTED}",
    "deep flow maps": HEAD + "layers: " + "{a: " * 100_000,
    "deep block lists": HEAD + "layers:\n" + "- " * 100_000,
    "many values": HEAD + "layers:\n" + "- ReLU\n" * 60_000,
    "a huge repeat": HEAD + "layers: [{ReLU: , repeat: 1000000000}]\n",
    "repeats in repeats": HEAD
    + "blocks:\n  a: [{ReLU: , repeat: 1000}]\n  b: [{a: , repeat: 1000}]\nlayers: [{b: , repeat: 1000}]\n",
    "repeats of nothing": HEAD
    + "blocks:\n  a: [{ReLU: , when: false, repeat: 99999}]\nlayers: [{a: , repeat: 99999}, {residual: {body: "
    + "[{residual: {body: [{ReLU: , when: i < 0}]}, repeat: 9999}]}, repeat: 9999}]\n",
    "a tower of blocks": TOWER + "layers: [b59]\n",
    "a tower of empty blocks": HEAD + "blocks:\n  b0: {layers: []}\n" + EMPTY,
    "a tower of blocks that leave all out": HEAD + "blocks:\n  b0: {layers: [{Identity: null, when: false}]}\n" + EMPTY,
    "a wrong layer in blocks that repeat each other": HEAD
    + "blocks:\n  b0: [{Conv2d: {out_channels: 7, kernel_size: 3, groups: cin - 1}}, {ReLU: , from: input}]\n"
    + "  b1: [{b0: , repeat: 50000}]\nlayers: [b1]\n",
    "a chain of blocks": CHAIN + "layers: [b4999]\n",
    "a power of a power": HEAD + "layers: [{Conv2d: {out_channels: 9**9**9, kernel_size: 3}}]\n",
    "a power that grows": HEAD
    + "vars: {a: 2**200, "
    + ", ".join(f"{chr(98 + n)}: {chr(97 + n)}*{chr(97 + n)}" for n in range(20))
    + "}\nlayers: [{Conv2d: {out_channels: u, kernel_size: 3}}]\n",
    "a giant integer": HEAD + f"layers: [{{Conv2d: {{out_channels: {'9' * 500_000}, kernel_size: 3}}}}]\n",
    "a giant exponent": HEAD + "layers: [{Conv2d: {out_channels: 1e999999999, kernel_size: 3}}]\n",
    "a giant size": HEAD + "layers: [{Conv2d: {out_channels: 10**70, kernel_size: 1, groups: 7}}]\n",
    "sizes that grow": HEAD
    + "layers: [{ConvTranspose2d: {out_channels: 1000000007, kernel_size: 1, stride: 2**39}, repeat: 9},"
    + " Flatten, {Unflatten: {dim: 1, unflattened_size: [-1, 1, 1]}},"
    + " {Conv2d: {out_channels: 7, kernel_size: 1, groups: 3}}]\n",
    "a giant number of layers in one": "convstat: 1\ninput: [7, 9]\n"
    + "layers: [{LSTM: {hidden_size: 3, num_layers: 10**9}}]\n",
    "a giant list of sizes": HEAD + "layers: [{Upsample: {size: [" + "9, " * 40_000 + "9]}}]\n",
    "a word many times": HEAD + "vars: {a: same}\nlayers: [{Conv2d: {out_channels: a * 10**10, kernel_size: 3}}]\n",
    "a list many times": HEAD + "vars: {a: [1]}\nlayers: [{Conv2d: {out_channels: a * 10**10, kernel_size: 3}}]\n",
    "deep brackets": HEAD + f'layers: [{{Conv2d: {{out_channels: "{"(" * 240}1{")" * 240}", kernel_size: 3}}}}]\n',
    "deep signs": HEAD + f'layers: [{{Conv2d: {{out_channels: "{"-" * 490}1", kernel_size: 3}}}}]\n',
    "a long chain of variables": HEAD
    + "vars: {v0: 1, "
    + ", ".join(f"v{n}: v{n - 1}+1" for n in range(1, 20_000))
    + "}\nlayers: [{Conv2d: {out_channels: v19999/7, kernel_size: 3}}]\n",
    "a long cycle of variables": HEAD
    + "vars: {"
    + ", ".join(f"v{n}: v{(n + 1) % 20_000}" for n in range(20_000))
    + "}\nlayers: [ReLU]\n",
    "a choice of itself": HEAD + "vars: {what: me}\nblocks: {me: [what]}\nlayers: [me]\n",
    "unknown names by the thousand": HEAD + "layers:\n" + "- Cnov2d\n" * 40_000,
}

LIMITED = """
import re, sys, time
sys.setrecursionlimit(1000)
from convstat.errors import SpecError
from convstat.spec import read
import yaml
text = sys.stdin.read()
before = time.process_time()
sum(range(3_000_000))
loop = time.process_time() - before
before = time.process_time()
try:
    read(text, "net.yaml").expand()
except SpecError as error:
    print(str(error)[:2000])
else:
    print("accepted")
# Not getrusage: its peak is handed down by the process that starts this one, which may have torch loaded.
with open("/proc/self/status") as status:
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
print(time.process_time() - before, loop, peak // 1024)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_at_once(name: str) -> None:
    """Within a second and 200 MiB, with a place and no traceback."""
    answer = subprocess.run(
        [sys.executable, "-c", LIMITED], input=HOSTILE[name], capture_output=True, text=True, timeout=60, check=False
    )
    assert "" == answer.stderr
    *said_of_it, last = answer.stdout.splitlines()
    seconds, loop, mebibytes = last.split()
    assert "net.yaml" in said_of_it[0]
    assert "error" in said_of_it[0]
    # A machine that is busy with other things needs longer for everything: a loop says how much.
    assert float(seconds) < max(1, float(loop) / 0.05)
    assert int(mebibytes) < 200
