"""The net of a spec's graph, and changes of it as edits of the spec's text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from convstat.advice.effect import Edit, Setting
from convstat.advice.net import Call, Net
from convstat.errors import SourceText
from convstat.graph import Graph, Node
from convstat.layers.base import Layer
from convstat.spec.edits import Editor, Item, NoEditError, Place, Splice
from convstat.spec.values import REPEAT_NAMES, SHAPE_NAMES


def net_of(graph: Graph, editor: Editor | None, fixed: Collection[str] = ()) -> Net:
    """The net of a graph; the places of its calls are those of the spec's items.

    Without an editor, each layer is a place of its own. ``fixed`` are overrides of arguments: what they set is not
    written in the spec, and so nothing of these layers can be changed there.
    """
    by_name = {node.name: node for node in graph.nodes}
    # What is written in one place is changed for all calls that come from it, or for none.
    kept = {_mark(node) for node in graph.nodes if any(_sets(key, node.name) for key in fixed)}
    for node in graph.nodes:
        if node.is_shared and _mark(node) != _mark(by_name[node.owner]):
            kept |= {_mark(node), _mark(by_name[node.owner])}
    calls = []
    for node in graph.nodes:
        place = None if _mark(node) in kept else _place(node, editor)
        shapes = node.input_shapes, node.output_shape
        calls.append(Call(node.name, node.layer, node.inputs, *shapes, place, not node.is_shared, node.runs))
    return Net(calls, (*graph.outputs, *(output for part in graph.parts for output in part.outputs)))


def _mark(node: Node) -> Place | str:
    return node.name if node.source is None else (node.source.line, node.source.column)


def _place(node: Node, editor: Editor | None) -> Place | str | None:
    if editor is None:
        return node.name
    mark = node.source
    if mark is None or mark.source is not editor.source:
        return None
    place = (mark.line, mark.column)
    return place if editor.item(place, type(node.layer)) is not None else None


def _sets(key: str, name: str) -> bool:
    """Whether an override of an argument may be one of a layer: they share the start of their names.

    One without a layer's name is an argument of the only layer that there is.
    """
    return "." not in key or key.partition(".")[0] == name.partition(".")[0]


class Writer:
    """Writes changes of a net as changes of the spec's text."""

    def __init__(self, net: Net, editor: Editor) -> None:
        self.net = net
        self.editor = editor

    def splices(self, edits: Iterable[Edit]) -> list[Splice]:
        """The changes of the text that make some edits; raises NoEditError."""
        by_place = self._by_place(edits)
        return [splice for place, found in by_place.items() for splice in self._at(place, found, self.editor)]

    def text(self, edits: Iterable[Edit]) -> str:
        """The text of the spec after all of some edits; raises NoEditError."""
        editor = self.editor
        # From the last to the first, so that the places of those that are left stay what they are.
        for place, found in sorted(self._by_place(edits).items(), reverse=True):
            for edit in found:
                for name, setting in edit.settings.items():
                    [splice] = self._at(place, [Edit(edit.call, {name: setting})], editor)
                    editor = Editor(SourceText(editor.source.name, editor.apply([splice])))
            for edit in (
                Edit(edit.call, split=edit.split, drop=edit.drop) for edit in found if edit.split or edit.drop
            ):
                editor = Editor(SourceText(editor.source.name, editor.apply(self._at(place, [edit], editor))))
        return editor.text

    def _by_place(self, edits: Iterable[Edit]) -> dict[Any, list[Edit]]:
        """Edits by their places: what is written in one place is changed once, for all calls that come from it."""
        by_place: dict[Any, list[Edit]] = {}
        for edit in edits:
            place = self.net.calls[edit.call].place
            if place is not None and self.net.places[place][0] == edit.call:
                by_place.setdefault(place, []).append(edit)
        return by_place

    def _at(self, place: Place, edits: Sequence[Edit], editor: Editor) -> list[Splice]:
        call = self.net.calls[edits[0].call]
        assert call.layer is not None
        kind, item, written = type(call.layer), editor.item(place), self.editor.item(place)
        assert item is not None
        assert written is not None
        if any(edit.drop for edit in edits):
            return [editor.drop(item)]
        texts = {
            name: self._text(written, kind, name, setting) for edit in edits for name, setting in edit.settings.items()
        }
        if any(edit.split for edit in edits):
            return [editor.split(item, kind, _own_name(call, item), texts)]
        return [editor.set(item, kind, name, text) for name, text in texts.items()]

    def _text(self, item: Item, kind: type[Layer], name: str, setting: Setting) -> str:
        old = self.editor.written(item, kind, name)
        if setting.how == "cin":
            return "cin"
        if setting.how == "twice" and old is not None:
            return str(2 * int(old)) if old.isdigit() else f"2 * {_grouped(old)}"
        if setting.how == "multiple" and old is not None and not old.isdigit():
            return f"({old} + 4) // 8 * 8"
        if setting.how == "like":
            return self._like(item, setting)
        return _literal(setting.value)

    def _like(self, item: Item, setting: Setting) -> str:
        """The text that is written for another layer, where it means the same."""
        other = self.net.calls[setting.like]
        assert other.layer is not None
        source = self.editor.item(other.place)  # type: ignore[arg-type]
        assert source is not None
        text = self.editor.written(source, type(other.layer), "stride")
        words = set(re.findall(r"[A-Za-z_]\w*", text or ""))
        if text is None or (words and source.siblings is not item.siblings):
            raise NoEditError("the value is that of another list of layers")
        repeated = any(one.modifier("repeat") is not None for one in (source, item))
        if words & set(SHAPE_NAMES) or (repeated and words & REPEAT_NAMES):
            raise NoEditError("the value follows from the size of the input")
        return text

    def check_reached(self, reached: Iterable[str], settings: Iterable[str]) -> None:
        """Refuse a change of channels that layers behind it would have to be told of."""
        if not {"out_channels", "out_features"} & set(settings):
            return
        for name in reached:
            call = self.net.calls[name]
            item = None if call.place is None else self.editor.item(call.place)  # type: ignore[arg-type]
            if item is None or call.layer is None:
                raise NoEditError(f"{name} is written elsewhere")
            kind = type(call.layer)
            tells = [a for a, spec in kind.arguments.items() if spec.infer is not None and spec.strict]
            if call.argument("groups") not in (None, 1):
                tells += ["groups", "out_channels"]
            for argument in tells:
                text = self.editor.written(item, kind, argument)
                if text is not None and not re.search(r"\bcin\b", text):
                    raise NoEditError(f"{name} says {argument}")


def _own_name(call: Call, item: Item) -> str:
    """The last part of the name of a call, without the number of its turn."""
    name = item.modifier("name")
    return str(getattr(name, "text", "")) or call.name.rpartition(".")[2]


def _grouped(text: str) -> str:
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def _literal(value: Any) -> str:
    """A value as YAML writes it.

    >>> _literal(False), _literal(64), _literal((1, 1)), _literal((1, 2))
    ('false', '64', '1', '[1, 2]')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(value[0]) if len(set(value)) == 1 else f"[{', '.join(map(str, value))}]"
    return str(value)
