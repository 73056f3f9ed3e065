"""The formats there are."""

from __future__ import annotations

from convstat.render.base import Renderers

RENDERERS = Renderers(
    {
        "table": "convstat.render.terminal:TableRenderer",
        "json": "convstat.render.json:JsonRenderer",
        "csv": "convstat.render.csv:CsvRenderer",
        "markdown": "convstat.render.markdown:MarkdownRenderer",
    }
)
"""Every format; plugins add theirs through the entry-point group ``convstat.renderers``."""
