"""The hyperparameters that a formula reads: from the model's own config, and from what was traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from convstat.counters.base import Inapplicable
from convstat.trace import ModuleCall, TensorInfo

_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # transformers; its older models and nanoGPT; hand-written ones.
        "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "hidden": ("hidden_size", "n_embd", "d_model", "dim", "hidden_dim"),
        "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
        "kv_heads": ("num_key_value_heads", "n_query_groups", "n_kv_heads", "num_kv_heads", "num_query_groups"),
        "head_dim": ("head_dim", "head_size", "kv_channels", "d_head"),
        "ffn": ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff"),
        "vocabulary": ("padded_vocab_size", "vocab_size"),
        "experts": ("num_local_experts", "num_experts", "n_routed_experts", "n_expert", "moe_num_experts"),
        "chosen": ("num_experts_per_tok", "n_expert_per_token", "num_experts_per_token", "moe_topk", "moe_k", "top_k"),
        "expert_ffn": ("moe_intermediate_size",),
        "shared": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
        "shared_ffn": ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"),
        "query_rank": ("q_lora_rank",),
        "latent": ("kv_lora_rank",),
        "plain_dim": ("qk_nope_head_dim",),
        "rotary_dim": ("qk_rope_head_dim",),
        "value_dim": ("v_head_dim",),
        "window": ("sliding_window",),
        "positions": ("block_size", "n_positions", "max_position_embeddings", "max_seq_len"),
    }
)
"""What a hyperparameter is called in configs, the name that is read first before the others."""

NEEDED = ("layers", "hidden", "heads", "vocabulary")
"""Without these there is no formula."""

_HOLDERS = ("config", "cfg", "args", "params", "hparams")
"""Attributes of a model in which its config is looked for."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """A decoder as its config describes it; ``origin`` says of each figure where it was read.

    ``tokens`` is the length of each of the ``batch`` sequences of the traced call. ``latent`` and the four after it are
    those of latent attention (DeepSeek), 0 where there is none.
    """

    config: Any = field(repr=False, compare=False)
    batch: int
    tokens: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    experts: int = 0
    chosen: int = 0
    expert_ffn: int = 0
    shared: int = 0
    shared_ffn: int = 0
    query_rank: int = 0
    latent: int = 0
    plain_dim: int = 0
    rotary_dim: int = 0
    value_dim: int = 0
    window: int = 0
    positions: int = 0
    origin: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def every_token(self) -> int:
        """The tokens of all sequences."""
        return self.batch * self.tokens

    @property
    def query_width(self) -> int:
        """What a query and a key multiply, in all heads together."""
        return self.heads * (self.plain_dim + self.rotary_dim if self.latent else self.head_dim)

    @property
    def value_width(self) -> int:
        """What the scores and the values multiply, in all heads together."""
        return self.heads * (self.value_dim if self.latent else self.head_dim)

    @property
    def projections(self) -> int:
        """The weights of a layer's projections: queries, keys, values and output, compressed where they are latent."""
        if not self.latent:
            own = self.heads * self.head_dim
            return self.hidden * (own + 2 * self.kv_heads * self.head_dim) + own * self.hidden
        query = self.hidden * self.query_width
        if self.query_rank:
            query = self.query_rank * (self.hidden + self.query_width)
        keys = self.hidden * (self.latent + self.rotary_dim)
        return (
            query + keys + self.latent * self.heads * (self.plain_dim + self.value_dim) + self.value_width * self.hidden
        )

    def has(self, name: str) -> bool:
        """Whether the config itself has a field of that name, and a value in it."""
        return _get(self.config, name) is not None


def read(model: Any, root: ModuleCall) -> Hyperparameters:
    """Read a model's hyperparameters; ``root`` is the traced call.

    Raises Inapplicable where there is no config of a decoder, or no token ids went in.
    """
    path, config = _config(model)
    batch, tokens = sequences(root)
    if _get(config, "is_encoder_decoder"):
        raise Inapplicable("it needs a decoder alone, and this model has an encoder too")
    origin = {name: f"{path}.{found}" for name in _NAMES if (found := _name(config, name)) is not None}

    def value(name: str, default: int) -> int:
        found = _name(config, name)
        if found is None:
            return default
        number = _get(config, found)
        return number if isinstance(number, int) and not isinstance(number, bool) else default

    hidden, heads = value("hidden", 0), value("heads", 0)
    if not heads or not hidden:
        raise Inapplicable(f"it needs a hidden size and heads, and {path} has {hidden} and {heads}")
    one_key = bool(_get(config, "multi_query")) and not _get(config, "new_decoder_architecture")
    experts = value("experts", 0)
    ffn = value("ffn", 4 * hidden)
    expert_ffn = value("expert_ffn", ffn) if experts > 1 else 0
    shared = value("shared", 0) if experts > 1 else 0
    shared_ffn = value("shared_ffn", shared * expert_ffn) if experts > 1 else 0
    latent = value("latent", 0) if value("plain_dim", 0) else 0
    origin = {**dict.fromkeys(("batch", "tokens"), "the traced call"), **origin}
    if "ffn" not in origin:
        origin["ffn"] = "4 x the hidden size: the config has none"
    return Hyperparameters(
        config,
        batch,
        tokens,
        layers=value("layers", 0),
        hidden=hidden,
        heads=heads,
        kv_heads=1 if one_key else value("kv_heads", heads),
        head_dim=value("head_dim", hidden // heads),
        ffn=ffn,
        vocabulary=value("vocabulary", 0),
        experts=experts if experts > 1 else 0,
        chosen=value("chosen", 1) if experts > 1 else 0,
        expert_ffn=expert_ffn,
        shared=shared,
        shared_ffn=shared_ffn,
        query_rank=value("query_rank", 0) if latent else 0,
        latent=latent,
        plain_dim=value("plain_dim", 0) if latent else 0,
        rotary_dim=value("rotary_dim", 0) if latent else 0,
        value_dim=value("value_dim", 0) if latent else 0,
        window=value("window", 0),
        positions=value("positions", 0),
        origin=MappingProxyType(origin),
    )


def _get(config: Any, name: str) -> Any:
    """A field of a config, which may be an object or a dict."""
    if isinstance(config, Mapping):
        return config.get(name)
    return getattr(config, name, None)


def _name(config: Any, wanted: str) -> str | None:
    return next((name for name in _NAMES[wanted] if _get(config, name) is not None), None)


def _configs(model: Any) -> Iterator[tuple[str, Any]]:
    """What may be a model's config, and where it hangs; that of a wrapped model after the wrapper's."""
    for path, module in model.named_modules():
        for holder in _HOLDERS:
            config = vars(module).get(holder)
            if config is None:
                continue
            where = f"{path}.{holder}" if path else holder
            yield where, config
            text = _get(config, "text_config")
            if text is not None:
                yield f"{where}.text_config", text


def _config(model: Any) -> tuple[str, Any]:
    """The first config that describes a decoder, and its place."""
    nearest: tuple[list[str], str] | None = None
    for path, config in _configs(model):
        lacking = [name for name in NEEDED if _name(config, name) is None]
        if not lacking:
            return path, config
        if nearest is None or len(lacking) < len(nearest[0]):
            nearest = lacking, path
    words = ", ".join(f"{_NAMES[name][-1 if name == 'vocabulary' else 0]}" for name in NEEDED)
    if nearest is None:
        raise Inapplicable(f"it needs the config of a language model ({words}), and this model has no config")
    lacking, path = nearest
    missing = " or ".join("/".join(_NAMES[name]) for name in lacking)
    raise Inapplicable(f"it needs the config of a language model ({words}), and {path} has no {missing}")


_WHOLE = ("int64", "int32", "int16", "uint8")


def sequences(root: ModuleCall) -> tuple[int, int]:
    """How many sequences went in, and how long each of them is; raises Inapplicable where no token ids did."""
    named = root.kwargs.get("input_ids")
    values = (named, *root.args, *root.kwargs.values())
    for value in values:
        if isinstance(value, TensorInfo) and value.dtype in _WHOLE and 1 <= len(value.shape) <= 2 and value.numel:
            return (1, value.shape[0]) if len(value.shape) == 1 else (value.shape[0], value.shape[1])
    embedded = root.kwargs.get("inputs_embeds")
    if isinstance(embedded, TensorInfo) and len(embedded.shape) == 3:
        return embedded.shape[0], embedded.shape[1]
    raise Inapplicable("it needs token ids as input: whole numbers of (batch, tokens)")
