"""A spec's tree of marked values -> a plan: the keys of the file, its variables, inputs, variants and budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import NamedTuple

from convstat.errors import Diagnostic, Mark, SourceText, SpecError, UsageError
from convstat.grammar import basis
from convstat.spec.expressions import Expression
from convstat.spec.items import (
    MAX_NAMES,
    Blocks,
    compile_items,
    entries_of,
    in_order,
    is_name,
    is_variable_name,
    keys,
    refs,
)
from convstat.spec.load import List, Map, Scalar, Tree, load, unless_null
from convstat.spec.plan import INPUT, InputPlan, Item, PartPlan, PerPlan, Plan, Ref, Variant
from convstat.spec.problems import Problems
from convstat.spec.unused import unused
from convstat.spec.values import Scope, unknown

KEYS = (
    "convstat", "name", "note", "input", "per", "vars", "blocks", "layers", "parts", "models", "outputs", "budget"
)  # fmt: skip
"""The keys of a spec, in the order in which one writes them."""

PART_KEYS = ("input", "calls", "layers", "same", "outputs", "note")
"""The keys of a part."""

DTYPES = ("float32", "int64")
MAX_VARIANTS = 100
MAX_PARTS = 100


def compile_spec(
    source: SourceText, look_further: Callable[[Plan, Problems], None]
) -> tuple[Plan, tuple[Diagnostic, ...]]:
    """Compile a spec into a plan and its warnings, or raise SpecError with every problem.

    ``look_further`` adds the problems that only an expansion finds, where there are others already.
    """
    tree = load(source)
    problems = Problems()
    if not isinstance(tree, Map):
        problems.refuse("a spec is a mapping with keys such as 'input' and 'layers'", tree.mark)
    _check_kind(source, tree, problems)
    compiler = _Compiler(source, problems)
    plan = compiler.plan(tree)
    if problems and compiler.blocks.calls_end:
        look_further(plan, problems)
    problems.raise_if_any()
    return plan, compiler.warnings(plan)


def _check_kind(source: SourceText, tree: Map, problems: Problems) -> None:
    """Refuse YAML that is not a spec, such as training settings, with that one message."""
    names = {key.text for key, _ in tree}
    if not {"convstat", "input", "layers", "blocks", "parts"} & names and not names <= set(KEYS):
        help = (
            f"for settings of a Python model: convstat analyze MODULE:NAME --config {source.name}",
            "to write a starter spec: convstat init net.yaml",
        )
        problems.refuse(f"{source.name} is not a spec: it has neither 'input' nor 'layers'", tree.mark, help=help)


class _Part(NamedTuple):
    """A part as it was read."""

    name: str
    inputs: tuple[InputPlan, ...]
    items: tuple[Item, ...]
    outputs: tuple[Ref, ...]
    calls: Expression | None
    same: str | None
    mark: Mark

    def part(self, whole: Plan) -> PartPlan:
        """The plan of it, which shares the variables and the blocks of the whole."""
        variants = {name: variant._replace(inputs=self.inputs) for name, variant in whole.variants.items()}
        plan = whole._replace(variants=variants, items=self.items, outputs=self.outputs, budget=())
        return PartPlan(self.name, plan, self.calls, self.same, self.mark)


class _Compiler:
    """Compiles one spec, key by key."""

    def __init__(self, source: SourceText, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self.blocks = Blocks(problems)
        self.variables = self.blocks.variables
        self.variable_marks: dict[str, Mark] = {}
        self.used: set[str] = set()
        self.used_by_inputs: set[str] = set()

    def plan(self, tree: Map) -> Plan:
        """Compile the whole file."""
        problems, blocks = self.problems, self.blocks
        entries = keys(problems, tree, KEYS, "a spec")
        version = entries.get("convstat")
        if version is not None and not (isinstance(version, Scalar) and version.text == "1"):
            problems.add("this version of convstat reads specs of version 1", version.mark, help="write convstat: 1")
        blocks.define(entries.get("blocks"))
        self.read_variables(entries.get("vars"))
        scope = blocks.scope()
        inputs: tuple[InputPlan, ...] = ()
        has_parts = "parts" in entries
        for key in ("input", "layers", "outputs") if has_parts else ():
            if key in entries:
                problems.add(f"a model in parts has no '{key}' of its own", entries[key].mark, help="each part has one")
        if has_parts:
            pass
        elif "input" in entries:
            inputs = self.inputs(entries["input"])
        else:
            help = "input: [3, 224, 224], the sizes of one sample: channels, height, width"
            problems.add("missing key 'input'", tree.mark, help=help)
        blocks.compile()
        items: tuple[Item, ...] = ()
        drafts: list[_Part] = []
        if has_parts:
            drafts = self.parts(entries["parts"], scope)
        elif "layers" in entries:
            items = compile_items(entries["layers"], scope, blocks, [entry.name for entry in inputs])
            if not items and not problems:
                problems.add("there are no layers", entries["layers"].mark)
        else:
            problems.add("missing key 'layers'", tree.mark, help="layers: a list, each item starting with '- '")
        self.used = scope.used
        blocks.check_calls()
        per = self.per(entries["per"]) if "per" in entries else None
        variants = self.variants(entries.get("models"), inputs, per)
        outputs = refs(problems, entries.get("outputs"), "the name of an item")
        budget = self.budgets(entries.get("budget"))
        title, note = entries.get("name"), entries.get("note")
        plan = Plan(
            source=self.source,
            name=title.text if isinstance(title, Scalar) else PurePath(self.source.name).stem,
            note=note.text if isinstance(note, Scalar) else None,
            variants=variants,
            blocks=blocks.compiled,
            items=items,
            outputs=outputs,
            budget=budget,
            sets_widths=blocks.sets_widths,
            unused_blocks=self.unused_blocks(),
            read_beside_input=frozenset(self.used).union(
                *(block.reads for block in blocks.compiled.values()), *(v.names for v in self.variables.values())
            ),
        )
        return plan._replace(parts=tuple(draft.part(plan) for draft in drafts))

    def parts(self, tree: Tree, scope: Scope) -> list[_Part]:
        """Read the parts of a model; one that is the same as an earlier one has its layers."""
        found: dict[str, _Part] = {}
        example = "{encoder: {input: [3, H, W], layers: [...]}, decoder: {input: [...], calls: 4, layers: [...]}}"
        if not isinstance(tree, Map) or not len(tree):
            self.problems.add("parts is a mapping of names to parts", tree.mark, help=example)
        for key, value in entries_of(self.problems, "parts", tree, example, MAX_PARTS, "parts"):
            if not is_name(self.problems, key, "a part"):
                continue
            if not isinstance(value, Map):
                self.problems.add(f"a part has {', '.join(PART_KEYS)}", value.mark, help=example)
                continue
            entries = keys(self.problems, value, PART_KEYS, "a part")
            inputs: tuple[InputPlan, ...] = ()
            if "input" in entries:
                inputs = self.inputs(entries["input"])
            else:
                self.problems.add(f"part '{key.text}' has no input", key.mark, help="input: [3, H, W]")
            calls = scope.compile(entries["calls"]) if "calls" in entries else None
            same = entries.get("same")
            original: _Part | None = None
            if isinstance(same, Scalar):
                original = found.get(same.text)
                if original is None:
                    message = f"no part '{same.text}' above"
                    self.problems.unknown(message, same.mark, same.text, found, f"parts above: {', '.join(found)}")
            items: tuple[Item, ...] = ()
            outputs = refs(self.problems, entries.get("outputs"), "the name of an item")
            if same is not None:
                if "layers" in entries:
                    message = "a part that is the same as another has its layers"
                    self.problems.add(message, entries["layers"].mark, help="omit layers, or omit same")
                if original is not None:
                    items, outputs = original.items, outputs or original.outputs
            elif "layers" in entries:
                items = compile_items(entries["layers"], scope, self.blocks, [entry.name for entry in inputs])
                if not items and not self.problems:
                    self.problems.add("there are no layers", entries["layers"].mark)
            else:
                help = "layers: a list, or same: the name of a part above"
                self.problems.add(f"part '{key.text}' has no layers", key.mark, help=help)
            root = original.same or original.name if original is not None else None
            found[key.text] = _Part(key.text, inputs, items, outputs, calls, root, key.mark)
        return list(found.values())

    def read_variables(self, tree: Tree | None) -> None:
        """Read the variables."""
        entries = entries_of(self.problems, "vars", tree, "{alpha: 1.0}", MAX_NAMES, "variables")
        self.variable_marks = {
            key.text: key.mark for key, _ in entries if is_variable_name(self.problems, key, "a variable")
        }
        scope = self.blocks.scope(self.variable_marks)
        for key, value in entries:
            found = scope.compile(value)
            if key.text in self.variable_marks:
                # An invalid variable still counts as defined, so that its readers are not reported as well.
                self.variables[key.text] = found or unknown(key.text, key.mark)

    def ordered(self, variables: Mapping[str, Expression]) -> dict[str, Expression]:
        """Sort variables so that each comes after those that it reads; report every cycle with its path."""
        order, cycles = in_order({name: sorted(found.names) for name, found in variables.items()})
        for cycle in cycles:
            self.problems.add(f"circular variables: {' -> '.join(cycle)}", variables[cycle[-2]].mark)
        wrong = {name for cycle in cycles for name in cycle}
        return {name: unknown(name, variables[name].mark) if name in wrong else variables[name] for name in order}

    def inputs(self, tree: Tree) -> tuple[InputPlan, ...]:
        """Read the inputs: one list of sizes, or named ones."""
        if isinstance(tree, List):
            return (self.input(INPUT, tree, tree.mark),)
        if not isinstance(tree, Map) or not len(tree):
            help = "input: [3, 224, 224], or {x: [...], y: [...]}"
            self.problems.add("the input is a list of sizes", tree.mark, help=help)
            return ()
        return tuple(
            self.input(key.text, value, key.mark)
            for key, value in tree
            if key.text == INPUT or is_name(self.problems, key, "an input")
        )

    def input(self, name: str, tree: Tree, mark: Mark) -> InputPlan:
        """Read one input, a list of sizes or ``{shape: [...], dtype: ...}``; invalid sizes are left empty."""
        dtype = None
        if isinstance(tree, Map):
            entries = keys(self.problems, tree, ("shape", "dtype"), "an input")
            written = entries.get("dtype")
            if written is not None:
                dtype = written.text if isinstance(written, Scalar) else ""
                if dtype not in DTYPES:
                    otherwise = f"it is one of {', '.join(DTYPES)}"
                    self.problems.unknown(f"unknown dtype '{dtype}'", written.mark, dtype, DTYPES, otherwise)
            if "shape" not in entries:
                self.problems.add(f"input '{name}' needs a shape", mark, help="{shape: [128], dtype: int64}")
                return InputPlan(name, (), None, mark)
            tree = entries["shape"]
        if not isinstance(tree, List) or not tree.items:
            message = "expected the sizes of one sample, as a list"
            self.problems.add(message, tree.mark, help="[3, 224, 224]")
            return InputPlan(name, (), None, mark)
        scope = self.blocks.scope()
        sizes = [scope.compile(item) for item in tree.items]
        self.used_by_inputs |= scope.used
        known = tuple(size for size in sizes if size is not None)
        return InputPlan(name, known if len(known) == len(sizes) else (), dtype, mark)

    def per(self, tree: Tree) -> PerPlan | None:
        """Read what MACs/pixel divide by: ``luma420``, or ``block:{B}+8`` with expressions in braces."""
        if not isinstance(tree, Scalar) or not tree.text:
            self.problems.add("per is the divisor of MACs/pixel", tree.mark, help='per: "block:{B}+8"')
            return None
        try:
            basis.check(tree.text)
        except UsageError as error:
            first = error.diagnostics[0]
            message = first.message.removeprefix("--per ")
            self.problems.add(
                message, tree.mark, help=tuple(line.replace("--per takes", "per is") for line in first.help)
            )
            return None
        scope = self.blocks.scope()
        sizes: dict[int, Expression] = {}
        for text, offset in basis.holes(tree.text):
            compiled = scope.compile(Scalar(text, tree.part(offset, len(text)), tree.plain))
            if compiled is None:
                return None
            sizes[offset] = compiled
        self.used_by_inputs |= scope.used
        return PerPlan(tree.text, sizes, tree.mark)

    def variants(
        self, tree: Tree | None, inputs: tuple[InputPlan, ...], per: PerPlan | None
    ) -> dict[str | None, Variant]:
        """Read the variants; each sets variables and may replace the input and the divisor of MACs/pixel."""
        found: dict[str | None, Variant] = {None: Variant(self.ordered(self.variables), inputs, per)}
        scope = self.blocks.scope()
        example = "{small: {alpha: 0.5}}"
        for key, value in entries_of(self.problems, "models", tree, example, MAX_VARIANTS, "variants"):
            is_name(self.problems, key, "a variant")
            variables, own_inputs, own_per = dict(self.variables), inputs, per
            if not isinstance(value, Map) and unless_null(value) is not None:
                self.problems.add("a variant sets variables: {alpha: 0.5}", value.mark)
                continue
            for name, setting in value if isinstance(value, Map) else ():
                if name.text in variables:
                    variables[name.text] = scope.compile(setting) or variables[name.text]
                elif name.text == "input" and not inputs:
                    self.problems.add("a model in parts has no 'input' of its own", name.mark, help="set variables")
                elif name.text == "input":
                    own_inputs = self.inputs(setting)
                elif name.text == "per":
                    own_per = self.per(setting)
                elif name.text != "note":
                    message = f"variant '{key.text}' sets '{name.text}', which is not a variable"
                    self.problems.unknown(message, name.mark, name.text, (*variables, "input", "per", "note"))
            found[key.text] = Variant(self.ordered(variables), own_inputs, own_per)
        return found

    def budgets(self, tree: Tree | None) -> tuple[tuple[str, Mark], ...]:
        """Read the budgets, each into its short form with its place.

        They are parsed here so that a mistake is reported with the spec, not only by the command that enforces them.
        """
        found: list[tuple[str, Mark]] = []
        if tree is None:
            return ()
        from convstat.budgets.limits import read_short

        if isinstance(tree, List) and not tree.items:
            help = "omit the key, or add a limit: params<=5M"
            self.problems.add("budget is an empty list", tree.mark, help=help)
        for item in tree.items if isinstance(tree, List) else (tree,):
            try:
                if isinstance(item, Map):
                    found += self.budget_table(item)
                elif isinstance(item, Scalar) and item.text:
                    read_short(item.text, item.mark)
                    found.append((item.text, item.mark))
                else:
                    self.problems.add("expected a budget", item.mark)
            except SpecError as error:
                self.problems.include(error.diagnostics)
        return tuple(found)

    def budget_table(self, tree: Map) -> list[tuple[str, Mark]]:
        """Read a budget written as a table, with the keys used in the settings."""
        from convstat.budgets.tables import BUDGET_KEYS, read_table

        known = [key for key in BUDGET_KEYS if key != "model"]
        table: dict[str, Scalar] = {}
        for key, value in tree:
            if key.text == "model":
                self.problems.add(
                    "unknown key 'model' of a budget", key.mark, help="a budget in a spec applies to this spec"
                )
            elif key.text not in known:
                message = f"unknown key '{key.text}' of a budget"
                self.problems.unknown(message, key.mark, key.text, known, f"keys: {', '.join(known)}")
            elif not isinstance(value, Scalar):
                self.problems.add(f"{key.text} of a budget must be a single value", value.mark)
            else:
                table[key.text] = value
        if len(table) < len(tree):
            return []
        place = tree.entries[0][0].mark if tree.entries else tree.mark
        marks = {key: value.mark for key, value in table.items()}
        limits = read_table({key: value.text for key, value in table.items()}, place, marks, SpecError)
        return [(limit.short, place) for limit in limits]

    def unused_blocks(self) -> tuple[tuple[str, Mark], ...]:
        """The blocks of the spec that nothing calls, and where they are."""
        called = {name for calls in self.blocks.calls.values() for name in calls} | self.used | self.blocks.named
        return tuple((name, key.mark) for name, (key, _) in self.blocks.own.items() if name not in called)

    def warnings(self, plan: Plan) -> tuple[Diagnostic, ...]:
        """Warn of variables and blocks that nothing reads, and of inputs and items that nothing takes."""
        read = plan.read_beside_input | self.used_by_inputs
        found = [
            *(
                (f"the variable '{name}' is never used", mark)
                for name, mark in self.variable_marks.items()
                if name not in read
            ),
            *((f"the block '{name}' is never used", mark) for name, mark in plan.unused_blocks),
        ]
        warnings = [Diagnostic(message, mark, severity="warning") for message, mark in found]
        idle = dict.fromkeys(
            problem for part in (plan, *(part.plan for part in plan.parts)) for problem in unused(part)
        )
        return tuple(sorted([*warnings, *idle], key=lambda d: (d.mark.line, d.mark.column) if d.mark else (0, 0)))
