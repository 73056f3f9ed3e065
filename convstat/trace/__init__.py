"""Run an nn.Module once and record the tree of its calls.

``from convstat.trace.record import record`` runs it, and needs torch; the data here do not.
"""

from __future__ import annotations

from convstat.trace.calls import (
    BufferInfo,
    Call,
    DictInfo,
    FunctionCall,
    KernelCall,
    ListInfo,
    ModuleCall,
    ModuleInfo,
    ObjectInfo,
    ParameterInfo,
    TensorInfo,
    Trace,
    Value,
)

__all__ = [
    "BufferInfo",
    "Call",
    "DictInfo",
    "FunctionCall",
    "KernelCall",
    "ListInfo",
    "ModuleCall",
    "ModuleInfo",
    "ObjectInfo",
    "ParameterInfo",
    "TensorInfo",
    "Trace",
    "Value",
]
