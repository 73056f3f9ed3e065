"""The lifetimes of storages on meta, held against a real run on the CPU in which every storage is watched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from allocator import peak
from counted import graph_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_nets import CHANNELS, nets
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convstat.lifetimes import Lifetimes
from convstat.patches.operators import torchvision_compat
from convstat.trace.build import build
from convstat.trace.training import OPTIMIZERS, Step, Way, follow

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


class Ledger(TorchDispatchMode):
    """Holds a weak reference of torch's own to each storage, and after each kernel adds up those that are alive.

    Where no mode is active, the engine of the backward pass adds gradients of one tensor up in place, and not here: if
    the first of them has no gaps and is gone before the next kernel, the sum is no further storage.
    """

    def __init__(self, before: list[torch.Tensor], elsewhere: list[torch.Tensor]) -> None:
        super().__init__()
        self.alive: dict[int, tuple[Any, int]] = {}
        self.elsewhere = {tensor.untyped_storage()._cdata for tensor in elsewhere}
        self.goes_back = False
        self.sum: tuple[Any, int] | None = None
        for tensor in before:
            self.look(tensor)
        self.curve = [self.total()]

    def look(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.alive and storage._cdata not in self.elsewhere:
            self.alive[storage._cdata] = storage._weak_ref(), storage.nbytes()

    def total(self) -> int:
        for key, (reference, _) in list(self.alive.items()):
            if torch.UntypedStorage._expired(reference):
                torch.UntypedStorage._free_weak_ref(reference)
                del self.alive[key]
        return sum(size for _, size in self.alive.values())

    def settle(self) -> None:
        """Look what is gone since the last kernel, before an address is given to another storage."""
        if self.sum is not None:
            first, size = self.sum
            self.curve[-1] -= size * torch.UntypedStorage._expired(first)
            torch.UntypedStorage._free_weak_ref(first)
            self.sum = None
        self.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "profiler":
            return func(*args, **(kwargs or {}))
        self.settle()
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.look(leaf)
        self.curve.append(self.total())
        if (
            self.goes_back
            and func is torch.ops.aten.add.Tensor
            and torch.empty_like(args[0]).stride() == args[0].stride()
            and not args[0]._is_view()
        ):
            self.sum = args[0].untyped_storage()._weak_ref(), result.untyped_storage().nbytes()
        return result


@contextmanager
def biases_in_place() -> Iterator[None]:
    """Add the bias of a linear layer as torch does where no mode is active, and not as it does under the ledger."""

    def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if bias is None or x.dim() == 2 or x.is_contiguous():
            return torch.ops.aten.linear.default.decompose(x, weight, bias)
        return (x @ weight.t()).add_(bias)

    library = torch.library.Library("aten", "IMPL")
    library.impl("linear", linear, "AutogradCPU")
    try:
        yield
    finally:
        library._destroy()


@biases_in_place()
def real_curve(model: nn.Module, inputs: tuple[torch.Tensor, ...], way: Way) -> list[int]:
    """Run on the CPU as somebody would write it, and add up after each kernel."""
    parameters = list(model.parameters())
    before = [*parameters, *model.buffers(), *inputs]
    if way.step is None:
        model.eval()
        with Ledger(before, []) as ledger, torch.no_grad(), way.autocast("cpu"):
            output = model(*inputs)
        del output
        return ledger.curve
    model.train()
    optimizer = way.step.made([value for value in parameters if value.requires_grad], "cpu")
    states = [] if optimizer is None else [s for s in tree_leaves(list(optimizer.state.values())) if torch.is_tensor(s)]
    counts = [state for state in states if not state.dim()]
    with Ledger([*before, *(state for state in states if state.dim())], counts) as ledger:
        for _ in range(min(2, way.step.accumulated)):
            with way.autocast("cpu"):
                output = model(*inputs)
            ones = torch.ones_like(output)
            ledger.goes_back = True
            output.backward(ones)
            ledger.settle()
            ledger.goes_back = False
            del output, ones
        if optimizer is not None:
            optimizer.step()
    return ledger.curve


def meta_curve(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], way: Way) -> Lifetimes:
    """Follow a run on meta."""
    inputs = tuple(torch.empty(shape, device="meta") for shape in shapes)
    return follow(make().to("meta"), inputs, None, way)[0]


def check(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], way: Way) -> None:
    """Hold the two against each other, kernel by kernel."""
    found = meta_curve(make, shapes, way).curve()
    real = real_curve(make(), tuple(torch.zeros(shape) for shape in shapes), way)
    assert found == real


class Attending(nn.Module):
    """Attention as a function, with a mask and without, and its module."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 48)
        self.module = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.project(x).reshape(2, -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        attended = attended + nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + attended.transpose(1, 2).reshape(x.shape)
        return self.module(self.norm(x), self.norm(x), self.norm(x))[0]


class Mixed(nn.Module):
    """A residual, a view, an operation in place, a layer that is used twice, and a tensor that is kept for long."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        early = self.norm(self.first(x)).relu_()
        late = self.shared(nn.functional.gelu(self.shared(early)))
        late += early
        return nn.functional.silu(self.head(self.drop(self.pool(late)).flatten(1)), inplace=True)


class Concatenated(nn.Module):
    """Outputs that are put beside later ones, as in DenseNet: some gradients are parts of larger ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3, padding=1)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        early = self.first(x)
        return self.last(torch.cat([early, self.second(early)], 1))  # type: ignore[no-any-return]


class Skipping(nn.Module):
    """A skip to the end, as in a U-Net: of one sample, its gradient is a part of a larger one without gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        small = nn.functional.interpolate(x, scale_factor=0.125)[:, :1]
        return torch.cat((x, nn.functional.interpolate(small, scale_factor=8)), 1) * 1.5


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "mixed": (Mixed, ((2, 3, 8, 8),)),
    "attending": (Attending, ((2, 5, 16),)),
    "concatenated": (Concatenated, ((2, 3, 8, 8),)),
    "skipping": (Skipping, ((1, 1, 64, 64),)),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), ((2, 5, 16),)),
}


WAYS = {
    "infer": Way(device="cpu"),
    "infer amp": Way(device="cpu", amp=torch.bfloat16),
    **{name: Way(Step(name), "cpu") for name in OPTIMIZERS},
    "accumulated": Way(Step("adamw", 4), "cpu"),
    "amp": Way(Step("momentum"), "cpu", torch.bfloat16),
}


HAS_AMP = hasattr(torch.library.Library, "fallback")
"""Whether this torch lets autocast be done on meta."""


@pytest.mark.parametrize("way", [name for name in WAYS if HAS_AMP or "amp" not in name])
@pytest.mark.parametrize("model", MODELS)
def test_every_kernel_finds_the_memory_of_a_real_run(model: str, way: str) -> None:
    """The whole curve, to the byte; not its peak alone."""
    check(*MODELS[model], WAYS[way])


@pytest.mark.parametrize("amp", [None, torch.bfloat16] if HAS_AMP else [None])
def test_a_checkpoint_keeps_its_inputs_and_runs_again(amp: torch.dtype | None) -> None:
    """As torch's own checkpoint around the same module, and less than without it."""

    def make() -> nn.Module:
        return nn.Sequential(
            *(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1)) for _ in "abc")
        )

    def around() -> nn.Module:
        model = make()
        for block in model:
            original = block.forward
            block.forward = lambda x, run=original: torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False)
        return model

    shapes = ((4, 8, 16, 16),)
    way = Way(Step("sgd"), "cpu", amp)
    found = meta_curve(make, shapes, Way(way.step, "cpu", amp, frozenset("012"))).curve()
    assert found == real_curve(around(), (torch.zeros(shapes[0]),), way)
    assert max(found) < max(meta_curve(make, shapes, way).curve())


@settings(max_examples=60, deadline=None)
@given(net=nets(), trained=st.booleans())
def test_generated_nets(net: nn.Module, trained: bool) -> None:
    """Nested, shared and frozen layers, and functions, put together at random."""
    # What a CPU does of a recurrent layer at once is followed step by step on meta, which is said in a note.
    assume(not any(isinstance(module, nn.RNNBase) for module in net.modules()))
    way = Way(Step("momentum") if trained else None, "cpu")
    shape = (2, CHANNELS, 6, 6)
    try:
        output = deepcopy(net)(torch.zeros(shape))
    except RuntimeError:
        assume(False)
    assume(output.requires_grad or not trained)
    found = follow(deepcopy(net).to("meta"), (torch.zeros(shape, device="meta"),), None, way)[0]
    assert found.curve() == real_curve(net, (torch.zeros(shape),), way)


def test_the_peak_of_a_chain_by_hand() -> None:
    """Two linear layers: weights 2 x (8 x 8 + 8), the input and two outputs of 4 x 8, each of 4 bytes."""
    lifetimes = meta_curve(lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), ((4, 8),), Way())
    weights, rows = 4 * 2 * (8 * 8 + 8), 4 * 4 * 8
    # t, addmm, t, addmm: the input is the caller's, and lives on.
    assert lifetimes.curve() == [
        weights + rows, weights + rows, weights + 2 * rows, weights + 2 * rows, weights + 3 * rows,
    ]  # fmt: skip


def test_what_is_saved_is_what_the_backward_pass_reads() -> None:
    """ReLU saves its output, GELU its input, and a sum nothing."""

    def saved(module: nn.Module) -> int:
        lifetimes = meta_curve(lambda: nn.Sequential(nn.Linear(8, 8), module), ((4, 8),), Way(Step()))
        return sum(storage.size for storage in lifetimes.storages if storage.kind == "saved")

    # The output of the model is alive too, as the caller has it: that of ReLU is both.
    assert saved(nn.ReLU()) == 4 * 4 * 8
    assert saved(nn.GELU()) == 2 * 4 * 4 * 8
    assert saved(nn.Identity()) == 4 * 4 * 8


def test_a_release_that_is_not_seen_makes_the_comparison_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail."""
    from convstat.trace.following import Following

    monkeypatch.setattr(Following, "_released", lambda self, key: self._alive.pop(key))
    make, shapes = MODELS["mixed"]
    with pytest.raises(AssertionError):
        check(make, shapes, WAYS["infer"])


ATTENTION = "aten._scaled_dot_product_"
KERNELS = {
    "half precision": ("cuda", torch.bfloat16, 64, False, "flash_attention"),
    "a mask": ("cuda", torch.bfloat16, 64, True, "efficient_attention"),
    "large heads": ("cuda", torch.float16, 512, False, "efficient_attention"),
    "full precision": ("cuda", torch.float32, 64, False, "efficient_attention"),
    "heads that do not fit": ("cuda", torch.float32, 6, False, None),
    "double precision": ("cuda", torch.float64, 64, False, None),
    "a CPU": ("cpu", torch.float32, 6, True, "flash_attention_for_cpu"),
}


@pytest.mark.parametrize("case", KERNELS)
def test_attention_takes_the_kernel_that_the_device_has_for_it(case: str) -> None:
    """By dtype, size of a head and mask; where no fused one fits, products and a softmax."""
    device, dtype, size, is_masked, expected = KERNELS[case]

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = torch.ones(x.shape[2], x.shape[2], dtype=torch.bool, device=x.device) if is_masked else None
            return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    inputs = (torch.empty(2, 4, 8, size, dtype=dtype, device="meta"),)
    lifetimes, _ = follow(Model(), inputs, None, Way(device=device))
    ops = [kernel.op for kernel in lifetimes.kernels]
    assert [op.removeprefix(ATTENTION) for op in ops if op.startswith(ATTENTION)] == [expected] * (expected is not None)
    assert ("aten.bmm" in ops) is (expected is None)


def test_an_optimizer_works_on_all_parameters_at_once_on_a_gpu() -> None:
    """The roots of AdamW's averages are as large as all weights there, and as the largest of them on a CPU."""

    def temporaries(device: str) -> int:
        lifetimes = meta_curve(
            lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 32)), ((1, 8),), Way(Step("adamw"), device)
        )
        peak = 0
        for moment, kernel in enumerate(lifetimes.kernels, 1):
            if kernel.phase == "step":
                peak = max(peak, sum(s.size for s in lifetimes.alive(moment) if s.kind == "temporaries"))
        return peak

    assert temporaries("cuda") == 4 * (8 * 8 + 8 + 8 * 32 + 32)
    # The root and that root divided, and what the loop still holds of the parameter before, a bias of 8.
    assert temporaries("cpu") == 2 * 4 * 8 * 32 + 4 * 8


def test_sizes_may_be_rounded_up() -> None:
    """As an allocator does: 288 bytes of a weight become 512, and so do 32 of a bias and 128 of rows."""
    lifetimes = meta_curve(lambda: nn.Linear(8, 9), ((4, 8),), Way())
    assert lifetimes.curve()[0] == 4 * (8 * 9 + 9 + 4 * 8)
    assert lifetimes.curve(512)[0] == 3 * 512


def test_the_script_for_a_gpu_runs_without_one() -> None:
    """Its logic, with the ledger in place of the statistics of a GPU: no difference."""
    script = Path(__file__).parent / "device" / "memory.py"
    command = [
        sys.executable,
        str(script),
        "--device",
        "cpu",
        "--nets",
        "squeezenet1_1",
        "--batches",
        "1",
        "--size",
        "64",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout
    runs = [line for line in done.stdout.splitlines() if line.startswith("squeezenet1_1")]
    assert len(runs) == 4


NETWORKS = """
    alexnet vgg11_bn resnet18 resnet50 resnext50_32x4d densenet121 squeezenet1_1 vgg13 mobilenet_v2
    mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x1_0 mnasnet1_0 efficientnet_b0 efficientnet_v2_s
    regnet_y_400mf regnet_x_400mf convnext_tiny vit_b_32 swin_t swin_v2_t maxvit_t vgg16 resnet34 resnet101
    wide_resnet50_2 densenet169 efficientnet_b1 shufflenet_v2_x0_5 squeezenet1_0
""".split()  # noqa: SIM905 - a list of names is read as words


LONG = """
    alexnet vgg11_bn vgg13 vgg16 resnet50 resnext50_32x4d resnet101 wide_resnet50_2 densenet169 mobilenet_v3_large
    efficientnet_v2_s efficientnet_b1 regnet_x_400mf swin_v2_t maxvit_t
""".split()  # noqa: SIM905 - a list of names is read as words
"""Those whose step of training takes long, and is like that of others."""


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=[pytest.mark.verify] if mode == "train" and name in LONG else [])
        for mode in ("infer", "train")
        for name in NETWORKS
    ],
)
def test_networks_of_torchvision(name: str, mode: str) -> None:
    """Thirty of them, kernel by kernel."""
    torchvision_compat()
    from torchvision.models import get_model

    side = 224 if name.startswith(("vit", "maxvit")) else 64
    shapes = ((2, 3, side, side),)
    way = Way(Step("adamw") if mode == "train" else None, "cpu")
    if not name.startswith("swin"):
        check(lambda: get_model(name, weights=None), shapes, way)
        return
    # A number that is written into a slice is a tensor of its own on meta and on a GPU, of 4 bytes, and none on a CPU.
    found = meta_curve(lambda: get_model(name, weights=None), shapes, way).curve()
    real = real_curve(get_model(name, weights=None), (torch.zeros(shapes[0]),), way)
    assert 0 <= max(found) - max(real) <= 4


def check_the_allocator(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], mode: str) -> None:
    """Beside the storages, the allocator holds what kernels take for themselves, and Python's numbers; nothing else."""
    way = Way(Step("none") if mode == "train" else None, "cpu")
    found = max(meta_curve(make, shapes, way).curve())
    held = peak(make(), tuple(torch.zeros(shape) for shape in shapes), train=mode == "train")
    assert found == held.tensors
    assert held.numbers % 8 == 0
    assert 0 <= held.workspaces <= found


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config(path: Path, mode: str) -> None:
    """The torch model of each that is shipped, kernel by kernel."""
    graph = graph_of(str(path))
    way = Way(Step("adamw") if mode == "train" else None, "cpu")
    check(lambda: build(graph), tuple(item.shape for item in graph.inputs), way)


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("model", MODELS)
def test_the_allocator_of_the_cpu_holds_the_storages_and_workspaces(model: str, mode: str) -> None:
    """No mode is active here, and no ledger: the events of the allocator, from torch's profiler."""
    check_the_allocator(*MODELS[model], mode)


@pytest.mark.verify
@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_allocator_holds_no_more_of_networks_of_torchvision(name: str, mode: str) -> None:
    """Thirty of them."""
    torchvision_compat()
    from torchvision.models import get_model

    side = 224 if name.startswith(("vit", "maxvit")) else 64
    check_the_allocator(lambda: get_model(name, weights=None), ((2, 3, side, side),), mode)


def test_a_bias_is_added_in_place_where_nobody_looks_on() -> None:
    """No mode is active here: the allocator holds the copy of a transposed input or the product, and no third."""

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.transpose(1, 2))  # type: ignore[no-any-return]

    shape = (4, 16, 32)
    found = max(meta_curve(Turned, (shape,), Way(device="cpu")).curve())
    rows = 4 * 32
    # Weights, the input, its copy and the product, each of 4 bytes; a sum beside the product would need more.
    assert found == 4 * (64 * 16 + 64 + 2 * rows * 16 + rows * 64)
    assert peak(Turned(), (torch.zeros(shape),), train=False).tensors == found
