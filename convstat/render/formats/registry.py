"""The formats there are."""

from __future__ import annotations

from convstat.render.base import Renderers

RENDERERS = Renderers(
    {
        "table": "convstat.render.formats.terminal:TableRenderer",
        "tree": "convstat.render.formats.tree:TreeRenderer",
        "json": "convstat.render.formats.json:JsonRenderer",
        "jsonl": "convstat.render.formats.jsonl:JsonlRenderer",
        "csv": "convstat.render.formats.csv:CsvRenderer",
        "markdown": "convstat.render.formats.markdown:MarkdownRenderer",
        "comment": "convstat.render.formats.comment:CommentRenderer",
        "html": "convstat.render.html.document:HtmlRenderer",
        "nnvc": "convstat.render.templates.nnvc:NnvcRenderer",
        "nnvc-csv": "convstat.render.templates.nnvc:NnvcCsvRenderer",
        "nnvc-latex": "convstat.render.templates.nnvc:NnvcLatexRenderer",
        "ntire": "convstat.render.templates.ntire:NtireRenderer",
        "ntire-csv": "convstat.render.templates.ntire:NtireCsvRenderer",
        "ntire-latex": "convstat.render.templates.ntire:NtireLatexRenderer",
        "latex": "convstat.render.formats.latex:LatexRenderer",
        "python": "convstat.render.formats.python:PythonRenderer",
        "github": "convstat.render.formats.github:GithubRenderer",
        "gitlab": "convstat.render.formats.gitlab:GitlabRenderer",
        "junit": "convstat.render.formats.junit:JunitRenderer",
        "sarif": "convstat.render.formats.sarif:SarifRenderer",
        "png": "convstat.render.plots.formats:PngRenderer",
        "svg": "convstat.render.plots.formats:SvgRenderer",
    }
)
"""Every format; plugins add theirs through the entry-point group ``convstat.renderers``."""
