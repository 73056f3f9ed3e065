"""onnxsim: the MACs of four operators of an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.conventions.base import Convention, without_params
from convstat.counters.conventions.convolution import Convolution
from convstat.counters.conventions.recurrent import is_recurrent
from convstat.counters.conventions.rules import EVERY_PRODUCT, convolutions, table
from convstat.counters.kernel_walk import walk
from convstat.counters.products import fused_modules

if TYPE_CHECKING:
    from convstat.counters.base import Prediction
    from convstat.trace import ModuleInfo, Trace

RULES = table(EVERY_PRODUCT, convolutions(lambda call: [(None, Convolution.of(call).products)]))


class Onnxsim(Convention):
    """The line ``MACs`` of ``onnxsim``'s table; its FLOPs are twice that."""

    name = "onnxsim"
    as_exported = True
    unit = "MACs of convolutions and matrix products"
    source = "onnxsim 0.8.1, model_info.py"
    counts = "MACs of Conv, ConvTranspose, Gemm and MatMul in the graph of torch.onnx.export, without bias"
    defects = ("Recurrent layers, which are one operator in ONNX, cost nothing.",)

    def walk(self, trace: Trace) -> Prediction:
        """Price the products."""
        return without_params(walk(trace, RULES, unseen=_unseen), fused=fused_modules(trace))


def _unseen(info: ModuleInfo) -> str | None:
    return "no_rule" if is_recurrent(info) else None


ONNXSIM = Onnxsim()
