"""Models that are hard to run without their weights, each with the way that it takes and what it costs.

All take one picture of 3 x 8 x 8 unless they say otherwise, and most hold one 3 x 3 convolution to 4 channels.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

CONV = 4 * 3 * 3 * 3 * 8 * 8
"""The MACs of the convolution that most of the models hold."""

META = "meta"
STRIPPED = "meta, made on cpu"
FAKE = "fake tensors"
CPU = "cpu"


@dataclass(frozen=True)
class Odd:
    """A model, the way that it takes, its MACs, and its inputs."""

    make: Callable[[], Any]
    way: str
    macs: int
    inputs: Sequence[str] = ("3x8x8",)
    notes: tuple[str, ...] = field(default=())


ODD: dict[str, Odd] = {}


def odd(way: str, macs: int, *inputs: str) -> Callable[[Any], Any]:
    """Enter a model into the table."""

    def enter(make: Any) -> Any:
        ODD[make.__name__] = Odd(make, way, macs, inputs or ("3x8x8",))
        return make

    return enter


def scriptable(x: torch.Tensor) -> torch.Tensor:
    """A function that can be scripted: a product of 8 x 8."""
    return torch.mul(torch.mm(x, torch.ones(8, 8)), 2.0)


class Conv(nn.Module):
    """A convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x)


# Constructors that compute.


@odd(STRIPPED, 4 * 3 * 9 * 64)
class WidthsFromTensors(nn.Module):
    """Takes its widths from a tensor, as RegNet does."""

    def __init__(self) -> None:
        super().__init__()
        widths = (torch.arange(4) * 1.0 + 1).int().tolist()
        self.conv = nn.Conv2d(3, widths[3], 3, padding=1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x)


@odd(STRIPPED, CONV)
class RatesFromTensors(Conv):
    """Reads its rates of stochastic depth with ``item``, and one through numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        self.last = float(torch.linspace(0, 0.1, 3).numpy()[-1])


@odd(CPU, CONV)
class ChecksItsWeights(Conv):
    """Looks at its own weights as it is made."""

    def __init__(self) -> None:
        super().__init__()
        if torch.isnan(self.conv.weight).any():
            raise ValueError("a bad initialiser")


@odd(META, CONV)
class MovesItself(Conv):
    """Goes to a device, and to another dtype and back, as it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.to("cpu").double().float()


@odd(META, CONV)
class LoadsAState(Conv):
    """Loads weights that it has at hand."""

    def __init__(self) -> None:
        super().__init__()
        self.load_state_dict({"conv.weight": torch.ones(4, 3, 3, 3, device="cpu")})


@odd(META, CONV)
class CopiesItself(Conv):
    """Keeps an average of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.average = copy.deepcopy(self.conv)


@odd(META, CONV)
class WantsAGpu(Conv):
    """Asks for a GPU, as it is made and as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.cuda()
        self.table = torch.zeros(4, 1, 1, device="cuda")

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x.cuda()) + self.table + torch.ones(1, device="cuda:0") + x.to("cuda").sum()


# Tensors that forward makes, and constants.


@odd(META, CONV)
class MakesTensors(Conv):
    """Makes masks, positions and zeros in its forward, on no device, on the CPU, and on that of its input."""

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x) + torch.zeros(4, 8, 8)
        y = y.masked_fill(torch.arange(8)[None] <= torch.arange(8)[:, None], float("-inf"))
        y = y * torch.ones(4, 8, 8).to(x.device) + torch.zeros(4, device="cpu").to(x)[:, None, None]
        y = y.cpu() * torch.from_numpy(torch.linspace(0, 1, 8).numpy() ** 2)
        return torch.cat([y[:, :1], torch.zeros(1, 3, 8, 8, device="cpu")], 1)[:, torch.tensor([0, 1])]


@odd(META, CONV)
class HoldsConstants(Conv):
    """Holds tensors as plain attributes, in lists and dicts, and as numpy arrays."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.zeros(8, 8)
        table[:, 0::2] = torch.sin(torch.arange(8).float()[:, None])
        self.register_buffer("table", table)
        self.plain = torch.ones(4, 8, 8)
        self.several = [torch.ones(4, 8, 8)]
        self.named = {"a": (torch.ones(1),)}
        self.array = numpy.ones((8, 8), dtype="float32")

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x) * self.plain + self.several[0] + self.named["a"][0] + self.table
        return y + torch.from_numpy(self.array) + torch.as_tensor(self.array, device=x.device) + GLOBAL


GLOBAL = torch.ones(4, 8, 8)


@odd(META, CONV)
class WritesInPlace(Conv):
    """Changes tensors in place, meta ones with constants and the other way round."""

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x)
        y *= GLOBAL
        y.add_(1).relu_()
        y[:, 0] = 0
        y[..., 0] += GLOBAL[..., 0]
        out = torch.zeros(1, 4, 8, 8, device="cpu")
        out += y
        return out


@odd(META, 4 * 3 * 9 * 64 + 2 * 16 * 4)
class SelectsByAConstant(nn.Module):
    """Selects with a mask whose values are known: 2 of 4 channels are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(64, 1, bias=False)
        self.keep = torch.tensor([True, False, True, False], device="cpu")

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.conv(x)[:, self.keep].flatten(2))


@odd(META, 0, "x=N")
class MakesLargeTensors(nn.Module):
    """Makes 40 GB of zeros on the CPU, and a product of them that is not small."""

    def forward(self, x: torch.Tensor) -> Any:
        return x.sum() + torch.zeros(10**10, device="cpu").sum()


# Outputs, hooks, and what wraps modules.


@dataclass
class Output:
    """What a model may return."""

    scores: torch.Tensor
    more: Any = None


@odd(META, 3 * CONV)
class ReturnsAnything(Conv):
    """Its parts return dicts, lists, dataclasses and None."""

    class Inner(nn.Module):
        """Returns what it is told to."""

        def __init__(self, what: Callable[[torch.Tensor], Any]) -> None:
            super().__init__()
            self.what = what

        def forward(self, x: torch.Tensor) -> Any:
            return self.what(x)

    def __init__(self) -> None:
        super().__init__()
        self.a = self.Inner(lambda x: {"x": self.conv(x), "y": [x, None, 1]})
        self.b = self.Inner(lambda x: Output(self.conv(x), {"x": x}))
        self.c = self.Inner(lambda x: None)

    def forward(self, x: torch.Tensor) -> Any:
        first, second = self.a(x), self.b(x)
        self.c(x)
        return Output(self.conv(x), (first, second, None))


@odd(META, CONV + 4 * 4 * 64)
class HasHooks(Conv):
    """Hooks of its own replace the input and the output of its convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Conv2d(4, 4, 1)
        self.conv.register_forward_hook(lambda module, args, output: self.more(output))
        self.conv.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


@odd(META, 2 * CONV)
class Checkpoints(Conv):
    """Runs its convolution under both kinds of checkpoints."""

    def forward(self, x: torch.Tensor) -> Any:
        return checkpoint(self.conv, x, use_reentrant=True) + checkpoint(self.conv, x, use_reentrant=False)


@odd(META, 2 * CONV)
class NormsItsWeights(nn.Module):
    """Weight norm, as it was and as it is."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.old = nn.utils.weight_norm(nn.Conv2d(3, 4, 3, padding=1))
        self.new = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3, padding=1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.old(x) + self.new(x)


@odd(META, 2 * (CONV + 4 * 27 + 4))
class SpectralNorms(nn.Module):
    """Spectral norm, as it was and as it is: in eval mode, it multiplies the weight with two vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.old = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3, padding=1))
        self.new = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, padding=1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.old(x) + self.new(x)


class Symmetric(nn.Module):
    """A weight that is its own transpose."""

    def forward(self, weight: torch.Tensor) -> Any:
        return weight.triu() + weight.triu(1).T


@odd(META, 8 * 8, "8")
class Parametrized(nn.Module):
    """A weight that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        nn.utils.parametrize.register_parametrization(self.layer, "weight", Symmetric())

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)


# Attention, recurrence, and other kernels.

ATTENTION = 4 * 16 * 16 * 10 + 2 * 10 * 10 * 16


@odd(META, 2 * ATTENTION, "Nx10x16")
class Attends(nn.Module):
    """Attention with and without its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x)[0] + self.attention(x, x, x, need_weights=False)[0]


@odd(META, 2 * (ATTENTION + 2 * 16 * 32 * 10), "Nx10x16")
class Encodes(nn.Module):
    """The fast path of torch's own transformer, and a padding mask that would make nested tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)

    def forward(self, x: torch.Tensor) -> Any:
        with torch.no_grad():
            return self.encoder(x, src_key_padding_mask=torch.zeros(x.shape[0], 10, dtype=torch.bool))


@odd(META, 2 * 8 * 10 * 10 * 16, "q=Nx8x10x16", "k=Nx2x10x16", "v=Nx2x10x16")
class GroupedQueries(nn.Module):
    """Attention with fewer keys than queries."""

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True, is_causal=True)


@odd(META, 5 * (4 + 3 + 2) * 8 * (6 + 8), "Nx5x6")
class Recurs(nn.Module):
    """An LSTM over a packed sequence, a GRU, and a plain one in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.rnn = nn.RNN(6, 8, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, [5], batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0]), self.gru(x), self.rnn(x)


@odd(META, 2 * 3 * 4 * 5, "a=[2,3,4]", "b=[2,4,5]")
class Sums(nn.Module):
    """An einsum."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Any:
        return torch.einsum("bij,bjk->bik", a, b)


@odd(META, 0)
class Transforms(nn.Module):
    """A Fourier transform there and back."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.fft.irfft2(torch.fft.rfft2(x) * 2)


@odd(META, 4 * 3 * 9 * 64)
class Deforms(nn.Module):
    """A deformable convolution, and the pooling of boxes that are suppressed before."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision import ops

        self.ops = ops
        self.conv = ops.DeformConv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x, torch.zeros(1, 18, 8, 8))
        boxes = torch.rand(7, 4)
        return self.ops.roi_align(y, [boxes[self.ops.nms(boxes, torch.rand(7), 0.5)]], 7)


@odd(CPU, 8 * 16, "8")
class Quantizes(nn.Module):
    """A layer that was quantized dynamically."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
            self.layers = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x)


# Modes, compilers, threads.


@odd(META, 2 * CONV)
class SwitchesModes(Conv):
    """Runs without gradients, and in inference mode."""

    def forward(self, x: torch.Tensor) -> Any:
        with torch.no_grad():
            y = self.conv(x)
        with torch.inference_mode():
            return y, self.conv(x)


@odd(META, CONV)
def compiled() -> nn.Module:
    """A compiled model."""
    model: Any = torch.compile(MakesTensors())
    return model  # type: ignore[no-any-return]


@odd(META, CONV)
def scripted() -> Any:
    """A scripted model."""
    return torch.jit.script(PlainConv())


@odd(CPU, CONV)
def traced() -> Any:
    """A model that torch.jit traced, which takes an input to be made."""
    return torch.jit.trace(PlainConv(), torch.zeros(1, 3, 8, 8), check_trace=False)


class PlainConv(nn.Module):
    """What a script can read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y


@odd(META, 4 * 3 * 9 * 64)
class IsLazy(nn.Module):
    """Learns its sizes as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(4, 3, padding=1)
        self.norm = nn.LazyBatchNorm2d()

    def forward(self, x: torch.Tensor) -> Any:
        return self.norm(self.conv(x))


@odd(META, CONV)
class RunsInAThread(Conv):
    """Leaves the work to another thread."""

    def forward(self, x: torch.Tensor) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.conv, x).result()


# Odd Python.


@odd(META, CONV)
class HoldsItself(Conv):
    """Its child holds it again."""

    def __init__(self) -> None:
        super().__init__()
        self.itself = [self]
        self.child = nn.Identity()
        self.child.parent = self


@odd(META, CONV)
class FindsEverything(Conv):
    """Has every attribute that it is asked for."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return "anything"


@odd(META, CONV)
class IsFrozen(Conv):
    """Refuses to be changed, and has slots."""

    __slots__ = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        vars(self)["done"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        if vars(self).get("done"):
            raise AttributeError(f"frozen: {name}")
        super().__setattr__(name, value)


@odd(META, CONV)
class RefusesModes(Conv):
    """Has an ``eval`` and a ``train`` of its own, which do not work."""

    def eval(self) -> Any:
        raise RuntimeError("no eval")

    def train(self) -> Any:  # type: ignore[override]
        return self


@odd(META, 8 * 100 * 5, "Nx5:int64")
class TiesWeights(nn.Module):
    """One weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 8, sparse=True)
        self.head = nn.Linear(8, 100, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> Any:
        return self.head(self.embedding(ids))


@odd(META, CONV)
def doubled() -> nn.Module:
    """A model in float64."""
    return Conv().double()


@odd(META, CONV)
def brained() -> nn.Module:
    """A model in bfloat16."""
    return Conv().bfloat16()


@odd(META, CONV, "3x8x8:complex64")
def complex_() -> nn.Module:
    """A model of complex numbers, whose convolution torch makes of three real ones."""
    return Conv().to(torch.complex64)


LOG: list[int] = []


@odd(META, CONV)
class ChangesTheWorld(Conv):
    """Changes every global state that it finds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)

    def forward(self, x: torch.Tensor) -> Any:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(3)
        torch.set_grad_enabled(False)
        random.seed(0)
        numpy.random.seed(0)
        self.runs = 1
        self.conv.seen = True
        LOG.append(1)
        return self.conv(x)


# Data-dependent control flow.


@odd(CPU, CONV)
class Branches(Conv):
    """Decides by what it computed."""

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x)
        return y if y.mean().item() < 1e9 else self.conv(y)


@odd(CPU, CONV)
class ReturnsNumbers(Conv):
    """Leaves torch for numpy and for Python's lists."""

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x)
        return y.detach().numpy(), y.flatten().tolist()


@odd(FAKE, 0, "Nx8")
class IsSparse(nn.Module):
    """Makes a sparse tensor, for which meta has no kernel."""

    def forward(self, x: torch.Tensor) -> Any:
        return x.to_sparse().to_dense()
