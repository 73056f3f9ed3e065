"""What is answered from memory on meta is what a kernel would have answered; and the compiler is loaded when asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from convstat.patches import imports
from convstat.trace import remembering
from convstat.trace.record import record
from convstat.trace.remembering import Remembering


@contextmanager
def nothing_remembered() -> Iterator[dict[Any, Any]]:
    """An empty memory meanwhile."""
    before = dict(remembering._answers)
    remembering._answers.clear()
    try:
        yield remembering._answers
    finally:
        remembering._answers.clear()
        remembering._answers.update(before)


class Checking(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compares each answer from memory with that of the kernel itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.compared = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ran = False

        def run(func: Any, args: Any, kwargs: Any) -> Any:
            nonlocal ran
            ran = True
            return func(*args, **kwargs)

        answer = remembering.from_memory(func, args, kwargs or {}, run)
        if not ran:
            expected = func(*args, **(kwargs or {}))
            for one, other in zip(leaves(expected), leaves(answer), strict=True):
                assert looks(one) == looks(other), func
                assert one is not other
            self.compared += 1
        return answer


def leaves(value: Any) -> list[torch.Tensor]:
    """The tensors of an answer."""
    return [value] if isinstance(value, torch.Tensor) else list(value)


def looks(tensor: torch.Tensor) -> tuple[Any, ...]:
    """All that there is to a tensor without values."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.storage_offset(), tensor.layout


class Mixed(nn.Module):
    """Asks of a picture what networks ask: products, norms, views, broadcasts, in place and not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Hardswish()
        )
        self.attend = nn.MultiheadAttention(channels, 1, batch_first=True)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = self.layers(picture)
        x = x + x.mean((2, 3), keepdim=True)
        x = torch.cat([x, x.transpose(2, 3).contiguous()], 1)[:, ::2]
        x, _ = self.attend(*3 * [x.flatten(2).transpose(1, 2)])
        return nn.functional.softmax(x * 2 + x * 2.0, -1).sum(1) / 2


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 6),
    size=st.integers(1, 7),
    batch=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.float64]),
    train=st.booleans(),
    ordered=st.booleans(),
)
def test_memory_answers_as_the_kernel_would(
    channels: int, size: int, batch: int, dtype: torch.dtype, train: bool, ordered: bool
) -> None:
    """Shapes, strides and dtypes are the kernel's own, also after other networks filled the memory."""
    with torch.device("meta"):
        net = Mixed(channels).to(dtype).train(train and batch * size > 1)
        picture = torch.empty(batch, 3, size, size, dtype=dtype)
    if ordered:
        picture = picture.to(memory_format=torch.channels_last)
    with Checking() as checking:
        net(picture)
        net(picture)
    assert checking.compared > 10


def test_numbers_of_other_types_are_other_questions() -> None:
    """1, 1.0 and True are equal, and promote differently."""
    with nothing_remembered(), Remembering():
        whole = torch.empty(3, dtype=torch.int64, device="meta")
        assert [torch.int64, torch.float32, torch.int64] == [(whole * one).dtype for one in (1, 1.0, True)]
        assert torch.float32 == (whole * 1.0).dtype
        before = torch.get_default_dtype()
        try:
            torch.set_default_dtype(torch.float64)
            assert torch.float64 == (whole * 1.0).dtype
        finally:
            torch.set_default_dtype(before)


def test_what_writes_or_views_runs_every_time() -> None:
    """A result that is its argument, or looks into it, cannot be a new tensor."""
    with Remembering():
        for _ in range(2):
            tensor = torch.empty(4, 6, device="meta")
            assert tensor.add_(1) is tensor
            assert tensor.view(24)._base is tensor
            out = torch.empty(4, 6, device="meta")
            assert torch.exp(tensor, out=out) is out


def test_values_on_the_cpu_are_never_answered_from_memory() -> None:
    """Only meta tensors look all the same."""
    with nothing_remembered() as answers, Remembering():
        for value in (1.0, 2.0):
            assert value + 1 == (torch.tensor([value]) + 1).item()
        assert not answers


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that counts for days does not grow."""
    monkeypatch.setattr(remembering, "MOST", 5)
    with nothing_remembered() as answers, Remembering():
        for size in range(20):
            torch.empty(size, device="meta").exp()
            assert len(answers) <= 5


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Mixed(4), (2, 3, 6, 6)),
        (lambda: nn.TransformerEncoderLayer(8, 2, batch_first=True), (2, 5, 8)),
        (lambda: nn.LSTM(4, 6, num_layers=2, bidirectional=True), (5, 2, 4)),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 3, 2), nn.GroupNorm(2, 6), nn.GELU()), (1, 3, 4, 4)),
    ],
    ids=["mixed", "transformer", "lstm", "transposed"],
)
def test_a_trace_with_memory_is_the_trace_without(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """The call tree does not tell which kernels ran and which were remembered."""
    with torch.device("meta"):
        model, inputs = make(), (torch.empty(shape),)
    plain = kernels_of(model, inputs)
    assert plain
    for _ in range(2):
        with Remembering():
            assert plain == kernels_of(model, inputs)


def kernels_of(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[tuple[Any, ...]]:
    """Each kernel that a model runs, with what goes in and comes out, and whose it is."""
    trace = record(model, inputs)
    return [(kernel.op, kernel.args, kernel.output, owner.paths) for kernel, owner in trace.kernels()]


def run_python(code: str) -> str:
    """Run code in a process of its own; it prints its answer."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


IMPORT = """
import sys
from convstat.patches.operators import torchvision_compat
from convstat.patches.imports import compiler_on_demand
torchvision_compat()
with compiler_on_demand():
    import torchvision
"""


def test_torchvision_is_imported_without_the_compiler() -> None:
    """Its one function of the compiler's is there when it is called, and answers as the real one does."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    assert "False True True True" == run_python(
        IMPORT
        + """
before = "torch._dynamo" in sys.modules
supported = torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu")
import torch
from torch._dynamo.utils import is_compile_supported
print(before, "torch._dynamo" in sys.modules, supported == is_compile_supported("cpu"), torch.compile is not None)
"""
    )


USES = {
    "import sympy": "isinstance(sympy.Symbol('x'), sympy.Basic) and sympy is sys.modules['sympy']",
    "from sympy import Basic": "isinstance(__import__('sympy').Symbol('x'), Basic)",
    "import importlib; sympy = importlib.import_module('sympy')": "isinstance(sympy.Symbol('x'), sympy.Basic)",
    "import torch._dynamo as d\nclass X(d.OptimizedModule): pass": (
        "X.__mro__[1] is sys.modules['torch._dynamo'].OptimizedModule"
    ),
    "import torch._dynamo.config": "torch._dynamo.config is sys.modules['torch._dynamo.config']",
    "from torch._dynamo.utils import is_compile_supported as f": (
        "f is sys.modules['torch._dynamo.utils'].is_compile_supported"
    ),
    "from torch.fx.experimental.symbolic_shapes import sym_and as f": (
        "f is sys.modules['torch.fx.experimental.symbolic_shapes'].sym_and"
    ),
    "from torch.fx.experimental import symbolic_shapes as s": "s is sys.modules[s.__name__]",
    "import torch.fx.experimental.symbolic_shapes as s": "s is sys.modules[s.__name__]",
    "from torch.nn.functional import relu": "relu(torch.tensor([-1.0])).item() == 0",
}
"""What code imports, and what is true of it for as long as it lives."""


PICKS = """
import importlib, os, sys, threading
import torch
from torch import nn
import convstat

def pick():
    exec(use, kept, taken)
    kept.update(taken)

def through_a_module():
    kept.update(vars(importlib.import_module(f"picks{number}")))

class Net(nn.Module):
    def forward(self, x):
        x = torch.nn.functional.relu(x).mean(-1)
        if not kept:
            if how == "in a module":
                through_a_module()
            elif how == "in a forward":
                pick()
            else:
                asked.set()
                done.wait(60)
        return torch.softmax(x, 0).sum()

def beside():
    asked.wait(60)
    pick()
    done.set()

for number, (use, holds) in enumerate(USES.items()):
    for how in ("in a module", "in a forward", "in another thread"):
        # Each in a process of its own, in which nothing is loaded yet.
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        kept, taken = {}, {}
        asked, done = threading.Event(), threading.Event()
        if how == "in another thread":
            threading.Thread(target=beside, daemon=True).start()
        convstat.analyze(Net(), (3, 8, 8), counters="none")
        ours = [name for name, value in sys.modules.items() if type(value).__module__.startswith("convstat")]
        exec("import sys, torch", kept)
        print(use, how, bool(eval(holds, kept)), ours, flush=True)
        os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it begins anew in a fork each time")
def test_whoever_imports_meanwhile_gets_the_real_thing(tmp_path: Path) -> None:
    """At the top of a module that is imported while a model runs, in a forward, and in a thread beside."""
    for number, use in enumerate(USES):
        (tmp_path / f"picks{number}.py").write_text(f"import sys, torch\n{use}\n", encoding="utf-8")
    code = f"USES = {USES!r}\n{PICKS}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    hows = ("in a module", "in a forward", "in another thread")
    assert [f"{use} {how} True []" for use in USES for how in hows] == _lines(done.stdout), done.stderr


def _lines(printed: str) -> list[str]:
    """Lines, where one that says nothing of how it went goes on in the next."""
    return [line.strip() for line in re.split(r"(?<=\])\n", printed) if line.strip()]


def test_nothing_stands_in_for_the_compiler() -> None:
    """It is not among the modules, neither while torchvision is imported nor after a failure."""
    assert "[] []" == run_python(
        """
import sys
from convstat.patches.imports import compiler_on_demand
import torch
def held():
    return [name for name in sys.modules if name.startswith("torch._dynamo")]
try:
    with compiler_on_demand():
        during = held()
        raise ValueError
except ValueError:
    print(during, held())
"""
    )


def test_a_module_with_late_imports_looks_as_if_python_had_loaded_it() -> None:
    """It can be loaded again, its source is found, and its lines are those of the file."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    assert "SourceFileLoader True True" == run_python(
        IMPORT
        + """
import importlib, inspect
module = sys.modules["torchvision.ops.roi_align"]
function = module.roi_align
line = inspect.getsourcelines(function)[1]
text = open(module.__file__).read().splitlines()[line - 1]
found = text.startswith(("def roi_align", "@"))
print(type(module.__spec__.loader).__name__, found, importlib.reload(module) is module)
"""
    )


PLAIN = st.one_of(st.booleans(), st.integers(-3, 3), st.lists(st.integers(0, 3), max_size=3).map(tuple))


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from([*imports._PLAIN]), values=st.lists(PLAIN, min_size=1, max_size=3))
def test_what_is_plain_is_answered_as_torch_does(name: str, values: list[Any]) -> None:
    """The same answer of the same type, or the same refusal."""
    from torch.fx.experimental import symbolic_shapes

    answers = []
    for function in (getattr(symbolic_shapes, name), imports._plain_or_real(name, *imports._PLAIN[name])):
        try:
            answers.append((function(*values), None))
        except (AssertionError, TypeError, RuntimeError) as error:
            answers.append((None, type(error)))
    (expected, refused), (actual, refused_too) = answers
    assert (expected, type(expected), refused) == (actual, type(actual), refused_too)


KERNEL = """
def plain():
    from torch.fx.experimental.symbolic_shapes import guard_or_false, sym_and
    import sympy
    return sym_and(True, guard_or_false(True)) and not isinstance(3, sympy.Basic)

def symbolic(size):
    from torch.fx.experimental.symbolic_shapes import guard_or_false
    return guard_or_false(size == 3) is False

def algebra():
    import sympy
    return isinstance(sympy.Symbol("x") + 1, sympy.Basic)
"""
"""Functions that import as those of torch do."""


def test_symbols_are_left_to_torch() -> None:
    """A size that a compiler does not know yet loads the algebra, which answers a kernel."""
    assert "True True True" == run_python(
        f"""
import sys
import torch
from convstat.patches.imports import algebra_on_demand
kernel = {{"__name__": "torch._refs"}}
exec({KERNEL!r}, kernel)
with algebra_on_demand():
    light = kernel["plain"]() and "sympy" not in sys.modules
    from torch.fx.experimental.symbolic_shapes import ShapeEnv
    print(light, kernel["symbolic"](ShapeEnv().create_unbacked_symint()), kernel["algebra"]())
"""
    )


def test_a_count_loads_neither_the_compiler_nor_the_algebra() -> None:
    """They are half of what the imports of a zoo cost."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    assert "[]" == run_python(
        """
import sys
import convstat
convstat.analyze("torchvision/resnet18", counters="ptflops,torchsummary")
print([name for name in ("sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes") if name in sys.modules])
"""
    )
