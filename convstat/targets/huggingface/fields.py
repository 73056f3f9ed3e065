"""The fields of a config: those of its file or its type, with what is overridden.

Only what is given is set, and the rest follows from it as the config's class has it: with ``hidden_size=64`` a head is
as wide as it comes out, unless the file says how wide it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from convstat.errors import UsageError, did_you_mean

ALWAYS = ("attn_implementation", "experts_implementation", "dtype", "torch_dtype", "num_labels", "use_cache")
"""What every config takes, whether it says so or not."""


def overridden(source: str, given: Mapping[str, Any], default: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Set fields of a config, dotted ones in the config or the mapping inside it.

    ``given`` is what the file says, and ``default`` the config that comes of it without overrides: what fields it has,
    and what those are that the file leaves out.
    """
    fields = copy.deepcopy(dict(given))
    for key, value in overrides.items():
        place, inside = fields, default
        *outer, last = key.split(".")
        passed = source
        for step in outer:
            name = _name_of(inside, step)
            _check(passed, inside, place, name)
            held = place.get(name)
            inner = _get(inside, name)
            if not isinstance(held, dict):
                held = place[name] = _said_by(inner)
            place, inside = held, inner
            passed = f"{passed}: {key.rpartition('.')[0]}"
        name = _name_of(inside, last)
        _check(passed, inside, place, name)
        place[name] = value
    return fields


def _get(inside: Any, name: str) -> Any:
    return inside.get(name) if isinstance(inside, Mapping) else getattr(inside, name, None)


def _name_of(inside: Any, name: str) -> str:
    """The name that a config has a field under: ``n_embd`` of GPT-2 is also its ``hidden_size``."""
    aliases = getattr(inside, "attribute_map", None) or {}
    return str(aliases.get(name, name))


def _said_by(inner: Any) -> dict[str, Any]:
    """What an inner config says beyond the defaults of its class."""
    if isinstance(inner, Mapping):
        return copy.deepcopy(dict(inner))
    if inner is None:
        return {}
    said = inner.to_diff_dict()
    defaults = _defaults(type(inner))
    kept = {key: value for key, value in said.items() if key not in defaults or defaults[key] != value}
    kept.pop("transformers_version", None)
    return {**kept, **({"model_type": inner.model_type} if getattr(inner, "model_type", "") else {})}


def _defaults(kind: type[Any]) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = kind().to_dict()
    except Exception:  # one that cannot be made without arguments has none
        return {}
    return found


def known_of(inside: Any) -> list[str]:
    """The names of the fields of a config, the aliases among them."""
    import inspect

    names: Iterable[str] = inside.to_dict()
    parameters = inspect.signature(type(inside)).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = [parameter.name for parameter in parameters if parameter.kind in kinds]
    aliases = getattr(inside, "attribute_map", None) or {}
    hidden = {"model_type", "transformers_version", "self", "args", "kwargs"}
    return [name for name in dict.fromkeys((*names, *taken, *aliases, *ALWAYS)) if name not in hidden]


def _check(source: str, inside: Any, place: Mapping[str, Any], name: str) -> None:
    """Refuse a field that a config does not have; a mapping inside of one may have any."""
    if name in place or isinstance(inside, Mapping) or (inside is None and place is not None and not place):
        return
    if inside is None or not hasattr(inside, "to_dict"):
        raise UsageError(f"{source} has no fields, and so none called '{name}'")
    known = known_of(inside)
    # What older files call the same: rope_scaling of one that has rope_parameters.
    if name in known or isinstance(getattr(type(inside), name, None), property):
        return
    nested = [
        f"{field}.{name}"
        for field in known
        if hasattr(_get(inside, field), "to_dict") and name in known_of(_get(inside, field))
    ]
    raise UsageError(
        f"{source} has no field '{name}'",
        help=(*(f"it is a field of an inner config: {other}=..." for other in nested), *did_you_mean(name, known)),
    )
