"""What ultralytics-thop adds for products that are called as functions, one rule for each name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from convstat.counters.base import PredictedFailure
from convstat.counters.einsum import contracted
from convstat.counters.uthop.modules import Part, attended
from convstat.trace import FunctionCall, ListInfo, TensorInfo, Value

Rule = Callable[[FunctionCall], list[Part]]


def _tensor(value: Value, call: FunctionCall) -> TensorInfo:
    if not isinstance(value, TensorInfo):
        raise PredictedFailure(f"AttributeError: {call.name} does not get or give a tensor")
    return value


def _argument(call: FunctionCall, position: int, name: str) -> TensorInfo:
    return _tensor(call.args[position] if position < len(call.args) else call.kwargs.get(name), call)


def _product(call: FunctionCall) -> list[Part]:
    return [(None, _tensor(call.output, call).numel * _argument(call, 0, "input").shape[-1])]


def _attention(call: FunctionCall) -> list[Part]:
    query, key, value = (_argument(call, place, name) for place, name in enumerate(("query", "key", "value")))
    rows = _tensor(call.output, call).numel // value.shape[-1]
    return [(None, rows * key.shape[-2] * (query.shape[-1] + value.shape[-1]))]


def _multi_head(call: FunctionCall) -> list[Part]:
    if len(call.args) < 10:
        raise PredictedFailure("ValueError: not enough values to unpack")
    key, value = _tensor(call.args[1], call), _tensor(call.args[2], call)
    width, heads = call.args[3], call.args[4]
    if not isinstance(width, int) or not isinstance(heads, int):
        raise PredictedFailure("TypeError: the width and the number of heads are no integers")
    added = (call.args[7] is not None) + bool(call.args[9])
    return attended(call.output, key, width, heads, key.shape[-1] + value.shape[-1], added, batch_first=False)


def _einsum(call: FunctionCall) -> list[Part]:
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], (ListInfo, tuple)):
        given = operands[0]
        operands = list(given.items if isinstance(given, ListInfo) else given)
    if len(operands) != 2 or not isinstance(equation, str):
        return []
    shapes = [_tensor(value, call).shape for value in operands]
    terms, arrow, kept = equation.replace(" ", "").partition("->")
    if not arrow:
        kept = "..." + "".join(letter for letter in terms if terms.count(letter) == 1)
    sizes = [_sizes(written, shape) for written, shape in zip(terms.split(","), shapes, strict=True)]
    total = 1
    for name in sizes[0].keys() | sizes[1].keys():
        both = name in sizes[0] and name in sizes[1]
        if both or (name in kept if isinstance(name, str) else "..." in kept):
            total *= sizes[0].get(name, sizes[1].get(name, 1))
    # Where nothing is summed up, torch multiplies element by element.
    summed = contracted(equation, shapes)
    return [(None, summed), ("einsum_whole", total - summed)]


def _sizes(written: str, shape: tuple[int, ...]) -> dict[str | int, int]:
    """The size of each letter, and of what dots stand for by its place from the right, those of one left out."""
    head, _, tail = written.partition("...")
    names = [*head, *range(len(shape) - len(head) - len(tail), 0, -1), *tail]
    return {name: size for name, size in zip(names, shape, strict=True) if size != 1}


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "torch.matmul": _product,
        "torch.Tensor.matmul": _product,
        "torch.Tensor.__matmul__": _product,
        "torch.bmm": _product,
        "torch.Tensor.bmm": _product,
        "torch.nn.functional.linear": _product,
        "torch.einsum": _einsum,
        "torch.nn.functional.multi_head_attention_forward": _multi_head,
        "torch.nn.functional.scaled_dot_product_attention": _attention,
    }
)
"""Where a function is looked up -> what is added for it."""
