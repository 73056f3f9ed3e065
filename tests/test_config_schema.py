"""The schema of the settings accepts what is read, and refuses what is refused."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest

from convstat.budgets import limits
from convstat.budgets import tables as tables_module
from convstat.cli.run import run
from convstat.config import project
from convstat.config.schema import config_schema
from convstat.errors import ConfigError

SETTINGS = [
    "",
    'model = "net.yaml"\nbatch = 2\n',
    'model = ["a.yaml", "b.yaml#small"]\ninput = ["3x8x8", "ids=4:int64"]\ncounters = ["ptflops"]\n',
    'device = "meta"\ndtype = "bfloat16"\nper = "block:8+1"\nformat = "json"\ncounters = "none"\n',
    'budget = ["params<=5M", "macs(share)@head.**<=20%"]\n',
    '[[budget]]\nmetric = "macs"\nmax = "300M"\nmin = 1\non = "head.*"\nper = "each"\nlevel = "warn"\nwhy = "so"\n',
    '[[budget]]\nmetric = "macs_per_pixel"\nexact = 432.5\nmodel = "configs/*.yaml"\n',
    'base = "origin/main"\nmissing-baseline = "skip"\nexisting = "warn"\n',
    '[[budget]]\nmetric = "macs"\nmax = "+2%"\non = "head.**%Conv2d"\nper = "layer"\n',
    'weights = "int8+int16"\nactivations = "int8"\n',
    'weights = "int08"\n',
    'activations = "int8+int8"\n',
    '[[models]]\nmodel = "a.yaml"\nweights = "int4"\nactivations = "int8"\n',
    'base = ""\n',
    'missing-baseline = "ignore"\n',
    'existing = "warm"\n',
    'modle = "net.yaml"\n',
    "batch = 0\n",
    "batch = true\n",
    'batch = "2"\n',
    'dtype = "float64"\n',
    'device = "tpu"\n',
    "model = []\n",
    "input = [3, 8, 8]\n",
    "budget = []\n",
    "budget = [5]\n",
    '[[models]]\nmodel = "a.py:Net"\ninput = "x=3x8x8"\noverrides = {width = 0.5, args = {depth = 2}}\nbatch = 2\n'
    'config = "base.yaml"\ndevice = "cpu"\ndtype = "float16"\nper = "output"\n',
    '[[models]]\nmodel = ["a.py:Net", "torchvision/resnet18"]\n',
    '[[models]]\ninput = "3x8x8"\n',
    '[[models]]\nmodel = "a.py:Net"\noverrides = 3\n',
    '[[models]]\nmodel = "a.py:Net"\nshape = "3x8x8"\n',
    '[[models]]\nmodel = "a.py:Net"\nbatch = 0\n',
    "models = 3\n",
    "models = []\n",
    '[[budget]]\nmetric = "macs"\n',
    "[[budget]]\nmax = 5\n",
    '[[budget]]\nmetric = "mac"\nmax = 5\n',
    '[[budget]]\nmetric = "macs"\nmax = true\n',
    '[[budget]]\nmetric = "macs"\nmax = 5\nlevel = "fatal"\n',
    '[[budget]]\nmetric = "macs"\nmax = 5\nscope = "each"\n',
]


def is_read(text: str) -> bool:
    """Whether settings and their budgets are read without a problem."""
    try:
        for entry in project.parse(text, "convstat.toml").budgets:
            if isinstance(entry.written, str):
                limits.read_short(entry.written, entry.mark)
            else:
                tables_module.read_table(entry.written, entry.mark, entry.marks)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("text", SETTINGS)
def test_the_schema_and_the_reader_agree(text: str) -> None:
    """The reader is the oracle, on settings that are right and that are wrong in every key."""
    validator = jsonschema.Draft202012Validator(config_schema())
    assert is_read(text) == validator.is_valid(tomllib.loads(text))


def test_both_verdicts_and_every_key_occur() -> None:
    """The cases above are worth something: some are read, some are not, and no key is left out."""
    assert {True, False} == {is_read(text) for text in SETTINGS}
    good = [tomllib.loads(text) for text in SETTINGS if is_read(text)]
    assert set(project.KEYS) == {key for table in good for key in table}
    tables = [entry for table in good for entry in table.get("models", ())]
    assert set(project.MODEL_KEYS) == {key for entry in tables for key in entry}
    budgets = [entry for table in good for entry in table.get("budget", ()) if isinstance(entry, dict)]
    assert set(tables_module.BUDGET_KEYS) == {key for entry in budgets for key in entry}


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """It is valid as a schema, and names every key."""
    assert 0 == run(["schema", "config"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(document)
    assert list(project.KEYS) == list(document["properties"])
