"""Points of a comparison: what is set at one, and the row of one that cannot be built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from convstat.count.pixels import BasisError
from convstat.count.pixels import check as check_basis
from convstat.errors import SourceError, SpecError, UsageError
from convstat.formulas.cost import Shape
from convstat.grammar.axes import Axis, Value, plain
from convstat.results.comparison import ComparisonRow
from convstat.targets import Target
from convstat.targets.request import Asked


def settings(point: Mapping[str, Value], special: Sequence[str], asked: Asked) -> Asked:
    """Say how a model is counted at a point: what the point leaves open is as asked."""
    overrides = {**asked.overrides, **point}
    texts, batch, per = asked.inputs, asked.batch, asked.per
    for name in special:
        if name not in overrides:
            continue
        value = overrides.pop(name)
        if name == "batch":
            if type(value) is not int or value < 1:
                raise UsageError(f"the batch must be an integer of at least 1, not {plain(value)}")
            batch = value
        elif name == "per":
            per = str(value)
            check_basis(per)
        else:
            shape = "x".join(str(size) for size in value) if isinstance(value, list) else str(value)
            _, _, own = name.partition(".")
            replaced = [text for text in texts if not own or text.startswith(f"{own}=")]
            dtypes = {text.rpartition(":")[2] for text in replaced if ":" in text}
            if ":" not in shape and len(dtypes) == 1:
                shape = f"{shape}:{dtypes.pop()}"
            texts = (*(text for text in texts if text not in replaced), f"{own}={shape}" if own else shape)
    return replace(asked, overrides=overrides, inputs=texts, batch=batch, per=per)


def with_dtype(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Give every shape of a sweep of an input the dtype that stands behind the last: ``input.ids=128,512:int64``."""
    found = []
    for axis in axes:
        last = axis.values[-1]
        if axis.varies and axis.name.partition(".")[0] == "input" and isinstance(last, str) and ":" in last:
            dtype = last.rpartition(":")[2]
            shapes = ("x".join(map(str, v)) if isinstance(v, list) else str(v) for v in axis.values)
            axis = replace(axis, values=tuple(text if ":" in text else f"{text}:{dtype}" for text in shapes))
        found.append(axis)
    return tuple(found)


def refuse_doubtful(inputs: Sequence[str]) -> None:
    """Refuse a comma in a shape where values are swept: it could part sizes or shapes."""
    for text in inputs:
        name, mark, shape = text.rpartition("=")
        if "," in shape and "[" not in shape:
            sizes, colon, dtype = shape.partition(":")
            listed = sizes.replace(" ", "").replace(",", "x")
            key = f"input.{name}" if mark else "input"
            raise UsageError(
                f"--input {text} may be one shape or several",
                help=(
                    f"one shape: --input {name}{mark}{listed}{colon}{dtype}",
                    f"to sweep the input, without --input: {key}={shape.replace(' ', '')}",
                ),
            )


def invalid(target: Target, values: Mapping[str, Value], error: SpecError | SourceError | BasisError) -> ComparisonRow:
    """The row of a point where a model cannot be built: its first problem, and where that is."""
    first = error.diagnostics[0]
    where = f"{first.mark.file}:{first.mark.line}" if first.mark and first.mark.source.is_file else None
    return ComparisonRow(target.argument, values, "invalid", reason=first.message, help=first.help, where=where)


def show_inputs(inputs: Mapping[str, Shape]) -> str:
    """Write shapes without the batch, the way ``--input`` takes them.

    >>> show_inputs({"x": (1, 3, 224, 224)}), show_inputs({"x": (1, 3, 8, 8), "mask": (1, 8, 8)})
    ('3x224x224', 'x=3x8x8, mask=8x8')

    What is inside of another input is none of its own there.

    >>> show_inputs({"cond.noise": (1, 3, 8, 8), "cond.text": (1, 8)})
    'cond.noise 3x8x8, cond.text 8'
    """
    shown = {name: "x".join(map(str, shape[1:])) for name, shape in inputs.items()}
    if len(shown) == 1:
        return next(iter(shown.values()))
    return ", ".join(f"{name}{'=' if name.isidentifier() else ' '}{shape}" for name, shape in shown.items())


def is_special(name: str) -> bool:
    """Whether a name is that of the batch, the basis or an input, where no parameter of the model is called so."""
    return name in ("batch", "input", "per") or name.startswith("input.")


def pair(names: Sequence[str], values: Sequence[Value]) -> dict[str, Value]:
    """Put the values of a point under the names of their axes."""
    # In compare, zip is an option.
    return dict(zip(names, values, strict=True))
