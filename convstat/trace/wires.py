"""What flows where in a forward pass: which call takes the output of which.

A trace says what ran on which shapes, and keeps no tensor; here the model is run once more, and each tensor is followed
by its identity. A view has a new identity where autograd makes one, and is then known by its storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from convstat.patches.dispatch import Watching
from convstat.patches.room import alone, ours, replaced
from convstat.trace.calls import Shape
from convstat.trace.foreign import foreign
from convstat.trace.record import operator, ready, to_its_end


class Wired(NamedTuple):
    """One call of a module that is not looked into, or of a kernel outside of those.

    ``path`` is that of the module, or of the one whose forward runs the kernel; ``module`` is None for a kernel.
    ``inputs`` are the numbers of the calls whose outputs it takes: -1 for a constant, and -2, -3, ... for the inputs of
    the model. ``takes`` says which of the outputs of that call each is. ``values`` are the arguments of a kernel that
    are no tensors, and ``outputs`` the shapes of all that it gives.
    """

    path: str
    name: str
    module: nn.Module | None
    inputs: tuple[int, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    values: tuple[Any, ...] = ()
    in_place: bool = False
    takes: tuple[int, ...] = ()
    outputs: tuple[Shape, ...] = ()


class Wires(NamedTuple):
    """The calls in the order in which they ended, and the numbers of those whose output the model returns.

    ``takes`` says which of the outputs of each that is, and ``inputs`` are the shapes and dtypes of the model's own.
    """

    calls: tuple[Wired, ...]
    outputs: tuple[int, ...]
    takes: tuple[int, ...] = ()
    inputs: tuple[tuple[Shape, str], ...] = ()


@alone
def wires(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], is_whole: Callable[[nn.Module], bool]
) -> Wires:
    """Run the model once as :func:`convstat.trace.record.record` does, and follow its tensors.

    ``is_whole`` says of a module that it is one call, whatever it runs inside.
    """
    with foreign(f"{type(model).__qualname__} does not run"):
        paths: dict[nn.Module, str] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            paths.setdefault(module, path)
        follower = _Follower(paths, is_whole)
        with (
            ready(model, model.modules(), train=False),
            replaced(nn.Module, "__call__", follower.around(nn.Module.__call__)),
            follower,
        ):
            given = follower.begin((args, kwargs))
            output = to_its_end(model, lambda: None)(*args, **kwargs)
        ends = tuple(dict.fromkeys(follower.origins(output)))
        return Wires(tuple(follower.calls), tuple(one for one, _ in ends), tuple(place for _, place in ends), given)


class _Follower(Watching):  # type: ignore[no-untyped-call]
    """Numbers the calls, and remembers which one each tensor is from."""

    def __init__(self, paths: Mapping[nn.Module, str], is_whole: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.paths = paths
        self.is_whole = is_whole
        self.calls: list[Wired] = []
        self.inside: list[str] = []
        self.hidden = 0
        self.of_tensor: Any = WeakIdKeyDictionary()
        self.of_storage: dict[int, tuple[int, int]] = {}

    def begin(self, values: Any) -> tuple[tuple[Shape, str], ...]:
        """Number the inputs of the model; gives their shapes and dtypes."""
        tensors = [tensor for tensor in _tensors(values) if not isinstance(tensor, nn.Parameter)]
        for place, tensor in enumerate(tensors):
            self._is_from(tensor, (-2 - place, 0))
        return tuple((tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors)

    def _is_from(self, tensor: torch.Tensor, origin: tuple[int, int]) -> None:
        self.of_tensor[tensor] = origin
        if (storage := _storage(tensor)) is not None:
            self.of_storage[storage] = origin

    def around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What a call of a module is meanwhile."""

        def call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            path = self.paths.get(module)
            if not ours() or self.hidden:
                return original(module, *args, **kwargs)
            whole = path is not None and self.is_whole(module)
            self.inside.append(self.inside[-1] if path is None and self.inside else path or "")
            self.hidden += whole
            given = (args, kwargs)
            sources, shapes = tuple(self.origins(given)), tuple(self.shapes(given))
            try:
                result = original(module, *args, **kwargs)
            finally:
                self.hidden -= whole
                self.inside.pop()
            if whole:
                self.ended(Wired(path or "", path or "", module, (), shapes, ()), sources, result)
            return result

        return call

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = (args, kwargs)
        if self.hidden:
            return func(*args, **kwargs)
        sources, shapes = tuple(self.origins(given)), tuple(self.shapes(given))
        result = func(*args, **kwargs)
        name, _, _ = operator(func)
        values = tuple(value for value in args if not isinstance(value, torch.Tensor))
        path = self.inside[-1] if self.inside else ""
        in_place = any(value is result for value in args if isinstance(value, torch.Tensor))
        self.ended(Wired(path, name, None, (), shapes, (), values, in_place), sources, result)
        return result

    def ended(self, call: Wired, sources: Sequence[tuple[int, int]], result: Any) -> None:
        """Number a call, and remember that its results are from it."""
        number = len(self.calls)
        shapes = tuple(self.shapes(result))
        self.calls.append(
            call._replace(
                inputs=tuple(one for one, _ in sources),
                takes=tuple(place for _, place in sources),
                output_shape=next(iter(shapes), ()),
                outputs=shapes,
            )
        )
        for place, tensor in enumerate(_tensors(result)):
            self._is_from(tensor, (number, place))

    def origins(self, values: Any) -> Iterator[tuple[int, int]]:
        """The call that each value is from, and which of its outputs it is; parameters are nobody's output."""
        for tensor in _tensors(values):
            if isinstance(tensor, nn.Parameter):
                continue
            found = self.of_tensor.get(tensor)
            if found is None and (storage := _storage(tensor)) is not None:
                found = self.of_storage.get(storage)
            yield (-1, 0) if found is None else found

    def shapes(self, values: Any) -> Any:
        """The shapes of the same values."""
        return (tuple(tensor.shape) for tensor in _tensors(values) if not isinstance(tensor, nn.Parameter))


def _tensors(values: Any) -> list[torch.Tensor]:
    from convstat.trace.describe import leaves

    return [value for value in leaves(values) if isinstance(value, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int | None:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return None
