"""The operators that a network becomes in TensorFlow Lite, and the tensors that pass between them.

What the converter does to a network whose batch norms are folded already:

- RELU, RELU6 and RELU_N1_TO_1 become a part of the convolution, fully connected layer, addition, multiplication or
  pooling before them, where nothing else takes its output.
- Dropout and identities are gone. A layer that is several operators is taken apart, where they are known: a batch norm
  that could not be folded is MUL and ADD, SiLU is LOGISTIC and MUL, and a sum of three is two of ADD.
- The padding of a convolution is its own, as that of Keras is.
- What depends on no input is a constant, and is in flash.

In TensorFlow Lite Micro every operator writes a tensor of its own, that of RESHAPE too: nothing works in place.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from convstat.formulas.cost import Shape
from convstat.formulas.reads import Dims, Reshaped, same
from convstat.graph import Graph
from convstat.layers.base import Layer

ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")
"""What can be a part of another operator."""

FUSED_INTO = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "ADD", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D",
)  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NOTHING = _words(
    "Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout "
    "aten.detach aten.alias aten.clone aten.contiguous aten._to_copy aten.lift_fresh"
)
"""What is not there once a network is converted."""

SINGLE: Mapping[str, str] = {
    **dict.fromkeys(("Conv1d", "Conv2d", "aten.convolution"), "CONV_2D"),
    "Conv3d": "CONV_3D",
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d"), "TRANSPOSE_CONV"),
    "ConvTranspose3d": "CONV_3D_TRANSPOSE",
    **dict.fromkeys(("Linear", "aten.addmm", "aten.mm"), "FULLY_CONNECTED"),
    **dict.fromkeys(("aten.bmm", "aten.matmul", "aten.baddbmm"), "BATCH_MATMUL"),
    **dict.fromkeys(("MaxPool1d", "MaxPool2d", "aten.max_pool2d_with_indices", "aten.max_pool2d"), "MAX_POOL_2D"),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d", "aten.avg_pool2d"), "AVERAGE_POOL_2D"),
    **dict.fromkeys(("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "aten._adaptive_avg_pool2d"), "AVERAGE_POOL_2D"),
    **dict.fromkeys(("AdaptiveMaxPool1d", "AdaptiveMaxPool2d"), "MAX_POOL_2D"),
    "aten.mean": "MEAN",
    **dict.fromkeys(("ReLU", "aten.relu"), "RELU"),
    **dict.fromkeys(("ReLU6", "aten.relu6"), "RELU6"),
    **dict.fromkeys(("LeakyReLU", "aten.leaky_relu"), "LEAKY_RELU"),
    **dict.fromkeys(("PReLU", "aten._prelu_kernel"), "PRELU"),
    **dict.fromkeys(("ELU", "aten.elu"), "ELU"),
    **dict.fromkeys(("GELU", "aten.gelu"), "GELU"),
    **dict.fromkeys(("Sigmoid", "aten.sigmoid"), "LOGISTIC"),
    **dict.fromkeys(("Tanh", "aten.tanh"), "TANH"),
    **dict.fromkeys(("Hardswish", "aten.hardswish"), "HARD_SWISH"),
    **dict.fromkeys(("Softmax", "Softmax2d", "aten._softmax"), "SOFTMAX"),
    **dict.fromkeys(("LogSoftmax", "aten._log_softmax"), "LOG_SOFTMAX"),
    **dict.fromkeys(("LayerScale", "mul", "aten.mul"), "MUL"),
    **dict.fromkeys(("PositionalEmbedding", "add", "aten.add"), "ADD"),
    **{
        f"aten.{name}": op
        for name, op in (
            ("sub", "SUB"), ("neg", "NEG"), ("exp", "EXP"), ("log", "LOG"), ("sqrt", "SQRT"), ("rsqrt", "RSQRT"),
            ("abs", "ABS"), ("maximum", "MAXIMUM"), ("minimum", "MINIMUM"), ("sum", "SUM"), ("amax", "REDUCE_MAX"),
            ("amin", "REDUCE_MIN"), ("stack", "PACK"), ("flip", "REVERSE_V2"), ("pixel_shuffle", "DEPTH_TO_SPACE"),
            ("pixel_unshuffle", "SPACE_TO_DEPTH"),
        )
    },
    "aten.div": "DIV",
    **dict.fromkeys(("ClassToken", "concat", "aten.cat"), "CONCATENATION"),
    **dict.fromkeys(
        ("Flatten", "Unflatten", "Reshape", "aten.view", "aten._unsafe_view", "aten.reshape", "aten._reshape_alias",
         "aten.squeeze", "aten.unsqueeze"),
        "RESHAPE",
    ),
    **dict.fromkeys(("Permute", "aten.permute", "aten.transpose", "aten.t"), "TRANSPOSE"),
    **dict.fromkeys(("Select", "Crop", "aten.slice", "aten.select"), "STRIDED_SLICE"),
    **dict.fromkeys(("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.unbind"), "SPLIT"),
    **dict.fromkeys(("ZeroPad1d", "ZeroPad2d", "aten.constant_pad_nd"), "PAD"),
    **dict.fromkeys(("ConstantPad1d", "ConstantPad2d"), "PADV2"),
    **dict.fromkeys(("ReflectionPad1d", "ReflectionPad2d"), "MIRROR_PAD"),
    "aten.expand": "BROADCAST_TO",
    **dict.fromkeys(("aten.upsample_nearest2d",), "RESIZE_NEAREST_NEIGHBOR"),
    **dict.fromkeys(("aten.upsample_bilinear2d",), "RESIZE_BILINEAR"),
    "PixelShuffle": "DEPTH_TO_SPACE",
    "PixelUnshuffle": "SPACE_TO_DEPTH",
    **dict.fromkeys(("Embedding", "aten.embedding"), "GATHER"),
}  # fmt: skip
"""Layers and kernels that are one operator."""

SEVERAL: Mapping[str, tuple[tuple[str, bool], ...]] = {
    **dict.fromkeys(
        ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "aten.native_batch_norm",
         "aten._native_batch_norm_legit_no_training"),
        (("MUL", False), ("ADD", False)),
    ),
    **dict.fromkeys(("SiLU", "aten.silu"), (("LOGISTIC", False), ("MUL", True))),
    **dict.fromkeys(("Hardsigmoid", "aten.hardsigmoid"), (("ADD", False), ("MUL", False))),
    "ChannelShuffle": (("RESHAPE", False), ("TRANSPOSE", False), ("RESHAPE", False)),
}  # fmt: skip
"""Layers that are several operators in a row, each with whether it takes the input of the layer as well."""

KERNELS = _words(
    """ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED
    GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
    NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE
    RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE
    TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE"""
)
"""The operators that TensorFlow Lite Micro has a kernel for, by its micro_mutable_op_resolver.h of August 2026."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call of a layer, or of a kernel of torch that is none; ``kind`` is the name of either.

    ``inputs`` are the names of the tensors that it takes, and ``outputs`` its own with their shapes. ``macs`` are those
    of a layer; a kernel has none, and is in no patches.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    outputs: tuple[tuple[str, Shape], ...]
    layer: Layer | None = None
    macs: int = 0
    groups: tuple[int, int] = (1, 1)
    """Of a convolution that has no layer, its groups and its input channels."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What an operator gives, or the network takes: one byte for each element, four for an index."""

    name: str
    shape: Shape
    item_bytes: int = 1

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.item_bytes


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; ``layer`` is the name of the layer that it is, or is a part of.

    ``reads`` says which positions of its inputs it depends on, for each of them; None where that is not known.
    """

    layer: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[Dims, ...] | None
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """The operators in the order in which they run, and the tensors in the order in which they come up.

    ``opaque`` are the kinds of layers that are several operators which are not known: each stands as one.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    opaque: tuple[str, ...] = ()

    def lifetimes(self) -> dict[str, tuple[int, int]]:
        """From which operator to which each tensor is needed, 1 is the first; inputs are there before that, outputs
        until the end.
        """
        found = dict.fromkeys(self.inputs, (0, 0))
        for number, operator in enumerate(self.operators, 1):
            found.update((name, (number, number)) for name in operator.outputs)
            found.update((name, (found[name][0], number)) for name in operator.inputs)
        found.update((name, (found[name][0], len(self.operators))) for name in self.outputs)
        return found


def steps_of(graph: Graph) -> Iterator[Step]:
    """The calls of a graph."""
    for node in graph.nodes:
        outputs = ((node.name, node.output_shape),)
        yield Step(node.name, node.layer.kind(), node.inputs, node.input_shapes, outputs, node.layer, node.cost.macs)


def program(steps: Iterable[Step], inputs: Sequence[Tensor], outputs: Sequence[str]) -> Program:
    """Make the operators of a network; ``outputs`` are the names of the tensors that it returns."""
    made = _Lowering(inputs)
    for step in steps:
        made.add(step)
    return made.finish(outputs)


class _Lowering:
    """Takes layers apart, and finds out what is constant and what is gone."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = tuple(tensor.name for tensor in inputs)
        self.tensors = {tensor.name: tensor for tensor in inputs}
        self.operators: list[Operator] = []
        self.other_names: dict[str, str] = {}
        self.opaque: dict[str, None] = {}

    def add(self, step: Step) -> None:
        """Add a layer."""
        taken = [self.other_names.get(name, name) for name in step.inputs]
        places = [place for place, name in enumerate(taken) if name in self.tensors]
        held = [taken[place] for place in places]
        if not held:
            # Nothing that it takes depends on an input: its output is a constant.
            return
        if step.kind in NOTHING or step.kind.removesuffix("_") in NOTHING:
            self.other_names[step.outputs[0][0]] = held[0]
            return
        kind = step.kind if step.kind in SINGLE or step.kind in SEVERAL else step.kind.removesuffix("_")
        reads = _reads(step)
        if reads is not None:
            reads = tuple(reads[place] for place in places)
        if kind in SEVERAL:
            self._row(step, kind, held[0])
        elif len(held) > 2 and SINGLE.get(kind) in ("ADD", "MUL"):
            self._chain(step, SINGLE[kind], held)
        else:
            op = _op(step, kind)
            if op is None:
                self.opaque[step.kind] = None
            self._put(step, op or step.kind, held, step.outputs, reads, step.macs)

    def _put(
        self,
        step: Step,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[tuple[str, Shape]],
        reads: tuple[Dims, ...] | None,
        macs: int = 0,
    ) -> None:
        for name, shape in outputs:
            self.tensors[name] = Tensor(name, shape)
        self.operators.append(Operator(step.name, op, tuple(inputs), tuple(name for name, _ in outputs), reads, macs))

    def _row(self, step: Step, kind: str, source: str) -> None:
        """Operators one after the other, on tensors of one shape."""
        (name, shape), before = step.outputs[0], source
        every = SEVERAL[kind]
        for number, (op, takes_both) in enumerate(every, 1):
            made = name if number == len(every) else f"{name}({op.lower()})"
            inputs = (source, before) if takes_both else (before,)
            self._put(step, op, inputs, [(made, shape)], (same(len(shape)),) * len(inputs))
            before = made

    def _chain(self, step: Step, op: str, inputs: Sequence[str]) -> None:
        """An operator on two tensors, as often as there are more than one."""
        (name, shape), before = step.outputs[0], inputs[0]
        for number, other in enumerate(inputs[1:], 1):
            made = name if number == len(inputs) - 1 else f"{name}({number})"
            self._put(step, op, (before, other), [(made, shape)], (same(len(shape)),) * 2)
            before = made

    def finish(self, outputs: Sequence[str]) -> Program:
        """Join operators to what is before them, and leave out what no output depends on."""
        ends = tuple(dict.fromkeys(name for out in outputs if (name := self.other_names.get(out, out)) in self.tensors))
        operators, ends = _fused(_needed(self.operators, ends), ends)
        taken = {*ends, *(name for operator in operators for name in operator.inputs)}
        operators = [_without_unused(operator, taken) for operator in operators]
        used = {name for operator in operators for name in (*operator.inputs, *operator.outputs)}
        tensors = {name: tensor for name, tensor in self.tensors.items() if name in used or name in self.inputs}
        order = [*self.inputs, *(name for operator in operators for name in operator.outputs)]
        return Program(
            self.inputs,
            ends,
            tuple(operators),
            {name: tensors[name] for name in order},
            tuple(kind for kind in self.opaque if any(operator.op == kind for operator in operators)),
        )


def _op(step: Step, kind: str) -> str | None:
    """The operator that a layer is; None where it is several, or nobody knows."""
    found = SINGLE.get(kind)
    groups, channels = step.groups
    if step.layer is not None:
        values = dict(step.layer.items())
        groups, channels = values.get("groups", 1), values.get("in_channels", 0)
        if kind == "Upsample":
            return "RESIZE_NEAREST_NEIGHBOR" if values["mode"].startswith("nearest") else "RESIZE_BILINEAR"
        if kind.startswith("Adaptive") and set(step.outputs[0][1][2:]) == {1}:
            return "MEAN" if "Avg" in kind else "REDUCE_MAX"
        if kind == "Hardtanh":
            bounds = (values["min_val"], values["max_val"])
            return {(-1.0, 1.0): "RELU_N1_TO_1", (0.0, 6.0): "RELU6"}.get(bounds)
    if found == "CONV_2D" and groups == channels and groups > 1:
        return "DEPTHWISE_CONV_2D"
    return found


def _reads(step: Step) -> tuple[Dims, ...] | None:
    """Which positions of its inputs a layer depends on; None where that is not known, or where shapes are others."""
    if step.layer is None:
        return None
    reads = step.layer.reads(step.input_shapes, step.outputs[0][1])
    return None if isinstance(reads, (str, Reshaped)) else reads


def _without_unused(operator: Operator, taken: Container[str]) -> Operator:
    """Leave out what torch gives beside the first output and nothing takes: places of maxima, states, weights of
    attention. Of a SPLIT, all parts are written.
    """
    if operator.op == "SPLIT":
        return operator
    kept = tuple(name for place, name in enumerate(operator.outputs) if not place or name in taken)
    return replace(operator, outputs=kept)


def _needed(operators: Sequence[Operator], outputs: Sequence[str]) -> list[Operator]:
    needed = set(outputs)
    found: list[Operator] = []
    for operator in reversed(operators):
        if needed & {*operator.outputs}:
            needed.update(operator.inputs)
            found.append(operator)
    return found[::-1]


def _fused(operators: Sequence[Operator], outputs: tuple[str, ...]) -> tuple[list[Operator], tuple[str, ...]]:
    """Let each activation become a part of the operator before it, which then gives what the activation gave; and let
    several slices in a row be one.
    """
    users: dict[str, int] = {}
    for operator in operators:
        for name in operator.inputs:
            users[name] = users.get(name, 0) + 1
    makers = {name: place for place, operator in enumerate(operators) for name in operator.outputs}
    found: list[Operator | None] = [*operators]
    taken: set[int] = set()
    for place, operator in enumerate(operators):
        source = operator.inputs[0]
        maker = makers.get(source)
        before = None if maker is None else found[maker]
        if maker is None or before is None or users[source] > 1 or source in outputs:
            continue
        if operator.op in ACTIVATIONS and before.op in FUSED_INTO and maker not in taken:
            taken.add(maker)
            found[maker] = replace(before, outputs=operator.outputs)
        elif operator.op == before.op == "STRIDED_SLICE":
            # Each cuts one dimension in torch.
            found[maker] = replace(before, outputs=operator.outputs, reads=None)
        else:
            continue
        found[place] = None
        makers[operator.outputs[0]] = maker
    return [operator for operator in found if operator is not None], outputs
