"""Lists of layers and the blocks that name them -> items and blocks of a plan.

The two are one recursive grammar: a block holds a list of layers, whose items may call blocks or hold further lists.

Names: an item is called what ``name`` says.
Without one it is called after its layer in lower case, or after its block;
where that is taken, the second is ``conv2d_2``, the third ``conv2d_3``, counted within the list that they stand in.
So a name changes only when an unnamed item of the same kind is put before it in the same list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping

from convstat import layers
from convstat.errors import Diagnostic, LayerError, Mark, SpecError, did_you_mean
from convstat.grammar import widths
from convstat.layers.base import Flag, Layer
from convstat.spec import shipped
from convstat.spec.expressions import Expression
from convstat.spec.load import List, Map, Scalar, Tree, scalars, unless_null
from convstat.spec.plan import (
    INPUT,
    PREV,
    Action,
    Block,
    BlockCall,
    Broken,
    Choice,
    Item,
    LayerCall,
    Parallel,
    Ref,
    Residual,
)
from convstat.spec.problems import Problems
from convstat.spec.values import REPEAT_NAMES, RESERVED, SHAPE_NAMES, Scope, is_layer
from convstat.units import UnitError

MODIFIERS = ("name", "from", "repeat", "when", "note", "share", "frozen", "weights")
"""What may stand beside a layer in its item."""

GROUPS: Mapping[str, tuple[str, str]] = {"residual": ("shortcut", "body"), "parallel": ("merge", "paths")}
"""Items that hold lists of layers, and their arguments."""

MERGES = ("concat", "add", "mul")
SHORTCUTS = ("identity", "same", "project")
BLOCK_KEYS = ("params", "inputs", "layers", "note")

MAX_NAMES = 1_000
"""Variables in a spec, blocks in a spec."""

MAX_PARAMS = 100

MAX_CALLS = 64
"""How deep blocks may call blocks."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def is_merge(kind: type[Layer]) -> bool:
    """Whether the kind joins inputs, so that its bare value names them: ``add: [stem, prev]``."""
    return kind.functional and kind.arity != (1, 1)


def in_order(uses: Mapping[str, Iterable[str]]) -> tuple[list[str], list[list[str]]]:
    """Sort names so that each comes after those that it uses; return them and every cycle, as a closed path."""
    order: dict[str, None] = {}
    cycles: list[list[str]] = []
    for start in uses:
        # Depth first with a stack of its own: a chain of names may be longer than Python's.
        path: dict[str, None] = {}
        stack = [(start, False)]
        while stack:
            name, done = stack.pop()
            if done:
                path.pop(name, None)
                order[name] = None
            elif name in path:
                names = list(path)
                cycles.append([*names[names.index(name) :], name])
            elif name not in order:
                path[name] = None
                stack.append((name, True))
                stack += [(used, False) for used in uses[name] if used in uses and used not in order]
    return list(order), cycles


def keys(problems: Problems, tree: Map, allowed: Iterable[str], what: str) -> dict[str, Tree]:
    """The entries of a mapping by key; unknown keys are reported."""
    for key, _ in tree:
        if key.text not in allowed:
            problems.unknown(
                f"unknown key '{key.text}'", key.mark, key.text, allowed, f"{what} has: {', '.join(allowed)}"
            )
    return {key.text: value for key, value in tree}


def entries_of(
    problems: Problems, key: str, tree: Tree | None, example: str, most: int, what: str
) -> tuple[tuple[Scalar, Tree], ...]:
    """The entries of an optional mapping of names; refuses more than ``most``, which would take too long to read."""
    tree = unless_null(tree)
    if tree is None:
        return ()
    if not isinstance(tree, Map):
        problems.add(f"{key} is a mapping: {example}", tree.mark)
        return ()
    if len(tree) > most:
        problems.refuse(f"more than {most:,} {what}", tree.mark)
    return tree.entries


def refs(problems: Problems, tree: Tree | None, what: str) -> tuple[Ref, ...]:
    """Read a list of names, or a single one."""
    found = []
    for item in tree.items if isinstance(tree, List) else () if tree is None else (tree,):
        if isinstance(item, Scalar) and item.text:
            found.append(Ref(item.text, item.mark))
        else:
            problems.add(f"expected {what}", item.mark)
    return tuple(found)


def is_name(problems: Problems, name: Scalar, what: str) -> bool:
    """Whether this may be a name in a dotted path."""
    if _NAME.fullmatch(name.text) and name.text not in (PREV, INPUT):
        return True
    why = "is reserved" if name.text in (PREV, INPUT) else "must be letters, digits, _ and -, not starting with a digit"
    problems.add(f"the name of {what} {why}: '{name.text}'", name.mark)
    return False


def is_variable_name(problems: Problems, key: Scalar, what: str) -> bool:
    """Whether this may be the name of a variable or a parameter."""
    if not re.fullmatch(r"[A-Za-z_]\w*", key.text, re.ASCII):
        problems.add(f"the name of {what} must be letters, digits and _: '{key.text}'", key.mark)
    elif key.text in RESERVED:
        problems.add(f"'{key.text}' is reserved and cannot be {what}", key.mark)
    else:
        return True
    return False


class Blocks(Container[str]):
    """The blocks that can be called: those of the spec and those shipped with convstat."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.variables: dict[str, Expression] = {}
        self.own: dict[str, tuple[Scalar, Map]] = {}
        self.compiled: dict[str, Block] = {}
        """A shipped block is compiled, and added, when something calls it."""
        self.calls: dict[str, dict[str, Mark]] = {}
        """Which block calls which, and where; the layers of the spec call as ``""``."""
        self.chooses: set[str] = set()
        """The blocks that call what a variable or a parameter names."""
        self.named: set[str] = set()
        """The blocks of the spec that a value names."""
        self.calls_end = True
        self.sets_widths = False
        """Whether any item says in which width its weights are stored."""
        self.current = ""

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in shipped.NAMES

    def is_named(self, word: str) -> bool:
        """Whether a word in a value names a block; if so, the block counts as used."""
        self.named |= {word} & self.own.keys()
        return word in self

    def names(self) -> tuple[str, ...]:
        """The names of all blocks."""
        return (*self.own, *shipped.NAMES)

    def params(self, name: str) -> Mapping[str, Tree | None]:
        """The parameters of a block and their defaults; None where it must be given."""
        return shipped.params(self.own[name][1] if name in self.own else shipped.trees()[name])

    def scope(self, names: Iterable[str] = ()) -> Scope:
        """The scope of the variables and some more names."""
        return Scope((*self.variables, *names), self.problems, self.is_named)

    def define(self, tree: Tree | None) -> None:
        """Register the blocks of a spec before any is compiled, so that they can call each other in any order."""
        example = "{name: {params: {...}, layers: [...]}}"
        for key, value in entries_of(self.problems, "blocks", tree, example, MAX_NAMES, "blocks"):
            if key.text in layers.KINDS or key.text in GROUPS:
                self.problems.add(f"a block cannot be called '{key.text}': a layer is", key.mark)
            elif isinstance(value, Scalar):
                self.problems.add(f"block '{key.text}' needs layers", key.mark, help="layers: a list")
            elif is_name(self.problems, key, "a block"):
                whole = value if isinstance(value, Map) else Map(((Scalar("layers", key.mark), value),), value.mark)
                self.own[key.text] = (key, whole)

    def compile(self) -> None:
        """Compile the blocks of the spec."""
        for name, (key, tree) in self.own.items():
            self._compile(name, tree, key.mark, self.variables)

    def _compile(
        self, name: str, tree: Map, mark: Mark, variables: Mapping[str, Expression], ships: bool = False
    ) -> None:
        outer, self.current = self.current, name
        entries = keys(self.problems, tree, BLOCK_KEYS, "a block")
        params: dict[str, Expression | None] = {}
        scope = Scope((*variables, *SHAPE_NAMES), self.problems, self.is_named)
        example = "{out: null, stride: 1}"
        for key, value in entries_of(self.problems, "params", entries.get("params"), example, MAX_PARAMS, "parameters"):
            known = scope.with_names(params)
            if is_variable_name(self.problems, key, "a parameter"):
                params[key.text] = None if unless_null(value) is None else known.compile(value)
        named = refs(self.problems, entries.get("inputs"), "the name of an input")
        inputs = tuple(ref.name for ref in named) or (INPUT,)
        body = Scope((*variables, *params), self.problems, self.is_named)
        if "layers" not in entries:
            self.problems.add(f"block '{name}' needs layers", mark, help="layers: a list")
        items = compile_items(entries["layers"], body, self, inputs) if "layers" in entries else ()
        reads = frozenset((scope.used | body.used) & set(variables) - set(params))
        calls, chooses = tuple(self.calls.get(name, ())), name in self.chooses
        self.compiled[name] = Block(name, inputs, params, items, reads, calls, chooses, mark, ships)
        self.current = outer

    def call(self, name: str, mark: Mark) -> None:
        """Record that the block being compiled calls another; a shipped one is compiled at its first call."""
        self.calls.setdefault(self.current, {}).setdefault(name, mark)
        if name not in self.own and name not in self.compiled:
            self._compile(name, shipped.trees()[name], mark, {}, ships=True)

    def check_calls(self) -> None:
        """Report blocks that call themselves, and calls nested too deep."""
        order, cycles = in_order({name: self.calls.get(name, {}) for name in self.compiled})
        self.calls_end = not cycles
        for cycle in cycles[:1]:
            mark = self.calls[cycle[-2]][cycle[-1]]
            self.problems.add(f"a block calls itself: {' -> '.join(cycle)}", mark)
        depth: dict[str, int] = {}
        for name in order if self.calls_end else ():
            depth[name] = 1 + max((depth.get(callee, 0) for callee in self.calls.get(name, ())), default=0)
            if depth[name] > MAX_CALLS:
                self.calls_end = False
                self.problems.add(f"blocks are nested more than {MAX_CALLS} deep", self.compiled[name].mark)
                return


def compile_items(tree: Tree, scope: Scope, blocks: Blocks, taken: Iterable[str] = ()) -> tuple[Item, ...]:
    """Compile a list of layers; ``taken`` are names that the list must leave free."""
    problems = blocks.problems
    if not isinstance(tree, List):
        if unless_null(tree) is not None:
            problems.add("expected a list of layers, each starting with '- '", tree.mark)
        return ()
    explicit: dict[str, Mark] = {}
    for entry in tree.items:
        name = entry.get("name") if isinstance(entry, Map) else None
        if not isinstance(name, Scalar):
            continue
        if name.text in taken:
            problems.add(f"the name '{name.text}' is reserved for the merge here", name.mark)
        elif name.text in explicit:
            notes = (f"first given in line {explicit[name.text].line}",)
            problems.add(f"the name '{name.text}' is given twice", name.mark, notes=notes)
        elif is_name(problems, name, "an item"):
            explicit[name.text] = name.mark
    names = {*explicit, *taken}
    found: list[Item] = []
    for position, entry in enumerate(tree.items):
        item = _Reader(entry, scope, blocks, names, position).item()
        names.add(item.name)
        found.append(item)
    return tuple(found)


class _Reader:
    """Reads one item."""

    def __init__(self, tree: Tree, scope: Scope, blocks: Blocks, names: set[str], position: int) -> None:
        self.tree = tree
        self.scope = scope
        self.blocks = blocks
        self.problems = blocks.problems
        self.names = names
        self.position = position
        self.borrows = False

    def item(self) -> Item:
        if isinstance(self.tree, List):
            self.problems.add("expected a layer, not a list", self.tree.mark)
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
        action, named = self.action(op, unless_null(arguments), inner, scope)
        if named and given:
            self.problems.add(f"'from' and the list of '{op.text}' both name its inputs", modifiers["from"].mark)
        # How often is asked before there is a turn to count, but what comes in is known.
        repeat = self.modifier(modifiers.get("repeat"), self.scope.with_names(SHAPE_NAMES))
        when = self.modifier(modifiers.get("when"), inner, Flag())
        frozen = self.modifier(modifiers.get("frozen"), scope, Flag())
        sources = named or given
        if isinstance(action, LayerCall) and is_merge(action.kind) and sources is None:
            help = f"for example: {op.text}: [stem, prev]"
            self.problems.add(f"{op.text} needs the names of its inputs", op.mark, help=help)
        note = modifiers.get("note")
        own = action.arguments.values() if isinstance(action, (LayerCall, BlockCall)) else ()
        return Item(
            action=action,
            name=self.name(op, action, modifiers.get("name")),
            position=self.position,
            mark=op.mark,
            sources=sources,
            repeat=repeat,
            when=when,
            share=self.share(modifiers.get("share"), action),
            frozen=frozen,
            note=note.text if isinstance(note, Scalar) else None,
            weights=self.weights(modifiers.get("weights")),
            needs_shape=isinstance(action, Choice)
            or any(
                read is not None and not read.names.isdisjoint(SHAPE_NAMES) for read in (*own, repeat, when, frozen)
            ),
        )

    def broken(self, op: Scalar) -> Item:
        """A placeholder for an item that cannot be read, so that the others still are."""
        name = self.tree.get("name") if isinstance(self.tree, Map) else None
        return Item(Broken(), self.name(op, Broken(), name), self.position, op.mark)

    def parted(self, tree: Map) -> tuple[Scalar, Tree | None, dict[str, Tree]] | None:
        """Split an item into its op, the arguments of the op, and the modifiers."""
        ops = [(key, value) for key, value in tree if key.text not in MODIFIERS]
        modifiers = {key.text: value for key, value in tree if key.text in MODIFIERS}
        if not ops:
            self.problems.add("missing layer name", tree.mark, help="an item is a layer, as in '- Conv2d: {...}'")
            return None
        op, value = next(((k, v) for k, v in ops if self.is_op(k.text)), ops[0])
        extra = [key for key, _ in ops if key is not op]
        if not extra:
            return op, value, modifiers
        arguments = self.argument_names(op.text)
        for key in extra:
            beside = f"'{key.text}' is not allowed beside {op.text}"
            if key.text in arguments and unless_null(value) is None:
                self.problems.add(
                    f"'{key.text}' belongs beside {op.text}, not inside it",
                    key.mark,
                    help=f"indent it by two more spaces, or write {op.text}: {{{key.text}: ...}}",
                )
            elif self.is_op(key.text):
                message = f"two layers in one item: {op.text} and {key.text}"
                self.problems.add(message, key.mark, help="start each with '- '")
            elif key.text in arguments:
                self.problems.add(beside, key.mark, help=f"write it inside {op.text}: {{...}}")
            else:
                known = (*MODIFIERS, *arguments)
                self.problems.unknown(beside, key.mark, key.text, known, f"beside a layer: {', '.join(MODIFIERS)}")
        if not self.is_op(op.text):
            self.unknown(op)
        return None

    def is_op(self, name: str) -> bool:
        return name in GROUPS or name in self.blocks or is_layer(name)

    def layer_kind(self, name: str) -> type[Layer] | None:
        """The layer kind of a name, if it is not that of a block: a spec's own block wins, a shipped one does not."""
        if name in self.blocks and (name in self.blocks.own or name not in layers.NAMES):
            return None
        return layers.NAMES[name] if is_layer(name) else None

    def argument_names(self, op: str) -> tuple[str, ...]:
        if op in layers.NAMES:
            return (*layers.NAMES[op].arguments, *layers.NAMES[op].shorts)
        return GROUPS[op] if op in GROUPS else tuple(self.blocks.params(op)) if op in self.blocks else ()

    def unknown(self, op: Scalar) -> None:
        candidates = (*layers.NAMES, *self.blocks.names(), *GROUPS)
        help = did_you_mean(op.text, candidates, also="convstat list layers")
        self.problems.add(f"unknown layer '{op.text}'", op.mark, help=help)

    def name(self, op: Scalar, action: Action, given: Tree | None) -> str:
        if isinstance(given, Scalar):
            return given.text
        if given is not None:
            self.problems.add("a name must be one word", given.mark)
        base = action.kind.kind().lower() if isinstance(action, LayerCall) else op.text
        if isinstance(action, Broken) and base not in self.blocks.own and base in layers.NAMES:
            base = layers.NAMES[base].kind().lower()
        name, count = base, 1
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        return name

    def sources(self, tree: Tree | None) -> tuple[Ref, ...] | None:
        found = refs(self.problems, tree, "the name of an earlier item")
        if tree is not None and not found and not self.problems:
            self.problems.add("expected the names of earlier items", tree.mark)
        return found or None

    def share(self, tree: Tree | None, action: Action) -> Ref | None:
        if tree is None:
            return None
        if not isinstance(tree, Scalar) or not tree.text:
            self.problems.add("expected the name of an earlier layer", tree.mark)
        elif not isinstance(action, (LayerCall, Broken)):
            self.problems.add("only a single layer can share the weights of another", tree.mark)
        else:
            return Ref(tree.text, tree.mark)
        return None

    def weights(self, tree: Tree | None) -> str | None:
        """Read the width of the item's stored weights."""
        if tree is None:
            return None
        if not isinstance(tree, Scalar):
            self.problems.add("weights must be one word, such as int8", tree.mark)
            return None
        self.blocks.sets_widths = True
        try:
            return widths.one_way(tree.text)
        except UnitError as error:
            self.problems.add(error.message, tree.mark, help=error.help)
            return None

    def modifier(self, tree: Tree | None, scope: Scope, kind: Flag | None = None) -> Expression | None:
        return None if tree is None else scope.compile(tree, kind)

    def action(
        self, op: Scalar, arguments: Tree | None, scope: Scope, turns: Scope
    ) -> tuple[Action, tuple[Ref, ...] | None]:
        """Compile the op of an item; return its action, and the inputs that its value names."""
        found: Action | None = None
        named = None
        if op.text in GROUPS:
            entries = self.group(op, arguments)
            group = self.residual if op.text == "residual" else self.parallel
            found = None if entries is None else group(op, entries, turns)
        elif op.text in self.scope.known and op.text not in (
            *layers.NAMES,
            *self.blocks.names(),
            *SHAPE_NAMES,
            *REPEAT_NAMES,
        ):
            found = self.choice(op, arguments, scope)
        elif (kind := self.layer_kind(op.text)) is not None:
            if is_merge(kind) and arguments is not None:
                named = self.sources(arguments.get("inputs") if isinstance(arguments, Map) else arguments)
                kept = [entry for entry in arguments if entry[0].text != "inputs"] if isinstance(arguments, Map) else []
                arguments = Map(tuple(kept), arguments.mark)
            found = self.layer(kind, op, arguments, scope)
        elif op.text in self.blocks:
            found = self.block(op.text, op, arguments, scope)
        else:
            self.unknown(op)
        return Broken() if found is None else found, named

    def group(self, op: Scalar, arguments: Tree | None) -> dict[str, Tree] | None:
        allowed = GROUPS[op.text]
        takes = " and ".join(allowed)
        if not isinstance(arguments, Map):
            place = arguments.mark if arguments is not None else op.mark
            self.problems.add(f"{op.text} needs {takes}", place)
            return None
        for key, _ in arguments:
            if key.text not in allowed:
                message = f"{op.text} has no argument '{key.text}'"
                self.problems.unknown(message, key.mark, key.text, allowed, f"it takes {takes}")
        return {key.text: value for key, value in arguments}

    def residual(self, op: Scalar, entries: Mapping[str, Tree], scope: Scope) -> Residual | None:
        if "body" not in entries:
            self.problems.add("residual needs a body", op.mark, help="body: [...], the layers whose output is added")
            return None
        body = compile_items(entries["body"], scope, self.blocks, ("add", "shortcut"))
        shortcut = entries.get("shortcut")
        if shortcut is None:
            return Residual("identity", (), body, op.mark)
        if isinstance(shortcut, Scalar) and not shortcut.is_null:
            if shortcut.text not in SHORTCUTS:
                message = f"unknown shortcut '{shortcut.text}'"
                otherwise = f"it is {', '.join(SHORTCUTS)} or a list of layers"
                self.problems.unknown(message, shortcut.mark, shortcut.text, SHORTCUTS, otherwise)
            return Residual(shortcut.text, (), body, shortcut.mark)
        items = compile_items(shortcut, scope, self.blocks)
        return Residual("layers" if items else "identity", items, body, shortcut.mark)

    def parallel(self, op: Scalar, entries: Mapping[str, Tree], scope: Scope) -> Parallel | None:
        merge = entries.get("merge")
        how = merge.text if isinstance(merge, Scalar) else ""
        if how not in MERGES:
            message = (
                f"unknown merge '{how}'"
                if how
                else "merge must be a word"
                if merge is not None
                else "parallel needs merge"
            )
            place = op.mark if merge is None else merge.mark
            self.problems.unknown(
                message, place, how, () if merge is None else MERGES, f"it is one of {', '.join(MERGES)}"
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
                elif is_name(self.problems, key, "a path"):
                    named.append((key.text, path))
        else:
            self.problems.add("parallel needs paths", op.mark, help="paths: {a: [...], b: [...]}")
        compiled = tuple((name, compile_items(path, scope, self.blocks)) for name, path in named)
        if isinstance(paths, (List, Map)) and len(paths) < 2:
            help = "an empty list, [], passes its input through"
            self.problems.add("parallel needs at least two paths", op.mark, help=help)
        return Parallel(how, compiled) if how and len(compiled) > 1 else None

    def layer(self, kind: type[Layer], op: Scalar, arguments: Tree | None, scope: Scope) -> LayerCall | None:
        """Compile a layer; one that shares the weights of another may omit all arguments."""

        def compiled(name: str, tree: Tree) -> Expression | None:
            """Compile one argument; a constant is checked at once."""
            argument = kind.arguments[name]
            found = scope.compile(tree, argument.kind)
            if found is None or found.evaluate is not None or (found.constant is None and argument.infer is not None):
                return found
            try:
                argument.kind.parse(found.constant, name)
            except LayerError as error:
                self.problems.add(error.message, found.mark, help=error.help)
                return None
            return found

        required = [name for name, argument in kind.arguments.items() if argument.required]
        given = self.arguments(kind.kind(), "", op, arguments, tuple(kind.arguments), required, kind.shorts, compiled)
        return None if given is None else LayerCall(kind, given)

    def block(self, name: str, op: Scalar, arguments: Tree | None, scope: Scope) -> BlockCall | None:
        """Compile a call of a block."""
        params = self.blocks.params(name)
        self.blocks.call(name, op.mark)

        def compiled(_: str, tree: Tree) -> Expression | None:
            return scope.compile(tree)

        required = [key for key, default in params.items() if default is None]
        given = self.arguments(name, "block", op, arguments, tuple(params), required, {}, compiled)
        return None if given is None else BlockCall(name, given)

    def arguments(
        self,
        name: str,
        called: str,
        op: Scalar,
        written: Tree | None,
        takes: tuple[str, ...],
        required: list[str],
        shorts: Mapping[str, str],
        compiled: Callable[[str, Tree], Expression | None],
    ) -> dict[str, Expression] | None:
        """Compile arguments, a mapping or one bare value: that of the first required argument, or else of the first."""
        what, noun = (f"{called} '{name}'", "parameter") if called else (name, "argument")
        entries = written.entries if isinstance(written, Map) else ()
        if written is not None and not isinstance(written, Map):
            if takes:
                entries = ((Scalar((*required, *takes)[0], written.mark), written),)
            else:
                self.problems.add(f"{what} takes no {noun}s", written.mark)
        given: dict[str, Expression | None] = {}
        spelled: dict[str, str] = {}
        known = True
        for key, tree in entries:
            argument = shorts.get(key.text, key.text)
            if argument not in takes:
                known = False
                listed = f"it takes {', '.join(takes)}" if takes else f"it takes no {noun}s"
                message = f"{what} has no {noun} '{key.text}'"
                self.problems.unknown(message, key.mark, key.text, (*takes, *shorts), listed)
                continue
            if argument in given:
                other = key.text if key.text != argument else spelled[argument]
                self.problems.add(f"'{argument}' is given twice, once as '{other}'", key.mark)
            spelled[argument] = key.text
            given[argument] = compiled(argument, tree)
        missing = [argument for argument in required if argument not in given]
        if missing and (known or called) and (given or not self.borrows):
            self.problems.add(f"{what} needs {' and '.join(missing)}", op.mark, help=_example(name, missing, op))
            return None
        complete = {argument: value for argument, value in given.items() if value is not None}
        return complete if known and len(complete) == len(given) else None

    def choice(self, op: Scalar, arguments: Tree | None, scope: Scope) -> Choice | None:
        written = scope.compile(op)
        if written is None:
            return None
        made: dict[str, Action | None] = {}
        wrong: dict[str, list[Diagnostic]] = {}
        blocks = self.blocks
        blocks.chooses.add(blocks.current)

        def compile_for(word: str) -> Action | None:
            if word not in made and word not in wrong:
                noted, before = self.problems.noted, len(self.problems.found)
                call: Action | None = None
                kind = self.layer_kind(word)
                if kind is not None:
                    call = self.layer(kind, op, arguments, scope)
                elif word in blocks:
                    call = self.block(word, op, arguments, scope)
                if self.problems.noted == noted:
                    made[word] = call
                else:
                    wrong[word] = self.problems.found[before:]
            if word in wrong:
                raise SpecError(wrong[word])
            return made[word]

        # Its arguments cannot be checked before its layer is known, but what they read is read.
        words = {word for scalar in scalars(arguments) for word in re.findall(r"[A-Za-z_]\w*", scalar.text)}
        scope.used |= words
        blocks.named |= words & blocks.own.keys()
        return Choice(written, compile_for)


def _example(name: str, missing: list[str], op: Scalar) -> str:
    """The call with its missing arguments, as it is written in a file or on the command line."""
    if op.mark.source.is_file:
        return f"{name}: {{{', '.join(f'{argument}: ...' for argument in missing)}}}"
    given = op.mark.source.text.strip().removesuffix(")").rstrip(", ")
    more = ", ".join(f"{argument}=..." for argument in missing)
    return f"{given}{'' if given.endswith('(') else ', '}{more})"
