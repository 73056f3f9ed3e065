"""Make torchvision importable where its compiled operators do not load.

``import ptflops`` imports torchvision if it is installed, and torchvision refuses to be imported when its compiled
part does not fit torch (its CUDA wheel beside a CPU build of torch: ``operator torchvision::nms does not exist``).
Hiding torchvision would change what ptflops counts, so its operators are declared instead:
the import then works, and a model that really calls one of them still fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from convstat.patches.room import alone, patch, rerouted

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width,"
    " int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width,"
    " SymInt batch_size, SymInt channels, SymInt height, SymInt width, int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width)"
    " -> (Tensor, Tensor)",
    "_roi_pool_backward(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt pooled_height,"
    " SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor",
    "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width,"
    " int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale,"
    " SymInt pooled_height, SymInt pooled_width, int sampling_ratio, SymInt batch_size, SymInt channels,"
    " SymInt height, SymInt width) -> Tensor",
    "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width)"
    " -> (Tensor, Tensor)",
    "_ps_roi_pool_backward(Tensor grad, Tensor rois, Tensor channel_mapping, float spatial_scale,"
    " SymInt pooled_height, SymInt pooled_width, SymInt batch_size, SymInt channels, SymInt height, SymInt width)"
    " -> Tensor",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h,"
    " SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups,"
    " SymInt offset_groups, bool use_mask) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias,"
    " SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w,"
    " SymInt groups, SymInt offset_groups, bool use_mask) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)

NOTE = (
    "torchvision's compiled operators cannot be loaded with this torch; they were declared without an implementation "
    "so that torchvision can be imported"
)

_done: list[Any] = []
"""The note, once the operators were looked at, and the library, which lives as long as its declarations."""


@alone
def torchvision_compat() -> str | None:
    """Declare the operators that torchvision lacks, before anything imports it; return a note if there were any.

    Does nothing where torchvision is not installed, is imported already, or loads its operators.
    """
    if not _done:
        # Looking for torchvision may ask again: whoever watches imports declares its operators first.
        _done.append(None)
        _done[0] = _declare_missing()
    note: str | None = _done[0]
    return note


def _declare_missing() -> str | None:
    from importlib.util import find_spec
    from pathlib import Path

    import torch

    if "torchvision" in sys.modules:
        return None
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return None
    for place in spec.submodule_search_locations:
        for library in (*Path(place).glob("_C*.so"), *Path(place).glob("_C*.pyd")):
            try:
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
            except OSError:
                continue
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.partition("(")[0])]
    if not missing:
        return None
    fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in missing:
        fragment.define(schema)  # type: ignore[no-untyped-call]
    _done.append(fragment)
    return NOTE


@patch
def declared_operators() -> Iterator[None]:
    """Let torchvision call its operators where they are declared only: on meta their answers come from us."""
    extension: Any = sys.modules.get("torchvision.extension")
    if extension is None:
        yield
        return
    with rerouted(extension, "_has_ops", lambda _: lambda: True):
        yield
