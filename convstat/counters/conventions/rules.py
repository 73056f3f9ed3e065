"""Rules for kernels that several conventions share, and how a table of them is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from convstat.counters.conventions.convolution import KERNELS as CONVOLUTIONS
from convstat.counters.conventions.convolution import Convolution
from convstat.counters.kernel_walk import Part, Rule
from convstat.counters.products import FORMULAS, products
from convstat.trace import KernelCall, ListInfo, TensorInfo, Value


def result(call: KernelCall) -> TensorInfo | None:
    """The first tensor that comes out."""
    values = call.output if isinstance(call.output, tuple) else (call.output,)
    return next((value for value in values if isinstance(value, TensorInfo)), None)


def elements(call: KernelCall) -> int:
    """The elements of the first tensor that comes out."""
    made = result(call)
    return made.numel if made is not None else 0


def source_elements(call: KernelCall) -> int:
    """The elements of the first operand."""
    source = call.args[0] if call.args else None
    return source.numel if isinstance(source, TensorInfo) else 0


def items(value: Value) -> tuple[Value, ...]:
    """The items of a list or tuple; a single value is one item."""
    return value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else (value,)


def for_each(code: str, times: int = 1) -> Rule:
    """So many operations for each element that comes out."""
    return lambda call: [(code, times * elements(call))]


def window(call: KernelCall) -> int:
    """The taps of a pooling window."""
    size = 1
    for side in items(call.args[1] if len(call.args) > 1 else call.kwargs.get("kernel_size")):
        size *= side if isinstance(side, int) else 1
    # One number stands for all sides.
    made = result(call)
    spatial = 3 if "3d" in call.op else 2 if "2d" in call.op else 1
    return size**spatial if made is not None and len(items(call.args[1])) == 1 and spatial > 1 else size


def for_each_tap(code: str) -> Rule:
    """One operation for each tap of the window of each element that comes out."""
    return lambda call: [(code, window(call) * elements(call))]


def _as_they_are(call: KernelCall) -> list[Part]:
    return [(None, products(call))]


def table(*parts: Mapping[str, Rule]) -> Mapping[str, Rule]:
    """Rules by kernel, the later ones over the earlier; a kernel that writes in place has the rule of the other."""
    found: dict[str, Rule] = {}
    for part in parts:
        for name, rule in part.items():
            found[name] = rule
            found[f"{name}_"] = rule
    return MappingProxyType(found)


def kernels(names: Iterable[str] | str, rule: Rule) -> dict[str, Rule]:
    """The same rule for several kernels of aten."""
    return {f"aten.{name}": rule for name in (names.split() if isinstance(names, str) else names)}


EVERY_PRODUCT: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(FORMULAS, _as_they_are))
"""All products, as the shapes of the operands say."""


def convolutions(rule: Rule) -> dict[str, Rule]:
    """A rule for the kernels of convolutions."""
    return dict.fromkeys(CONVOLUTIONS, rule)


def inside(call: KernelCall) -> list[Part]:
    """The products of a convolution whose taps fall on values; what the others come to has a code."""
    convolution = Convolution.of(call)
    own = convolution.products
    code = "cropped_taps" if convolution.is_transposed else "padding_taps"
    return [(None, own), (code, convolution.products_inside - own)]


SIGMOIDS = "sigmoid"
RELUS = "relu relu6"
ADDITIONS = "add sub rsub"
MULTIPLICATIONS = "mul"
MAX_POOLS = (
    "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "mkldnn_max_pool2d"
)
AVERAGE_POOLS = "avg_pool1d avg_pool2d avg_pool3d"
GLOBAL_AVERAGES = "mean _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d"
SOFTMAXES = "_softmax softmax _safe_softmax"
BATCH_NORMS = (
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm batch_norm "
    "_batch_norm_no_update _batch_norm_with_update"
)
"""The kernels of operators that most tools have a rule for."""
