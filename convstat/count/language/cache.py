"""What a model holds from step to step, by layer and in bytes."""

from __future__ import annotations

from collections.abc import Sequence

from convstat.count.packed import item_bytes
from convstat.results.language import Cache, CacheLayer
from convstat.trace.calls import StateTensor

_STATE = ("conv_state", "recurrent_state", "ssm_state", "rnn_state", "hidden_state", "lstm", "gru")


def measure(state: Sequence[StateTensor], batch: int, lengths: Sequence[int]) -> Cache | None:
    """Sum up what is held; ``lengths`` are those that a whole context may have: the keys that queries saw."""
    groups: dict[tuple[str, int, str, str], list[StateTensor]] = {}
    for tensor in state:
        kind = _kind(tensor, lengths)
        groups.setdefault((_side(tensor), tensor.layer, kind, tensor.tensor.dtype), []).append(tensor)
    layers = [_layer(kind, held, batch, lengths) for (_, _, kind, _), held in groups.items()]
    return Cache(tuple(layers)) if layers else None


def _side(tensor: StateTensor) -> str:
    return "cross" if "cross" in tensor.path else ""


def _kind(tensor: StateTensor, lengths: Sequence[int]) -> str:
    path = tensor.path.lower()
    if _side(tensor):
        return "cross"
    length = _length(tensor, lengths)
    if any(name in path for name in _STATE) or (length is None and tensor.most is None):
        return "state"
    if tensor.most is None:
        return "keys and values"
    return "static" if "static" in tensor.kind.lower() or length is None or _is_buffer(tensor) else "window"


def _is_buffer(tensor: StateTensor) -> bool:
    """Whether it is a buffer of a module, which has its whole length from the start."""
    return "[" not in tensor.path


def _length(tensor: StateTensor, lengths: Sequence[int]) -> int | None:
    """The positions that it holds: the size of the dimension that is one of the lengths, or is bounded."""
    shape, most = tensor.tensor.shape, tensor.most
    if most is not None and len(shape) > 2 and shape[-2] <= most:
        return shape[-2]
    inner = (*shape[1:-1][::-1], shape[-1]) if len(shape) > 3 else shape[1:]
    wanted = lengths if most is None else (most, *lengths)
    return next((size for size in inner if size in wanted), None)


def _layer(kind: str, held: Sequence[StateTensor], batch: int, lengths: Sequence[int]) -> CacheLayer:
    size = sum(tensor.tensor.numel * item_bytes(tensor.tensor.dtype) for tensor in held)
    found = [length for tensor in held if (length := _length(tensor, lengths)) is not None]
    if kind == "cross":
        found = [tensor.tensor.shape[-2] for tensor in held if len(tensor.tensor.shape) > 2]
    length = max(found, default=0)
    grows = kind == "keys and values" or (kind == "window" and length + 1 < (held[0].most or 0))
    per_token = size // (length * batch) if grows and length and batch else 0
    return CacheLayer(
        held[0].layer,
        kind,
        held[0].kind,
        tuple(tensor.tensor.shape for tensor in held),
        held[0].tensor.dtype,
        0 if kind == "state" else length,
        size,
        per_token,
    )
