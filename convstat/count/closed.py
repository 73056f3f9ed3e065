"""From a graph whose sizes are numbers with formulas to the closed forms of its layers."""

from __future__ import annotations

from convstat.formulas.symbolic.forms import Form, polynomial
from convstat.graph import Graph, Node
from convstat.results.closed import LayerForms


def forms(graph: Graph) -> tuple[LayerForms, ...]:
    """The MACs and the parameters of each node."""
    return tuple(map(_of_node, graph.nodes))


def _of_node(node: Node) -> LayerForms:
    sizes = [polynomial(size) for shape in (node.output_shape, *node.input_shapes) for size in shape[1:]]
    params = 0 if node.is_shared else node.layer.params()
    return LayerForms(Form.of(polynomial(node.cost.macs), sizes), Form.of(polynomial(params), sizes))
