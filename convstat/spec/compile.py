"""A tree of marked values -> a plan: the keys of the file, its variables, blocks, variants and inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import PurePath
from types import MappingProxyType

from convstat import layers
from convstat.errors import Diagnostic, Mark, SourceText, did_you_mean
from convstat.spec import shipped
from convstat.spec.body import MAX_CALLS
from convstat.spec.budgets import read_budgets
from convstat.spec.inputs import ordered, read_inputs, read_variants
from convstat.spec.items import GROUPS, check_name, compile_items
from convstat.spec.load import List, Map, Scalar, Tree, load
from convstat.spec.plan import INPUT, PREV, Block, BlockCall, Item, LayerCall, Plan, Ref
from convstat.spec.problems import Problems
from convstat.spec.unused import unused_inputs, unused_items
from convstat.spec.values import RESERVED, SHAPE_NAMES, Formula, Scope, unknown

KEYS = ("convstat", "name", "note", "input", "vars", "blocks", "layers", "models", "outputs", "budget")
"""The keys of a spec, in the order in which one writes them."""

MAX_NAMES = 1_000
"""Variables in a spec, blocks in a spec, variants of a spec."""

MAX_PARAMS = 100
BLOCK_KEYS = ("params", "inputs", "layers", "note")


def compile_spec(
    source: SourceText, look_further: Callable[[Plan, Problems], None]
) -> tuple[Plan, tuple[Diagnostic, ...]]:
    """Compile a spec; give the plan and its warnings, or raise SpecError with every problem.

    ``look_further`` adds the problems that only an expansion finds, where there are others already.
    """
    compiler = Compiler(source)
    plan = compiler.compile(load(source))
    if compiler.problems and plan is not None and compiler.calls_end:
        look_further(plan, compiler.problems)
    compiler.problems.raise_if_any()
    assert plan is not None
    return plan, compiler.warnings(plan)


class _Names:
    """The names of blocks, which may stand for themselves in an expression."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and self.compiler.has_block(word)


class Compiler:
    """What is known while one spec is compiled."""

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self.problems = Problems()
        self.own: dict[str, tuple[Scalar, Map]] = {}
        self.blocks: dict[str, Block] = {}
        self.edges: dict[str, dict[str, Mark]] = {}
        self.current = ""
        self.calls_end = True
        self.names: Container[str] = _Names(self)
        self.variables: dict[str, Formula] = {}
        self.variable_marks: dict[str, Mark] = {}
        self.used: set[str] = set()
        self.used_by_inputs: set[str] = set()
        self.chosen_in: set[str] = set()
        self.final: dict[str, Block] = {}

    # What the items ask.

    def has_own_block(self, name: str) -> bool:
        """Whether the spec defines this block."""
        return name in self.own

    def has_block(self, name: str) -> bool:
        """Whether there is such a block, of the spec or shipped."""
        return name in self.own or name in shipped.NAMES

    def block_names(self) -> tuple[str, ...]:
        """The names of all blocks."""
        return (*self.own, *shipped.NAMES)

    def block_params(self, name: str) -> Mapping[str, bool] | None:
        """The parameters of a block, and whether each must be given; None where there is no such block."""
        tree = self.own[name][1] if name in self.own else shipped.tree(name)
        if tree is None:
            return None
        params = tree.get("params")
        if not isinstance(params, Map):
            return {}
        return {key.text: isinstance(value, Scalar) and value.is_null for key, value in params}

    def calls(self, name: str, mark: Mark) -> None:
        """Note that what is being compiled calls a block."""
        self.edges.setdefault(self.current, {}).setdefault(name, mark)
        if name not in self.own and name not in self.blocks:
            tree = shipped.tree(name)
            assert tree is not None
            self.block(name, tree, mark, is_shipped=True)

    # The file, key by key.

    def compile(self, tree: Tree) -> Plan | None:
        """Compile the whole file."""
        if not isinstance(tree, Map):
            self.problems.add("a spec is a mapping: 'input:', 'layers:' and so on", tree.mark)
            return None
        if self.is_other(tree):
            return None
        entries = self.keys(tree, KEYS, "a spec")
        self.version(entries.get("convstat"))
        self.own_blocks(entries.get("blocks"))
        self.vars(entries.get("vars"))
        scope = Scope(self.variables, self.problems, words=self.names)
        if "input" not in entries:
            self.problems.add(
                "the input is missing",
                tree.mark,
                help="input: [3, 224, 224], the sizes of one sample: channels, height, width",
            )
        inputs = read_inputs(self, entries["input"]) if "input" in entries else ()
        for name, (key, block) in self.own.items():
            self.block(name, block, key.mark)
        self.current = ""
        if "layers" not in entries:
            self.problems.add("the layers are missing", tree.mark, help="layers: a list, each item starting with '- '")
            items: tuple[Item, ...] = ()
        else:
            items = compile_items(entries["layers"], scope, self, [entry.name for entry in inputs])
            if not items and not self.problems:
                self.problems.add("there are no layers", entries["layers"].mark)
        self.used |= scope.used
        self.check_calls()
        variants = read_variants(self, entries.get("models"), inputs)
        outputs = tuple(Ref(word.text, word.mark) for word in self.words(entries.get("outputs"), "the name of an item"))
        budget = read_budgets(entries.get("budget"), self.problems)
        title, note = entries.get("name"), entries.get("note")
        read = {read for block in self.blocks.values() for read in block.reads} | self.used | self.read_by_variables()
        return Plan(
            source=self.source,
            name=title.text if isinstance(title, Scalar) else PurePath(self.source.name).stem,
            note=note.text if isinstance(note, Scalar) else None,
            variants=MappingProxyType(variants),
            blocks=self.finish(),
            items=items,
            outputs=outputs,
            budget=budget,
            read_beside_input=frozenset(read),
            single=items[0] if len(items) == 1 and isinstance(items[0].action, (LayerCall, BlockCall)) else None,
            later_names=MappingProxyType({item.name: item.mark for item in items}),
        )

    def is_other(self, tree: Map) -> bool:
        """Whether a file is a YAML of another kind, such as the settings of a training: then that is all to be said."""
        names = [key.text for key, _ in tree]
        if {"convstat", "input", "layers", "blocks"} & set(names) or set(names) <= set(KEYS):
            return False
        self.problems.add(
            f"{self.source.name} is no spec: it has neither 'input' nor 'layers'",
            tree.mark,
            help=(
                f"settings of a Python model go with it: convstat analyze MODULE:NAME --config {self.source.name}",
                "a spec to start from: convstat init net.yaml",
            ),
        )
        return True

    def keys(self, tree: Map, allowed: tuple[str, ...], what: str) -> dict[str, Tree]:
        """The entries of a mapping, unknown keys reported."""
        for key, _ in tree:
            if key.text not in allowed:
                help = did_you_mean(key.text, allowed) or (f"{what} has: {', '.join(allowed)}",)
                self.problems.add(f"unknown key '{key.text}'", key.mark, help=help)
        return {key.text: value for key, value in tree}

    def at_most(self, most: int, tree: Map, what: str) -> None:
        """Refuse more names than anyone needs, which would take too long to look through."""
        if len(tree) > most:
            self.problems.add(f"more than {most:,} {what}", tree.mark)
            self.problems.raise_if_any()

    def version(self, tree: Tree | None) -> None:
        """Refuse a spec of another version."""
        if tree is not None and not (isinstance(tree, Scalar) and tree.text == "1"):
            self.problems.add("this convstat reads version 1 of the spec", tree.mark, help="write convstat: 1")

    def words(self, tree: Tree | None, what: str) -> list[Scalar]:
        """A list of words, or one of them alone."""
        if tree is None:
            return []
        found = []
        for item in tree.items if isinstance(tree, List) else (tree,):
            if isinstance(item, Scalar) and item.text:
                found.append(item)
            else:
                self.problems.add(f"{what} is expected here", item.mark)
        return found

    # Variables.

    def vars(self, tree: Tree | None) -> None:
        """Read the variables."""
        if tree is None or (isinstance(tree, Scalar) and tree.is_null):
            return
        if not isinstance(tree, Map):
            self.problems.add("vars is a mapping: {alpha: 1.0}", tree.mark)
            return
        self.at_most(MAX_NAMES, tree, "variables")
        names = [key.text for key, _ in tree if self.variable_name(key, "a variable")]
        self.variable_marks = {key.text: key.mark for key, _ in tree}
        scope = Scope(names, self.problems, words=self.names)
        for key, value in tree:
            formula = scope.compile(value)
            if formula is not None and key.text in names:
                self.variables[key.text] = formula
        # A variable that is wrong is still a variable: its readers are not to be told that it is undefined.
        for name in names:
            self.variables.setdefault(name, unknown(name, tree.mark))
        ordered(self.problems, self.variables)

    def variable_name(self, key: Scalar, what: str) -> bool:
        """Whether this may be the name of a variable or a parameter."""
        if not re.fullmatch(r"[A-Za-z_]\w*", key.text, re.ASCII):
            self.problems.add(f"the name of {what} must be letters, digits and _: '{key.text}'", key.mark)
        elif key.text in RESERVED:
            self.problems.add(f"'{key.text}' has a meaning of its own and cannot be {what}", key.mark)
        else:
            return True
        return False

    def read_by_variables(self) -> frozenset[str]:
        """The names that variables read."""
        return frozenset().union(*(formula.names for formula in self.variables.values()))

    # Blocks.

    def own_blocks(self, tree: Tree | None) -> None:
        """Find the blocks, so that they can call each other in any order."""
        if tree is None or (isinstance(tree, Scalar) and tree.is_null):
            return
        if not isinstance(tree, Map):
            self.problems.add("blocks is a mapping: {name: {params: {...}, layers: [...]}}", tree.mark)
            return
        self.at_most(MAX_NAMES, tree, "blocks")
        for key, value in tree:
            if key.text in layers.KINDS or key.text in GROUPS:
                self.problems.add(f"a block cannot be called '{key.text}': a layer is", key.mark)
            elif isinstance(value, List):
                self.own[key.text] = (key, Map(((Scalar("layers", key.mark), value),), value.mark))
            elif not isinstance(value, Map):
                self.problems.add(f"block '{key.text}' needs layers", key.mark, help="layers: a list")
            elif check_name(key, "a block", self):
                self.own[key.text] = (key, value)

    def block(self, name: str, tree: Map, mark: Mark, *, is_shipped: bool = False) -> None:
        """Compile one block."""
        outer, self.current = self.current, name
        variables: Iterable[str] = () if is_shipped else self.variables
        entries = self.keys(tree, BLOCK_KEYS, "a block")
        params: dict[str, Formula | None] = {}
        written = entries.get("params")
        scope = Scope((*variables, *SHAPE_NAMES), self.problems, words=self.names)
        if isinstance(written, Map):
            self.at_most(MAX_PARAMS, written, "parameters")
            for key, value in written:
                known = scope.with_names(params)
                if self.variable_name(key, "a parameter"):
                    null = isinstance(value, Scalar) and value.is_null
                    params[key.text] = None if null else known.compile(value)
        elif written is not None and not (isinstance(written, Scalar) and written.is_null):
            self.problems.add("params is a mapping: {out: null, stride: 1}", written.mark)
        inputs = tuple(word.text for word in self.words(entries.get("inputs"), "the name of an input")) or (INPUT,)
        body = Scope((*variables, *params), self.problems, words=self.names)
        if "layers" not in entries:
            self.problems.add(f"block '{name}' needs layers", mark, help="layers: a list")
        items = compile_items(entries["layers"], body, self, inputs) if "layers" in entries else ()
        reads = tuple(sorted((scope.used | body.used) & set(variables) - set(params)))
        self.blocks[name] = Block(name, inputs, MappingProxyType(params), items, reads, mark, is_shipped)
        self.current = outer

    def finish(self) -> Mapping[str, Block]:
        """The blocks as they are called; one that a variable names later joins them then."""
        for name, block in self.blocks.items():
            if name not in self.final:
                self.final[name] = self.finished(block)
        return MappingProxyType(self.final)

    def finished(self, block: Block) -> Block:
        """The block with the variables that the blocks it calls read."""
        reads = set(block.reads)
        if block.name in self.chosen_in and not block.shipped:
            reads.update(self.variables)  # which block it calls is known only to its caller
        seen, open_calls = {block.name}, list(self.edges.get(block.name, ()))
        while open_calls:
            name = open_calls.pop()
            if name not in seen and name in self.blocks:
                seen.add(name)
                reads.update(self.blocks[name].reads)
                open_calls += self.edges.get(name, ())
        return Block(
            block.name, block.inputs, block.params, block.items, tuple(sorted(reads)), block.mark, block.shipped
        )

    def check_calls(self) -> None:
        """Refuse blocks that call themselves, and towers of blocks."""
        depth: dict[str, int] = {}
        for start in self.blocks:
            path: list[str] = []
            stack = [(start, False)]
            while stack:
                name, done = stack.pop()
                called = [callee for callee in self.edges.get(name, ()) if callee in self.blocks]
                if done:
                    path.pop()
                    depth[name] = 1 + max((depth.get(callee, 0) for callee in called), default=0)
                    if depth[name] > MAX_CALLS:
                        self.calls_end = False
                        self.problems.add(f"blocks call blocks more than {MAX_CALLS} deep", self.blocks[name].mark)
                        return
                elif name in path:
                    cycle = [*path[path.index(name) :], name]
                    mark = self.edges[cycle[-2]][name]
                    self.calls_end = False
                    self.problems.add(f"a block calls itself: {' -> '.join(cycle)}", mark)
                    return
                elif name not in depth:
                    path.append(name)
                    stack.append((name, True))
                    stack += [(callee, False) for callee in called]

    # Warnings.

    def warnings(self, plan: Plan) -> tuple[Diagnostic, ...]:
        """What is there for nothing: variables that nothing reads, items that nothing uses."""
        found = []
        read = plan.read_beside_input | self.used_by_inputs
        for name in self.variables:
            if name not in read:
                message = f"the variable '{name}' is never used"
                found.append(Diagnostic(message, self.variable_marks[name], severity="warning"))
        called = {name for edges in self.edges.values() for name in edges}
        for name, (key, _) in self.own.items():
            if name not in called and name not in self.used:
                found.append(Diagnostic(f"the block '{name}' is never used", key.mark, severity="warning"))
        for entry in unused_inputs(plan.variants[None].inputs, plan.items, plan.outputs):
            help = ("take it by its name: from, or the list of add, concat or a block",)
            found.append(
                Diagnostic(f"the input '{entry.name}' is never used", entry.mark, help=help, severity="warning")
            )
        lists: list[tuple[tuple[Item, ...], tuple[Ref, ...]]] = [(plan.items, plan.outputs)]
        lists += [(block.items, ()) for block in plan.blocks.values() if not block.shipped]
        for items, outputs in lists:
            for item in unused_items(items, outputs):
                message = f"'{item.name}' is computed but not used"
                help = ("use it by its name, or take it out",)
                found.append(Diagnostic(message, item.mark, help=help, severity="warning"))
        return tuple(sorted(found, key=lambda d: (d.mark.line, d.mark.column) if d.mark else (0, 0)))


__all__ = ["KEYS", "PREV", "Compiler", "compile_spec"]
