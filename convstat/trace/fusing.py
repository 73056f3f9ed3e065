"""Fuse a torch model: by its own methods where it has some, then batch norms into the layers that they belong to.

Which layer a batch norm belongs to is not a matter of names or of order: the model is run once, and a norm is folded
where the tensor that it takes is the output of a convolution or a linear layer and nothing else takes that.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from convstat.results.fusion import Changes, Folded, Kept

METHODS = ("fuse", "reparameterize", "switch_to_deploy", "merge_kernel")
"""What models call their own methods for it: those of timm, ultralytics, RepVGG, ACNet and RepLKNet."""

OUTPUT = "the output of the model"

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SAME_PADDING = ("Conv2dSame", "Conv2dSameExport")
"""Convolutions of timm that pad with zeros as they run, and are ordinary ones otherwise."""

WITH_ACTIVATION = ("BatchNormAct2d", "FrozenBatchNormAct2d", "SyncBatchNormAct")
"""Norms of timm that end with an activation, which stays."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
FROZEN = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")


def call_own(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Call the methods with which a model, or parts of it, fuse themselves; a method that needs arguments is another.

    Returns the model, which may be another one then, and what was called.
    """
    called: dict[str, int] = {}

    def visit(module: nn.Module) -> nn.Module:
        for name in METHODS:
            method = getattr(module, name, None)
            if not callable(method) or not _takes_nothing(method):
                continue
            made = method(verbose=False) if "verbose" in inspect.signature(method).parameters else method()
            text = f"{type(module).__name__}.{name}"
            called[text] = called.get(text, 0) + 1
            return made if isinstance(made, nn.Module) else module
        for name, child in [*module.named_children()]:
            if (made := visit(child)) is not child:
                module._modules[name] = made
        return module

    # They make layers, which are to be where those are that they replace.
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), device:
        found = visit(model.eval())
    return found, tuple(f"{text}()" if times == 1 else f"{text}(), {times:,} times" for text, times in called.items())


def _takes_nothing(method: Callable[..., object]) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(parameter.kind in kinds or parameter.default is not parameter.empty for parameter in parameters)


def on_meta(module: nn.Module, *, copied: bool = False) -> nn.Module:
    """A copy of a module that has no values, and takes no memory for them; a module that has
    none itself, unless it is to be ``copied``.
    """
    if not copied and all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return module
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(module, memo)


class Fold(NamedTuple):
    """A norm, the layer that it is folded into, and whether that comes before it."""

    norm: str
    layer: str
    is_behind: bool


class Plan(NamedTuple):
    """What is folded, and what is not."""

    folds: tuple[Fold, ...] = ()
    kept: tuple[Kept, ...] = ()

    def apply(self, model: nn.Module) -> nn.Module:
        """Fold the norms of a model, in place."""
        with torch.no_grad():
            for norm, layer, is_behind in self.folds:
                found = model.get_submodule(norm)
                (_fold_behind if is_behind else _fold_in_front)(model.get_submodule(layer), found)
                _replace(model, found, _what_stays(found))
        return model

    def changes(self, called: tuple[str, ...] = ()) -> Changes:
        """What is said of it."""
        return Changes(tuple(Folded(norm, layer) for norm, layer, _ in self.folds), (), self.kept, called)


def nothing(model: nn.Module, reason: str) -> Plan:
    """The plan for a model whose norms all stay."""
    return Plan((), tuple(Kept(path, reason) for path, module in model.named_modules() if _is_norm(module)))


def stored_bytes(model: nn.Module) -> int:
    """The bytes of its parameters."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def plan(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Plan:
    """Run a model and see which of its norms can be folded; it has to be in eval mode."""
    flow = _Flow(model)
    flow.run(args, kwargs)
    return _Planner(model, flow).plan()


@dataclass(slots=True)
class _Call:
    """What happened to a layer: what its input is the output of, and what its own output went into."""

    source: str | None = None
    output_dims: int = 0
    users: list[str] = field(default_factory=list)
    times: int = 0


class _Flow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches which layers' outputs are taken by what, while a model runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.paths = {module: path for path, module in model.named_modules() if _is_layer(module) or _is_norm(module)}
        self.calls = {path: _Call() for path in self.paths.values()}
        self.made: Any = WeakTensorKeyDictionary()
        self.depth = 0

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Run the model."""
        handles = []
        try:
            for module in self.paths:
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave))
            with torch.no_grad(), self:
                output = self.model(*args, **kwargs)
            self._take(tree_leaves(output), OUTPUT)
        finally:
            for handle in handles:
                handle.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See what a kernel takes, outside of the layers themselves."""
        if not self.depth:
            self._take(tree_leaves((args, kwargs or {})), str(func).rpartition(".")[0].removeprefix("aten."))
        return func(*args, **(kwargs or {}))

    def _take(self, values: Sequence[Any], user: str) -> None:
        for value in values:
            if isinstance(value, torch.Tensor) and (path := self.made.get(value)) is not None:
                self.calls[path].users.append(user)

    def _enter(self, module: nn.Module, args: Any) -> None:
        call = self.calls[self.paths[module]]
        call.times += 1
        if not self.depth and args and isinstance(args[0], torch.Tensor):
            call.source = self.made.get(args[0])
            self._take(args, self.paths[module])
        self.depth += 1

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.depth -= 1
        if not self.depth and isinstance(output, torch.Tensor):
            path = self.paths[module]
            self.calls[path].output_dims = output.dim()
            self.made[output] = path


class _Planner:
    """Decides about each norm, in the order in which they stand in the model."""

    def __init__(self, model: nn.Module, flow: _Flow) -> None:
        self.modules = {path: module for module, path in flow.paths.items()}
        self.calls = flow.calls
        owners: dict[int, int] = {}
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
        self.tied = {key for key, count in owners.items() if count > 1}
        self.folded: dict[str, str] = {}

    def plan(self) -> Plan:
        folds, kept = [], []
        for path, norm in self.modules.items():
            if not _is_norm(norm):
                continue
            found = self._fold_of(path, norm)
            if isinstance(found, Fold):
                folds.append(found)
            else:
                kept.append(Kept(path, found))
        return Plan(tuple(folds), tuple(kept))

    def _fold_of(self, path: str, norm: nn.Module) -> Fold | str:
        """Where a norm can be folded; if it cannot be, why."""
        call = self.calls[path]
        if norm.running_mean is None or norm.running_var is None:
            return "it has no running statistics: its factors depend on the data"
        if call.times != 1:
            return "it is never called" if not call.times else f"it is called {call.times} times"
        if reason := self._peculiar(norm):
            return reason
        behind = self._behind(path, call)
        if isinstance(behind, Fold):
            self.folded[path] = behind.layer
            return behind
        in_front = self._in_front(path, norm, call)
        return in_front or behind

    def _behind(self, path: str, call: _Call) -> Fold | str:
        source = call.source
        if source is None:
            return "its input is not the output of a convolution or a linear layer"
        if len(users := self.calls[source].users) > 1:
            users = [*users]
            users.remove(path)
            return f"the output of {source} is also used by {', '.join(dict.fromkeys(users))}"
        if source in self.folded:
            if not isinstance(_what_stays(self.modules[source]), nn.Identity):
                return f"the layer before it is the activation of {source}"
            return Fold(path, self.folded[source], is_behind=True)
        layer = self.modules[source]
        if _is_norm(layer):
            return f"the layer before it is {source}, which is not folded"
        if reason := self._unfit(source, layer):
            return reason
        if isinstance(layer, nn.Linear) and self.calls[source].output_dims != 2:
            return f"it normalises dimension 1, and the features of {source} are the last"
        return Fold(path, source, is_behind=True)

    def _in_front(self, path: str, norm: nn.Module, call: _Call) -> Fold | str | None:
        """Fold it into what comes after, if that alone takes it; a reason where only the padding is against it."""
        if len(call.users) != 1 or call.users[0] not in self.modules:
            return None
        after = call.users[0]
        layer = self.modules[after]
        if not isinstance(_what_stays(norm), nn.Identity) or self._unfit(after, layer):
            return None
        if isinstance(layer, nn.Linear):
            return Fold(path, after, is_behind=False) if self.calls[after].output_dims == 2 else None
        if not isinstance(layer, CONVS):
            return None
        padding = layer.padding if isinstance(layer.padding, tuple) else (layer.padding == "same",)
        is_padded = any(padding) and (layer.padding != "same" or any(size > 1 for size in layer.kernel_size))
        if type(layer).__name__ in SAME_PADDING or (layer.padding_mode == "zeros" and is_padded):
            return f"{after} pads the output of the norm with zeros, which are not shifted"
        return Fold(path, after, is_behind=False)

    def _unfit(self, path: str, layer: nn.Module) -> str | None:
        """Why nothing can be folded into a layer."""
        if self.calls[path].times > 1:
            return f"{path} is called {self.calls[path].times} times"
        if any(id(parameter) in self.tied for parameter in layer.parameters()):
            return f"the parameters of {path} are shared"
        return self._peculiar(layer)

    @staticmethod
    def _peculiar(module: nn.Module) -> str | None:
        """Why a module is not what its class says."""
        kind = type(module)
        if torch.nn.utils.parametrize.is_parametrized(module):
            return f"the weight of a {kind.__name__} is computed from others"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"a {kind.__name__} has hooks"
        known = (*CONVS, *TRANSPOSED, nn.Linear, *NORMS)
        forwards = [base.forward for base in known]
        names = (*SAME_PADDING, *WITH_ACTIVATION, *FROZEN)
        if kind.forward not in forwards and kind.__name__ not in names:
            return f"{kind.__name__} is a class of its own"
        return None


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (*CONVS, *TRANSPOSED, nn.Linear))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, NORMS) or type(module).__name__ in FROZEN


def _factors(norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What a norm multiplies each channel with, and what it adds."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _fold_behind(layer: Any, norm: nn.Module) -> None:
    """Multiply the output channels of a layer, and shift them."""
    scale, shift = _factors(norm)
    weight = layer.weight
    if isinstance(layer, TRANSPOSED):
        groups, kernel = layer.groups, weight.shape[2:]
        parted = weight.view(groups, -1, weight.shape[1], *kernel)
        made = parted * scale.view(groups, 1, -1, *[1] * len(kernel))
    else:
        made = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    _set(layer, made.view_as(weight), shift if layer.bias is None else layer.bias * scale + shift)


def _fold_in_front(layer: Any, norm: nn.Module) -> None:
    """Multiply the input channels of a layer; what shifts them is a constant of its output."""
    scale, shift = _factors(norm)
    weight = layer.weight
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    kernel = weight.shape[2:]
    parted = weight.view(groups, -1, weight.shape[1], *kernel)
    shape = (groups, 1, -1, *[1] * len(kernel))
    added = (parted * shift.view(shape)).flatten(2).sum(2).flatten()
    _set(layer, (parted * scale.view(shape)).view_as(weight), added if layer.bias is None else layer.bias + added)


def _set(layer: Any, weight: torch.Tensor, bias: torch.Tensor) -> None:
    trains = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=trains)
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=trains)


def _what_stays(norm: Any) -> nn.Module:
    """What a norm does beside normalising."""
    if type(norm).__name__ not in WITH_ACTIVATION:
        return nn.Identity()
    parts = [part for part in (norm.drop, norm.act) if not isinstance(part, nn.Identity)]
    return nn.Identity() if not parts else parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in [*model.modules()]:
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new


def draw_weights(model: nn.Module) -> None:
    """Give a model weights with which its outputs stay small and no norm does nothing."""
    # A new one always begins with the same seed.
    generator = torch.Generator()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            spread = (3 / max(parameter[0].numel(), 1)) ** 0.5 if parameter.dim() > 1 else 0.1
            parameter.data.uniform_(-spread, spread, generator=generator)
    for module in model.modules():
        norm: Any = module
        if _is_norm(module) and norm.running_var is not None:
            norm.running_mean.uniform_(-0.1, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            if norm.weight is not None:
                norm.weight.data.uniform_(0.5, 1.5, generator=generator)


def difference(before: Any, after: Any) -> tuple[float, float]:
    """The largest difference between two outputs, and the largest value in the first."""
    pairs = [*_pairs(tree_leaves(before), tree_leaves(after))]
    apart = max((float((one - other).abs().max()) for one, other in pairs if one.numel()), default=0.0)
    return apart, max((float(one.abs().max()) for one, _ in pairs if one.numel()), default=0.0)


def _pairs(before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for one, other in zip(before, after, strict=True):
        if isinstance(one, torch.Tensor):
            yield one.double(), other.double()
