"""The figures of tokens for models of transformers, against real runs of them on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import convstat
from convstat.patches.operators import torchvision_compat
from convstat.results.language import Language

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed: pip install transformers", allow_module_level=True)

os.environ["HF_HUB_OFFLINE"] = "1"
# transformers imports torchvision where there is one, whose compiled part need not fit.
torchvision_compat()

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "head_dim": 16, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
}  # fmt: skip
LATENT: dict[str, Any] = {
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 128, "bos_token_id": 1},
    "mistral": {**SIZES, "sliding_window": 8},
    "gemma2": {**SIZES, "sliding_window": 8},
    "mixtral": {**SIZES, **EXPERTS},
    "qwen3_moe": {**SIZES, **EXPERTS},
    "gpt_oss": {**SIZES, **EXPERTS, "sliding_window": 8},
    "granitemoe": {**SIZES, **EXPERTS},
    "deepseek_v3": {**SIZES, **EXPERTS, **LATENT},
    "phimoe": {**SIZES, **EXPERTS},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 128, "state_size": 8},
}
"""Small models: grouped queries, windows, sinks, latent attention, experts of several kinds, states."""


ONLY_EAGER = ("gemma2",)
"""Families that transformers has no fused attention for: their scores are capped."""


def made(family: str, attention: str = "eager", *, loops: bool = False) -> nn.Module:
    """A model of a family, with the same weights each time; with ``loops``, experts run one after the other."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    if family != "mamba":
        config._attn_implementation = attention
    if loops:
        config._experts_implementation = "eager"
    return AutoModelForCausalLM.from_config(config)


def ids(length: int) -> torch.Tensor:
    """Tokens."""
    return torch.arange(length).unsqueeze(0) % 100 + 3


def figures(family: str, length: int, attention: str = "eager", *, loops: bool = False, **options: Any) -> Language:
    """What is said of a family."""
    found = convstat.analyze(
        lambda: made(family, attention, loops=loops), {"input_ids": ids(length)}, **options
    ).language
    assert found is not None
    return found


def held(value: Any, seen: set[int]) -> int:
    """The bytes of all tensors in a cache, by any path."""
    if isinstance(value, torch.Tensor):
        is_new = value.dim() > 1 and id(value) not in seen
        seen.add(id(value))
        return value.nbytes if is_new else 0
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device)):
        return 0
    if isinstance(value, dict):
        return sum(held(item, seen) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(held(item, seen) for item in value)
    return held(getattr(value, "__dict__", {}), seen)


def cache_of(output: Any) -> Any:
    """What a model gives back as its cache, whatever the release calls it."""
    return next(value for value in output.values() if "Cache" in type(value).__name__)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_is_what_a_real_run_holds(family: str) -> None:
    """The bytes of its tensors after a pass, and what one more token adds to them."""
    if not hasattr(made(family), "generate"):
        pytest.skip("it has no cache")
    sizes = []
    for length in (24, 25):
        with torch.no_grad():
            output = made(family).eval()(input_ids=ids(length), use_cache=True)
        sizes.append(held(cache_of(output), set()))
    found = figures(family, 24).cache
    assert found is not None
    assert found.bytes == sizes[0]
    assert found.bytes_per_token == sizes[1] - sizes[0]


@pytest.mark.parametrize("family", [family for family, sizes in FAMILIES.items() if "num_experts" in sizes])
def test_active_params_are_what_a_token_touches(family: str) -> None:
    """Experts without a gradient after a real run of one token are those that are not active."""
    found = figures(family, 12)
    (routing,) = found.routing
    assert (routing.experts, routing.chosen) == (8, 2)
    model = made(family).train(False)
    model(input_ids=ids(1), use_cache=False).logits.square().sum().backward()
    idle = 0
    for name, parameter in model.named_parameters():
        is_sliced = parameter.shape[0] == 8 and (parameter.dim() > 2 or "bias" in name)
        if ".experts" in name and is_sliced:
            assert parameter.grad is not None
            idle += sum(part.numel() for part in parameter.grad if not part.any())
        elif ".experts" in name:
            idle += 0 if parameter.grad is not None and parameter.grad.any() else parameter.numel()
    assert found.params - found.active_params == idle


class Softmaxes(TorchDispatchMode):
    """Notes of what goes into each softmax over keys how much of it is not set to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._softmax.default and args[0].dim() == 4:
            self.kept += int((result > 0).sum())
        return result


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "deepseek_v3", "mixtral"])
def test_causal_products_are_those_with_a_weight(family: str) -> None:
    """On a real run, the pairs whose weight is not zero after the softmax."""
    model = made(family).eval()
    with torch.no_grad(), Softmaxes() as softmaxes:
        model(input_ids=ids(20), use_cache=False)
    found = figures(family, 20).attention
    assert found is not None
    assert found.known_from == "mask"
    # All pairs of all layers and heads, and what of them is kept.
    pairs = 2 * 4 * 20 * 20
    assert found.causal_macs * pairs == found.macs * softmaxes.kept
    if family not in ONLY_EAGER:
        fused = figures(family, 20, "sdpa").attention
        assert fused is not None
        assert (fused.macs, fused.causal_macs) == (found.macs, found.causal_macs)


@contextmanager
def products_alone() -> Iterator[None]:
    """Let fused attention be taken apart, as on meta."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "gemma2", "deepseek_v3"])
def test_training_is_what_torch_counts(family: str, attention: str) -> None:
    """Forward and backward of a real run, as FlopCounterMode counts them."""
    if attention == "sdpa" and family in ONLY_EAGER:
        pytest.skip("transformers has no such attention for it")
    model = made(family, attention, loops=True).train()
    with products_alone(), FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids(16), use_cache=False).logits
        forward = counter.get_total_flops()
        logits.sum().backward()
    # FlopCounterMode has no rule for the grouped products of experts.
    found = figures(family, 16, attention, loops=True, language=True)
    assert found.training is not None
    assert (2 * found.macs, 2 * found.training.forward_macs) == (forward, forward)
    assert found.training.flops == counter.get_total_flops()


def test_peft_trains_what_torch_counts() -> None:
    """Adapters of peft on a frozen base: the backward pass of a real run, and the states of an optimizer."""
    peft = pytest.importorskip("peft")

    def adapted() -> Any:
        targets = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        return peft.get_peft_model(made("llama", "eager"), targets)

    model = adapted().train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids(16), use_cache=False).logits.sum().backward()
    report = convstat.analyze(adapted, {"input_ids": ids(16)}, language=True)
    assert report.language is not None
    assert report.language.training is not None
    assert report.language.training.flops == counter.get_total_flops()
    assert report.language.training.backward_macs < report.language.macs
    # Both projections of both layers: rank 4 from 64 to 64, and from 64 to 2 x 16.
    trained = 2 * (4 * (64 + 64) + 4 * (64 + 2 * 16))
    assert report.totals.trainable_params == trained
    found = convstat.memory(adapted, {"input_ids": ids(16)}, optimizer="adamw")
    assert found.kinds["optimizer"] == 2 * 4 * trained
