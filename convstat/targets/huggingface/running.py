"""Run a model that was made for nothing but what comes of it: whether it runs, and what it gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from convstat.trace.failures import Failure


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


def failure(
    module: torch.nn.Module, inputs: Mapping[str, Any], dtype: torch.dtype | None, constants: Collection[str] = ()
) -> Failure | None:
    """Why a model does not run on these inputs; None where it does."""
    from convstat.trace.failures import Failure

    try:
        run(module, inputs, dtype, constants=constants)
    except Exception as error:
        return Failure("", error)
    return None


def chosen(
    module: torch.nn.Module,
    ways: Iterable[dict[str, Any]],
    dtype: torch.dtype | None,
    constants: Collection[str] = (),
) -> tuple[dict[str, Any], Failure | None]:
    """The first of several inputs on which a model runs; else the first on which it would where there are values.

    Where there are none of either, the first of all, and why the model does not run on it.
    """
    found: dict[bool, tuple[dict[str, Any], Failure]] = {}
    for inputs in ways:
        why = failure(module, inputs, dtype, constants)
        if why is None:
            return inputs, None
        found.setdefault(why.is_artefact, (inputs, why))
    if True in found:
        return found[True][0], None
    return found.get(False, ({}, None))
