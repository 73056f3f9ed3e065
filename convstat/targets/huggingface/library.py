"""Import transformers and diffusers: late, quietly, and without letting them fetch anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from convstat.errors import SourceError
from convstat.patches.offline import offline
from convstat.patches.quiet import unwarned

INSTALL = {"transformers": "pip install transformers", "diffusers": "pip install diffusers"}
"""What is said where one is missing."""


@contextmanager
def importing(argument: str, package: str = "transformers") -> Iterator[None]:
    """Run an import of one of them; raises SourceError with what to install."""
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    try:
        with offline(), unwarned():
            yield
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == package:
            raise SourceError(f"{argument} needs {package}, which is not installed", help=INSTALL[package]) from None
        raise SourceError(f"{package} cannot be imported: {error}") from None
    except RuntimeError as error:
        # What its parts are loaded by says it so.
        reason = str(error).strip().splitlines()[-1]
        raise SourceError(f"{package} cannot be imported with this torch: {reason}") from None
