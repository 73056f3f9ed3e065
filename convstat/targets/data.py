"""Values for the inputs of a model, from files: ``--data x.npy``, ``--data batch.pt``, ``--data mask=m.npy``.

======== ====================================================================================
suffix   what it holds
======== ====================================================================================
``.npy`` one array: the first input, or the one that is named
``.npz`` arrays by the names of the inputs; ``arr_0``, ``arr_1``, ... are inputs in order
``.pt``  a tensor; a tuple or list of inputs in order; or a dict of inputs by name (``.pth`` too)
======== ====================================================================================

Nothing in a file is executed: pickled objects other than tensors and plain containers are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convstat.errors import SourceError

if TYPE_CHECKING:
    import torch

    from convstat.targets.inputs import InputSpec

SUFFIXES = (".npy", ".npz", ".pt", ".pth")


class Value(NamedTuple):
    """One argument of a forward pass, by name or, without one, in order; ``path`` is the file that it is from."""

    name: str | None
    value: Any
    path: str


def load(spec: InputSpec) -> tuple[Value, ...]:
    """Read the file that an input names; raises SourceError where it holds no inputs."""
    assert spec.data is not None
    path = Path(spec.data)
    if path.suffix.lower() not in SUFFIXES:
        raise SourceError(f"{spec.data} is not a data file", help=f"its suffix is one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SourceError(f"the data file {spec.data} {what}", help="--data takes a file, or NAME=FILE")
    try:
        found = _numpy(path) if path.suffix.lower() in (".npy", ".npz") else _torch(path)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"cannot read {spec.data}: {error.strerror or error}") from error
    except MemoryError as error:
        raise SourceError(f"{spec.data} does not fit into the memory") from error
    except Exception as error:
        # What a damaged file raises is anything, and what is said of pickles is advice to run them.
        said = f"{spec.data} is corrupt, or contains Python objects, which are not read"
        raise SourceError(said, help=_HELP[path.suffix.lower()[:3]]) from error
    if spec.name is None:
        return tuple(Value(name, value, spec.data) for name, value in found)
    if len(found) != 1:
        raise SourceError(
            f"{spec.data} contains {len(found)} inputs, but is given for '{spec.name}' only",
            help="omit the name: --data FILE",
        )
    return (Value(spec.name, found[0][1], spec.data),)


_HELP = {
    ".np": "write it with numpy.save or numpy.savez, without pickled objects",
    ".pt": "write it with torch.save: a tensor, a tuple of them, or a dict by the names of the inputs",
}


def _numpy(path: Path) -> list[tuple[str | None, Any]]:
    import numpy

    loaded = numpy.load(path, allow_pickle=False)
    if path.suffix.lower() == ".npy":
        return [(None, _tensor(loaded, path.name))]
    with loaded:
        return [(None if re.fullmatch(r"arr_\d+", name) else name, _tensor(loaded[name], name)) for name in loaded]


def _tensor(array: Any, what: str) -> torch.Tensor:
    import torch

    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except TypeError:
        raise SourceError(f"{what} is of type {array.dtype}, which no tensor can hold") from None


def _torch(path: Path) -> list[tuple[str | None, Any]]:
    import torch

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, torch.Tensor):
        return [(None, loaded)]
    if isinstance(loaded, Mapping) and loaded and all(isinstance(name, str) for name in loaded):
        return list(loaded.items())
    if isinstance(loaded, (tuple, list)) and loaded:
        return [(None, value) for value in loaded]
    raise SourceError(f"{path} contains a {type(loaded).__name__}, not inputs", help=_HELP[".pt"])
