"""Models of transformers at a size at which they are run for real: configs that shrink, and what a real run counts."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

LARGEST = 400_000_000
"""Parameters of a model that is run for real."""

ATTENTIONS = ("eager", "sdpa")

LAYERS, HEADS, KEYS, HEAD, HIDDEN, INNER, VOCABULARY, EXPERTS = 2, 4, 2, 16, 64, 96, 512, 4

MOST_LAYERS = 8
"""Layers of a type that has several kinds of them."""

RULES: tuple[tuple[str, int], ...] = (
    (r"num_key_value_heads|num_kv_heads|n_kv_heads|num_attention_kv_heads|multi_query_group_num", KEYS),
    (r"(\w*_)?(num|n)_(\w*_)?heads?|\w*attention_heads|\w*num_heads|n_head", HEADS),
    (r"qk_rope_head_dim|rope_head_dim", HEAD // 2),
    (r"(\w*_)?head_dim|d_kv|kv_channels|attention_head_size|mamba_d_head|mamba_head_dim|kv_lora_rank|v_head_dim", HEAD),
    (r"q_lora_rank|index_head_dim", HEAD),
    (r"(\w*_)?(hidden_size|d_model|n_embd|embed_dim|hidden_dim|projection_dim|hidden_dims)|dim|n_embed", HIDDEN),
    (r"\w*intermediate_size\w*|(\w*_)?ffn_dim|d_ff|n_inner|mlp_dim|ffn_hidden_size|(\w*_)?ffn_hidden_size", INNER),
    (r"vocab_size", VOCABULARY),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts", EXPERTS),
    (r"(moe_)?num_experts_per_tok(en)?|moe_topk|moe_k", 2),
    (r"n_group", 2),
    (r"topk_group|first_k_dense_replace", 1),
)
"""Fields of a config, by their names, and what each is at most."""

FEWER = r"(\w*_)?(num|n)_(\w*_)?(layers?|blocks)|\w*_layers|depth|n_layer|num_layers"


def types() -> tuple[str, ...]:
    """The model types that have a model for language, pictures, sound or several of them."""
    from convstat.targets.huggingface.tasks import types as known

    return known()


def shrunk(model_type: str, level: int) -> dict[str, Any]:
    """A config of a type, smaller than its default: 0 in all its sizes, 1 in its layers and its words, 2 in nothing."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = {"model_type": model_type}
    if level < 2:
        found.update(_smaller(CONFIG_MAPPING[model_type](), level, set()))
    return found


def _smaller(config: Any, level: int, taken: set[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name.startswith("_"):
            continue
        if hasattr(value, "to_diff_dict"):
            found[name] = {"model_type": value.model_type, **_smaller(value, level, taken)}
        elif type(value) is int and (small := _small(name, value, level, taken)) is not None:
            found[name] = small
        elif value is None and name in ("vocab_size", "pad_token_id"):
            found[name] = {"vocab_size": VOCABULARY, "pad_token_id": 1}[name]
        elif name == "rope_parameters" and isinstance(value, dict) and level == 0 and _turns_in_parts(config):
            found[name] = {**value, "mrope_section": [2, 3, 3]}
        elif name in ("depths",) and isinstance(value, (list, tuple)):
            found[name] = [1] * len(value)
    if "qk_rope_head_dim" in found and "head_dim" in found:
        # What it calls its heads are the parts of them that are turned.
        found["head_dim"] = found["qk_rope_head_dim"]
    kinds = getattr(config, "layer_types", None)
    if kinds and "num_hidden_layers" in found:
        # So many that each kind of layer is among them.
        first = max(list(kinds).index(kind) for kind in set(kinds)) + 1
        found["num_hidden_layers"] = max(found["num_hidden_layers"], min(first, MOST_LAYERS))
    heads = found.get("num_attention_heads")
    if heads and getattr(config, "num_key_value_heads", None) == getattr(config, "num_attention_heads", 0):
        found["num_key_value_heads"] = heads
    return found


def _turns_in_parts(config: Any) -> bool:
    """Whether heads are turned by three positions, each in its part of them: with smaller heads, in smaller parts."""
    return "mrope_section" in (config.rope_parameters or {}) or "vl" in config.model_type.split("_")


def _small(name: str, value: int, level: int, taken: set[int]) -> int | None:
    if name in ("qk_head_dim", "num_feat_extract_layers"):
        # They follow from other fields, which are sums or lists.
        return None
    if re.fullmatch(FEWER, name):
        return min(value, LAYERS)
    if re.fullmatch(r"\w*_token_(id|index)|pad_idx|\w*_token_ids?", name):
        if value < VOCABULARY:
            return None
        new = next(n for n in range(VOCABULARY - 1, 0, -1) if n not in taken)
        taken.add(new)
        return new
    for pattern, most in RULES if level == 0 else RULES[7:]:
        if re.fullmatch(pattern, name) and value > 0:
            return min(value, most)
    return None


def written(model_type: str, level: int, folder: Path) -> str:
    """A file with the config."""
    path = folder / f"{model_type}_{level}.json"
    path.write_text(json.dumps(shrunk(model_type, level)))
    return str(path)


def really(recipe: Any, example_of: Any) -> int:
    """The MACs of a real run on the CPU, as torch's own counter sees them."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from convstat.trace.run import make

    torch.manual_seed(0)
    module, example = make(recipe, example_of, "cpu")
    # The counter's own table of modules stumbles over gradients that nobody asked for.
    module.requires_grad_(False)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mv: _by_vector})
    # Kernels that torch's counter has no rule for are left aside for those that compute the same step by step.
    recurs = any(isinstance(part, torch.nn.RNNBase) for part in module.modules())
    plain = torch.backends.mkldnn.flags(enabled=False) if recurs else nullcontext()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), plain, counter:
        module.eval()(*example.args, **example.kwargs)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


def _by_vector(matrix: Any, vector: Any, *_: Any, **__: Any) -> int:
    """The FLOPs of a matrix and a vector, for which torch's counter has no rule."""
    return 2 * matrix[0] * matrix[1]


def compared(path: str, attention: str, inputs: tuple[str, ...]) -> tuple[int, int, bool]:
    """What convstat counts, and what torch's counter counts of a real run, with experts that run one by one.

    And whether convstat says that its count is an upper bound, because it rests on what values decide.

    What goes in is the same; where the real run fails, the error is transformers' own, and is raised as it is.
    """
    from convstat.targets import modules, resolve
    from convstat.targets.request import Request

    overrides = {"attn_implementation": attention}
    request = Request(resolve(path), overrides, inputs)
    subject = modules.prepare(modules.recipe_of(request.target, overrides), request)
    recipe = modules.recipe_of(request.target, {**overrides, "experts_implementation": "eager"})
    report = subject.report
    return report.totals.macs, really(recipe, subject.stages.example_of), report.status == "upper_bound"


def buildable(model_type: str, folder: Path) -> tuple[str, list[str]]:
    """A config of a type with which it runs for real, small enough for that; else an empty path.

    Gives what went wrong with each config that was tried, too.
    """
    import torch

    from convstat.grammar.sizes import Sizes
    from convstat.targets import modules, named, resolve

    reasons: list[str] = []
    for level in range(3):
        path = written(model_type, level, folder)
        try:
            recipe = modules.recipe_of(resolve(path), {"experts_implementation": "eager"})
            with torch.device("meta"):
                parameters = sum(p.numel() for p in recipe.make()[0].parameters())
            if parameters > LARGEST:
                reasons.append(f"{parameters:,} parameters")
                continue
            really(recipe, lambda module, _, path=path: named.example(path, module, Sizes(), 1))
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else repr(error))
        else:
            return path, reasons
    return "", reasons
