"""What one would write without convstat: build the network, run ptflops and torchsummary on it, read both."""

from __future__ import annotations

import sys


def main(path: str) -> None:
    """Print what the two tools say about the network of a spec."""
    from convstat.patches.operators import torchvision_compat

    # ptflops imports torchvision, whose wheel may not fit the torch that is installed.
    torchvision_compat()
    import ptflops
    import torchsummary

    from convstat.targets import resolve
    from convstat.targets.analysis import graph_of
    from convstat.targets.request import Request
    from convstat.trace import build

    graph = graph_of(Request(resolve(path)))
    model = build.build(graph, device="cpu", dtype="float32").eval()
    shape = graph.inputs[0].shape[1:]
    macs, params = ptflops.get_model_complexity_info(
        model, shape, backend="pytorch", as_strings=False, print_per_layer_stat=False
    )
    torchsummary.summary(model, shape, device="cpu")
    print(macs, params)


if __name__ == "__main__":
    main(sys.argv[1])
