"""Python models in the form in which they are deployed, beside the form in which they are trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convstat.errors import SourceError, UsageError
from convstat.patches.guard import in_words
from convstat.results import fusions
from convstat.targets.request import NOBODY, Listener, Request
from convstat.targets.subject import Subject
from convstat.trace.foreign import foreign
from convstat.trace.recipe import Example, Recipe, quiet

if TYPE_CHECKING:
    import torch

    from convstat.trace.fusing import Plan

LARGEST_CHECK = 256 << 20
"""The bytes of weights up to which both forms of a model that has weights are run, to compare what they give."""

LARGEST_ERROR = 1e-3
"""How far the outputs of both forms may lie apart, relative to the largest of them, by rounding alone."""


def prepare(recipe: Recipe, request: Request, *, listener: Listener = NOBODY) -> Subject:
    """Trace and count a model; if asked for, in the deployed form too, and compare what both give if it has weights."""
    from convstat.targets import modules

    if not request.fuse:
        return modules.prepare(recipe, request, listener=listener)
    from convstat.trace import fusing

    if request.mode != "eval":
        raise UsageError(
            f"--fuse cannot be combined with --mode {request.mode}", help="the deployed form is not trained"
        )
    plain = replace(request, fuse=False)
    trained = modules.prepare(recipe, plain, listener=listener)
    listener.progress(f"fusing {recipe.name}")
    forms = _Fusing(recipe, trained.stages.example_of)
    is_real = trained.stages.traced.device == "cpu" or recipe.is_made
    plan = forms.plan("cpu" if trained.stages.traced.device == "cpu" else "meta")
    changes = plan.changes(forms.called)
    if not (changes.called or changes.folded):
        return trained._replace(report=fusions.beside(trained.report, trained.report, changes))
    deployed = modules.prepare(replace(recipe, make=forms.make), plain, listener=listener)
    check = None
    if is_real and fusing.stored_bytes(trained.stages.traced.module) <= LARGEST_CHECK:
        listener.progress(f"comparing both forms of {recipe.name}")
        check = forms.check()
    return deployed._replace(report=fusions.beside(trained.report, deployed.report, changes, check))


@dataclass(slots=True)
class _Fusing:
    """How the fused form of a model is made."""

    recipe: Recipe
    example_of: Callable[[torch.nn.Module, Example | None], Example]
    called: tuple[str, ...] = ()
    planned: Plan | None = None

    def plain(self) -> tuple[torch.nn.Module, Example | None]:
        """The trained form; a model that is there already stays as it is, so it is a copy."""
        module, given = self.recipe.make()
        if self.recipe.is_made:
            try:
                module = copy.deepcopy(module)
            except Exception as error:
                raise SourceError(
                    f"{self.recipe.source} cannot be fused: it cannot be copied: {in_words(error)}",
                    help="give a function that makes the model",
                ) from error
        return module.eval(), given

    def own(self) -> tuple[torch.nn.Module, Example | None]:
        """What its own methods make of it."""
        from convstat.trace import fusing

        module, given = self.plain()
        try:
            module, self.called = fusing.call_own(module)
        except Exception as error:
            raise SourceError(f"{self.recipe.source} cannot be fused by its own methods: {in_words(error)}") from error
        return module.eval(), given

    def make(self) -> tuple[torch.nn.Module, Example | None]:
        """The deployed form."""
        module, given = self.own()
        assert self.planned is not None
        return self.planned.apply(module), given

    def plan(self, device: str) -> Plan:
        """Find out which norms can be folded, in a run without values where the model runs so."""
        from convstat.trace import fusing
        from convstat.trace.run import make

        module, example = make(replace(self.recipe, make=self.own), self.example_of, device)
        if device == "meta":
            module = fusing.on_meta(module)
        with self.running():
            try:
                self.planned = fusing.plan(module, example.args, example.kwargs)
            except Exception as error:
                self.planned = fusing.nothing(module, f"the model could not be followed: {in_words(error)}")
        return self.planned

    def check(self) -> str | None:
        """Run both forms on the same input, on the CPU, and say how far their outputs lie apart.

        The weights are those of a model that is there; of one that was made for the count alone they are drawn.
        """
        import torch

        from convstat.trace import fusing
        from convstat.trace.run import make

        assert self.planned is not None
        try:
            module, example = make(replace(self.recipe, make=self.plain), self.example_of, "cpu", seed=1)
            with self.running(), torch.no_grad():
                module = module.to("cpu")
                if not self.recipe.is_made:
                    fusing.draw_weights(module)
                after = self.planned.apply(fusing.call_own(copy.deepcopy(module))[0])
                outputs = [form(*example.args, **example.kwargs) for form in (module, after)]
        except Exception as error:
            return f"no: both forms could not be run on the CPU: {in_words(error)}"
        apart, largest = fusing.difference(*outputs)
        said = f"outputs on the same input differ by at most {apart:.2g}, where the largest is {largest:.3g}"
        return said if apart <= LARGEST_ERROR * max(largest, 1e-6) else f"FAILED: {said}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """What holds while the model's code runs."""
        from convstat.patches.operators import declared_operators
        from convstat.patches.preserve import process_preserved

        with (
            process_preserved(),
            foreign(f"{self.recipe.source} does not run"),
            quiet(),
            declared_operators(),
            self.recipe.around(),
        ):
            yield
