"""Models of diffusers: one config with ``_class_name``, or a pipeline's folder with one for each of its models.

A pipeline calls its denoiser at every step, and its other models once; each is counted by itself, for one call.
"""

from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convstat.errors import SourceError, UsageError, did_you_mean
from convstat.grammar.sizes import Sizes
from convstat.patches.offline import offline
from convstat.patches.quiet import unlogged
from convstat.targets.entry import plain
from convstat.targets.huggingface import files
from convstat.targets.huggingface.library import importing
from convstat.targets.huggingface.running import chosen
from convstat.trace.foreign import users_code
from convstat.trace.recipe import Example, Recipe

if TYPE_CHECKING:
    import torch

DENOISERS = ("transformer", "unet", "prior")
"""What a pipeline calls the model that it runs at every step: the one that is counted where none is named."""

WORDS, FRAMES, PICTURE = 77, 4, 64
"""The tokens of a prompt, the frames and the side of a latent, where no config says it."""

WIDTHS = ("cross_attention_dim", "joint_attention_dim", "caption_channels", "text_embed_dim", "text_dim",
          "encoder_hid_dim", "caption_dim", "cap_feat_dim", "text_feat_dim", "context_in_dim")  # fmt: skip
"""What a config calls the width of what the text encoder gives."""


def recipe(
    argument: str,
    config: files.Config,
    variant: str | None,
    overrides: Mapping[str, Any],
    of_transformers: Callable[[str, Mapping[str, Any]], Recipe],
) -> Recipe:
    """Say how to make a model of diffusers, or one of a pipeline's, which may be one of transformers."""
    if config.library == "diffusers":
        if variant is not None:
            raise UsageError(f"{config.path} is one model, and has none called '{variant}'")
        return _model(argument, config.fields, overrides)
    folder = os.path.dirname(config.path)
    known = models_of(config)
    if not known:
        raise SourceError(f"{config.path} names no model whose config lies beside it")
    name = variant or next((name for name in DENOISERS if name in known), known[0])
    if name not in known:
        raise UsageError(
            f"the pipeline {folder} has no model '{name}'",
            help=(*did_you_mean(name, known), f"its models: {', '.join(f'#{other}' for other in known)}"),
        )
    inner = files.read(os.path.join(folder, name, files.CONFIG))
    if inner.library == "transformers":
        return of_transformers(argument, inner.fields)
    found = _model(argument, inner.fields, overrides)
    others = ", ".join(f"#{other}" for other in known if other != name)
    said = f"{name} of {config.fields['_class_name']}" + (f"; its other models: {others}" if others else "")
    return replace(found, notes=(said, *found.notes))


def models_of(config: files.Config) -> list[str]:
    """The models of a pipeline whose configs are there, by their names in it."""
    folder = os.path.dirname(config.path)
    return [
        name
        for name, value in config.fields.items()
        if isinstance(value, list) and os.path.isfile(os.path.join(folder, name, files.CONFIG))
    ]


def _model(source: str, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> Recipe:
    name = str(given.get("_class_name"))
    with importing(source, "diffusers"):
        import diffusers

        cls = getattr(diffusers, name, None)
    if cls is None or not hasattr(cls, "from_config"):
        known = [other for other in dir(diffusers) if other.endswith(("Model", "KL", "Transformer"))]
        raise SourceError(f"{source}: diffusers has no class '{name}'", help=did_you_mean(name, known))
    values = {key: plain(value) for key, value in overrides.items()}
    _check(source, cls, given, values)
    fields = {**given, **values}

    def make() -> tuple[torch.nn.Module, Example | None]:
        with offline(), unlogged("diffusers"), users_code(f"{source} could not be created"):
            return cls.from_config(fields), None

    return Recipe(name, source, "config", make)


def _check(source: str, cls: type[Any], given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in values:
        if name not in known and name not in given:
            raise UsageError(f"{source} has no field '{name}'", help=did_you_mean(name, known))


def is_model(module: Any) -> bool:
    """Whether a module is one of diffusers."""
    import sys

    library = sys.modules.get("diffusers.models.modeling_utils")
    return library is not None and isinstance(module, library.ModelMixin)


def example(source: str, module: Any, sizes: Sizes, batch: int, dtype: torch.dtype | None) -> Example:
    """Make the inputs of a model of diffusers: what its config says of them, in the way that runs."""
    for name in ("prefill", "decode", "audio"):
        if name in sizes.asked:
            raise UsageError(f"{source}, a model of diffusers, takes no --{name}", help="it takes --image and --tokens")
    ways = list(itertools.islice(_ways(module, sizes, batch, dtype), 64))
    found = ways[0] if len(ways) == 1 else chosen(module, ways, dtype)[0]
    notes = []
    text = next((found[name] for name in ("encoder_hidden_states",) if name in found), None)
    if text is not None and sizes.tokens is None:
        notes.append(f"counted for a prompt of {text.shape[1]} tokens; --tokens sets another number")
    return Example(kwargs=found, notes=tuple(notes))


def _ways(module: Any, sizes: Sizes, batch: int, dtype: torch.dtype | None) -> Iterator[dict[str, Any]]:
    """What may go in, the most usual first."""
    import torch

    config: Any = module.config
    own = dtype or next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    names = inspect.signature(module.forward).parameters
    main = "sample" if "sample" in names else "hidden_states" if "hidden_states" in names else next(iter(names))
    words = sizes.tokens or WORDS

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(batch, *shape, dtype=own)

    fixed: dict[str, Any] = {}
    for name in ("timestep", "guidance", "timestep_cond", "class_labels"):
        needed = {
            "guidance": bool(_get(config, "guidance_embeds")),
            "class_labels": bool(_get(config, "num_class_embeds") or _get(config, "num_embeds_ada_norm")),
            "timestep": True,
        }
        if name in names and needed.get(name):
            fixed[name] = torch.zeros(batch, dtype=torch.int64 if name == "class_labels" else own)
    if "pooled_projections" in names and (width := _get(config, "pooled_projection_dim")):
        fixed["pooled_projections"] = zeros(width)
    if "added_cond_kwargs" in names and _get(config, "addition_embed_type") == "text_time":
        times = 6
        width = config.projection_class_embeddings_input_dim - times * config.addition_time_embed_dim
        fixed["added_cond_kwargs"] = {"text_embeds": zeros(width), "time_ids": zeros(times)}
    elif "added_cond_kwargs" in names:
        fixed["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    texts: Sequence[dict[str, Any]] = [{}]
    if "encoder_hidden_states" in names:
        widths = [w for name in WIDTHS if isinstance(w := _get(config, name), int)]
        texts = [{"encoder_hidden_states": zeros(words, width)} for width in dict.fromkeys(widths)] or [{}]
    for latent in _latents(config, sizes, zeros):
        for text in texts:
            inputs = {main: latent, **text, **fixed}
            if "img_ids" in names and latent.dim() == 3:
                inputs["img_ids"] = torch.zeros(latent.shape[1], 3, dtype=own)
                inputs["txt_ids"] = torch.zeros(words, 3, dtype=own)
            yield inputs
            if "resolution" in fixed.get("added_cond_kwargs", {}):
                sizes_of = {"resolution": zeros(2), "aspect_ratio": zeros(1)}
                yield {**inputs, "added_cond_kwargs": sizes_of}
            if "encoder_attention_mask" in names and text:
                yield {**inputs, "encoder_attention_mask": torch.ones(batch, words, dtype=own)}


def _latents(config: Any, sizes: Sizes, zeros: Callable[..., torch.Tensor]) -> Iterator[torch.Tensor]:
    channels = _get(config, "in_channels") or 4
    size = _get(config, "sample_size") or (_get(config, "sample_height"), _get(config, "sample_width"))
    size = size if size != (None, None) else PICTURE
    height, width = sizes.image or ((size, size) if isinstance(size, int) else tuple(size)[-2:])
    frames = _get(config, "sample_frames") or FRAMES
    # The first frame is by itself, and of the others so many become one.
    frames = (frames - 1) // (_get(config, "temporal_compression_ratio") or 1) + 1
    yield zeros(channels, height, width)
    # Patches of 2 x 2, packed by the pipeline.
    yield zeros(max(height // 2, 1) * max(width // 2, 1), channels)
    yield zeros(channels, frames, height, width)
    yield zeros(frames, channels, height, width)


def _get(config: Any, name: str) -> Any:
    return config.get(name)
