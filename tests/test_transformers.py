"""Models of transformers, where it is installed: large ones as people write them, and every family at its own size."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from convstat.patches.operators import torchvision_compat

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed: pip install transformers", allow_module_level=True)

os.environ["HF_HUB_OFFLINE"] = "1"

# transformers imports torchvision where there is one, whose compiled part need not fit.
COMPATIBLE = "from convstat.patches.operators import torchvision_compat; torchvision_compat()"
torchvision_compat()

GIB = 2**30
SIZES = {"8b": (4096, 32, 32, 8, 14336), "70b": (8192, 80, 64, 8, 28672)}
VOCABULARY, LENGTH = 128256, 128

FUNCTIONS = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def _made(cls, dim, layers, heads, kv_heads, hidden):
    config = LlamaConfig(
        hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=hidden, vocab_size=128256,
    )
    return cls(config), {"input_ids": torch.zeros(1, 128, dtype=torch.int64)}


class Reads(LlamaForCausalLM):
    def forward(self, **inputs):
        logits = super().forward(**inputs).logits
        return logits * 2 if logits.sum().item() > 0 else logits
"""

PEAK = """
import sys
from convstat.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), file=sys.stderr)
"""


def peak_of(code: str, *arguments: str) -> tuple[str, int]:
    """What a process prints, and its peak memory, which it prints last to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.split()[-1])


@pytest.mark.verify
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("cls", ["LlamaForCausalLM", "Reads"])
@pytest.mark.parametrize("size", SIZES)
def test_a_llama_is_counted_within_a_gibibyte(size: str, cls: str, tmp_path: Path) -> None:
    """Above what the imports take; made by a plain function, whether its forward pass reads values or not."""
    file = tmp_path / "net.py"
    file.write_text(f"{FUNCTIONS}\n\ndef llama():\n    return _made({cls}, *{SIZES[size]})\n")
    imports = (
        f"import sys, torch; {COMPATIBLE}; from transformers import LlamaForCausalLM\n" + PEAK[PEAK.index("lines") :]
    )
    _, least = peak_of(imports)
    out, peak = peak_of(PEAK, "analyze", f"{file}:llama", "--counters", "none", "-f", "json", "-q")
    totals = json.loads(out)["totals"]
    dim, layers, heads, kv_heads, hidden = SIZES[size]
    products = 2 * dim * dim + 2 * dim * (kv_heads * dim // heads) + 3 * dim * hidden
    assert 2 * VOCABULARY * dim + layers * (products + 2 * dim) + dim == totals["params"]
    attention = 2 * LENGTH * LENGTH * dim
    assert layers * (LENGTH * products + attention) + LENGTH * dim * VOCABULARY == totals["macs"]
    assert peak - least < GIB


def by_hand(family: str) -> tuple[dict[str, Any] | None, bool]:
    """Inputs that a forward pass on meta takes by hand, and whether it ran or read a value; None if nothing did."""
    import torch
    import transformers_families

    from convstat.trace.failures import VALUES_ARE_READ

    with torch.device("meta"):
        model = transformers_families.make(family).eval()
    for inputs in transformers_families.inputs_of(model):
        try:
            model(**{name: value.to("meta") for name, value in inputs.items()})
        except Exception as error:
            if VALUES_ARE_READ.search(str(error)) or "_grouped_mm" in str(error) or "BF16" in str(error):
                return inputs, False
        else:
            return inputs, True
    return None, False


def count_family(family: str, answer: Any) -> None:
    """Count a family in a process of its own, and send how it went and how much memory it took."""
    import resource

    import transformers_families

    import convstat

    resource.setrlimit(resource.RLIMIT_DATA, (12 * GIB, 12 * GIB))
    try:
        inputs, runs = by_hand(family)
    except Exception as error:
        answer.send(("unmade", f"{type(error).__name__}: {error}", 0, 0))
        return
    if inputs is None:
        answer.send(("unknown inputs", "", 0, 0))
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    try:
        report = convstat.analyze(lambda: (transformers_families.make(family), inputs), counters="none")
    except Exception as error:
        answer.send(("failed", f"{type(error).__name__}: {error}", _resident("VmHWM") - before, runs))
    else:
        answer.send(("counted", report.totals.macs, _resident("VmHWM") - before, runs))


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@pytest.mark.verify
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_every_family_that_is_made_and_fed_by_hand_is_counted() -> None:
    """Each in a process of its own, forked from one that has imported the library, with limits on memory and time."""
    import transformers_families

    context = multiprocessing.get_context("fork")
    found: dict[str, tuple[str, Any, int, bool]] = {}
    for family in transformers_families.families():
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=count_family, args=(family, there))
        process.start()
        there.close()
        try:
            found[family] = here.recv() if here.poll(180) else ("late", "", 0, False)
        except EOFError:
            found[family] = ("died", "", 0, False)
        process.kill()
        process.join()
    failed = {name: row[:2] for name, row in found.items() if row[0] in ("failed", "late", "died")}
    assert not failed
    assert sum(row[0] == "counted" for row in found.values()) > 150
    large = {name: row[2] for name, row in found.items() if row[0] == "counted" and row[3] and row[2] > GIB}
    assert not large
