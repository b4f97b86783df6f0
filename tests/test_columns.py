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

"""Columns of participants.tsv: what is read, what the networks make of them, what training samples get."""

from dataclasses import replace

import pytest
import torch

from scripts.bids import Participants
from scripts.commands.study import Conditions
from scripts.errors import UserError
from scripts.networks import DiffusionTransformer, LatentDiffusionUNet
from scripts.networks.weights import load_weights
from scripts.simulate import LabelledSlices, LabelMaps, labelled
from scripts.train import ColumnScale
from scripts.train.data import ColumnLatents

from .studies import TINY_TRANSFORMER, TINY_UNET

NAN = float("nan")
MAKERS = {
    "transformer": lambda **more: DiffusionTransformer(**TINY_TRANSFORMER, **more),
    "unet": lambda **more: LatentDiffusionUNet(latent_channels=4, **TINY_UNET, **more),
}
MAKE = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def write_table(folder, *rows: str):
    (folder / "participants.tsv").write_text("\n".join(row.replace(" ", "\t") for row in rows) + "\n")
    return folder


def test_values_are_found_by_subject_and_unknown_ones_are_nan(tmp_path):
    rows = ["age participant_id sex score", "60 sub-01 0 -2", "n/a sub-02 1 1e3", "71.5 3_a  0"]
    table = Participants(write_table(tmp_path, *rows), ["score", "age", "sex"])
    expected = {"01": [-2, 60, 0], "sub-02": [1000, NAN, 1], "sub-3_a": [0, 71.5, NAN], "04": [NAN] * 3}
    for subject, values in expected.items():
        torch.testing.assert_close(table[subject], torch.tensor(values, dtype=torch.float32), equal_nan=True)


@pytest.mark.parametrize(
    "rows,message",
    [
        (None, "no such file; write one with the columns participant_id, age, separated by tabs"),
        (["participant_id,age", "sub-01,60"], "no column participant_id; write one"),
        (["participant_id sex weight", "sub-01 0 70"], "no column 'age'; use one of sex, weight"),
        (["participant_id age", "sub-01 60", "sub-02 old"], "'old' in the column 'age' of sub-02; code it as numbers"),
        (["participant_id age", "sub-01 inf"], "'inf' in the column 'age' of sub-01; code it as numbers"),
        (["participant_id age", "sub-01 n/a", "sub-02 "], "no known value in the column 'age'; fill it in"),
        (["participant_id age", "sub-01 60", "sub-01 61"], "two rows of 'sub-01'; keep one"),
    ],
)
def test_unusable_tables_are_refused(tmp_path, rows, message):
    if rows:
        write_table(tmp_path, *rows)
    with pytest.raises(UserError) as caught:
        Participants(tmp_path, ["age"])
    assert str(caught.value).startswith(f"{tmp_path / 'participants.tsv'}: found {message}")


@MAKE
def test_a_network_without_columns_has_the_weights_it_had(make):
    network, told = make(), make(columns=["age"])
    assert not [name for name in network.state_dict() if "column" in name]
    assert told.conditions == (*network.conditions, "age")
    assert {"column_names", "column_range", "condition_mean", "condition_sd"} <= told.state_dict().keys()


@MAKE
@torch.no_grad()
def test_a_column_matters_where_it_is_known_alone(make):
    torch.manual_seed(0)
    network = make(columns=["age", "sex"]).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    network.measure({"age": torch.tensor([50.0, NAN, 70.0]), "sex": torch.tensor([0.0, 1.0, 1.0])})
    x, own = torch.randn(1, 4, 4, 8 if network.mode == "concat" else 6), [NAN] * (len(network.conditions) - 2)

    def predict(age: float, sex: float) -> torch.Tensor:
        told = network.condition(torch.tensor([[*own, age, sex]]), x.shape[2:])
        if network.mode == "concat":
            return network(torch.cat([x, told], 1), torch.tensor([400.0]))
        return network(x, torch.tensor([400.0]), told)

    free = predict(NAN, NAN)
    assert free.isfinite().all()
    answers = [free, predict(60.0, NAN), predict(NAN, 1.0), predict(60.0, 1.0), predict(70.0, NAN)]
    assert all(not torch.allclose(a, b) for k, a in enumerate(answers) for b in answers[:k]), "the mean is not nothing"


@MAKE
def test_columns_are_standardised_by_what_is_known_of_them(make):
    network = make(columns=["age", "same"])
    network.measure({"age": torch.tensor([50.0, NAN, 70.0]), "same": torch.tensor([3.0, 3.0, NAN])})
    assert network.condition_mean[-2:].tolist() == [60.0, 3.0] and network.condition_sd[-2:].tolist() == [10.0, 1.0]
    assert network.column_ranges == {"age": (50.0, 70.0), "same": (3.0, 3.0)}
    asked = torch.full((1, len(network.conditions)), NAN)
    asked[0, -2] = 75.0
    values, known = network.standardise(asked).chunk(2, 1)
    assert values[0, -2:].tolist() == [1.5, 0.0] and known[0, -2:].tolist() == [1.0, 0.0]


def test_the_position_enters_the_unet_as_it_did():
    network = LatentDiffusionUNet(latent_channels=4, **TINY_UNET)
    network.measure({"position": torch.tensor([1.0, 5.0])})
    planes = network.condition(torch.tensor([[25.0], [NAN]]), (2, 3))
    assert planes.shape == (2, 2, 2, 3) and planes[:, :, 1, 1].tolist() == [[0.25, 1.0], [0.0, 0.0]]
    told = LatentDiffusionUNet(latent_channels=4, **TINY_UNET, columns=["age"])
    told.measure({"position": torch.tensor([1.0, 5.0]), "age": torch.tensor([40.0, 60.0])})
    assert told.condition(torch.tensor([[25.0, 60.0]]), (1, 1)).flatten().tolist() == [0.25, 1.0, 1.0, 1.0]


@MAKE
@pytest.mark.parametrize("trained", [(), ("sex", "age"), ("age", "weight"), ("age",)], ids=str)
def test_weights_with_other_columns_are_refused(make, trained, tmp_path):
    torch.save(make(columns=trained).state_dict(), tmp_path / "model.pt")
    with pytest.raises(UserError) as caught:
        load_weights(make(columns=["age", "sex"]), tmp_path / "model.pt", "train one")
    told = f"{', '.join(trained) or 'none'}; {'name ' + ', '.join(trained) + ' in this' if trained else 'leave it out'}"
    assert str(caught.value).startswith(f"columns: found age, sex with weights trained with {told}")


@MAKE
@pytest.mark.parametrize("columns", [["position"], ["age", "age"]], ids=str)
def test_a_name_stands_once(make, columns):
    with pytest.raises(UserError, match="columns: found two conditions named"):
        make(columns=columns)


@pytest.fixture
def slices(tmp_path, monkeypatch) -> LabelledSlices:
    """Heads between named ones; nothing is read or simulated."""

    class Velocities:
        def velocity(self, anatomy: str, other: str) -> dict:
            return One({other: 1.0})

    class One(dict):
        def __rmul__(self, share: float) -> dict:
            return {name: share for name in self}

    for name in ("sub-01.nii.gz", "sub-02.NII", "c.d.mgz"):
        (tmp_path / name).touch()
    monkeypatch.setattr(LabelMaps, "__getitem__", lambda self, number: self.participants[number])
    monkeypatch.setattr(labelled, "level", lambda anatomy, name: None)
    monkeypatch.setattr(labelled, "draw_shape", lambda random, anatomy, *others: (anatomy, others[-1]))
    return LabelledSlices(LabelMaps(tmp_path), seed=1, per_head=2, between=Velocities())


def test_shares_of_participants_are_those_of_the_head(slices):
    assert slices.anatomies.participants == ["c.d", "sub-01", "sub-02"]
    mixed = 0
    for number in range(30):
        anatomy, towards = slices.head(number)
        shares = slices.participants(2 * number)
        assert shares == slices.participants(2 * number + 1) and sum(shares.values()) == pytest.approx(1)
        assert {name: shares[name] for name in shares if name != anatomy} == (towards or {})
        mixed += len(shares) == 2
    assert 10 < mixed < 30
    assert all(list(replace(slices, between=None).participants(k).values()) == [1.0] for k in range(0, 60, 2))


class Latents:
    """Stands for latents of samples of two heads and of one between them."""

    encoder = None

    def __init__(self, folder, shares) -> None:
        self.data, self.participants_dir, self.shares = self, folder, shares

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, index: int) -> dict:
        return {"mean": torch.zeros(1), "index": index}

    def participants(self, index: int) -> dict[str, float]:
        return self.shares[index]


SHARES = [{"sub-01": 1.0}, {"sub-02": 1.0}, {"sub-01": 0.75, "sub-02": 0.25}, {"sub-03": 1.0}]


def test_a_head_between_two_has_a_value_between_theirs_or_an_unknown_one(tmp_path):
    write_table(tmp_path, "participant_id age sex", "sub-01 20 0", "sub-02 60 n/a")
    latents = ColumnLatents(Latents(tmp_path, SHARES), ["age", "sex"])
    items = [latents[index] for index in range(4)]
    assert [float(item["age"]) for item in items[:3]] == [20, 60, 30] and items[3]["age"].isnan()
    assert items[0]["sex"] == 0 and all(item["sex"].isnan() for item in items[1:])
    assert torch.equal(latents.all_values()["age"][:3], torch.tensor([20.0, 60.0, 30.0]))


@pytest.mark.parametrize(
    "columns,shares,message",
    [
        (["index"], SHARES, "columns: found 'index', which stands for something else; rename the column"),
        (
            ["age"],
            [{"sub-08": 1.0}, {"sub-09": 1.0}],
            "no known value in the column 'age' of those to train on (sub-08",
        ),
    ],
)
def test_columns_that_say_nothing_of_the_samples_are_refused(tmp_path, columns, shares, message):
    write_table(tmp_path, "participant_id age index", "sub-01 20 0", "sub-02 60 1")
    with pytest.raises(UserError) as caught:
        ColumnLatents(Latents(tmp_path, shares), columns).all_values()
    assert message in str(caught.value)


def test_a_network_that_is_told_nothing_trains_with_no_columns(tmp_path):
    network = LatentDiffusionUNet(latent_channels=4, **TINY_UNET, condition_channels=0)
    ColumnScale(network, Latents(tmp_path, SHARES), []).measure()
    with pytest.raises(UserError, match="columns: found age, and a network told none; name the same"):
        ColumnScale(network, Latents(tmp_path, SHARES), ["age"]).measure()


def test_columns_are_asked_for_as_other_conditions_are(caplog):
    plain, more = Conditions({"position": "-20:40"}), Conditions({"position": "-20:40"}, {"age": 60, "score": "-3:-1"})
    asked = more.draw(0, 5)
    assert asked["position"] == plain.draw(0, 5)["position"] and asked["age"] == 60 and -3 <= asked["score"] <= -1
    assert Conditions({}, ["age"]).draw(0, 0) == {"age": None}
    more.compare({"age": (50.0, 90.0), "score": (-2.5, 4.0)})
    assert [record.getMessage() for record in caplog.records] == [
        "score: -3 to -1 is asked, but training saw -2.5 to 4"
    ]
    with pytest.raises(UserError, match="age: found a value, and a network that knows no condition; leave it out of"):
        Conditions({}, {"age": 60}).check(())
