"""The call tree of one forward pass."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.functional import relu as stored_relu
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from versions import since

from convstat.patches.dispatch import Watching
from convstat.trace import DictInfo, FunctionCall, KernelCall, ListInfo, ModuleCall, ObjectInfo, TensorInfo, Trace
from convstat.trace.calls import Call
from convstat.trace.describe import describe
from convstat.trace.record import record


def outline(trace: Trace) -> list[str]:
    """The tree as indented lines."""
    lines: list[str] = []

    def show(call: Call, depth: int) -> None:
        if isinstance(call, ModuleCall):
            name = trace.module_of(call).path or "(model)"
        else:
            name = call.op if isinstance(call, KernelCall) else call.name.removeprefix("torch.nn.functional.")
        lines.append("  " * depth + name)
        for child in call.children:
            show(child, depth + 1)

    show(trace.root, 0)
    return lines


class Small(nn.Module):
    """A convolution, functions of every kind, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run."""
        x = F.relu(self.conv(x))
        x = stored_relu(x) + 1
        x = F.interpolate(x, size=(1, 1), mode="area")
        return self.head(x.flatten(1))


OUTLINE = """
(model)
  conv
    conv2d
      aten.convolution
  relu
    aten.relu
    aten.detach
  aten.relu
  aten.detach
  aten.add
  interpolate
    adaptive_avg_pool2d
      aten.mean
  aten.view
  head
    linear
      aten.t
      aten.addmm
"""


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_modules_contain_functions_and_functions_contain_kernels(device: str) -> None:
    """The whole tree, in order; a function that was stored before, and an operator, are seen as kernels only."""
    trace = record(Small().to(device), (torch.rand(2, 3, 6, 6, device=device),))
    lines = [line for line in outline(trace) if not line.endswith("torch.mm")]
    assert OUTLINE.strip().splitlines() == lines
    assert device == trace.device


def test_what_a_meta_kernel_calls_is_the_kernels_child() -> None:
    """torch's own addmm on meta calls torch.mm; that is no call of the model."""
    trace = record(nn.Linear(3, 4).to("meta"), (torch.rand(2, 3, device="meta"),))
    assert [] == [line for line in outline(trace) if line in ("  torch.mm", "    torch.mm")]
    assert "      torch.mm" in outline(trace)


def test_calls_carry_shapes_values_and_results() -> None:
    """Arguments as they were given, by position or by name; the result; tensors as shape and dtype."""
    trace = record(Small(), (torch.rand(2, 3, 6, 6),))
    conv = trace.root.children[0]
    assert isinstance(conv, ModuleCall)
    assert ((TensorInfo((2, 3, 6, 6)),), TensorInfo((2, 4, 4, 4))) == (conv.args, conv.output)
    interpolate = next(call for call in trace.root.children if getattr(call, "name", "").endswith("interpolate"))
    assert isinstance(interpolate, FunctionCall)
    assert {"size": (1, 1), "mode": "area"} == dict(interpolate.kwargs)
    kernel = next(call for call, _ in trace.kernels() if call.op == "aten.convolution")
    assert "default" == kernel.overload
    assert (TensorInfo((2, 3, 6, 6)), TensorInfo((4, 3, 3, 3)), TensorInfo((4,))) == kernel.args[:3]
    assert 2 * 4 * 4 * 4 == kernel.output.numel  # type: ignore[union-attr]


def test_every_kernel_is_told_with_the_innermost_module_that_ran_it() -> None:
    """The owner is the module in the model, not the one above it."""
    trace = record(Small(), (torch.rand(2, 3, 6, 6),))
    owners = {call.op: owner.path for call, owner in trace.kernels()}
    assert ("conv", "head", "") == (owners["aten.convolution"], owners["aten.addmm"], owners["aten.add"])


def test_module_calls_come_in_the_order_in_which_they_return() -> None:
    """Children before parents, each call once: the order of torchsummary's rows."""
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    trace = record(nn.Sequential(block, block, nn.Identity()), (torch.rand(2, 4),))
    assert ["0.0", "0.1", "0", "0.0", "0.1", "0", "2", ""] == [
        trace.module_of(call).path for call in trace.module_calls()
    ]


class Noting(Watching):  # type: ignore[no-untyped-call]
    """One of our own modes, below that of the recording."""

    def __init__(self, raises: str = "") -> None:
        super().__init__()
        self.raises = raises
        self.seen: list[str] = []

    def kernel(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Note the kernel, and run it or raise."""
        self.seen.append(str(func.overloadpacket))
        if self.seen[-1] == self.raises:
            raise ValueError("enough")
        return super().kernel(func, args, kwargs)


class Through(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode of somebody else's, which only the dispatcher can ask."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the kernel, and run it."""
        self.seen.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def test_every_kernel_comes_once_to_each_mode_that_was_entered_before() -> None:
    """Whether the dispatcher brings it there or not: ours, of somebody else, and ours below that."""
    lowest, middle, highest = Noting(), Through(), Noting()
    model, x = Small(), torch.rand(2, 3, 6, 6)
    with lowest, middle, highest:
        before = _get_current_dispatch_mode_stack()
        trace = record(model, (x,))
        assert before == _get_current_dispatch_mode_stack()
    recorded = [call.op for call, _ in trace.kernels()]
    assert [recorded] * 3 == [lowest.seen, middle.seen, highest.seen]


def test_modes_are_as_before_where_one_raises() -> None:
    """The mode that was asked directly is on the stack again."""
    with Noting("aten.relu") as noting:
        with pytest.raises(ValueError, match="enough"):
            record(Small(), (torch.rand(2, 3, 6, 6),))
        assert [noting] == _get_current_dispatch_mode_stack()
        torch.ones(1)
    assert noting.seen[-2:] == ["aten.relu", "aten.ones"]


class Hooking(nn.Module):
    """Registers a hook on its layer as it runs, and leaves it there or not."""

    def __init__(self, *, leaves: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.leaves = leaves
        self.hooks: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the layer with the hook."""
        self.hooks.append(len(self.layer._forward_hooks))
        handle = self.layer.register_forward_hook(lambda module, args, output: output * 2)
        self.hooks.append(len(self.layer._forward_hooks))
        x = self.layer(x)
        if not self.leaves:
            handle.remove()
        self.hooks.append(len(self.layer._forward_hooks))
        return x


@pytest.mark.parametrize("leaves", [False, True])
def test_modules_count_as_hooked_and_hooks_of_the_models_own_run(leaves: bool) -> None:
    """One more than are registered; the model's own is called, and is gone afterwards, as is the one that it seemed."""
    model = Hooking(leaves=leaves)
    table = model.layer._forward_hooks
    seen: list[list[int]] = []
    model.register_forward_hook(lambda *_: seen.append([*model.hooks]))
    trace = record(model, (torch.rand(2, 4),))
    assert seen == [[1, 2, 2 if leaves else 1]]
    assert ["aten.t", "aten.addmm", "aten.mul"] == [call.op for call, _ in trace.kernels()]
    assert table is model.layer._forward_hooks
    assert not table
    assert 1 == len(model._forward_hooks)


class Own(nn.Linear):
    """A subclass."""


def test_the_module_table_knows_exact_types_paths_parameters_and_attributes() -> None:
    """What every counter asks a module: its type, its ancestors, where it hangs, what it holds."""
    own = Own(4, 4, bias=False)
    tied = nn.Linear(4, 4)
    tied.weight = own.weight
    own.weight.requires_grad_(False)
    model = nn.Sequential(own, nn.Sequential(own, tied))
    trace = record(model, (torch.rand(2, 4),))
    table = {info.paths: info for info in trace.modules}
    assert [("",), ("0", "1.0"), ("1",), ("1.1",)] == list(table)
    info = table["0", "1.0"]
    assert info.type.endswith("test_trace.Own")
    assert ("torch.nn.modules.linear.Linear", "torch.nn.modules.module.Module") == info.bases
    assert (4, None) == (info.attributes["in_features"], info.attributes["bias"])
    (weight,) = info.parameters
    assert ((4, 4), "float32", False, 16) == (weight.shape, weight.dtype, weight.requires_grad, weight.numel)
    assert weight.key == table[("1.1",)].parameters[0].key
    assert weight.key != table[("1.1",)].parameters[1].key
    assert (info.index, table[("1.1",)].index) == table[("1",)].children


def test_a_module_made_during_the_pass_is_called_but_not_registered() -> None:
    """It has no path, and its kernels belong to who called it."""

    class Makes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.Linear(4, 3)(x)

    trace = record(Makes(), (torch.rand(2, 4),))
    assert [True, False] == [info.registered for info in trace.modules]
    assert {""} == {owner.path for _, owner in trace.kernels()}


def test_what_a_model_tries_and_gives_up_is_not_in_the_tree() -> None:
    """A call that raises did not happen, also when the model catches it and goes on."""

    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong = nn.Linear(5, 5)
            self.right = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.wrong(F.relu(x))
            except RuntimeError:
                return self.right(x)

    trace = record(Tries(), (torch.rand(2, 4),))
    assert {"", "right"} == {trace.module_of(call).path for call in trace.module_calls()}
    assert 1 == sum(call.op == "aten.addmm" for call, _ in trace.kernels())


def test_inputs_can_be_given_by_name() -> None:
    """Keyword inputs are remembered as such."""
    trace = record(nn.Linear(4, 3), (), {"input": torch.rand(2, 4)})
    assert ((), {"input": TensorInfo((2, 4))}) == (trace.root.args, dict(trace.root.kwargs))


def test_the_pass_runs_in_eval_mode_with_grad() -> None:
    """As peers run it: dropout does nothing, and attention does not take the fused path of inference."""
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train()
    with torch.no_grad():
        trace = record(attention, (torch.rand(2, 3, 8),))
    kernels = {call.op for call, _ in trace.kernels()}
    assert "aten.addmm" in kernels
    assert not {op for op in kernels if "native_multi_head" in op or "encoder_layer_fwd" in op or "dropout" in op}


class Told(nn.Module):
    """Knows how it is used from what it was told, and not from its flag."""

    use = "training"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run one function in use, and another one in training."""
        return x.sigmoid() if self.use == "inference" else x.tanh()


class ToldByAttribute(Told):
    """Hears of an attribute that is set."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "training":
            self.use = "training" if value else "inference"


class ToldByProperty(Told):
    """Has no flag, but a property."""

    @property
    def training(self) -> bool:  # type: ignore[override]
        """Whether it is being trained."""
        return self.use == "training"

    @training.setter
    def training(self, value: bool) -> None:
        vars(self)["use"] = "training" if value else "inference"


class ToldByCall(Told):
    """Has a way of being switched of its own."""

    def train(self, mode: bool = True) -> ToldByCall:
        """Switch it."""
        self.use = "training" if mode else "inference"
        return self


class ToldByParent(nn.Module):
    """Tells a module that does not hang in it as others do."""

    def __init__(self) -> None:
        super().__init__()
        vars(self)["told"] = ToldByCall()

    def children(self) -> Any:
        """Give it as well."""
        yield from (*super().children(), vars(self)["told"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it."""
        return vars(self)["told"](x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [ToldByAttribute, ToldByProperty, ToldByCall, ToldByParent])
@pytest.mark.parametrize("train", [False, True])
def test_a_model_is_switched_as_it_wants_to_be(kind: type[nn.Module], train: bool) -> None:
    """Wherever switching it is more than to set a flag, it is done by torch's own method."""
    model = kind().train(not train)
    trace = record(nn.Sequential(model), (torch.rand(2, 4),), train=train)
    assert ["aten.tanh" if train else "aten.sigmoid"] == [
        call.op for call, _ in trace.kernels() if call.op in ("aten.tanh", "aten.sigmoid")
    ]


def test_values_are_described_by_kind() -> None:
    """Tuples stay tuples and lists stay lists, because peers tell them apart; the rest is its type."""
    assert (1, None, "a") == describe((1, None, "a"))
    assert ListInfo((1, TensorInfo((2,), "int64"))) == describe([1, torch.zeros(2, dtype=torch.int64)])
    assert DictInfo((("a", 1.5),)) == describe({"a": 1.5})
    assert (3, 4) == describe(torch.Size([3, 4]))
    assert ObjectInfo("builtins.set") == describe({1})


COMPAT = """
import sys
from convstat.patches.operators import NOTE, torchvision_compat
note = torchvision_compat()
assert note is torchvision_compat()
assert 'torchvision' not in sys.modules
import torchvision.ops
from torchvision.extension import _has_ops
assert (note is None) == _has_ops(), note
assert note in (None, NOTE)
import ptflops.pytorch_ops
assert torchvision.ops.DeformConv2d in ptflops.pytorch_ops.MODULES_MAPPING
print('fine')
"""


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_can_be_imported_where_its_operators_do_not_load() -> None:
    """It is made importable and not hidden, with a note; where it works by itself, nothing is done."""
    done = subprocess.run([sys.executable, "-c", COMPAT], capture_output=True, text=True, check=False)
    assert ("fine\n", 0) == (done.stdout, done.returncode), done.stderr


COMPILER = """
import gc, sys
import torch
from torch import nn
from convstat.patches.compiler import _CACHE, compiler_not_loaded
from convstat.trace.record import record
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(64, 2)).to('meta')
image = torch.rand(2, 3, 6, 6, device='meta')
first = record(model, (image,))
assert 'torch._dynamo' not in sys.modules
sys.modules['no_module'] = object()  # some packages put such things there
left = [o for o in gc.get_objects() if type(o) is type(record) and hasattr(o, _CACHE)]
assert not left, left
record(nn.Linear(2, 2), (torch.rand(1, 2),))
model(image)
assert 'torch._dynamo' in sys.modules
with compiler_not_loaded():
    second = record(model, (image,))
assert first == second
print('fine')
"""


@since("2.6", "meta kernels that load its compiler")
def test_a_trace_on_meta_does_not_load_torchs_compiler() -> None:
    """Which would take as long again as torch; the trace is the same with it, and torch is left as it was."""
    done = subprocess.run([sys.executable, "-c", COMPILER], capture_output=True, text=True, check=False)
    assert ("fine\n", 0) == (done.stdout, done.returncode), done.stderr
