"""One file per kind of result: what its page says."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from convstat.results.report import Report

if TYPE_CHECKING:
    from convstat.commands.check import Check
    from convstat.render.base import Options, Result
    from convstat.render.page import Page
    from convstat.results.comparison import Comparison
    from convstat.results.diff import Diff
    from convstat.results.explanation import Explanation
    from convstat.results.formula import Formula
    from convstat.results.identification import Identification


def view(result: Result, options: Options) -> Page:
    """Turn any result into its page."""
    if isinstance(result, Report):
        from convstat.render.views.report import report_page

        return report_page(result, options)
    from convstat.render.listing import Listing, listing_page

    if isinstance(result, Listing):
        return listing_page(result)
    # What a result is tells where it comes from: so the modules of the others need not be imported, which takes time.
    match type(result).__module__:
        case "convstat.commands.explain":
            from convstat.render.views.explain import explanation_page

            return explanation_page(cast("Explanation", result))
        case "convstat.commands.formula" | "convstat.commands.kind_formula":
            from convstat.render.views.formula import formula_page

            return formula_page(cast("Formula", result), options)
        case "convstat.commands.identify":
            from convstat.render.views.identify import identification_page

            return identification_page(cast("Identification", result))
        case "convstat.results.comparison":
            from convstat.render.views.comparison import comparison_page

            return comparison_page(cast("Comparison", result), options)
        case "convstat.results.diff":
            from convstat.render.views.diff import diff_page

            return diff_page(cast("Diff", result), options)
    from convstat.render.views.check import check_page

    return check_page(cast("Check", result))
