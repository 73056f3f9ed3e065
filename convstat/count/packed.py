"""Linear maps whose weights are packed: how many weights there are, and in how many bytes they are stored.

bitsandbytes, GPTQ, AWQ and their like store several weights of a few bits in one element of an integer tensor, with
scales and zeros beside it. Its elements are no count of the weights: that is ``in_features x out_features``. Such
modules are known by the names of their classes and of the tensors that they hold, so that no package need be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from convstat.count.ops.base import tensors
from convstat.trace.calls import BufferInfo, ModuleInfo, ParameterInfo

_CLASS = re.compile(
    r"Linear(?:4bit|8bitLt|FP4|NF4)|\w*QuantLinear\w*|WQLinear\w*|HQQLinear\w*|CompressedLinear|VptqQuantLinear"
    r"|(?:Marlin|ExllamaV2?|Triton|Torch\w*|Machete|BitBLAS)\w*Linear\w*"
)
"""The classes of bitsandbytes, AutoGPTQ, GPTQModel, AutoAWQ, HQQ and compressed-tensors."""

_WEIGHTS = ("qweight", "weight_packed", "W_q", "weight", "B", "Qweight")
"""What the packed tensor is called."""

_IN = ("in_features", "infeatures", "input_features", "in_feature")
_OUT = ("out_features", "outfeatures", "output_features", "out_feature")
_BESIDE = ("quant_state", "meta")
"""Attributes that hold scales which are not registered."""

_ITEM_BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "complex64": 8,
    "complex128": 16,
    "int64": 8,
    "int32": 4,
    "int16": 2,
}


def item_bytes(dtype: str) -> int:
    """The bytes of one element: 1 for the 8-bit types, float8, int8, uint8, quint8 and bool."""
    return _ITEM_BYTES.get(dtype, 1)


_WHOLE = ("int8", "uint8", "int16", "int32", "int64")


@dataclass(frozen=True, slots=True)
class Packed:
    """A module with packed weights: ``params`` are its weights and biases, ``stored_bytes`` what all its tensors take.

    ``elements`` are those of the parameters that torch sees; ``trainable`` is how many params training updates.
    """

    params: int
    stored_bytes: int
    elements: int
    trainable: int

    @property
    def note(self) -> str:
        """What is said of it."""
        return f"packed weights: {self.params:,} params are stored in {self.stored_bytes:,} bytes"


def unpacked(module: ModuleInfo) -> Packed | None:
    """What a module holds in packed form; None where its weights are elements as any others."""
    if _CLASS.fullmatch(module.type.rpartition(".")[2]) is None:
        return None
    held = {tensor.name: tensor for tensor in _held(module)}
    weight = next((held[name] for name in _WEIGHTS if name in held), None)
    inner, outer = (
        next((value for name in names if type(value := module.attributes.get(name)) is int), 0) for names in (_IN, _OUT)
    )
    if weight is None or weight.dtype not in _WHOLE or not inner * outer:
        return None
    bias = held["bias"].numel if "bias" in held else 0
    stored = sum(tensor.numel * item_bytes(tensor.dtype) for tensor in held.values())
    stored += sum(
        tensor.numel * item_bytes(tensor.dtype) for name in _BESIDE for tensor in tensors(module.attributes.get(name))
    )
    return Packed(
        inner * outer + bias,
        stored,
        sum(parameter.numel for parameter in module.parameters),
        sum(parameter.numel for parameter in module.parameters if parameter.requires_grad),
    )


def _held(module: ModuleInfo) -> Iterator[ParameterInfo | BufferInfo]:
    yield from module.parameters
    yield from module.buffers
