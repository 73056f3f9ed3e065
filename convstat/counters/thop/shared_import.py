"""Tell which of two distributions that are imported by one name is really there."""

from __future__ import annotations


def why_unavailable(distribution: str, other: str) -> str | None:
    """Say that another distribution has written over one that is installed; None where it is not installed at all."""
    from importlib import metadata

    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return None
    return f"{other} was installed over it, and both have one import name; uninstall both, then install one"


def version_if_whole(distribution: str, path: str) -> str | None:
    """The version of an installed distribution if a file of it is still the one that it brought; else None."""
    from base64 import urlsafe_b64encode
    from hashlib import sha256
    from importlib import metadata
    from pathlib import Path

    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return None
    for file in found.files or ():
        if str(file) == path and file.hash is not None:
            try:
                there = Path(str(file.locate())).read_bytes()
            except OSError:
                return None
            digest = urlsafe_b64encode(sha256(there).digest()).rstrip(b"=").decode()
            return found.version if digest == file.hash.value else None
    return found.version
