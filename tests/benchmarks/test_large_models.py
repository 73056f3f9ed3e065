"""A large model is counted in little more than it takes to make it on meta and to run it there by hand."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from limits import Limits
from processes import convstat, interleaved

HERE = Path(__file__).parent
MODELS = HERE.parent / "big_models.py"
BY_HAND = (sys.executable, str(HERE / "meta_by_hand.py"))
RATIO = 1.5
MIB = 2**20

LLAMA = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def llama():
    config = LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
        intermediate_size=14336, vocab_size=128256,
    )
    return LlamaForCausalLM(config), {"input_ids": torch.zeros(1, 128, dtype=torch.int64)}
"""


@pytest.mark.parametrize("name", ["llama_8b", "llama_70b"])
def test_a_large_model_costs_little_more_than_a_pass_by_hand(name: str, limits: Limits) -> None:
    """In plain torch; the memory is that of the process, the import of torch included."""
    costs = interleaved(
        {
            "by hand": (*BY_HAND, str(MODELS), name, "128"),
            "analyze": convstat("analyze", f"{MODELS}:{name}", "--input", "ids=1x128:int64", "--counters", "none"),
        },
        runs=5,
    )
    limits.at_most(f"analyze {name} / by hand on meta", costs["analyze"].seconds / costs["by hand"].seconds, RATIO)
    limits.at_most(f"peak memory for {name}", costs["analyze"].peak / MIB, 1024, " MiB")


def test_a_model_of_transformers_costs_little_more_than_a_pass_by_hand(limits: Limits, tmp_path: Path) -> None:
    """An 8 B Llama, from a plain function."""
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed: pip install transformers")
    file = tmp_path / "net.py"
    file.write_text(LLAMA)
    costs = interleaved(
        {
            "by hand": (*BY_HAND, str(file), "llama"),
            "analyze": convstat("analyze", f"{file}:llama", "--counters", "none"),
        },
        runs=5,
    )
    ratio = costs["analyze"].seconds / costs["by hand"].seconds
    limits.at_most("analyze a Llama of transformers / by hand on meta", ratio, RATIO)
