"""Where the keys of settings are written: tomllib keeps no marks."""

from __future__ import annotations

import re

from convstat.errors import Mark, SourceText


class Places:
    """Finds the lines of keys in the settings, which are the whole document or a ``table`` of it.

    The n-th ``[[tool.convstat.budget]]`` header is the n-th budget, and a key is found below its header;
    so it is with ``models``.
    Where the text is written in another way, the place is the first line of the table.
    """

    def __init__(self, source: SourceText, table: str) -> None:
        self.source = source
        self.table = table
        lines = source.lines
        starts: list[tuple[str, int]] = [("", 0)]
        for number, line in enumerate(lines):
            if match := re.match(r"\s*\[\[?\s*([\w\"'.\- ]+?)\s*\]\]?\s*(#.*)?$", line):
                starts.append((re.sub(r"[\"' ]", "", match[1]), number))
        ends = [number for _, number in starts[1:]] + [len(lines)]
        self.sections = [(name, start, end) for (name, start), end in zip(starts, ends, strict=True)]

    def of(self, key: str) -> Mark:
        """The place of a key of the table."""
        for name, start, end in self.sections:
            if name == self.table and (mark := self._key(key, start, end)):
                return mark
            if name == self._name(key) or name.startswith(f"{self._name(key)}."):
                return self._line(start)
        return self._line(next((start for name, start, _ in self.sections if name == self.table), 0))

    def item(self, key: str, index: int, item: object) -> Mark:
        """The place of the n-th item of a list: its header, or its text."""
        headers = self._headers(key)
        if index < len(headers):
            return self._line(headers[index][0])
        mark = self.of(key)
        if isinstance(item, str):
            for number in range(mark.line - 1, len(self.source.lines)):
                column = self.source.lines[number].find(item)
                if column >= 0 and not self.source.lines[number].lstrip().startswith("#"):
                    return Mark(self.source, number + 1, column + 1, len(item))
        return mark

    def in_item(self, key: str, index: int, inner: str) -> Mark:
        """The place of a key in the n-th table of a list; that of the table where it is not found."""
        headers = self._headers(key)
        if index >= len(headers):
            return self.of(key)
        start, end = headers[index]
        return self._key(inner, start, end) or self._line(start)

    def _name(self, key: str) -> str:
        return f"{self.table}.{key}" if self.table else key

    def _headers(self, key: str) -> list[tuple[int, int]]:
        return [(start, end) for name, start, end in self.sections if name == self._name(key)]

    def _key(self, key: str, start: int, end: int) -> Mark | None:
        pattern = re.compile(rf"\s*([\"']?){re.escape(key)}\1\s*[=.]")
        for number in range(start, end):
            line = self.source.lines[number]
            if pattern.match(line):
                return Mark(self.source, number + 1, len(line) - len(line.lstrip()) + 1, len(key))
        return None

    def _line(self, number: int) -> Mark:
        lines = self.source.lines
        text = lines[number] if number < len(lines) else ""
        return Mark(self.source, number + 1, len(text) - len(text.lstrip()) + 1, max(1, len(text.strip())))
