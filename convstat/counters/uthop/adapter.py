"""ultralytics-thop: hooks on modules of known kinds, and a mode that sees products called as functions.

It and the older ``thop`` are both imported as ``thop``: where both are installed, the one that was installed last
has written over files of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convstat.counters.base import Prediction
from convstat.counters.passes import Made
from convstat.counters.thop.adapter import Thop

if TYPE_CHECKING:
    from convstat.trace import Trace


class UltralyticsThop(Thop):
    """The maintained fork of thop."""

    name = "ultralytics-thop"
    made: Made = "params"
    takes_jagged = True
    other = "thop"
    help = "pip install ultralytics-thop, without thop, which has the same import name"
    counts = "operations of modules of known classes and of products called as functions, and all parameters"
    defects: tuple[str, ...] = (
        "Does not see torch.mm, addmm, baddbmm and mv, or convolutions called as functions.",
        "Does not see products inside a module with a rule, such as one added in a subclass.",
        "Counts nothing for an einsum of three operands or more.",
        "Counts the biases of recurrent layers only.",
    )

    def walk(self, trace: Trace) -> Prediction:
        """Walk the trace by its rules."""
        from convstat.counters.uthop import walk

        return walk.predict(trace)


ULTRALYTICS_THOP = UltralyticsThop()
