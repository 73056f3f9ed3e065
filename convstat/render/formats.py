"""The formats there are."""

from __future__ import annotations

from convstat.render.base import Renderers

RENDERERS = Renderers(
    {
        "table": "convstat.render.terminal:TableRenderer",
        "tree": "convstat.render.tree_text:TreeRenderer",
        "json": "convstat.render.json:JsonRenderer",
        "jsonl": "convstat.render.jsonl:JsonlRenderer",
        "csv": "convstat.render.csv:CsvRenderer",
        "markdown": "convstat.render.markdown:MarkdownRenderer",
        "comment": "convstat.render.comment:CommentRenderer",
        "html": "convstat.render.document:HtmlRenderer",
        "latex": "convstat.render.latex:LatexRenderer",
        "github": "convstat.render.github:GithubRenderer",
        "gitlab": "convstat.render.gitlab:GitlabRenderer",
        "junit": "convstat.render.junit:JunitRenderer",
        "sarif": "convstat.render.sarif:SarifRenderer",
        "png": "convstat.render.plots.formats:PngRenderer",
        "svg": "convstat.render.plots.formats:SvgRenderer",
    }
)
"""Every format; plugins add theirs through the entry-point group ``convstat.renderers``."""
