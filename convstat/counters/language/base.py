"""What the formulas have in common: they read a decoder's hyperparameters, and give the FLOPs of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convstat.counters.base import Inapplicable, PredictedFailure, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.conventions.base import Convention
from convstat.counters.language.hyperparameters import Hyperparameters, read
from convstat.counters.language.parts import (
    ACTIVATIONS,
    ADAPTERS,
    CORE,
    EXPERTS,
    GATE,
    HEAD,
    MIXER,
    MLP,
    OUTSIDE,
    PROJECTIONS,
    ROUTER,
    SHARED,
    DecoderTrace,
    Owned,
    Parts,
    Product,
    spread,
)
from convstat.counters.products import fused_modules
from convstat.trace import Trace

if TYPE_CHECKING:
    import torch


class Formula(Convention):
    """A formula for the FLOPs of a language model.

    Its figure in MACs is half of the FLOPs that the tool prints, for the sequences that were traced: those of a step
    of training where it is a trainer's.
    """

    takes_jagged = True
    passes = "training"
    """Whether its FLOPs are those of a step of ``training`` or of a ``forward`` pass."""
    short: str
    """The formula in a few words."""

    def predict(self, trace: Trace) -> Prediction:
        """What the formula gives for the decoder that was traced, or what it needs of another model."""
        try:
            if not isinstance(trace, DecoderTrace) or trace.decoder is None:
                raise Inapplicable(getattr(trace, "why_not", "") or "it needs a model's config")
            return self.apply(Parts(trace, trace.decoder))
        except PredictedFailure as failure:
            return Prediction(None, None, failure=str(failure), applies=not isinstance(failure, Inapplicable))

    def apply(self, parts: Parts) -> Prediction:
        """What the formula gives."""
        raise NotImplementedError

    def retrace(self, model: torch.nn.Module, inputs: tuple[Any, ...], trace: Trace) -> Trace:
        """The same trace, with the hyperparameters in the model's config beside it."""
        try:
            return trace.extended(DecoderTrace, decoder=read(model, trace.root))
        except Inapplicable as failure:
            return trace.extended(DecoderTrace, why_not=str(failure))


def core(
    parts: Parts,
    width: int,
    *reasons: tuple[str, int],
    halved: bool = False,
    windows: int = 0,
    cache: bool = False,
) -> None:
    """Price attention's two products: ``width`` for each pair of a token and a position of its sequence, in each layer.

    Keys in a ``cache`` are left out unless they are known, and half of the rest where tokens are taken to look back
    only. ``windows`` is what sliding windows change. ``reasons`` say why ``width`` is not what a score and its value
    multiply.
    """
    decoder = parts.decoder
    attended = parts.times(CORE)
    length = max(found.keys for found in parts.keys.values()) if cache else decoder.tokens
    pairs = decoder.every_token * length
    true = decoder.query_width + decoder.value_width
    cached = -sum(
        decoder.every_token * (parts.keys[layer].calls * (parts.keys[layer].keys - length)) * true
        for layer in parts.of(CORE)
    )
    amount = pairs * width * decoder.layers
    half = -(amount - amount // 2) if halved else 0
    parts.price(
        CORE,
        amount + half + windows,
        ("cached_keys", cached),
        ("layers_without_attention", pairs * width * (decoder.layers - attended)),
        *((code, pairs * part * attended) for code, part in reasons),
        ("causal_half", half),
        ("sliding_window", windows),
    )


def head(parts: Parts, vocabulary: int | None = None) -> None:
    """Price the logits of every token, for a vocabulary that may be padded."""
    decoder = parts.decoder
    tokens, hidden = decoder.every_token, decoder.hidden
    vocabulary = decoder.vocabulary if vocabulary is None else vocabulary
    padded = tokens * (vocabulary - decoder.vocabulary) * hidden
    own = positions(parts, HEAD)
    missing = (tokens - own) * decoder.vocabulary * hidden
    code = "all_logits" if own else "absent_head"
    parts.price(HEAD, tokens * vocabulary * hidden, (code, missing), ("padded_vocabulary", padded))


def last_logits(parts: Parts) -> None:
    """Price the logits of one token of each sequence, as a server computes them."""
    decoder = parts.decoder
    one = decoder.batch * decoder.vocabulary * decoder.hidden
    own = positions(parts, HEAD)
    more = (decoder.batch - own) * decoder.vocabulary * decoder.hidden
    parts.price(HEAD, one, ("last_logits" if own else "absent_head", more))


def positions(parts: Parts, role: str) -> int:
    """For how many tokens the weights of a part were multiplied: what goes in, by the shape of the kernels."""
    return sum(_rows(product) for product in parts.products if product.role == role)


def _rows(product: Product) -> int:
    """The rows that a kernel multiplies by its weight."""
    weight = product.parameter
    return product.kernel.products // (weight.shape[-1] * weight.shape[-2]) if weight is not None else 0


def only_attention(parts: Parts) -> None:
    """Refuse a decoder with layers that have something else than attention: tools have formulas of their own for it."""
    lacking = parts.decoder.layers - parts.times(CORE)
    if any(product.role == MIXER for product in parts.products):
        raise Inapplicable(
            f"it needs attention in every layer, and {lacking} of {parts.decoder.layers} have something else"
        )


def other_parts(parts: Parts) -> None:
    """Leave out what no formula knows: adapters, other products of activations, layers before and after."""
    parts.leave_out(ADAPTERS, "adapters")
    parts.leave_out(GATE, "shared_gate")
    parts.leave_out(MIXER, "mixers")
    parts.leave_out(ACTIVATIONS, "activation_products")
    parts.leave_out(OUTSIDE, "outside_layers")


def projections(parts: Parts, weights: int, *reasons: tuple[str, int]) -> None:
    """Price the projections of every layer by so many weights each; ``reasons`` are by layer and token."""
    decoder = parts.decoder
    attended = parts.times(CORE)
    parts.price(
        PROJECTIONS,
        decoder.every_token * decoder.layers * weights,
        ("layers_without_attention", decoder.every_token * (decoder.layers - attended) * weights),
        *((code, decoder.every_token * attended * part) for code, part in reasons),
    )


def mlp(parts: Parts, weights: int, *reasons: tuple[str, int]) -> None:
    """Price the MLP of every layer that has one by so many weights; ``reasons`` are by layer and token."""
    times = parts.decoder.every_token * parts.times(MLP)
    parts.price(MLP, times * weights, *((code, times * part) for code, part in reasons))


def experts(parts: Parts, matrices: int | None = None) -> None:
    """Price the experts that a token is sent to and those that are shared, wherever there are some."""
    decoder = parts.decoder
    own = parts.matrices
    matrices = own if matrices is None else matrices
    times = decoder.every_token * decoder.hidden * parts.times(EXPERTS)
    for part, width in ((EXPERTS, decoder.chosen * decoder.expert_ffn), (SHARED, decoder.shared_ffn)):
        parts.price(part, times * matrices * width, ("gated_mlp", times * (matrices - own) * width))


def router(parts: Parts) -> None:
    """Price the scores of every expert for every token."""
    decoder = parts.decoder
    parts.price(ROUTER, decoder.every_token * decoder.hidden * decoder.experts * parts.times(EXPERTS))


def backward(parts: Parts, *, but: tuple[str, ...] = ()) -> None:
    """Enter a backward pass, which costs twice what the forward pass does."""
    parts.pass_again("backward_pass", 2, but=but)


def enter_params(parts: Parts, code: str = "", without: frozenset[int] = frozenset()) -> int:
    """Enter the parameters, and which of them are left out; returns how many are counted."""
    counted = 0
    for owned in parts.parameters:
        parts.terms.add(owned.layer, None, params=owned.parameter.numel)
        if owned.parameter.key in without:
            parts.terms.add(owned.layer, code, params=-owned.parameter.numel)
        else:
            counted += owned.parameter.numel
    return counted


def kinds(parts: Parts, kind: str) -> frozenset[int]:
    """The keys of the parameters that multiply nothing and are of one kind: see :func:`kind_of`."""
    used = {product.parameter.key for product in parts.products if product.parameter is not None}
    return frozenset(
        owned.parameter.key
        for owned in parts.parameters
        if owned.parameter.key not in used and kind_of(owned, parts.decoder) == kind
    )


def prediction(parts: Parts, *, params: int | None = None, **native: int) -> Prediction:
    """The prediction of a formula, with the figures that the tool itself prints or works with."""
    return Prediction(
        params, parts.terms.macs, parts.terms.terms(), native=native or None, fused=fused_modules(parts.trace)
    )


def weights_of(parts: Parts, owned: Owned) -> list[Product]:
    """The products of a parameter."""
    return [
        product
        for product in parts.products
        if product.parameter is not None and product.parameter.key == owned.parameter.key
    ]


def by_parameters(
    parts: Parts, *, without: frozenset[int] = frozenset(), active: bool = False, excluded: str = ""
) -> int:
    """Price each parameter at a multiply-accumulate for each token; returns how many parameters that are.

    ``without`` are the keys of those that are left out, whose products get the code ``excluded``. With ``active``, of
    the experts only as many count as a token is sent to. The products of attention are priced by the caller.
    """
    decoder = parts.decoder
    tokens = decoder.every_token
    counted = 0
    for owned in parts.parameters:
        parameter = owned.parameter
        found = weights_of(parts, owned)
        own = sum(product.kernel.products for product in found)
        by_layer: dict[str, int] = {}
        for product in found:
            by_layer[product.kernel.layer] = by_layer.get(product.kernel.layer, 0) + product.kernel.products
        role = found[0].role if found else OUTSIDE
        if parameter.key in without:
            parts.add(role, excluded, {layer: -macs for layer, macs in by_layer.items()})
            continue
        number = parameter.numel
        if active and (role == EXPERTS or (not found and "experts" in owned.path and "shared" not in owned.path)):
            number = number * decoder.chosen // decoder.experts
        counted += number
        if not found:
            parts.add(OUTSIDE, kind_of(owned, decoder), {owned.layer: tokens * number})
            continue
        reasons: list[tuple[str, int]] = []
        if role == EXPERTS and not active:
            reasons.append(("all_experts", tokens * (number - number * decoder.chosen // decoder.experts)))
        elif role == HEAD:
            rows = sum(_rows(product) for product in found)
            reasons.append(("all_logits", (tokens - rows) * number))
        elif (calls := len({product.kernel.layer for product in found})) > 1 or _calls(found) > 1:
            reasons.append(("shared_layers", tokens * number * (1 - max(calls, _calls(found)))))
        rest = tokens * number - own - sum(amount for _, amount in reasons)
        for code, amount in (*reasons, (UNATTRIBUTED, rest)):
            parts.add(role, code, spread(amount, by_layer))
    parts.leave_out(ACTIVATIONS, "activation_products")
    return counted


def _calls(found: list[Product]) -> int:
    """How often a weight is used in one layer, by all tokens each time."""
    return len(found) if found[0].role not in (EXPERTS, HEAD) else 1


def kind_of(owned: Owned, decoder: Hyperparameters) -> str:
    """The reason for which a parameter that multiplies nothing is a difference."""
    if "Embedding" in owned.kind:
        return "embedding_params" if decoder.vocabulary in owned.parameter.shape else "position_params"
    if owned.parameter.name.endswith("bias"):
        return "bias_params"
    words = f"{owned.kind} {owned.path.rpartition('.')[2]}".lower()
    if len(owned.parameter.shape) == 1 and ("norm" in words or "ln_" in words or words.endswith("ln")):
        return "norm_params"
    return "idle_params"
