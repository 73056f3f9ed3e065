"""One file per kind of result: what its page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.report import Report

if TYPE_CHECKING:
    from convstat.render.base import Options, Result
    from convstat.render.page import Page


def view(result: Result, options: Options) -> Page:
    """Turn any result into its page."""
    if isinstance(result, Report):
        from convstat.render.views.report import report_page

        return report_page(result, options)
    from convstat.render.listing import Listing, listing_page

    if isinstance(result, Listing):
        return listing_page(result)
    from convstat.explain import Explanation

    if isinstance(result, Explanation):
        from convstat.render.views.explain import explanation_page

        return explanation_page(result)
    from convstat.identify import Identification

    if isinstance(result, Identification):
        from convstat.render.views.identify import identification_page

        return identification_page(result)
    from convstat.comparison import Comparison

    if isinstance(result, Comparison):
        from convstat.render.views.comparison import comparison_page

        return comparison_page(result, options)
    from convstat.diff import Diff

    if isinstance(result, Diff):
        from convstat.render.views.diff import diff_page

        return diff_page(result, options)
    from convstat.render.views.check import check_page

    return check_page(result)
