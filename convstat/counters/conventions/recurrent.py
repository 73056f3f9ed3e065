"""Recurrent layers: one operator for an exporter, and many kernels in a trace."""

from __future__ import annotations

from convstat.counters.layer_work import RECURRENT
from convstat.trace import ModuleInfo

_HOME = "torch.nn.modules.rnn."


def is_recurrent(info: ModuleInfo) -> bool:
    """Whether a module is an RNN, a GRU or an LSTM."""
    return RECURRENT in (info.type, *info.bases)


def is_lstm(info: ModuleInfo) -> bool:
    """Whether a module is an LSTM."""
    return f"{_HOME}LSTM" in (info.type, *info.bases)
