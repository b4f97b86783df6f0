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

"""Both training stages on slices that are simulated while they run."""

import numpy as np
import pytest

from .processes import bundle_run
from .test_training import ROOT, assert_same_state, command, configs, kill_after_an_epoch, simulated, train


def test_both_stages_train_on_simulated_slices(tmp_path):
    options = simulated(tmp_path)
    vae = train("vae", None, tmp_path, **options, slice_crop=[24, 32])
    ldm = train("ldm", None, tmp_path, **options, vae_weights=str(vae / "model.pt"))
    again = train("ldm", None, tmp_path, **options, vae_weights=str(vae / "model.pt"), output_dir=str(tmp_path / "b"))
    assert_same_state(ldm, tmp_path / "b")
    assert again.exists() and len(list(tmp_path.glob("slices-*/latents-*.pt"))) == 2
    header, row = (line.split("\t") for line in (vae / "history.tsv").read_text().splitlines())
    assert all(np.isfinite(float(number)) for number in row) and "T2 error GM" in header


def test_who_simulates_the_slices_and_when_changes_nothing(tmp_path):
    """One run that simulates each slice when it needs it = one that others simulate ahead of, killed and resumed."""
    parts = {name: tmp_path / name for name in ("alone", "ahead")}
    for part in parts.values():
        part.mkdir()
    alone, ahead = (
        simulated(part) | {"slices": 24, "max_epochs": 3, "slice_crop": [24, 32]} for part in parts.values()
    )
    train("vae", None, parts["alone"], **alone)
    ahead |= {"stream::workers": 2, "stream::slices::per_head": 8}
    config = ["--config_file", str(ROOT / "configs/train_vae.json")]
    words = command("vae", None, parts["ahead"], *config, overrides=ahead)
    kill_after_an_epoch(words, parts["ahead"] / "train_vae/last.pt")
    train("vae", None, parts["ahead"], resume=True, **ahead)
    assert_same_state(*(part / "train_vae" for part in parts.values()))


@pytest.mark.parametrize("stage", ["vae", "ldm"])
def test_volumes_without_a_folder_are_refused_in_one_line(stage, tmp_path):
    config = ["--config_file", str(configs(stage))]
    options = {"cache_dir": tmp_path / "slices", "spatial_dims": 3, "dataset_dir": "None"}
    result = bundle_run(*command(stage, None, tmp_path, *config, overrides=options)[1:], cwd=ROOT)
    assert result.returncode == 2 and not (tmp_path / "slices").exists()
    assert result.stderr.splitlines()[-1].startswith("error: spatial_dims: found 3 without a folder of scans; ")
