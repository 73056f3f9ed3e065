"""The shape of the code: imports go down only, heavy packages come late, nothing stray lies about."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "convstat"

MOST_FLOORS = 12
MOST_FILES = 8

LATE = {
    "torch": (
        "counters",
        "layers.twins",
        "patches.depth",
        "patches.autocast",
        "patches.dispatch",
        "patches.kernels_of",
        "patches.doors",
        "patches.functions",
        "patches.hooks",
        "patches.isolation",
        "patches.modes",
        "patches.preserve",
        "patches.torch_states",
        "patches.tracing",
        "targets.suggest",
        "targets.trying",
        "trace",
    ),
    "ptflops": (),
    "torchsummary": (),
    "torchinfo": (),
    "thop": (),
    "torchvision": (),
    "numpy": (),
    "sympy": (),
    "matplotlib": (),
    "pytest": ("pytest_plugin",),
    "rich": (),
    "typer": ("cli",),
    "yaml": ("spec", "targets"),
}
"""Packages that cost time to import, and the parts of convstat that may import them as they are imported themselves."""

TOP = {"LICENSE", "Makefile", "README.md", "configs", "constraints.txt", "convstat", "pyproject.toml", "tests"}
"""All that may lie at the top of the repository, besides files whose name starts with a dot."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import: what it imports, its line, and whether it happens on import, in a function, or never (for types)."""

    module: str
    line: int
    when: str


def imports(source: str, package: str = "convstat") -> list[Import]:
    """Every import of a module, those in functions and those for type checkers included."""
    found: list[Import] = []

    def visit(node: ast.AST, when: str) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            # `from convstat.layers import conv` imports the module, `from convstat.layers import KINDS` the package.
            inside = base.partition(".")[0] == "convstat"
            names = [f"{base}.{alias.name}" for alias in node.names] if inside else [base]
            found.extend(Import(name, node.lineno, when) for name in names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, "typing")
            for child in node.orelse:
                visit(child, when)
        else:
            inner = "call" if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) else when
            for child in ast.iter_child_nodes(node):
                visit(child, inner if when != "typing" else when)

    visit(ast.parse(source), "import")
    return found


def room_of(module: str) -> str:
    """The room that a module is in, or the file beside the rooms: `convstat.layers.conv` is in `layers`."""
    return module.split(".")[1] if "." in module else ""


def uses(module: str, source: str, known: Collection[str]) -> list[tuple[str, int]]:
    """The modules of convstat that a module imports, wherever and for whatever it does, and the lines."""
    found = []
    for item in imports(source, module.rpartition(".")[0]):
        whole = item.module if item.module in known else item.module.rpartition(".")[0]
        if whole in known and whole not in ("convstat", module):
            found.append((whole, item.line))
    return found


Graph = Mapping[str, Collection[str]]


def circles(graph: Graph) -> list[list[str]]:
    """What uses itself through others."""
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        return [error.args[1]]
    return []


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each: one above the highest that it uses."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[used] for used in graph.get(name, ())), default=0)
    return found


def plan(sources: Mapping[str, str]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Which room uses which, and which module which."""
    of_modules = {module: {used for used, _ in uses(module, source, sources)} for module, source in sources.items()}
    of_rooms: dict[str, set[str]] = {room_of(module): set() for module in sources}
    for module, used in of_modules.items():
        of_rooms[room_of(module)] |= {room_of(other) for other in used} - {room_of(module)}
    return of_rooms, of_modules


def early(module: str, source: str) -> list[str]:
    """The imports of heavy packages that happen when a module is imported and should not."""
    own = room_of(module)
    return [
        f"{module}:{item.line} imports {item.module} at its top"
        for item in imports(source)
        if item.when == "import"
        and (allowed := LATE.get(item.module.partition(".")[0])) is not None
        and not {own, module.removeprefix("convstat.")} & set(allowed)
    ]


ROOM = "convstat.patches"
"""The one part of convstat that replaces what is not convstat's own."""

CHANGES = re.compile(
    r"(^|\.)(setattr|delattr|catch_warnings|simplefilter|filterwarnings|resetwarnings|redirect_stdout|redirect_stderr"
    r"|setLevel|basicConfig|setrecursionlimit|setrlimit|setitimer|chdir|putenv|unsetenv|umask|settrace|setprofile"
    r"|manual_seed|manual_seed_all|fork_rng|set_rng_state|set_default_dtype|set_default_device|set_num_threads"
    r"|set_stance|use_deterministic_algorithms|set_printoptions|_push_mode|_pop_mode|register_module_\w+|monkeypatch)$"
    r"|^(signal\.signal|signal\.alarm|logging\.disable|random\.seed|locale\.setlocale"
    r"|gc\.(disable|enable|freeze|unfreeze|set_threshold)|mock\..*|(mock\.)?patch\.object"
    r"|(sys\.(modules|path|meta_path|path_hooks)|os\.environ|vars\(.*\)|.*\.__dict__)\.(\w+))$"
)
"""Calls that change something in the process for everybody in it."""

READS = re.compile(r"\.(get|items|keys|values|copy|index)$")

TABLES = re.compile(r"^(sys\.(modules|path|meta_path)|os\.environ|vars\(.*\)|.*\.__dict__|globals\(\))$")

ALLOWED = {
    ("convstat.trace.record", "vars(module)"),
    ("convstat.counters.jit.record", "vars(tensor)"),
    ("convstat.layers.base", "layer.__dict__"),
}
"""Entries on a model and its tensors, which whoever runs a model has put back, and on layers, which are convstat's."""


def replacements(module: str, source: str) -> list[str]:
    """Where a module outside of the room replaces something that is not its own."""
    tree = ast.parse(source)
    foreign = {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, (ast.Assign, ast.Delete)):
            targets = list(node.targets)
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.For)):
            targets = [node.target]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            on_own = bool(node.args) and isinstance(node.args[0], ast.Name) and node.args[0].id in {*own, "self", "cls"}
            allowed = (called.endswith("attr") and on_own) or (module, called.rpartition(".")[0]) in ALLOWED
            if CHANGES.search(called) and not READS.search(called) and not allowed:
                found.append((node.lineno, called))
        for target in [part for item in targets for part in ast.walk(item)]:
            if isinstance(target, ast.Subscript) and not isinstance(target.ctx, ast.Load):
                table = ast.unparse(target.value)
                if TABLES.search(table) and (module, table) not in ALLOWED:
                    found.append((target.lineno, table))
            elif isinstance(target, ast.Attribute) and not isinstance(target.ctx, ast.Load):
                root: ast.expr = target
                while isinstance(root, (ast.Attribute, ast.Call)):
                    root = root.value if isinstance(root, ast.Attribute) else root.func
                if isinstance(root, ast.Name) and root.id in foreign:
                    found.append((target.lineno, ast.unparse(target)))
    return [f"{module}:{line} changes {what}" for line, what in sorted(found)]


def modules() -> list[tuple[str, Path]]:
    """Every module of convstat, by its dotted name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return [(name, path) for name, path in found if name != "convstat"]


def tracked() -> list[str]:
    """The files of the repository, as git sees them."""
    answer = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip("not a git checkout")
    return [name for name in answer.stdout.splitlines() if (ROOT / name).is_file()]


def sources() -> dict[str, str]:
    """The text of every module; the package itself and ``__main__`` stand above all rooms."""
    return {name: path.read_text(encoding="utf-8") for name, path in modules() if name != "convstat.__main__"}


def test_imports_go_down_only() -> None:
    """There is no circle, between rooms or in one, lazy imports and those for types included."""
    of_rooms, of_modules = plan(sources())
    assert [] == circles(of_rooms)
    assert [] == circles(of_modules)


def test_the_house_has_few_floors_and_little_stands_outside_of_its_rooms() -> None:
    """A room is one floor above the highest that it uses."""
    of_rooms, _ = plan(sources())
    found = floors(of_rooms)
    assert max(found.values()) <= MOST_FLOORS, sorted(found.items(), key=lambda item: item[1])
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES


def test_every_room_says_what_it_is() -> None:
    """The docstring of each package is a sentence."""
    for path in PACKAGE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(said.split()) > 4, path


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_heavy_packages_are_imported_where_they_are_used(module: str, path: Path) -> None:
    """Importing a module of the YAML path imports neither torch nor a peer nor rich."""
    assert [] == early(module, path.read_text(encoding="utf-8"))


UP = (
    "from convstat.layers import conv",
    "from convstat.layers.conv import Conv2d",
    "from ..layers import conv",
    "from ..layers.conv import Conv2d",
    "def f():\n    import convstat.layers.conv",
    "if TYPE_CHECKING:\n    from convstat.layers.conv import Conv2d",
    "try:\n    from convstat import layers\nexcept ImportError:\n    pass",
)


@pytest.mark.parametrize("line", UP)
def test_an_import_that_goes_up_is_found(line: str) -> None:
    """Whichever way it is written, it closes a circle of rooms."""
    room = {"convstat.layers": "", "convstat.layers.conv": "from convstat.formulas import conv"}
    of_rooms, _ = plan({**room, "convstat.formulas": "", "convstat.formulas.conv": line})
    assert [{"layers", "formulas"}] == [set(circle) for circle in circles(of_rooms)]
    of_rooms, _ = plan({**room, "convstat.formulas": "", "convstat.formulas.conv": "import math"})
    assert [] == circles(of_rooms)
    assert {"formulas": 1, "layers": 2} == floors(of_rooms)


def test_a_circle_in_a_room_is_found() -> None:
    """Two modules beside each other may not use each other, whatever for."""
    lazy = "def f():\n    from convstat.spec import b"
    _, of_modules = plan({"convstat.spec.a": lazy, "convstat.spec.b": "from convstat.spec.a import f"})
    assert [{"convstat.spec.a", "convstat.spec.b"}] == [set(circle) for circle in circles(of_modules)]


def test_a_heavy_import_at_the_top_is_found() -> None:
    """The check can fail; an import in a function is late enough."""
    assert 1 == len(early("convstat.layers.conv", "try:\n    import torch.nn as nn\nexcept ImportError:\n    pass"))
    assert 0 == len(early("convstat.layers.conv", "def build():\n    from torch import nn"))


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_what_replaces_something_is_in_one_room(module: str, path: Path) -> None:
    """Nothing outside of it writes on a module, a class or a table of the process that is not its own."""
    if not module.startswith(ROOM):
        assert [] == replacements(module, path.read_text(encoding="utf-8"))


REPLACES = (
    "import torch\ntorch.matmul = None",
    "import torch.nn.functional as F\nF.relu = F.gelu",
    "from torch import nn\nnn.Module.__call__ = None",
    "from torch import nn\ndel nn.Module.__call__",
    "import torch\nsetattr(torch, 'matmul', None)",
    "def f(owner):\n    delattr(owner, 'x')",
    "import torch\nvars(torch)['matmul'] = None",
    "import torch\nvars(torch).update(matmul=None)",
    "import torch\ntorch.__dict__['matmul'] = None",
    "import sys\nsys.stdout = None",
    "import sys\nsys.stdout, x = None, 1",
    "import sys\nsys.modules['sympy'] = None",
    "import sys\ndel sys.modules['sympy']",
    "import sys\nsys.modules.pop('sympy')",
    "import sys\nsys.path.insert(0, '.')",
    "import sys\nsys.setrecursionlimit(9)",
    "import os\nos.environ['X'] = '1'",
    "import os\nos.environ.update(X='1')",
    "import os\nos.chdir('/')",
    "import gc\ngc.disable()",
    "import signal\nsignal.signal(1, None)",
    "import resource\nresource.setrlimit(1, (1, 1))",
    "import warnings\nwarnings.simplefilter('ignore')",
    "import warnings\nwith warnings.catch_warnings(): pass",
    "from contextlib import redirect_stdout\nwith redirect_stdout(None): pass",
    "import logging\nlogging.getLogger('x').setLevel(1)",
    "import logging\nlogging.getLogger('x').disabled = True",
    "import torch\ntorch.manual_seed(1)",
    "from unittest import mock\nwith mock.patch('torch.matmul'): pass",
)
KEEPS = (
    "class A:\n    def f(self):\n        self.x = 1\n        setattr(self, 'y', 2)\nsetattr(A, 'z', 3)\nA.t = 1",
    "import sys\nx = sys.modules.get('torch')\nx = sys.modules['torch']",
    "import os\nx = os.environ.get('X')\ny = {**os.environ}",
    "import torch\nx = torch.matmul\nwith torch.enable_grad(): pass",
    "from convstat.patches.room import replaced\nimport torch\nwith replaced(torch, 'matmul', None): pass",
)


@pytest.mark.parametrize("source", REPLACES)
def test_a_replacement_outside_of_the_room_is_found(source: str) -> None:
    """The check above can fail: in each way in which something of the process can be changed."""
    assert replacements("convstat.spec.load", source)


@pytest.mark.parametrize("source", KEEPS)
def test_what_is_ones_own_may_be_changed(source: str) -> None:
    """The check is silent where nothing foreign is written to."""
    assert [] == replacements("convstat.spec.load", source)


def test_counters_do_not_use_the_formulas() -> None:
    """The reconciliation compares two things that know nothing of each other."""
    for module, path in modules():
        if room_of(module) == "counters":
            used = {item.module for item in imports(path.read_text(encoding="utf-8")) if item.when != "typing"}
            assert not {name for name in used if name.startswith("convstat.formulas")}, module


def test_only_what_belongs_there_lies_at_the_top() -> None:
    """The top of the repository is the same few entries for good."""
    assert set() == {name.split("/")[0] for name in tracked() if not name.startswith(".")} - TOP


def test_no_file_mentions_what_is_only_true_here() -> None:
    """No path of one machine, no address of a package registry and no unfinished work is in any file."""
    words = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "py" + "pi.org", "TO" + "DO", "FIX" + "ME", "X" + "XX ")
    pattern = re.compile("|".join(map(re.escape, words)))
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in tracked()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert [] == found


def test_every_test_says_what_it_holds_true() -> None:
    """Each test function has a docstring: the property in one line."""
    assert [] == [
        f"{path.name}:{node.lineno} {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]
