"""The arenas of TensorFlow Lite Micro itself: ``python tests/measured_arenas.py > tests/golden/arenas.jsonl``.

Each line is a net of operators that take tensors of one dimension: the sizes of its tensors, the operators with the
numbers of their inputs and output, the outputs of the net, and the bytes of the arena's head, where the planner puts
them. The package ``tflite-micro`` runs them: GATHER makes a tensor of any size of another one, and CONCATENATION joins
several.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

NETS = 200


class Net(NamedTuple):
    """Sizes of tensors, the first of which is the input; operators, each with its inputs and its output; outputs."""

    sizes: list[int]
    operators: list[tuple[list[int], int]]
    outputs: list[int]


def drawn(seed: int) -> Net:
    """A net put together at random."""
    generator = random.Random(seed)
    sizes = [generator.randint(1, 400) * generator.choice([1, 1, 7])]
    operators: list[tuple[list[int], int]] = []
    for _ in range(generator.randint(1, 14)):
        if len(sizes) > 2 and generator.random() < 0.35:
            inputs = generator.sample(range(len(sizes)), generator.randint(2, min(3, len(sizes))))
            size = sum(sizes[number] for number in inputs)
        else:
            inputs = [generator.randrange(max(0, len(sizes) - 3), len(sizes))]
            size = generator.choice([generator.randint(1, 2000), sizes[inputs[0]]])
        operators.append((inputs, len(sizes)))
        sizes.append(size)
    used = {number for inputs, _ in operators for number in inputs}
    return Net(sizes, operators, [output for _, output in operators if output not in used])


def flatbuffer(net: Net) -> bytes:
    """The net as a file of TensorFlow Lite."""
    import flatbuffers
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], []
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], net.outputs

    def buffer(data: Sequence[int] | None) -> int:
        made = schema.BufferT()
        made.data = data
        model.buffers.append(made)
        return len(model.buffers) - 1

    def tensor(size: int, kind: int, place: int) -> int:
        made = schema.TensorT()
        made.shape, made.type, made.buffer = [size], kind, place
        if kind == schema.TensorType.INT8:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [1.0], [0]
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    nothing = buffer(None)
    for size in net.sizes:
        tensor(size, schema.TensorType.INT8, nothing)
    model.operatorCodes = []
    for code in (schema.BuiltinOperator.GATHER, schema.BuiltinOperator.CONCATENATION):
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = code
        made.version = 1
        model.operatorCodes.append(made)
    for inputs, output in net.operators:
        operator = schema.OperatorT()
        operator.outputs = [output]
        options: Any
        if len(inputs) == 1:
            indices = buffer([0] * 4 * net.sizes[output])
            operator.inputs = [inputs[0], tensor(net.sizes[output], schema.TensorType.INT32, indices)]
            options, kind = schema.GatherOptionsT(), schema.BuiltinOptions.GatherOptions
            options.batchDims, operator.opcodeIndex = 0, 0
        else:
            operator.inputs = inputs
            options, kind = schema.ConcatenationOptionsT(), schema.BuiltinOptions.ConcatenationOptions
            operator.opcodeIndex = 1
        options.axis = 0
        operator.builtinOptions, operator.builtinOptionsType = options, kind
        graph.operators.append(operator)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from measured_arenas import drawn, flatbuffer
from tflite_micro import runtime
for seed in range(int(sys.argv[2])):
    runtime.Interpreter.from_bytes(flatbuffer(drawn(seed)), arena_size=2_000_000).print_allocations()
"""


def measured(nets: int) -> list[int]:
    """The heads of the arenas of the first nets; the interpreter writes them past Python's own streams."""
    from pathlib import Path

    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), str(nets)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return [int(found) for found in re.findall(r"Arena allocation head (\d+) bytes", done.stdout + done.stderr)]


if __name__ == "__main__":
    for seed, head in enumerate(measured(NETS)):
        print(json.dumps([*drawn(seed), head]))
