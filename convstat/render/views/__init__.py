"""One file per kind of result: what its page says."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from convstat.render.base import Options, Result
from convstat.render.page import Page

MODULES: Mapping[str, str] = MappingProxyType({"explanation": "explain", "identification": "identify"})
"""The modules of those kinds of results that are not called as the kind."""


def view(result: Result, options: Options) -> Page:
    """Turn any result into its page; the module of its kind is imported when there is one, as that takes time."""
    module = import_module(f"{__name__}.{MODULES.get(result.kind, result.kind)}")
    page = Page(tuple(module.blocks(result, options)))
    if not options.columns:
        return page
    from convstat.render.views.columns import choose

    return choose(page, options.columns)
