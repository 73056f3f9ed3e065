"""YAML text -> a tree of marked values.

No value is constructed: a scalar stays the text that was written, with its place, and what it means is decided
where it is used (:mod:`convstat.spec.values`).
So nothing of YAML 1.1 (``on`` is true, ``12:30`` is 750) happens behind the user's back, and no tag makes an object.
The tree is built from PyYAML's events, not from its nodes: its composer recurses before any limit can be checked,
and stops at the first alias without an anchor. Places come from the index of PyYAML's own marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convstat.errors import Diagnostic, Mark, SourceText, SpecError
from convstat.spec.problems import Problems

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_NODES = 50_000
"""Values in one file, each alias counted as often as it is used."""


_PROPERTY = re.compile(r"([&!][^\s,\[\]{}]*)(?:\s|#[^\r\n]*)*")
"""An anchor or a tag, and what parts it from what it is for."""

_SPACE = re.compile(r"\s+|\\(?=[\r\n])")
"""What parts words in a scalar; a line that ends with a backslash goes on in the next one."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text with its place; ``plain`` is False where it is quoted."""

    text: str
    mark: Mark
    plain: bool = True

    @property
    def is_null(self) -> bool:
        """Whether it is empty, ``~`` or ``null``."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")

    def part(self, offset: int, length: int) -> Mark:
        """The place of a part of the text; of the whole scalar, where its text is not what is written there."""
        if not length:
            return self.mark
        source, written = self.mark.source, self.mark.source.text
        at = source.offset(self.mark.line, self.mark.column)
        if not self.plain and written[at : at + 1] in ("|", ">"):
            at = source.offset(self.mark.line + 1, 1) if self.mark.line < len(source.starts) else len(written)
        elif not self.plain:
            at += 1
        # Lines are folded, and quotes doubled: all that is no space is there, in its order.
        for position in range(offset + 1):
            wanted = self.text[position : position + 1]
            if wanted.isspace():
                continue
            while (space := _SPACE.match(written, at)) is not None:
                at = space.end()
            if wanted and written[at : at + 1] != wanted:
                return self.mark
            if position < offset:
                at += 2 if wanted == "'" == written[at + 1 : at + 2] else 1
        line, column = source.place(at)
        return Mark(source, line, column, max(1, min(length, len(source.lines[line - 1]) - column + 1)))


@dataclass(frozen=True, slots=True)
class List:
    """A sequence of values."""

    items: tuple[Tree, ...]
    mark: Mark

    def __iter__(self) -> Iterator[Tree]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping of unique names to values, in the order of the text."""

    entries: tuple[tuple[Scalar, Tree], ...]
    mark: Mark

    def __iter__(self) -> Iterator[tuple[Scalar, Tree]]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, name: str) -> Tree | None:
        """The value of a name, or None."""
        return next((value for key, value in self.entries if key.text == name), None)


Tree = Scalar | List | Map


def unless_null(tree: Tree | None) -> Tree | None:
    """The value, or None where it is missing or null."""
    return None if isinstance(tree, Scalar) and tree.is_null else tree


def scalars(tree: Tree | None) -> Iterator[Scalar]:
    """All scalars of a value, without the keys of mappings."""
    if isinstance(tree, Scalar):
        yield tree
    elif tree is not None:
        for value in tree.items if isinstance(tree, List) else [value for _, value in tree]:
            yield from scalars(value)


_NOT_A_NAME = re.compile(r"[-+]?(\.?[0-9].*)?|~|null|Null|NULL|true|True|TRUE|false|False|FALSE")


def load(source: SourceText) -> Tree:
    """Read one YAML document; raise SpecError with every problem found."""
    text = source.text
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise SpecError(
            Diagnostic(
                f"larger than {MAX_BYTES:,} bytes, the limit for a spec", Mark(SourceText(source.name, ""), 1, 1)
            )
        )
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    problems = Problems()
    tree = parser = None
    try:
        parser = loader(text)
        tree = _Composer(source, parser, problems).compose()
    except yaml.MarkedYAMLError as error:
        problems.include([_syntax(source, error)])
    except yaml.reader.ReaderError as error:
        problems.include([_unreadable(source, error)])
    except UnicodeError:
        half = next((i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff"), 0)
        problems.add("not text: it contains half of a surrogate pair", Mark(source, *source.place(half)))
    finally:
        if parser is not None:
            parser.dispose()
    if tree is None and not problems:
        problems.add("nothing here", Mark(source, 1, 1), help="to write a starter spec: convstat init")
    problems.raise_if_any()
    assert tree is not None
    return tree


class _Frame:
    """A list or mapping that is being read."""

    __slots__ = ("broken", "entries", "event", "key", "names", "size")

    def __init__(self, event: Any, is_map: bool) -> None:
        self.event = event
        self.entries: list[Any] = []
        self.names: dict[str, Mark] | None = {} if is_map else None
        self.key: Scalar | None = None
        self.size = 1
        self.broken = False


class _Composer:
    """Builds the tree with a stack of its own, and checks its limits as it goes."""

    def __init__(self, source: SourceText, parser: Any, problems: Problems) -> None:
        self.source = source
        self.parser = parser
        self.problems = problems
        self.anchors: dict[str, tuple[Tree, int]] = {}
        self.stack: list[_Frame] = []
        self.root: Tree | None = None
        self.nodes = 0
        # libyaml takes a byte-order mark away before it counts.
        self.lead = source.text.startswith("\ufeff")

    def mark(self, event: Any) -> Mark:
        """The place of what an event is about: behind its anchor and its tag."""
        start, end = (mark.index + self.lead for mark in (event.start_mark, event.end_mark))
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            start = min(self.behind_properties(start), end)
        return self.span(start, end, type(event).__name__ == "ScalarEvent")

    def span(self, start: int, end: int, to_end_of_line: bool = False) -> Mark:
        line, column = self.source.place(start)
        length = end - start
        if self.source.place(end)[0] != line:
            length = len(self.source.lines[line - 1]) - column + 1 if to_end_of_line else 1
        return Mark(self.source, line, column, max(1, length))

    def behind_properties(self, start: int) -> int:
        text = self.source.text
        while start < len(text) and text[start] in "&!":
            start = _PROPERTY.match(text, start).end()  # type: ignore[union-attr]
        return start

    def compose(self) -> Tree | None:
        documents = 0
        while (event := self.parser.get_event()) is not None:
            name = type(event).__name__
            if name == "ScalarEvent":
                self.scalar(event)
            elif name == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    help = "one spec per file: remove the '---'"
                    self.problems.refuse("a second document starts here", self.mark(event), help=help)
            elif name in ("SequenceStartEvent", "MappingStartEvent"):
                self.open(event, name == "MappingStartEvent")
            elif name in ("SequenceEndEvent", "MappingEndEvent"):
                self.close()
            elif name == "AliasEvent":
                self.alias(event)
            elif name == "StreamEndEvent":
                break
        return unless_null(self.root)

    def tagged(self, event: Any) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            start = self.source.text.find("!", event.start_mark.index + self.lead)
            mark = self.span(start, _PROPERTY.match(self.source.text, start).end(1)) if start >= 0 else self.mark(event)  # type: ignore[union-attr]
            self.problems.add(f"the tag '{tag}' is not allowed", mark, help="write the value without the tag")

    def scalar(self, event: Any) -> None:
        self.tagged(event)
        plain = event.style not in ("'", '"', "|", ">")
        node = Scalar(event.value, self.mark(event), plain)
        self.made(event.anchor, node, 1)

    def open(self, event: Any, is_map: bool) -> None:
        self.tagged(event)
        if len(self.stack) >= MAX_DEPTH:
            self.problems.refuse(f"nested more than {MAX_DEPTH} deep", self.mark(event))
        if self.stack and self.stack[-1].names is not None and self.stack[-1].key is None:
            self.problems.refuse("a key must be a word", self.mark(event))
        self.anchors.pop(event.anchor, None)
        self.stack.append(_Frame(event, is_map))

    def close(self) -> None:
        frame = self.stack.pop()
        mark = self.mark(frame.event)
        made = List if frame.names is None else Map
        node = made(tuple(frame.entries), Mark(mark.source, mark.line, mark.column))
        self.made(frame.event.anchor, node, frame.size)

    def made(self, anchor: str | None, node: Tree, size: int) -> None:
        if anchor:
            self.anchors[anchor] = (node, size)
        self.put(node, size)

    def alias(self, event: Any) -> None:
        name = event.anchor
        if name in self.anchors:
            self.put(*self.anchors[name], event)
        elif any(frame.event.anchor == name for frame in self.stack):
            self.problems.refuse(f"the alias '*{name}' contains itself", self.mark(event))
        else:
            help = f"to multiply, write the variable first: {name}*2, not *{name}"
            self.problems.add(f"no anchor '&{name}' above this alias", self.mark(event), help=help)
            self.put(Scalar("0", self.mark(event)), 1)

    def put(self, node: Tree, size: int, event: Any = None) -> None:
        # An alias costs what it stands for: ten lines of aliases to aliases are a billion values.
        self.nodes += size if event is not None else 1
        if self.nodes > MAX_NODES:
            what = "its aliases stand for" if event is not None else "it holds"
            self.problems.refuse(f"too large: {what} more than {MAX_NODES:,} values", node.mark)
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        frame.size += size
        if frame.names is None:
            if not self.split(frame, node):
                frame.entries.append(node)
        elif frame.key is None:
            self.key(frame, node)
        else:
            key, frame.key = frame.key, None
            if key.text in frame.names or self.split(frame, key, node):
                return
            frame.names[key.text] = key.mark
            self.split(frame, node)
            frame.entries.append((key, node))

    def key(self, frame: _Frame, node: Tree) -> None:
        if not isinstance(node, Scalar):
            self.problems.refuse("a key must be a word", node.mark)
        frame.key = node
        text = node.text
        assert frame.names is not None
        if node.plain and text == "<<":
            self.problems.add("merge keys ('<<') are not allowed", node.mark, help="write the keys out, or use a block")
        elif node.plain and not frame.broken and _NOT_A_NAME.fullmatch(text) and not _unbalanced(text):
            self.problems.add(
                f"a key must be a word, not '{text}'", node.mark, help=f"if it is a name, write '\"{text}\"'"
            )
        elif text in frame.names:
            first = frame.names[text].line
            self.problems.add(f"'{text}' is given twice", node.mark, notes=(f"first given in line {first}",))

    def split(self, frame: _Frame, node: Tree, value: Tree | None = None) -> bool:
        """Whether this is half of a call that was split at a comma by YAML; the first half is reported."""
        if not frame.event.flow_style or not isinstance(node, Scalar) or not node.plain:
            return False
        balance = _unbalanced(node.text)
        if balance > 0:
            whole = _whole_call(node)
            self.problems.add(
                "a comma split this call",
                node.mark,
                help=f'quote it: "{whole}"' if whole else "put quotes around it",
            )
            frame.broken = True
            return True
        if frame.broken:
            # Everything up to the closing parenthesis belongs to the call.
            frame.broken = balance == 0
            return unless_null(value) is None
        return False


def _unbalanced(text: str) -> int:
    return text.count("(") - text.count(")")


def _whole_call(node: Scalar) -> str:
    """The call from its start to the parenthesis that closes it, if that is on the same line."""
    line = node.mark.text[node.mark.column - 1 :]
    depth = 0
    for position, character in enumerate(line):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character == ")":
            tail = re.match(r"[^,\]}]*", line[position + 1 :])
            return (line[: position + 1] + (tail.group() if tail else "")).strip()
    return ""


def _syntax(source: SourceText, error: Any) -> Diagnostic:
    place = error.problem_mark or error.context_mark
    lead = source.text.startswith("\ufeff")
    if place and error.context_mark and place.index + lead >= len(source.text.rstrip()):
        place = error.context_mark  # what was opened and never closed, not the end of the file
    mark = Mark(source, *(source.place(place.index + lead) if place else (1, 1)))
    problem = (error.problem or "cannot be read").strip()
    message = f"not YAML: {problem}" + (f" {error.context}" if error.context else "")
    line = mark.text
    help: tuple[str, ...] = ()
    if "\t" in line[: mark.column]:
        help = ("indent with spaces, not with tabs",)
    elif "${" in line:
        help = ("write the name of a variable without ${}: c, not ${c}",)
    elif "mapping values are not allowed" in problem:
        above = source.lines[mark.line - 2].strip() if mark.line > 1 else ""
        if re.fullmatch(r"- \w+", above):
            help = (f"put a colon after a layer with nested content: '{above}:'",)
        else:
            help = ("quote text that contains ': '",)
    elif line.strip().startswith(("%", "@", "`")) or "cannot start any token" in problem:
        help = ("quote text that starts with a special character",)
    return Diagnostic(message, mark, help=help)


def _unreadable(source: SourceText, error: Any) -> Diagnostic:
    character = error.character
    code = character if isinstance(character, int) else ord(character[:1] or "\0")
    # The first of its kind is at fault: a byte-order mark is one only where it does not begin the text.
    found = source.text.find(chr(code), source.text.startswith("\ufeff"))
    mark = Mark(source, *source.place(max(0, found)))
    return Diagnostic(f"not text: it contains the control character U+{code:04X}", mark)
