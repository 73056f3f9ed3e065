"""torchsummary: a table of shapes and parameters, and four memory figures; it counts no operations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import CounterFailure, PredictedFailure, Prediction, Reported
from convstat.counters.capture import device_of, first_line
from convstat.counters.inputs import by_position, reads_values, retraced, values_of
from convstat.counters.passes import Made
from convstat.patches.room import replaced_globals
from convstat.trace.walks import APPLY

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace
    from convstat.trace.calls import KernelCall

_PARAMS = re.compile(r"^Total params: ([\d,]+)$", re.MULTILINE)
_MEMORY = {
    "input": re.compile(r"^Input size \(MB\): ([\d.]+)$", re.MULTILINE),
    "forward_backward": re.compile(r"^Forward/backward pass size \(MB\): ([\d.]+)$", re.MULTILINE),
    "params": re.compile(r"^Params size \(MB\): ([\d.]+)$", re.MULTILINE),
    "total": re.compile(r"^Estimated Total Size \(MB\): ([\d.]+)$", re.MULTILINE),
}

_REASONS = (
    (
        "'int' object has no attribute 'numpy'",
        "no layer inside the model has a weight or a bias, and its sum of nothing fails",
        "wrap a single layer in a Sequential",
    ),
    (
        "has no attribute 'size'",
        "it reads the sizes of the first input and the output of each layer, and here one is not a tensor",
        "it needs layers that return a tensor or a flat tuple of tensors",
    ),
    (
        "tuple index out of range",
        "it reads the first positional input of each layer, and here one is called with keywords only",
        None,
    ),
    ("inhomogeneous", "it multiplies shapes, and here some differ in their number of dimensions", None),
    ("scalar type", "it makes float32 inputs, and this model takes other dtypes", None),
    ("should be the same", "it makes float32 inputs, and this model takes other dtypes", "use --dtype float32"),
    ("must have the same dtype", "it makes float32 inputs, and this model takes other dtypes", "use --dtype float32"),
)
"""What its exceptions mean: a part of the message, the reason in words, what would help."""


class Torchsummary(Adapter):
    """The one function of torchsummary."""

    name = "torchsummary"
    made: Made = "unseen"
    walks = (APPLY,)
    variant = "summary"
    unit = "parameters and memory; no operations"
    help = "pip install torchsummary"
    counts = "weight and bias of each module at each call, and the memory of outputs; no operations"
    defects: tuple[str, ...] = (
        "Fails if no layer inside the model has a weight or a bias, for example if the model is a single layer.",
        "Fails on layers that return a dict, None or a nested tuple, such as an LSTM, and on calls by keyword.",
        "Counts only parameters named weight or bias: not those of attention, recurrent layers and the root module.",
        "Counts a shared layer at every call, a tied parameter in every layer, and no layer that is never called.",
        "Multiplies the sizes of several inputs, and of tuple outputs, in its memory figures.",
        "Counts the outputs of modules that contain others again in its memory, and assumes four bytes per number.",
        "Makes a float32 input with a batch of two, so models that take indices or another dtype fail.",
        "Runs a model in its current mode on random numbers: in train mode the statistics of batch norms change.",
        "Leaves its hooks on the model if the forward pass fails.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask torchsummary, and read its answer off what it prints: it returns nothing."""
        with loading("torchsummary"):
            from torchsummary import torchsummary  # type: ignore[import-untyped]
        shapes = [value.shape for value in _given(model, inputs)]
        device = device_of(values_of(inputs))
        stand_in = {"torch": _MetaTorch()} if device == "meta" else {}
        with asking(model, _failure) as printed, replaced_globals(torchsummary, **stand_in):
            sizes = [tuple(shape[1:]) for shape in shapes]
            torchsummary.summary(model, sizes, device="cuda" if device == "cuda" else "cpu")
        return _read(printed.getvalue())

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by torchsummary's rules."""
        from convstat.counters.torchsummary import rows

        return rows.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """It only looks at shapes; but it makes its own inputs, and where those do not fit, meta may not notice."""
        from convstat.counters.torchsummary.rows import depends_on_batch

        if depends_on_batch(trace) and any(_is_transposed(kernel) for kernel, _ in trace.kernels()):
            return "a transposed convolution takes any number of channels on the meta device"
        return None

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It runs the model with a batch of two, which shows where the batch does not come first, and with float32.

        A model that takes other numbers may turn these into its own, or fail.
        """
        from convstat.counters.torchsummary.rows import BATCH, depends_on_batch, is_of_other_type

        trace = retraced(model, inputs, trace, _given)
        draws = trace.device == "cpu" and reads_values(trace)
        if not (depends_on_batch(trace) or is_of_other_type(trace) or draws):
            return trace
        import torch

        from convstat.trace.record import record

        other = torch.float32 if is_of_other_type(trace) else None
        if draws:
            # What is drawn here is what it draws: all runs of a model start from one seed.
            made = tuple(torch.rand(BATCH, *value.shape[1:]) for value in _given(model, inputs))
        else:
            made = tuple(value.new_zeros((BATCH, *value.shape[1:]), dtype=other) for value in _given(model, inputs))
        try:
            return record(model, made)
        except Exception as error:
            how = "float32 inputs" if other else "a batch of two"
            raise PredictedFailure(f"it runs the model with {how}: {first_line(error)}") from error


def _given(model: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
    """The tensors that it makes others for."""
    passed = by_position(model, inputs)
    for value in passed:
        if not hasattr(value, "shape"):
            kind = "None" if value is None else f"a {type(value).__name__}"
            raise CounterFailure(f"it makes its inputs from shapes, and this model takes {kind} in addition to tensors")
    return passed


def _is_transposed(kernel: KernelCall) -> bool:
    return kernel.op == "aten.convolution" and len(kernel.args) > 6 and kernel.args[6] is True


def _failure(error: Exception) -> CounterFailure:
    said = first_line(error)
    for sign, reason, help in _REASONS:
        if sign in said:
            return CounterFailure(f"{reason} ({said})", help)
    return CounterFailure(said)


def _read(printed: str) -> Reported:
    params = _PARAMS.search(printed)
    memory = {name: pattern.search(printed) for name, pattern in _MEMORY.items()}
    if params is None or not all(memory.values()):
        raise CounterFailure("its output has no totals")
    return Reported(
        params=int(params[1].replace(",", "")),
        memory_mib={name: float(match[1]) for name, match in memory.items() if match},
    )


class _MetaTorch:
    """What torchsummary knows as ``torch`` while it looks at a model on the meta device.

    It makes its inputs with ``torch.rand(...).type(torch.FloatTensor)``: the one is to be made on meta,
    and the other is to leave it there. Everything else is torch's own.
    """

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self.FloatTensor = torch.float32

    def rand(self, *size: int) -> torch.Tensor:
        """Make a meta tensor."""
        return self._torch.rand(*size, device="meta")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


TORCHSUMMARY = Torchsummary()
