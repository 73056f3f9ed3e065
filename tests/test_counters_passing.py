"""The call that each peer makes, by position, by name or both, as its user would write it; it is what is foreseen.

Each peer is run by hand here too, through its own API.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import counted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from live import NAMES, PEERS, ask, installed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convstat.counters import COUNTERS
from convstat.counters.base import CounterFailure, Prediction, Reported
from convstat.counters.deepspeed.load import calflops, deepspeed
from convstat.counters.inputs import Inputs
from convstat.counters.measure import Asking, measure_on, predict
from convstat.counters.stages import Stages
from convstat.patches.isolation import isolated
from convstat.patches.operators import torchvision_compat
from convstat.results.report import CounterRow, Report
from convstat.trace import Trace
from convstat.trace.recipe import Example, Recipe
from convstat.trace.record import record

IDS, TARGETS = torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long)
WIDTH, WORDS, EXPERTS = 8, 11, 4


class Attention(nn.Module):
    """Attention of one head, with matmul."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.kv = nn.Linear(WIDTH, 2 * WIDTH, bias=False)

    def forward(self, hidden: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        key, value = self.kv(hidden if memory is None else memory).chunk(2, -1)
        weights = torch.matmul(self.q(hidden), key.transpose(-1, -2)).softmax(-1)
        return torch.matmul(weights, value)


class Translator(nn.Module):
    """An encoder and a decoder as T5 has them: every argument has a default, and the third is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.encoder, self.decoder, self.cross = Attention(), Attention(), Attention()
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        memory = self.encoder(self.words(input_ids))
        return self.head(self.cross(self.decoder(self.words(decoder_input_ids)), memory=memory))  # type: ignore[no-any-return]


ENCODER = 5 * 8 * 8 + 5 * 8 * 16 + 5 * 8 * 5 + 5 * 5 * 8
DECODER = 3 * 8 * 8 + 3 * 8 * 16 + 3 * 8 * 3 + 3 * 3 * 8
CROSS = 3 * 8 * 8 + 5 * 8 * 16 + 3 * 8 * 5 + 3 * 5 * 8
TRANSLATOR = ENCODER + DECODER + CROSS + 3 * 8 * 11


def _with_option(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Set an option by name, as decorators of transformers do."""

    @wraps(forward)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        kwargs["use_cache"] = kwargs.get("use_cache")
        return forward(self, *args, **kwargs)

    return wrapped


class Mixture(nn.Module):
    """Words, attention, and experts that are all asked, as Mixtral has them; an option can only be given by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.attention = Attention()
        self.gate = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(EXPERTS))

    @_with_option
    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, use_cache: bool | None = None
    ) -> torch.Tensor:
        hidden = self.attention(hidden=self.words(input_ids))
        shares = self.gate(hidden).softmax(-1)
        return sum(shares[..., place, None] * expert(hidden) for place, expert in enumerate(self.experts))  # type: ignore[return-value]


MIXTURE = 5 * 8 * 8 + 5 * 8 * 16 + 5 * 8 * 5 + 5 * 5 * 8 + 5 * 8 * 4 + 4 * (5 * 8 * 8)

CALLS: dict[str, tuple[type[nn.Module], dict[str, Any], int]] = {
    "translator": (Translator, {"input_ids": IDS, "decoder_input_ids": TARGETS}, TRANSLATOR),
    "mixture": (Mixture, {"input_ids": IDS}, MIXTURE),
    "mixture with an option": (Mixture, {"input_ids": IDS, "use_cache": False}, MIXTURE),
}


def _ptflops(backend: str) -> Callable[..., tuple[Any, Any]]:
    def by_hand(model: nn.Module, **kwargs: Any) -> tuple[Any, Any]:
        torchvision_compat()
        from ptflops import get_model_complexity_info  # type: ignore[import-untyped]

        macs, params = get_model_complexity_info(
            model,
            (1,),
            print_per_layer_stat=False,
            as_strings=False,
            input_constructor=lambda _: kwargs,
            backend=backend,
        )
        return params, macs

    return by_hand


def _torchinfo(model: nn.Module, **kwargs: Any) -> tuple[Any, Any]:
    import torchinfo

    data = {name: value for name, value in kwargs.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in kwargs.items() if name not in data}
    statistics = torchinfo.summary(model, input_data=data, verbose=0, **others)
    return statistics.total_params, statistics.total_mult_adds


def _calflops(model: nn.Module, **kwargs: Any) -> tuple[Any, Any]:
    counter, _, _ = calflops()
    _, macs, params = counter.calculate_flops(model, kwargs=kwargs, print_results=False, output_as_string=False)
    return params, macs


def _deepspeed(model: nn.Module, **kwargs: Any) -> tuple[Any, Any]:
    _, macs, params = deepspeed().get_model_profile(model, kwargs=kwargs, print_profile=False, as_string=False)
    return params, macs


def _torchscan(model: nn.Module, **kwargs: Any) -> tuple[Any, Any]:
    from torchscan import crawl_module

    totals: Any = crawl_module(model, args=(), kwargs=kwargs)["totals"]
    return totals["parameters"]["value"], totals["macs"]["known_value"]


def _flop_counter(model: nn.Module, **kwargs: Any) -> tuple[Any, Any]:
    with FlopCounterMode(display=False) as counting:
        model(**kwargs)
    return None, counting.get_total_flops() // 2


BY_HAND: dict[str, Callable[..., tuple[Any, Any]]] = {
    "ptflops": _ptflops("pytorch"),
    "ptflops-aten": _ptflops("aten"),
    "torchinfo": _torchinfo,
    "calflops": _calflops,
    "deepspeed": _deepspeed,
    "torchscan": _torchscan,
    "flopcountermode": _flop_counter,
}
"""What a user of each peer that takes names would write; gives parameters and MACs."""


def _rows(make: Callable[[], nn.Module], counters: str, *inputs: str, **options: Any) -> dict[str, CounterRow]:
    report = _report(make, counters, *inputs, **options)
    return {row.name: row for row in report.counters}


def _report(
    make: Callable[[], nn.Module], counters: str, *inputs: str, example: Example | None = None, **options: Any
) -> Report:
    recipe = Recipe("net", "net.py:net", "module", lambda: (make(), example))
    return counted.traced(recipe, inputs=inputs, counters=counters, **options)


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("call", CALLS)
def test_a_peer_that_takes_names_answers_as_it_does_by_hand(call: str, name: str, device: str) -> None:
    """To the unit, and everything in the difference to convstat has a cause."""
    make, kwargs, macs = CALLS[call]
    report = _report(make, installed(name), example=Example((), kwargs), device=device)
    assert macs == report.totals.macs
    (row,) = report.counters
    model = make().eval()
    # An error leaves torch's functions as some tools have changed them.
    with isolated(model):
        if (name, call) == ("calflops", "mixture with an option"):
            # It moves whatever goes in by name to its device.
            with pytest.raises(AttributeError, match="'bool' object has no attribute 'to'"):
                BY_HAND[name](model, **kwargs)
            assert ("failed", True) == (row.status, row.is_foreseen)
            return
        expected = BY_HAND[name](model, **kwargs)
    assert "ok" == row.status, row.error
    assert row.reported is not None
    assert row.unexplained is not None
    assert expected == (row.reported.params, row.reported.macs)
    assert (0, 0) == (row.unexplained.params or 0, row.unexplained.macs or 0)
    assert "unattributed" not in [cause.code for cause in row.causes]


def test_a_peer_that_knows_no_names_gets_the_places_of_forward() -> None:
    """With the defaults of what stands between, as its user has to write them."""
    from thop import profile

    installed("ultralytics-thop")
    model = Translator().eval()
    macs, params = profile(model, inputs=(IDS, None, TARGETS), verbose=False)
    answer = ask(model, only=("ultralytics-thop",), **CALLS["translator"][1])["ultralytics-thop"]
    assert answer.reported is not None
    assert (params, macs) == (answer.reported.params, answer.reported.macs)
    answer.check("the translator")


@pytest.mark.parametrize("name", ["ultralytics-thop", "fvcore", "torchprofile", "torchsummary", "torchstat"])
def test_an_option_that_has_no_place_is_foreseen(name: str) -> None:
    """A decorated forward says that it takes it by position, and does not."""
    answer = ask(Mixture(), only=(installed(name),), input_ids=IDS, use_cache=False)[name]
    assert answer.failure
    assert answer.prediction.failure
    if name in ("ultralytics-thop", "fvcore", "torchprofile"):
        assert "multiple values for" in answer.failure
        assert "multiple values for" in answer.prediction.failure


def test_a_batch_that_goes_in_by_name_is_not_divided_by() -> None:
    """ptflops divides by the first size of what goes in by position, and by nothing else."""
    each = 8 * 2 + 2

    class Net(nn.Module):
        """A linear layer."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)  # type: ignore[no-any-return]

    for text, macs in (("x=8", 3 * each), ("8", each)):
        row = _rows(Net, "ptflops", text, batch=3)["ptflops"]
        assert row.reported is not None
        assert row.unexplained is not None
        assert (macs, 0) == (row.reported.macs, row.unexplained.macs)


class TakesADict(nn.Module):
    """Its one argument is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3, bias=False)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layer(batch["x"])  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["ptflops", "ptflops-aten"])
def test_a_dict_that_is_an_argument_is_not_taken_for_the_arguments(name: str) -> None:
    """ptflops would spread it; so it goes in by the name of its parameter."""
    answer = ask(TakesADict(), {"x": torch.rand(2, 4)}, only=(installed(name),))[name]  # type: ignore[arg-type]
    assert answer.reported is not None
    assert 2 * 4 * 3 == answer.reported.macs
    answer.check("a dict")


class Unnamed(nn.Module):
    """Takes any number of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return sum(map(self.layer, inputs))  # type: ignore[return-value]


def test_what_cannot_be_passed_is_foreseen() -> None:
    """Several arguments without names, and a layer of torch's whose rule wants them by position."""
    x = torch.rand(2, 4)
    answers = ask(Unnamed(), x, x)
    assert "positional-only" in str(answers["ptflops"].failure)
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    answers |= {f"attention: {name}": answer for name, answer in ask(attention, *[torch.rand(2, 3, 4)] * 3).items()}
    assert answers["attention: ptflops"].failure
    for name, answer in answers.items():
        answer.check(name)


class Mode(nn.Module):
    """Has an argument that is called as an option of torchinfo is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, mode: Any = None, depth: int = 1) -> torch.Tensor:
        for _ in range(depth):
            x = self.layer(x)
        return x


def test_an_argument_is_not_taken_for_an_option_of_torchinfo() -> None:
    """Beside such a one, everything goes in by name; what has no size to add up is foreseen."""
    name, x = installed("torchinfo"), torch.rand(2, 4)
    for args, kwargs, times in (
        ((x,), {"depth": 3}, 3),
        ((), {"x": x, "depth": 2}, 2),
        ((x, None), {"depth": 2}, None),
    ):
        answer = ask(Mode(), *args, only=(name,), **kwargs)[name]
        answer.check(f"{kwargs}")
        if times:
            assert answer.reported is not None
            assert times * 2 * (4 * 4 + 4) == answer.reported.macs
    for mode in ("sum", None):
        answer = ask(Mode(), x, only=(name,), mode=mode)[name]
        assert answer.failure
        answer.check(f"mode={mode}")


class Three(nn.Module):
    """Takes three tensors, two of which may be left out, and an option."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 4)

    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor | None = None,
        z: torch.Tensor | None = None,
        *,
        doubled: bool = False,
        w: torch.Tensor | None = None,
    ) -> torch.Tensor:
        x = self.a(x)
        for layer, other in ((self.b, y), (self.c, z), (self.c, w)):
            x = x if other is None else x + layer(other).sum(0)
        return self.a(x) if doubled else x


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_however_a_call_is_written_every_peer_is_foreseen(data: st.DataObject) -> None:
    """Any arguments are left out, and any of the last by name: answers and failures are those that are predicted."""
    batch = data.draw(st.integers(1, 3))
    taken = [name for name in ("x", "y", "z") if name == "x" or data.draw(st.booleans())]
    named = data.draw(st.integers(0, len(taken)))
    # What follows an argument that is left out can only be named.
    first = next((place for place, name in enumerate(taken) if "xyz"[place] != name), len(taken))
    first = min(first, len(taken) - named)
    args = tuple(torch.rand(batch, 4) for _ in taken[:first])
    kwargs: dict[str, Any] = {name: torch.rand(batch, 4) for name in taken[first:]}
    if data.draw(st.booleans()):
        kwargs["doubled"] = data.draw(st.booleans())
    if data.draw(st.booleans()):
        kwargs["w"] = torch.rand(batch, 4)
    names = tuple(name for name in (*NAMES, *PEERS) if COUNTERS[name].version() is not None)
    for name, answer in ask(Three(), *args, only=names, **kwargs).items():
        answer.check(f"{name}: {len(args)} by position, {', '.join(kwargs)} by name")


class FailsOnMeta:
    """Counts the elements of parameters, and refuses what has no values; ``foresees`` says that it knows."""

    name, variant, unit, help, counts, defects = "fails-on-meta", "default", "none", "", "", ()

    def __init__(self, *, foresees: bool = False, everywhere: bool = False) -> None:
        self.foresees = foresees
        self.everywhere = everywhere
        self.asked: list[str] = []

    def version(self) -> str:
        return "1"

    def run(self, model: nn.Module, inputs: tuple[Any, ...]) -> Reported:
        device = next(model.parameters()).device.type
        self.asked.append(device)
        if device == "meta" or self.everywhere:
            raise CounterFailure(f"RuntimeError: it needs values, on {device}")
        return Reported(params=sum(p.numel() for p in model.parameters()))

    def predict(self, trace: Trace) -> Prediction:
        return (
            Prediction(None, None, failure="RuntimeError: it needs values") if self.foresees else Prediction(None, None)
        )

    def why_not_meta(self, trace: Trace) -> str | None:
        return None

    def retrace(self, model: nn.Module, inputs: tuple[Any, ...], trace: Trace) -> Trace:
        return trace


@pytest.mark.parametrize(
    ("counter", "device", "asked", "status"),
    [
        (FailsOnMeta(), "auto", ["meta", "cpu"], "ok"),
        (FailsOnMeta(), "meta", ["meta"], "failed"),
        (FailsOnMeta(), "cpu", ["cpu"], "ok"),
        (FailsOnMeta(foresees=True), "auto", ["meta"], "failed"),
        (FailsOnMeta(everywhere=True), "auto", ["meta", "cpu"], "failed"),
    ],
)
def test_what_only_fails_on_meta_is_asked_again_on_the_cpu(
    counter: FailsOnMeta, device: str, asked: list[str], status: str
) -> None:
    """Unless that is known to be its answer, or a device is asked for."""
    recipe = Recipe("net", "net.py:net", "module", lambda: (nn.Linear(4, 4), None))
    subject = counted.made(recipe, inputs=("4",))
    stages: Stages = subject.stages
    (row,) = measure_on(stages, subject.report, (counter,), Asking(device, in_process=True))
    assert (asked, status, asked[-1]) == (counter.asked, row.status, row.device)
    if status == "ok":
        assert row.reported is not None
        assert 4 * 4 + 4 == row.reported.params
    else:
        assert f"on {asked[-1]}" in str(row.error)


def test_a_layer_that_is_called_by_name_is_called_so() -> None:
    """ptflops' rule for it then finds no input, which it does where that goes in by position."""
    x = torch.rand(3, 8)
    model = nn.Linear(8, 2)
    trace = record(model, (), {"input": x})
    foreseen = predict(COUNTERS["ptflops"], model, Inputs.of((), {"input": x}), trace)
    assert foreseen.failure is not None
    assert predict(COUNTERS["ptflops"], model, (x,), record(model, (x,))).failure is None
