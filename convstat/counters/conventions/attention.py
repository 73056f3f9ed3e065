"""Take fused attention apart: an exporter writes its products, its softmax and its scaling one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convstat.trace import KernelCall, TensorInfo, Trace

_FUSED = "aten._scaled_dot_product_"


def taken_apart(trace: Trace) -> Trace:
    """The trace with the kernels of attention on meta, whatever kernel it ran on a device."""
    if not any(_is_fused(call) for call, _ in trace.kernels()):
        return trace
    return replace(trace, root=_with_parts(trace.root))


def _is_fused(call: KernelCall) -> bool:
    return call.op.startswith(_FUSED) and not call.op.endswith("_backward") and len(call.args) > 2


def _with_parts(call: Any) -> Any:
    children: list[Any] = []
    for child in call.children:
        if not isinstance(child, KernelCall):
            children.append(_with_parts(child))
        elif _is_fused(child):
            children += parts(child)
        else:
            children.append(child)
    return replace(call, children=tuple(children))


def parts(call: KernelCall) -> list[KernelCall]:
    """The kernels that a fused one stands for; itself where its operands are no tensors of four sizes.

    >>> q = TensorInfo((1, 2, 5, 4))
    >>> fused = KernelCall("aten._scaled_dot_product_flash_attention_for_cpu", "default", (q, q, q), output=(q,))
    >>> [(part.op, part.output.shape) for part in parts(fused)][2:4]
    [('aten.bmm', (2, 5, 5)), ('aten._softmax', (1, 2, 5, 5))]
    """
    query, key, value = call.args[:3]
    operands = (query, key, value)
    if not all(isinstance(operand, TensorInfo) and len(operand.shape) == 4 for operand in operands):
        return [call]
    assert isinstance(query, TensorInfo)
    assert isinstance(key, TensorInfo)
    assert isinstance(value, TensorInfo)
    batch, heads, length, width = query.shape
    keys, dtype = key.shape[2], query.dtype

    def matrices(*sizes: int) -> TensorInfo:
        return TensorInfo((batch * heads, *sizes), dtype)

    scores = TensorInfo((batch, heads, length, keys), dtype)
    places, made = matrices(length, keys), matrices(length, value.shape[3])
    return [
        KernelCall("aten.mul", "Scalar", (query, 1.0), output=query),
        KernelCall("aten.mul", "Scalar", (key, 1.0), output=key),
        KernelCall("aten.bmm", "default", (matrices(length, width), matrices(width, keys)), output=places),
        KernelCall("aten._softmax", "default", (scores, -1, False), output=scores),
        KernelCall("aten.bmm", "default", (places, matrices(keys, value.shape[3])), output=made),
    ]
