"""Find routed experts in a trace: how many there are, to how many each token is sent, and which parameters they have.

A router ranks a row of scores for each token and keeps some: ``topk``, or the largest alone. Experts are as many alike
parts beside it: modules of one class in one container, or slices of parameters with one more dimension. Their shares
follow from these widths alone, whatever the tokens are; what is beside them, as shared experts, is touched always.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from convstat.count.ops.base import argument, tensors
from convstat.results.language import Routing
from convstat.trace.calls import KernelCall, ModuleInfo, Trace

_TOPK = "aten.topk"
_LARGEST = frozenset(("aten.argmax", "aten.max"))

HIGHEST = 3
"""How many modules up from a router its experts are looked for."""


@dataclass(frozen=True, slots=True)
class _Router:
    """A choice of ``chosen`` of ``experts``, in a module; ``is_ranked`` where a ranking was cut off after so many."""

    module: ModuleInfo
    experts: int
    chosen: int
    is_ranked: bool = False


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of one layer: their parameters, by key, with the elements of each."""

    experts: int
    chosen: int
    params: Mapping[int, int]


def find(trace: Trace) -> tuple[Experts, ...]:
    """The experts of each layer that has some; of several choices among as many, the last one counts."""
    parents = _parents(trace)
    found: dict[frozenset[int], tuple[Experts, int]] = {}
    routers = [*_routers(trace)]
    ranked = [router for router in routers if router.is_ranked]
    # Who takes the largest may do so several times, and knows better how often.
    for number, source in enumerate((ranked, _said(trace), routers)):
        for router in source:
            group = _beside(router, trace, parents)
            same = frozenset(group)
            others = (known for known, (_, of) in found.items() if known != same or of != number)
            if group and not any(known & same for known in others):
                found[same] = Experts(router.experts, router.chosen, group), number
    return tuple(layer for layer, _ in found.values())


def routing(found: tuple[Experts, ...]) -> tuple[Routing, ...]:
    """The same, layers with the same widths together."""
    alike: dict[tuple[int, int], list[int]] = {}
    for layer in found:
        alike.setdefault((layer.experts, layer.chosen), []).append(sum(layer.params.values()))
    return tuple(
        Routing(experts, chosen, len(sizes), sum(sizes), sum(sizes) * chosen // experts)
        for (experts, chosen), sizes in alike.items()
    )


def _routers(trace: Trace) -> Iterator[_Router]:
    """Every choice among the last dimension of something."""
    for call, module in trace.kernels():
        if call.backward or call.op not in (_TOPK, *_LARGEST):
            continue
        given, chosen = tensors(call.args), _chosen(call)
        if given and given[0].shape and 0 < chosen < given[0].shape[-1]:
            yield _Router(module, given[0].shape[-1], chosen, call.op == _TOPK)


_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "n_experts")
_CHOSEN = ("top_k", "topk", "num_experts_per_tok", "num_experts_per_token", "num_selected_experts", "k")


def _said(trace: Trace) -> Iterator[_Router]:
    """What modules say of themselves, for routers that look up in a table which experts a token is for.

    A whole model may say so too, of all its layers: so the innermost come first.
    """
    called = {call.module for call in trace.module_calls()}
    for module in sorted(trace.modules, key=lambda module: -module.path.count(".")):
        if module.index in called:
            experts, chosen = (
                next((value for name in names if type(value := module.attributes.get(name)) is int), 0)
                for names in (_EXPERTS, _CHOSEN)
            )
            if 0 < chosen < experts:
                yield _Router(module, experts, chosen)


def _chosen(call: KernelCall) -> int:
    """How many it keeps of the last dimension; none of another."""
    shape = tensors(call.args)[0].shape if tensors(call.args) else ()
    if call.op == _TOPK:
        dim = argument(call, 2, "dim", -1)
        k = argument(call, 1, "k", 0)
        return k if type(k) is int and dim in (-1, len(shape) - 1) else 0
    if call.op in _LARGEST:
        return 1 if argument(call, 1, "dim") in (-1, len(shape) - 1) else 0
    return 0


def _parents(trace: Trace) -> dict[int, int]:
    found: dict[int, int] = {}
    for module in trace.modules:
        for child in module.children:
            found.setdefault(child, module.index)
    return found


def _beside(router: _Router, trace: Trace, parents: Mapping[int, int]) -> dict[int, int]:
    """The parameters of the experts that a router chooses among; none where it chooses among something else."""
    chain = [router.module.index]
    while len(chain) <= HIGHEST and chain[-1] in parents:
        chain.append(parents[chain[-1]])
    for place in chain:
        found: dict[int, int] = {}
        for module in _below(trace, place):
            found.update(_in_container(module, trace, router.experts, set(chain)))
            found.update(_in_slices(module, router.experts))
        if found:
            return found
        if place in parents and len(trace.modules[parents[place]].children) > 1 and _is_list(trace, parents[place]):
            # A layer of many ends here: what is in the others is theirs.
            return {}
    return {}


def _is_list(trace: Trace, place: int) -> bool:
    return trace.modules[place].type.endswith((".ModuleList", ".Sequential", ".ModuleDict"))


def _below(trace: Trace, place: int) -> Iterator[ModuleInfo]:
    stack, seen = [place], {place}
    while stack:
        module = trace.modules[stack.pop()]
        yield module
        for child in module.children:
            if child not in seen:
                seen.add(child)
                stack.append(child)


def _in_container(module: ModuleInfo, trace: Trace, experts: int, around: set[int]) -> dict[int, int]:
    """The parameters of as many alike modules that hang in one."""
    children = [trace.modules[child] for child in module.children]
    alike = [child for child in children if child.type == children[0].type and _NUMBERED.search(child.path)]
    if len(children) != experts or len(alike) != experts or around & {child.index for child in children}:
        return {}
    held = [_params(trace, child.index) for child in children]
    sizes = {sum(params.values()) for params in held}
    if len(sizes) != 1 or sizes == {0} or len({key for params in held for key in params}) < experts:
        return {}
    return {key: size for params in held for key, size in params.items()}


_NUMBERED = re.compile(r"\d$")
"""What the name of one of several ends with: projections of one size beside each other are no experts."""


def _params(trace: Trace, place: int) -> dict[int, int]:
    return {p.key: p.numel for module in _below(trace, place) for p in module.parameters}


def _in_slices(module: ModuleInfo, experts: int) -> dict[int, int]:
    """The parameters of a module that hold all experts at once: one slice for each in the first dimension."""
    is_whole = any(len(p.shape) > 2 and p.shape[0] == experts for p in module.parameters)
    if is_whole:
        return {
            p.key: p.numel
            for p in module.parameters
            if p.shape[:1] == (experts,) and (len(p.shape) > 2 or "bias" in p.name)
        }
    said = [name for name, value in module.attributes.items() if "expert" in name and value == experts]
    if not said:
        return {}
    # The rows of all experts below each other.
    return {
        p.key: p.numel
        for p in module.parameters
        if len(p.shape) == 2 and p.shape[0] > experts and p.shape[0] % experts == 0
    }
