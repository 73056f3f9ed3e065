"""Predict ptflops' ``pytorch`` backend from a trace.

Its total is ``int(modules / batch + functions)``:
what hooks on modules of exactly known types add, divided by the first size of the first input,
plus what patched functions add, which is not divided.
A module with a rule is summed up without looking inside it, once for every module that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from convstat.counters import parameters
from convstat.counters.base import Ledger, PredictedFailure, Prediction
from convstat.counters.causes import UNATTRIBUTED
from convstat.counters.kernel_walk import is_custom
from convstat.counters.layer_work import no_attribute
from convstat.counters.products import Kernel, Work, fused_modules
from convstat.counters.ptflops.functions import RULES as FUNCTIONS
from convstat.counters.ptflops.functions import Number
from convstat.counters.ptflops.modules import RULES as MODULES
from convstat.counters.ptflops.modules import is_own
from convstat.trace import (
    Call,
    DictInfo,
    FunctionCall,
    KernelCall,
    ListInfo,
    ModuleCall,
    ModuleInfo,
    TensorInfo,
    Trace,
    Value,
)
from convstat.trace.walks import ways

_TWICE: dict[str | None, str] = {"activation": "activation_twice", "softmax": "softmax_twice", "pool": "pool_twice"}
_TWICE |= {"upsample": "upsample_twice", None: "attention_twice"}


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where the walk is: the layer, and the codes of what the hook of its module, or a function, has priced already;
    and whether a custom operator is running, which may be written in Python.
    """

    layer: str
    priced: frozenset[str | None] = frozenset()
    in_operator: bool = False


@dataclass(slots=True)
class _Walk:
    """Adds up what ptflops adds up; ``lost`` is what its terms, which are whole numbers, leave out of that."""

    trace: Trace
    batch: int
    times: dict[int, int]
    terms: Ledger
    work: Work
    modules: int = 0
    functions: list[Number] = field(default_factory=list)
    tensors: list[Number] = field(default_factory=list)
    lost: Fraction = Fraction(0)

    def walk(self, call: Call, scope: _Scope) -> None:
        if isinstance(call, KernelCall):
            # What torch's own kernels call in turn is how meta computes it; see how the tool is run there.
            if self.trace.device == "meta" or not is_custom(call):
                return
            scope = replace(scope, in_operator=True)
        elif isinstance(call, ModuleCall):
            scope = self._module(call, scope)
        elif call.name in FUNCTIONS:
            scope = self._function(call, scope)
        for child in call.children:
            self.walk(child, scope)
        if isinstance(call, ModuleCall) and call.module == 0:
            self._batch_hook(call)

    def _module(self, call: ModuleCall, scope: _Scope) -> _Scope:
        info = self.trace.modules[call.module]
        if not info.registered:
            return _Scope(scope.layer, scope.priced)
        rule, times = MODULES.get(info.type), self.times.get(info.index, 0)
        if rule is None:
            return _Scope(info.path)
        parts = rule(call, info, self.trace)
        if not times:
            # It is inside a module that has a rule: its hook adds to what nobody reads.
            return _Scope(info.path)
        for code, amount in parts:
            self.modules += times * amount
            if code is None:
                self.work.price(call, info.path, amount, is_own(info))
                self.terms.add(info.path, "per_sample", macs=self._each(amount) - amount)
            else:
                self.terms.add(info.path, code, macs=self._each(amount))
            self.terms.add(info.path, "shared_parents", macs=self._each((times - 1) * amount))
        return _Scope(info.path, frozenset(code for code, amount in parts if amount))

    def _each(self, amount: int) -> int:
        """The whole part of a sample's share."""
        self.lost += Fraction(amount % self.batch, self.batch)
        return amount // self.batch

    def _function(self, call: FunctionCall, scope: _Scope) -> _Scope:
        number, parts = FUNCTIONS[call.name](call)
        # Two lists, because floats are summed in their order.
        (self.functions if call.name.startswith("torch.nn.functional.") else self.tensors).append(number)
        is_first = None not in scope.priced or bool(self.work.inside(call))
        for code, amount in parts:
            whole = int(amount)
            self.lost += amount - whole
            if code is None and scope.in_operator:
                # The kernels that it calls are the operator's.
                self.terms.add(scope.layer, "inside_operator", macs=whole)
                continue
            if code is None and is_first:
                self.work.price(call, scope.layer, whole)
                continue
            known_as = _TWICE.get(code, code) if code is None or code in scope.priced else code
            assert known_as is not None
            # What functions do is not divided by the batch; the parts are entered as what modules do is.
            self.terms.add(scope.layer, known_as, macs=whole // self.batch)
            self.terms.add(scope.layer, "functional_batch", macs=whole - whole // self.batch)
        codes = frozenset(code for code, _ in parts)
        priced = scope.priced | (codes if None in codes else codes & {"upsample"})
        return _Scope(scope.layer, priced, scope.in_operator)

    def _batch_hook(self, call: ModuleCall) -> None:
        if call is not self.trace.root and call.args and _length(call.args[0]) is None:
            raise PredictedFailure("TypeError: the model calls itself with something that has no length")
        if len(call.args) == 1 and isinstance(call.args[0], TensorInfo) and not call.args[0].shape:
            raise PredictedFailure("TypeError: len() of a 0-d tensor")

    def why_unseen(self, kernel: Kernel) -> str:
        """Why nothing of ptflops has seen a kernel."""
        info = self.trace.modules[kernel.module]
        if not info.registered:
            return "made_later" if info.made else "unregistered"
        if info.index not in self.times:
            return "inside_counted"
        if info.type in MODULES:
            return "hook_unseen"
        if any(base in MODULES for base in info.bases):
            return "subclass_unseen"
        return "no_rule" if info.type.startswith("torch.nn.") else "functional_unseen"

    def total(self) -> int:
        """What ptflops makes of its sums, and what that rounds off."""
        total: Number = self.modules / self.batch
        total += sum(self.functions)
        total += sum(self.tensors)
        macs = int(total)
        exact = Fraction(self.modules, self.batch) + sum(map(Fraction, (*self.functions, *self.tensors)))
        rounded = self.lost + macs - exact
        self.terms.add("", "rounding", macs=int(rounded))
        # Nothing, if the parts of each rule come to what it adds.
        self.terms.add("", UNATTRIBUTED, macs=macs - self.terms.macs)
        return macs


def _holders(trace: Trace) -> dict[int, int]:
    """How often each module is summed up: along every way from the root that does not lead through a priced one."""
    return ways(trace, into=lambda info: info.type not in MODULES)


def _unhooked(trace: Trace) -> ModuleInfo | None:
    """A module of a known kind that the pass made, where the sum comes to it: it looks for what no hook has put there.

    The sum does not look inside of modules that have a rule.
    """
    ruled = {path for info in (*trace.modules, *trace.made) if info.type in MODULES for path in info.paths}
    for info in trace.made:
        around = info.path.split(".")[:-1]
        inside = ("" in ruled, *(".".join(around[:depth]) in ruled for depth in range(1, len(around) + 1)))
        if info.type in MODULES and not any(inside):
            return info
    return None


def batch_of(trace: Trace) -> int:
    """What the module part is divided by: ``len`` of the only input; 1 where inputs go by keyword.

    That is the first size of a tensor, and the number of pictures in a list of them.
    """
    args = trace.root.args
    # It takes several inputs by name. A model that calls itself adds to the batch at each call.
    first = _length(args[0]) if len(args) == 1 else None
    again = (call for call in trace.module_calls() if call.module == 0 and call is not trace.root)
    return max(1, first or 1) + sum((_length(call.args[0]) or 0) if call.args else 1 for call in again)


def _length(value: Value) -> int | None:
    """What ``len`` gives of an argument; None of what has none."""
    if isinstance(value, TensorInfo):
        return value.shape[0] if value.shape else None
    if isinstance(value, (ListInfo, DictInfo)):
        return len(value.items)
    return len(value) if isinstance(value, (tuple, str)) else None


def trainable_params(trace: Trace, terms: Ledger) -> int:
    """Enter every parameter, take out the frozen ones, and return what is left."""
    for parameter, _, layer in parameters.held(trace):
        terms.add(layer, None, params=parameter.numel)
        if not parameter.requires_grad:
            terms.add(layer, "trainable_only", params=-parameter.numel)
    return terms.params


def predict(trace: Trace) -> Prediction:
    """Say what ptflops' ``pytorch`` backend will answer."""
    if (unhooked := _unhooked(trace)) is not None:
        raise PredictedFailure(no_attribute(unhooked, "__flops__"))
    terms = Ledger()
    walk = _Walk(trace, batch_of(trace), _holders(trace), terms, Work(trace, terms))
    walk.walk(trace.root, _Scope(""))
    walk.work.unseen(trace.root, walk.why_unseen)
    macs = walk.total()
    return Prediction(trainable_params(trace, terms), macs, terms.terms(), fused=fused_modules(trace))
