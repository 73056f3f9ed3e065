"""Tell from the source what an attribute was looked up for: its shape, or its values.

``self.weight.dtype``, ``x.expand_as(self.weight)`` and ``self.weight is not None`` ask for no value.
"""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from itertools import islice
from types import CodeType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABOUT = _words(
    """
    shape dtype device ndim layout requires_grad is_cuda is_meta is_sparse is_leaf names size dim numel nelement
    element_size stride ndimension is_floating_point is_complex is_contiguous storage_offset __class__ itemsize
    nbytes type get_device is_quantized new_zeros new_ones new_empty new_full new_tensor new
    """
)
_LIKE = _words(
    """
    expand_as view_as reshape_as type_as to zeros_like ones_like empty_like full_like rand_like randn_like
    randint_like isinstance is_tensor is_floating_point is_complex numel len type id hasattr getattr bool
    result_type
    """
)


def is_for_shape(code: CodeType, place: int) -> bool:
    """Whether the attribute that is looked up at a place in the code is asked for its shape or kind alone."""
    line, end_line, column, end_column = next(islice(code.co_positions(), place // 2, None), (None,) * 4)
    uses = _uses(code.co_filename)
    return (line, column, end_line, end_column) in uses


@lru_cache(maxsize=64)
def _uses(filename: str) -> frozenset[tuple[int | None, ...]]:
    """Where in a file an expression is asked for its shape or kind alone."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return frozenset()
    found = set()
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Attribute) and node.attr in _ABOUT:
            asked = [node.value]
        elif isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            asked = list(node.args) if name in _LIKE else []
        elif isinstance(node, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            asked = [node.left, *node.comparators]
        for expression in asked:
            found.add((expression.lineno, *_bytes(expression)))
    return frozenset(found)


def _bytes(node: ast.expr) -> tuple[int | None, ...]:
    return node.col_offset, node.end_lineno, node.end_col_offset
