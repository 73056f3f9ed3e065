"""What torchscan makes of a call of a module in FLOPs: two for each product, minus one, and one for the bias."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.torchscan.macs import NoFigure, adaptive_window, base_of, second_size, window
from convstat.counters.uthop.modules import integer
from convstat.trace import ModuleCall, ModuleInfo, TensorInfo, Value

Modules = Mapping[str, ModuleInfo]
Rule = Callable[[ModuleInfo, tuple[Value, ...], Value, Modules], int]

_ATTENTION = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask")
_TRANSFORMER = (
    "src",
    "tgt",
    "src_mask",
    "tgt_mask",
    "memory_mask",
    "src_key_padding_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
)


def flops(call: ModuleCall, info: ModuleInfo, output: Value, modules: Modules) -> int:
    """Price a call; ``modules`` are those of the model by their paths."""
    kind = base_of(info, RULES)
    if kind is None:
        return 0
    names = {_MHA: _ATTENTION, _ROOT: _TRANSFORMER}.get(kind, ())
    # By the places in the signature; what is left out is None there.
    inputs = (*call.args, *(call.kwargs.get(name) for name in names[len(call.args) :]))
    return RULES[kind](info, inputs if names else (*call.args, *call.kwargs.values()), output, modules)


def _tensor(inputs: tuple[Value, ...], place: int = 0) -> TensorInfo:
    value = inputs[place] if place < len(inputs) else None
    if not isinstance(value, TensorInfo):
        raise NoFigure
    return value


def _result(output: Value) -> TensorInfo:
    if not isinstance(output, TensorInfo):
        raise NoFigure
    return output


def _has(info: ModuleInfo, name: str) -> bool:
    """Whether a parameter or a tensor of that name is there."""
    return info.parameter(name) is not None or info.attributes.get(name) is not None


def _each(times: int) -> Rule:
    return lambda info, inputs, output, modules: times * _tensor(inputs).numel


def _linear(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    places = integer(info, "out_features") * prod(_tensor(inputs).shape[:-1])
    return places * (2 * integer(info, "in_features") - 1 + _has(info, "bias"))


def _dropout(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    rate = info.attributes.get("p")
    return _tensor(inputs).numel if isinstance(rate, (int, float)) and rate > 0 else 0


def _convolution(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    size = info.attributes.get("kernel_size")
    terms = prod(side for side in size if isinstance(side, int)) if isinstance(size, tuple) else 1
    terms *= second_size(_tensor(inputs)) // integer(info, "groups")
    return _result(output).numel * (2 * terms - 1 + _has(info, "bias"))


def _transposed(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    size = info.attributes.get("kernel_size")
    return 8 * (len(size) if isinstance(size, tuple) else 0) + _convolution(info, inputs, output, modules)


def _batch_norm(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    each = 4 if info.attributes.get("affine") else 2
    return 2 * integer(info, "num_features") + each * _tensor(inputs).numel


def _max_pool(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    return _result(output).numel * (window(info) - 1)


def _average_pool(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    return _result(output).numel * (window(info) - 1 + len(_tensor(inputs).shape) - 2)


def _adaptive_max(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    return _result(output).numel * (prod(adaptive_window(_tensor(inputs), _result(output))) - 1)


def _adaptive_average(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    sides = adaptive_window(_tensor(inputs), _result(output))
    return _result(output).numel * (prod(sides) - 1 + len(sides))


def _layer_norm(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    shape, numel = info.attributes.get("normalized_shape"), _tensor(inputs).numel
    row = prod(size for size in shape if isinstance(size, int)) if isinstance(shape, tuple) else 1
    return 6 * numel + 2 * (numel // row) + numel * (_has(info, "weight") + _has(info, "bias"))


def _attention(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    query, key, value = (_tensor(inputs, place) for place in range(3))
    if any(len(one.shape) != 3 for one in (query, key, value)):
        raise NoFigure
    if _has(info, "bias_k") or _has(info, "bias_v") or info.attributes.get("add_zero_attn"):
        raise NoFigure
    batch, sequence = (0, 1) if info.attributes.get("batch_first") else (1, 0)
    width, wide = integer(info, "embed_dim"), integer(info, "head_dim")
    rows = query.shape[batch] * integer(info, "num_heads") * query.shape[sequence]
    keys = key.shape[sequence]
    biased = info.parameter("in_proj_bias") is not None
    total = sum(prod(one.shape[:-1]) * width * (2 * one.shape[-1] - 1 + biased) for one in (query, key, value))
    total += 1 + rows * wide + rows * keys * (2 * wide - 1) + rows * (3 * keys - 1) + rows * wide * (2 * keys - 1)
    total += rows * keys * sum(place < len(inputs) and inputs[place] is not None for place in (3, 5))
    total += _linear(_part(info, "out_proj", modules), (query,), None, modules)
    weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    return total + (rows * keys if isinstance(weights, TensorInfo) and len(weights.shape) == 3 else 0)


def _part(info: ModuleInfo, name: str, modules: Modules) -> ModuleInfo:
    part = modules.get(f"{info.path}.{name}".lstrip("."))
    if part is None:
        raise NoFigure
    return part


def _transformer(info: ModuleInfo, inputs: tuple[Value, ...], output: Value, modules: Modules) -> int:
    """Only the whole model is priced like this, and nothing inside it is looked at."""
    sides = {name: _part(info, name, modules) for name in ("encoder", "decoder")}
    if any(base_of(side, {f"{_HOME}Transformer{name.title()}": None}) is None for name, side in sides.items()):
        raise NoFigure
    source, target = _tensor(inputs, 0), _tensor(inputs, 1)
    own = {"encoder": (source, 2, 5), "decoder": (target, 3, 6)}
    total = 0
    for name, side in sides.items():
        stream, mask, padding = own[name]
        for layer in _layers(side, modules):
            total += _self_attention(layer, stream, inputs[padding], inputs[mask], modules)
            if name == "decoder":
                crossing = (stream, source, source, inputs[7], False, inputs[4])
                total += _attention(_part(layer, "multihead_attn", modules), crossing, None, modules)
                total += _added_and_normed(layer, "norm3", stream, modules)
            total += _feed_forward(layer, stream, modules)
            total += sum(_added_and_normed(layer, norm, stream, modules) for norm in ("norm1", "norm2"))
        norm = modules.get(f"{side.path}.norm")
        if norm is not None and base_of(norm, {"torch.nn.modules.normalization.LayerNorm": None}):
            total += _layer_norm(norm, (stream,), None, modules)
    return total


def _layers(side: ModuleInfo, modules: Modules) -> list[ModuleInfo]:
    found: list[ModuleInfo] = []
    while f"{side.path}.layers.{len(found)}" in modules:
        found.append(modules[f"{side.path}.layers.{len(found)}"])
    return found


def _self_attention(layer: ModuleInfo, x: TensorInfo, padding: Value, mask: Value, modules: Modules) -> int:
    return _attention(_part(layer, "self_attn", modules), (x, x, x, padding, False, mask), None, modules)


def _added_and_normed(layer: ModuleInfo, norm: str, x: TensorInfo, modules: Modules) -> int:
    return x.numel + _layer_norm(_part(layer, norm, modules), (x,), None, modules)


def _feed_forward(layer: ModuleInfo, x: TensorInfo, modules: Modules) -> int:
    # An activation that is a module is not torch's function for ReLU, and torchscan wants that.
    if f"{layer.path}.activation" in modules or layer.attributes.get("activation_relu_or_gelu", 1) != 1:
        raise NoFigure
    first, second = _part(layer, "linear1", modules), _part(layer, "linear2", modules)
    hidden = prod(x.shape[:-1]) * integer(first, "out_features")
    return _linear(first, (x,), None, modules) + hidden + _linear(second, (x,), None, modules)


_HOME = "torch.nn.modules.transformer."
_MHA = "torch.nn.modules.activation.MultiheadAttention"
_ROOT = f"{_HOME}Transformer"
_NAMES: dict[str, Rule] = {
    "linear.Identity": _each(0),
    "flatten.Flatten": _each(0),
    "linear.Linear": _linear,
    "activation.ReLU": _each(1),
    "activation.ELU": _each(6),
    "activation.LeakyReLU": _each(4),
    "activation.ReLU6": _each(2),
    "activation.Tanh": _each(6),
    "activation.Sigmoid": _each(4),
    "conv._ConvTransposeNd": _transposed,
    "conv._ConvNd": _convolution,
    "batchnorm._BatchNorm": _batch_norm,
    "pooling._MaxPoolNd": _max_pool,
    "pooling._AvgPoolNd": _average_pool,
    "pooling._AdaptiveMaxPoolNd": _adaptive_max,
    "pooling._AdaptiveAvgPoolNd": _adaptive_average,
    "dropout.Dropout": _dropout,
    "activation.MultiheadAttention": _attention,
    "normalization.LayerNorm": _layer_norm,
    "transformer.Transformer": _transformer,
}
RULES: Mapping[str, Rule] = MappingProxyType({f"torch.nn.modules.{name}": rule for name, rule in _NAMES.items()})
"""Full name of a class -> the FLOPs of a call of it, or of a class made of it."""
