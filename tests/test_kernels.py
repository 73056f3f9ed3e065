"""What each kernel costs: rules held against torch's schemas, against counting by loops, and against each other."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from typing import Any

import naive
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from versions import has_torch, since

from convstat.count import ops
from convstat.count.ops import FREE, RULES, attention, base, other, products, quantized, recurrent
from convstat.count.ops.unpriced import UNPRICED
from convstat.formulas.cost import OTHER_ENTRIES, Cost
from convstat.layers import KINDS
from convstat.patches.operators import torchvision_compat
from convstat.trace.calls import KernelCall, ObjectInfo, TensorInfo
from convstat.trace.describe import describe


class Seen(TorchDispatchMode):
    """Remembers every kernel that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[KernelCall] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the kernel and remember it."""
        output = func(*args, **(kwargs or {}))
        described = {name: describe(value) for name, value in (kwargs or {}).items()}
        name = str(func._overloadpacket)
        self.calls.append(KernelCall(name, func._overloadname, describe(args), described, describe(output)))  # type: ignore[arg-type]
        return output


def kernels_of(function: Callable[[], object]) -> list[KernelCall]:
    """The kernels that a function runs."""
    seen = Seen()
    with seen:
        function()
    return seen.calls


def cost_of(function: Callable[[], object]) -> Cost:
    """What a function costs; every kernel must have a rule."""
    total = Cost()
    for call in kernels_of(function):
        cost = ops.price(call)
        assert cost is not None, call.op
        total = total + cost
    return total


def macs_of(function: Callable[[], object]) -> int:
    """The MACs of a function; every kernel must have a rule."""
    return cost_of(function).macs


def exists(name: str) -> bool:
    """Whether torch knows an operator."""
    torchvision_compat()
    namespace, _, operator = name.partition(".")
    return any(
        known.split(".")[0] == f"{namespace}::{operator}" for known in torch._C._dispatch_get_all_op_names()
    ) or (hasattr(getattr(torch.ops, namespace), operator))


SOME_HAVE = {
    f"aten.{name}"
    for name in (
        *("cholesky", "_philox_randint", "shallow_copy_data", "_scaled_addmm", "linalg_polar", "linalg_matrix_sqrth"),
        "_cudnn_attention_forward_no_dropout_inplace",
    )
}
"""Operators that came with torch 2.15 or went with it."""


@since("2.13", "all operators that there are rules for")
def test_every_rule_is_for_an_operator_that_exists() -> None:
    """No name is misspelt, and none is left over from another torch."""
    names = [name for name in (*RULES, *FREE) if not name.startswith("torchvision.") or find_spec("torchvision")]
    names = [name for name in names if name not in SOME_HAVE]
    assert [] == [name for name in names if not exists(name)]
    assert not exists("aten.no_such_operator")


@since("2.13", "the operators that the tables are for")
def test_every_operator_of_torch_costs_something_or_nothing_or_says_why_nobody_knows() -> None:
    """All of ATen and prims but views, what writes into its arguments, and what only stands for other operators."""
    unknown, seen = set(), set()
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = full.partition("::")
        name, _, overload = rest.partition(".")
        found = getattr(getattr(getattr(torch.ops, namespace), name, None), overload or "default", None)
        if namespace not in ("aten", "prims") or found is None:
            continue
        if namespace == "prims" and not hasattr(torch._prims, name):
            # The compiler adds some of its own where it is loaded, and no model calls these.
            continue
        seen.add(f"{namespace}.{name}")
        stands_for_others = torch._C._dispatch_has_kernel_for_dispatch_key(full, "CompositeImplicitAutograd")
        if stands_for_others or found.is_view or any(argument.is_out for argument in found._schema.arguments):
            continue
        plain = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        if not {f"{namespace}.{name}", f"{namespace}.{plain}"} & {*RULES, *FREE, *UNPRICED}:
            unknown.add(f"{namespace}.{name}")
    assert set() == unknown
    assert "prims.add" in seen
    assert len(seen) > 1000
    assert set() == {name for name in UNPRICED if name not in seen and f"{name}_" not in seen} - SOME_HAVE
    assert set() == set(UNPRICED) & {*RULES, *FREE}
    assert all(len(reason.split()) >= 3 for reason in UNPRICED.values())


def test_a_kernel_costs_something_or_is_free_with_a_reason_and_never_both() -> None:
    """The two tables do not overlap, and each reason is a sentence."""
    assert set() == set(RULES) & set(FREE)
    assert all(len(reason.split()) >= 3 for reason in FREE.values())


T = torch.rand
CALLS: dict[str, Callable[[], object]] = {
    "solve_triangular": lambda: torch.linalg.solve_triangular(T(2, 4, 4), T(2, 4, 3), upper=True),
    "triangular_solve": lambda: torch.triangular_solve(T(4, 3), T(4, 4)),
    "solve": lambda: torch.linalg.solve(torch.eye(4), T(4, 3)),
    "inv": lambda: torch.linalg.inv(torch.eye(4)),
    "det": lambda: torch.linalg.det(T(4, 4)),
    "slogdet": lambda: torch.linalg.slogdet(T(4, 4)),
    "cholesky_solve": lambda: torch.cholesky_solve(T(4, 3), torch.linalg.cholesky(torch.eye(4))),
    "cholesky_inverse": lambda: torch.cholesky_inverse(torch.linalg.cholesky(torch.eye(4))),
    "lu_solve": lambda: torch.linalg.lu_solve(*torch.linalg.lu_factor(torch.eye(4)), T(4, 3)),
    "lu": lambda: torch.linalg.lu(torch.eye(4)),
    "ldl_solve": lambda: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(torch.eye(4)), T(4, 3)),
    "qr": lambda: torch.linalg.qr(T(5, 3), mode="complete"),
    "geqrf": lambda: torch.geqrf(T(5, 3)),
    "householder_product": lambda: torch.linalg.householder_product(T(5, 3), T(3)),
    "ormqr": lambda: torch.ormqr(T(5, 5), T(5), T(5, 3)),
    "affine_grid": lambda: torch.nn.functional.affine_grid(T(2, 2, 3), [2, 3, 4, 5], align_corners=False),
    "conv_tbc": lambda: torch.conv_tbc(T(9, 2, 4), T(3, 4, 5), T(5), 1),
    "foreach": lambda: torch._foreach_add(torch._foreach_mul([T(2), T(3)], [T(2), T(3)]), 1.0),
    "foreach_norm": lambda: torch._foreach_norm([T(2), T(3)]),
    "mm": lambda: T(2, 3) @ T(3, 4),
    "bmm": lambda: T(5, 2, 3) @ T(5, 3, 4),
    "addmm": lambda: torch.addmm(T(4), T(2, 3), T(3, 4), beta=0.5),
    "baddbmm": lambda: torch.baddbmm(T(5, 2, 4), T(5, 2, 3), T(5, 3, 4)),
    "addbmm": lambda: torch.addbmm(T(2, 4), T(5, 2, 3), T(5, 3, 4)),
    "mv": lambda: T(2, 3) @ T(3),
    "dot": lambda: T(3) @ T(3),
    "vdot": lambda: torch.vdot(T(3), T(3)),
    "addmv": lambda: torch.addmv(T(2), T(2, 3), T(3)),
    "addr": lambda: torch.addr(T(2, 3), T(2), T(3)),
    "_addmm_activation": lambda: torch._addmm_activation(T(4), T(2, 3), T(3, 4), use_gelu=True),
    "_int_mm": lambda: torch._int_mm(torch.zeros(32, 16, dtype=torch.int8), torch.zeros(16, 8, dtype=torch.int8)),
    "_grouped_mm": lambda: torch.ops.aten._grouped_mm(
        torch.empty(8, 16, dtype=torch.bfloat16, device="meta"),
        torch.empty(3, 16, 32, dtype=torch.bfloat16, device="meta"),
        torch.empty(3, dtype=torch.int32, device="meta"),
    ),
    "_trilinear": lambda: F.bilinear(T(2, 3), T(2, 4), T(5, 3, 4)),
    "convolution": lambda: F.conv2d(T(1, 4, 5, 5), T(6, 2, 3, 3), groups=2),
    "transposed": lambda: F.conv_transpose1d(T(1, 4, 5), T(4, 2, 3), groups=2),
    "convolution_backward": lambda: _gradients(F.conv2d, T(1, 4, 5, 5), T(6, 2, 3, 3), T(6), groups=2),
    "mkldnn_convolution": lambda: torch.mkldnn_convolution(
        T(1, 4, 5, 5), T(6, 2, 3, 3), None, [0, 0], [1, 1], [1, 1], 2
    ),
    "slow_conv_dilated2d": lambda: torch.ops.aten.slow_conv_dilated2d(T(1, 4, 5, 5), T(6, 4, 3, 3), [3, 3]),
    "slow_conv_transpose2d": lambda: torch.ops.aten.slow_conv_transpose2d(T(1, 4, 5, 5), T(4, 2, 3, 3), [3, 3], T(2)),
    "attention": lambda: F.scaled_dot_product_attention(T(1, 2, 3, 4), T(1, 2, 5, 4), T(1, 2, 5, 4)),
    "attention_backward": lambda: _gradients(
        F.scaled_dot_product_attention, T(1, 2, 3, 4), T(1, 2, 5, 4), T(1, 2, 5, 4)
    ),
    "native_mha": lambda: _fast(nn.MultiheadAttention(8, 2, batch_first=True), T(2, 3, 8), T(2, 3, 8), T(2, 3, 8)),
    "encoder_layer": lambda: _fast(nn.TransformerEncoderLayer(8, 2, 24, batch_first=True), T(2, 3, 8)),
    "lstm": lambda: nn.LSTM(3, 4, bidirectional=True)(T(5, 2, 3)),
    "lstm_backward": lambda: nn.LSTM(3, 4)(T(5, 2, 3))[0].sum().backward(),
    "max_pool2d": lambda: F.max_pool2d(T(1, 2, 6, 6), 2),
    "adaptive_max_pool2d": lambda: F.adaptive_max_pool2d(T(1, 2, 6, 6), 4),
    "fractional": lambda: F.fractional_max_pool2d(T(1, 2, 6, 6), 2, 3),
    "grid_sample": lambda: F.grid_sample(T(1, 2, 4, 4), T(1, 3, 3, 2), mode="bicubic", align_corners=False),
    "grid_sample_backward": lambda: _gradients(F.grid_sample, T(1, 2, 4, 4), T(1, 3, 3, 2), align_corners=False),
    "antialias": lambda: F.interpolate(T(1, 2, 9, 8), (3, 4), mode="bilinear", antialias=True),
    "cdist": lambda: torch.cdist(T(3, 4), T(5, 4)),
    "pdist": lambda: F.pdist(T(4, 3)),
    "embedding_bag": lambda: F.embedding_bag(
        torch.zeros(2, 3, dtype=torch.int64), T(9, 4), per_sample_weights=T(2, 3), mode="sum"
    ),
    "scatter_add": lambda: T(5, 3).scatter_add(0, torch.zeros(2, 3, dtype=torch.int64), T(2, 3)),
    "scatter_reduce": lambda: T(5, 3).scatter_reduce(0, torch.zeros(2, 3, dtype=torch.int64), T(2, 3), "amax"),
    "index_add": lambda: T(5, 3).index_add(0, torch.zeros(2, dtype=torch.int64), T(2, 3)),
    "index_reduce": lambda: T(5, 3).index_reduce(0, torch.zeros(2, dtype=torch.int64), T(2, 3), "amax"),
    "nll_loss": lambda: F.nll_loss(T(4, 3), torch.zeros(4, dtype=torch.int64)),
}
"""One call for each rule that reads arguments by place."""


def _gradients(function: Callable[..., torch.Tensor], *operands: torch.Tensor, **more: Any) -> None:
    operands = tuple(operand.requires_grad_() for operand in operands)
    function(*operands, **more).sum().backward()


def _fast(module: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        module.eval()(*inputs)


def read_wrongly(call: KernelCall, reads: list[tuple[int, str]]) -> list[str]:
    """Arguments that a rule read at a place where the schema has another one."""
    namespace, _, operator = call.op.partition(".")
    schema = getattr(getattr(getattr(torch.ops, namespace), operator), call.overload)._schema
    names = [argument.name for argument in schema.arguments]
    alike = {"mat2": ("other",), "X": ("qx",), "self": ("input",), "i1": ("input1",)}
    return [
        f"{call.op}: {name} read at {place}, where {names[place]} is"
        for place, name in reads
        if (place >= 0 and names[place].rstrip("_") not in (name, *alike.get(name, ()))) or name not in (*names, *alike)
    ]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What rules read, as they read it."""
    seen: list[tuple[int, str]] = []
    original = base.argument

    def argument(call: KernelCall, position: int, name: str, default: Any = None) -> Any:
        seen.append((position, name))
        return original(call, position, name, default)

    for module in (base, products, attention, recurrent, other, quantized):
        if hasattr(module, "argument"):
            monkeypatch.setattr(module, "argument", argument)
    return seen


GROUPED = since("2.13", "an operator for products of groups")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[GROUPED] if name == "_grouped_mm" else []) for name in CALLS]
)
def test_rules_read_arguments_where_the_schema_has_them(name: str, reads: list[tuple[int, str]]) -> None:
    """Every argument that a rule reads by place has that name there in torch's own schema."""
    wrong = []
    for call in kernels_of(CALLS[name]):
        reads.clear()
        assert ops.price(call) is not None, call.op
        wrong += read_wrongly(call, reads)
    assert [] == wrong


def test_a_wrong_place_is_found() -> None:
    """The check above can fail."""
    (call,) = (call for call in kernels_of(CALLS["convolution"]) if call.op == "aten.convolution")
    assert 1 == len(read_wrongly(call, [(5, "groups")]))
    assert 1 == len(read_wrongly(call, [(-1, "group")]))
    assert [] == read_wrongly(call, [(8, "groups")])


# Counting by counting.

small = st.integers(1, 3)


@settings(max_examples=25)
@given(st.integers(1, 2), small, small, small, small, st.integers(3, 6), st.integers(1, 3), st.integers(1, 2))
def test_convolutions_are_what_the_loops_count(
    batch: int, groups: int, inside: int, outside: int, kernel: int, size: int, stride: int, dilation: int
) -> None:
    """Traced on meta, for any groups, stride, dilation and padding; transposed ones by scattering."""
    cin, cout = groups * inside, groups * outside
    shape = (batch, cin, size + kernel * dilation, size + kernel * dilation)
    source = torch.empty(shape, device="meta")
    weight = torch.empty(cout, inside, kernel, kernel, device="meta")
    padding = [(1, 1), (1, 1)]
    _, expected = naive.conv(shape, cout, (kernel, kernel), (stride,) * 2, padding, (dilation,) * 2, groups)
    assert expected == macs_of(lambda: F.conv2d(source, weight, None, stride, 1, dilation, groups))
    line = (batch, cin, size)
    weight = torch.empty(cin, outside, kernel, device="meta")
    _, expected = naive.conv_transpose(line, cout, (kernel,), (stride,), (0,), (0,), (dilation,), groups)
    source = torch.empty(line, device="meta")
    assert expected == macs_of(lambda: F.conv_transpose1d(source, weight, None, stride, 0, 0, groups, dilation))


@settings(max_examples=15)
@given(st.lists(st.integers(2, 4), min_size=4, max_size=4))
def test_matrix_products_are_what_the_loops_count(sizes: list[int]) -> None:
    """However it is written: as an operator, a function, an einsum, a linear map, one by one.

    Sizes are at least 2: along a dimension of size 1, einsum and tensordot multiply element by element instead.
    """
    batch, rows, inner, columns = sizes
    expected = batch * naive.matrix(rows, inner, columns)
    left, right = T(batch, rows, inner), T(batch, inner, columns)
    for function in (
        lambda: left @ right,
        lambda: torch.bmm(left, right),
        lambda: torch.einsum("brk,bkc->brc", left, right),
        lambda: torch.baddbmm(T(batch, rows, columns), left, right),
        lambda: F.linear(left, right[0].t()),
        lambda: torch.tensordot(left, right[0], 1),
        lambda: left.matmul(right[0]),
        lambda: [a @ b for a, b in zip(left, right, strict=True)],
    ):
        assert expected == macs_of(function)


@settings(max_examples=15)
@given(st.integers(1, 3), small, small, small)
def test_bilinear_maps_are_what_the_loops_count(positions: int, in1: int, in2: int, out: int) -> None:
    """Forward two contractions; backward one kernel of two contractions for each of the three gradients."""
    first, second, weight = T(positions, in1), T(positions, in2), T(out, in1, in2)
    assert naive.bilinear(positions, in1, in2, out) == macs_of(lambda: F.bilinear(first, second, weight))
    backward = macs_of(lambda: _gradients(F.bilinear, first, second, weight))
    full = positions * out * in1 * in2
    gradients = [
        # dx1 = (dout, W) summed over the outputs, then with x2
        full + positions * in1 * in2,
        # dW = (x1, dout) is an outer product, then with x2, summed over the positions
        positions * in1 * out + full,
        # dx2 = (x1, W) summed over in1, then with dout
        full + positions * out * in2,
    ]
    assert sum(gradients) + full + positions * out * in2 == backward


@settings(max_examples=15)
@given(st.integers(1, 2), st.integers(1, 3), small, small, small, st.booleans(), st.booleans())
def test_recurrent_stacks_are_what_the_loops_count(
    batch: int, steps: int, features: int, hidden: int, layers: int, both: bool, biased: bool
) -> None:
    """On CPU, where LSTM is one kernel for each layer, and on meta, where it is matrix products."""
    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        expected = naive.recurrent(gates, batch, steps, features, hidden, layers, both)
        costs = []
        for device in ("cpu", "meta"):
            stack = getattr(nn, kind)(features, hidden, layers, bias=biased, bidirectional=both).to(device)
            source = torch.empty(steps, batch, features, device=device)
            costs.append(cost_of(lambda stack=stack, source=source: stack(source)))
        assert [expected, expected] == [cost.macs for cost in costs]
        assert dict(costs[0].other) == dict(costs[1].other)


@settings(max_examples=15)
@given(st.integers(1, 2), st.sampled_from([(4, 4), (4, 2), (4, 1)]), st.integers(1, 4), st.integers(1, 4), small)
def test_attention_is_what_the_loops_count(
    batch: int, heads: tuple[int, int], queries: int, keys: int, size: int
) -> None:
    """Fused on CPU and unfused on meta, with as many heads for keys as for queries or fewer; masks change nothing."""
    assume(heads[0] == heads[1] or has_torch("2.5"))
    grouped = {"enable_gqa": True} if has_torch("2.5") else {}
    shapes = [(batch, heads[0], queries, size), *[(batch, heads[1], keys, size)] * 2]
    expected = sum(2 * naive.matrix(queries, size, keys) for _ in range(batch * heads[0]))
    for device in ("cpu", "meta"):
        q, k, v = (torch.empty(shape, device=device) for shape in shapes)
        for more in ({}, {"is_causal": True}, {"attn_mask": torch.zeros(queries, keys, device=device)}):
            assert expected == macs_of(
                lambda q=q, k=k, v=v, more=more: F.scaled_dot_product_attention(q, k, v, **grouped, **more)
            )


def library_call(op: str, *args: object, output: tuple[int, ...] = (), **kwargs: object) -> KernelCall:
    """A call as a trace on another device would have it."""
    return KernelCall(op, "default", tuple(args), kwargs, TensorInfo(output))  # type: ignore[arg-type]


def test_a_whole_stack_on_a_gpu_costs_what_it_does_layer_by_layer() -> None:
    """``_cudnn_rnn``, whose kernel is not here, by its schema: projections, both directions, two layers."""
    stack = nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2)
    weights = [tuple(weight.shape) for weight in stack.parameters()]
    names = [argument.name for argument in torch.ops.aten._cudnn_rnn.default._schema.arguments]
    values: dict[str, object] = {
        "input": TensorInfo((7, 4, 3)),
        "weight": describe([torch.empty(weight) for weight in weights]),
        "mode": 2,
        "hidden_size": 5,
        "proj_size": 2,
        "num_layers": 2,
        "bidirectional": True,
    }
    call = library_call("aten._cudnn_rnn", *[values.get(name) for name in names], output=(7, 4, 4))
    expected = cost_of(lambda: stack.to("meta")(torch.empty(7, 4, 3, device="meta")))
    actual = ops.price(call)
    assert actual is not None
    assert naive.recurrent(4, 4, 7, 3, 5, 2, True, 2) == expected.macs == actual.macs
    assert dict(expected.other) == dict(actual.other)


def test_a_librarys_convolution_costs_what_torchs_does() -> None:
    """cuDNN's and MIOpen's own operators, transposed and grouped, by their schemas."""
    source, weight = TensorInfo((2, 4, 5, 5)), TensorInfo((6, 2, 3, 3))
    expected = 2 * 3 * 3 * 6 * 2 * 3 * 3
    args = ([1, 1], [0, 0], [1, 1], 2, False, False, False)
    assert Cost(expected) == ops.price(
        library_call("aten.cudnn_convolution", source, weight, *args, output=(2, 6, 3, 3))
    )
    biased = library_call("aten.miopen_convolution", source, weight, TensorInfo((6,)), *args, output=(2, 6, 3, 3))
    assert Cost(expected, {"bias": 2 * 6 * 3 * 3}) == ops.price(biased)
    weight = TensorInfo((4, 3, 3, 3))
    call = library_call("aten.cudnn_convolution_transpose", source, weight, *args, output=(2, 6, 7, 7))
    assert Cost(2 * 5 * 5 * 4 * 3 * 3 * 3) == ops.price(call)


@GROUPED
def test_an_expert_product_multiplies_every_row_once() -> None:
    """``_grouped_mm``: 8 rows of 16 with one of three 16 x 32 matrices each."""
    assert 8 * 16 * 32 == macs_of(CALLS["_grouped_mm"])


def test_8_bit_products_are_products() -> None:
    """int8 with int8, and a scaled product of 8-bit floats with its bias."""
    assert 32 * 16 * 8 == macs_of(CALLS["_int_mm"])
    left, right = TensorInfo((16, 32), "float8_e4m3fn"), TensorInfo((32, 64), "float8_e4m3fn")
    scale = TensorInfo(())
    call = library_call("aten._scaled_mm", left, right, scale, scale, TensorInfo((64,)), output=(16, 64))
    assert Cost(16 * 32 * 64, {"bias": 16 * 64}) == ops.price(call)


def test_the_fast_paths_of_transformers_cost_what_the_slow_ones_do() -> None:
    """Without grad they are one kernel, with grad many; the MACs are equal, and all else is as the layer says."""
    source = T(2, 3, 8)
    for module, inputs, kernel, written in (
        (nn.MultiheadAttention, (source,) * 3, "aten._native_multi_head_attention", {"num_heads": 2}),
        (
            nn.TransformerEncoderLayer,
            (source,),
            "aten._transformer_encoder_layer_fwd",
            {"nhead": 2, "dim_feedforward": 24},
        ),
    ):
        made = module(8, **written, batch_first=True).eval()
        with torch.no_grad():
            fast = kernels_of(lambda made=made, inputs=inputs: made(*inputs))
        assert kernel in {call.op for call in fast}
        total = Cost()
        for call in fast:
            cost = ops.price(call)
            assert cost is not None
            total = total + cost
        layer = KINDS[module.__name__].create({**written, "batch_first": True}, ((2, 3, 8),))
        expected = layer.cost(((2, 3, 8),), (2, 3, 8))
        assert macs_of(lambda made=made, inputs=inputs: made(*inputs)) == expected.macs == total.macs
        assert dict(expected.other) == dict(total.other)


def test_deformable_convolutions_cost_their_product_and_their_sampling() -> None:
    """torchvision's kernel: 4 reads for each sampled tap, and with a mask one product each."""
    source, weight = TensorInfo((1, 4, 8, 8)), TensorInfo((6, 2, 3, 3))
    offset, mask, bias = TensorInfo((1, 18, 6, 6)), TensorInfo((1, 9, 6, 6)), TensorInfo((6,))
    args = (source, weight, offset, mask, bias, 1, 1, 0, 0, 1, 1, 2, 1)
    cost = ops.price(library_call("torchvision.deform_conv2d", *args, True, output=(1, 6, 6, 6)))
    sampled = 4 * 3 * 3 * 6 * 6
    assert Cost(6 * 6 * 6 * 2 * 3 * 3, {"resize": 4 * sampled, "bias": 6 * 6 * 6, "elementwise": sampled}) == cost
    cost = ops.price(library_call("torchvision.deform_conv2d", *args, False, output=(1, 6, 6, 6)))
    assert cost is not None
    assert "elementwise" not in cost.other


# Antialiased resizing: what torch reads is seen on NaN, which no weight removes.


def windows_of_torch(mode: str, length: int, out: int, aligned: bool, dtype: torch.dtype, factor: float | None) -> int:
    """The elements in all windows along one dimension: column i of image i is NaN, and marks the windows it is in.

    The other dimension keeps its size, and is left alone.
    """
    images = torch.zeros(length, 1, 1, length, dtype=dtype)
    images[range(length), 0, 0, range(length)] = torch.nan
    wanted: dict[str, Any] = {"size": (1, out)} if factor is None else {"scale_factor": (1.0, factor)}
    resized = F.interpolate(images, **wanted, mode=mode, align_corners=aligned, antialias=True)
    assert (length, 1, 1, out) == resized.shape
    return int(resized.isnan().sum())


def windows_of_convstat(
    mode: str, length: int, out: int, aligned: bool, dtype: torch.dtype, factor: float | None
) -> int:
    """The same from the rule, for a row of elements."""
    described = str(dtype).removeprefix("torch.")
    source, name = TensorInfo((1, 1, 1, length), described), f"aten._upsample_{mode}2d_aa"
    cost = ops.price(library_call(name, source, (1, out), aligned, 1.0, factor, output=(1, 1, 1, out)))
    assert cost is not None
    return cost.other["resize"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_an_antialiased_resize_reads_what_torch_reads(mode: str, aligned: bool, dtype: torch.dtype) -> None:
    """Every size up to 64 to every other, edges that fall between two elements included."""
    differ = [
        (length, out)
        for length in range(1, 65)
        for out in range(1, 65)
        if windows_of_torch(mode, length, out, aligned, dtype, None)
        != windows_of_convstat(mode, length, out, aligned, dtype, None)
    ]
    assert [] == differ


@given(st.integers(4, 96), st.floats(0.26, 3), st.sampled_from(["bilinear", "bicubic"]))
def test_an_antialiased_resize_by_a_factor_reads_what_torch_reads(length: int, factor: float, mode: str) -> None:
    """The scale is then that of the factor, not of the sizes."""
    case = (mode, length, int(length * factor), False, torch.float32, factor)
    assert windows_of_torch(*case) == windows_of_convstat(*case)


def test_an_antialiased_resize_of_a_window_edge_that_single_precision_moves() -> None:
    """11 to 7, bicubic: the edge of a window is 6.0 in single precision, and less in double."""
    windows = [windows_of_convstat("bicubic", 11, 7, False, dtype, None) for dtype in (torch.float32, torch.float64)]
    assert windows[0] == windows[1] + 1


def test_an_antialiased_resize_is_traced_with_its_precision_and_its_factor() -> None:
    """Over whole images: 6 planes, the width first, then the height of what that made."""
    image = torch.zeros(2, 3, 13, 11, dtype=torch.float64, device="meta")
    for arguments, out, factors in (
        ({"size": (5, 7)}, (5, 7), (None, None)),
        ({"scale_factor": (0.41, 0.67)}, (5, 7), (0.41, 0.67)),
    ):
        across = windows_of_torch("bicubic", 11, out[1], False, torch.float64, factors[1])
        down = windows_of_torch("bicubic", 13, out[0], False, torch.float64, factors[0])
        cost = cost_of(lambda given=arguments: F.interpolate(image, **given, mode="bicubic", antialias=True))
        assert Cost(0, {"resize": 2 * 3 * (13 * across + 7 * down)}) == cost


def test_an_antialiased_resize_leaves_alone_what_keeps_its_size() -> None:
    """A NaN then reaches no neighbour along that dimension, though two windows of bilinear would hold it."""
    image = torch.zeros(1, 1, 5, 6)
    image[..., 2, 3] = torch.nan
    assert Cost(0, {"resize": 5 * 6}) == cost_of(lambda: F.interpolate(image, (5, 6), mode="bicubic", antialias=True))
    for size, reads in (
        ((5, 3), 5 * windows_of_torch("bicubic", 6, 3, False, torch.float32, None)),
        ((2, 6), 6 * windows_of_torch("bicubic", 5, 2, False, torch.float32, None)),
    ):
        resized = F.interpolate(image, size, mode="bicubic", antialias=True).isnan()[0, 0]
        assert 1 == int(resized.any(0).sum() if size[1] == 6 else resized.any(1).sum())
        cost = cost_of(lambda size=size: F.interpolate(image, size, mode="bicubic", antialias=True))
        assert Cost(0, {"resize": reads}) == cost


# What is not known.


def test_a_sparse_operand_is_uncounted() -> None:
    """How many products it takes depends on its values, so a dense count would be wrong and zero too."""
    sparse = torch.eye(3).to_sparse()
    calls = [call for call in kernels_of(lambda: sparse @ T(3, 4)) if "mm" in call.op]
    assert calls
    assert [None] * len(calls) == [ops.price(call) for call in calls]


def test_decompositions_that_iterate_are_uncounted() -> None:
    """How often they iterate depends on values: they are no part of the count, and said to be none."""
    for function in (torch.linalg.svd, torch.linalg.eigh, torch.linalg.eig, torch.linalg.pinv):
        assert None in [ops.price(call) for call in kernels_of(lambda function=function: function(T(3, 3)))]


def test_a_packed_weight_that_cannot_be_opened_is_uncounted() -> None:
    """Without its shape there is nothing to count with."""
    call = library_call("quantized.linear", TensorInfo((2, 3)), ObjectInfo("Packed"), 1.0, 0, output=(2, 4))
    assert ops.price(call) is None


# Quantized operators.


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="needs a quantized engine")
def test_quantized_modules_cost_what_the_float_ones_do() -> None:
    """Convolutions in all forms, fused ones included, and linear maps, static and dynamic."""
    from torch.ao.nn import quantized as layers
    from torch.ao.nn.intrinsic import quantized as fused
    from torch.ao.nn.quantized import dynamic

    image = torch.quantize_per_tensor(T(2, 4, 5, 5), 0.1, 0, torch.quint8)
    rows = torch.quantize_per_tensor(T(2, 3, 8), 0.1, 0, torch.quint8)
    conv, linear = 2 * 6 * 3 * 3 * 2 * 3 * 3, 2 * 3 * 8 * 6
    bias = 2 * 6 * 3 * 3
    for module, source, expected in (
        (layers.Conv2d(4, 6, 3, groups=2), image, Cost(conv, {"bias": bias})),
        (layers.Conv2d(4, 6, 3, groups=2, bias=False), image, Cost(conv)),
        (fused.ConvReLU2d(4, 6, 3, groups=2), image, Cost(conv, {"bias": bias, "activation": bias})),
        (layers.ConvTranspose2d(4, 6, 3), image, Cost(2 * 5 * 5 * 4 * 6 * 3 * 3, {"bias": 2 * 6 * 7 * 7})),
        (layers.Linear(8, 6), rows, Cost(linear, {"bias": 2 * 3 * 6})),
        (fused.LinearReLU(8, 6), rows, Cost(linear, {"bias": 2 * 3 * 6, "activation": 2 * 3 * 6})),
        (dynamic.Linear(8, 6), T(2, 3, 8), Cost(linear, {"bias": 2 * 3 * 6})),
        (dynamic.LSTMCell(8, 6), T(3, 8), None),
    ):
        cost = cost_of(lambda module=module, source=source: module(source))
        if expected is None:
            assert 3 * 4 * 6 * (8 + 6) == cost.macs
        else:
            assert (expected.macs, dict(expected.other)) == (cost.macs, dict(cost.other))


# Rules from elsewhere.


@pytest.fixture(scope="module")
def operator() -> Callable[[torch.Tensor], torch.Tensor]:
    """A custom operator, made by torch.library."""

    @torch.library.custom_op("convstat_tests::triple", mutates_args=(), schema="(Tensor x) -> Tensor")
    def triple(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    triple.register_fake(torch.empty_like)
    return triple


def called(operator: Callable[[torch.Tensor], torch.Tensor]) -> list[KernelCall]:
    """The kernel that the custom operator is."""
    source = T(2, 5)
    return kernels_of(lambda: operator(source))


def triple_cost(call: KernelCall) -> Cost:
    """Three MACs for each element, to be told from anything else."""
    return Cost(3 * base.output(call).numel, {"elementwise": 1})


def test_a_custom_operator_is_uncounted_until_it_has_a_rule(operator: Callable[..., torch.Tensor]) -> None:
    """`register` gives one and returns what takes it back; torch's own spelling of the name works too."""
    (call,) = called(operator)
    assert ops.price(call) is None
    unregister = ops.register("convstat_tests::triple", triple_cost)
    assert Cost(3 * 2 * 5, {"elementwise": 1}) == ops.price(call)
    unregister()
    assert ops.price(call) is None


def test_a_rule_is_not_replaced_by_accident() -> None:
    """A name with a rule, one that is free, and one without its library are refused; `replace` means it."""
    for name in ("aten::mm", "aten.view"):
        with pytest.raises(ValueError, match="has a rule already"):
            ops.register(name, triple_cost)
    with pytest.raises(ValueError, match="mylib::my_op"):
        ops.register("mm", triple_cost)
    unregister = ops.register("aten::mm", triple_cost, replace=True)
    assert 3 * 2 * 4 == macs_of(CALLS["mm"])
    unregister()
    assert 2 * 3 * 4 == macs_of(CALLS["mm"])


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """Entry points as installed distributions would name them."""
    found: dict[str, EntryPoint] = {}
    monkeypatch.setattr(ops, "_PLUGINS", found)
    return found


def test_an_installed_distribution_can_name_a_rule(
    operator: Callable[..., torch.Tensor], plugins: dict[str, EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entry point is loaded at the first unknown operator of that name, and used from then on."""
    monkeypatch.setattr(ops, "_REGISTERED", {})
    plugins["convstat_tests.triple"] = EntryPoint("convstat_tests::triple", "test_kernels:triple_cost", ops.GROUP)
    (call,) = called(operator)
    assert Cost(3 * 2 * 5, {"elementwise": 1}) == ops.price(call)


def wrong(call: KernelCall) -> Any:
    """No cost at all."""
    return 7


def fails(call: KernelCall) -> Cost:
    """A rule with a mistake in it."""
    raise KeyError("shape")


def negative(call: KernelCall) -> Cost:
    """A cost that no kernel has."""
    return Cost(-1)


def misnamed(call: KernelCall) -> Cost:
    """An entry that convstat does not know."""
    return Cost(0, {"magic": 1})


@pytest.mark.parametrize("rule", ["wrong", "fails", "negative", "misnamed", "not_there", "OTHER_ENTRIES"])
def test_a_rule_that_fails_is_a_note_and_its_kernel_uncounted(
    rule: str,
    operator: Callable[..., torch.Tensor],
    plugins: dict[str, EntryPoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a plug-in does wrong, the count goes on, and says once what was wrong."""
    monkeypatch.setattr(ops, "_REGISTERED", {})
    assert "bias" in OTHER_ENTRIES
    plugins["convstat_tests.triple"] = EntryPoint("convstat_tests::triple", f"test_kernels:{rule}", ops.GROUP)
    pricing = ops.Pricing()
    for call in called(operator) + called(operator):
        assert pricing.price(call) is None
    (note,) = pricing.notes
    assert note.startswith("the rule for convstat_tests.triple ")
