"""The figures of a model that takes tokens: what each token costs, which parameters it touches, and what is cached.

Every figure is computed from the trace of the model and from the cache that it gives back; none is from a table of
architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, ClassVar

from convstat.results.documents.codec import SPARSE, Count, Keys, OneOf, Ratio, Shape

Bytes = Annotated[Count, "bytes"]

HOW = ("kernel", "mask", "module")
"""From what it is known which pairs of a query and a key a mask discards, the surest first."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Routed experts: each token is sent to ``chosen`` of ``experts``, in so many ``layers``.

    ``params`` are those of all the experts of these layers, ``active_params`` what of them one token touches:
    params x chosen / experts.
    """

    KEYS: ClassVar = Keys(name="routing")
    experts: Count
    chosen: Count
    layers: Count
    params: Count
    active_params: Count


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The parameters of embeddings, each tensor once.

    ``token_params`` are tables that tokens are looked up in, ``position_params`` tables of learned positions,
    ``other_params`` all other tables that something is looked up in, and ``head_params`` the weight of an output
    projection to the vocabulary that is not one of the tables of tokens; where it is, ``is_tied``.
    """

    KEYS: ClassVar = Keys("token_params position_params other_params head_params tied=is_tied", name="embeddings")
    token_params: Count = 0
    position_params: Count = 0
    other_params: Count = 0
    head_params: Count = 0
    is_tied: bool = False


@dataclass(frozen=True, slots=True)
class Attention:
    """The products of scores and of values, in a forward pass.

    ``macs`` multiply every query with every key; ``causal_macs`` leave out the pairs that a mask discards.
    ``known_from`` says from what these are known: the arguments of the kernels (``kernel``), the values of the masks
    that the model made (``mask``), or what its modules and its configuration say (``module``).
    ``calls`` is how often attention is computed, ``keys`` the most keys that a query is multiplied with.
    """

    KEYS: ClassVar = Keys(name="attention_share")
    calls: Count
    keys: Count
    macs: Count
    causal_macs: Count
    known_from: Annotated[str, OneOf(*HOW)]


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the MACs of a forward pass grow with the length T: constant + linear x T + quadratic x T^2, exactly.

    They are found by tracing the model at the ``lengths``; a fourth one confirms that there is no other term.
    """

    KEYS: ClassVar = Keys(name="scaling")
    constant: Annotated[Ratio, "such as the logits of the last token, where those alone are computed"]
    linear: Ratio
    quadratic: Ratio
    lengths: tuple[Count, ...]

    def share(self, length: int) -> Fraction:
        """The part of the quadratic term in the MACs at a length."""
        # A document has no fractions.
        quadratic = Fraction(self.quadratic) * length**2
        whole = Fraction(self.constant) + Fraction(self.linear) * length + quadratic
        return quadratic / whole if whole else Fraction(0)


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """What one layer holds from step to step, of one kind.

    ``kind`` is ``keys and values`` of the tokens themselves, ``window`` where only those of the last tokens are held,
    ``static`` where room for a fixed number is, ``cross`` where they are of the encoder, and ``state`` where the size
    does not depend on the length. ``class_name`` is the class that holds it. ``length`` is how many positions are held,
    and ``bytes_per_token`` what the next token of each sequence adds.
    """

    KEYS: ClassVar = Keys("layer kind class=class_name shapes dtype length bytes bytes_per_token", name="cache_layer")
    layer: Count
    kind: Annotated[str, OneOf("keys and values", "window", "static", "cross", "state")]
    class_name: str
    shapes: Annotated[tuple[Shape, ...], "of its tensors, the batch included"]
    dtype: str
    length: Count
    bytes: Bytes
    bytes_per_token: Annotated[Count, "bytes that one more token of one sequence adds"]


@dataclass(frozen=True, slots=True)
class Cache:
    """What the model holds from step to step after this pass: its own cache, as it gave it back."""

    KEYS: ClassVar = Keys("bytes bytes_per_token by_dtype layers", name="held_cache")
    layers: tuple[CacheLayer, ...]

    @property
    def bytes(self) -> Bytes:
        """The bytes of all layers, for the whole batch."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def bytes_per_token(self) -> Annotated[Count, "bytes that one more token of one sequence adds"]:
        """The bytes that one more token of one sequence adds."""
        return sum(layer.bytes_per_token for layer in self.layers)

    @property
    def by_dtype(self) -> Annotated[Mapping[str, Bytes], "bytes by the type of the elements"]:
        """The bytes by dtype."""
        found: dict[str, int] = {}
        for layer in self.layers:
            found[layer.dtype] = found.get(layer.dtype, 0) + layer.bytes
        return found


@dataclass(frozen=True, slots=True)
class Training:
    """The MACs of one step of training, without the optimizer: as traced, forward and backward.

    ``recomputed_macs`` are those of forward kernels that run again in the backward pass, where modules are
    checkpointed; ``checkpoint`` are the patterns of modules that were asked to be.
    """

    KEYS: ClassVar = Keys("forward_macs backward_macs recomputed_macs macs flops checkpoint", name="training")
    forward_macs: Count
    backward_macs: Count
    recomputed_macs: Count = 0
    checkpoint: Annotated[tuple[str, ...], SPARSE, "the modules that were checkpointed by --checkpoint"] = ()

    @property
    def macs(self) -> Count:
        """All MACs of the step."""
        return self.forward_macs + self.backward_macs + self.recomputed_macs

    @property
    def flops(self) -> Count:
        """Twice the MACs."""
        return 2 * self.macs


@dataclass(frozen=True, slots=True)
class Language:
    """What a model costs by tokens.

    ``tokens`` are those of the batch, ``basis`` says of which input. ``macs`` are those of the forward pass.
    ``active_params`` are what one token touches: all parameters that the pass reads, and of routed experts the part
    that ``routing`` chooses. ``cache`` is None where the model gives none back, ``training`` and ``scaling`` where they
    were not asked for.
    """

    KEYS: ClassVar = Keys(
        "tokens basis macs macs_per_token params active_params embeddings routing attention attention_share "
        "macs_causal cache kv_cache_bytes training training_flops_per_token scaling notes",
        name="language",
    )
    tokens: Annotated[Count, "batch x sequence of the main input"]
    basis: Annotated[str, "what the tokens are, in words"]
    macs: Annotated[Count, "of the forward pass"]
    params: Count
    active_params: Count
    embeddings: Embeddings = Embeddings()
    routing: tuple[Routing, ...] = ()
    attention: Attention | None = None
    cache: Annotated[Cache | None, "null where the model gives none back"] = None
    training: Annotated[Training | None, "null where it was not asked for"] = None
    scaling: Annotated[Scaling | None, "null where it was not asked for, or the MACs are no such polynomial"] = None
    notes: tuple[str, ...] = ()

    @property
    def macs_per_token(self) -> Annotated[Ratio, "macs / tokens"]:
        """MACs of the forward pass / tokens, exactly."""
        return Fraction(self.macs, self.tokens)

    @property
    def attention_share(self) -> Annotated[Ratio, "the products of attention / macs"]:
        """The part of attention in the MACs of the forward pass."""
        return Fraction(self.attention.macs, self.macs) if self.attention and self.macs else Fraction(0)

    @property
    def macs_causal(self) -> Annotated[Count, "macs without the products that a mask discards"]:
        """The MACs without the pairs of a query and a key that a mask discards."""
        return self.macs - (self.attention.macs - self.attention.causal_macs if self.attention else 0)

    @property
    def kv_cache_bytes(self) -> Annotated[Count | None, "bytes of the cache after this pass"]:
        """The bytes of the cache; None where there is none."""
        return None if self.cache is None else self.cache.bytes

    @property
    def training_flops_per_token(self) -> Annotated[Ratio | None, "2 x MACs of a training step / tokens"]:
        """FLOPs of forward, backward and recomputation / tokens, exactly; None where they were not asked for."""
        return None if self.training is None else Fraction(self.training.flops, self.tokens)
