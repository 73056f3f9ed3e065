"""Changes of a spec's text: another value for an argument, a layer split in two, an item removed.

Only the characters that change are touched, so comments, order and spelling stay as they are.
A change that cannot be made safely is refused with :class:`NoEditError`: one of an item that others name,
or of text that spreads over lines in a way that this module does not write.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from convstat import layers
from convstat.errors import Mark, SourceText
from convstat.layers.base import Layer
from convstat.spec.items import MODIFIERS
from convstat.spec.load import List, Map, Scalar, Tree, load, scalars
from convstat.spec.values import SHAPE_NAMES


class NoEditError(Exception):
    """A change that cannot be written."""


class Splice(NamedTuple):
    """The characters from ``start`` to ``end``, and what stands in their place."""

    start: int
    end: int
    text: str


class Item(NamedTuple):
    """One item of a list of layers: its layer or block, the arguments, the whole entry, and the list that it is in."""

    op: Scalar
    arguments: Tree | None
    entry: Tree
    siblings: List
    number: int

    def modifier(self, name: str) -> Tree | None:
        """What stands beside the layer: ``name``, ``when``."""
        return self.entry.get(name) if isinstance(self.entry, Map) else None


Place = tuple[int, int]
"""The line and the column of the name of a layer or block."""


class Lines(NamedTuple):
    """Lines of a text, counted from 1, and those that stand in their place; ``column`` is where the change starts."""

    first: int
    last: int
    column: int
    before: tuple[str, ...]
    after: tuple[str, ...]


class Editor:
    """Finds the items of a spec, and writes changes of them."""

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self.text = source.text
        self.items: dict[Place, Item] = {}
        self._outputs: list[str] = []
        self._named: dict[frozenset[Place], tuple[str, ...]] = {}
        self._find(load(source))

    def _find(self, tree: Tree) -> None:
        stack: list[Tree] = [tree]
        while stack:
            found = stack.pop()
            if isinstance(found, Map):
                stack += [value for _, value in found]
                self._outputs += [scalar.text for scalar in scalars(found.get("outputs"))]
            elif isinstance(found, List):
                stack += found.items
                for number, entry in enumerate(found):
                    self._add(entry, found, number)

    def _add(self, entry: Tree, siblings: List, number: int) -> None:
        if isinstance(entry, Scalar):
            self.items[entry.mark.line, entry.mark.column] = Item(entry, None, entry, siblings, number)
        elif isinstance(entry, Map):
            for key, value in entry:
                if key.text not in MODIFIERS:
                    arguments = None if isinstance(value, Scalar) and value.is_null else value
                    self.items[key.mark.line, key.mark.column] = Item(key, arguments, entry, siblings, number)

    def item(self, place: Place, kind: type[Layer] | None = None) -> Item | None:
        """The item that is written in a place, if it is a layer of this kind."""
        found = self.items.get(place)
        if found is None or (kind is not None and layers.NAMES.get(found.op.text) is not kind):
            return None
        return found

    def written(self, item: Item, kind: type[Layer], argument: str) -> str | None:
        """An argument as it is written, without quotes; None where it is not."""
        tree = self._value(item, kind, argument)
        if isinstance(tree, Scalar):
            return tree.text
        return None if tree is None else self.text[self._start(tree) : self._end(tree)]

    def _value(self, item: Item, kind: type[Layer], argument: str) -> Tree | None:
        arguments = item.arguments
        if isinstance(arguments, Map):
            return next((v for key, v in arguments if kind.shorts.get(key.text, key.text) == argument), None)
        return arguments if argument == kind.scalar_argument() else None

    def set(self, item: Item, kind: type[Layer], argument: str, text: str) -> Splice:
        """Give an argument another value."""
        old, arguments = self._value(item, kind, argument), item.arguments
        if isinstance(arguments, Map):
            in_block = self.text[self._start(arguments)] != "{"
            text = text if in_block and not _NEEDS_QUOTES.search(text) else _quoted(text)
            if old is not None:
                return Splice(self._start(old), self._end(old), text)
            if in_block:
                start = self._start(arguments)
                return Splice(start, start, f"{argument}: {text}\n{' ' * (arguments.mark.column - 1)}")
            end = self._end(arguments) - 1
            at = len(self.text[:end].rstrip())
            return Splice(at, end, f"{', ' if len(arguments) else ''}{argument}: {text}")
        if arguments is None:
            start = self._start(item.op) + item.op.mark.length
            if isinstance(item.entry, Scalar):
                return Splice(start, start, f": {{{argument}: {_quoted(text)}}}")
            start += re.match(r"\s*:?", self.text[start:]).end()  # type: ignore[union-attr]
            return Splice(start, start, f" {{{argument}: {_quoted(text)}}}")
        start, end = self._start(arguments), self._end(arguments)
        if old is not None:
            return Splice(start, end, _quoted(text))
        first = kind.scalar_argument()
        return Splice(start, end, f"{{{first}: {self._flow(arguments)}, {argument}: {_quoted(text)}}}")

    def drop(self, item: Item, among: Collection[Place] = ()) -> Splice:
        """Remove an item that nothing names, but for items that are removed with it."""
        self._refuse_named(item, among)
        if all((entry.mark.line, entry.mark.column) in among for entry in item.siblings if entry is not item.entry):
            raise NoEditError("nothing is left of its list")
        start, end = self._whole(item)
        return Splice(start, end, "")

    def drop_block(self, mark: Mark) -> Splice:
        """Remove the definition of a block, which is written in block style."""
        line = mark.text
        if line[: mark.column - 1].strip():
            raise NoEditError("it is not written on lines of its own")
        first, last = self._below(mark.line, mark.column - 1)
        return Splice(first, last, "")

    def _refuse_named(self, item: Item, among: Collection[Place]) -> None:
        """Refuse an item that is referred to, or whose removal gives others that are referred to another name."""
        key = frozenset(among)
        if key not in self._named:
            self._named[key] = tuple(dict.fromkeys(self._references(key)))
        references = self._named[key]
        name = item.modifier("name")
        if isinstance(name, Scalar):
            pattern = rf"(.*\.)?{re.escape(name.text)}(\..*)?"
            uses = sum(re.fullmatch(pattern, word) is not None for word in references)
        else:
            kind = layers.NAMES.get(item.op.text)
            base = re.escape(kind.kind().lower() if kind else item.op.text)
            uses = sum(re.search(rf"(^|\.){base}(_\d+)?(\.|$)", word) is not None for word in references)
        if uses:
            raise NoEditError("another item names it")

    def _references(self, without: Collection[Place]) -> Iterable[str]:
        """The words by which items name others: those of ``from``, ``share``, ``outputs``, and of merges."""
        for place, item in self.items.items():
            if place in without:
                continue
            for name in ("from", "share"):
                yield from (scalar.text for scalar in scalars(item.modifier(name)))
            kind = layers.NAMES.get(item.op.text)
            if kind is not None and kind.functional and kind.arity != (1, 1):
                yield from (scalar.text for scalar in scalars(item.arguments))
        yield from self._outputs

    def split(self, item: Item, kind: type[Layer], name: str, settings: Mapping[str, str]) -> Splice:
        """Write a dense convolution as a depthwise one, which takes its kernel, and a 1x1; ``name`` is its own."""
        if item.modifier("repeat") is not None or item.modifier("share") is not None:
            raise NoEditError("it is repeated, or shares its weights")
        if not isinstance(item.arguments, Map) or not self._in_block(item):
            raise NoEditError("it is not written as an item with arguments of its own")
        values = {kind.shorts.get(key.text, key.text): self._flow(value) for key, value in item.arguments}
        values.update({argument: _quoted(text) for argument, text in settings.items()})
        out, bias = values["out_channels"], values.get("bias")
        if set(re.findall(r"[a-z]+", out)) & (set(SHAPE_NAMES) - {"cin"}):
            raise NoEditError("its number of channels follows from the size of its input")
        taken = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        depthwise = {"out_channels": "cin", **{name: values[name] for name in taken if name in values}}
        depthwise |= {"groups": "cin", "bias": "false"}
        pointwise = {"out_channels": out, "kernel_size": "1", **({"bias": bias} if bias is not None else {})}
        start, end = self._whole(item)
        dash = self.text.rindex("-", start, self._start(item.entry))
        indent = self.text[start:dash]
        if indent.strip():
            raise NoEditError("its list starts on the line of another")
        written: list[str] = []
        for arguments, is_first in ((depthwise, True), (pointwise, False)):
            listed = ", ".join(f"{argument}: {text}" for argument, text in arguments.items())
            written.append(f"{indent}- {item.op.text}: {{{listed}}}")
            written.append(f"{indent}  name: {name}{'_depthwise' if is_first else ''}")
            for modifier in MODIFIERS:
                tree = item.modifier(modifier)
                if tree is not None and modifier != "name" and (is_first or modifier not in ("from", "note")):
                    written.append(f"{indent}  {modifier}: {self._flow(tree)}")
        return Splice(start, end, "\n".join(written) + "\n")

    def _in_block(self, item: Item) -> bool:
        start = self._start(item.entry)
        line = self.text[self.text.rfind("\n", 0, start) + 1 : start]
        return re.fullmatch(r"[\s-]*-\s+", line) is not None

    def _whole(self, item: Item) -> tuple[int, int]:
        """The lines of an item in a list in block style, from the start of the first to that of the next item."""
        if not self._in_block(item):
            return self._in_flow(item)
        first = item.entry.mark.line
        line = self.source.lines[first - 1]
        dash = line.rfind("-", 0, item.entry.mark.column - 1)
        if line[:dash].strip():
            raise NoEditError("its list starts on the line of another")
        return self._below(first, dash)

    def _below(self, first: int, indent: int) -> tuple[int, int]:
        """A line and those below it that are indented by more."""
        lines, last = self.source.lines, first
        for number in range(first + 1, len(lines) + 1):
            line = lines[number - 1]
            if not line.strip():
                continue
            if len(line) - len(line.lstrip()) <= indent:
                break
            last = number
        end = self.source.starts[last] if last < len(self.source.starts) else len(self.text)
        return self.source.starts[first - 1], end

    def _in_flow(self, item: Item) -> tuple[int, int]:
        start, end = self._start(item.entry), self._end(item.entry)
        if item.number + 1 < len(item.siblings):
            return start, self._start(item.siblings.items[item.number + 1])
        return self._end(item.siblings.items[item.number - 1]), end

    def _start(self, tree: Tree) -> int:
        return self.source.offset(tree.mark.line, tree.mark.column)

    def _end(self, tree: Tree) -> int:
        """Where a scalar, or what is in brackets, ends."""
        start = self._start(tree)
        if isinstance(tree, Scalar):
            end = start + tree.mark.length if tree.text or not tree.plain else start
            raw = self.text[start:end]
            if tree.plain and raw != tree.text:
                raise NoEditError("it is written over several lines")
            if not tree.plain and (raw[:1] not in "'\"" or raw[-1:] != raw[:1] or len(raw) < 2):
                raise NoEditError("it is written over several lines")
            return end
        if self.text[start] not in "[{":
            raise NoEditError("it is written in block style")
        depth, at = 0, start
        while at < len(self.text):
            if match := _QUOTED.match(self.text, at):
                at = match.end()
                continue
            depth += self.text[at] in "[{"
            depth -= self.text[at] in "]}"
            at += 1
            if depth == 0:
                return at
        raise NoEditError("it has no end")

    def _flow(self, tree: Tree) -> str:
        """A value as it may stand in braces."""
        raw = self.text[self._start(tree) : self._end(tree)]
        if "\n" in raw:
            raise NoEditError("it is written over several lines")
        return _quoted(raw) if isinstance(tree, Scalar) and tree.plain else raw

    def apply(self, splices: Iterable[Splice]) -> str:
        """The text after some changes; raises NoEditError where they overlap."""
        text, before = self.text, len(self.text) + 1
        for splice in sorted(splices, reverse=True):
            if splice.end > before or (splice.end == before == splice.start):
                raise NoEditError("two changes of the same text")
            text, before = text[: splice.start] + splice.text + text[splice.end :], splice.start
        return text

    def changed(self, text: str) -> Iterator[Lines]:
        """The lines that differ from those of another text."""
        from difflib import SequenceMatcher

        old, new = self.source.lines, SourceText("", text).lines
        for tag, first, last, start, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if tag == "insert":
                # What is added stands with the line below it, or above where there is none.
                first, start = (first, start) if last < len(old) else (first - 1, start - 1)
                last, end = (last + 1, end + 1) if last < len(old) else (last, end)
            if tag != "equal":
                yield Lines(first + 1, last, 1, tuple(old[first:last]), tuple(new[start:end]))

    def lines(self, splice: Splice) -> Lines:
        """The lines that a change touches, as they are and as they will be."""
        first, column = self.source.place(splice.start)
        ends_line = splice.end > splice.start and self.text[splice.end - 1 : splice.end] == "\n"
        last = max(first, self.source.place(splice.end - 1 if ends_line else splice.end)[0])
        start = self.source.starts[first - 1]
        end = self.source.starts[last] if last < len(self.source.starts) else len(self.text)
        after = self.text[start : splice.start] + splice.text + self.text[splice.end : end]
        return Lines(first, last, column, _lines(self.text[start:end]), _lines(after))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(SourceText("", text).lines) if text else ()


_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|\s#[^\r\n]*")

_NEEDS_QUOTES = re.compile(r"^[\[{&*!|>'\"%@`#-]|: |:$| #")


def _quoted(text: str) -> str:
    """A plain value as it may stand in braces: quoted where it would end there.

    >>> _quoted("2 if i == 0 else 1"), _quoted("max(a, b)")
    ('2 if i == 0 else 1', '"max(a, b)"')
    """
    if re.search(r"[,\[\]{}]", text) or _NEEDS_QUOTES.search(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text


__all__ = ["Editor", "Item", "Lines", "NoEditError", "Place", "Splice"]
