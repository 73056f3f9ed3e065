"""What advice says to do, done: edits of a spec's text, and of a module, by whoever does not trust the savings."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from convstat.graph import Graph
from convstat.results.advice import Advice, Plan, Suggestion


def edited(text: str, suggestions: Iterable[Suggestion | Plan]) -> str:
    """The text of a spec after its lines have been replaced as the edits say, from the last to the first."""
    lines = text.splitlines()
    edits = {
        (edit.line, edit.end_line, edit.before, edit.after): edit for one in suggestions for edit in one.edits
    }.values()
    for edit in sorted(edits, key=lambda edit: (edit.line or 0, edit.column or 0), reverse=True):
        assert edit.line is not None
        assert edit.end_line is not None
        assert list(edit.before) == lines[edit.line - 1 : edit.end_line]
        lines[edit.line - 1 : edit.end_line] = edit.after
    return "\n".join(lines) + "\n"


def written(folder: Path, text: str) -> str:
    """The path of a file with a text."""
    path = folder / "edited.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def rebuilt(module: nn.Module, suggestions: Iterable[Suggestion | Plan], *, in_place: bool = False) -> nn.Module:
    """A copy of a module in which the constructors of the edits have been called; or the module itself."""
    changed = module if in_place else copy.deepcopy(module)
    held = {
        path: (parent, name)
        for prefix, parent in changed.named_modules()
        for name in parent._modules
        for path in [f"{prefix}.{name}".lstrip(".")]
    }
    for edit in (edit for one in suggestions for edit in one.edits):
        parent, name = held[edit.place]
        old = parent._modules[name]
        new = eval(edit.after[0], {"nn": nn}) if edit.after else None
        assert old is not None
        if new is not None:
            assert repr(eval(edit.before[0], {"nn": nn})) == repr(old)
            new.train(old.training)
        parent._modules[name] = new
    return changed


class Flow(nn.Module):
    """A graph as a module whose layers are looked up when they are called, so that they can be replaced."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict({_key(node.name): node.layer.build() for node in graph.nodes})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the graph on its only input."""
        values = {self.graph.inputs[0].name: x}
        for node in self.graph.nodes:
            values[node.name] = self.layers[_key(node.name)](*(values[name] for name in node.inputs))
        return values[self.graph.outputs[0]]


def _key(name: str) -> str:
    return name.replace(".", "_")


def params(module: nn.Module) -> int:
    """The parameters, each once."""
    return sum(parameter.numel() for parameter in module.parameters())


def torch_macs(module: nn.Module, *shape: int) -> int:
    """The MACs by torch's own counter, which counts two FLOPs for each."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(shape))
    return counter.get_total_flops() // 2


def kinds(advice: Advice) -> set[str]:
    """The kinds of the likely mistakes."""
    return {one.kind for one in advice.mistakes}
