"""All of torchvision: each model, at the input of each of its published entries, against the published figures.

An entry publishes its parameters (``num_params``) and its multiply-accumulates in G, to three decimals (``_ops``).
"""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import counted
import pytest

from convstat.targets import zoo

PROPOSALS = "rpn_post_nms_top_n_test"
DETECTIONS = "box_detections_per_img"


class Measured(NamedTuple):
    """What a published figure was measured with, where that is not what the builder makes or the most it takes.

    The figures of detectors were measured by running the trained net on a picture of noise, so the second stage
    ran for as many proposals and detections as that net found there.
    Given these settings, the count is the published figure to its last digit.
    """

    settings: dict[str, int | bool]
    reason: str


MEASURED = {
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "COCO_V1"): Measured(
        {PROPOSALS: 0}, "the trained net proposed nothing in the noise: its figure is that of the first stage"
    ),
    ("fasterrcnn_mobilenet_v3_large_fpn", "COCO_V1"): Measured(
        {PROPOSALS: 0}, "the trained net proposed nothing in the noise: its figure is that of the first stage"
    ),
    ("maskrcnn_resnet50_fpn", "COCO_V1"): Measured(
        {DETECTIONS: 0}, "the trained net detected nothing in the noise: its figure has no mask head"
    ),
    ("keypointrcnn_resnet50_fpn", "COCO_LEGACY"): Measured(
        {DETECTIONS: 0}, "the trained net detected nothing in the noise: its figure has no keypoint head"
    ),
    ("keypointrcnn_resnet50_fpn", "COCO_V1"): Measured(
        {DETECTIONS: 1}, "the trained net detected one person in the noise"
    ),
    ("quantized_inception_v3", "IMAGENET1K_FBGEMM_V1"): Measured(
        {"aux_logits": True}, "it is that of the float net, with the auxiliary head that the quantized one does without"
    ),
}
"""Every entry whose published figures are not our counts with the usual settings."""

SAMPLE = (
    "alexnet",
    "convnext_tiny",
    "efficientnet_b0",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "googlenet",
    "lraspp_mobilenet_v3_large",
    "mobilenet_v2",
    "quantized_googlenet",
    "quantized_mobilenet_v2",
    "r3d_18",
    "raft_small",
    "regnet_y_400mf",
    "resnet50",
    "shufflenet_v2_x1_0",
    "ssdlite320_mobilenet_v3_large",
    "swin_t",
    "vit_b_32",
)
"""Models of every kind that are quick to count; ``make verify`` takes all."""

NAMES = [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.verify) for name in zoo.names("torchvision")]
QUANTIZED = [
    pytest.param(name, marks=() if name == "quantized_mobilenet_v2" else pytest.mark.verify)
    for name in zoo.names("torchvision")
    if name.startswith("quantized_")
]


def figure(macs: int) -> float:
    """Write MACs as the entries do."""
    return round(macs / 1e9, 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_published_entry_is_counted_exactly(name: str, torchvision: ModuleType) -> None:
    """Parameters are the published ones, and so are the MACs, at what the published figure was measured with."""
    for entry in torchvision.models.get_model_weights(name):
        target = f"torchvision/{name}#{entry.name}"
        settings, _ = MEASURED.get((name, entry.name), Measured({}, ""))
        report = counted.analyze(target, settings, counters="none")
        assert (target, entry.meta["num_params"]) == (target, report.totals.params)
        assert (target, entry.meta["_ops"]) == (target, figure(report.totals.macs))
        assert "complete" == report.status


def test_the_list_that_ships_is_the_list_of_the_zoo(torchvision: ModuleType) -> None:
    """The sweep leaves no registered model out, and every model has an entry that it is compared with."""
    assert tuple(sorted(torchvision.models.list_models())) == zoo.names("torchvision")
    assert [] == [name for name in zoo.names("torchvision") if not list(torchvision.models.get_model_weights(name))]


@pytest.mark.parametrize(
    ("name", "entry"),
    [pytest.param(*key, id="#".join(key), marks=() if key[0] in SAMPLE else pytest.mark.verify) for key in MEASURED],
)
def test_an_exception_is_one(name: str, entry: str, torchvision: ModuleType) -> None:
    """With the usual settings a figure is another one; where a number was assumed, the report says which."""
    report = counted.analyze(f"torchvision/{name}#{entry}", counters="none")
    published = torchvision.models.get_model_weights(name)[entry].meta
    settings, _ = MEASURED[name, entry]
    assert (published["num_params"], published["_ops"]) != (report.totals.params, figure(report.totals.macs))
    for setting in {PROPOSALS, DETECTIONS} & set(settings):
        assert published["_ops"] < figure(report.totals.macs)
        assert [note for note in report.model.notes if setting in note]


TWO_STAGES = (
    # name, MACs of a proposal in the box head and its two predictors, of a detection in the head behind
    ("fasterrcnn_mobilenet_v3_large_320_fpn", 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (91 + 4 * 91), 0),
    ("fasterrcnn_resnet50_fpn", 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (91 + 4 * 91), 0),
    (
        "fasterrcnn_resnet50_fpn_v2",
        4 * 256 * 256 * 9 * 7 * 7 + 256 * 7 * 7 * 1024 + 1024 * (91 + 4 * 91),
        0,
    ),
    (
        "keypointrcnn_resnet50_fpn",
        256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (2 + 4 * 2),
        256 * 512 * 9 * 14 * 14 + 7 * 512 * 512 * 9 * 14 * 14 + 512 * 17 * 4 * 4 * 14 * 14,
    ),
)


@pytest.mark.parametrize(
    ("name", "proposal", "detection"),
    [pytest.param(*row, id=row[0], marks=() if row[0] in SAMPLE else pytest.mark.verify) for row in TWO_STAGES],
)
def test_what_a_figure_was_measured_with_is_the_only_possibility(
    name: str, proposal: int, detection: int, torchvision: ModuleType
) -> None:
    """Of all numbers of proposals and detections that the net can find, one alone gives the published figure."""
    target = f"torchvision/{name}"
    none = counted.analyze(target, {PROPOSALS: 0, DETECTIONS: 0}, counters="none").totals.macs
    some = counted.analyze(target, {PROPOSALS: 5, DETECTIONS: 3}, counters="none").totals.macs
    assert none + 5 * proposal + 3 * detection == some
    for entry in torchvision.models.get_model_weights(name):
        found = MEASURED.get((name, entry.name), Measured({}, "")).settings
        possible = [
            (proposals, detections)
            for proposals in range(1001)
            for detections in (range(101) if detection else (0,))
            if figure(none + proposals * proposal + detections * detection) == entry.meta["_ops"]
        ]
        assert [(found.get(PROPOSALS, 1000), found.get(DETECTIONS, 0))] == possible


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_net_that_is_really_quantized_has_the_macs_of_its_float_form(name: str, torchvision: ModuleType) -> None:
    """Its kernels are counted one by one; folding removes two parameters and adds a bias for each norm's channel."""
    plain = counted.analyze(f"torchvision/{name}", counters="none")
    quantized = counted.analyze(f"torchvision/{name}", {"quantize": True}, counters="none")
    assert plain.totals.macs == quantized.totals.macs
    assert "complete" == quantized.status
    assert "float32+qint8" == quantized.model.dtype
    channels = sum(row.params // 2 for row in plain.layers if row.type.startswith("BatchNorm"))
    assert plain.totals.params - channels == quantized.totals.params
    assert quantized.totals.weight_bytes < plain.totals.weight_bytes / 3


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing exists yet, on a machine where no connection can be made."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("a connection was tried")

    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("target", "overrides"),
    [
        ("torchvision/resnet18", {}),
        ("torchvision/lraspp_mobilenet_v3_large", {}),
        ("torchvision/ssdlite320_mobilenet_v3_large#none", {"weights_backbone": "DEFAULT"}),
        ("torchvision/mobilenet_v3_small", {"weights": "DEFAULT"}),
        ("torchvision/quantized_mobilenet_v2", {"quantize": True}),
    ],
)
def test_nothing_is_downloaded_and_no_cache_is_written(
    target: str, overrides: dict[str, object], offline: Path, torchvision: ModuleType
) -> None:
    """Neither by default, nor where a builder is asked for weights: they change no count."""
    inputs = ("3x320x320",) if "#none" in target else ()
    assert counted.analyze(target, overrides, inputs=inputs, counters="none").totals.params > 0
    assert not offline.exists()


def test_a_download_would_be_seen(offline: Path) -> None:
    """The fixture of the test above makes a download fail, and a folder is seen when there is one."""
    with pytest.raises(urllib.error.URLError, match="a connection was tried"):
        urllib.request.urlopen("http://127.0.0.1:9/")
    os.mkdir(offline)
    assert offline.exists()
