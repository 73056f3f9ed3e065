"""The letters of the formulas: what each word of a derivation is called on paper, and what it means.

A formula is text that Python reads as well, ``C_out*H_out*W_out*(C_in/g)*k_h*k_w``; nothing but products, quotients
and sums stand in it, so that anybody can work it out again.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple


class Symbol(NamedTuple):
    """A letter: as text, for LaTeX, and what it means."""

    text: str
    latex: str
    meaning: str


def _indexed(letter: str, index: str, meaning: str) -> Symbol:
    return Symbol(f"{letter}_{index}", rf"{letter}_{{\mathrm{{{index}}}}}", meaning)


_AXES = {"l": ("L", "length"), "d": ("D", "depth"), "h": ("H", "height"), "w": ("W", "width")}
_SIDES = {"in": "input", "out": "output"}

SYMBOLS: Mapping[str, Symbol] = MappingProxyType(
    {
        "batch": Symbol("N", "N", "batch size; omitted if it is 1"),
        "in_channels": _indexed("C", "in", "input channels (in_channels)"),
        "out_channels": _indexed("C", "out", "output channels (out_channels)"),
        "mid_channels": _indexed("C", "mid", "channels between the two convolutions"),
        "expanded_channels": _indexed("C", "exp", "channels after the expansion (expanded_channels)"),
        "squeeze_channels": _indexed("C", "sq", "channels after the squeeze (squeeze_channels)"),
        "multiplier": Symbol("m", "m", "output channels per input channel (multiplier)"),
        "groups": Symbol("g", "g", "number of groups (groups)"),
        **{
            f"{side}_{axis}": _indexed(letter, side, f"{name} of the {words}")
            for axis, (letter, name) in _AXES.items()
            for side, words in _SIDES.items()
        },
        **{
            f"k_{axis}": Symbol(f"k_{axis}", f"k_{axis}", f"{name} of the kernel (kernel_size)")
            for axis, (_, name) in _AXES.items()
        },
        "kernel_size": Symbol("k", "k", "side of the kernel (kernel_size)"),
        "positions": Symbol("P", "P", "positions per sample: the product of all axes but the last"),
        "in_features": _indexed("F", "in", "input features (in_features)"),
        "out_features": _indexed("F", "out", "output features (out_features)"),
        "in1_features": Symbol("F_1", "F_1", "features of the first input (in1_features)"),
        "in2_features": Symbol("F_2", "F_2", "features of the second input (in2_features)"),
        "embed_dim": Symbol("E", "E", "embedding dimension (embed_dim, d_model)"),
        "kdim": Symbol("E_k", "E_k", "width of the keys (kdim); embed_dim unless it is set"),
        "vdim": Symbol("E_v", "E_v", "width of the values (vdim); embed_dim unless it is set"),
        "queries": Symbol("n_q", "n_q", "length of the sequence of queries"),
        "keys": Symbol("n_k", "n_k", "length of the sequence of keys and values"),
        "keys and what is added to them": _indexed(
            "n", "kv", "keys, including those appended by add_bias_kv and add_zero_attn"
        ),
        "matrices": Symbol("B", "B", "number of matrices in the batch"),
        "rows": Symbol("n", "n", "rows of the left matrix"),
        "inner": Symbol("q", "q", "columns of the left matrix, rows of the right one"),
        "columns": Symbol("p", "p", "columns of the right matrix"),
        "heads": Symbol("h", "h", "heads, over all samples"),
        "size": Symbol("e", "e", "width of a head"),
        "steps": Symbol("T", "T", "steps of the sequence, over all samples"),
        "directions": Symbol("D", "D", "directions: 2 if bidirectional"),
        "gates": Symbol("G", "G", "gates of a cell: RNN 1, GRU 3, LSTM 4"),
        "hidden_size": Symbol("H", "H", "width of a cell (hidden_size)"),
        "input": Symbol("X", "X", "input features of the layer: input_size for the first layer, D*S for the others"),
        "state": Symbol("S", "S", "width of the state: proj_size if set, otherwise hidden_size"),
        "proj_size": Symbol("R", "R", "width of the projected state (proj_size)"),
        "num_features": Symbol("C", "C", "channels (num_features, num_channels)"),
        "num_channels": Symbol("C", "C", "channels (num_features, num_channels)"),
        "normalized_shape": Symbol("M", "M", "values normalised together (the product of normalized_shape)"),
        "num_parameters": Symbol("a", "a", "slopes (num_parameters): one, or one per channel"),
        "num_embeddings": Symbol("V", "V", "rows of the table (num_embeddings)"),
        "embedding_dim": _indexed("E", "emb", "width of a row (embedding_dim)"),
        "num_positions": _indexed("n", "pos", "number of positions (num_positions)"),
        "elements": _indexed("n", "el", "values of the tensor"),
    }
)
"""Every word of a derivation -> its letter."""

MEANINGS: Mapping[str, Symbol] = MappingProxyType({symbol.text: symbol for symbol in SYMBOLS.values()})
"""Every letter by its text."""

_NAME = re.compile(r"[A-Za-z_]\w*")


def expression(words: str) -> str:
    """Write a factor of a derivation in letters.

    >>> expression("out_channels"), expression("in_channels/groups"), expression("(input + state)")
    ('C_out', '(C_in/g)', '(X + S)')
    """
    if words in SYMBOLS:
        return SYMBOLS[words].text
    text = _NAME.sub(lambda match: SYMBOLS[match[0]].text if match[0] in SYMBOLS else match[0], words)
    return f"({text})" if "/" in text else text


def names(text: str) -> tuple[str, ...]:
    """The letters of an expression, each once, in order.

    >>> names("C_out*(C_in/g)*k + C_out")
    ('C_out', 'C_in', 'g', 'k')
    """
    return tuple(dict.fromkeys(_NAME.findall(text)))


def explained(texts: Iterable[str]) -> tuple[Symbol, ...]:
    """What the letters of some expressions mean, in the order of the table."""
    used = {name for text in texts for name in names(text)}
    return tuple(symbol for text, symbol in MEANINGS.items() if text in used)


def spaced(text: str) -> str:
    """Leave room around the operators, so that a line can end there.

    >>> spaced("3*(C_in/g)*k + C_out")
    '3 * (C_in/g) * k + C_out'
    """
    return re.sub(r"\s*(?<!\*)\*(?!\*)\s*", " * ", text)


def latex(text: str) -> str:
    r"""Write an expression as LaTeX, to stand in mathematics.

    >>> print(latex("C_out*(C_in/g)*k_h + C_out"))
    C_{\mathrm{out}} \, \frac{C_{\mathrm{in}}}{g} \, k_h + C_{\mathrm{out}}
    >>> print(latex("2 * (64*3 + 64)"))
    2 \cdot (64 \cdot 3 + 64)
    """
    return _latex(ast.parse(text, mode="eval").body)


def _latex(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=int(number)):
            return f"{number:,}".replace(",", "{,}")
        case ast.Name():
            symbol = MEANINGS.get(node.id)
            return symbol.latex if symbol else rf"\mathrm{{{node.id}}}".replace("_", r"\_")
        case ast.BinOp(op=ast.Div()):
            return rf"\frac{{{_latex(node.left)}}}{{{_latex(node.right)}}}"
        case ast.BinOp(op=ast.Add()):
            return f"{_latex(node.left)} + {_latex(node.right)}"
        case ast.BinOp(op=ast.Mult()):
            # A long product nests to the left, as deep as it is long.
            factors: list[ast.expr] = []
            left: ast.expr = node
            while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mult):
                factors.append(left.right)
                left = left.left
            factors = [left, *reversed(factors)]
            text = _factor(factors[0])
            for before, factor in pairwise(factors):
                are_numbers = isinstance(factor, ast.Constant) or isinstance(before, ast.Constant)
                text += (r" \cdot " if are_numbers else r" \, ") + _factor(factor)
            return text
    raise ValueError(f"no formula: {ast.unparse(node)}")


def _factor(node: ast.expr) -> str:
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)
    return f"({_latex(node)})" if is_sum else _latex(node)
