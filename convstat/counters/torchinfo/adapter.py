"""torchinfo: a table of modules, with "mult-adds": parameters times the places where they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

from convstat.counters.adapter import Adapter, asking, loading, said
from convstat.counters.base import CounterFailure, PredictedFailure, Prediction, Reported
from convstat.counters.inputs import by_name, keywords_of, retraced
from convstat.counters.passes import Made
from convstat.patches.room import replaced_globals
from convstat.trace.walks import EVAL, OWN_BY_NAME

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


_OPTIONS = frozenset(
    {
        "model",
        "input_size",
        "input_data",
        "batch_dim",
        "cache_forward_pass",
        "col_names",
        "col_width",
        "depth",
        "device",
        "dtypes",
        "mode",
        "row_settings",
        "verbose",
    }
)
"""The parameters of ``torchinfo.summary`` itself: what has one of these names cannot be handed on by it."""


class Torchinfo(Adapter):
    """The one function of torchinfo."""

    name = "torchinfo"
    made: Made = "unseen"
    walks = (OWN_BY_NAME, EVAL)
    unit = '"mult-adds": the parameters of the innermost modules, times the batch, for convolutions times the positions'
    help = "pip install torchinfo"
    counts = "parameters of the innermost modules times the batch, for convolutions times the output positions as well"
    defects: tuple[str, ...] = (
        "Prices a linear layer by its parameters and the batch: the sequence length is ignored.",
        "Prices transposed convolutions at their output positions: too large by about the stride squared.",
        "Prices the weights of a recurrent cell once per output element.",
        "Does not count attention, parametrized layers and products called as functions.",
        "Counts the parameters of norms and embeddings as if each were multiplied once per sample.",
        "Takes the second dimension of a convolution's output for its channels, even without a batch.",
        "Counts the parameters of a shared module again in each module that contains it, and tied parameters in each "
        "module.",
        "Excludes the parameters of modules that contain others from its bytes.",
        "Sets all modules to the train or eval mode of the model.",
    )

    def run(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Reported:
        """Ask torchinfo, which returns its statistics; it wraps what the model raises into an error of its own."""
        with loading("torchinfo"):
            from torchinfo import torchinfo
        # It keeps the modules of every model that it has seen, by the name of the model's class.
        data, keywords = _passed(_given(model, inputs))
        with asking(model, _failure), replaced_globals(torchinfo, _cached_forward_pass={}):
            statistics = torchinfo.summary(model, input_data=data, mode="eval", verbose=0, **keywords)
        return Reported(params=int(statistics.total_params), macs=int(statistics.total_mult_adds))

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by torchinfo's rules."""
        from convstat.counters.torchinfo import rows

        return rows.predict(trace)

    def why_not_meta(self, trace: Trace) -> str | None:
        """It looks at shapes only, unless weights are pruned: then it adds up their masks."""
        for info in trace.modules:
            if any(parameter.name.endswith("_orig") for parameter in info.parameters):
                return f"it adds up the masks of pruned weights, as in {info.path or 'the model'}"
        return None

    def retrace(self, model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], trace: Trace) -> Trace:
        """It hooks every module, as the trace does; of pruned weights it adds up the masks, which have values."""
        from dataclasses import replace

        from convstat.counters.torchinfo.rows import kept_of

        trace = retraced(model, inputs, trace, _given)
        _check_sizes(_passed(_given(model, inputs))[0])
        modules = list(trace.modules)
        for place, info in enumerate(modules):
            masks = {buffer.name for buffer in info.buffers if buffer.name.endswith("_mask")}
            if info.registered and masks:
                held = model.get_submodule(info.path)
                kept = {kept_of(name.removesuffix("_mask")): _sum(held._buffers[name]) for name in masks}
                modules[place] = replace(info, attributes={**info.attributes, **kept})
        return replace(trace, modules=tuple(modules)) if modules != list(trace.modules) else trace

    def reads_values(self, trace: Trace) -> str | None:
        """Why its answer does not follow from shapes alone; None where it does."""
        return self.why_not_meta(trace)


def _failure(error: Exception) -> CounterFailure:
    cause = error.__cause__
    return said(cause if isinstance(cause, Exception) else error)


def _given(model: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What it is called with: as the model is, but for a keyword that it would take for an option of its own."""
    return by_name(model, inputs) if inputs and keywords_of(inputs).keys() & _OPTIONS else inputs


def _passed(inputs: tuple[Any, ...]) -> tuple[list[Any] | dict[str, Any], dict[str, Any]]:
    """Its ``input_data``, and the further arguments of forward.

    The data are the positional arguments, or without any the tensors by their names: it adds up the sizes of these.
    """
    import torch

    keywords = dict(keywords_of(inputs))
    if inputs:
        return list(inputs), keywords
    data = {n: value for n, value in keywords.items() if isinstance(value, torch.Tensor) or n in _OPTIONS}
    return data, {name: value for name, value in keywords.items() if name not in data}


def _check_sizes(value: Any) -> None:
    """Foresee that the sizes of the data cannot be added up: beside tensors and what holds them, numbers can."""
    import torch

    if value is None or isinstance(value, str):
        raise PredictedFailure(
            f"TypeError: it adds up the sizes of the inputs, and here one is {'None' if value is None else 'a str'}"
        )
    if isinstance(value, (torch.Tensor, Number)):
        return
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, Iterable) else ():
        _check_sizes(item)


def _sum(mask: torch.Tensor | None) -> int | None:
    from torch._subclasses.fake_tensor import FakeTensor

    return None if mask is None or mask.is_meta or isinstance(mask, FakeTensor) else int(mask.sum())


TORCHINFO = Torchinfo()
