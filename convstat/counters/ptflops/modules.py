"""What the module hooks of ptflops' ``pytorch`` backend add, one rule for each exact type.

A rule takes a call and its module and gives parts: ``(code, amount)``, which sum to what the hook adds.
The part without a code is the layer's own multiply-accumulates, as they are; what the hook's formula makes more or less
of them has the code of its mistake. See :mod:`convstat.counters.causes`.
Amounts are those of the whole batch, as the hooks add them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.counters.layer_work import first_input
from convstat.counters.products import Kernel
from convstat.trace import ModuleCall, ModuleInfo, TensorInfo, Trace

Part = tuple[str | None, int]
Rule = Callable[[ModuleCall, ModuleInfo, Trace], list[Part]]


def _output(call: ModuleCall, info: ModuleInfo) -> TensorInfo:
    if not isinstance(call.output, TensorInfo):
        raise PredictedFailure(f"AttributeError: {info.path or 'the model'} does not return a tensor")
    return call.output


def _integer(info: ModuleInfo, name: str) -> int:
    value = info.attributes.get(name)
    if not isinstance(value, int):
        raise PredictedFailure(f"AttributeError: {info.path or 'the model'} has no {name}")
    return value


def _has(info: ModuleInfo, name: str) -> bool:
    return info.attributes.get(name) is not None


def _size(shape: tuple[int, ...], axis: int, info: ModuleInfo) -> int:
    if axis >= len(shape):
        raise PredictedFailure(f"IndexError: {info.path or 'the model'} gets an input without a batch")
    return shape[axis]


def _conv(call: ModuleCall, info: ModuleInfo, extra: int = 0, transposed: bool = False) -> list[Part]:
    source, output = first_input(call, info), _output(call, info)
    kernel = info.attributes["kernel_size"]
    if not isinstance(kernel, tuple):
        raise PredictedFailure(f"TypeError: the kernel size of {info.path or 'the model'} is no tuple")
    taps = prod(size for size in kernel if isinstance(size, int))
    batch = _size(source.shape, 0, info)
    places = source if transposed else output
    positions = batch * prod(places.shape[2:])
    macs = taps * _integer(info, "in_channels") * (_integer(info, "out_channels") // _integer(info, "groups"))
    # Without a batch, the first size is that of the channels.
    true = positions if len(source.shape) == len(kernel) + 2 else prod(places.shape[1:])
    parts: list[Part] = [(None, macs * true), ("unbatched", macs * (positions - true))]
    if extra:
        parts.append(("deform_sampling", taps * extra * positions))
    if _has(info, "bias"):
        parts.append(("bias", batch * prod(output.shape[1:])))
    return parts


def _convolution(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    return _conv(call, info)


def _transposed(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    return _conv(call, info, transposed=True)


def _deformable(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    masked = len(call.args) == 3 and call.args[2] is not None
    return _conv(call, info, extra=25 if masked else 24)


def _linear(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    source, output = first_input(call, info), _output(call, info)
    positions = prod(source.shape[:-1])
    parts: list[Part] = [(None, source.shape[-1] * output.shape[-1] * positions)]
    if _has(info, "bias"):
        parts.append(("bias", output.shape[-1] * positions))
    return parts


def _activation(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    return [("activation", _output(call, info).numel)]


def _pool(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    return [("pool", first_input(call, info).numel)]


def _norm(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    # LayerNorm has elementwise_affine instead of affine, and so is never counted with its scale and shift.
    return [("norm", first_input(call, info).numel * (2 if info.attributes.get("affine") else 1))]


def _upsample(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    # The hook takes output[0] for the tensor in a tuple; it is the first sample of the batch.
    whole = _output(call, info).numel
    counted = prod(_output(call, info).shape[1:])
    return [("upsample", whole), ("upsample_first_sample", counted - whole)]


_ELEMENTWISE = {"RNN": 1, "GRU": 7, "LSTM": 10}


def _recurrent_parts(info: ModuleInfo, kind: str, suffixes: list[str], times: int, steps: int) -> list[Part]:
    """``times`` are the steps of all samples and directions as the hook takes them, ``steps`` as they are."""
    weights = biases = 0
    for suffix in suffixes:
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            if name.startswith("bias") and not info.attributes.get("bias"):
                continue
            parameter = info.parameter(name + suffix)
            if parameter is None:
                raise PredictedFailure(f"AttributeError: {info.path or 'the model'} has no parameter {name + suffix}")
            if name.startswith("bias"):
                biases += parameter.numel
            else:
                weights += parameter.numel
    gates = len(suffixes) * _ELEMENTWISE[kind] * _integer(info, "hidden_size")
    projections = sum(p.numel for suffix in suffixes if (p := info.parameter("weight_hr" + suffix)) is not None)
    return [
        (None, (weights + projections) * steps),
        ("rnn_projection", -projections * steps),
        ("unbatched", weights * (times - steps)),
        ("bias", biases * times),
        ("rnn_elementwise", gates * times),
    ]


def _recurrent(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    source = first_input(call, info)
    ways = 2 if info.attributes.get("bidirectional") else 1
    times = ways * _size(source.shape, 0, info) * _size(source.shape, 1, info)
    layers = [f"_l{layer}" for layer in range(_integer(info, "num_layers"))]
    return _recurrent_parts(info, info.type.rpartition(".")[2], layers, times, ways * prod(source.shape[:-1]))


def _recurrent_cell(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    source = first_input(call, info)
    _size(source.shape, 1, info)
    kind = info.type.rpartition(".")[2].removesuffix("Cell")
    return _recurrent_parts(info, kind, [""], source.shape[0], prod(source.shape[:-1]))


def _attention(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    name = info.path or "the model"
    if len(call.args) != 3:
        raise PredictedFailure(
            f"ValueError: its rule unpacks three positional inputs, and {name} is called with {len(call.args)}"
        )
    query, key, value = call.args
    if not (isinstance(query, TensorInfo) and isinstance(key, TensorInfo) and isinstance(value, TensorInfo)):
        raise PredictedFailure(f"AttributeError: {name} does not get tensors")
    if min(len(query.shape), len(key.shape), len(value.shape)) < 3:
        raise PredictedFailure(f"IndexError: {name} gets an input without a batch")
    batch_axis, length_axis = (0, 1) if info.attributes.get("batch_first") else (1, 0)
    batch = query.shape[batch_axis]
    q_len, k_len, v_len = (tensor.shape[length_axis] for tensor in (query, key, value))
    q_dim, k_dim, v_dim = (tensor.shape[2] for tensor in (query, key, value))
    if q_dim != info.attributes.get("embed_dim"):
        raise PredictedFailure(f"AssertionError: the queries of {name} are not of its embed_dim")
    heads = _integer(info, "num_heads")
    # Keys and values are projected to the width of the queries, and so is the output; the hook takes all projections to
    # be square, and the heads of the values to be a part of the values' own width.
    true = q_len * q_dim * q_dim + k_len * k_dim * q_dim + v_len * v_dim * q_dim + q_len * q_dim * q_dim
    macs = q_len * q_dim * q_dim + k_len * k_dim * k_dim + v_len * v_dim * v_dim + q_len * v_dim * v_dim
    macs += heads * q_len * k_len * (v_dim // heads - q_dim // heads)
    scores = 2 * heads * q_len * k_len * (q_dim // heads)
    # A learned pair of key and value, or one of zeros, is added to those that come in.
    added = (info.parameter("bias_k") is not None) + bool(info.attributes.get("add_zero_attn"))
    more = 2 * heads * q_len * added * (q_dim // heads)
    projection = next((trace.modules[i] for i in info.children if trace.modules[i].path.endswith("out_proj")), None)
    biased = projection is None or _has(projection, "bias")
    parts: list[Part] = [
        (None, (true + scores + more) * batch),
        ("attention_projection", (macs - true) * batch),
        ("attention_added_keys", -more * batch),
        ("attention_scale", q_len * q_dim * batch),
        ("softmax", heads * q_len * k_len * batch),
        ("bias" if biased else "bias_absent", q_len * v_dim * batch),
    ]
    if info.parameter("in_proj_bias") is not None:
        parts.append(("bias", (q_len + k_len + v_len) * q_dim * batch))
    return parts


def _timm_attention(call: ModuleCall, info: ModuleInfo, trace: Trace) -> list[Part]:
    batch, length, _ = first_input(call, info).shape
    heads, head_dim = _integer(info, "num_heads"), _integer(info, "head_dim")
    return [
        (None, batch * heads * 2 * length * length * head_dim),
        ("attention_scale", batch * heads * length * head_dim),
        ("softmax", batch * heads * length * length),
    ]


def _table() -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for dims in "123":
        table[f"conv.Conv{dims}d"] = _convolution
        table[f"conv.ConvTranspose{dims}d"] = _transposed
        table[f"batchnorm.BatchNorm{dims}d"] = table[f"instancenorm.InstanceNorm{dims}d"] = _norm
        for pool in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool"):
            table[f"pooling.{pool}{dims}d"] = _pool
    for name in ("ReLU", "PReLU", "ELU", "LeakyReLU", "ReLU6", "GELU"):
        table[f"activation.{name}"] = _activation
    table["normalization.GroupNorm"] = table["normalization.LayerNorm"] = _norm
    table["linear.Linear"] = _linear
    table["upsampling.Upsample"] = _upsample
    for kind in _ELEMENTWISE:
        table[f"rnn.{kind}"] = _recurrent
        table[f"rnn.{kind}Cell"] = _recurrent_cell
    table["activation.MultiheadAttention"] = _attention
    return {
        **{f"torch.nn.modules.{name}": rule for name, rule in table.items()},
        "torchvision.ops.deform_conv.DeformConv2d": _deformable,
        # Where timm is installed, ptflops takes its attention for a leaf: the layers inside are not counted.
        "timm.layers.attention.Attention": _timm_attention,
        "timm.models.vision_transformer.Attention": _timm_attention,
    }


RULES: Mapping[str, Rule] = MappingProxyType(_table())
"""Full name of the exact class -> what its hook adds."""


_FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "Linear": "linear",
        "MultiheadAttention": "multi_head_attention_forward",
        **{f"Conv{dims}d": f"conv{dims}d" for dims in "123"},
        **{f"ConvTranspose{dims}d": f"conv_transpose{dims}d" for dims in "123"},
    }
)
"""The function of torch.nn.functional in which a module makes its products; what runs beside it is a hook's."""


def is_own(info: ModuleInfo) -> Callable[[Kernel], bool]:
    """Tell the kernels that a call of a module runs itself from those of its hooks and of the modules inside it."""
    function = _FUNCTIONS.get(info.type.rpartition(".")[2])
    if function is None:
        return lambda kernel: kernel.layer == info.path
    around = (f"torch.nn.functional.{function}",)
    # The fast path of attention is a kernel that is called by the module.
    return lambda kernel: (
        kernel.module == info.index
        and (kernel.functions[:1] == around or kernel.call.op == "aten._native_multi_head_attention")
    )
