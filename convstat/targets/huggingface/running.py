"""Run a model that was made for nothing but what comes of it: whether it runs, and what it gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def run(
    module: torch.nn.Module,
    inputs: Mapping[str, Any],
    dtype: torch.dtype | None,
    *,
    constants: Collection[str] = (),
    method: str | None = None,
) -> Any:
    """Run a model, or a method of it, where its weights are; on meta, it is answered what it reads of values.

    Inputs that are ``constants`` keep their values there.
    """
    import torch

    from convstat.patches.operators import declared_operators
    from convstat.patches.quiet import unlogged, unwarned
    from convstat.trace.answers import Answers
    from convstat.trace.assumed import KNOWN, Choice
    from convstat.trace.placing import place, placed

    module.eval()
    device = next((tensor.device.type for tensor in module.parameters()), "cpu")
    given = place(dict(inputs), device)
    if device == "meta":
        given.update({name: inputs[name] for name in constants if name in inputs})
    call = module if method is None else getattr(module, method)
    with (
        placed(module, device, dtype),
        unlogged("transformers", "diffusers"),
        unwarned(),
        declared_operators(),
        Answers(Choice(KNOWN)),
        torch.no_grad(),
    ):
        return call(**given)


def runs(
    module: torch.nn.Module, inputs: Mapping[str, Any], dtype: torch.dtype | None, constants: Collection[str] = ()
) -> bool:
    """Whether a model runs on these inputs."""
    try:
        run(module, inputs, dtype, constants=constants)
    except Exception:
        return False
    return True
