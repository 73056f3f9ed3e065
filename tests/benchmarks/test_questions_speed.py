"""The questions after "how many" cost little more than that one: formulas, advice, pictures, memory."""

from __future__ import annotations

from pathlib import Path

from limits import Limits
from processes import convstat, interleaved, once

MOBILENET = "configs/mobilenet_v1.yaml"
MODELS = Path(__file__).parent.parent / "big_models.py"
MIB = 2**20


def test_questions_about_a_spec_cost_at_most_twice_a_count(limits: Limits) -> None:
    """Whole processes; closed forms in at most three seconds."""
    commands = {
        "analyze": convstat("analyze", MOBILENET, "--counters", "none"),
        "formula": convstat("formula", MOBILENET),
        "advise": convstat("advise", MOBILENET),
        "picture": convstat("analyze", MOBILENET, "--picture", "1920x1080", "--counters", "none"),
        "fuse": convstat("analyze", MOBILENET, "--fuse", "--weights", "int8", "--counters", "none"),
        "receptive field": convstat("analyze", MOBILENET, "--receptive-field", "--counters", "none"),
    }
    costs = interleaved(commands, runs=7)
    limits.at_most("formula mobilenet_v1", costs["formula"].seconds, 3, " s")
    missed = []
    for name in ("advise", "picture", "fuse", "receptive field"):
        try:
            limits.at_most(f"{name} mobilenet_v1 / analyze", costs[name].seconds / costs["analyze"].seconds, 2.0)
        except AssertionError as error:
            missed.append(str(error))
    assert not missed


def test_memory_in_training_costs_at_most_twice_a_count(limits: Limits) -> None:
    """Whole processes, on resnet50."""
    name = "torchvision/resnet50"
    costs = interleaved(
        {
            "analyze": convstat("analyze", name, "--counters", "none"),
            "memory": convstat("memory", name, "--optimizer", "adamw"),
        },
        runs=3,
    )
    limits.at_most("memory resnet50 in training / analyze", costs["memory"].seconds / costs["analyze"].seconds, 2.0)


def test_the_training_memory_of_a_large_decoder(limits: Limits) -> None:
    """70 billion parameters, with AdamW; the memory is that of the process."""
    cost = once(convstat("memory", f"{MODELS}:llama_70b", "--input", "ids=1x512:int64", "--optimizer", "adamw"))
    limits.at_most("memory llama_70b in training", cost.seconds, 30, " s")
    limits.at_most("peak memory of that", cost.peak / MIB, 1024, " MiB")
