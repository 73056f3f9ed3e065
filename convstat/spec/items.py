"""Compiles lists of layers: the items of a spec, of a block, of a body, of a path.

Names: an item is called what ``name`` says.
Without one it is called after its layer in lower case, or after its block;
where that is taken, the second is ``conv2d_2``, the third ``conv2d_3``, counted within the list that they stand in.
So a name changes only when an unnamed item of the same kind is put before it in the same list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from convstat import layers
from convstat.errors import Diagnostic, Mark, SpecError, did_you_mean
from convstat.layers.base import Flag, Layer
from convstat.spec.calls import block_call, layer_call
from convstat.spec.load import List, Map, Scalar, Tree
from convstat.spec.plan import INPUT, PREV, Action, BlockCall, Broken, Choice, Item, LayerCall, Parallel, Ref, Residual
from convstat.spec.values import REPEAT_NAMES, SHAPE_NAMES, Formula, Scope

if TYPE_CHECKING:
    from convstat.spec.compile import Compiler

MODIFIERS = ("name", "from", "repeat", "when", "note", "share", "frozen")
"""What may stand beside a layer in its item."""

GROUPS = ("residual", "parallel")
MERGES = ("concat", "add", "mul")
SHORTCUTS = ("identity", "same", "project")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def is_merge(kind: type[Layer]) -> bool:
    """Whether the kind joins inputs, so that its bare value names them: ``add: [stem, prev]``."""
    return kind.functional and kind.arity != (1, 1)


def check_name(name: Scalar, what: str, compiler: Compiler) -> bool:
    """Whether this may be a name in a dotted path."""
    if _NAME.fullmatch(name.text) and name.text not in (PREV, INPUT):
        return True
    why = (
        "has a meaning of its own"
        if name.text in (PREV, INPUT)
        else "must be letters, digits, _ and -, not starting with a digit"
    )
    compiler.problems.add(f"the name of {what} {why}: '{name.text}'", name.mark)
    return False


def compile_items(tree: Tree, scope: Scope, compiler: Compiler, taken: Iterable[str] = ()) -> tuple[Item, ...]:
    """Compile a list of layers; ``taken`` are names that the list must leave free."""
    if not isinstance(tree, List):
        if isinstance(tree, Scalar) and tree.is_null:
            return ()
        compiler.problems.add("a list of layers is expected here, each starting with '- '", tree.mark)
        return ()
    explicit: dict[str, Mark] = {}
    for entry in tree.items:
        name = entry.get("name") if isinstance(entry, Map) else None
        if not isinstance(name, Scalar):
            continue
        if name.text in taken:
            compiler.problems.add(f"the name '{name.text}' is needed for the merge here", name.mark)
        elif name.text in explicit:
            compiler.problems.add(
                f"the name '{name.text}' is given twice",
                name.mark,
                notes=(f"first given in line {explicit[name.text].line}",),
            )
        elif check_name(name, "an item", compiler):
            explicit[name.text] = name.mark
    names = {*explicit, *taken}
    found: list[Item] = []
    for position, entry in enumerate(tree.items):
        item = _Reader(entry, scope, compiler, names, position).item()
        names.add(item.name)
        found.append(item)
    return tuple(found)


class _Reader:
    """Reads one item."""

    def __init__(self, tree: Tree, scope: Scope, compiler: Compiler, names: set[str], position: int) -> None:
        self.tree = tree
        self.scope = scope
        self.compiler = compiler
        self.problems = compiler.problems
        self.names = names
        self.position = position
        self.borrows = False

    def item(self) -> Item:
        if isinstance(self.tree, List):
            self.problems.add("a layer is expected here, not a list", self.tree.mark)
            return self.broken(Scalar("", self.tree.mark))
        if isinstance(self.tree, Scalar):
            op, arguments, modifiers = self.tree, None, dict[str, Tree]()
        else:
            parted = self.parted(self.tree)
            if parted is None:
                ops = [key for key, _ in self.tree if key.text not in MODIFIERS]
                return self.broken(ops[0] if ops else Scalar("", self.tree.mark))
            op, arguments, modifiers = parted
        scope = self.scope.with_names(REPEAT_NAMES) if "repeat" in modifiers else self.scope
        inner = scope.with_names(SHAPE_NAMES)
        given = self.sources(modifiers.get("from"))
        self.borrows = "share" in modifiers
        action, named = self.action(op, arguments, inner, scope)
        if action is None:
            action = Broken()
        if named and given:
            self.problems.add(f"'from' and the list of '{op.text}' both name its inputs", modifiers["from"].mark)
        formulas = self.formulas(modifiers, inner, scope)
        sources = named or given
        if isinstance(action, LayerCall) and is_merge(action.kind) and sources is None:
            self.problems.add(
                f"{op.text} needs the names of its inputs",
                op.mark,
                help=f"for example: {op.text}: [stem, prev]",
            )
        note = modifiers.get("note")
        own = action.formulas if isinstance(action, (LayerCall, BlockCall)) else ()
        needs_shape = any(
            formula is not None and not formula.names.isdisjoint(SHAPE_NAMES) for formula in (*own, *formulas.values())
        ) or isinstance(action, Choice)
        return Item(
            action=action,
            name=self.name(op, action, modifiers.get("name")),
            position=self.position,
            mark=op.mark,
            sources=sources,
            repeat=formulas.get("repeat"),
            when=formulas.get("when"),
            share=self.share(modifiers.get("share"), action),
            frozen=formulas.get("frozen"),
            note=note.text if isinstance(note, Scalar) else None,
            needs_shape=needs_shape,
        )

    def broken(self, op: Scalar) -> Item:
        """What stands for an item that cannot be read, so that the rest still is."""
        name = self.tree.get("name") if isinstance(self.tree, Map) else None
        return Item(Broken(), self.name(op, Broken(), name), self.position, op.mark)

    def parted(self, tree: Map) -> tuple[Scalar, Tree | None, dict[str, Tree]] | None:
        """The op, its arguments and the modifiers of an item."""
        ops = [(key, value) for key, value in tree if key.text not in MODIFIERS]
        modifiers = {key.text: value for key, value in tree if key.text in MODIFIERS}
        if not ops:
            self.problems.add("no layer is named here", tree.mark, help="an item is a layer, as in '- Conv2d: {...}'")
            return None
        op, value = next(((k, v) for k, v in ops if self.is_op(k.text)), ops[0])
        extra = [key for key, _ in ops if key is not op]
        if not extra:
            return op, value, modifiers
        kind = layers.NAMES.get(op.text)
        arguments = self.argument_names(op.text)
        for key in extra:
            if key.text in arguments and isinstance(value, Scalar) and value.is_null:
                self.problems.add(
                    f"'{key.text}' stands beside {op.text}, not inside it",
                    key.mark,
                    help=f"indent it by two more spaces, or write {op.text}: {{{key.text}: ...}}",
                )
            elif self.is_op(key.text):
                self.problems.add(
                    f"two layers in one item: {op.text} and {key.text}", key.mark, help="start each with '- '"
                )
            else:
                where = f" inside {op.text}: {{...}}" if key.text in arguments else ""
                self.problems.add(
                    f"'{key.text}' cannot stand beside {op.text}",
                    key.mark,
                    help=(f"write it{where}",)
                    if where
                    else did_you_mean(key.text, (*MODIFIERS, *arguments))
                    or (f"beside a layer: {', '.join(MODIFIERS)}",),
                )
        if kind is None and not self.is_op(op.text):
            self.unknown(op)
        return None

    def is_op(self, name: str) -> bool:
        return name in GROUPS or name in layers.NAMES or self.compiler.has_block(name)

    def argument_names(self, op: str) -> tuple[str, ...]:
        if op in layers.NAMES:
            kind = layers.NAMES[op]
            return (*kind.arguments, *kind.shorts)
        if op == "residual":
            return ("shortcut", "body")
        if op == "parallel":
            return ("merge", "paths")
        params = self.compiler.block_params(op)
        return tuple(params) if params else ()

    def unknown(self, op: Scalar) -> None:
        candidates = (*layers.NAMES, *self.compiler.block_names(), *GROUPS)
        self.problems.add(
            f"unknown layer '{op.text}'", op.mark, help=did_you_mean(op.text, candidates, also="convstat list layers")
        )

    def name(self, op: Scalar, action: Action, given: Tree | None) -> str:
        if isinstance(given, Scalar):
            return given.text
        if given is not None:
            self.problems.add("a name must be one word", given.mark)
        base = action.kind.kind().lower() if isinstance(action, LayerCall) else op.text
        if isinstance(action, Broken) and not self.compiler.has_own_block(base):
            base = layers.NAMES[base].kind().lower() if base in layers.NAMES else base
        name, count = base, 1
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        return name

    def sources(self, tree: Tree | None) -> tuple[Ref, ...] | None:
        if tree is None:
            return None
        items = tree.items if isinstance(tree, List) else (tree,)
        refs = []
        for item in items:
            if isinstance(item, Scalar) and item.text:
                refs.append(Ref(item.text, item.mark))
            else:
                self.problems.add("the name of an earlier item is expected here", item.mark)
        if not refs and not self.problems:
            self.problems.add("the names of earlier items are expected here", tree.mark)
        return tuple(refs) or None

    def share(self, tree: Tree | None, action: Action) -> Ref | None:
        if tree is None:
            return None
        if not isinstance(tree, Scalar) or not tree.text:
            self.problems.add("the name of an earlier layer is expected here", tree.mark)
            return None
        if not isinstance(action, (LayerCall, Broken)):
            self.problems.add("only a single layer can share the weights of another", tree.mark)
            return None
        return Ref(tree.text, tree.mark)

    def formulas(self, modifiers: Mapping[str, Tree], inner: Scope, outer: Scope) -> dict[str, Formula | None]:
        found: dict[str, Formula | None] = {}
        if (repeat := modifiers.get("repeat")) is not None:
            # How often is asked before there is a turn to count, but what comes in is known.
            found["repeat"] = self.scope.with_names(SHAPE_NAMES).compile(repeat)
        if (when := modifiers.get("when")) is not None:
            found["when"] = inner.compile(when, Flag())
        if (frozen := modifiers.get("frozen")) is not None:
            found["frozen"] = outer.compile(frozen, Flag())
        return found

    def action(
        self, op: Scalar, arguments: Tree | None, scope: Scope, turns: Scope
    ) -> tuple[Action | None, tuple[Ref, ...] | None]:
        """What the item does, and the inputs that its own value names."""
        if isinstance(arguments, Scalar) and arguments.is_null:
            arguments = None
        if op.text == "residual":
            return self.residual(op, arguments, turns), None
        if op.text == "parallel":
            return self.parallel(op, arguments, turns), None
        # A block of the spec comes before a layer of the same name, a variable after both.
        if self.compiler.has_own_block(op.text):
            return self.block(op, arguments, scope), None
        if op.text in layers.NAMES:
            return self.layer(op, arguments, scope)
        if self.compiler.has_block(op.text):
            return self.block(op, arguments, scope), None
        if op.text in self.scope.known and op.text not in SHAPE_NAMES | REPEAT_NAMES:
            return self.choice(op, arguments, scope), None
        self.unknown(op)
        return None, None

    def residual(self, op: Scalar, arguments: Tree | None, scope: Scope) -> Residual | None:
        entries = self.group(op, arguments, ("shortcut", "body"))
        if entries is None:
            return None
        if "body" not in entries:
            self.problems.add("residual needs a body", op.mark, help="body: [...], the layers whose output is added")
            return None
        body = compile_items(entries["body"], scope, self.compiler, ("add", "shortcut"))
        shortcut = entries.get("shortcut")
        if shortcut is None:
            return Residual("identity", (), body, op.mark)
        if isinstance(shortcut, Scalar) and not shortcut.is_null:
            if shortcut.text not in SHORTCUTS:
                self.problems.add(
                    f"unknown shortcut '{shortcut.text}'",
                    shortcut.mark,
                    help=did_you_mean(shortcut.text, SHORTCUTS)
                    or (f"it is {', '.join(SHORTCUTS)} or a list of layers",),
                )
            return Residual(shortcut.text, (), body, shortcut.mark)
        items = compile_items(shortcut, scope, self.compiler)
        return Residual("layers" if items else "identity", items, body, shortcut.mark)

    def parallel(self, op: Scalar, arguments: Tree | None, scope: Scope) -> Parallel | None:
        entries = self.group(op, arguments, ("merge", "paths"))
        if entries is None:
            return None
        merge = entries.get("merge")
        how = merge.text if isinstance(merge, Scalar) else ""
        if how not in MERGES:
            if merge is None:
                self.problems.add("parallel needs merge", op.mark, help=f"it is one of {', '.join(MERGES)}")
            else:
                self.problems.add(
                    f"unknown merge '{how}'" if how else "merge must be a word",
                    merge.mark,
                    help=did_you_mean(how, MERGES) or (f"it is one of {', '.join(MERGES)}",),
                )
            how = ""
        paths = entries.get("paths")
        named: list[tuple[str, Tree]] = []
        if isinstance(paths, List):
            named = [(str(number), path) for number, path in enumerate(paths)]
        elif isinstance(paths, Map):
            for key, path in paths:
                if key.text == how:
                    self.problems.add(f"a path cannot be called '{how}': the merge is", key.mark)
                elif check_name(key, "a path", self.compiler):
                    named.append((key.text, path))
        else:
            self.problems.add("parallel needs paths", op.mark, help="paths: {a: [...], b: [...]}")
        compiled = tuple((name, compile_items(path, scope, self.compiler)) for name, path in named)
        if isinstance(paths, (List, Map)) and len(paths) < 2:
            self.problems.add(
                "parallel needs at least two paths", op.mark, help="an empty list, [], passes its input on"
            )
        return Parallel(how, compiled) if how and len(compiled) > 1 else None

    def group(self, op: Scalar, arguments: Tree | None, allowed: tuple[str, ...]) -> dict[str, Tree] | None:
        if not isinstance(arguments, Map):
            place = arguments.mark if arguments is not None else op.mark
            self.problems.add(f"{op.text} needs {' and '.join(allowed)}", place)
            return None
        for key, _ in arguments:
            if key.text not in allowed:
                self.problems.add(
                    f"{op.text} has no argument '{key.text}'",
                    key.mark,
                    help=did_you_mean(key.text, allowed) or (f"it takes {' and '.join(allowed)}",),
                )
        return {key.text: value for key, value in arguments}

    def layer(
        self, op: Scalar, arguments: Tree | None, scope: Scope
    ) -> tuple[LayerCall | None, tuple[Ref, ...] | None]:
        kind = layers.NAMES[op.text]
        if is_merge(kind):
            if isinstance(arguments, Map):
                entries = {key.text: value for key, value in arguments}
                named = self.sources(entries.get("inputs"))
                rest = Map(tuple((k, v) for k, v in arguments if k.text != "inputs"), arguments.mark)
                return layer_call(kind, op, rest, scope, self.compiler), named
            if arguments is not None:
                return layer_call(kind, op, None, scope, self.compiler), self.sources(arguments)
        return layer_call(kind, op, arguments, scope, self.compiler, borrows=self.borrows), None

    def block(self, op: Scalar, arguments: Tree | None, scope: Scope) -> BlockCall | None:
        return block_call(op.text, op, arguments, scope, self.compiler)

    def choice(self, op: Scalar, arguments: Tree | None, scope: Scope) -> Choice | None:
        formula = scope.compile(op)
        if formula is None:
            return None
        made: dict[str, Action | None] = {}
        wrong: dict[str, list[Diagnostic]] = {}
        compiler = self.compiler
        compiler.chosen_in.add(compiler.current)

        def compile_for(word: str) -> Action | None:
            if word not in made and word not in wrong:
                noted, known = compiler.problems.noted, len(compiler.problems.found)
                call: Action | None = None
                if compiler.has_own_block(word) or word not in layers.NAMES:
                    call = block_call(word, op, arguments, scope, compiler) if compiler.has_block(word) else None
                else:
                    call = layer_call(layers.NAMES[word], op, arguments, scope, compiler)
                compiler.finish()
                if compiler.problems.noted == noted:
                    made[word] = call
                else:
                    wrong[word] = compiler.problems.found[known:]
            if word in wrong:
                raise SpecError(wrong[word])
            return made[word]

        if arguments is not None:
            # Its arguments cannot be checked before its layer is known, but what they read is read.
            for tree in [v for _, v in arguments] if isinstance(arguments, Map) else [arguments]:
                scope.used.update(re.findall(r"[A-Za-z_]\w*", tree.text) if isinstance(tree, Scalar) else ())
        return Choice(formula, arguments, compile_for)
