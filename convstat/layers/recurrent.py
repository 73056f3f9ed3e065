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


class GRU(_Recurrent):
    """Gated recurrent unit: three gates.

    As in torch, the first dimension is the sequence unless batch_first is set; that moves the state, not the count.
    """

    aliases = ("gru",)

    bias = Argument(Flag(), True)
    batch_first = Argument(Flag(), False)
    dropout = Argument(Real(), 0.0)
    bidirectional = Argument(Flag(), False)


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
