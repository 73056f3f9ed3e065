"""Targets written with wildcards -> the targets that they stand for; see :mod:`convstat.grammar.patterns`.

``configs/**/*.yaml`` is files, ``net.yaml#*`` a spec and its variants, ``torchvision/resnet*`` the models of a zoo.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from convstat.errors import UsageError
from convstat.grammar import patterns
from convstat.grammar.paths import as_target, split_variant
from convstat.targets import Target, resolve


def select(arguments: Sequence[str]) -> list[str]:
    """Give the targets that are meant, in the order in which they are written; what has no wildcards is itself."""
    return [
        target for argument in arguments for target in (_of(argument) if patterns.is_pattern(argument) else [argument])
    ]


def _of(argument: str) -> list[str]:
    target = resolve(argument)
    if target.kind in ("inline", "module") or target.path == "-":
        return [argument]
    paths = _paths(target)
    if target.variant is None or not patterns.is_pattern(target.variant):
        mark = f"#{target.variant}" if target.variant else ""
        return [path + mark for path in paths]
    found = [name for path in paths for name in _variants(path, target)]
    if not found:
        known = f"{paths[0]} has no variants" if target.variant == "*" else f"'{argument}' matches no variant"
        raise UsageError(known, help="variants are defined under 'models' in the spec")
    return found


def _paths(target: Target) -> list[str]:
    """The files or the models of a zoo that a pattern names, as one would write each."""
    if not patterns.is_pattern(target.path) or (target.kind != "zoo" and os.path.exists(target.path)):
        return [split_variant(target.argument)[0]]
    if target.kind == "zoo":
        from convstat.targets import zoo

        name, _, wanted = target.path.partition("/")
        found = [f"{name}/{model}" for model in patterns.matching(wanted, zoo.names(name))]
        what = f"model of {name}"
    elif target.revision is not None:
        raise UsageError(f"'{target.argument}': patterns match files of the working tree, not of a revision")
    else:
        found, what = [as_target(path) for path in patterns.files(target.path)], "file"
    if not found:
        raise UsageError(f"'{target.path}' matches no {what}", help=patterns.HELP)
    return found


def _variants(path: str, target: Target) -> list[str]:
    """A spec and its variants for ``#*``, else the variants that match; of a zoo's model, its weights."""
    assert target.variant is not None
    if target.kind == "zoo":
        from convstat.targets import zoo

        return [f"{path}#{name}" for name in patterns.matching(target.variant, zoo.variants(path))]
    names = [f"{path}#{name}" for name in patterns.matching(target.variant, list(resolve(path).load().variants))]
    alone = patterns.is_pattern(target.path)
    return [path, *names] if target.variant == "*" and (names or alone) else names
