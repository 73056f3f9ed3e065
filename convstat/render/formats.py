"""The formats there are."""

from __future__ import annotations

from convstat.render.base import Renderers
from convstat.render.csv import CsvRenderer
from convstat.render.json import JsonRenderer
from convstat.render.markdown import MarkdownRenderer
from convstat.render.terminal import TableRenderer

RENDERERS = Renderers((TableRenderer, JsonRenderer, CsvRenderer, MarkdownRenderer))
"""Every format; plugins add theirs through the entry-point group ``convstat.renderers``."""
