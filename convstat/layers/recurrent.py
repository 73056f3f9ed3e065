"""Recurrent layers over a sequence; the output is the sequence of states of the last layer.

MACs are the products of the gates' matrices and of the projection, in every layer and direction at every step;
the sums with the biases, the gates' activations and the updates of the state each have their entry in ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convstat.errors import LayerError
from convstat.formulas import derivation as derivations
from convstat.formulas import recurrent as formulas
from convstat.formulas.cost import Cost, Shape
from convstat.formulas.derivation import Derivation
from convstat.formulas.reads import Place, Reads
from convstat.layers.base import Argument, Count, Flag, Layer, Real, Word, last_axis
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor

if TYPE_CHECKING:
    import torch


MAX_LAYERS = 10_000
"""More would take long to name the parameters of, and no one means it."""


class _Recurrent(Layer):
    """A stack of cells run along a sequence."""

    family = "recurrent"
    ranks = (3,)

    input_size = Argument(Count(), infer=last_axis)
    hidden_size = Argument(Count())
    num_layers = Argument(Count(), 1)
    bias: Argument[bool]
    batch_first: Argument[bool]
    dropout: Argument[float]
    bidirectional: Argument[bool]
    proj_size: Argument[int]

    def _projection(self) -> int:
        size: int = vars(self).get("proj_size", 0)
        return size

    def _state(self) -> int:
        """The size of what one direction of one layer delivers."""
        return self._projection() or self.hidden_size

    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def check(self, inputs: tuple[Shape, ...]) -> None:
        if not 0 <= self.dropout <= 1:
            raise LayerError(f"dropout should be a number in range [0, 1], but got {self.dropout}", argument="dropout")
        if self.num_layers > MAX_LAYERS:
            raise LayerError(f"num_layers is larger than {MAX_LAYERS:,}: {self.num_layers}", argument="num_layers")
        if self._projection() >= self.hidden_size:
            raise LayerError(
                f"proj_size has to be smaller than hidden_size:"
                f" proj_size={self._projection()}, hidden_size={self.hidden_size}",
                argument="proj_size",
            )

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        return (*inputs[0][:-1], self._state() * self._directions())

    def reads(self, inputs: tuple[Shape, ...], output: Shape) -> Reads:
        batch = 0 if self.batch_first else 1
        return ({batch: Place(batch)},)

    def cost(self, inputs: tuple[Shape, ...], output: Shape) -> Cost:
        first, second, _ = inputs[0]
        # A step of one sample; which of the two dimensions is the batch does not matter to a product.
        calls = first * second
        kind, directions = self.kind(), self._directions()
        gates = formulas.GATES[kind]
        macs = formulas.recurrent_macs(
            gates,
            self.input_size,
            self.hidden_size,
            steps=calls,
            num_layers=self.num_layers,
            directions=directions,
            proj_size=self._projection(),
        )
        units = calls * self.num_layers * directions * self.hidden_size
        other = {"activation": units * formulas.ACTIVATIONS[kind], "elementwise": units * formulas.UPDATES[kind]}
        if self.bias:
            # torch keeps two biases for each gate, one with each product.
            other["bias"] = units * gates * 2
        return Cost(macs, other)

    def activations(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        # The products of the gates with the input and with the state, and the projection.
        rows = 2 * formulas.GATES[self.kind()] * self.hidden_size + self._projection()
        return inputs[0][0] * inputs[0][1] * self.num_layers * self._directions() * rows

    def derivation(self, inputs: tuple[Shape, ...], output: Shape) -> Derivation:
        directions = self._directions()
        sizes = formulas.recurrent_inputs(self.input_size, self._state(), self.num_layers, directions)
        calls, gates = inputs[0][0] * inputs[0][1], formulas.GATES[self.kind()]
        return derivations.recurrent(calls, gates, sizes, self.hidden_size, directions, self._projection())

    @classmethod
    def parameter_axes(cls) -> Mapping[str, tuple[str, ...]]:
        # Those of any layer and direction: torch's names go on with _l0, _l0_reverse, _l1.
        rows = "gates*hidden_size"
        weights = {"weight_ih": (rows, "input"), "weight_hh": (rows, "state")}
        return {**weights, "bias_ih": (rows,), "bias_hh": (rows,), "weight_hr": ("proj_size", "hidden_size")}

    def parameters(self) -> Mapping[str, Shape]:
        rows = formulas.GATES[self.kind()] * self.hidden_size
        state, projection, directions = self._state(), self._projection(), self._directions()
        inputs = formulas.recurrent_inputs(self.input_size, state, self.num_layers, directions)
        shapes: dict[str, Shape] = {}
        for layer, size in enumerate(inputs):
            for suffix in ("", "_reverse")[:directions]:
                end = f"_l{layer}{suffix}"
                shapes[f"weight_ih{end}"] = (rows, size)
                shapes[f"weight_hh{end}"] = (rows, state)
                if self.bias:
                    shapes[f"bias_ih{end}"] = shapes[f"bias_hh{end}"] = (rows,)
                if projection:
                    shapes[f"weight_hr{end}"] = (projection, self.hidden_size)
        return shapes

    def call(self, module: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = module(*inputs)[0]
        return output

    def run(self, kernels: Kernels, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        rows, directions = x.shape[0 if self.batch_first else 1], self._directions()
        states = self._first_states(kernels, rows)
        if self.batch_first:
            x = kernels.transpose(x, 0, 1)
        for _ in states:
            kernels.ran("unbind")
        finals: list[tuple[Tensor, ...]] = []
        for _ in range(self.num_layers):
            x, ends = self._layer(kernels, x, rows, states)
            finals += ends
        count = self.num_layers * directions
        kept = [kernels.new("stack", (count, *of_one[0].shape)) for of_one in reversed(list(zip(*finals, strict=True)))]
        del finals, ends
        if self.batch_first:
            x = self._batch_first(kernels, x)
        del kept
        return x

    def _batch_first(self, kernels: Kernels, x: Tensor) -> Tensor:
        """The batch in the first dimension again."""
        return kernels.transpose(x, 0, 1, "transpose_")

    def _first_states(self, kernels: Kernels, rows: int) -> tuple[Tensor, ...]:
        """The states that a sequence begins with."""
        shape = (self.num_layers * self._directions(), rows, self._state())
        return (kernels.new("zeros", shape),)

    def _layer(
        self, kernels: Kernels, x: Tensor, rows: int, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """One layer in each direction: its output, and the last states."""
        steps = x.shape[0]
        kernels.ran("unbind")
        whole, ends, outputs = [], [], []
        for _ in range(self._directions()):
            state, outputs_of_one = states, []
            for _ in range(steps):
                state = self._cell(kernels, rows, state)
                outputs_of_one.append(state[0])
            whole.append(kernels.new("stack", (steps, rows, self._state())))
            # Those of the one direction are there until the other has run too.
            outputs.append(outputs_of_one)
            ends.append(state)
        output = whole[0] if len(whole) == 1 else kernels.new("cat", (steps, rows, len(whole) * self._state()))
        return output, ends

    def _cell(self, kernels: Kernels, rows: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step: the next state, from the products of the gates with the input and with the state before."""
        raise NotImplementedError

    def _gates(self, kernels: Kernels, rows: int) -> Tensor:
        """The product of one of the two matrices of all gates."""
        kernels.ran("t")
        size = formulas.GATES[self.kind()] * self.hidden_size
        return kernels.new("addmm" if self.bias else "mm", (rows, size))


class RNN(_Recurrent):
    """Elman network: one gate.

    As in torch, the first dimension is the sequence unless batch_first is set; that moves the state, not the count.
    """

    aliases = ("rnn",)

    nonlinearity = Argument(Word("tanh", "relu"), "tanh")
    bias = Argument(Flag(), True)
    batch_first = Argument(Flag(), False)
    dropout = Argument(Real(), 0.0)
    bidirectional = Argument(Flag(), False)

    def _cell(self, kernels: Kernels, rows: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        of_input, of_state = self._gates(kernels, rows), self._gates(kernels, rows)
        sums = kernels.inplace("add_", of_state)
        result = kernels.elementwise(self.nonlinearity, sums)
        del of_input
        return (result,)


class GRU(_Recurrent):
    """Gated recurrent unit: three gates.

    As in torch, the first dimension is the sequence unless batch_first is set; that moves the state, not the count.
    """

    aliases = ("gru",)

    bias = Argument(Flag(), True)
    batch_first = Argument(Flag(), False)
    dropout = Argument(Real(), 0.0)
    bidirectional = Argument(Flag(), False)

    def _cell(self, kernels: Kernels, rows: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        gates = []
        for _ in range(2):
            gates.append(self._gates(kernels, rows))
            kernels.ran("unsafe_split")
        for op in ("add_", "sigmoid_", "add_", "sigmoid_", "mul_"):
            kernels.ran(op)
        shape = (rows, self.hidden_size)
        new = kernels.inplace("tanh_", kernels.new("add", shape))
        result = kernels.new("sub", shape)
        kernels.ran("mul_")
        kernels.ran("add_")
        del gates, new
        return (result,)


class LSTM(_Recurrent):
    """Long short-term memory: four gates, and a projection of the state where proj_size is set.

    As in torch, the first dimension is the sequence unless batch_first is set; that moves the state, not the count.
    """

    aliases = ("lstm",)

    bias = Argument(Flag(), True)
    batch_first = Argument(Flag(), False)
    dropout = Argument(Real(), 0.0)
    bidirectional = Argument(Flag(), False)
    proj_size = Argument(Count(0), 0)

    def _batch_first(self, kernels: Kernels, x: Tensor) -> Tensor:
        return kernels.transpose(x, 0, 1)

    def _first_states(self, kernels: Kernels, rows: int) -> tuple[Tensor, ...]:
        count = self.num_layers * self._directions()
        sizes = (self._state(), self.hidden_size)
        hidden, cell = (kernels.new("zeros", (count, rows, size)) for size in sizes)
        return hidden, cell

    def _cell(self, kernels: Kernels, rows: int, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        gates, others = self._gates(kernels, rows), self._gates(kernels, rows)
        kernels.ran("add_")
        del others
        for op in ("unsafe_split", "sigmoid_", "sigmoid_", "tanh_", "sigmoid_"):
            kernels.ran(op)
        shape = (rows, self.hidden_size)
        cell = kernels.new("mul", shape)
        added = kernels.new("mul", shape)
        kernels.ran("add_")
        del added
        activated = kernels.new("tanh", shape)
        hidden = kernels.new("mul", shape)
        del activated
        if self.proj_size:
            kernels.ran("t")
            hidden = kernels.new("mm", (rows, self.proj_size))
        del gates
        return hidden, cell
