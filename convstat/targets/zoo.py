"""Model zoos: ``torchvision/NAME[#WEIGHTS]`` and ``timm/NAME``, built without weights.

A third one, ``transformers/TYPE``, is listed here too; how its models are made is in
:mod:`convstat.targets.huggingface`.


A torchvision name is built as its published entry was (``#WEIGHTS``, by default the zoo's own default):
its image size, its number of classes, its frozen norms. Nothing is downloaded and nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.patches.quiet import unwarned
from convstat.patches.room import patch, rerouted
from convstat.targets.entry import plain
from convstat.trace.foreign import users_code
from convstat.trace.recipe import Example, Recipe

if TYPE_CHECKING:
    import torch

    from convstat.results.report import Report

ZOOS = ("torchvision", "timm", "transformers")

PATH = Path(__file__).with_name("zoo_names.txt")
"""The list of names that ships; ``make zoo-names`` writes it."""


def names(zoo: str) -> tuple[str, ...]:
    """The names in a zoo, from the list that ships: needs neither torch nor the zoo."""
    lines = PATH.read_text(encoding="utf-8").splitlines() if PATH.is_file() else []
    return tuple(line.partition("/")[2] for line in lines if line.startswith(f"{zoo}/"))


def installed_names(zoo: str) -> tuple[str, ...]:
    """The names in a zoo, from the zoo itself; none where it is not installed."""
    from importlib.util import find_spec

    if find_spec(zoo) is None:
        return ()
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    with _importing(zoo):
        if zoo == "transformers":
            from convstat.targets.huggingface.tasks import types

            return types()
        if zoo == "torchvision":
            from torchvision import models

            return tuple(sorted(models.list_models()))
        import timm

        return tuple(sorted(timm.list_models()))


def variants(argument: str) -> tuple[str, ...]:
    """The published entries of a model, as they are written behind its ``#``."""
    zoo, _, name = argument.partition("/")
    if zoo == "transformers":
        raise UsageError(f"{argument} has no variants", help="choose the class with --task")
    if zoo != "torchvision":
        raise UsageError(f"{argument} has no variants", help="timm names its weights in the name")
    return tuple(entry.name for entry in _models(name).get_model_weights(name))


def recipe(argument: str, variant: str | None, overrides: Mapping[str, Any]) -> Recipe:
    """Say how to make a zoo's model; raises SourceError where the zoo is missing or has no such model."""
    zoo, _, name = argument.partition("/")
    keywords = {key: plain(value) for key, value in overrides.items()}
    make = _torchvision if zoo == "torchvision" else _timm
    return make(name, variant, keywords)


def _torchvision(name: str, variant: str | None, keywords: dict[str, Any]) -> Recipe:
    from convstat.patches.operators import torchvision_compat

    note = torchvision_compat()
    models = _models(name)
    builder = models.get_model_builder(name)
    entry = _entry(name, variant, models)
    source = f"torchvision/{name}" + (f"#{variant}" if variant else "")
    quantize = bool(keywords.get("quantize")) and "quantized" in name
    # What a quantized net's entry publishes is its float net; unless it is to be quantized, the builder wants that.
    weights = entry if entry is None or quantize else entry.meta.get("unquantized", entry)

    def make() -> tuple[torch.nn.Module, Example | None]:
        with users_code(f"{source} could not be created"), _no_weights(), unwarned():
            try:
                return builder(**{"weights": weights, **keywords}), None
            except ValueError as error:
                # The entry has other sizes than those asked for, and nobody asked for the entry.
                if variant is not None or "weights" in keywords or "expected value" not in str(error):
                    raise
            return builder(**keywords), None

    usual = None if entry is None else _torchvision_inputs(entry)
    # Detectors read values only after the last product, to paste their results together.
    is_detector = builder.__module__.startswith("torchvision.models.detection")
    return Recipe(
        name,
        source,
        "zoo",
        make,
        usual,
        notes=(note,) if note else (),
        assume_values=is_detector,
        needs_cpu=quantize,
        explain=_second_stage if is_detector else None,
    )


def _models(name: str) -> Any:
    """torchvision's models, of which ``name`` has to be one."""
    from convstat.patches.operators import torchvision_compat

    torchvision_compat()
    with _importing("torchvision"):
        from torchvision import models

    known = models.list_models()
    if name not in known:
        raise _unknown("torchvision", name, known)
    return models


def _second_stage(report: Report) -> tuple[str, ...]:
    """Say for how many proposals and detections the heads of a two-stage detector were counted: it takes no more."""

    def samples(head: str) -> int | None:
        rows = (row for row in report.layers if row.name.startswith(f"roi_heads.{head}.") and row.input_shapes)
        return next((row.input_shapes[0][0] for row in rows if row.input_shapes[0]), None)

    proposals = samples("box_predictor")
    if proposals is None:
        return ()
    notes = [f"the box head is counted for {proposals:,} proposals (rpn_post_nms_top_n_test)"]
    for head, name in (("mask_predictor", "mask"), ("keypoint_predictor", "keypoint")):
        if (detections := samples(head)) is not None:
            notes.append(f"the {name} head is counted for {detections:,} detections (box_detections_per_img)")
    return tuple(notes)


def _entry(name: str, variant: str | None, models: Any) -> Any:
    """The published entry: the one named, the zoo's default, or None for ``#none``."""
    if variant == "none":
        return None
    entries = list(models.get_model_weights(name))
    if variant is None or variant == "DEFAULT":
        enum = models.get_model_weights(name)
        return enum.DEFAULT if entries else None
    by_name = {entry.name: entry for entry in entries}
    if variant not in by_name:
        known = ", ".join([*by_name, "none"])
        raise SourceError(
            f"torchvision/{name} has no weights '{variant}'",
            help=(*did_you_mean(variant, by_name), f"its entries: {known}"),
        )
    return by_name[variant]


@patch
def _no_weights() -> Iterator[None]:
    """Let builders that were given a weights entry go through without fetching or loading it."""
    from torch import nn
    from torchvision.models import _api

    def empty(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}

    def keep(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return nn.modules.module._IncompatibleKeys([], [])

    with (
        rerouted(_api.WeightsEnum, "get_state_dict", lambda _: empty),
        rerouted(nn.Module, "load_state_dict", lambda _: keep),
    ):
        yield


def _torchvision_inputs(entry: Any) -> Callable[[int], Example]:
    """The input of the published figures: what the entry's transforms make of a 512 x 512 picture.

    Videos have 16 frames; optical flow takes a pair; detectors a list of pictures.
    """

    def usual(batch: int) -> Example:
        import torch

        transforms, preset = entry.transforms(), _preset_name(entry)
        with torch.device("cpu"):
            if "OpticalFlow" in preset:
                pair = transforms(torch.zeros(batch, 3, 512, 512), torch.zeros(batch, 3, 512, 512))
                return Example(args=tuple(pair))
            if "Video" in preset:
                clip = transforms(torch.zeros(16, 3, 512, 512, dtype=torch.uint8))
                return Example(args=(clip.unsqueeze(0).expand(batch, *clip.shape),))
            if "Detection" in preset:
                return Example(args=([torch.zeros(3, 512, 512)] * batch,))
            picture = _classified(transforms)
            return Example(args=(picture.unsqueeze(0).expand(batch, *picture.shape),))

    return usual


def _preset_name(entry: Any) -> str:
    """The name of the class that makes an entry's transforms, which may stand in a ``partial``."""
    preset = entry.value.transforms
    return str(getattr(preset, "func", preset).__name__)


def _classified(transforms: Any) -> torch.Tensor:
    """The shape that a preset for single pictures gives; classification ones say it without being run."""
    import torch

    crop = getattr(transforms, "crop_size", None)
    if crop is not None:
        return torch.empty(3, crop[0], crop[-1])
    picture: torch.Tensor = transforms(torch.zeros(3, 512, 512, dtype=torch.uint8))
    return picture


def _timm(name: str, variant: str | None, keywords: dict[str, Any]) -> Recipe:
    if variant is not None:
        raise UsageError(f"timm names its weights in the name: timm/{name}.{variant}")
    from convstat.patches.operators import torchvision_compat

    note = torchvision_compat()
    with _importing("timm"):
        import timm

    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    if keywords.pop("pretrained", False):
        raise UsageError("weights are never loaded", help="omit pretrained=true: it does not change counts")
    config = timm.get_pretrained_cfg(name)

    def make() -> tuple[torch.nn.Module, Example | None]:
        with users_code(f"timm/{name} could not be created"):
            return timm.create_model(name, pretrained=False, **keywords), None

    def usual(batch: int) -> Example:
        import torch

        return Example(args=(torch.empty(batch, *_timm_size(config, keywords)),))

    return Recipe(name, f"timm/{name}", "zoo", make, usual, (note,) if note else ())


def _timm_size(config: Any, keywords: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels, height and width: those of the published entry, unless the model was made for others."""
    channels, *size = config.input_size if config else (3, 224, 224)
    asked = keywords.get("img_size")
    if asked is not None:
        size = list(asked) if isinstance(asked, (list, tuple)) else [asked, asked]
    return (keywords.get("in_chans", channels), *size)


@contextmanager
def _importing(zoo: str) -> Iterator[None]:
    from convstat.patches.imports import compiler_on_demand

    try:
        with compiler_on_demand():
            yield
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == zoo:
            raise SourceError(f"{zoo} is not installed", help=f"pip install {zoo}") from None
        raise SourceError(f"{zoo} cannot be imported: {error}") from None
    except RuntimeError as error:
        raise SourceError(
            f"{zoo} cannot be imported with this torch: {str(error).splitlines()[0]}",
            help=f"install the build of {zoo} for the installed torch",
        ) from None


def _unknown(zoo: str, name: str, known: list[str]) -> SourceError:
    return SourceError(
        f"{zoo} has no model '{name}'", help=did_you_mean(name, known, also=f"convstat list zoo {zoo}/{name[:4]}")
    )
