"""The lifetimes of what a graph allocates in inference, without torch: each layer says what its twin runs."""

from __future__ import annotations

from collections.abc import Iterator

from convstat.count.graphs import ITEM_BYTES
from convstat.graph import Graph, Node
from convstat.lifetimes import Lifetimes
from convstat.lifetimes.kernels import Kernels
from convstat.lifetimes.tensors import Tensor


def of_graph(graph: Graph, dtype: str, device: str) -> tuple[Lifetimes, list[str]]:
    """Run a graph in evaluation, as its torch model does: a tensor is released as soon as no later layer needs it.

    Returns the lifetimes and the names of their places. Raises NotImplementedError for a kind of layer that does not
    say what it runs.
    """
    kernels = Kernels(dtype, device)
    held = list(_stored(graph, kernels))
    values = {item.name: _input(kernels, item.shape, item.dtype) for item in graph.inputs}
    # Whoever runs a model has its inputs and its weights until the end.
    held += values.values()
    last_use = {name: node.name for node in graph.nodes for name in node.inputs}
    done_after: dict[str, list[str]] = {}
    for name, user in last_use.items():
        if name not in graph.outputs:
            done_after.setdefault(user, []).append(name)
    for node in graph.nodes:
        with kernels.within(node.owner or node.name):
            values[node.name] = node.layer.run(kernels, *[values[name] for name in node.inputs])
        for name in done_after.get(node.name, ()):
            del values[name]
    return kernels.found, kernels.places


def _input(kernels: Kernels, shape: tuple[int, ...], dtype: str) -> Tensor:
    return kernels.given(shape, "inputs", kernels.dtype if dtype in ITEM_BYTES else dtype)


def _stored(graph: Graph, kernels: Kernels) -> Iterator[Tensor]:
    """Parameters and buffers, in the order in which a model of these modules has them."""
    own = {node.name: node for node in graph.nodes if not node.is_shared and not node.layer.functional}
    for node in _in_tree(own):
        tensors: dict[str, list[Tensor]] = {}
        for name, shape in node.layer.parameters().items():
            inner = name.rpartition(".")[0]
            place = f"{node.name}.{inner}" if inner else node.name
            tensors.setdefault(inner, []).append(kernels.given(shape, "weights", place=place))
        for shape, dtype in node.layer.buffers().values():
            yield kernels.given(shape, "buffers", None if dtype == "float" else dtype, node.name)
        for group in tensors.values():
            yield from group


def _in_tree(nodes: dict[str, Node]) -> Iterator[Node]:
    """Nodes as the modules of one block stand together, whatever ran between them."""
    tree: dict[str, object] = {}
    for path, node in nodes.items():
        *parents, name = path.split(".")
        inner = tree
        for step in parents:
            inner = inner.setdefault(step, {})  # type: ignore[assignment]
        inner[name] = node
    waiting = [iter(tree.values())]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, Node):
                yield value
            else:
                waiting.append(iter(value.values()))  # type: ignore[attr-defined]
                break
        else:
            waiting.pop()
