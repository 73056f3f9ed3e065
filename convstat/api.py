"""The Python API: ``convstat.analyze`` and the report that it returns.

The package exports these names lazily, so that ``import convstat`` is fast and does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Self

from convstat.errors import UsageError
from convstat.patches.time_limit import allowed
from convstat.results import advice, report
from convstat.results import arena as plan
from convstat.results import memory as profile
from convstat.results import mfu as utilisation
from convstat.targets import Target, analysis, resolve
from convstat.targets.inputs import InputSpec, parse
from convstat.targets.request import Request

if TYPE_CHECKING:
    import torch
    from rich.console import Console, ConsoleOptions, RenderResult

    from convstat.count.ops import Rule
    from convstat.formulas.cost import Cost
    from convstat.targets.subject import Subject
    from convstat.trace.calls import FunctionCall
    from convstat.trace.recipe import Example, Recipe

__all__ = [
    "Advice",
    "Arena",
    "Memory",
    "Mfu",
    "Report",
    "advise",
    "analyze",
    "arena",
    "load",
    "memory",
    "mfu",
    "register_function",
    "register_kernel",
]


class _Shown:
    """What a result of this module can do: show itself as text, as JSON, and in notebooks."""

    __slots__ = ()

    @classmethod
    def of(cls, plain: Any) -> Self:
        """Convert a plain result."""
        return cls(**{field.name: getattr(plain, field.name) for field in fields(plain)})

    def to_json(self: Any) -> str:
        """The document that ``-f json`` writes."""
        from convstat.render.formats.json import to_json

        return to_json(self.to_dict())

    def to_text(self, *, width: int = 120, depth: int | None = None, flat: bool = False, top: int | None = None) -> str:
        """The text that the command line prints, without colours.

        ``width`` is in columns, ``depth`` folds blocks below that many levels, ``flat`` lists every call separately,
        and ``top`` is how many rows a list of the largest has.
        """
        from convstat.render.base import Options
        from convstat.render.formats.terminal import TableRenderer

        shown: Any = self
        return TableRenderer().render([shown], Options(width=width, depth=depth, flat=flat, top=top))

    def __str__(self) -> str:
        return self.to_text().rstrip("\n")

    def __rich_console__(self: Any, console: Console, options: ConsoleOptions) -> RenderResult:
        from convstat.render.base import Options
        from convstat.render.formats.terminal import TableRenderer, drawn

        shown = Options(width=max(20, options.max_width), ascii=options.ascii_only)
        yield from drawn(TableRenderer().pages([self], shown), shown)

    def _repr_html_(self: Any) -> str:
        from convstat.render.base import Options
        from convstat.render.html.page import to_html
        from convstat.render.views import view

        return to_html(view(self, Options()))


class Report(_Shown, report.Report):
    """The cost of a model: totals, one row per layer call, and the answers of other counters.

    ``totals`` and ``layers`` contain exact integers: parameters, multiply-accumulates (``macs``; ``flops`` are
    2 x MACs), and all other work by name in ``other``.
    rich and notebooks display a report as tables; ``print`` writes the same tables as text. ``convstat.load`` reads it
    back from a file with what ``to_json`` gives.
    """

    __slots__ = ()

    def to_dataframe(self) -> Any:
        """The layers as a ``pandas.DataFrame``: one row per layer call, in order of completion.

        The columns are ``name``, ``type``, ``input_shapes``, ``output_shapes`` (tuples, batch included), ``params``,
        ``trainable_params``, ``buffers``, ``weight_bytes``, ``macs``, ``flops``, ``activations``,
        ``conv_activations``, ``output_elements``, one per entry of ``other``
        (``other.bias``, ...), ``shares`` and ``note``. Each column of counts sums to the totals.
        Raises ImportError if pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe needs pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame([_record(row, self.totals.other) for row in self.layers])

    def __repr__(self) -> str:
        totals = self.totals
        state = "" if self.status == "complete" else f", {self.status}"
        return f"<Report of {self.model.name}: {totals.params:,} params, {totals.macs:,} MACs{state}>"


class Advice(_Shown, advice.Advice):
    """Likely mistakes in a model and possible savings: see :func:`advise`. ``print`` writes what the command shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        found = f"{len(self.mistakes)} likely mistakes, {len(self.savings)} possible savings"
        return f"<Advice on {self.model.name}: {found}>"


class Memory(_Shown, profile.Memory):
    """The memory of a run, by kind and by layer: see :func:`memory`. ``print`` writes what the command shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Memory of {self.model.name}: {self.peak.bytes:,} bytes at the peak>"


class Arena(_Shown, plan.Arena):
    """The memory of a microcontroller, by operator: see :func:`arena`. ``print`` writes what the command shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Arena of {self.model.name}: {self.arena_bytes:,} bytes, {self.flash_bytes:,} bytes of flash>"


class Mfu(_Shown, utilisation.Mfu):
    """The model-FLOPs utilisation of a run: see :func:`mfu`. ``print`` writes what the command shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        own = "no count" if self.own is None else f"{float(100 * self.own):.2f} %"
        return f"<Mfu of {self.model.name}: {own} by convstat's count>"


def _record(row: report.LayerRow, entries: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": row.name,
        "type": row.type,
        "input_shapes": row.input_shapes,
        "output_shapes": row.output_shapes,
        "params": row.params,
        "trainable_params": row.trainable_params,
        "buffers": row.buffers,
        "weight_bytes": row.weight_bytes,
        "macs": row.macs,
        "flops": row.flops,
        "activations": row.activations,
        "conv_activations": row.conv_activations,
        "output_elements": row.output_elements,
        **{f"other.{entry}": row.other.get(entry, 0) for entry in entries},
        "shares": row.shares,
        "note": row.note,
    }


def analyze(
    model: Any,
    inputs: Any = None,
    *,
    batch: int = 1,
    device: str = "auto",
    dtype: str | None = None,
    counters: str | Sequence[str] = "none",
    per: str | None = None,
    mode: str = "eval",
    weights: str | None = None,
    activations: str | None = None,
    fuse: bool = False,
    picture: str | None = None,
    edges: str = "pad",
    worst_case: str | Sequence[str] = (),
    receptive_field: bool = False,
    language: bool = False,
    checkpoint: str | Sequence[str] = (),
    predict: bool = False,
    timeout: float | None = None,
    in_process: bool = False,
    **overrides: Any,
) -> Report:
    """Count the parameters, the multiply-accumulates and all other work of a model.

    ``model`` is a ``torch.nn.Module``, a callable that returns one (a class or function), or a target of the command
    line: the path of a spec, an inline layer, ``package.module:build``, ``file.py:Net``, ``torchvision/resnet50``,
    ``timm/NAME``, ``transformers/TYPE``, a config of transformers or diffusers, or a saved report. ``overrides`` are
    the parameters of a spec, the fields of a config, or the keyword arguments of a callable; an existing module takes
    none.

    ``inputs`` are the arguments of one forward pass:

    - a tensor, or a list or tuple of arguments, each a tensor or any other value that ``forward`` accepts;
    - a dict of keyword arguments;
    - in place of a tensor, its shape: ``(3, 224, 224)``, or a string with a dtype, ``"1x128:int64"``. ``batch`` is
      prepended to a shape of one size (features) or three (C, H, W); other shapes, and shapes nested in a list or
      dict, are used as is. For a spec, shapes exclude the batch;
    - what they are and how large: ``"tokens 4096"``, ``"decode 1@8192"``, ``["tokens 64", "image 336x336"]``.

    By default, the inputs of the model are used: those of the spec, of the zoo, or of a callable that returns
    ``(module, inputs)``.

    The model is run once on the meta device, without computation and without weights; ``device`` and the
    alternatives, if this is not possible, are as for ``--device``. The state of the model is preserved: parameters,
    buffers, gradients, hooks, train and eval flags. So is the state of the process: random states, modes, autocast,
    default dtype and device, threads, the working directory, the environment, streams, signals, warnings and
    loggers. ``convstat docs python`` lists everything that is restored; exceptions are in ``report.model.notes``.

    ``timeout`` is the time limit in seconds for the model's code and for each counter (None: 300, 0: no limit).
    With ``mode="train"``, a forward and a backward pass are counted. ``counters`` (``"default"``, ``"all"``,
    ``"conventions"``, ``"llm"``, comma-separated names or a list) also runs other counters and explains how they
    differ. With ``predict``, no counter is run, and their answers are predicted instead (of the default counters
    unless others are named).
    Each counter runs in a forked process, from which only its answer returns. With ``in_process`` it runs in this
    process, as it does where a fork is not safe: on systems other than Linux, if CUDA is in use, and if other
    threads run. ``dtype`` overrides the floating-point type of the weights.
    ``per`` is the basis of MACs/pixel, by default what the spec says, or the input.
    ``weights`` is the width in which weights are stored, ``"int8"`` (with int32 biases), ``"int16"``, or
    ``"int8+int16"`` with that of the biases; it determines ``weight_bytes``. ``activations`` is the width of
    activations, which is recorded. With ``fuse``, the deployed form is counted: batch norms folded, branches merged;
    ``report.fusion`` compares it with the trained form. With ``receptive_field``, the receptive field, the jump and the
    halo of each layer are in ``layer.extent``.
    ``report.language`` holds the figures of a model that takes tokens: what each token costs, the parameters that it
    touches, and the KV cache. With ``language``, those that take further runs are there too: training FLOPs per token,
    with the modules that ``checkpoint`` names run again, and how MACs grow with the length.
    ``picture`` counts the blocks of a picture, ``"1920x1080"`` (width first), where ``per`` or the spec says
    ``block:B+E``; ``edges`` is ``"pad"`` or ``"clip"``. With ``worst_case``, ``"8,16,64"``, the block size that costs
    most per pixel is counted.

    Raises :class:`convstat.errors.UsageError` for invalid arguments,
    :class:`convstat.errors.SpecError` for a spec that cannot be built, and
    :class:`convstat.errors.SourceError` for a model that cannot be created or does not run on these inputs, with the
    exception of the model as its cause.

    >>> report = analyze("Conv2d(3, 8, kernel_size=3, bias=False)", (3, 10, 10))
    >>> report.totals.params, report.totals.macs == 8 * 8 * 8 * 3 * 3 * 3
    (216, True)
    """
    counters = _names(counters)
    if predict and counters == "none":
        counters = analysis.DEFAULT_COUNTERS
    sizes = (worst_case,) if isinstance(worst_case, str) else tuple(worst_case)
    how: dict[str, Any] = {
        "per": per, "mode": mode, "weights": weights, "activations": activations, "fuse": fuse, "device": device,
        "picture": picture, "edges": edges, "worst_case": sizes,
        "extents": receptive_field, "language": language or bool(checkpoint),
        "checkpoint": (checkpoint,) if isinstance(checkpoint, str) else tuple(checkpoint),
    }  # fmt: skip
    given = Request(NAMELESS, overrides, (), batch, **how)
    with _asked(model, inputs, timeout, given, dtype) as (recipe, request):
        if recipe is None:
            return Report.of(analysis.analyze(request, counters, predict=predict, in_process=in_process))
        from convstat.targets import deployed

        if request.is_in_blocks:
            return Report.of(analysis.in_blocks(request, lambda one: deployed.prepare(recipe, one).report))
        subject = deployed.prepare(recipe, request)
        return Report.of(analysis.ask(subject, request, counters, predict=predict, in_process=in_process))


NAMELESS = Target("", "module", "")
"""What stands in a request whose model is a live object."""


@contextmanager
def _asked(
    model: Any, inputs: Any, timeout: float | None, request: Request, dtype: str | None = None
) -> Iterator[tuple[Recipe | None, Request]]:
    """Complete a request by its target and inputs, and keep the time limit while it is answered.

    Beside it is the recipe of what is made without the command line's help: a live object, or a target whose inputs
    are more than shapes.
    """
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if timeout is not None and timeout < 0:
        raise UsageError(f"timeout must not be negative: {timeout}", help="0 sets no limit")
    texts = _texts(inputs)
    with allowed(timeout):
        if isinstance(model, str) and texts is not None:
            yield None, replace(request, target=resolve(model), inputs=texts, dtype=dtype or "float32")
        else:
            yield _live(model, inputs, request, dtype)


def _prepared(recipe: Recipe | None, request: Request) -> Subject:
    """Count what was asked for."""
    if recipe is None:
        return analysis.prepare(request)
    from convstat.targets import modules

    return modules.prepare(recipe, request)


def _live(model: Any, inputs: Any, asked: Request, dtype: str | None) -> tuple[Recipe, Request]:
    """Say how to make a module, what a callable returns, or a target whose inputs are more than shapes."""
    if isinstance(model, str) and not resolve(model).needs_torch:
        raise UsageError(f"{model} takes the shapes of its inputs, such as (3, 224, 224), not tensors")
    from convstat.targets import modules

    texts = _texts(inputs)
    recipe = _recipe(model, asked.overrides, inputs if texts is None else None, asked.batch)
    if dtype is not None:
        recipe = replace(recipe, dtype=modules.floating(dtype))
    return recipe, replace(asked, target=Target(recipe.source, "module", recipe.source), inputs=texts or ())


def advise(
    model: Any,
    inputs: Any = None,
    *,
    budget: str | Sequence[str] = (),
    batch: int = 1,
    device: str = "auto",
    dtype: str | None = None,
    per: str = "input",
    timeout: float | None = None,
    **overrides: Any,
) -> Advice:
    """Find likely mistakes in a model, and what changes of its layers would save.

    The arguments are those of :func:`analyze`. The result lists ``mistakes`` and ``savings``, each sorted by the MACs
    that it ``saves`` (``params``, ``macs``, and all other work by name in ``other``), with the ``edits`` to make: lines
    of a spec, or calls of constructors. The savings are counted, and not estimated; nothing is said about accuracy.

    ``budget`` is a limit, ``"macs=300M"``, or several: ``plan`` is then the shortest list of changes that reaches
    all of them, counted together. Metrics are ``params``, ``macs``, ``flops`` and ``macs_per_pixel``.

    Raises the same errors as :func:`analyze`, and :class:`convstat.errors.UsageError` for a budget that is none.

    >>> found = advise("Conv2d(64, 64, kernel_size=3, bias=False)", (64, 10, 10), budget="macs=1M")
    >>> best = found.savings[0]
    >>> best.kind, best.saves.macs == 8 * 8 * (64 * 64 * 9 - 64 * 9 - 64 * 64), found.plan.reached
    ('separable', True, True)
    """
    from convstat.targets import advising

    budgets = (budget,) if isinstance(budget, str) else tuple(budget)
    for text in budgets:
        if not isinstance(text, str):
            raise UsageError(f"a budget must be a text, not {text!r}", help='such as "macs=300M"')
        advising.read_budget(text)
    given = Request(NAMELESS, overrides, (), batch, per=per, device=device)
    with _asked(model, inputs, timeout, given, dtype) as (recipe, request):
        if recipe is None:
            return Advice.of(advising.advise(request, budgets=budgets))
        return Advice.of(advising.of_module(_prepared(recipe, request), budgets))


def memory(
    model: Any,
    inputs: Any = None,
    *,
    batch: int = 1,
    dtype: str | None = None,
    mode: str = "infer",
    optimizer: str | None = None,
    amp: str | None = None,
    checkpoint: str | Sequence[str] = (),
    grad_accumulation: int = 1,
    device: str = "cuda",
    timeout: float | None = None,
    **overrides: Any,
) -> Memory:
    """Follow the memory of a model in inference or in a step of training, without allocating any.

    ``model``, ``inputs``, ``batch``, ``dtype``, ``timeout`` and ``overrides`` are those of :func:`analyze`. ``mode`` is
    ``"infer"`` or ``"train"``, which an ``optimizer`` implies; ``amp`` is the dtype of autocast, ``checkpoint`` names
    modules, or patterns of them, whose activations are computed again in the backward pass, and ``device`` is whose
    kernels are meant, ``"cuda"`` or ``"cpu"``; see ``convstat docs memory``.

    In the result ``peak.bytes`` is the most that is alive at a moment, ``kinds`` what that is for, ``alive`` the same
    by layer, and ``curve`` how it rises and falls. All sizes are in bytes.

    Raises the same errors as :func:`analyze`.

    >>> found = memory("Linear(16, 4, bias=False)", (16,), batch=8)
    >>> found.peak.bytes == 4 * (16 * 4 + 8 * 16 + 8 * 4)
    True
    """
    from convstat.targets import memory as following

    patterns = (checkpoint,) if isinstance(checkpoint, str) else tuple(checkpoint)
    run = following.run_of(mode, device, optimizer, grad_accumulation, amp, patterns)
    with _asked(model, inputs, timeout, Request(NAMELESS, overrides, (), batch), dtype) as asked:
        return Memory.of(following.of_subject(_prepared(*asked), run))


def mfu(
    model: Any,
    inputs: Any = None,
    *,
    on: str | None = None,
    peak: str | float | None = None,
    dtype: str = "bf16",
    gpus: int = 1,
    tokens_per_second: float | None = None,
    samples_per_second: float | None = None,
    step_time: float | None = None,
    mode: str = "train",
    batch: int = 1,
    timeout: float | None = None,
    **overrides: Any,
) -> Mfu:
    """Compute the model-FLOPs utilisation of a run, by convstat's count and by each formula for language models.

    ``model``, ``inputs``, ``batch``, ``timeout`` and ``overrides`` are those of :func:`analyze`. ``on`` names a card,
    ``peak`` the FLOP/s of other hardware (a number, or a text with its unit), and ``dtype`` the type of the operands
    whose peak is meant. The speed is in tokens or samples in a second, of all ``gpus`` together, or ``step_time`` in
    seconds on the input and batch given. With ``mode="infer"``, a forward pass is counted.

    In the result, ``rows`` are the ways of counting, convstat's own first: ``flops`` of the step and ``utilisation``
    as a part of the peak.

    Raises the same errors as :func:`analyze`.

    >>> mfu("Linear(16, 4, bias=False)", (16,), batch=8, step_time=1e-6, peak=1e12, mode="infer").own
    Fraction(16, 15625)
    """
    from convstat.targets import mfu as following

    run = following.asked(
        on=on,
        peak=peak,
        dtype=dtype,
        gpus=gpus,
        mode=mode,
        tokens_per_second=tokens_per_second,
        samples_per_second=samples_per_second,
        step_time=step_time,
    )
    with _asked(model, inputs, timeout, Request(NAMELESS, overrides, (), batch)) as (recipe, request):
        return Mfu.of(following.mfu(request, run, prepare=lambda one: _prepared(recipe, one)))


def arena(
    model: Any,
    inputs: Any = None,
    *,
    batch: int = 1,
    target: str = "tflm",
    timeout: float | None = None,
    **overrides: Any,
) -> Arena:
    """Plan the memory of a model on a microcontroller: its arena, operator by operator, and its flash.

    ``model``, ``inputs``, ``batch``, ``timeout`` and ``overrides`` are those of :func:`analyze`. The ``target``
    ``"tflm"`` is TensorFlow Lite Micro with int8 weights and activations; see ``convstat docs deployment``.

    In the result ``arena_bytes`` and ``flash_bytes`` are the sizes of both, ``operators`` says what is alive while each
    runs, ``tensors`` where each tensor lies, and ``patches`` what the arena would be with patch-based inference.

    Raises the same errors as :func:`analyze`.

    >>> arena("Linear(16, 32)", (16,)).arena_bytes == 16 + 32
    True
    """
    from convstat.targets import arena as planning

    planning.check_target(target, ())
    given = planning.deployed_as(Request(NAMELESS, overrides, (), batch))
    with _asked(model, inputs, timeout, given) as (recipe, request):
        if recipe is None:
            return Arena.of(planning.of_subject(analysis.prepare(request)))
        from convstat.targets import deployed

        return Arena.of(planning.of_subject(deployed.prepare(recipe, request)))


def _names(counters: object) -> str:
    """The names of counters, as the command line writes them."""
    if isinstance(counters, str):
        return counters
    if isinstance(counters, (list, tuple)) and all(isinstance(name, str) for name in counters):
        return ",".join(counters) or "none"
    raise UsageError(f"counters must be counter names, not {counters!r}", help='such as "ptflops,torchinfo"')


def load(path: str | os.PathLike[str]) -> Report:
    """Read a report saved as JSON. Raises :class:`convstat.errors.SourceError` if the file is not a report."""
    return Report.of(analysis.load_report(os.fspath(path)))


def register_kernel(name: str, rule: Rule | Callable[..., int] | int, *, replace: bool = False) -> Callable[[], None]:
    """Register the cost of a custom operator, by its name in torch: ``"mylib::my_op"``.

    ``rule`` takes the :class:`convstat.trace.calls.KernelCall` (arguments and results with their shapes and dtypes)
    and returns its MACs as an int, or a :class:`convstat.layers.base.Cost` that includes other work; a number is the
    cost of every call. Raises ValueError if the operator already has a rule, unless ``replace`` is true.
    Returns a function that removes the rule.
    """
    from convstat.count import ops

    return ops.register(name, _priced(rule), replace=replace)


def register_function(
    name: str,
    rule: Callable[[FunctionCall], Cost | int] | int,
    *,
    output: Callable[..., Any] | None = None,
    replace: bool = False,
) -> Callable[[], None]:
    """Register the cost of a Python function whose work torch does not see, by its dotted name: ``"mylib.ops.attend"``.

    ``rule`` takes the :class:`convstat.trace.calls.FunctionCall` (arguments and results with their shapes and dtypes)
    and returns its MACs, as for :func:`register_kernel`. ``output`` takes the arguments of the function and returns
    its result, such as ``lambda q, k, v: torch.empty_like(q)``; the function itself is then not run, so a GPU kernel
    needs no GPU. Returns a function that removes the rule.
    """
    from convstat.count import ops

    return ops.register_function(name, _priced(rule), output=output, replace=replace)


def _priced(rule: Callable[[Any], Cost | int] | int) -> Callable[[Any], Cost]:
    from convstat.formulas.cost import Cost

    def price(call: Any) -> Cost:
        cost = rule(call) if callable(rule) else rule
        return Cost(cost) if type(cost) is int else cost  # type: ignore[return-value]

    return price


def _recipe(model: Any, overrides: Mapping[str, Any], inputs: Any, batch: int) -> Recipe:
    """Say how to make the model, along with the inputs that were handed in."""
    from torch import nn

    from convstat.targets import entry, modules

    if isinstance(model, str):
        recipe = modules.recipe_of(resolve(model), overrides)
    elif isinstance(model, nn.Module):
        kind = type(model)
        recipe = entry.recipe_of(model, kind.__name__, f"{kind.__module__}.{kind.__qualname__}", overrides)
    elif callable(model):
        name = getattr(model, "__qualname__", type(model).__qualname__)
        recipe = entry.recipe_of(model, name.rpartition(".")[2], f"{model.__module__}.{name}", overrides)
    else:
        raise UsageError(f"a {type(model).__name__} is neither a module nor the name of a model")
    if inputs is None:
        return recipe
    make = recipe.make

    def with_inputs() -> tuple[torch.nn.Module, Example | None]:
        module, _ = make()
        return module, _example(inputs, batch, module)

    return replace(recipe, make=with_inputs)


def _texts(inputs: Any) -> tuple[str, ...] | None:
    """Inputs as ``--input`` takes them, None where there is more to them than shapes."""
    if inputs is None:
        return ()
    if isinstance(inputs, Mapping):
        items = {name: _text(value) for name, value in inputs.items()}
        return None if None in items.values() else tuple(f"{name}={text}" for name, text in items.items())
    if (text := _text(inputs)) is not None:
        return (text,)
    if isinstance(inputs, (list, tuple)):
        texts = tuple(_text(value) for value in inputs)
        return None if None in texts else tuple(text for text in texts if text is not None)
    return None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    is_shape = isinstance(value, (list, tuple)) and bool(value) and all(type(size) is int for size in value)
    return "x".join(map(str, value)) if is_shape else None


def _example(inputs: Any, batch: int, module: torch.nn.Module) -> Example:
    """The arguments of the forward pass, tensors made where shapes were given."""
    from convstat.trace.recipe import Example

    if isinstance(inputs, Mapping):
        return Example(kwargs={name: _argument(value, batch, module) for name, value in inputs.items()})
    if type(inputs) in (list, tuple):
        return Example(args=tuple(_argument(value, batch, module) for value in inputs))
    return Example(args=(inputs,))


def _argument(value: Any, batch: int, module: torch.nn.Module) -> Any:
    if (spec := _spec(value)) is not None:
        return _zeros(spec.with_batch(batch), spec, module)
    return _nested(value, module)


def _nested(value: Any, module: torch.nn.Module) -> Any:
    if (spec := _spec(value)) is not None:
        return _zeros(spec.shape, spec, module)
    if type(value) in (list, tuple):
        return type(value)(_nested(item, module) for item in value)
    if type(value) is dict:
        return {key: _nested(item, module) for key, item in value.items()}
    return value


def _spec(value: Any) -> InputSpec | None:
    """A shape, written as text or as sizes; other words are arguments as they are."""
    if isinstance(value, str):
        try:
            spec = parse(value)
            return None if spec.data is not None else spec
        except UsageError:
            return None
    text = _text(value)
    return None if text is None else parse(text)


def _zeros(shape: Sequence[int], spec: InputSpec, module: torch.nn.Module) -> torch.Tensor:
    from convstat.targets import modules

    return modules.zeros(shape, spec, module)
