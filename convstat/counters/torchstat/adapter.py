"""torchstat: it replaces how the innermost modules are called, and calls the MACs "Flops" and the FLOPs "MAdd"."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading
from convstat.counters.base import CounterFailure, PredictedFailure, Prediction, Reported
from convstat.counters.capture import device_of, first_line
from convstat.counters.inputs import by_position, reads_values, retraced
from convstat.patches.imports import forgotten, given
from convstat.patches.room import own, patch, put, rerouted, routed, undone
from convstat.trace.walks import APPLY, EVAL

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace

_REASONS = (
    ("attribute 'long'", "it needs numpy.long", "use numpy 2 or later, or one before 1.24"),
    (
        "RecursionError",
        "the class of a layer is derived from that of an earlier layer, so its call never returns",
        None,
    ),
    ("wrap_call", "the class of a module is derived from that of an innermost layer, whose call it has replaced", None),
    ("compute_Linear", "it supports linear layers on two dimensions only", None),
    ("compute_", "its rule requires an image with a batch, or two dimensions", None),
    (
        "has no attribute 'size'",
        "it reads the sizes of the input and output of each layer, and here one is not a tensor",
        None,
    ),
    ("tuple index out of range", "it reads the first positional input of each layer, and here there is none", None),
    ("same dtype", "it makes a float32 input, and this model takes another dtype", "use --dtype float32"),
    ("should be the same", "it makes a float32 input, and this model takes another dtype", "use --dtype float32"),
)
"""What its exceptions mean: a part of what is said, or of where it is raised, the reason in words, what would help."""


class Torchstat(Adapter):
    """The rows of ``torchstat.stat`` before they are printed.

    To print them takes a pandas before 2, but they are complete before that, and exact, as the printed totals are not:
    so they are asked for where any pandas is installed, or none.
    """

    name = "torchstat"
    walks = (APPLY, EVAL)
    unit = '"Flops": MACs and biases of 2-d convolutions and linear layers, plus one operation per element for others'
    help = "pip install torchstat"
    counts = "operations and parameters of the innermost modules, at their last call, for a batch of one"
    defects: tuple[str, ...] = (
        'Swaps the names of its units: its "Flops" are MACs, and its "MAdd" are FLOPs.',
        "Keeps only the last call of a module that is called several times.",
        "Accepts one image without a batch as input, and runs the model on a batch of one.",
        "Fails on linear layers on more than two dimensions, and on layers that return a tuple or a dict.",
        "Fails if a model contains a layer of some class followed by one of a subclass: the call never returns.",
        "Does not multiply upsamplings by their channels.",
        "Has no Flops for transposed, 1-d and 3-d convolutions and adaptive pooling.",
        "Cannot print its table with pandas 2 or later, and needs numpy.long, which numpy 1.24 to 1.26 do not have.",
        "Leaves its call method on the classes of all layers, which affects every other model of the process.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask for torchstat's rows, and add up the figures in them; what it leaves on classes is taken away."""
        inputs = by_position(model, inputs)
        if len(inputs) != 1 or len(getattr(inputs[0], "shape", ())) != 4:
            raise CounterFailure("it makes one input, an image with three dimensions, and this model takes others")
        if device_of(inputs) != "cpu":
            raise CounterFailure("it makes its input on the CPU, whatever device the model is on")
        with asking(model, _failure), _imported() as torchstat, _calls_put_back(torchstat, model):
            rows = torchstat.ModelStat(model, tuple(inputs[0].shape[1:]))._analyze_model()
        flops, madd = sum(int(row.Flops) for row in rows), sum(int(row.MAdd) for row in rows)
        params = sum(int(row.parameter_quantity) for row in rows)
        return Reported(params=params, macs=flops, native={"Flops": flops, "MAdd": madd})

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters.torchstat import walk

        return walk.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """Wherever it looks, it takes a tensor to numpy."""
        return "it makes its input on the CPU, and converts tensors to numpy"

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It runs the model with a batch of one, which shows where the batch does not come first; it hooks nothing,
        which matters to transformer layers: they choose kernels by their hooks.
        """
        from convstat.counters.torchstat import walk
        from convstat.trace.record import record

        trace, inputs = retraced(model, inputs, trace, by_position), by_position(model, inputs)
        draws = trace.device == "cpu" and reads_values(trace) and len(inputs) == 1 and hasattr(inputs[0], "shape")
        batched = walk.depends_on_batch(trace)
        if not (batched or draws or walk.depends_on_hooks(trace)):
            return trace
        if draws:
            import torch

            # What is drawn here is what it draws: all runs of a model start from one seed.
            inputs = (torch.rand(1, *inputs[0].shape[1:]),)
        elif batched:
            inputs = tuple(tensor[:1] for tensor in inputs)
        try:
            return walk.of_another_run(record(model, inputs, hooked=()), trace, batched=batched)
        except Exception as error:
            raise PredictedFailure(f"it runs the model on a batch of one: {first_line(error)}") from error


def _failure(error: Exception) -> CounterFailure:
    said, where = first_line(error), error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    # Its assertions have no message, but the function that they stand in has a name.
    place = f" in {where.tb_frame.f_code.co_name}" if where is not None and isinstance(error, AssertionError) else ""
    for sign, reason, help in _REASONS:
        if sign in said + place:
            return CounterFailure(f"{reason} ({said}{place})", help)
    return CounterFailure(said + place)


@patch
def _imported() -> Iterator[Any]:
    """Import torchstat; without pandas, which only prints, a stand-in takes its place there until the end."""
    from importlib.util import find_spec

    with ExitStack() as stack:
        if "pandas" not in sys.modules and find_spec("pandas") is None:
            stack.enter_context(forgotten("torchstat"))
            stack.enter_context(given("torchstat", {"pandas": {"set_option": lambda *_: None}}))
        with loading("torchstat"):
            import torchstat
        yield torchstat


@patch
def _calls_put_back(torchstat: Any, model: torch.nn.Module) -> Iterator[None]:
    """Put back the ``__call__`` of the classes of a model's modules, which it replaces for good.

    Other threads call theirs as ever meanwhile.
    """
    kinds = {type(module) for module in model.modules()}
    before = {kind: own(kind, "__call__") for kind in kinds}
    originals: dict[Any, Any] = {kind: kind.__call__ for kind in kinds}

    def put_back() -> None:
        for kind, call in before.items():
            put(kind, "__call__", call)

    def make(hook: Any) -> Any:
        def hook_ours(self: Any) -> None:
            hook(self)
            for kind in self._origin_call:
                put(kind, "__call__", routed(originals[kind], vars(kind)["__call__"]))

        return hook_ours

    with undone(put_back), rerouted(torchstat.model_hook.ModelHook, "_sub_module_call_hook", make):
        yield


TORCHSTAT = Torchstat()
