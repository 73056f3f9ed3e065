"""What one would write without convstat: build the network once, and ask each counter that is installed."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any


def ptflops(model: Any, image: Any) -> Any:
    """Both of its backends."""
    from ptflops import get_model_complexity_info

    shape = tuple(image.shape[1:])
    return [
        get_model_complexity_info(model, shape, backend=backend, as_strings=False, print_per_layer_stat=False)
        for backend in ("pytorch", "aten")
    ]


def torchsummary(model: Any, image: Any) -> Any:
    """It prints its answer."""
    from torchsummary import summary

    return summary(model, tuple(image.shape[1:]), device="cpu")


def flopcountermode(model: Any, image: Any) -> Any:
    """torch's own."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as mode:
        model(image)
    return mode.get_total_flops()


def torchinfo(model: Any, image: Any) -> Any:
    """It runs the model once."""
    from torchinfo import summary

    return summary(model, input_data=(image,), verbose=0).total_mult_adds


def thop(model: Any, image: Any) -> Any:
    """Whichever of the two distributions there is."""
    from thop import profile

    return profile(model, inputs=(image,), verbose=False)


def fvcore(model: Any, image: Any) -> Any:
    """It asks torch.jit.trace."""
    from fvcore.nn import FlopCountAnalysis, parameter_count

    return FlopCountAnalysis(model, (image,)).total(), parameter_count(model)[""]


def torchprofile(model: Any, image: Any) -> Any:
    """So does this one."""
    from torchprofile import profile_macs

    return profile_macs(model, (image,))


def calflops(model: Any, image: Any) -> Any:
    """By the shape of a picture, as its own page shows; where it is installed alone, the part of it that counts."""
    try:
        from calflops import calculate_flops
    except ImportError:
        from convstat.counters.deepspeed.load import calflops

        calculate_flops = calflops()[0].calculate_flops
    return calculate_flops(model, input_shape=tuple(image.shape), output_as_string=False, print_results=False)


def deepspeed(model: Any, image: Any) -> Any:
    """Its profiler alone, likewise."""
    try:
        from deepspeed.profiling.flops_profiler import get_model_profile
    except ImportError:
        from convstat.counters.deepspeed.load import deepspeed

        get_model_profile = deepspeed().get_model_profile
    return get_model_profile(model, input_shape=tuple(image.shape), print_profile=False, as_string=False)


def torchscan(model: Any, image: Any) -> Any:
    """It crawls the modules."""
    from torchscan import crawl_module

    return crawl_module(model, tuple(image.shape[1:]))


def torchstat(model: Any, image: Any) -> Any:
    """It prints a table."""
    from torchstat import stat

    return stat(model, tuple(image.shape[1:]))


ALL: tuple[Callable[[Any, Any], Any], ...] = (
    ptflops,
    torchsummary,
    flopcountermode,
    torchinfo,
    thop,
    fvcore,
    torchprofile,
    calflops,
    deepspeed,
    torchscan,
    torchstat,
)


def main(name: str) -> None:
    """Print which of them answered."""
    from convstat.patches.operators import torchvision_compat

    # Where torchvision's wheel does not fit the torch that is installed, neither it nor ptflops could be imported.
    torchvision_compat()
    import torch
    import torchvision

    model = torchvision.models.get_model(name, weights=None).eval()
    image = torch.rand(1, 3, 224, 224)
    answered = []
    for ask in ALL:
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            ask(model, image)
            answered.append(ask.__name__)
    print(*answered)


if __name__ == "__main__":
    main(sys.argv[1])
