"""Models of transformers and diffusers from their configs, and what they are given."""

from __future__ import annotations

import json
import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed: pip install transformers", allow_module_level=True)

import huggingface_models
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import convstat
from convstat.cli.run import run
from convstat.errors import ConvstatError, SourceError, UsageError
from convstat.patches.operators import torchvision_compat
from convstat.targets import resolve
from convstat.targets.huggingface.running import chosen, failure

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "hf"
TOKENS = 24


def config(name: str) -> str:
    """The path of a config that comes with the repository."""
    return str(CONFIGS / f"{name}.json")


def counted(target: str, *inputs: str, **overrides: Any) -> convstat.Report:
    """Count a model from a config."""
    return convstat.analyze(target, list(inputs) if len(inputs) > 1 else "".join(inputs) or None, **overrides)


FAMILIES = (
    "llama", "mixtral", "deepseek_v3", "gemma2", "qwen3_moe", "mamba", "falcon", "bert", "t5", "bart", "vit", "clip",
    "whisper", "wav2vec2", "llava", "qwen2_vl", "jamba",
)  # fmt: skip
NO_SDPA = {"gemma2", "mamba"}
NO_CACHE = {"bert", "vit", "clip", "wav2vec2"}
SEE = {"llava", "qwen2_vl"}


@pytest.mark.parametrize("attention", huggingface_models.ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_costs_what_torch_counts_of_a_real_run(family: str, attention: str) -> None:
    """All tokens at once, three more after some, and with a picture where a model sees, in either attention."""
    target = config(f"{family}_tiny")
    if attention == "sdpa" and family in NO_SDPA:
        with pytest.raises(UsageError, match="has no sdpa attention"):
            huggingface_models.compared(target, attention, ())
        return
    ways = [() if family in ("vit", "clip", "wav2vec2") else (f"tokens {TOKENS}",)]
    if family not in NO_CACHE:
        ways.append(("decode 3@17", f"tokens {TOKENS}") if family in ("t5", "bart") else ("decode 3@17",))
    if family in SEE:
        ways.append(("tokens 80", "image 224x224"))
    for inputs in ways:
        own, real, _ = huggingface_models.compared(target, attention, inputs)
        assert own == real > 0, inputs


def test_every_config_that_comes_with_the_repository_is_tried() -> None:
    """The small ones beside real runs, and two of full size for their figures."""
    names = {path.stem.removesuffix("_tiny") for path in CONFIGS.iterdir()}
    assert {*FAMILIES, "gpt2", "llama_405b"} == names


def test_a_step_of_decoding_has_what_the_encoder_itself_gives(tmp_path: Path) -> None:
    """Moonshine's encoder gives a mask beside its states, which the decoder reads."""
    target = huggingface_models.written("moonshine", 0, tmp_path)
    own, real, _ = huggingface_models.compared(target, "eager", ("decode 3@9",))
    assert own == real > 0


def test_inputs_that_only_need_values_are_the_right_ones() -> None:
    """Where no way runs on fake tensors, the one that fails for want of values is taken, and not the first."""

    class Both(nn.Module):
        """Wants two inputs, and reads a value."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> float:
            if y is None:
                raise ValueError("it wants both")
            return (x * self.weight).sum().item()

    with FakeTensorMode():
        module, x = Both(), torch.ones(3)
        first, both = {"x": x}, {"x": x, "y": x}
        assert failure(module, both, None) is not None
        inputs, why = chosen(module, [first, both], None)
        assert (inputs is both, why) == (True, None)
        inputs, why = chosen(module, [first], None)
        assert inputs is first
        assert "it wants both" in str(why)


@pytest.mark.parametrize(("family", "more"), [("vit", ()), ("llava", ("tokens 300",))])
def test_a_picture_of_another_size_is_refused(family: str, more: tuple[str, ...]) -> None:
    """What is wrong is the size, and not what the last way of feeding the model ran into."""
    with pytest.raises(UsageError) as caught:
        counted(config(f"{family}_tiny"), *more, "image 64x48")
    assert "does not run on pictures of 64x48: its config is for 224x224" in str(caught.value)
    (help,) = caught.value.diagnostics[0].help
    assert help.startswith("--image 224x224")


def test_gpt2_has_the_figures_that_trainers_publish() -> None:
    """At 1,024 tokens, written out: the blocks' four products, both of attention, and the head."""
    report = counted(config("gpt2"), "tokens 1024")
    blocks = 1024 * 12 * 12 * 768 * 768
    attention = 12 * 2 * 1024 * 1024 * 768
    head = 1024 * 768 * 50257
    assert blocks + attention + head == report.totals.macs
    assert 291_648_307_200 == report.totals.flops
    # Embeddings of words and positions, two biased norms and four biased products a block, and a norm.
    params = (50257 + 1024) * 768 + 12 * (12 * 768 * 768 + (3 + 1 + 4 + 1) * 768 + 4 * 768) + 2 * 768
    assert params == report.totals.params == 124_439_808


def test_a_step_of_decoding_begins_with_a_cache_of_that_length() -> None:
    """Grouped queries: keys and values of two heads of 16 in each of two layers, four bytes each."""
    one, many = (counted(config("llama_tiny"), f"decode 1@{length}", num_key_value_heads=2) for length in (10, 30))
    assert one.model.cache is not None
    assert many.model.cache is not None
    assert ("DynamicCache", 10, 2 * 2 * 2 * 16 * 10 * 4) == (
        one.model.cache.kind, one.model.cache.tokens, one.model.cache.bytes,
    )  # fmt: skip
    # Of 20 tokens more, the one new token has 4 heads of 16 in both products of both layers.
    assert 2 * 2 * 20 * 4 * 16 == many.totals.macs - one.totals.macs
    assert ["input_ids"] == [item.name for item in many.model.inputs]
    assert "30 tokens before, 15,360 bytes (DynamicCache)" in many.to_text()


def test_a_sliding_window_ends_the_cache() -> None:
    """Every second layer of Gemma 2 keeps no more than the window, of which the next token is one."""
    short, long = (counted(config("gemma2_tiny"), f"decode 1@{length}").model.cache for length in (100, 200))
    assert short is not None
    assert long is not None
    fields = json.loads(Path(config("gemma2_tiny")).read_text())
    a_token = 2 * fields["num_key_value_heads"] * fields["head_dim"] * 4
    assert (100 * a_token, (100 + fields["sliding_window"] - 1) * a_token) == (long.bytes - short.bytes, short.bytes)


def test_the_passes_of_one_cache_do_not_add_to_it() -> None:
    """Each counter that runs the model finds the cache as long as it was."""
    report = convstat.analyze(
        config("llama_tiny"), "decode 2@8", counters="flopcountermode", attn_implementation="eager"
    )
    [row] = report.counters
    assert ("ok", report.totals.macs) == (row.status, row.reported.macs)


def test_experts_are_counted_for_the_tokens_that_are_there() -> None:
    """Two of four experts a token, and the router; what was made up is said."""
    report = counted(config("mixtral_tiny"), "tokens 8")
    rows = {row.name: row.macs for row in report.layers if ".mlp" in row.name}
    experts = 8 * 2 * 3 * 64 * 96
    assert 2 * (experts + 8 * 64 * 4) == sum(rows.values())
    assert any("made up" in note for note in report.model.notes)
    assert "complete" == report.status


@pytest.mark.parametrize(
    ("target", "inputs", "overrides", "said"),
    [
        ("transformers/lama", (), {}, "no model type 'lama'"),
        ("transformers/gpt2", ("tokens 2000",), {}, "more than the 1,024 positions"),
        ("transformers/bert", ("decode 1@8",), {"num_hidden_layers": 1}, "has no cache of keys and values"),
        (
            "transformers/vit",
            ("tokens 8",),
            {"num_hidden_layers": 1},
            "takes no --tokens: its forward takes pixel_values",
        ),
        ("transformers/llama", ("decode 1",), {}, "--decode takes new tokens and the length of the cache"),
        ("transformers/llama", ("prefill 1", "tokens 1"), {}, "--prefill cannot be combined with --tokens"),
        ("transformers/llama", (), {"hiden_size": 64}, "has no field 'hiden_size'"),
        ("transformers/llama", (), {"num_attention_heads": 7}, "is not a multiple of the number of attention heads"),
        ("transformers/llama", (), {"task": "image-classification"}, "has no task 'image-classification'"),
        ("transformers/llama", (), {"task": "casual-lm"}, "unknown task 'casual-lm'"),
        ("transformers/llama", (), {"attn_implementation": "flash"}, "unknown attention 'flash'"),
        ("transformers/llava", (), {"hidden_size": 64}, "has no field 'hidden_size'"),
        ("hf:org/name", (), {}, "no such file or folder: org/name"),
    ],
)
def test_what_cannot_be_is_an_error_in_one_message(
    target: str, inputs: tuple[str, ...], overrides: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 2, and shows no traceback."""
    options = [word for text in inputs for word in (f"--{text.split()[0]}", text.split()[1])]
    assert 2 == run(["analyze", target, *options, "--counters", "none", *(f"{k}={v}" for k, v in overrides.items())])
    err = capsys.readouterr().err
    assert said in err
    assert 1 == err.count("error:")
    assert "Traceback" not in err


FILES: dict[str, tuple[Any, str]] = {
    "not JSON": ('{"model_type": "llama", ', "config.json:1:25: error: not JSON"),
    "no type": (
        {"architectures": ["FooForCausalLM"]},
        "has no model_type, and transformers does not know FooForCausalLM",
    ),
    "another type": ({"model_type": "llamma"}, "has no model type 'llamma'"),
    "a wrong value": ({"model_type": "llama", "hidden_size": "x"}, "expected int, got str"),
    "code": (
        {"model_type": "x", "auto_map": {"AutoModel": "modeling_x.X"}},
        "is for code of its own (auto_map: modeling_x.X)",
    ),
}


@pytest.mark.parametrize("which", FILES)
def test_a_config_that_cannot_be_built_is_refused(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the place of what is wrong, or with what it should be; code that a config brings along is not run."""
    fields, said = FILES[which]
    (tmp_path / "config.json").write_text(fields if isinstance(fields, str) else json.dumps(fields))
    (tmp_path / "modeling_x.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    for target in ("config.json", "."):
        assert 2 == run(["analyze", target, "--counters", "none"])
        assert said in capsys.readouterr().err


def test_a_config_and_a_report_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    """Whatever they are called; the folder of a config is one too."""
    report = tmp_path / "config.json"
    report.write_text(convstat.analyze("Conv2d(3, 8, 3)", (3, 8, 8)).to_json())
    assert "report" == resolve(str(report)).kind
    (tmp_path / "net.json").write_text('{"model_type": "gpt2"}')
    assert "config" == resolve(str(tmp_path / "net.json")).kind
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    assert "config" == resolve(str(tmp_path / "folder")).kind
    assert "config" == resolve("hf:anything").kind
    assert "report" == resolve("not_there.json").kind


def test_overrides_are_fields_and_the_others_follow() -> None:
    """By their own names or by those that all types share, and inside of an inner config."""
    small = counted("transformers/gpt2", "tokens 8", hidden_size=48, num_hidden_layers=1, n_head=4, vocab_size=100)
    assert 8 * 12 * 48 * 48 + 2 * 8 * 8 * 48 + 8 * 48 * 100 == small.totals.macs
    llama = counted(
        "transformers/llama", "tokens 8", hidden_size=64, intermediate_size=96, num_hidden_layers=1, vocab_size=100,
        num_attention_heads=4, num_key_value_heads=4,
    )  # fmt: skip
    # Heads are 16 wide, as they follow from the rest.
    assert 8 * (4 * 64 * 64 + 3 * 64 * 96) + 2 * 8 * 8 * 64 + 8 * 64 * 100 == llama.totals.macs
    fewer, all_ = (
        counted(config("llava_tiny"), "tokens 8", **{"text_config.num_hidden_layers": layers}).totals.macs
        for layers in (1, 2)
    )
    assert 8 * (4 * 64 * 64 + 3 * 64 * 96) + 2 * 8 * 8 * 64 == all_ - fewer


def test_a_task_chooses_the_class() -> None:
    """That of a config without one is said, with the others."""
    base = counted(config("llama_tiny"), "tokens 8", task="base")
    assert "LlamaModel" == base.model.name
    head = counted(config("llama_tiny"), "tokens 8")
    assert 8 * 64 * 512 == head.totals.macs - base.totals.macs
    report = counted("transformers/gpt2", "tokens 8", num_hidden_layers=1)
    assert any("--task causal-lm; others: base, sequence-classification" in note for note in report.model.notes)


def test_a_prefill_asks_for_the_last_logits_alone() -> None:
    """The head is applied to one token, and the rest is as for all."""
    whole, prefill = (counted(config("llama_tiny"), f"{name} 32") for name in ("tokens", "prefill"))
    assert 31 * 64 * 512 == whole.totals.macs - prefill.totals.macs


def test_a_sweep_makes_the_model_once_for_all_of_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    """And counts at each point what a single command does."""
    from transformers import LlamaForCausalLM

    made: list[int] = []
    original = LlamaForCausalLM.__init__

    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(1)
        original(self, *args, **kwargs)

    target = config("llama_tiny")
    from convstat.commands.compare import compare

    LlamaForCausalLM.__init__ = counting
    try:
        tokens = compare([target], ["tokens=8..32*2"])
        decode = compare([target], ["decode=1@8,1@16"])
        assert 2 == len(made)
        compare([target], ["num_hidden_layers=1,2", "tokens=8,16"])
        assert 4 == len(made)
    finally:
        LlamaForCausalLM.__init__ = original
    for name, rows in (("tokens", tokens.rows), ("decode", decode.rows)):
        alone = [counted(target, f"{name} {row.values[name]}").totals.macs for row in rows]
        assert alone == [row.totals.macs for row in rows if row.totals]


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is opened: the hub's library is offline meanwhile, and the environment is left as it was."""
    torchvision_compat()
    from huggingface_hub import constants
    from transformers import GPT2LMHeadModel

    original, seen = GPT2LMHeadModel.__init__, []

    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append((os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE))
        original(self, *args, **kwargs)

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection is opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(GPT2LMHeadModel, "__init__", watched)
    before = dict(os.environ)
    counted("transformers/gpt2", "tokens 8", num_hidden_layers=1)
    assert {("1", True)} == set(seen)
    assert before == dict(os.environ)


def test_without_transformers_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever names a model of it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for target in ("transformers/llama", config("gpt2")):
        with pytest.raises(SourceError, match="needs transformers, which is not installed") as caught:
            counted(target)
        assert "pip install transformers" in str(caught.value)


def test_the_model_types_that_ship_are_those_that_are_known() -> None:
    """As `make zoo-names` writes them."""
    from convstat.targets.zoo import installed_names, names

    assert installed_names("transformers") == names("transformers")


def test_sizes_are_for_any_python_model(tmp_path: Path) -> None:
    """Tokens, a picture or a sound are the first argument; a model of transformers is fed as one from a config."""
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\nfrom transformers import GPT2Config, GPT2LMHeadModel\n"
        "def words():\n    return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 6))\n"
        "def sees():\n    return nn.Conv2d(3, 8, 3, bias=False)\n"
        "def gpt():\n    return GPT2LMHeadModel(GPT2Config(n_layer=1))\n"
    )
    place = f"{tmp_path}/nets.py"
    assert 2 * 5 * 4 * 6 == counted(f"{place}:words", "tokens 5", batch=2).totals.macs
    assert 6 * 8 * 8 * 27 == counted(f"{place}:sees", "image 8x10").totals.macs
    assert (
        counted("transformers/gpt2", "decode 1@9", n_layer=1).totals.macs
        == counted(f"{place}:gpt", "decode 1@9").totals.macs
    )
    for target, inputs in ((f"{place}:words", "decode 1@4"), ("Conv2d(3, 8, 3)", "tokens 8")):
        with pytest.raises(ConvstatError, match="takes no --"):
            counted(target, inputs)


def test_a_batch_is_one_of_each_input() -> None:
    """Twice the tokens, and twice the cache."""
    one, two = (counted(config("llama_tiny"), "decode 1@8", batch=batch) for batch in (1, 2))
    assert 2 * one.totals.macs == two.totals.macs
    assert one.model.cache is not None
    assert two.model.cache is not None
    assert 2 * one.model.cache.bytes == two.model.cache.bytes
