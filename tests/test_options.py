# Copyright (c) MONAI Consortium
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The table of options: it fits the configs, refuses what is hostile, and is what help and docs show."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow

from scripts.acquisition.sidecar import EQUATIONS
from scripts.commands.options import (
    OPTIONS,
    check_arguments,
    check_names,
    check_unused,
    check_value,
    check_values,
    help_text,
    page,
)
from scripts.commands.options.show import PAGE, _defaults
from scripts.commands.options.table import TABLE, accepted
from scripts.errors import UserError, find_user_error
from scripts.networks.conditioning import MODES
from scripts.simulate.population import FIELD_STRENGTHS
from scripts.tissue import PRIORS
from scripts.train.data.sessions import HELD_OUT
from scripts.train.diffusion import PREDICTIONS
from scripts.train.objective import GAINS, JUDGED

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "configs").glob("*.json"))
    if path.stem != "metadata"
}
MAX_NORM = "train::step::max_norm"
OVERLAYS = {
    "vae_latents": "train_ldm",
    "heads": "generate",
    "harmonise": "inference",
    "finish_codec": "train_codec",
    "train_heads": "train_ldm",
    "train_refining": "train_ldm",
    "smoke": "train_vae",
    "paper": "train_ldm",
    "published": "generate",
    "catalogue": "generate",
    "tars": "train_vae",
    "multi_gpu": "train_vae",
}
NO_OPTIONS = {"_desc_", "imports", "data", "samples"}
"""Top-level keys that hold values but are for readers, for MONAI, or choose between nodes."""
HOSTILE = (
    *("no", "yes", "", "true", "nan", "inf", "-1", "$__import__('os')", "@seed", "%run", "x" * 5000, "a\0b", "../.."),
    *(math.nan, math.inf, -math.inf, -1, 0, 1, 1.5, 2.0, 2024, 10**30, True, False, None, b"x", {1}, ...),
    *([], {}, [None], [[]], [0, -1], (0, None), ["a"], {"a": "b"}, {"kl": math.nan}, {"kl": 1}, [1.5, 3]),
)
FITS = {
    "flag": lambda v: isinstance(v, bool),
    "count": lambda v: type(v) is int and v >= 1,
    "whole": lambda v: type(v) is int and v >= 0,
    "positive": lambda v: type(v) in (int, float) and 0 < v < math.inf,
    "nonnegative": lambda v: type(v) in (int, float) and 0 <= v < math.inf,
    "probability": lambda v: type(v) in (int, float) and 0 <= v <= 1,
    "text": lambda v: isinstance(v, str) and v,
    "folder": lambda v: isinstance(v, str) and v and "\0" not in v and len(v) < 4096,
    "file": lambda v: isinstance(v, str) and v and "\0" not in v and not Path(v).is_dir(),
    "path": lambda v: isinstance(v, str) and v and "\0" not in v,
    "device": lambda v: isinstance(v, str) and torch.device(v),
    "counts": lambda v: isinstance(v, list) and v and all(type(one) is int and one >= 1 for one in v),
    "heads": lambda v: type(v[0]) is int and v[0] >= 0 and (v[1] is None or v[1] >= 1),
    "weights": lambda v: isinstance(v, dict) and all(0 <= one < math.inf for one in v.values()),
    "choice": lambda v: True,
}


def is_option(name: str, value: object) -> bool:
    """A value, rather than a node, a structure of nodes, or what is run."""
    runs = isinstance(value, list) and value and str(value[0]).startswith(("$", "@"))
    return (
        "::" not in name
        and name not in NO_OPTIONS
        and not (runs or "_target_" in str(value) or str(value).startswith("%"))
    )


def parser(config: str, **overrides) -> ConfigParser:
    base = [OVERLAYS[config]] if config in OVERLAYS else ["inference"] if config == "deploy" else []
    made = ConfigParser()
    made.read_config([str(ROOT / f"configs/{name}.json") for name in (*base, config)])
    made.update(overrides)
    made.parse()
    return made


@pytest.mark.parametrize("config", CONFIGS)
def test_every_option_of_a_config_has_a_row_and_every_default_is_accepted(config):
    missing = [name for name, value in CONFIGS[config].items() if is_option(name, value) and name not in OPTIONS]
    assert not missing, f"describe {missing} in scripts/commands/options/table.json"
    made = parser(config)
    check_unused(made)
    check_values(made)
    check_arguments(made)


def test_no_row_is_dead():
    shown = {config: _defaults(content, config) for config, content in CONFIGS.items()}
    assert set(OPTIONS) == {name for defaults in shown.values() for name in defaults}
    assert [kind for kind in TABLE["kinds"] if kind not in [row["is"] for row in OPTIONS.values()]] == []
    for name, row in OPTIONS.items():
        used = {config for config, defaults in shown.items() if name in defaults}
        assert {*row.get("in", {}), *row.get("default", {})} - {"any"} <= used, name


@pytest.mark.parametrize("name", OPTIONS)
def test_a_row_is_complete(name):
    row = OPTIONS[name]
    Draft202012Validator.check_schema({key: value for key, value in row.items() if key not in ("is", "in")})
    assert row["means"].endswith(".") and len(row["means"]) < 130 and accepted(name) and row["is"] in FITS


def test_choices_are_those_of_the_code():
    choices = {"equations": EQUATIONS, "prediction_type": PREDICTIONS, "judged": JUDGED}
    for name, words in (choices | {"gain": GAINS, "prior": PRIORS, "adagn": MODES, "held_out": HELD_OUT}).items():
        assert OPTIONS[name]["enum"] == [*words]
    assert OPTIONS["field_strengths"]["items"]["enum"] == [*FIELD_STRENGTHS]


def test_the_page_is_that_of_the_configs():
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/options.md is stale: run make options"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_hostile_value_is_refused_in_one_line_or_fits(name):
    for value in HOSTILE:
        try:
            meant = check_value(name, value)
        except UserError as error:
            assert str(error).startswith(name) and "\n" not in str(error) and len(str(error)) < 400
        else:
            assert (meant is None and "null" in OPTIONS[name]) or FITS[OPTIONS[name]["is"]](meant), (value, meant)


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("overwrite", "no", "overwrite: found 'no'; give true or false"),
        ("batch_size", 0, "batch_size: found 0; give a whole number from 1 to 10 million"),
        ("num_inference_steps", 0, "num_inference_steps: found 0; give a whole number from 1 to 10 million"),
        (MAX_NORM, -1, "train::step::max_norm: found -1; give a number above 0, or inf for no limit"),
        (MAX_NORM, "nan", "train::step::max_norm: found 'nan'; give a number above 0, or inf for no limit"),
        ("max_epochs", 1.5, "max_epochs: found 1.5; give a whole number from 1 to 10 million"),
        ("learning_rate", math.nan, "learning_rate: found nan; give a number above 0"),
        ("threads", 0, "give a whole number from 1 to 1024, or null for as many as the process has cores"),
        ("device", "cuda:7", "device: found 'cuda:7'; give a device of this machine: cpu, cuda, cuda:1"),
        ("device", "meta", "device: found 'meta'; give a device of this machine: cpu, cuda, cuda:1"),
        ("heads", 5, "heads: found 5; give [first, count], where count null is all from the first"),
        ("heads", [0, 0], "heads::1: found 0; give [first, count], where count null is all from the first"),
        (
            "threads",
            0,
            "threads: found 0; give a whole number from 1 to 1024, or null for as many as the process has cores",
        ),
        ("device", "cuda:7", "device: found 'cuda:7'; give a device of this machine: cpu, cuda, cuda:1"),
        ("device", "meta", "device: found 'meta'; give a device of this machine: cpu, cuda, cuda:1"),
        ("heads", 5, "heads: found 5; give [first, count], where count null is all from the first"),
        ("heads", [0, 0], "heads::1: found 0; give [first, count], where count null is all from the first"),
        ("crop_size", [160, 0, -1], "crop_size::1: found 0; give three whole numbers, -1 for the whole axis [voxels]"),
        ("equations", "papr", "equations: found 'papr'; give one of exact, paper"),
        ("dataset_dir", True, "dataset_dir: found True; give a folder, or null for none"),
        ("dataset_dir", 20.24, "dataset_dir: found 20.24; give a folder, or null for none"),
        ("output_dir", str(Path(__file__)), "give a folder"),
    ],
)
def test_what_is_wrong_is_said(name, value, message):
    with pytest.raises(UserError) as caught:
        check_value(name, value)
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    "name,value,meant",
    [
        ("overwrite", "False", False),
        ("overwrite", "true", True),
        ("register", "auto", "auto"),
        ("register", "false", False),
        ("dataset_dir", 2024, "2024"),
        ("dataset_dir", Path("scans"), "scans"),
        (MAX_NORM, "inf", math.inf),
        ("heads", (11, 2), [11, 2]),
        ("device", torch.device("cpu"), "cpu"),
        ("position", "none", "none"),
        ("position", -12.5, -12.5),
        ("ventricle", "5:20", "5:20"),
    ],
)
def test_what_a_shell_cannot_write_is_taken_as_it_is_meant(name, value, meant):
    assert check_value(name, value) == meant and type(check_value(name, value)) is type(meant)


def test_values_are_checked_after_expressions_and_references_are_resolved():
    made = parser("generate", seed="$2 + 3", count="@seed", overwrite="$'false'", output_dir="2024")
    check_values(made)
    assert made.get_parsed_content("count") == 5 and made.get_parsed_content("overwrite") is False
    for wrong in ("$1 / 2", "$1 / 0", "@nowhere", "@count", "$'no'"):
        with pytest.raises(UserError, match="^count: found .*; give a whole number from 1"):
            check_values(parser("generate", count=wrong))


def test_a_word_is_put_in_for_the_objects_and_those_that_exist_stay():
    made = parser("render", overwrite="false")
    before = made.get_parsed_content("dataset")
    check_values(made)
    assert made.get_parsed_content("study").overwrite is False and made.get_parsed_content("dataset") is before


@pytest.mark.parametrize(
    "given,said",
    [
        ({"step::thread": 1}, "--step::thread: found no such option; do you mean --step::threads?"),
        ({"network_def::chanels": [8]}, "do you mean --network_def::channels?"),
        ({"preprocessing::transforms::2::zzz": 1}, "--preprocessing::transforms::2::zzz: found no such option"),
    ],
)
def test_arguments_that_a_node_does_not_have_are_refused(given, said):
    with pytest.raises(UserError) as caught:
        check_arguments(parser("inference", **given))
    assert said in str(caught.value)


def test_arguments_left_at_their_default_may_be_given():
    given = {"stream::workers": 0, "validate::evaluator::val_handlers": None}
    check_arguments(parser("train_vae", **given))
    check_names(given, [str(ROOT / "configs/train_vae.json")], ())


@pytest.mark.parametrize(
    "name,said",
    [
        ("loss_weights::perceptul", "do you mean --loss_weights::perceptual?"),
        ("train#trainers", "do you mean --train::trainer?"),
        ("max_epoch", "do you mean --max_epochs?"),
        ("max_norm", "do you mean --train::step::max_norm?"),
        ("zzz", "look the options up with --help or in "),
    ],
)
def test_names_that_no_file_has_are_refused(name, said):
    with pytest.raises(UserError) as caught:
        check_names(["seed", name], [str(ROOT / "configs/train_vae.json")], ("meta_file",))
    assert str(caught.value).startswith(f"--{name}: found no such option; ") and said in str(caught.value)


def test_a_value_that_nothing_uses_is_refused_where_its_name_is_nearly_that_of_an_option():
    with pytest.raises(UserError, match="--max_epoch: found no such option; do you mean --max_epochs?"):
        check_unused(parser("train_vae", max_epoch=3))
    check_unused(parser("train_vae", my_option=3, max_epoch=3, val_interval="@max_epoch"))


def test_help_shows_every_option_with_the_defaults_of_what_lies_on_top():
    text = help_text([ROOT / "configs/train_vae.json", ROOT / "configs/paper.json"])
    shown = dict(re.findall(r"^  --([\w:]+)  (.*)$", text, re.M))
    assert shown["max_epochs"] == "50" and shown[MAX_NORM] == "inf" and shown["output_dir"] == "BUNDLE/runs/train_vae"
    assert shown["dataset_dir"] == "BUNDLE/data/one_scanner" and "it is simulated where it is absent" in text
    assert {name for name, value in CONFIGS["train_vae"].items() if is_option(name, value)} <= {*shown}
    assert "guidance" not in shown and "vae" not in shown


@pytest.mark.parametrize(
    "given,said", [({"threads": 0}, "threads: "), ({"step::thread": 1}, "--step::"), ({"thread": 1}, "--thread: ")]
)
def test_a_workflow_made_in_python_is_checked_when_it_runs(tmp_path, given, said):
    file = str(ROOT / "configs/inference.json")
    made = create_workflow(config_file=file, workflow_type="infer", dataset_dir=str(tmp_path / "none"), **given)
    assert isinstance(made, ConfigWorkflow)
    with pytest.raises(RuntimeError) as caught:
        made.run()
    assert str(find_user_error(caught.value)).startswith(said) and not [*tmp_path.iterdir()]
