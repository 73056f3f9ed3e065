"""What a model of transformers is given: token ids, pictures and sounds of the sizes that were asked for.

A config says how large a picture is, how many bands a spectrogram has, how many positions there are; the signature of
the forward pass says what it takes. Where both leave several ways open, each is tried on the meta device, the most
usual first, and the first that runs is taken.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from convstat.errors import UsageError
from convstat.grammar.sizes import Sizes
from convstat.targets.huggingface import cache
from convstat.targets.huggingface.running import chosen, run
from convstat.trace.recipe import Example

if TYPE_CHECKING:
    import torch

TOKENS, SAMPLES, PICTURE = 128, 16_000, (224, 224)
"""What is counted where neither the command nor the config says it: 128 tokens, a second of sound, a usual picture."""

TEXT, VISION, AUDIO = "input_ids", ("pixel_values", "pixel_values_videos"), ("input_features", "input_values")

CONSTANTS = (TEXT, "image_grid_thw", "image_sizes", "mm_token_type_ids", "image_position_ids")
"""Inputs whose values say how large others are, or which of the tokens stand for a picture."""

Inputs = dict[str, Any]


def core_of(module: Any) -> Any | None:
    """The model of transformers in a module, which may be wrapped as adapters do it; None where there is none."""
    library = sys.modules.get("transformers.modeling_utils")
    if library is None:
        return None
    if isinstance(module, library.PreTrainedModel):
        return module
    inner = getattr(module, "get_base_model", None)
    found = inner() if callable(inner) else None
    return found if isinstance(found, library.PreTrainedModel) else None


def example(module: torch.nn.Module, sizes: Sizes, batch: int, dtype: torch.dtype | None = None) -> Example:
    """Make the inputs of a model of transformers, and with them the cache that a step of decoding begins with."""
    return _Feeding(module, sizes, batch, dtype).example()


class _Feeding:
    """One model that is fed."""

    def __init__(self, module: torch.nn.Module, sizes: Sizes, batch: int, dtype: torch.dtype | None) -> None:
        self.module, self.sizes, self.batch, self.dtype = module, sizes, batch, dtype
        core: Any = core_of(module)
        assert core is not None
        self.core: Any = core
        self.config = self.core.config
        self.name = type(self.core).__name__
        self.parameters = inspect.signature(self.core.forward).parameters
        self.main: str = getattr(self.core, "main_input_name", TEXT)
        self.notes: list[str] = []

    def example(self) -> Example:
        self._refuse()
        if self.sizes.decode is not None:
            return self._decoding(*self.sizes.decode)
        asked = self.sizes.prefill or self.sizes.tokens
        inputs = self._chosen(asked or self._usual_tokens())
        if asked is None and any(name in inputs for name in (TEXT, "decoder_input_ids")):
            self.notes.append(f"counted for {self._usual_tokens()} tokens; --tokens sets another number")
        if self.sizes.prefill is not None:
            inputs.update(self._of_prefill())
        if pictured := self._pictured(inputs):
            self.notes.append(f"{pictured:,} of the {inputs[TEXT].shape[1]:,} tokens stand for the picture")
        return Example(kwargs=inputs, notes=tuple(self.notes), constants=self._constants(inputs))

    def _constants(self, inputs: Inputs) -> frozenset[str]:
        """Those of the inputs that have values; token ids that stand for nothing but themselves are all the same."""
        return frozenset(name for name in CONSTANTS if name in inputs and (name != TEXT or self._pictured(inputs)))

    def _of_prefill(self) -> Inputs:
        """What generation asks of the first pass: a cache, and the logits of the last token alone."""
        found: Inputs = {}
        if "use_cache" in self.parameters:
            found["use_cache"] = True
        if "logits_to_keep" in self.parameters:
            found["logits_to_keep"] = 1
            self.notes.append("the logits of the last token alone are computed, as in generation (logits_to_keep=1)")
        return found

    # What is taken at all.

    def _refuse(self) -> None:
        """Refuse a size of something that the model does not take."""
        takes = {
            "tokens": self._takes(TEXT, "decoder_input_ids"),
            "prefill": self._takes(TEXT, "decoder_input_ids"),
            "decode": self._takes(TEXT, "decoder_input_ids"),
            "image": self._takes(*VISION),
            "audio": self._takes(*AUDIO),
        }
        for name in self.sizes.asked:
            if not takes[name]:
                others = [f"--{other}" for other, is_taken in takes.items() if is_taken and other in self._usual()]
                raise UsageError(
                    f"{self.name} takes no --{name}: its forward takes {self._listed()}",
                    help=f"it takes {' and '.join(others)}" if others else "give its inputs with --input",
                )

    def _usual(self) -> tuple[str, ...]:
        return ("tokens", "image", "audio")

    def _takes(self, *names: str) -> bool:
        return any(name in self.parameters for name in names)

    def _listed(self) -> str:
        names = [name for name in self.parameters if name in (TEXT, "decoder_input_ids", *VISION, *AUDIO)]
        return ", ".join(names) or ", ".join(list(self.parameters)[:3])

    def _usual_tokens(self) -> int:
        return min(TOKENS, self._positions() or TOKENS)

    def _positions(self) -> int | None:
        found = _of(self._text(), "max_position_embeddings", "n_positions", "max_target_positions")
        return found if isinstance(found, int) and found > 0 else None

    def _text(self) -> Any:
        try:
            return self.config.get_text_config(decoder=True)
        except Exception:  # several, of which none is the one
            return self.config

    def _check_positions(self, tokens: int) -> None:
        """Refuse more tokens than there are learned positions, of which meta would not complain."""
        from torch import nn

        for name, part in self.module.named_modules():
            last = name.rpartition(".")[2]
            is_learned = isinstance(part, nn.Embedding) and ("position" in last or last in ("wpe", "pos_embed"))
            is_bucket = "relative" in last or "bucket" in last
            if is_learned and not is_bucket and 4 < part.num_embeddings < tokens and not _is_of_vision(name):
                field = next(
                    (f for f in ("max_position_embeddings", "n_positions", "max_target_positions")
                     if hasattr(self.config, f)), "max_position_embeddings",
                )  # fmt: skip
                raise UsageError(
                    f"{tokens:,} tokens are more than the {part.num_embeddings:,} positions of {self.name} ({name})",
                    help=f"give it more: {field}={tokens}",
                )

    # Inputs by modality.

    def _ids(self, tokens: int) -> torch.Tensor:
        import torch

        self._check_positions(tokens)
        return torch.zeros(self.batch, tokens, dtype=torch.int64)

    def _picture(self) -> torch.Tensor:
        import torch

        height, width = self.sizes.image or picture_of(self.config)
        return torch.zeros(self.batch, channels_of(self.config), height, width, dtype=self._floating())

    def _video(self, frames: int | None = None) -> torch.Tensor:
        import torch

        height, width = self.sizes.image or picture_of(self.config)
        frames = frames or _of(self.config, "num_frames", "frames_per_clip") or 16
        return torch.zeros(self.batch, frames, channels_of(self.config), height, width, dtype=self._floating())

    def _patches(self) -> Inputs:
        """A picture in patches, one after the other, and how many there are along each of its sides."""
        import torch

        vision = getattr(self.config, "vision_config", self.config)
        patch = _of(vision, "patch_size") or 14
        merge = _of(vision, "spatial_merge_size") or 1
        depth = _of(vision, "temporal_patch_size") or 1
        height, width = (max(side // patch // merge, 1) * merge for side in self.sizes.image or PICTURE)
        grid = torch.tensor([[1, height, width]] * self.batch, dtype=torch.int64, device="cpu")
        values = channels_of(vision) * depth * patch * patch
        shape = (self.batch * height * width, values)
        return {"pixel_values": torch.zeros(shape, dtype=self._floating()), "image_grid_thw": grid}

    def _sized(self) -> Inputs:
        """A picture in tiles, its whole first, and the size that it had."""
        import torch

        side = picture_of(self.config)
        height, width = self.sizes.image or side
        sizes = torch.tensor([[height, width]] * self.batch, dtype=torch.int64, device="cpu")
        count = getattr(sys.modules[type(self.core).__module__], "image_size_to_num_patches", None)
        pinpoints = _of(self.config, "image_grid_pinpoints")
        if count is not None and pinpoints:
            tiles = count((height, width), pinpoints, side[0])
        else:
            tiles = 1 + -(-height // side[0]) * -(-width // side[1])
        shape = (self.batch, tiles, channels_of(self.config), *side)
        return {"pixel_values": torch.zeros(shape, dtype=self._floating()), "image_sizes": sizes}

    def _samples(self) -> int:
        """How many samples of sound there are."""
        audio = self.sizes.audio
        if isinstance(audio, Fraction):
            return int(audio * self._rate())
        return audio if audio is not None else self._rate()

    def _rate(self) -> int:
        return _of(self.config, "sampling_rate", "sample_rate") or SAMPLES

    def _wave(self, *more: int) -> torch.Tensor:
        import torch

        return torch.zeros(self.batch, *more, self._samples(), dtype=self._floating())

    def _frames(self) -> int:
        """How many frames a spectrogram has: 100 a second, and of a fixed window always as many."""
        if self.sizes.audio is None:
            return self._window() or 100 * SAMPLES // 16_000
        return max(self._samples() * 100 // self._rate(), 1)

    def _window(self) -> int | None:
        """The frames of a model that hears so many at once, and is given no fewer."""
        window = _of(self.config, "max_source_positions")
        return 2 * window if isinstance(window, int) and _bins(self.config) else None

    def _padded(self) -> Inputs:
        """A sound that its processor pads to the window of the model."""
        import torch

        window = self._window() or 1
        asked, self.notes = self._frames(), [note for note in self.notes if "window" not in note]
        if asked > window:
            raise UsageError(f"{self.name} hears {window:,} frames at most, and the sound has {asked:,}")
        self.notes.append(f"the sound is padded to the window of {window:,} frames, as {self.name} needs it")
        return {"input_features": torch.zeros(self.batch, _bins(self.config) or 80, window, dtype=self._floating())}

    def _spectrogram(self, *, bands_first: bool, bands: int | None = None) -> torch.Tensor:
        import torch

        bands = bands or _bins(self.config) or 80
        shape = (bands, self._frames()) if bands_first else (self._frames(), bands)
        return torch.zeros(self.batch, *shape, dtype=self._floating())

    def _floating(self) -> torch.dtype:
        import torch

        own = (t.dtype for t in self.module.parameters() if t.is_floating_point())
        return self.dtype or next(own, torch.float32)

    # What goes in together.

    def _chosen(self, tokens: int) -> Inputs:
        """The first of the ways to feed the model that runs."""
        if self._is_plain():
            return next(self._ways(tokens))
        inputs, why = chosen(self.module, self._ways(tokens), self.dtype, CONSTANTS)
        if why is not None:
            self._refuse_picture(tokens)
        return inputs

    def _refuse_picture(self, tokens: int) -> None:
        """Refuse a picture of another size than a model is made for, where that is why nothing runs."""
        if self.sizes.image is None:
            return
        asked, self.sizes = self.sizes.image, replace(self.sizes, image=picture_of(self.config))
        if chosen(self.module, self._ways(tokens), self.dtype, CONSTANTS)[1] is None:
            own = self.sizes.image or PICTURE
            raise UsageError(
                f"{self.name} does not run on pictures of {asked[0]}x{asked[1]}: its config is for {own[0]}x{own[1]}",
                help=f"--image {own[0]}x{own[1]}, or another image_size in the config",
            )

    def _ways(self, tokens: int) -> Iterator[Inputs]:
        decoder: Inputs = {}
        if "decoder_input_ids" in self.parameters:
            decoder = {"decoder_input_ids": self._ids(tokens)}
        seen: list[frozenset[Any]] = []
        for inputs in self._leading(tokens):
            for more in ({**inputs, **decoder}, inputs):
                key = frozenset((name, tuple(value.shape)) for name, value in more.items())
                if key not in seen:
                    seen.append(key)
                    yield more

    def _is_plain(self) -> bool:
        """Whether token ids are all that there can be."""
        return self.main == TEXT and not self._takes("decoder_input_ids", *VISION, *AUDIO)

    def _leading(self, tokens: int) -> Iterator[Inputs]:
        made: dict[str, list[Callable[[], Inputs]]] = {
            TEXT: [lambda: {TEXT: self._ids(tokens)}],
            "pixel_values": [
                *([self._patches] if "image_grid_thw" in self.parameters else []),
                *([self._sized] if "image_sizes" in self.parameters else []),
                lambda: {"pixel_values": self._picture()},
                lambda: {"pixel_values": self._video()},
                lambda: {"pixel_values": self._video(frames=2)},
            ],
            "pixel_values_videos": [lambda: {"pixel_values_videos": self._video()}],
            "input_values": [
                lambda: {"input_values": self._wave()},
                lambda: {"input_values": self._wave(1)},
                lambda: {"input_values": self._spectrogram(bands_first=False)},
            ],
            "input_features": [
                lambda: {"input_features": self._spectrogram(bands_first=True)},
                *([self._padded] if self.sizes.audio is not None and self._window() else []),
                lambda: {"input_features": self._spectrogram(bands_first=False)},
                lambda: {"input_features": self._spectrogram(bands_first=False, bands=160)},
            ],
        }
        there = {name: ways for name, ways in made.items() if name in self.parameters}
        seen = next((name for name in VISION if name in there), None)
        asked = [
            name for name in there
            if (name == seen and self.sizes.image) or (name in AUDIO and self.sizes.audio)
        ]  # fmt: skip
        first = [self.main] if self.main in there else list(there)[:1]
        needed = [name for name in there if self.parameters[name].default is inspect.Parameter.empty]
        names = list(dict.fromkeys([*first, *needed, *asked]))
        yield from self._products(there, names)
        for name in there:
            if name not in names:
                yield from self._products(there, [*names, name])
        for name in there:
            if [name] != names and not asked:
                yield from self._products(there, [name])

    def _products(self, made: Mapping[str, list[Callable[[], Inputs]]], names: list[str]) -> Iterator[Inputs]:
        from itertools import product

        for ways in product(*(made[name] for name in names)):
            inputs = {key: value for way in ways for key, value in way().items()}
            if TEXT in inputs and "pixel_values" in inputs:
                self._mark_picture(inputs)
            yield inputs

    def _mark_picture(self, inputs: Inputs) -> None:
        """Put a placeholder among the tokens for each feature of the picture, where a model replaces them by these."""
        import torch

        mark = self._mark()
        if mark is None:
            return
        needed = {
            name: value for name, value in inputs.items() if name in ("pixel_values", *CONSTANTS) and name != TEXT
        }
        try:
            given = run(self.core, needed, self.dtype, constants=CONSTANTS, method="get_image_features")
        except Exception:
            return
        features = _get(given, "pooler_output")
        parts = features if isinstance(features, (list, tuple)) else [given if features is None else features]
        count = sum(part.numel() // part.shape[-1] for part in parts if isinstance(part, torch.Tensor)) // self.batch
        tokens = inputs[TEXT].shape[1]
        if count < 1:
            return
        if count >= tokens:
            if self.sizes.tokens is not None or self.sizes.prefill is not None:
                raise UsageError(
                    f"the picture alone takes {count:,} of the {tokens:,} tokens",
                    help=f"the number of tokens includes those of the picture: --tokens {count + tokens}",
                )
            tokens += count
        ids = torch.full((self.batch, tokens), 0 if mark else 1, dtype=torch.int64, device="cpu")
        ids[:, :count] = mark
        inputs[TEXT] = ids
        if "mm_token_type_ids" in self.parameters:
            inputs["mm_token_type_ids"] = (ids == mark).to(torch.int64)

    def _mark(self) -> int | None:
        """The token that stands for a feature of a picture, where a model replaces it by that."""
        mark = _of(self.config, "image_token_id", "image_token_index")
        return mark if isinstance(mark, int) and hasattr(self.core, "get_image_features") else None

    def _pictured(self, inputs: Inputs) -> int:
        """How many tokens of a sequence stand for its picture; those that do have values."""
        ids, mark = inputs.get(TEXT), self._mark()
        if ids is None or ids.is_meta or mark is None or "pixel_values" not in inputs:
            return 0
        return int((ids[0] == mark).sum())

    def _run(self, inputs: Inputs) -> Any:
        return run(self.module, inputs, self.dtype, constants=CONSTANTS)

    # A step of decoding.

    def _decoding(self, new: int, context: int) -> Example:
        is_pair = "decoder_input_ids" in self.parameters
        source = self.sizes.tokens or self._usual_tokens()
        key = "decoder_input_ids" if is_pair else TEXT
        self._check_positions(context + new)
        before = self._chosen(source if is_pair else max(context, 1))
        if is_pair and key in before:
            before[key] = self._ids(max(context, 1))
        if key not in before:
            raise self._no_cache()
        output = self._run({**before, **({"use_cache": True} if "use_cache" in self.parameters else {})})
        names = [name for name in cache.NAMES if name in self.parameters]
        taken = {name: value for name in names if (value := _get(output, name)) is not None}
        if not taken:
            raise self._no_cache()
        name, kept = next(iter(taken.items()))
        inputs: Inputs = {key: self._ids(new), name: kept if context else None}
        if "use_cache" in self.parameters:
            inputs["use_cache"] = True
        if is_pair:
            inputs.update(self._encoded(output, before))
        inputs = {argument: value for argument, value in inputs.items() if value is not None}
        info = cache.info(kept, context) if context else None
        if is_pair and self.sizes.tokens is None and TEXT in before:
            self.notes.append(f"the source has {source} tokens; --tokens sets another number")
        return Example(kwargs=inputs, notes=tuple(self.notes), cache=info)

    def _encoded(self, output: Any, before: Inputs) -> Inputs:
        """What the encoder gave before: it is not run again for each token."""
        state = _get(output, "encoder_last_hidden_state")
        if state is None or "encoder_outputs" not in self.parameters:
            return {name: value for name, value in before.items() if name != "decoder_input_ids"}
        return {"encoder_outputs": self._of_encoder(before) or _as_output(state)}

    def _of_encoder(self, before: Inputs) -> Any | None:
        """What the encoder itself gives, as generation asks it; None where it cannot be run by itself."""
        try:
            encoder = self.core.get_encoder()
            taken = inspect.signature(encoder.forward).parameters
            given = {name: value for name, value in before.items() if name in taken}
            found = run(encoder, given, self.dtype, constants=CONSTANTS)
        except Exception:
            return None
        return found if _get(found, "last_hidden_state") is not None else None

    def _no_cache(self) -> UsageError:
        can = getattr(self.config, "is_decoder", None) is False
        help = ("a decoder of this type is built with is_decoder=true --task causal-lm",) if can else ()
        return UsageError(f"{self.name} has no cache of keys and values to decode with", help=help)


def _get(output: Any, name: str) -> Any:
    return output.get(name) if hasattr(output, "get") else getattr(output, name, None)


def _as_output(state: torch.Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=state)


def _is_of_vision(name: str) -> bool:
    return any(word in name for word in ("vision", "visual", "image", "audio", "encoder.embed_positions"))


def _parts(config: Any) -> list[Any]:
    """A config and those inside it, the outer ones first."""
    found, waiting = [], [config]
    while waiting:
        part = waiting.pop(0)
        found.append(part)
        waiting += [value for value in vars(part).values() if hasattr(value, "to_diff_dict")]
    return found


def _of(config: Any, *names: str) -> Any:
    """A field of a config or of one inside it, by the names that it may have."""
    for part in _parts(config):
        for name in names:
            if (value := getattr(part, name, None)) is not None:
                return value
    return None


def _bins(config: Any) -> int | None:
    found = _of(config, "num_mel_bins", "feature_size", "input_feat_per_channel", "feature_projection_input_dim")
    return found if isinstance(found, int) else None


def picture_of(config: Any) -> tuple[int, int]:
    """Height and width of the pictures that a model, or its part that sees, is made for."""
    size = _of(config, "image_size")
    if isinstance(size, Mapping):
        size = (size.get("height", PICTURE[0]), size.get("width", PICTURE[1]))
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    return (size, size) if isinstance(size, int) else PICTURE


def channels_of(config: Any) -> int:
    """The channels of its pictures."""
    found = _of(config, "num_channels", "in_channels", "in_chans")
    return found if isinstance(found, int) else 3
