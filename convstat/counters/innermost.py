"""Tell the innermost modules, those that hold no others, as torch's truth values have them."""

from __future__ import annotations

from collections.abc import Sequence

from convstat.trace import ModuleInfo

_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")


def is_innermost(info: ModuleInfo, modules: Sequence[ModuleInfo]) -> bool:
    """Whether ``any(module.children())`` is false: an empty container among them is as good as none."""
    return not any(_is_true(modules[child]) for child in info.children)


def _is_true(info: ModuleInfo) -> bool:
    sized = any(kind.rpartition(".")[2] in _CONTAINERS for kind in (info.type, *info.bases))
    return not sized or bool(info.children or info.parameters)
