"""The call of the model that a counter makes: each tool passes arguments by position, by name or both, as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from convstat.counters.base import CounterFailure, PredictedFailure
from convstat.counters.capture import first_line
from convstat.trace.calls import ListInfo, TensorInfo

if TYPE_CHECKING:
    import torch

    from convstat.trace import Trace


class Inputs(tuple[Any, ...]):
    """The positional arguments of a forward pass; ``keywords`` are those that are passed by name."""

    keywords: Mapping[str, Any] = MappingProxyType({})

    @classmethod
    def of(cls, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Inputs:
        """The arguments of one call."""
        inputs = cls(args)
        inputs.keywords = MappingProxyType(dict(kwargs))
        return inputs


def keywords_of(inputs: tuple[Any, ...]) -> Mapping[str, Any]:
    """What is passed by name; a plain tuple has only positional arguments."""
    return inputs.keywords if isinstance(inputs, Inputs) else {}


def values_of(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """All arguments, the positional ones first."""
    return (*inputs, *keywords_of(inputs).values())


def by_position(model: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments in the order of forward's parameters, for a tool that knows no names.

    A parameter that is left out before another one gets its default.
    Raises CounterFailure where an argument has a name and no position.
    """
    from convstat.trace.forward import positional_parameters

    rest = dict(keywords_of(inputs))
    if not rest:
        return inputs
    values = list(inputs)
    gap: list[Any] = []
    for parameter in positional_parameters(model)[len(values) :]:
        if not rest:
            break
        if parameter.name in rest:
            values += [*gap, rest.pop(parameter.name)]
            gap = []
        elif parameter.default is not parameter.empty:
            gap.append(parameter.default)
        else:
            break
    for name in rest:
        raise CounterFailure(f"it passes positional inputs, but '{name}' of this model is keyword-only")
    return tuple(values)


def by_name(model: torch.nn.Module, inputs: tuple[Any, ...]) -> Inputs:
    """All arguments by the names of forward's parameters, for a tool that takes one dict.

    Raises CounterFailure where an argument has a position and no name.
    """
    from convstat.trace.forward import parameters_of

    # The modules that are built from specs take *args, and say themselves what these are called.
    parameters = [p for p in parameters_of(model) or () if p.kind is not p.VAR_KEYWORD]
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if not names and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        names = list(getattr(model, "input_names", ()))
    if len(names) < len(inputs) or any(p.kind is p.POSITIONAL_ONLY for p in parameters[: len(inputs)]):
        raise CounterFailure("it passes several inputs by keyword, but some of this model are positional-only")
    return Inputs.of((), {**dict(zip(names, inputs, strict=False)), **keywords_of(inputs)})


def retraced(
    model: torch.nn.Module,
    inputs: tuple[Any, ...],
    trace: Trace,
    given: Callable[[torch.nn.Module, tuple[Any, ...]], tuple[Any, ...]],
    hooked: Iterable[torch.nn.Module] | None = None,
) -> Trace:
    """The trace of the call that a tool makes, which passes inputs as ``given`` says and has hooks on ``hooked``.

    It is ``trace`` itself where the call is the one that was traced.
    Raises PredictedFailure where the inputs cannot be passed so, or the model does not run with them.
    """
    from convstat.trace.record import record

    try:
        passed = given(model, inputs)
    except CounterFailure as failure:
        raise PredictedFailure(str(failure)) from failure
    if hooked is None and len(passed) == len(inputs) and keywords_of(passed).keys() == keywords_of(inputs).keys():
        return trace
    try:
        return record(model, tuple(passed), keywords_of(passed), hooked=hooked)
    except Exception as error:
        raise PredictedFailure(first_line(error)) from error


_READ = frozenset(
    f"aten.{name}"
    for name in (
        *("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select"),
        *("_unique", "_unique2", "unique_consecutive", "unique_dim", "bincount", "repeat_interleave"),
    )
)


def reads_values(trace: Trace) -> bool:
    """Whether the values of tensors may decide what a model runs: then a run on other inputs is another run."""
    for call, _ in trace.kernels():
        if call.op in _READ:
            return True
        if call.op == "aten.index" and len(call.args) > 1:
            places = call.args[1].items if isinstance(call.args[1], ListInfo) else ()
            if any(isinstance(place, TensorInfo) and place.dtype in ("bool", "uint8") for place in places):
                return True
    return False
