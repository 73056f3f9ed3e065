"""What the products of a decoder are for: projections, attention, MLPs, experts, the router, the head.

A formula prices parts, and the trace has kernels. Each kernel is a product of activations or of a weight, which is
found among the parameters of its layer by its shape; where that weight hangs says what it is for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from convstat.counters import parameters
from convstat.counters.base import Inapplicable, Ledger
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.language.hyperparameters import Hyperparameters
from convstat.counters.products import Kernel, Work
from convstat.trace import KernelCall, ListInfo, ParameterInfo, TensorInfo, Trace

PROJECTIONS, CORE, MIXER = "projections", "core", "mixer"
MLP, EXPERTS, SHARED, ROUTER, GATE = "mlp", "experts", "shared", "router", "gate"
HEAD, ADAPTERS, ACTIVATIONS, OUTSIDE = "head", "adapters", "activations", "outside"
"""What products are for: ``core`` are the two of attention, ``mixer`` those of what layers have in its place, ``gate``
that of shared experts, ``activations`` others of activations alone, ``outside`` those of weights before and after the
layers that are not the head's."""

Amounts = Mapping[str, int]
"""MACs by layer."""


class Product(NamedTuple):
    """A kernel that multiplies, and what for; ``block`` is the number of the decoder layer, None outside of them."""

    kernel: Kernel
    role: str
    block: int | None
    parameter: ParameterInfo | None


class Owned(NamedTuple):
    """A parameter, where convstat counts it, and the path of the module that holds it."""

    parameter: ParameterInfo
    layer: str
    path: str
    kind: str


@dataclass(frozen=True, slots=True)
class DecoderTrace(Trace):
    """The trace of a model, with the hyperparameters of the decoder that it is, or why it is none."""

    decoder: Hyperparameters | None = None
    why_not: str = ""


class Parts:
    """The parts of a traced decoder, and the account of what a formula makes of each of them.

    The products of all kernels are entered as they are. ``price`` lines a part up with what a formula gives for it:
    what its reasons do not come to is ``unattributed``.
    """

    def __init__(self, trace: Trace, decoder: Hyperparameters) -> None:
        self.trace = trace
        self.decoder = decoder
        self.terms = Ledger()
        self.work = Work(trace, self.terms)
        self.parameters = tuple(_owned(trace))
        self.keys = attended(trace, decoder.experts)
        if not self.keys:
            raise Inapplicable("it needs attention, and none ran")
        self._prefix = Counter(
            found[1] for layer in self.keys if (found := _BLOCK.match(layer)) is not None
        ).most_common(1)
        self.products = self._with_mixers(tuple(_Sorter(self).sorted()))
        self._priced: dict[tuple[str, str], int] = {}
        for product in self.products:
            self._enter(product.role, product.kernel.layer, product.kernel.products)

    def _with_mixers(self, products: tuple[Product, ...]) -> tuple[Product, ...]:
        """Tell the MLPs of layers without attention from what is there instead of it, by where those of others hang."""
        attended = {self.block(layer) for layer in self.keys}
        places = {self._place(one) for one in products if one.role == MLP and one.block in attended}
        beside = {self._place(one) for one in products if one.role in (EXPERTS, SHARED, ROUTER)}
        known = places | beside
        return tuple(
            one._replace(role=MIXER)
            if known and one.role == MLP and one.block not in attended and self._place(one) not in known
            else one
            for one in products
        )

    def _place(self, product: Product) -> str:
        """The name of the part of a decoder layer that a product lies in."""
        found = _BLOCK.match(product.kernel.layer)
        return product.kernel.layer[found.end() :].partition(".")[0] if found is not None else ""

    def block(self, layer: str) -> int | None:
        """The number of the decoder layer that a layer lies in."""
        found = _BLOCK.match(layer)
        inside = found is not None and bool(self._prefix) and found[1] == self._prefix[0][0]
        return int(found[2]) if found is not None and inside else None

    def of(self, role: str) -> dict[str, int]:
        """The products of a part, by layer, as the kernels multiply."""
        found: dict[str, int] = {}
        for product in self.products:
            if product.role == role:
                found[product.kernel.layer] = found.get(product.kernel.layer, 0) + product.kernel.products
        return found

    def times(self, role: str) -> int:
        """In how many decoder layers such a part runs; one whose weights several share counts as often as it runs."""
        calls: dict[int | None, int] = {}
        for layer, found in self.keys.items():
            calls[self.block(layer)] = calls.get(self.block(layer), 0) + found.calls
        return sum(calls.get(block, 1) for block in self.blocks(role))

    def blocks(self, role: str) -> list[int]:
        """The numbers of the decoder layers that have such a part."""
        return sorted(
            {product.block for product in self.products if product.role == role and product.block is not None}
        )

    @property
    def matrices(self) -> int:
        """The matrices of an MLP: 3 where it has a gate, else 2, as the weights of one say; 2 where there is none."""
        decoder = self.decoder
        for role, width in ((MLP, decoder.ffn), (EXPERTS, decoder.experts * decoder.expert_ffn)):
            blocks = self.blocks(role)
            weights = {
                product.parameter.key: product.parameter.numel
                for product in self.products
                if blocks and product.role == role and product.block == blocks[0] and product.parameter is not None
            }
            if weights and width:
                return 3 if 2 * sum(weights.values()) >= 5 * decoder.hidden * width else 2
        return 2

    @property
    def is_tied(self) -> bool:
        """Whether the head multiplies by the matrix that tokens are looked up in."""
        heads = {one.parameter.key for one in self.products if one.role == HEAD and one.parameter is not None}
        return any(
            parameter.key in heads
            for info in self.trace.modules
            if info.registered and "Embedding" in info.type
            for parameter in info.parameters
        )

    def price(self, role: str, amount: int, *reasons: tuple[str, int]) -> None:
        """Enter that a formula gives ``amount`` MACs for a part, and why that is not what its kernels multiply."""
        own = self.of(role)
        for code, part in (*reasons, (UNATTRIBUTED, amount - sum(own.values()) - sum(part for _, part in reasons))):
            self.add(role, code, spread(part, own) if own else {"": part})

    def leave_out(self, role: str, code: str) -> None:
        """Enter that a formula has nothing for a part."""
        self.add(role, code, {layer: -macs for layer, macs in self.of(role).items()})

    def add(self, role: str, code: str, amounts: Amounts) -> None:
        """Enter an amount that has a reason."""
        for layer, macs in amounts.items():
            self.terms.add(layer, code, macs=macs)
            self._enter(role, layer, macs)

    def pass_again(self, code: str, times: int, *, but: Iterable[str] = ()) -> None:
        """Enter what has been priced so many times more, as backward passes cost; ``but`` are parts without one."""
        found: dict[str, int] = {}
        for (role, layer), macs in self._priced.items():
            if role not in but:
                found[layer] = found.get(layer, 0) + macs
        for layer, macs in found.items():
            self.terms.add(layer, code, macs=times * macs)

    def priced(self, role: str) -> dict[str, int]:
        """What a formula gives for a part in a forward pass, by layer."""
        return {layer: macs for (part, layer), macs in self._priced.items() if part == role and macs}

    def _enter(self, role: str, layer: str, macs: int) -> None:
        self._priced[role, layer] = self._priced.get((role, layer), 0) + macs

    def largest(self, role: str, layers: Callable[[str], bool] = lambda layer: True) -> str:
        """The layer that multiplies most for a part; empty where none does."""
        own = {layer: macs for layer, macs in self.of(role).items() if layers(layer)}
        return max(own, key=own.__getitem__, default="")


def spread(amount: int, over: Amounts) -> dict[str, int]:
    """Share an amount out in proportion, to the unit.

    >>> spread(-10, {"a": 1, "b": 1, "c": 1})
    {'a': -4, 'b': -3, 'c': -3}
    """
    whole = sum(over.values())
    if not amount or not whole:
        return {next(iter(over), ""): amount} if amount else {}
    found: dict[str, int] = {}
    before = done = 0
    for layer, weight in over.items():
        before += weight
        upto = amount * before // whole
        found[layer] = upto - done
        done = upto
    return found


_BLOCK = re.compile(r"(.*?)\.?(\d+)(?:\.|$)")
"""A path with a number in it: what is before that, and the number."""


def _owned(trace: Trace) -> Iterable[Owned]:
    for parameter, info, layer in parameters.held(trace):
        yield Owned(parameter, layer, info.path, info.type.rpartition(".")[2])


class Attended(NamedTuple):
    """Attention in one layer: how many keys a query met at most, and how often it ran."""

    keys: int = 0
    calls: int = 0


def attended(trace: Trace, experts: int = 0) -> dict[str, Attended]:
    """The layers in which attention ran; a router's softmax over ``experts`` is none."""
    found: dict[str, Attended] = {}
    scored: dict[str, int] = {}
    for call, owner in trace.kernels():
        length = 0
        if "scaled_dot_product" in call.op and "backward" not in call.op and len(call.args) > 2:
            key = call.args[1]
            length = key.shape[-2] if isinstance(key, TensorInfo) and len(key.shape) > 1 else 0
        elif call.op in ("aten.bmm", "aten.baddbmm") and isinstance(call.output, TensorInfo):
            scored[owner.path] = call.output.shape[-1]
        elif call.op in ("aten._softmax", "aten.softmax", "aten._safe_softmax"):
            scores = call.args[0] if call.args else None
            if isinstance(scores, TensorInfo) and len(scores.shape) > 2:
                # A router scores experts, for each token of each sequence. A sink has a score and no key.
                length = scores.shape[-1] if len(scores.shape) > 3 or scores.shape[-1] != experts else 0
                length -= length - 1 == scored.get(owner.path)
        if length:
            before = found.get(owner.path, Attended())
            found[owner.path] = Attended(max(before.keys, length), before.calls + 1)
    return found


class _Sorter:
    """Says of each kernel what it is for."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.decoder = parts.decoder
        modules = parts.trace.modules
        self._own: dict[str, list[ParameterInfo]] = {}
        self._path: dict[int, str] = {}
        for info in modules:
            if info.registered:
                self._own.setdefault(info.path, []).extend(info.parameters)
        for owned in parts.parameters:
            self._path[owned.parameter.key] = owned.path
            if all(known.key != owned.parameter.key for known in self._own.setdefault(owned.layer, [])):
                self._own[owned.layer].append(owned.parameter)
        self._taken: Counter[int] = Counter()
        embeddings = {p.key for info in modules if "Embedding" in info.type for p in info.parameters}
        self._embeddings = embeddings

    def sorted(self) -> Iterable[Product]:
        """All products, in order."""
        for kernel in self.parts.work.kernels:
            parameter = self._weight(kernel)
            block = self.parts.block(kernel.layer)
            yield Product(kernel, self._role(kernel, parameter, block), block, parameter)

    def _weight(self, kernel: Kernel) -> ParameterInfo | None:
        """The parameter of the kernel's layer that has the shape of an operand; of several, the one taken least."""
        operands = [shape for value in _operands(kernel.call) if len(shape := value.shape) in (2, 3)]
        fits = [
            parameter
            for parameter in self._own.get(kernel.layer, ())
            if len(parameter.shape) > 1 and any(_is_part(shape, parameter.shape) for shape in operands)
        ]
        if not fits:
            return None
        chosen = min(fits, key=lambda parameter: self._taken[parameter.key])
        self._taken[chosen.key] += 1
        return chosen

    def _role(self, kernel: Kernel, parameter: ParameterInfo | None, block: int | None) -> str:
        layer, decoder = kernel.layer, self.decoder
        if parameter is None:
            return CORE if layer in self.parts.keys else ACTIVATIONS
        path = self._path.get(parameter.key, layer)
        if "lora_" in layer:
            return ADAPTERS
        if block is None:
            is_head = parameter.key in self._embeddings or decoder.vocabulary in parameter.shape
            return HEAD if is_head and decoder.hidden in parameter.shape else OUTSIDE
        if decoder.experts:
            if "shared_expert" in path and min(parameter.shape) > 1:
                return SHARED
            if "shared_expert" in path:
                return GATE
            if sorted(parameter.shape) == sorted((decoder.experts, decoder.hidden)):
                return ROUTER
            if "expert" in path or (len(parameter.shape) == 3 and parameter.shape[0] == decoder.experts):
                return EXPERTS
        for attention in self.parts.keys:
            if not _is_block(attention) and f"{layer}.".startswith(f"{attention}."):
                return PROJECTIONS
            if _is_block(attention) and f"{layer}.".startswith(f"{attention}."):
                # Attention is written out in the block itself.
                is_mlp = any(side in (decoder.ffn, 2 * decoder.ffn) for side in parameter.shape)
                return MLP if is_mlp else PROJECTIONS
        siblings = any(_beside(layer, attention) for attention in self.parts.keys)
        return PROJECTIONS if siblings else MLP


def _is_block(layer: str) -> bool:
    """Whether a path is that of a whole layer: the last of its names is a number."""
    return not layer or layer.rpartition(".")[2].isdigit()


def _beside(layer: str, attention: str) -> bool:
    """Whether attention ran in a module of its own, inside of the one that holds the projections."""
    around = attention.rpartition(".")[0]
    return not _is_block(around) and f"{layer}.".startswith(f"{around}.")


def _operands(call: KernelCall) -> Iterable[TensorInfo]:
    for value in call.args:
        for item in value.items if isinstance(value, ListInfo) else (value,):
            if isinstance(item, TensorInfo):
                yield item


def _is_part(shape: tuple[int, ...], parameter: tuple[int, ...]) -> bool:
    """Whether an operand is a parameter, its transpose, or one matrix of a stack.

    >>> _is_part((64, 224), (4, 224, 64)), _is_part((64, 64), (64, 128))
    (True, False)
    """
    if len(shape) > len(parameter):
        return False
    if len(shape) == 3 and shape[0] != parameter[0]:
        return False
    return shape[-2:] in (parameter[-2:], parameter[-2:][::-1])
