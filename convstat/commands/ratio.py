"""The ratio of two layers, blocks or specs, in letters: what texts about convolutions derive by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

from convstat.commands.closed import is_whole, variables, written
from convstat.commands.kind_formula import name_of, refuse_unknown
from convstat.count.closed import forms
from convstat.errors import UsageError
from convstat.formulas.notation import SYMBOLS
from convstat.formulas.symbolic.closing import close
from convstat.formulas.symbolic.facts import INTEGER, Facts
from convstat.formulas.symbolic.forms import Form, polynomial, total
from convstat.formulas.symbolic.numbers import Number
from convstat.formulas.symbolic.quotients import quotient
from convstat.formulas.symbolic.terms import SYMBOL, Exact, Polynomial
from convstat.graph import Graph
from convstat.layers import NAMES
from convstat.results.closed import Letter
from convstat.results.ratio import FigureRatio, Quotient, RatioFormula, Side
from convstat.spec import Spec, shipped
from convstat.spec.values import layer_words
from convstat.targets import inline, resolve
from convstat.targets.request import NOBODY, Listener, Request

PRESENT: Mapping[str, Exact] = {
    "in_channels": 64, "out_channels": 128, "mid_channels": 128, "kernel_size": 3, "groups": 4, "multiplier": 2,
    "in_features": 64, "out_features": 128, "embed_dim": 64, "num_heads": 4, "hidden_size": 128,
    "expand_ratio": 6, "squeeze_channels": 16, "d_model": 64, "nhead": 4, "dim_feedforward": 256,
}  # fmt: skip
"""The arguments that become letters, each with a value for the numbers where none is given."""

LETTERS: Mapping[str, str] = {
    **{name: SYMBOLS[name].text for name in PRESENT if name in SYMBOLS},
    "expand_ratio": "t", "squeeze_channels": "C_sq", "num_heads": "h", "d_model": "E", "nhead": "h",
    "dim_feedforward": "F",
}  # fmt: skip

MEANINGS: Mapping[str, str] = {
    **{name: SYMBOLS[name].meaning for name in PRESENT if name in SYMBOLS},
    "expand_ratio": "expansion (expand_ratio)", "squeeze_channels": "channels after the squeeze (squeeze_channels)",
    "num_heads": "heads (num_heads)", "nhead": "heads (nhead)", "d_model": "width of the model (d_model)",
    "dim_feedforward": "width of the feed-forward layers (dim_feedforward)",
}  # fmt: skip

AXES = {axis: f"{name} of the input" for axis, name in zip("DHWL", ("depth", "height", "width", "length"), strict=True)}

MULTIPLIERS = frozenset({"alpha", "rho", "beta", "gamma", "phi"})
"""Letters that papers use for multipliers of a width or a resolution."""

SIDE = 56
"""The height, the width and the length of an input for the numbers."""

_NAME = re.compile(r"[A-Za-z_]\w*")


class Layered(NamedTuple):
    """A layer or a block as it was named: its arguments as they are written."""

    text: str
    name: str
    given: Mapping[str, str]

    @property
    def takes(self) -> Mapping[str, bool]:
        """The arguments that there are, and whether each must be written."""
        if self.name in shipped.NAMES:
            return {key: default is None for key, default in shipped.defaults(self.name).items()}
        return {key: argument.required for key, argument in NAMES[self.name].arguments.items()}

    @property
    def family(self) -> str:
        """The family of the kind; blocks are made of convolutions."""
        return "convolution" if self.name in shipped.NAMES else NAMES[self.name].family

    @property
    def dims(self) -> int:
        """The number of spatial dimensions."""
        return 2 if self.name in shipped.NAMES else NAMES[self.name].spatial_dims or 2


class _Ratio:
    """Finds the letters of both sides, and expands both with them."""

    def __init__(self, values: Mapping[str, Any], inputs: Sequence[str]) -> None:
        self.set = {name: _exact(name, value) for name, value in values.items()}
        self.about: dict[str, str] = {}
        self.inputs = inputs
        self.values: dict[str, Exact] = {}
        self.facts = Facts()
        self.assumed: dict[str, None] = {}
        self.kernels: dict[str, None] = {}

    def letter(self, name: str, value: Exact) -> str:
        """A letter with a value, unless it has one."""
        self.values.setdefault(name, self.set.get(name, value))
        return name

    def own(self, name: str, value: Exact, about: str) -> str:
        """A letter of convstat's, with what it means."""
        self.about.setdefault(name, about)
        return self.letter(name, value)

    def put(self, side: Layered, other: Layered | None, place: int) -> dict[str, str]:
        """The arguments of one side as expressions: numbers become letters, what is missing is that of the other."""
        found: dict[str, str] = {}
        theirs = other.given if other is not None else {}
        for name in side.takes:
            mine, wanted = side.given.get(name), side.takes[name] or name == "kernel_size"
            if mine is None and wanted and name in theirs:
                mine = theirs[name]
            if mine is None and wanted and name in PRESENT:
                found[name] = self.own(LETTERS[name], PRESENT[name], MEANINGS[name])
            elif mine is not None and mine.isdecimal() and name in PRESENT:
                own = LETTERS[name]
                if theirs.get(name, mine).isdecimal() and int(theirs.get(name, mine)) != int(mine):
                    own = f"{own}_{place}"
                found[name] = self.own(own, int(mine), MEANINGS[name])
            elif mine is not None:
                found[name] = mine
                for used in _names(mine):
                    self.letter(used, Fraction(1, 2) if used in MULTIPLIERS else PRESENT.get(name, 1))
        self.fill(side, found)
        return found

    def fill(self, side: Layered, found: dict[str, str]) -> None:
        """Set what a comparison of layers leaves out: no bias, and padding that keeps the size."""
        if "bias" in side.takes and "bias" not in side.given:
            found["bias"] = "false"
            self.assumed.setdefault("layers without bias")
        kernel = found.get("kernel_size", "")
        if side.family == "convolution" and "padding" in side.takes and "padding" not in side.given and kernel:
            found["padding"] = f"({side.given.get('dilation', '1')})*(({kernel}) - 1)/2"
            self.kernels.setdefault(kernel)
            self.assumed.setdefault("odd kernels, padded by dilation*(k - 1)/2 on each side")

    def sizes(self, sides: Sequence[Layered], place: int) -> tuple[str, ...]:
        """The sizes of the input of one side, as expressions."""
        if self.inputs:
            written = self.inputs[min(place, len(self.inputs) - 1)]
            return tuple(self.named(text.strip(), number, written) for number, text in enumerate(written.split("x")))
        side = sides[0] if place == 0 or len(sides) == 1 else sides[1]
        if side.family == "linear":
            return (self.given_of(sides, "in_features"),)
        if side.family in ("attention", "recurrent"):
            name = "d_model" if "d_model" in side.takes else "embed_dim" if "embed_dim" in side.takes else "in_features"
            return self.own("L", SIDE, AXES["L"]), self.given_of(sides, name)
        spatial = {1: "L", 2: "HW", 3: "DHW"}[side.dims]
        return self.given_of(sides, "in_channels"), *(self.own(axis, SIDE, AXES[axis]) for axis in spatial)

    def given_of(self, sides: Sequence[Layered], name: str) -> str:
        """A size of the input: what a side says of it, else a letter."""
        written = next((side.given[name] for side in sides if name in side.given), None)
        if written is None or written.isdecimal():
            return self.own(LETTERS[name], int(written) if written else PRESENT[name], MEANINGS[name])
        for used in _names(written):
            self.letter(used, Fraction(1, 2) if used in MULTIPLIERS else PRESENT[name])
        return written

    def named(self, text: str, place: int, whole: str) -> str:
        """A size of an input that was given: a number is the value of a letter."""
        rank = len(whole.split("x"))
        names = {1: "F", 2: "CL", 3: "CHW", 4: "CDHW"}.get(rank)
        if names is None or not text:
            raise UsageError(
                f"--input {whole} is not the shape of one sample", help="write it as M x H x W, or 64x56x56"
            )
        if text.isdecimal():
            if names[place] in AXES:
                return self.own(names[place], int(text), AXES[names[place]])
            name = "in_features" if rank == 1 else "in_channels"
            return self.own(LETTERS[name], int(text), MEANINGS[name])
        for used in _names(text):
            value = PRESENT["in_channels"] if place == 0 else SIDE
            self.letter(used, Fraction(1, 2) if used in MULTIPLIERS else value)
        return text

    def number(self, name: str) -> Number:
        """A letter with its value."""
        return Number(Polynomial.letter(name), self.values[name], self.facts)

    def of_layer(self, side: Layered, put: Mapping[str, str], sizes: tuple[str, ...]) -> Graph:
        """Expand a layer or a block."""
        letters = inline.Letters(dict(self.values), put, sizes)
        spec = inline.read(side.text, letters)
        return spec.expand({name: self.number(name) for name in self.values})

    def of_spec(self, request: Request, spec: Spec, free: Mapping[str, Exact], place: int) -> Graph:
        """Expand a spec; a letter that has another value at the other side has a name of its own."""
        made = {}
        texts = written(spec)
        for name, value in free.items():
            own = name if self.values.get(name, value) == value else f"{name}_{place}"
            self.values.setdefault(own, value)
            made[name] = Number(Polynomial.letter(own, integer=is_whole(value, texts[name])), value, self.facts)
        return Spec(spec.plan, ()).expand({**request.overrides, **made}, variant=request.target.variant)


def _exact(name: str, value: object) -> Exact:
    """A value of a letter, exactly; ``5/7`` is one."""
    try:
        if isinstance(value, (int, float, str, Fraction)) and not isinstance(value, bool):
            found = Fraction(str(value))
            return found.numerator if found.denominator == 1 else found
    except (ValueError, ZeroDivisionError):
        pass
    raise UsageError(f"{name} must be a number, not {value}", help=f"for example: {name}=0.75, or {name}=5/7")


def _names(text: str) -> list[str]:
    """The letters of an expression: names that are not words of the grammar."""
    known = {"true", "false", "null", "None", "True", "False", "min", "max", "ceil", "floor", "round8", "abs"}
    return [
        name for name in _NAME.findall(text) if name not in known | {"if", "else", "and", "or", "not"} | layer_words()
    ]


def ratio(
    named: Sequence[str], values: Mapping[str, Any], inputs: Sequence[str] = (), *, listener: Listener = NOBODY
) -> RatioFormula:
    """The ratio of the first of two layers, blocks or specs to the second.

    ``values`` are those of letters, for the numbers; ``inputs`` the shape of the input, or one for each.
    """
    if len(named) != 2:
        raise UsageError(
            f"--ratio takes two layers, blocks or specs, not {len(named)}",
            help="for example: convstat formula --ratio DepthwiseSeparableConv Conv2d",
        )
    if len(inputs) > 2:
        raise UsageError(f"--ratio takes an --input for both, or one for each, not {len(inputs)}")
    work = _Ratio(values, inputs)
    layered = [_layered(text) for text in named]
    graphs: list[Graph | None] = [None, None]
    puts: dict[int, dict[str, str]] = {}
    shapes: dict[int, tuple[str, ...]] = {}
    for place, text in enumerate(named):
        side = layered[place]
        if side is None:
            graphs[place] = _spec(work, text, place + 1, values if not any(layered) else {})
            continue
        puts[place] = work.put(side, layered[1 - place], place + 1)
        known = [found for found in (side, layered[1 - place]) if found is not None]
        shapes[place] = work.sizes(known if place == 0 else known[::-1], place)
    unknown = [name for name in values if name not in work.values and any(layered)]
    if unknown:
        raise UsageError(
            f"there is no letter '{unknown[0]}' in {' and '.join(named)}", help=f"letters: {', '.join(work.values)}"
        )
    for kernel in work.kernels:
        # Odd, and so an integer too.
        half = (_evaluated(kernel, work) - 1) / 2
        if (
            not (isinstance(half, Number) and half.is_whole())
            and Fraction(getattr(half, "amount", half)).denominator != 1
        ):
            raise UsageError(f"kernel_size must be odd, for padding that keeps the size: it is {kernel}")
    for place, side in enumerate(layered):
        if side is not None:
            graphs[place] = work.of_layer(side, puts[place], shapes[place])
    return _result(work, [graph for graph in graphs if graph is not None], named)


def _evaluated(text: str, work: _Ratio) -> Any:
    from convstat.spec.expressions import compile_expression

    return compile_expression(text, set(work.values)).value({name: work.number(name) for name in work.values})


def _layered(text: str) -> Layered | None:
    """A layer or a block that an argument names; None where it names a spec."""
    name = name_of(text)
    if name is not None:
        return Layered(f"{name}()", name, {})
    refuse_unknown(text)
    target = resolve(text)
    if target.kind == "inline":
        kind, given = inline.arguments(text)
        return Layered(text, kind if kind in shipped.NAMES else NAMES[kind].kind(), given)
    if target.kind != "spec":
        raise UsageError(f"--ratio takes layers, blocks and specs, and {text} is none of them")
    return None


def _spec(work: _Ratio, text: str, place: int, values: Mapping[str, Any]) -> Graph:
    target = resolve(text)
    spec = target.load()
    chosen = spec.plan.variants.get(target.variant)
    own = {name: value for name, value in values.items() if chosen is not None and name in chosen.variables}
    request = Request(target, {}, ())
    present = {**spec.vars_of(own, target.variant, {})} if chosen is not None else {}
    free = variables(spec, request, present) if chosen is not None else {}
    if chosen is None:
        spec.expand({}, variant=target.variant)
    return work.of_spec(request, spec, free, place)


def _weights(graph: Graph) -> Form:
    """The parameters that multiply: those of more than one dimension."""
    return total(
        Form.of(polynomial(prod(shape)))
        for node in graph.nodes
        if not node.is_shared
        for shape in node.layer.parameters().values()
        if len(shape) > 1
    )


def _result(work: _Ratio, graphs: Sequence[Graph], named: Sequence[str]) -> RatioFormula:
    layers = [forms(graph) for graph in graphs]
    closed = close((), work.facts)
    known = Facts(closed.conditions)
    settled = {
        condition.about.single.args[0]: Polynomial.letter(condition.about.single.args[0], integer=True)
        for condition in closed.conditions
        if condition.says == INTEGER and condition.about.single is not None and condition.about.single.kind == SYMBOL
    } | {name: Polynomial.number(value) for name, value in closed.settled.items()}
    values = work.values
    sides = []
    for graph, found, name in zip(graphs, layers, named, strict=True):
        whole = (total(layer.macs for layer in found), _weights(graph), total(layer.params for layer in found))
        macs, weights, params = (form.changed(lambda about: known.simplified(about, settled)) for form in whole)
        counts = {
            figure: int(form.value(values))
            for figure, form in (("macs", macs), ("weights", weights), ("params", params))
        }
        sides.append(Side(name, macs, weights, params, counts))
    ratios = []
    for figure in ("macs", "weights", "params"):
        over, under = (getattr(side, figure).polynomial for side in sides)
        if under.terms:
            ratios.append(_figure(figure, over, under, values))
    used = {name for side in sides for form in (side.macs, side.params) for name in form.polynomial.letters()}
    used |= {name for condition in closed.conditions for name in condition.about.letters()}
    letters = tuple(
        Letter(name, value, isinstance(value, int), work.about.get(name, ""))
        for name, value in values.items()
        if name in used
    )
    return RatioFormula(
        sides[0], sides[1], tuple(ratios), letters, tuple(work.assumed), tuple(_of(closed.conditions, used))
    )


def _of(conditions: Iterable[Any], used: set[str]) -> Iterable[Any]:
    return (condition for condition in conditions if used.issuperset(condition.about.letters()))


def _figure(figure: str, over: Polynomial, under: Polynomial, values: Mapping[str, Exact]) -> FigureRatio:
    found = Quotient(*quotient(over, under))
    value = found.value(values)
    first, second = LETTERS["in_channels"], LETTERS["out_channels"]
    if {first, second} <= set(found.over.letters()) | set(found.under.letters()):
        same = {first: Polynomial.letter(second)}
        nothing = Facts()
        special = Quotient(*quotient(nothing.simplified(over, same), nothing.simplified(under, same)))
        if _length(special) < _length(found):
            return FigureRatio(figure, found, value, f"{first} = {second}", special)
    return FigureRatio(figure, found, value)


def _length(found: Quotient) -> int:
    return len(found.over.terms) + len(found.under.terms)
