"""Config objects: what a constructor takes in place of many arguments, made from overrides or from a file.

``args.width=32`` sets a field of the argument ``args``, and ``--config base.yaml`` sets all that stands in the file.
The object is what the annotation says, where that is a dataclass or another class of settings, else one that can be
read in every usual way: ``args.width``, ``args["width"]``, ``vars(args)``, ``**args``.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from convstat.errors import SourceError, UsageError, did_you_mean

CONFIG = "--config"
"""The override that names a file of settings: ``base.yaml``, or ``cfg=base.yaml`` for the argument ``cfg``."""

NAMES = ("config", "cfg", "args", "opt", "opts", "options", "conf", "hparams", "params", "settings")
"""What the argument that takes a config object is usually called."""

LONGEST = 1_000_000
"""Bytes of a file of settings."""

Parameters = Mapping[str, inspect.Parameter]


class Settings(argparse.Namespace, Mapping[str, Any]):  # type: ignore[misc]  # both have a __contains__
    """A config object of no class of its own."""

    __slots__ = ("_path",)

    def __init__(self, path: str, fields: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_path", path)
        nested = {
            key: Settings(f"{path}.{key}", value) if isinstance(value, Mapping) else value
            for key, value in fields.items()
        }
        super().__init__(**nested)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{self._path}.{name} is not set: pass {self._path}.{name}=...")

    def __getitem__(self, name: str) -> Any:
        if name not in vars(self):
            raise KeyError(f"{self._path}.{name} is not set: pass {self._path}.{name}=...")
        return vars(self)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))


class Given(NamedTuple):
    """What a callable is called with; ``trees`` holds the fields of the config objects among its arguments."""

    keywords: Mapping[str, Any]
    trees: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = ()


def given(argument: str, target: Any, overrides: Mapping[str, Any]) -> Given:
    """Sort overrides into arguments and fields of config objects; what is missing and can be made is made."""
    parameters = parameters_of(target)
    names = _named(parameters)
    keywords: dict[str, Any] = {}
    trees: dict[str, dict[str, Any]] = {}
    path = overrides.get(CONFIG)
    if path is not None:
        name, tree = _from_file(argument, str(path), parameters, overrides)
        if name is None:
            keywords.update(tree)
        else:
            trees[name] = tree
    for key, value in overrides.items():
        top, *inner = key.split(".")
        if key == CONFIG:
            continue
        if not inner or top not in names:
            keywords[key] = value
            continue
        place: dict[str, Any] = trees.setdefault(top, {})
        for step in inner[:-1]:
            nested = place.get(step)
            place[step] = place = nested if isinstance(nested, dict) else {}
        place[inner[-1]] = value
    if both := [name for name in trees if name in keywords]:
        raise UsageError(f"{argument}: '{both[0]}' is given both as a whole and by its fields")
    notes = []
    for name in names:
        kind = settings_class(target, name, parameters[name])
        is_open = parameters[name].default is inspect.Parameter.empty and name not in keywords and name not in trees
        if is_open and kind is not None and _has_defaults(kind):
            trees[name] = {}
            notes.append(f"{name} is {kind.__name__} with its defaults; {name}.FIELD=... sets one")
    return Given(MappingProxyType(keywords), MappingProxyType(trees), tuple(notes))


def made(target: Any, found: Given) -> dict[str, Any]:
    """Make the arguments: afresh each time, as a model may change its config object."""
    parameters = parameters_of(target)
    objects = {name: _object(target, name, parameters[name], tree) for name, tree in found.trees.items()}
    return {**found.keywords, **objects}


def parameters_of(target: Any) -> Parameters:
    """The parameters of a callable, none where nobody knows them."""
    try:
        return inspect.signature(target).parameters
    except Exception:  # of a callable that says nothing of itself, or the wrong thing
        return {}


def _named(parameters: Parameters) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in parameters.items() if parameter.kind in kinds]


def settings_class(target: Any, name: str, parameter: inspect.Parameter) -> type | None:
    """The class of a config object: what the annotation says, or what a model of transformers says of itself."""
    kind = annotation_of(target, name)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")):
        return kind
    own = getattr(target, "config_class", None)
    return own if isinstance(own, type) and name == "config" else None


def annotation_of(target: Any, name: str) -> Any:
    """The annotation of a parameter, without what allows None; None where there is none or it cannot be read."""
    function: Any = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    try:
        hint = typing.get_type_hints(function).get(name)
    except Exception:  # an annotation may be anything
        return None
    kinds = typing.get_args(hint)
    inner = [kind for kind in kinds if kind is not type(None)]
    return inner[0] if len(inner) == 1 and len(kinds) == 2 else hint


def _has_defaults(kind: type) -> bool:
    """Whether a config object can be made without a word."""
    return not [
        parameter
        for parameter in parameters_of(kind).values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]


def _object(target: Any, name: str, parameter: inspect.Parameter, tree: Mapping[str, Any]) -> Any:
    kind = settings_class(target, name, parameter)
    default = None if parameter.default is inspect.Parameter.empty else parameter.default
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        kind, tree = type(default), {**{f.name: getattr(default, f.name) for f in dataclasses.fields(default)}, **tree}
    if kind is not None:
        return _filled(kind, name, tree)
    annotated = annotation_of(target, name)
    origin = typing.get_origin(annotated) or annotated
    if isinstance(default, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {**(default or {}), **tree}
    known = dict(vars(default)) if default is not None and hasattr(default, "__dict__") else {}
    return Settings(name, {**known, **tree})


def _filled(kind: type, path: str, tree: Mapping[str, Any]) -> Any:
    """Make an object of a class of settings, and those inside it."""
    parameters = parameters_of(kind)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    fields = {}
    for name, value in tree.items():
        if name not in parameters and not takes_any:
            known = ", ".join(_named(parameters))
            raise UsageError(
                f"{kind.__name__} has no field '{name}'", help=(*did_you_mean(name, parameters), f"its fields: {known}")
            )
        inner = annotation_of(kind, name)
        if isinstance(value, Mapping) and isinstance(inner, type) and dataclasses.is_dataclass(inner):
            value = _filled(inner, f"{path}.{name}", value)
        fields[name] = value
    if missing := [name for name in _required(parameters) if name not in fields]:
        given = " ".join(f"{path}.{name}=..." for name in missing)
        raise UsageError(f"{kind.__name__} needs {', '.join(missing)}", help=f"pass them as overrides: {given}")
    return kind(**fields)


def _required(parameters: Parameters) -> list[str]:
    return [name for name in _named(parameters) if parameters[name].default is inspect.Parameter.empty]


def _from_file(
    argument: str, written: str, parameters: Parameters, overrides: Mapping[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Read ``--config``: the argument that it is for, None where its keys are arguments themselves, and its fields."""
    name, mark, path = written.partition("=")
    tree = read(path if mark else written)
    names = _named(parameters)
    if mark:
        if name not in names:
            raise UsageError(
                f"{argument} has no argument '{name}'",
                help=(*did_you_mean(name, names), f"its arguments: {', '.join(names)}"),
            )
        return name, tree
    open_ = [name for name in _required(parameters) if name not in overrides]
    usual = [name for name in names if name.lower() in NAMES and name not in overrides]
    if len(open_) == 1 and open_[0] not in tree:
        return open_[0], tree
    if usual:
        return usual[0], tree
    if set(tree) <= set(names) or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None, tree
    raise UsageError(
        f"{argument}: which argument is {CONFIG} {written} for?",
        help=(f"name it: {CONFIG} {(open_ or names or ['NAME'])[0]}={written}", f"its arguments: {', '.join(names)}"),
    )


def read(path: str) -> dict[str, Any]:
    """Read a file of settings: YAML, JSON or TOML, with a mapping at its top."""
    import yaml

    from convstat.text.reading import read_file

    try:
        data = read_file(path, LONGEST)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > LONGEST:
        raise UsageError(f"{path} is larger than {LONGEST:,} bytes")
    try:
        text = data.decode("utf-8-sig")
        if path.endswith(".toml"):
            import tomllib

            found: Any = tomllib.loads(text)
        else:
            # JSON is YAML too.
            found = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{path} is not a settings file: {first}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UsageError(f"{path} is not a settings file: expected a mapping at the top level")
    return found


def refuse_missing(argument: str, target: Any, found: Given) -> None:
    """Refuse a call that lacks arguments, and say how to give each: as an override, by its fields, in a function."""
    parameters = parameters_of(target)
    missing = [name for name in _required(parameters) if name not in found.keywords and name not in found.trees]
    if not missing:
        return
    words: list[str] = []
    plain = True
    for name in missing:
        kind = annotation_of(target, name)
        is_class = settings_class(target, name, parameters[name]) is not None
        fields = _required(parameters_of(kind)) if is_class else reads(target, name)
        is_plain = kind in (int, float, str, bool, None) or typing.get_origin(kind) in (list, tuple)
        if fields:
            plain = False
            words += [f"{name}.{field}=..." for field in fields]
        elif is_plain and (kind is not None or name.lower() not in NAMES):
            words.append(f"{name}=...")
        else:
            plain = False
    help = []
    if words:
        help.append(f"pass them as overrides: {argument} {' '.join(words)}")
    if not plain:
        objects = [name for name in missing if f"{name}=..." not in words]
        others = "".join(f" {name}=..." for name in missing if name not in objects)
        help.append(f"or its fields from a file: {argument} {CONFIG} {objects[0]}=base.yaml{others}")
        help.append(factory(argument, target, missing, found))
    raise UsageError(f"{argument} needs {', '.join(missing)}", help=tuple(help))


def factory(argument: str, target: Any, missing: list[str], found: Given) -> str:
    """Write out a function that makes the model, to be named instead of it."""
    place, _, name = argument.rpartition(":")
    module = place.removesuffix(".py").replace("/", ".").lstrip(".") if place.endswith(".py") else place
    parameters = parameters_of(target)
    imports, values = [], []
    for key in missing:
        kind = settings_class(target, key, parameters[key])
        fields = _required(parameters_of(kind)) if kind else reads(target, key)
        if kind is not None:
            imports.append(f"from {kind.__module__ if kind.__module__ != module else module} import {kind.__name__}")
            values.append(f"{key}={_call(kind.__name__, fields)}")
        elif fields:
            imports.append("from types import SimpleNamespace")
            values.append(f"{key}={_call('SimpleNamespace', fields)}")
        else:
            values.append(f"{key}=...")
    values += [f"{key}={value!r}" for key, value in found.keywords.items()]
    imports.append(f"from {module} import {name.partition('.')[0]}")
    lines = [*dict.fromkeys(sorted(imports, key=lambda line: "types" not in line)), "", "def build():"]
    lines.append(f"    return {name}({', '.join(values)})")
    text = "\n".join(f"    {line}" if line else "" for line in lines)
    return f"or write a function that creates it, and name that function, build.py:build\n\n{text}\n"


def _call(name: str, fields: list[str]) -> str:
    """Write a config object with its fields left open, and those inside it."""
    inner: dict[str, list[str]] = {}
    for field in fields:
        top, _, rest = field.partition(".")
        inner.setdefault(top, []).extend([rest] if rest else [])
    given = (f"{top}={_call('SimpleNamespace', rest) if rest else '...'}" for top, rest in inner.items())
    return f"{name}({', '.join(given)})"


def reads(target: Any, name: str) -> list[str]:
    """The fields of an argument that a constructor and the methods of its class read, in the order of their lines."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return []
    function = _constructor(tree, isinstance(target, type))
    aliases = {name} | {
        f"self.{goal.attr}"
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id == name
        for goal in node.targets
        if isinstance(goal, ast.Attribute) and isinstance(goal.value, ast.Name) and goal.value.id == "self"
    }
    found: dict[str, tuple[int, int]] = {}
    for scope, known in ((function, aliases), (tree, aliases - {name})):
        for node in ast.walk(scope):
            path = _path_of(node)
            for alias in known:
                if isinstance(node, ast.expr) and path and path.startswith(f"{alias}."):
                    found.setdefault(path.removeprefix(f"{alias}."), (node.lineno, node.col_offset))
    # Of opt.lr and opt, the longer says more.
    names = [field for field in found if not any(other.startswith(f"{field}.") for other in found)]
    methods = {"get", "keys", "items", "values", "copy", "pop", "update", "setdefault"}
    return sorted((field for field in names if field not in methods), key=lambda field: found[field])


def _constructor(tree: ast.Module, is_class: bool) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (not is_class or node.name == "__init__"):
            return node
    return tree


def _path_of(node: ast.AST) -> str | None:
    """A chain of attributes and constant keys: ``args.opt["lr"]`` is ``args.opt.lr``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _path_of(node.value)
        return inner and f"{inner}.{node.attr}"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        inner = _path_of(node.value)
        return inner and f"{inner}.{node.slice.value}"
    return None


__all__ = ["CONFIG", "Given", "Settings", "SourceError", "given", "made", "refuse_missing"]
