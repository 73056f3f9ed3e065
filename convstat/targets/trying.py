"""Run a model without its weights only to find out whether it runs, and on which inputs it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from convstat.patches.compiler import compiler_not_loaded
from convstat.patches.guard import EndlessError
from convstat.patches.operators import declared_operators
from convstat.patches.preserve import process_preserved
from convstat.patches.room import alone
from convstat.targets.inputs import InputSpec
from convstat.targets.suggest import suggestions
from convstat.trace import run
from convstat.trace.answers import Answers
from convstat.trace.assumed import KNOWN, Choice
from convstat.trace.bounds import limited_memory
from convstat.trace.foreign import foreign
from convstat.trace.placing import placed, running
from convstat.trace.recipe import Example, Recipe, quiet
from convstat.trace.record import run_again


@alone
def suggest(recipe: Recipe, asked: Sequence[InputSpec], batch: int, overrides: Mapping[str, object]) -> tuple[str, ...]:
    """Look for inputs that a model runs on, on the meta device, and say how to give them; nothing if that fails."""
    try:
        with (
            process_preserved(),
            foreign(f"{recipe.source} does not run"),
            compiler_not_loaded(),
            quiet(),
            recipe.around(),
        ):
            trial = _Trial(recipe)
            return suggestions(recipe, trial.module(), trial.runs, asked, batch=batch, overrides=overrides)
    except (Exception, EndlessError):
        return ()


class _Trial:
    """A model without weights that is run to find out whether it runs."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._made: nn.Module | None = None

    def module(self) -> nn.Module:
        """The model; made anew where a forward pass leaves its mark on it."""
        made = self._made
        if made is None or any(nn.parameter.is_lazy(t) for t in (*made.parameters(), *made.buffers())):
            made, _ = run.make(self.recipe, lambda module, given: Example(), "meta")
            self._made = made
        return made

    def runs(self, example: Example) -> bool:
        """Whether it runs on these inputs."""
        module, example = self.module(), run.on_device(example, "meta")
        try:
            if not self.recipe.is_made:
                run.initialise(module, example)
            on_meta = placed(module, "meta", self.recipe.dtype)
            with (
                foreign("it does not run"),
                limited_memory(),
                on_meta,
                declared_operators(),
                Answers(Choice(KNOWN)),
                running(),
            ):
                run_again(module, example.args, example.kwargs)
        except (Exception, EndlessError):
            return False
        return True
