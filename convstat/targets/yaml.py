"""A spec from a file, or from standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from convstat.errors import SpecError, did_you_mean
from convstat.spec import Spec
from convstat.spec import read as read_text
from convstat.spec.load import MAX_BYTES
from convstat.text.reading import decoded, read_file


def read(path: str) -> Spec:
    """Read a spec; ``-`` is standard input. Raises SpecError where there is none to read."""
    if path == "-":
        data = _standard_input()
        return read_text(_decoded(data, "<stdin>"), "<stdin>")
    file = Path(path)
    try:
        if file.is_dir():
            near = sorted(str(entry) for entry in file.glob("*.y*ml"))
            raise SpecError(f"{path} is a directory", help=did_you_mean(path, near) or _first(near))
        data = read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise SpecError(f"no file {path}", help=did_you_mean(path, _nearby(file)) or _shipped(file)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"cannot read {path}: {reason}") from None
    return read_text(_decoded(data, path), path)


def _standard_input() -> bytes:
    try:
        if sys.stdin is None:
            raise SpecError("cannot read standard input: it is closed")
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read standard input: {getattr(error, 'strerror', None) or error}") from None


def read_at(revision: str, path: str) -> Spec:
    """Read a spec as it is at a revision of the git repository."""
    from convstat.targets import revisions

    name = f"{revision}:{path}"
    return parse(revisions.read(revision, path), name)


def parse(data: bytes, name: str) -> Spec:
    """Read a spec from the bytes of a file; ``name`` is what messages call it."""
    return read_text(_decoded(data, name), name)


def _decoded(data: bytes, name: str) -> str:
    if b"\0" in data[:4096]:
        raise SpecError(f"{name} is not a text file", help="a spec is YAML in UTF-8")
    if len(data) > MAX_BYTES:
        return data.decode("utf-8-sig", "replace")
    return decoded(data, name, SpecError)


def _nearby(file: Path) -> list[str]:
    """Specs beside a file that is not there, and in configs/: what a mistyped path may have meant."""
    found: list[str] = []
    for folder in dict.fromkeys((file.parent, Path("configs"))):
        try:
            found += sorted(str(entry) for entry in folder.glob("*.y*ml"))[:500]
        except OSError:
            continue
    return found


def _shipped(file: Path) -> tuple[str, ...]:
    """How to come by a file that is one of the examples."""
    from convstat.targets import examples

    if file.stem not in examples.files():
        return ()
    return (f"convstat init --from {file.stem} writes the example {file.name}",)


def _first(names: list[str]) -> tuple[str, ...]:
    return (f"it contains {', '.join(names[:5])}",) if names else ()
