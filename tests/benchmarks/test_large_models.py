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


CONFIG = HERE.parent.parent / "configs" / "hf" / "llama_405b.json"
# transformers imports torchvision where there is one, whose compiled part need not fit.
COMPATIBLE = "from convstat.patches.operators import torchvision_compat; torchvision_compat()"
LEAST = f"{COMPATIBLE}; import torch; from transformers import LlamaForCausalLM"


@pytest.mark.parametrize("inputs", [("--tokens", "4096"), ("--decode", "1@8192")], ids=["tokens", "decode"])
def test_a_llama_of_405_billion_parameters_takes_seconds(inputs: tuple[str, str], limits: Limits) -> None:
    """From its config alone, beyond what it takes to import the library."""
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed: pip install transformers")
    costs = interleaved(
        {
            "import": (sys.executable, "-c", LEAST),
            "analyze": convstat("analyze", str(CONFIG), *inputs, "--counters", "none"),
        },
        runs=3,
    )
    found, least = costs["analyze"], costs["import"]
    limits.at_most(f"analyze Llama 405B {' '.join(inputs)}", found.seconds - least.seconds, 20, " s")
    limits.at_most(f"memory for Llama 405B {' '.join(inputs)}", (found.peak - least.peak) / MIB, 1536, " MiB")


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
    file.write_text(f"{COMPATIBLE}\n{LLAMA}")
    costs = interleaved(
        {
            "by hand": (*BY_HAND, str(file), "llama"),
            "analyze": convstat("analyze", f"{file}:llama", "--counters", "none"),
        },
        runs=5,
    )
    ratio = costs["analyze"].seconds / costs["by hand"].seconds
    limits.at_most("analyze a Llama of transformers / by hand on meta", ratio, RATIO)
