"""Splitting a difference into causes: exact, whatever the figures are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from convstat.counters import Prediction, Reported, Term
from convstat.counters.causes import CAUSES, VERDICTS
from convstat.counters.reconcile import locate, reconcile
from convstat.results.report import Cause, CounterRow, Figures, LayerRow


def row(name: str, *, params: int = 0, macs: int = 0, shares: str | None = None) -> LayerRow:
    """A layer of convstat's own count."""
    return LayerRow(name, "Conv2d", ((1, 1),), ((1, 1),), params, macs, shares=shares)


LAYERS = (row("conv", params=12, macs=100), row("block.fc", params=6, macs=50))


def _close(result: CounterRow) -> None:
    """The difference is the sum of the causes and what is unexplained."""
    for figure in ("params", "macs"):
        causes = sum(getattr(cause, figure) for cause in result.causes)
        difference = getattr(result.difference, figure)
        if difference is not None:
            assert difference == causes + getattr(result.unexplained, figure)


def test_terms_with_a_code_become_causes_with_their_calls_and_layers() -> None:
    """Terms of one code are summed; each is told with its verdict, its sentence, its calls and its layers."""
    terms = (
        Term("conv", macs=100, params=12),
        Term("conv", macs=8, code="bias", calls=2),
        Term("block.fc", macs=50, params=6),
        Term("block.fc", macs=5, code="bias"),
        Term("block.fc", params=-6, code="trainable_only"),
    )
    result = reconcile(LAYERS, Reported(12, 163), Prediction(12, 163, terms), name="peer", version="1", device="meta")
    assert Figures(params=-6, macs=13) == result.difference
    assert Figures(params=0, macs=0) == result.unexplained
    assert (
        Cause("bias", *CAUSES["bias"], macs=13, calls=3, layers=("conv", "block.fc")),
        Cause("trainable_only", *CAUSES["trainable_only"], params=-6, calls=1, layers=("block.fc",)),
    ) == result.causes
    assert ("peer", "1", "meta", "ok") == (result.name, result.version, result.device, result.status)


def test_what_a_counter_misses_of_a_layer_is_a_term_of_its_own() -> None:
    """An amount that it leaves out; the largest cause comes first."""
    terms = (
        Term("conv", macs=100, params=12),
        Term("conv", macs=-10, code="rnn_projection"),
        Term("block.fc", macs=50, params=6),
        Term("block.fc.inner", macs=-50, code="functional_unseen"),
    )
    result = reconcile(LAYERS, Reported(18, 90), Prediction(18, 90, terms), name="peer")
    assert [("functional_unseen", -50, ("block.fc",)), ("rnn_projection", -10, ("conv",))] == [
        (cause.code, cause.macs, cause.layers) for cause in result.causes
    ]
    assert result.is_explained
    _close(result)


def test_what_is_missing_without_a_term_has_no_cause() -> None:
    """No reason is looked for afterwards, whatever else is known of the layer."""
    terms = (Term("conv", macs=90, params=12), Term("conv", macs=7, code="bias"), Term("block.fc", macs=50, params=6))
    result = reconcile(LAYERS, Reported(18, 147), Prediction(18, 147, terms), name="peer")
    assert [("unattributed", -10), ("bias", 7)] == [(cause.code, cause.macs) for cause in result.causes]
    assert result.is_reconciled
    assert not result.is_explained
    _close(result)


def test_layers_inside_a_module_that_ran_as_one_kernel_are_lined_up_as_one() -> None:
    """Under this counter the block is one call; what convstat has of the layers inside is the block's."""
    layers = (*LAYERS, row("block.norm", params=4), row("blocks.fc", macs=3))
    terms = (Term("conv", macs=100, params=12), Term("block", macs=50, params=10), Term("blocks.fc", macs=3))
    result = reconcile(layers, Reported(22, 153), Prediction(22, 153, terms, fused=("block",)), name="peer")
    assert () == result.causes
    apart = reconcile(layers, Reported(22, 153), Prediction(22, 153, terms), name="peer")
    assert ["unattributed"] == [cause.code for cause in apart.causes]


def test_a_part_without_a_code_is_unattributed_and_seen() -> None:
    """Nothing is swept under a cause that does not fit, also where two layers' parts cancel out."""
    result = reconcile(
        LAYERS, Reported(18, 150), Prediction(18, 150, (Term("conv", macs=150, params=18),)), name="peer"
    )
    (cause,) = result.causes
    assert ("unattributed", "unexplained", 0, 0) == (cause.code, cause.verdict, cause.params, cause.macs)
    assert ("conv", "block.fc") == cause.layers
    _close(result)


def test_a_wrong_prediction_is_unexplained() -> None:
    """What the real tool says, and nobody foresaw, stands in its own column."""
    terms = (Term("conv", macs=100, params=12), Term("block.fc", macs=50, params=6))
    result = reconcile(LAYERS, Reported(18, 157), Prediction(18, 150, terms), name="peer")
    assert Figures(params=0, macs=7) == result.unexplained
    assert () == result.causes


def test_an_answer_where_a_failure_was_foreseen_is_all_unexplained() -> None:
    """Without a prediction there are no causes, and the whole difference is unexplained."""
    result = reconcile(LAYERS, Reported(20, 150), Prediction(None, None, failure="it cannot"), name="peer")
    assert (None, (), Figures(2, 0), Figures(2, 0)) == (
        result.predicted,
        result.causes,
        result.difference,
        result.unexplained,
    )


def test_a_counter_without_macs_has_no_difference_in_macs() -> None:
    """None is not zero: torchsummary counts no operations."""
    terms = (Term("conv", params=12), Term("block.fc", params=6), Term("conv", params=12, code="shared_per_call"))
    result = reconcile(LAYERS, Reported(30), Prediction(30, None, terms), name="peer")
    assert (12, None) == (result.difference.params, result.difference.macs)
    assert (0, None) == (result.unexplained.params, result.unexplained.macs)
    assert ["shared_per_call"] == [cause.code for cause in result.causes]


def test_calls_of_a_shared_layer_are_one_layer() -> None:
    """A module is one thing however often it is called: both calls' MACs are lined up with its own."""
    layers = (row("conv", params=12, macs=100), row("again", macs=100, shares="conv"))
    terms = (Term("conv", macs=200, params=12, calls=2),)
    result = reconcile(layers, Reported(12, 200), Prediction(12, 200, terms), name="peer")
    assert () == result.causes


def test_remarks_are_causes_without_an_amount() -> None:
    """They tell of memory, and change no sum."""
    terms = (Term("conv", params=12), Term("block.fc", params=6))
    prediction = Prediction(18, None, terms, remarks=(Term("conv", code="forward_backward"),))
    result = reconcile(LAYERS, Reported(18, None, {"total": 1.0}), prediction, name="peer")
    assert (Cause("forward_backward", *CAUSES["forward_backward"], calls=1, layers=("conv",)),) == result.causes
    _close(result)


_CODES = st.sampled_from([None, *CAUSES])
_PATHS = st.sampled_from(["", "conv", "conv.inner", "block", "block.fc", "block.fc.0.x", "elsewhere"])
_AMOUNTS = st.integers(-(10**20), 10**20)


@given(
    terms=st.lists(st.builds(Term, layer=_PATHS, macs=_AMOUNTS, params=_AMOUNTS, code=_CODES), max_size=12),
    own=st.lists(st.tuples(_PATHS, _AMOUNTS, _AMOUNTS), max_size=5),
    fused=st.lists(_PATHS, max_size=2).map(tuple),
    reported=st.tuples(st.none() | _AMOUNTS, st.none() | _AMOUNTS),
)
def test_the_causes_and_the_unexplained_sum_to_the_difference_always(
    terms: list[Term], own: list[tuple[str, int, int]], fused: tuple[str, ...], reported: tuple[int | None, int | None]
) -> None:
    """Right or wrong, known or unknown: no unit is lost and none is made up."""
    params = None if reported[0] is None else sum(term.params for term in terms)
    macs = None if reported[1] is None else sum(term.macs for term in terms)
    layers = [row(name, params=p, macs=m) for name, p, m in own]
    _close(reconcile(layers, Reported(*reported), Prediction(params, macs, tuple(terms), fused=fused), name="peer"))


def test_a_path_belongs_to_the_innermost_layer_around_it() -> None:
    """The layer itself, or what it is part of; nothing where there is none."""
    layers = {"a": ..., "a.b": ...}
    assert ["a", "a.b", "a.b", "", ""] == [locate(path, layers) for path in ("a.c", "a.b", "a.b.c.d", "ab", "")]


def test_every_cause_has_a_verdict_and_a_sentence() -> None:
    """The sentence's subject is the counter: it starts with a verb and ends without a full stop."""
    for code, (verdict, text) in CAUSES.items():
        assert verdict in VERDICTS, code
        assert text[0].islower(), code
        assert not text.endswith("."), code
        assert text.split()[0] in ("is", "has") or text.split()[0].endswith("s") or verdict == "unexplained", code


def test_terms_that_do_not_sum_to_their_prediction_leave_a_cause_that_is_not_understood() -> None:
    """An adapter of another package may predict a figure and give no terms, or too few: the rest is seen, not lost."""
    terms = (Term("conv", macs=100, params=12), Term("block.fc", macs=50, params=6))
    result = reconcile(LAYERS, Reported(25, 153), Prediction(25, 153, terms), name="peer")
    assert Figures(params=25 - 18, macs=153 - 150) == result.difference
    assert Figures(params=0, macs=0) == result.unexplained
    assert [("unattributed", "unexplained", 7, 3, ())] == [
        (cause.code, cause.verdict, cause.params, cause.macs, cause.layers) for cause in result.causes
    ]
    _close(result)
