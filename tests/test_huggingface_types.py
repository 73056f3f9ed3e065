"""Every model type of transformers at a small size, beside a real run; those that are left out are told, with why."""

from __future__ import annotations

import multiprocessing
import resource
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("transformers") is None:
    pytest.skip("transformers is not installed: pip install transformers", allow_module_level=True)

import huggingface_models

GIB = 2**30
SECONDS = 120
"""What a type may take of a processor, however busy that is with others."""

PATIENCE = 20
"""How many times as long it may take by the clock."""

PARTS, LEAST = 16, 200
"""Tests that share the types, to run side by side, and the types that have to be equal, of all of them."""

NOT_THERE = (
    *("has no sdpa attention", "has no eager attention", "has no cache of keys and values", "takes no --decode"),
    "does not support an attention implementation",
)
"""What a type does not have is said so, and is no difference."""

STEP = "decode 3@9"

STEPS: dict[str, tuple[str, ...]] = {
    # It wants all tokens so far at every step, and leaves out those in the cache itself.
    "cpmant": (),
    # It decodes one token at a time.
    "prophetnet": ("decode 1@9",),
}
"""The steps of types that are not given several new tokens alone."""


def try_type(model_type: str, folder: Path, answer: Any) -> None:
    """Count a type in each way, in a process of its own, and send how each went."""
    from convstat.errors import ConvstatError

    resource.setrlimit(resource.RLIMIT_DATA, (6 * GIB, 6 * GIB))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    path, reasons = huggingface_models.buildable(model_type, folder)
    if not path:
        answer.send(("left out", reasons))
        return
    found: dict[str, str] = {}
    for attention in huggingface_models.ATTENTIONS:
        for inputs in ((), *((step,) for step in STEPS.get(model_type, (STEP,)))):
            way = " ".join((attention, *inputs))
            try:
                own, real, is_bound = huggingface_models.compared(path, attention, inputs)
            except ConvstatError as error:
                found[way] = "absent" if any(said in str(error) for said in NOT_THERE) else str(error)
            except Exception as error:
                found[way] = f"{type(error).__name__}: {error}"
            else:
                is_below = is_bound and own > real > 0
                found[way] = "equal" if own == real > 0 else "below" if is_below else f"{own:,} and not {real:,}"
    answer.send(("tried", found))


def tried(model_type: str, folder: Path) -> tuple[str, Any]:
    """How a type went; one that takes too long or too much memory is left out."""
    import transformers  # noqa: F401 - once, and not in each process

    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=try_type, args=(model_type, folder, there))
    process.start()
    there.close()
    try:
        found: tuple[str, Any] = here.recv() if here.poll(PATIENCE * SECONDS) else ("left out", ["it does not end"])
    except EOFError:
        found = ("left out", [f"it takes more than {SECONDS} s or 6 GiB"])
    process.kill()
    process.join()
    return found


@pytest.mark.verify
@pytest.mark.parametrize("part", range(PARTS))
def test_every_type_that_runs_small_costs_what_torch_counts(
    part: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All tokens at once and a step of decoding, in both attentions; what transformers itself cannot run is listed."""
    import torch

    torch.set_num_threads(1)
    results = {model_type: tried(model_type, tmp_path) for model_type in huggingface_models.types()[part::PARTS]}
    left = {name: reasons for name, (how, reasons) in results.items() if how == "left out"}
    with capsys.disabled():
        print(f"\n{len(results) - len(left)} types of transformers are compared, {len(left)} are left out:")
        for name, reasons in left.items():
            print(f"  {name}: {'; '.join(dict.fromkeys(reason[:150] for reason in reasons))}")
    ways = {name: found for name, (how, found) in results.items() if how == "tried"}
    wrong = {
        f"{name}, {way}": said
        for name, found in ways.items()
        for way, said in found.items()
        if said not in ("equal", "below", "absent")
    }
    assert not wrong
    assert sum("equal" in found.values() for found in ways.values()) >= LEAST / PARTS
