"""What the kernels of a trace multiply and accumulate, by the counters' own formulas, and who accounts for it.

A counter differs from convstat by what it does not see, and by what it prices otherwise. To say how much that is,
a prediction has to know what the kernels do, and it must not learn it from convstat:
else a mistake of ours would be called a fault of theirs. So the formulas here are written down a second time, and from
the other end: :mod:`convstat.count.ops` multiplies what goes in, this module counts for each element that comes out how
many products were summed into it. Where both are right, they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

from convstat.counters.base import Ledger
from convstat.counters.causes import UNATTRIBUTED
from convstat.trace.calls import Call, FunctionCall, KernelCall, ListInfo, ObjectInfo, TensorInfo, Trace

Formula = Callable[[KernelCall], int]


def _by_its_own_rule(call: KernelCall | FunctionCall) -> int:
    from convstat.count.ops import registered

    cost = registered(call)
    return cost.macs if cost is not None else 0


class _NoProducts(Exception):  # noqa: N818
    """A call whose shapes do not say what it multiplies: an operand is sparse, or not there."""


def _operand(call: KernelCall, place: int, name: str = "") -> TensorInfo:
    value = call.args[place] if place < len(call.args) else call.kwargs.get(name)
    if isinstance(value, ObjectInfo) and value.items:
        # A packed weight.
        value = value.items[0]
    if not isinstance(value, TensorInfo) or value.is_sparse:
        raise _NoProducts
    return value


def _value(call: KernelCall, place: int, name: str, default: Any = None) -> Any:
    return call.args[place] if place < len(call.args) else call.kwargs.get(name, default)


def _wanted(call: KernelCall, place: int, name: str = "output_mask") -> tuple[bool, ...]:
    """Which gradients are asked for."""
    mask = _value(call, place, name, (True, True, True))
    return tuple(map(bool, mask.items if isinstance(mask, ListInfo) else mask))


def _tensors(value: Any) -> list[TensorInfo]:
    items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else ()
    return [item for item in items if isinstance(item, TensorInfo)]


def _result(call: KernelCall) -> TensorInfo:
    """The (first) tensor that comes out; a kernel that writes into its first operand has none of its own."""
    for value in (call.output, *(call.output if isinstance(call.output, tuple) else ())):
        if isinstance(value, TensorInfo):
            return value
    return _operand(call, 0)


def _summed(left: int) -> Formula:
    """A matrix product: each element of the output sums over the last dimension of the left operand."""
    return lambda call: _result(call).numel * _operand(call, left, _NAMES[left]).shape[-1]


_NAMES = ("self", "mat1")


def _addbmm(call: KernelCall) -> int:
    """``addbmm`` sums the products of a batch of matrices as well."""
    batch, _, inner = _operand(call, 1, "batch1").shape
    return _result(call).numel * batch * inner


def _each_element(place: int) -> Formula:
    """``mv``, ``dot``: each element of an operand is multiplied once."""
    return lambda call: _operand(call, place, "self").numel


def _outer(call: KernelCall) -> int:
    """``addr``: one product for each element of the output."""
    return _result(call).numel


def _grouped(call: KernelCall) -> int:
    """``_grouped_mm``; where both operands are matrices, the inner dimension is shared out among the groups."""
    left, right = _operand(call, 0).shape, _operand(call, 1, "mat2").shape
    if len(left) == len(right) == 2:
        return left[0] * right[-1] * left[-1]
    return _result(call).numel * left[-1]


def _trilinear(call: KernelCall) -> int:
    """Two contractions: of the first two operands, and of what that gives with the third.

    Each operand is stretched along the dimensions that it lacks. What the third operand lacks is summed over in the
    first contraction, where it is to be summed over at all.
    """
    operands: list[list[int]] = []
    lacking: list[set[int]] = []
    for place in range(3):
        missing = _integers(_value(call, 3 + place, f"expand{place + 1}", ()))
        sizes = list(_operand(call, place, f"i{place + 1}").shape)
        for dim in sorted(missing):
            sizes.insert(dim, 1)
        operands.append(sizes)
        lacking.append(set(missing))
    over = set(_integers(_value(call, 6, "sumdim", ())))
    first = [max(a, b) for a, b in zip(operands[0], operands[1], strict=True)]
    between = [1 if dim in over and dim in lacking[2] else size for dim, size in enumerate(first)]
    second = [max(a, b) for a, b in zip(between, operands[2], strict=True)]
    return prod(first) + prod(second)


def _integers(value: Any) -> tuple[int, ...]:
    items = value.items if isinstance(value, ListInfo) else value if isinstance(value, tuple) else (value,)
    return tuple(item for item in items if isinstance(item, int))


def _convolved(places: TensorInfo, weight: TensorInfo) -> int:
    """A weight is (channels, taps...): each place of ``places`` meets the taps of its channel."""
    return places.numel * (weight.numel // weight.shape[0]) if weight.numel else 0


def _convolution(call: KernelCall) -> int:
    """Each element of the output sums the taps of its channel; transposed, each element of the input is spread."""
    transposed = "transpose" in call.op or bool(_value(call, 6, "transposed", False) is True)
    weight = _operand(call, 2 if "_add" in call.op and call.op.startswith("quantized.") else 1, "weight")
    return _convolved(_operand(call, 0, "input") if transposed else _result(call), weight)


def _pairwise(call: KernelCall) -> int:
    """``_foreach_mm``: each matrix that comes out sums over the columns of its left operand."""
    return sum(
        made.numel * left.shape[-1]
        for made, left in zip(_tensors(call.output), _tensors(_value(call, 0, "self")), strict=True)
    )


def _affine_grid(call: KernelCall) -> int:
    """A coordinate of a place is a row of its sample's matrix, times the place."""
    rank = _result(call).shape[-1]
    return _result(call).numel * (rank + 1)


def _affine_grid_backward(call: KernelCall) -> int:
    """A matrix of 2 x 3 for each sample, each element of it summed up over all places."""
    batch, height, width, _ = _operand(call, 0, "grad").shape
    return batch * 2 * 3 * height * width


def _over_time(call: KernelCall) -> int:
    """``conv_tbc``: each step of each sample meets all that is in the weight."""
    steps, batch, _ = _result(call).shape
    return steps * batch * _operand(call, 1, "weight").numel


def _linear_backward(call: KernelCall) -> int:
    """The weight meets each position of the input, once for each of the two gradients that is wanted."""
    return sum(_wanted(call, 3)[:2]) * _positions(_operand(call, 0)) * _operand(call, 2).numel


def _matmul_backward(call: KernelCall) -> int:
    """Of (..., n, k) @ (..., k, m), n x k x m for each gradient."""
    gradient, left = _operand(call, 0), _operand(call, 1)
    return sum(_wanted(call, 3, "mask")[:2]) * gradient.numel * left.shape[-1]


def _slow_convolution_backward(call: KernelCall) -> int:
    return sum(_wanted(call, 6)[:2]) * _convolved(_operand(call, 0), _operand(call, 2))


def _convolution_backward(call: KernelCall) -> int:
    """Each product of the forward pass comes back once for the input's gradient, and once for the weight's."""
    transposed = bool(_value(call, 7, "transposed", False))
    forward = _convolved(_operand(call, 1 if transposed else 0), _operand(call, 2))
    return forward * sum(_wanted(call, 10)[:2])


def _deformable(call: KernelCall) -> int:
    return _convolved(_result(call), _operand(call, 1, "weight"))


def _deformable_backward(call: KernelCall) -> int:
    return 2 * _convolved(_operand(call, 0), _operand(call, 2))


def _linear(place: int) -> Formula:
    """Each element of the output sums over what goes in; a packed weight is (outputs, inputs) too."""
    return lambda call: _result(call).numel * _operand(call, place, "weight").shape[-1]


def _attention(call: KernelCall) -> int:
    """Each score sums over the width of the queries, each element of the output over the keys."""
    query, key, value = (_operand(call, place, name) for place, name in enumerate(("query", "key", "value")))
    scores = query.numel // query.shape[-1] * key.shape[-2] if query.numel else 0
    return scores * query.shape[-1] + scores * value.shape[-1]


def _flash_attention(call: KernelCall) -> int:
    """The same, for operands that are (batch, length, heads, width)."""
    query, key, value = (_operand(call, place, name).shape for place, name in enumerate(("query", "key", "value")))
    if len(query) != 4 or isinstance(_value(call, 4, "cum_seq_q"), TensorInfo):
        raise _NoProducts
    batch, length, heads, width = query
    return batch * heads * length * key[1] * (width + value[3])


def _attention_backward(call: KernelCall) -> int:
    """The scores once more; and of each of the two products of the forward pass, the gradients of both operands."""
    query, key, value = (_operand(call, place) for place in (1, 2, 3))
    scores = query.numel // query.shape[-1] * key.shape[-2] if query.numel else 0
    return scores * query.shape[-1] + 2 * scores * (query.shape[-1] + value.shape[-1])


def _multi_head(call: KernelCall) -> int:
    """``_native_multi_head_attention``: four projections to the embedding's width, and attention between them."""
    query, key, value = (_operand(call, place) for place in range(3))
    width = _operand(call, 7).shape[0]
    batch, queries, _ = query.shape
    projections = (query.numel + key.numel + value.numel + batch * queries * width) * width
    return projections + 2 * batch * queries * key.shape[1] * width


def _encoder_layer(call: KernelCall) -> int:
    """``_transformer_encoder_layer_fwd``: each weight is used at each position, and attention between them."""
    batch, length, width = _operand(call, 0).shape
    weights = sum(_operand(call, place).numel for place in (3, 5, 14, 16))
    return batch * length * weights + 2 * batch * length * length * width


def _matrices(tensors: Iterable[TensorInfo]) -> int:
    return sum(tensor.numel for tensor in tensors if len(tensor.shape) > 1)


def _positions(source: TensorInfo) -> int:
    return prod(source.shape[:-1])


def _recurrent_layer(call: KernelCall) -> int:
    """``mkldnn_rnn_layer``: both matrices at each step of each sample."""
    return _positions(_operand(call, 0)) * _matrices(_operand(call, place) for place in (1, 2))


def _recurrent_stack(call: KernelCall) -> int:
    """``_cudnn_rnn``: every matrix of the stack at each step of each sample."""
    return _positions(_operand(call, 0)) * _matrices(_tensors(_value(call, 1, "weight")))


def _recurrent_stack_backward(call: KernelCall) -> int:
    wanted = _wanted(call, 21)
    return _recurrent_stack(call) * (any(wanted[:3]) + wanted[3])


def _recurrent_cell(call: KernelCall) -> int:
    """A quantized cell: both matrices for each sample."""
    weights = [value.items[0] for value in call.args if isinstance(value, ObjectInfo) and value.items]
    return _positions(_operand(call, 0)) * _matrices(w for w in weights if isinstance(w, TensorInfo))


def _table() -> dict[str, Formula]:
    groups: tuple[tuple[str, str, Formula], ...] = (
        ("aten", "mm bmm _int_mm _scaled_mm _scaled_mm_v2 matmul", _summed(0)),
        ("aten", "_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu", _summed(0)),
        ("aten", "addmm _addmm_activation baddbmm", _summed(1)),
        ("aten", "addbmm", _addbmm),
        ("aten", "mv dot vdot", _each_element(0)),
        ("aten", "addmv", _each_element(1)),
        ("aten", "addr", _outer),
        ("aten", "_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2", _grouped),
        ("aten", "linear mkldnn_linear", _linear(1)),
        ("aten", "_weight_int4pack_mm_with_scales_and_zeros _dyn_quant_matmul_4bit _mixed_dtypes_linear", _summed(0)),
        ("aten", "_foreach_mm", _pairwise),
        ("aten", "linear_backward mkldnn_linear_backward", _linear_backward),
        ("aten", "mkldnn_linear_backward_input", lambda call: _positions(_operand(call, 1)) * _operand(call, 2).numel),
        (
            "aten",
            "mkldnn_linear_backward_weights",
            lambda call: _positions(_operand(call, 0)) * _operand(call, 2).numel,
        ),
        ("aten", "matmul_backward", _matmul_backward),
        ("aten", "affine_grid_generator cudnn_affine_grid_generator", _affine_grid),
        ("aten", "cudnn_affine_grid_generator_backward", _affine_grid_backward),
        ("aten", "conv_tbc", _over_time),
        ("aten", "cudnn_convolution_add_relu miopen_convolution_add_relu miopen_convolution_relu", _convolution),
        ("aten", "_nnpack_spatial_convolution", _convolution),
        ("aten", "_slow_conv2d_backward", _slow_convolution_backward),
        ("aten", "_trilinear", _trilinear),
        ("aten", "convolution _convolution convolution_overrideable mkldnn_convolution", _convolution),
        ("aten", "miopen_convolution miopen_depthwise_convolution miopen_convolution_transpose", _convolution),
        ("aten", "cudnn_convolution cudnn_convolution_relu cudnn_convolution_transpose", _convolution),
        ("aten", "slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d _slow_conv2d_forward", _convolution),
        ("aten", "_conv_depthwise2d conv_depthwise3d slow_conv_transpose2d slow_conv_transpose3d", _convolution),
        ("aten", "convolution_backward convolution_backward_overrideable", _convolution_backward),
        ("torchvision", "deform_conv2d", _deformable),
        ("torchvision", "_deform_conv2d_backward", _deformable_backward),
        ("aten", "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu", _attention),
        ("aten", "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention", _attention),
        ("aten", "_scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math", _attention),
        ("aten", "_flash_attention_forward _efficient_attention_forward", _flash_attention),
        (
            "aten",
            "_scaled_dot_product_flash_attention_backward _scaled_dot_product_flash_attention_for_cpu_backward"
            " _scaled_dot_product_efficient_attention_backward _scaled_dot_product_cudnn_attention_backward"
            " _scaled_dot_product_fused_attention_overrideable_backward",
            _attention_backward,
        ),
        ("aten", "_native_multi_head_attention", _multi_head),
        ("aten", "_transformer_encoder_layer_fwd", _encoder_layer),
        ("aten", "mkldnn_rnn_layer", _recurrent_layer),
        ("aten", "mkldnn_rnn_layer_backward", lambda call: 2 * _recurrent_layer(call)),
        ("aten", "_cudnn_rnn miopen_rnn", _recurrent_stack),
        ("aten", "_cudnn_rnn_backward", _recurrent_stack_backward),
        ("quantized", "conv1d conv2d conv3d conv1d_relu conv2d_relu conv3d_relu", _convolution),
        ("quantized", "conv2d_add conv2d_add_relu conv1d_dynamic conv2d_dynamic conv3d_dynamic", _convolution),
        ("quantized", "conv_transpose1d conv_transpose2d conv_transpose3d", _convolution),
        ("quantized", "conv_transpose1d_dynamic conv_transpose2d_dynamic conv_transpose3d_dynamic", _convolution),
        ("quantized", "linear linear_relu linear_leaky_relu linear_tanh", _linear(1)),
        ("quantized", "linear_dynamic linear_relu_dynamic linear_dynamic_fp16 linear_relu_dynamic_fp16", _linear(1)),
        ("quantized", "linear_with_input_q_dq_qweight_dq_output_fp32", _linear(3)),
        ("quantized", "linear_with_input_q_dq_qweight_dq_relu_output_fp32", _linear(3)),
        ("quantized", "matmul", _summed(0)),
        ("quantized", "quantized_lstm_cell_dynamic quantized_gru_cell_dynamic", _recurrent_cell),
        ("quantized", "quantized_rnn_relu_cell_dynamic quantized_rnn_tanh_cell_dynamic", _recurrent_cell),
    )
    return {f"{space}.{name}": formula for space, names, formula in groups for name in names.split()}


FORMULAS: Mapping[str, Formula] = MappingProxyType(_table())
"""Kernel -> its multiply-accumulates. A kernel that is not here multiplies and accumulates nothing."""


def products(call: KernelCall | FunctionCall) -> int:
    """The multiply-accumulates of one kernel, by its shapes; 0 where it has none.

    What an operator of somebody else's multiplies, or a function that somebody gave a rule, only that rule can say.

    >>> products(KernelCall("aten.mm", "default", (TensorInfo((5, 8)), TensorInfo((8, 3))), output=TensorInfo((5, 3))))
    120
    """
    if isinstance(call, FunctionCall):
        return _by_its_own_rule(call)
    if call.third > 1:
        return 0
    if samples := call.per_sample():
        return sum(products(sample) for sample in samples)
    formula = FORMULAS.get(call.op) or FORMULAS.get(call.op.removesuffix("_"))
    if formula is None:
        return _by_its_own_rule(call)
    try:
        return formula(call)
    except (_NoProducts, IndexError, ValueError, TypeError):
        return 0


def fused_modules(trace: Trace) -> tuple[str, ...]:
    """The paths of modules that one kernel did the work of, what they hold included: torch's transformer layers.

    Whether that happens depends on the device, on gradients and on hooks; where the trace that convstat counted called
    the modules inside, a counter's own run may not have.
    """
    return tuple(sorted({owner.path for call, owner in trace.kernels() if call.op in FUSED_MODULES}))


FUSED_MODULES = ("aten._transformer_encoder_layer_fwd",)
"""Kernels that do the work of modules."""


def as_kernel(call: FunctionCall) -> KernelCall:
    """A function that has a rule, as the one kernel that it is to convstat."""
    return KernelCall(call.name, "", call.args, call.kwargs, call.output)


def ruled(trace: Trace) -> tuple[tuple[tuple[FunctionCall, str], ...], frozenset[int]]:
    """The functions that a rule prices as a whole, each with its layer; and the ids of the kernels inside of them."""
    functions: list[tuple[FunctionCall, str]] = []
    inside: set[int] = set()
    stack: list[tuple[Call, str, bool]] = [(trace.root, "", False)]
    while stack:
        call, layer, is_inside = stack.pop()
        if isinstance(call, KernelCall):
            if is_inside:
                inside.add(id(call))
            continue
        if isinstance(call, FunctionCall) and call.has_rule and not is_inside:
            functions.append((call, layer))
            is_inside = True
        elif not isinstance(call, FunctionCall) and trace.modules[call.module].registered:
            layer = trace.modules[call.module].path
        stack.extend((child, layer, is_inside) for child in reversed(call.children))
    return tuple(functions), frozenset(inside)


class Kernel(NamedTuple):
    """A kernel that multiplies: its products, the layer that they belong to, and the calls around it, outermost first.

    ``module`` is the place in :attr:`Trace.modules` of the innermost *called* module, registered or not;
    ``functions`` are the names of the functions that it runs in since that module was called.
    """

    call: KernelCall
    products: int
    layer: str
    module: int
    functions: tuple[str, ...]


Wanted = Callable[[Kernel], bool]
"""Which of the kernels in a call are meant."""


def _all(kernel: Kernel) -> bool:
    return True


_SINGLE = frozenset(
    (
        *("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "conv1d", "conv2d", "conv3d"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    )
)


@dataclass(slots=True)
class _Open:
    """A call whose kernels are being gathered."""

    call: Call
    layer: str
    module: int
    functions: tuple[str, ...]
    children: Iterator[Call]
    start: int
    is_ruled: bool = False
    is_done: bool = False

    @property
    def is_single(self) -> bool:
        """Whether it is a function that multiplies once."""
        return isinstance(self.call, FunctionCall) and self.call.name.rpartition(".")[2].strip("_") in _SINGLE


class Work:
    """The products of a trace's kernels, each of which a counter's prediction accounts for once.

    All of them are entered as terms without a code. A predictor *claims* those of the calls that its counter prices,
    with :meth:`price`, and says of the rest, which the counter has not seen, why it has not, with :meth:`unseen`.
    What a price is more or less than its kernels, and no amount with a code explains, is ``unattributed``.
    """

    def __init__(self, trace: Trace, terms: Ledger) -> None:
        self.trace = trace
        self.terms = terms
        self.kernels: list[Kernel] = []
        self.derivatives: list[Kernel] = []
        self._spans: dict[int, tuple[int, int]] = {}
        self._ruled: set[int] = set()
        self._claimed: list[bool] = []
        self._gather()

    @classmethod
    def of(cls, trace: Trace) -> Work:
        """The products alone, where nothing is to be entered."""
        return cls(trace, Ledger())

    def _gather(self) -> None:
        modules = self.trace.modules
        # An explicit stack: models nest deeper than Python's own.
        stack = [_Open(self.trace.root, "", 0, (), iter(self.trace.root.children), 0)]
        while stack:
            top = stack[-1]
            call = next(top.children, None)
            if call is None:
                self._spans[id(top.call)] = top.start, len(self.kernels)
                stack.pop()
            elif isinstance(call, KernelCall):
                if not top.is_ruled and (amount := products(call)):
                    if top.is_single and top.is_done and not call.third:
                        self._derive(call, amount, top)
                    else:
                        self._enter(call, amount, top)
                    top.is_done = True
            elif isinstance(call, FunctionCall):
                functions, start = (*top.functions, call.name), len(self.kernels)
                if call.has_rule and not top.is_ruled:
                    self._enter(as_kernel(call), products(call), top)
                is_ruled = top.is_ruled or call.has_rule
                if is_ruled:
                    self._ruled.add(id(call))
                stack.append(_Open(call, top.layer, top.module, functions, iter(call.children), start, is_ruled))
            else:
                info = modules[call.module]
                layer = info.path if info.registered else top.layer
                if top.is_ruled:
                    self._ruled.add(id(call))
                start = len(self.kernels)
                stack.append(_Open(call, layer, call.module, (), iter(call.children), start, top.is_ruled))
        self._claimed = [False] * len(self.kernels)

    def _enter(self, call: KernelCall, amount: int, around: _Open) -> None:
        if not amount:
            return
        layer = around.layer if call.owner is None else self.trace.modules[call.owner].path
        self.kernels.append(Kernel(call, amount, layer, around.module, around.functions))
        self.terms.add(layer, None, macs=amount)

    def _derive(self, call: KernelCall, amount: int, around: _Open) -> None:
        """A second product in a function that makes one: torch multiplies derivatives along, in forward mode."""
        self.derivatives.append(Kernel(call, amount, around.layer, around.module, around.functions))
        self.terms.add(around.layer, None, macs=amount)
        self.terms.add(around.layer, "derivative", macs=-amount)

    def inside(self, call: Call) -> list[Kernel]:
        """The kernels in a call of a module or a function that nobody has claimed, in order."""
        start, end = self._spans.get(id(call), (0, 0))
        return [self.kernels[place] for place in range(start, end) if not self._claimed[place]]

    def claim(self, call: Call, which: Wanted = _all) -> dict[str, int]:
        """Take the kernels in a call, or those that are wanted, and say what they multiply, by layer."""
        taken: dict[str, int] = {}
        for kernel in self._take(call, which):
            taken[kernel.layer] = taken.get(kernel.layer, 0) + kernel.products
        return taken

    def price(self, call: Call, layer: str, amount: int, which: Wanted = _all) -> None:
        """Enter that the counter prices the products in a call, as its rule knows them, at ``amount``."""
        if id(call) in self._ruled:
            # Its kernels are not convstat's, which counts the function around them by its rule.
            self.terms.add(layer, "inside_ruled", macs=amount)
            return
        taken = self.claim(call, which)
        self.terms.add(layer, UNATTRIBUTED, macs=amount - taken.pop(layer, 0))
        for other, own in taken.items():
            self.terms.add(other, UNATTRIBUTED, macs=-own)

    def unseen(self, call: Call, why: str | Callable[[Kernel], str], which: Wanted = _all) -> None:
        """Enter that the counter does not see the kernels in a call that nobody has claimed, and why."""
        for kernel in self._take(call, which):
            self.terms.add(kernel.layer, why if isinstance(why, str) else why(kernel), macs=-kernel.products)

    def _take(self, call: Call, which: Wanted) -> Iterator[Kernel]:
        start, end = self._spans.get(id(call), (0, 0))
        for place in range(start, end):
            if not self._claimed[place] and which(self.kernels[place]):
                self._claimed[place] = True
                yield self.kernels[place]
