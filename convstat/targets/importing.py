"""Import the user's own code: by file or by dotted name, afresh each time, and without getting in anybody's way.

Python would put the folder of a file first on ``sys.path``. A neighbour called ``random.py`` or ``torch.py`` would then
stand in for the real one everywhere, so the folders are searched by a finder of their own: before installed packages,
after the standard library, and never for what convstat itself runs on.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from convstat.errors import SourceError, did_you_mean
from convstat.patches.imports import forget, found_first, register
from convstat.patches.room import alone
from convstat.patches.surroundings import default_device_kept, own_arguments
from convstat.trace.foreign import users_code

OURS = frozenset({"convstat", "torch", "torchvision", "timm", "numpy", "ptflops", "torchsummary"})
"""Packages that no file of the user's stands in for."""


_imported: set[str] = set()
"""What was found in folders of the user's, to be imported afresh for the next target.

Two versions of a net may lie in two folders, each beside its own ``layers.py``.
"""


class Neighbours:
    """Finds modules in the folders around what is being imported."""

    def __init__(self, place: str, *folders: Path) -> None:
        self.place = place
        self.folders = list(dict.fromkeys(str(folder.resolve()) for folder in folders))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Search the folders for as long as the user's code runs, which has a command line of its own."""
        with found_first(self), own_arguments(self.place), default_device_kept():
            yield

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The protocol of ``sys.meta_path``."""
        if name == "torchvision":
            _declare_operators()
        top = name.partition(".")[0]
        if path is not None or top in OURS or top in sys.stdlib_module_names:
            if top in _imported:
                _imported.add(name)
            return None
        spec = PathFinder.find_spec(name, self.folders, target)
        if spec is not None:
            _imported.add(name)
        return spec


def _declare_operators() -> None:
    """Before somebody's code imports torchvision: make it importable where its compiled part does not fit."""
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()


@alone
def import_place(place: str) -> tuple[ModuleType, Neighbours]:
    """Import a file or a dotted name, and say where its neighbours are; raises SourceError with the user's own line."""
    forget(tuple(_imported))
    _imported.clear()
    importlib.invalidate_caches()
    return _file(place) if place.endswith(".py") else _dotted(place)


def _dotted(place: str) -> tuple[ModuleType, Neighbours]:
    here = Path.cwd()
    neighbours = Neighbours(place, here, here / "src")
    with neighbours.active(), users_code(f"cannot import {place}"):
        try:
            return importlib.import_module(place), neighbours
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            missing = error.name
    near = [
        path.stem for folder in (here, here / "src") if folder.is_dir() for path in folder.iterdir() if _is_code(path)
    ]
    file = place.replace(".", "/") + ".py"
    raise SourceError(
        f"no module named '{missing}'",
        help=(*did_you_mean(missing, near), f"modules are searched from {here}; name a file by its path: {file}:..."),
    )


def _is_code(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").is_file()


def _file(place: str) -> tuple[ModuleType, Neighbours]:
    path = Path(place)
    if path.exists() and not path.is_file():
        raise SourceError(f"{place} is {'a directory' if path.is_dir() else 'not a file that contains a module'}")
    if not path.is_file():
        near = [str(p) for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise SourceError(f"no such file: {place}", help=did_you_mean(place, near))
    path = path.resolve()
    root, name = _package(path)
    neighbours = Neighbours(place, root, path.parent, Path.cwd())
    with neighbours.active(), users_code(f"cannot import {place}"):
        if "." in name:
            module = importlib.import_module(name)
            if getattr(module, "__file__", None) and Path(str(module.__file__)).resolve() == path:
                return module, neighbours
        return _load(path, name.rpartition(".")[2]), neighbours


def _package(path: Path) -> tuple[Path, str]:
    """The folder that a file is imported from, and its dotted name there: a package's files import each other by it."""
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier() and folder != folder.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    if path.stem == "__init__":
        parts.pop()
    return folder, ".".join(parts)


def _load(path: Path, name: str) -> ModuleType:
    """Run a file as a module of that name, or of another where the name is taken."""
    if name in OURS or name in sys.stdlib_module_names or name in sys.modules or not name.isidentifier():
        name = f"convstat_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered, so that its neighbours, dataclasses and pickling find it.
    register(name, module)
    _imported.add(name)
    spec.loader.exec_module(module)
    return module
