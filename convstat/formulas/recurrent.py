"""Recurrent cells: a matrix product with the input and one with the state, for every gate at every step."""

from __future__ import annotations

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Pre-activations for each hidden unit: RNN has one, GRU reset, update and new, LSTM input, forget, cell and output."""

ACTIVATIONS = {"RNN": 1, "GRU": 3, "LSTM": 5}
"""Activation functions for each hidden unit and step: one for each gate, and for LSTM the tanh of the cell state."""

UPDATES = {"RNN": 1, "GRU": 8, "LSTM": 8}
"""Element-wise operations for each hidden unit and step.

Each gate adds its two products, ``W x + U h``: 1, 3 and 4.
GRU then has ``n = tanh(W x + r * (U h))`` and ``h' = (1 - z) * n + z * h``: 1 + 4 more, 8 in all.
LSTM has ``c' = f * c + i * g`` and ``h' = o * tanh(c')``: 3 + 1 more, 8 in all.
"""


def recurrent_inputs(input_size: int, state_size: int, num_layers: int, directions: int) -> list[int]:
    """The number of features that each layer of a stack reads: the input's, then the states of all directions below.

    >>> recurrent_inputs(10, 20, num_layers=3, directions=2)
    [10, 40, 40]
    """
    return [input_size] + [state_size * directions] * (num_layers - 1)


def cell_macs(gates: int, input_size: int, hidden_size: int, proj_size: int = 0) -> int:
    """The multiply-accumulates of one cell at one step.

    Every gate maps the input and the state to ``hidden_size`` values.
    The state is ``hidden_size`` wide, or ``proj_size`` where the cell projects its output to that.
    The first step multiplies a state of zeros, as torch does: taps on zeros count.

    >>> cell_macs(4, 10, 20) == 4 * 20 * (10 + 20)
    True
    >>> cell_macs(4, 10, 20, proj_size=5) == 4 * 20 * (10 + 5) + 20 * 5
    True
    """
    state_size = proj_size or hidden_size
    return gates * hidden_size * (input_size + state_size) + hidden_size * proj_size


def recurrent_macs(
    gates: int,
    input_size: int,
    hidden_size: int,
    *,
    steps: int,
    num_layers: int = 1,
    directions: int = 1,
    proj_size: int = 0,
) -> int:
    """The multiply-accumulates of a stack of cells over a sequence, for one sample.

    Each direction of each layer runs its cell once at each of ``steps`` steps.

    >>> recurrent_macs(4, 10, 20, steps=7, num_layers=2) == 7 * (4 * 20 * (10 + 20) + 4 * 20 * (20 + 20))
    True
    """
    inputs = recurrent_inputs(input_size, proj_size or hidden_size, num_layers, directions)
    return steps * directions * sum(cell_macs(gates, size, hidden_size, proj_size) for size in inputs)
