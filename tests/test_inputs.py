"""What ``--input`` takes, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convstat.errors import UsageError
from convstat.spec import read
from convstat.targets import analysis
from convstat.targets.inputs import InputSpec, parse, parse_all


@pytest.mark.parametrize("text", ["3x64x64", "3 x 64 x 64", "3,64,64", "3, 64, 64", "3\u00d764\u00d764", " 3X64X64 "])
def test_sizes_are_parted_by_x_or_commas(text: str) -> None:
    """Blanks may stand around the separators."""
    assert (3, 64, 64) == parse(text).shape


@pytest.mark.parametrize("text", ["3 64 64", "1 0", "", "x", "3x", "x3", "3xx4", "0x3", "3x-4", "3.5", "a=b=3", "3x4:"])
def test_other_forms_are_refused(text: str) -> None:
    """Above all, two numbers with a blank between them are not one number."""
    with pytest.raises(UsageError):
        parse(text)


def test_one_name_has_one_shape() -> None:
    """The second would win silently."""
    with pytest.raises(UsageError, match="'x' is given twice"):
        parse_all(["x=3x4", "x=3x5"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3x8x8", InputSpec("3x8x8", None, (3, 8, 8), None)),
        ("x=3x8x8:float16", InputSpec("x=3x8x8:float16", "x", (3, 8, 8), "float16")),
        ("ids=Nx128:int64", InputSpec("ids=Nx128:int64", "ids", (128,), "int64", says_batch=True)),
        ("t=N:int64", InputSpec("t=N:int64", "t", (), "int64", says_batch=True)),
        ("a=[2,3,4]", InputSpec("a=[2,3,4]", "a", (2, 3, 4), None, is_exact=True)),
        ("step=scalar:int64", InputSpec("step=scalar:int64", "step", (), "int64", is_exact=True)),
    ],
)
def test_every_form_is_read(text: str, expected: InputSpec) -> None:
    """Name, sizes, batch, exactness and dtype."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "batch", "usual", "expected"),
    [
        # Without anything to go by: features and pictures are samples, all else is whole.
        ("10", 4, None, (4, 10)),
        ("3x8x8", 4, None, (4, 3, 8, 8)),
        ("1x128", 1, None, (1, 128)),
        ("197x768", 1, None, (197, 768)),
        ("2x3x8x8", 2, None, (2, 3, 8, 8)),
        # N says it.
        ("Nx197x768", 2, None, (2, 197, 768)),
        ("Nx3x16x112x112", 2, None, (2, 3, 16, 112, 112)),
        ("N", 8, None, (8,)),
        # What the model usually takes says it too.
        ("16x16", 2, (1, 7, 7), (2, 16, 16)),
        ("3x8x8", 3, (5, 8, 8), (3, 8, 8)),
        ("128", 128, (64,), (128,)),
        # Brackets and scalars are never changed.
        ("[3,8,8]", 4, None, (3, 8, 8)),
        ("[10]", 4, (1, 10), (10,)),
        ("scalar", 4, None, ()),
    ],
)
def test_the_batch_is_added_where_it_is_missing(
    text: str, batch: int, usual: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    """By what is written, by what the model usually takes, else by the number of sizes."""
    assert expected == parse(text).with_batch(batch, usual)


def test_a_batch_that_contradicts_the_sizes_is_refused() -> None:
    """The help shows both ways to say it."""
    with pytest.raises(UsageError) as caught:
        parse("x=197x768").with_batch(2)
    (problem,) = caught.value.diagnostics
    assert "--input x=197x768 has a first size of 197, but --batch is 2" == problem.message
    assert ("write N for the batch, --input x=Nx..., or brackets: x=[...]",) == problem.help


@given(
    st.lists(st.integers(1, 9_999), min_size=1, max_size=6),
    st.sampled_from(["", "x=", "input_ids="]),
    st.sampled_from(["", ":int64"]),
    st.integers(1, 64),
)
def test_n_and_brackets_say_the_same_whatever_the_rank(sizes: list[int], name: str, dtype: str, batch: int) -> None:
    """``Nx3x4`` with a batch of 2 is ``[2,3,4]``."""
    sample = "x".join(map(str, sizes))
    by_n = parse(f"{name}Nx{sample}{dtype}")
    by_brackets = parse(f"{name}[{','.join(map(str, [batch, *sizes]))}]{dtype}")
    assert by_brackets.with_batch(1) == by_n.with_batch(batch) == (batch, *sizes)
    assert (by_n.name, by_n.dtype) == (by_brackets.name, by_brackets.dtype)


def test_numbers_without_end_are_refused() -> None:
    """Python itself refuses to read them, with a traceback."""
    with pytest.raises(UsageError):
        parse("9" * 5000)


@pytest.mark.parametrize("text", ["[3,8,8]", "scalar", "x=N"])
def test_a_spec_takes_single_samples_only(text: str) -> None:
    """Its inputs are written without the batch, so a whole shape would be taken for a sample."""
    spec = """{convstat: 1, name: a, input: {x: [3, 8, 8]}, layers: [{Conv2d: {out_channels: 4, kernel_size: 3}}]}"""
    with pytest.raises(UsageError, match="not the shape of one sample"):
        analysis.input_shapes(read(spec, "a.yaml"), [text], "a.yaml")
    assert {"x": (3, 9, 9)} == analysis.input_shapes(read(spec, "a.yaml"), ["Nx3x9x9"], "a.yaml")
