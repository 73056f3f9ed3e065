"""The call tree of one forward pass: what ran, inside what, on which shapes.

Three kinds of calls nest in each other::

    ModuleCall      a torch.nn.Module was called            layer1.0.conv1
      FunctionCall  a function that peers replace was called  torch.nn.functional.conv2d
        KernelCall  an operator reached its kernel            aten.convolution

Each counter sees some of them: torchsummary and thop the modules, ptflops the modules and some functions,
FlopCounterMode and ptflops' aten backend the kernels.
So what a counter will say is a walk over this tree, and two counters differ where their walks price a call differently.

Everything here is plain frozen data: no tensor, no module and no class of torch is kept,
so a trace can be stored, compared and walked without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import prod
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor that went into a call or came out of it."""

    shape: Shape
    dtype: str = "float32"
    layout: str = "strided"

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def is_sparse(self) -> bool:
        """Whether it stores some of its elements only: how many, its shape does not say."""
        return self.layout.startswith("sparse")


@dataclass(frozen=True, slots=True)
class ListInfo:
    """A list; tuples stay tuples, because peers tell them apart."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class DictInfo:
    """A dict, or another mapping."""

    items: tuple[tuple[Value, Value], ...]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Anything else, by the full name of its type.

    ``items`` are the tensors that a packed weight was made of, ``samples`` those that a nested tensor holds.
    """

    type: str
    items: tuple[Value, ...] = ()
    samples: tuple[TensorInfo, ...] = ()


JAGGED = "torch.nested._internal.nested_tensor.NestedTensor"
"""The class of nested tensors whose samples lie one after the other."""


def jagged(value: Value) -> TensorInfo | None:
    """What a jagged tensor looks like to who asks it for its elements and its last size; None of anything else.

    >>> jagged(ObjectInfo(JAGGED, samples=(TensorInfo((5, 16)), TensorInfo((9, 16)))))
    TensorInfo(shape=(1, 14, 16), dtype='float32', layout='strided')
    """
    if not isinstance(value, ObjectInfo) or value.type != JAGGED or not value.samples:
        return None
    first = value.samples[0]
    differ = next(
        (i for i, sizes in enumerate(zip(*(s.shape for s in value.samples), strict=False)) if len(set(sizes)) > 1), 0
    )
    together = sum(sample.shape[differ] for sample in value.samples)
    return TensorInfo((1, *first.shape[:differ], together, *first.shape[differ + 1 :]), first.dtype)


Value: TypeAlias = (
    "TensorInfo | ListInfo | DictInfo | ObjectInfo | tuple[Value, ...] | bool | int | float | complex | str | None"
)
"""What is remembered of an argument or a result."""

_NO_VALUES: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class KernelCall:
    """An operator that reached its kernel: ``op`` is ``aten.convolution``, ``overload`` is ``default``.

    ``children`` are the functions that the kernel itself called: torch's meta kernels are written in Python.
    ``owner`` is a place in :attr:`Trace.modules` where that is not the module around the call:
    the kernels of the backward pass have the module of their forward kernel,
    and those of a scripted module, whose parts are not called through Python, the part whose parameter they read.
    ``third`` is 1, 2 or 3 at the three convolutions of real numbers that torch makes of one of complex numbers:
    the first has the work of the whole, as a convolution of complex numbers, and the others are how that is done.
    ``in_thread`` says that it ran in a thread that the model started: a mode sees those of its own thread alone.
    """

    op: str
    overload: str
    args: tuple[Value, ...]
    kwargs: Mapping[str, Value] = field(default_factory=lambda: _NO_VALUES)
    output: Value = None
    children: tuple[Call, ...] = ()
    owner: int | None = None
    backward: bool = False
    third: int = 0
    in_thread: bool = False

    def per_sample(self) -> tuple[KernelCall, ...]:
        """The same call on each sample of nested tensors, as a batch of one; none where no tensor is nested.

        >>> ragged = ObjectInfo("torch.Tensor", samples=(TensorInfo((5, 8)), TensorInfo((9, 8))))
        >>> call = KernelCall("aten.linear", "default", (ragged, TensorInfo((3, 8))), output=ragged)
        >>> [sample.args[0].shape for sample in call.per_sample()]
        [(1, 5, 8), (1, 9, 8)]
        """
        held = [v.samples for v in (*self.args, *self.kwargs.values()) if type(v) is ObjectInfo and v.samples]
        count = len(held[0]) if held else 0
        return tuple(
            replace(
                self,
                args=tuple(_sample(value, place) for value in self.args),
                kwargs={name: _sample(value, place) for name, value in self.kwargs.items()},
                output=_sample(self.output, place),
            )
            for place in range(count)
        )


def _sample(value: Value, place: int) -> Value:
    if isinstance(value, tuple):
        return tuple(_sample(item, place) for item in value)
    if isinstance(value, ObjectInfo) and place < len(value.samples):
        sample = value.samples[place]
        return replace(sample, shape=(1, *sample.shape))
    return value


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call through an attribute that monkey-patching peers replace.

    ``name`` is where it was looked up: ``torch.nn.functional.relu``, ``torch.matmul``, ``torch.Tensor.add``.
    A function that was stored elsewhere before does not come through the attribute, and is not seen by peers either.
    ``has_rule`` says that it is a function that somebody gave a rule, by its dotted name: the rule prices the whole
    call, and its children are what the function ran, if it did.
    """

    name: str
    args: tuple[Value, ...]
    kwargs: Mapping[str, Value] = field(default_factory=lambda: _NO_VALUES)
    output: Value = None
    children: tuple[Call, ...] = ()
    has_rule: bool = False


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """A call of a module; ``module`` is its place in :attr:`Trace.modules`."""

    module: int
    args: tuple[Value, ...]
    kwargs: Mapping[str, Value] = field(default_factory=lambda: _NO_VALUES)
    output: Value = None
    children: tuple[Call, ...] = ()


HIGHER_ORDER = "torch.ops.higher_order."
"""What the names of operators that take functions begin with; they stand in the tree as functions."""


def higher_order(trace: Trace) -> tuple[str, ...]:
    """The operators that take functions and were called, by name: ``cond``, ``map_impl``; the outermost alone."""
    found: list[str] = []
    stack: list[Call] = [trace.root]
    while stack:
        call = stack.pop()
        if isinstance(call, FunctionCall) and call.name.startswith(HIGHER_ORDER):
            found.append(call.name.removeprefix(HIGHER_ORDER))
        elif not isinstance(call, KernelCall):
            stack.extend(reversed(call.children))
    return tuple(found)


Call: TypeAlias = ModuleCall | FunctionCall | KernelCall


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """A parameter that a module holds itself; equal ``key`` means the same tensor, tied or shared.

    ``made`` says that it was not there before the pass.
    """

    name: str
    shape: Shape
    dtype: str
    requires_grad: bool
    key: int
    made: bool = False

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class BufferInfo:
    """A stored tensor that is not learned, such as a running mean; equal ``key`` means the same tensor."""

    name: str
    shape: Shape
    dtype: str
    key: int = -1

    @property
    def numel(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """A module: its exact type, what it holds, and its plain attributes.

    ``paths`` are the dotted names under which it hangs, the first one first; none where it was called without being
    registered. ``type`` is the full name of the exact class and ``bases`` those of all its ancestors: a counter that
    looks at ``type(module)`` misses subclasses, one that asks ``isinstance`` does not.
    ``attributes`` holds the numbers, flags, words and tensors among the module's attributes.
    ``children`` are indices of registered modules, each once; ``entries`` are the same, once for each name.
    ``made`` says that it became part of the model during the pass.
    """

    index: int
    paths: tuple[str, ...]
    type: str
    bases: tuple[str, ...]
    parameters: tuple[ParameterInfo, ...]
    attributes: Mapping[str, Value]
    children: tuple[int, ...]
    buffers: tuple[BufferInfo, ...] = ()
    entries: tuple[int, ...] = ()
    made: bool = False

    @property
    def path(self) -> str:
        """The first dotted name, empty for the root."""
        return self.paths[0] if self.paths else ""

    @property
    def registered(self) -> bool:
        """Whether it hangs in the model; a module made during the forward pass does not."""
        return bool(self.paths)

    def parameter(self, name: str) -> ParameterInfo | None:
        """The parameter of that name, if the module holds it itself."""
        return next((p for p in self.parameters if p.name == name), None)


@dataclass(frozen=True, slots=True)
class Unseen:
    """Work that is not in the tree: what shows it, in words; the place of the module around it; how often."""

    name: str
    module: int
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Lookup:
    """A lookup in a table of embeddings: the module around it, and the table, by its key as a parameter's or buffer's.

    ``table`` is the shape of the table and ``indices`` that of the indices; ``of_input`` says that these are an input,
    and not made by the model, as the numbers of positions are.
    """

    module: int
    key: int | None
    table: Shape
    indices: Shape
    of_input: bool


@dataclass(frozen=True, slots=True)
class StateTensor:
    """A tensor of what a model gives back to be given at the next step: keys and values of a layer, or its state.

    ``path`` leads to it in the object that holds it, ``kind`` is the class of what holds it innermost, and ``layer`` is
    its number; ``most`` is how many positions it holds at most, where the holder says so.
    """

    path: str
    kind: str
    layer: int
    tensor: TensorInfo
    most: int | None = None


T = TypeVar("T", bound="Trace")


@dataclass(frozen=True, slots=True)
class Trace:
    """One forward pass: the tree of its calls, and the table of the modules; index 0 is the root.

    ``uses`` says, by a parameter's key, in whose call (a place in ``modules``) a kernel first read it:
    attention reads the weight of its ``out_proj`` without calling that module.
    ``unseen`` are the places where work went past the dispatcher.
    ``returned`` is set where forward is a generator: so many of the root's children had run when the call returned, and
    the others ran when what it yields was taken. ``forward`` is how many of them are the forward pass, where a backward
    pass follows. ``lookups`` are those in tables of embeddings, and ``state`` is what the model gives back to be given
    at the next step. ``made`` are modules that hang in the model after the pass and are
    left out of ``modules``' names, in a trace as a counter sees it that looked for them before.
    """

    root: ModuleCall
    modules: tuple[ModuleInfo, ...]
    device: str
    grad: bool = True
    notes: tuple[str, ...] = ()
    uses: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    unseen: tuple[Unseen, ...] = field(default=(), kw_only=True)
    returned: int | None = field(default=None, kw_only=True)
    forward: int | None = field(default=None, kw_only=True)
    lookups: tuple[Lookup, ...] = field(default=(), kw_only=True)
    state: tuple[StateTensor, ...] = field(default=(), kw_only=True)
    made: tuple[ModuleInfo, ...] = field(default=(), kw_only=True)

    def extended(self, kind: type[T], **more: Any) -> T:
        """The same as a ``kind`` of trace that holds ``more``."""
        return kind(**{each.name: getattr(self, each.name) for each in fields(Trace)}, **more)

    def module_of(self, call: ModuleCall) -> ModuleInfo:
        """The module that was called."""
        return self.modules[call.module]

    def module_calls(self) -> Iterator[ModuleCall]:
        """All calls of modules, in the order in which they *returned*: children before parents."""
        stack: list[tuple[Call, bool]] = [(self.root, False)]
        while stack:
            call, done = stack.pop()
            if isinstance(call, ModuleCall) and done:
                yield call
                continue
            if isinstance(call, ModuleCall):
                stack.append((call, True))
            if not isinstance(call, KernelCall):
                stack.extend((child, False) for child in reversed(call.children))

    def functions(self) -> Iterator[FunctionCall]:
        """All calls of functions that peers patch, outside kernels, in order."""
        stack: list[Call] = [self.root]
        while stack:
            call = stack.pop()
            if isinstance(call, FunctionCall):
                yield call
            if not isinstance(call, KernelCall):
                stack.extend(reversed(call.children))

    def kernels(self) -> Iterator[tuple[KernelCall, ModuleInfo]]:
        """All kernels in order, each with the innermost registered module that ran it."""
        stack: list[tuple[Call, ModuleInfo]] = [(self.root, self.modules[0])]
        while stack:
            call, owner = stack.pop()
            if isinstance(call, KernelCall):
                yield call, owner if call.owner is None else self.modules[call.owner]
                continue
            if isinstance(call, ModuleCall) and self.modules[call.module].registered:
                owner = self.modules[call.module]
            stack.extend((child, owner) for child in reversed(call.children))
