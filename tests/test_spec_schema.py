"""The schema of specs refuses what a schema can tell to be wrong, and nothing that is right."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from convstat.errors import SpecError
from convstat.spec import read
from convstat.spec.schema import spec_schema

HEAD = "convstat: 1\ninput: [3, 8, 8]\n"


@cache
def validator() -> Any:
    """The schema, which is itself valid."""
    schema = spec_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def is_valid(text: str) -> bool:
    """Whether the schema takes the text."""
    return bool(validator().is_valid(yaml.safe_load(text)))


def is_read(text: str) -> bool:
    """Whether the reader takes the text."""
    try:
        read(text, "net.yaml").expand()
    except SpecError:
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "layers: [Relu]",
        "layers: [{Relu: null}]",
        "layers: [{residual: {body: [Relu]}}]",
        "layers: [{parallel: {merge: add, paths: [[ReLU], [{Relu: null}]]}}]",
        "layers: [{ReLU: null, nmae: x}]",
        "layers: [{ReLU: null, Tanh: null, nmae: x}]",
        "vars: {a: 1}\nlayers: [{ReLU: null, nmae: x}]",
        "blocks: {b: [ReLU]}\nlayers: [{b: null, nmae: x}]",
        "blocks: {b: [ReLU]}\nlayers: [{b: null, name: y, reapet: 2}]",
        "blocks: {b: [ReLU]}\nlayers: [{b: null, name: y, repeat: 2, form: input}]",
        "blocks: {b: [{ReLU: null, nmae: x}]}\nlayers: [b]",
        "layers: [{name: x}]",
        "vars: {a: 1}\nlayers: [{name: x, repeat: 2}]",
    ],
)
def test_a_word_that_is_nothing_is_refused(text: str) -> None:
    """By the schema as by the reader."""
    assert (False, False) == (is_valid(HEAD + text), is_read(HEAD + text))


@pytest.mark.parametrize(
    "text",
    [
        "layers: [ReLU, relu, {tanh: null, name: x, repeat: 2, note: text}]",
        "layers: [{residual: {body: [{SqueezeExcitation: 2}]}}]",
        "blocks: {b: [ReLU]}\nlayers: [b, {b: null, name: y}, {b: {}, name: z, repeat: 2, from: y}]",
        "blocks: {relu: {params: {n: 1}, layers: [{Dropout: , repeat: n}]}}\nlayers: [relu, {relu: {n: 2}}]",
        "blocks: {ACBlock: {params: {n: 1}, layers: [ReLU]}}\nlayers: [{ACBlock: {n: 2}, name: x}]",
        "vars: {act: ReLU}\nlayers: [act, {act: {inplace: true}, name: x, when: act == ReLU}]",
        "vars: {act: ReLU}\nlayers: [{residual: {body: [act], shortcut: [act]}}]",
    ],
)
def test_what_is_read_is_not_refused(text: str) -> None:
    """Layers by any of their names, blocks that are called like others, and variables that name a layer."""
    assert (True, True) == (is_valid(HEAD + text), is_read(HEAD + text))
