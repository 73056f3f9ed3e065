"""What one would write without convstat to see that a large model runs: make it on meta, and run it there once.

The arguments are a file, a function in it that makes the model, and perhaps the length of its input of tokens;
without one, the function gives the inputs along with the model.
"""

from __future__ import annotations

import runpy
import sys


def main(file: str, name: str, length: str = "") -> None:
    """Make and run it."""
    import torch

    with torch.device("meta"):
        made = runpy.run_path(file)[name]()
        model, inputs = (made, (torch.zeros(1, int(length), dtype=torch.int64),)) if length else made
        if length:
            # It makes tensors of its own as it runs.
            model.eval()(*inputs)
            return
    model.eval()(**{name: value.to("meta") for name, value in inputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
