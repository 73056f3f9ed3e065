"""One file per kind of result: what its page says."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from convstat.render.base import Options, Result

if TYPE_CHECKING:
    from convstat.render.page import Page

PAGES: Mapping[str, str] = MappingProxyType(
    {
        "report": "report:report_page",
        "comparison": "comparison:comparison_page",
        "check": "check:check_page",
        "diff": "diff:diff_page",
        "listing": "listing:listing_page",
        "explanation": "explain:explanation_page",
        "identification": "identify:identification_page",
        "formula": "formula:formula_page",
    }
)
"""What makes the page of each kind of result; it is imported when there is such a result, as that takes time."""


def view(result: Result, options: Options) -> Page:
    """Turn any result into its page."""
    module, _, function = PAGES[result.kind].partition(":")
    return cast("Page", getattr(import_module(f"{__name__}.{module}"), function)(result, options))
