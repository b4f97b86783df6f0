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

"""Generation: the k-th sample is a function of (seed, k), however the work is cut."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler

from scripts.bids import label_table
from scripts.commands.study.products import foreground_from_pd
from scripts.errors import UserError
from scripts.networks import DiffusionTransformer, FractionCodec, LatentDiffusionUNet, PhysicsVAE
from scripts.networks.samplers import MapSampler
from scripts.parallel import in_parallel
from scripts.tissue import REGIONS, class_values
from scripts.tissue.fractions import measure_areas

from .studies import CODEC, RENDER, UNET, VAE, files, workflow, write_weights

SCHEDULE = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0205}


@pytest.fixture(params=["fractions"])
def generate(tmp_path, request):
    """Runs generation, of tissue fractions or of latents of a VAE, and returns the output folder."""
    vae, weights = request.param == "vae", write_weights(tmp_path / "weights")
    names = ("vae", "ldm") if vae else ("codec", "transformer")

    def run(output: str, **overrides):
        options = {"codec_weights": weights[names[0]], "weights": weights[names[1]], "render": RENDER, "threads": 1}
        options |= {
            "count": 2,
            "latent_size": [8, 12] if vae else [4, 6],
            "num_inference_steps": 3,
            **({**VAE, **UNET} if vae else CODEC),
        }
        files = ("generate", "vae_latents") if vae else ("generate",)
        options |= {"output_dir": str(tmp_path / output), **overrides}
        workflow(*files, device="$torch.device('cpu')", **options).run()
        return tmp_path / output

    return run


BOTH = pytest.mark.parametrize("generate", ["fractions", "vae"], indirect=True)


def samples(folder) -> dict[str, bytes]:
    return {name: content for name, content in files(folder).items() if name.startswith("sub-")}


def networks(spatial_dims: int, condition_channels: int):
    torch.manual_seed(0)
    unet = LatentDiffusionUNet(
        spatial_dims=spatial_dims,
        condition_channels=condition_channels,
        channels=(8, 16),
        attention_levels=(False, True),
        num_head_channels=(0, 8),
        num_res_blocks=1,
        resblock_updown=False,
        norm_num_groups=8,
    )
    torch.nn.init.normal_(unet.out[2].conv.weight, std=0.05)
    return PhysicsVAE(spatial_dims, channels=(8, 8), norm_num_groups=4, skip_channels=(4,)), unet


@BOTH
def test_the_count_the_batch_size_the_threads_and_the_ranks_change_no_sample(generate, monkeypatch):
    reference = generate("three", count=3, batch_size=4, threads=2)
    two = samples(generate("two", count=2, batch_size=1))
    assert two == {name: content for name, content in samples(reference).items() if "sub-0003" not in name}
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        shared = generate("shared", count=3)
        assert (shared / "overview.png").exists() == (rank == "0")
    assert files(shared) == files(reference)


def test_samples_differ_and_another_seed_gives_others(generate):
    one, other = samples(generate("one")), samples(generate("other", seed=1))
    maps = [run[f"sub-000{k}/anat/sub-000{k}_T1map.nii.gz"] for run in (one, other) for k in (1, 2)]
    assert len(set(maps)) == 4


@BOTH
def test_a_rerun_makes_what_is_missing_and_adds_what_is_new(generate, monkeypatch):
    whole, out = files(generate("whole", count=3)), generate("out", count=2, render=RENDER[:1])
    (out / "sub-0001" / "anat" / "sub-0001_manifest.json").unlink()
    drawn, original = [], MapSampler.latent
    monkeypatch.setattr(MapSampler, "latent", lambda self, *a: drawn.append(a[0]) or original(self, *a))
    assert files(generate("out", count=3)) == whole
    assert drawn == [(0, 0), (0, 2)]


def test_another_seed_into_the_same_folder_is_refused(generate):
    before = files(generate("out"))
    with pytest.raises(RuntimeError) as caught:
        generate("out", seed=7)
    error = caught.value
    while not isinstance(error, UserError):
        error = error.__cause__
    assert "sample.seed 0 (now 7)" in str(error)
    assert files(generate("out")) == before


@BOTH
@pytest.mark.parametrize("given,lowest,highest", [(12.5, 12.5, 12.5), ("-5:40", -5, 40), ("none", None, None)])
def test_the_position_is_asked_for_drawn_or_left_free(generate, given, lowest, highest):
    out = generate("out", position=given)
    found = []
    for name in ("sub-0001", "sub-0002"):
        anat = out / name / "anat"
        requested = json.loads((anat / f"{name}_T1map.json").read_text())["GeneratedFrom"]["requested"]
        found.append(requested["position"])
        image = nib.load(anat / f"{name}_T1map.nii.gz")
        assert image.shape[2] == 1 and nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.affine[2, 3] == pytest.approx(found[-1] or 0.0)
        np.testing.assert_allclose(image.affine[:2, 3], [(1 - size) / 2 for size in image.shape[:2]])
    if lowest is None:
        assert found == [None, None]
    else:
        assert all(lowest <= position <= highest for position in found) and (found[0] == found[1]) == (given == 12.5)


def test_what_was_asked_for_and_what_came_out_stand_in_the_sidecar(generate):
    out = generate("out", ventricle="5:20", lesions=0, field_strength=7.0)
    anat = out / "sub-0001" / "anat"
    sidecar = json.loads((anat / "sub-0001_T2map.json").read_text())
    requested = sidecar["GeneratedFrom"]["requested"]
    assert 5 <= requested["ventricle"] <= 20 and requested["lesions"] == 0 and requested["brain"] is None
    ventricle = nib.load(anat / "sub-0001_label-ventricle_probseg.nii.gz").get_fdata()
    assert sidecar["Measured"]["ventricle"] == pytest.approx(ventricle.sum() / 100, abs=0.01)
    assert sidecar["Tissue"]["white matter"][1] > 1.0, "T1 at 7 T"


def test_a_condition_more_changes_no_other(generate):
    one, two = (generate(name, **asked) for name, asked in (("one", {}), ("two", {"ventricle": "5:20"})))
    position = [
        json.loads((out / "sub-0002" / "anat" / "sub-0002_PDmap.json").read_text())["GeneratedFrom"]["requested"]
        for out in (one, two)
    ]
    assert position[0]["position"] == position[1]["position"]


def test_fractions_add_up_and_the_label_map_shows_the_largest(generate):
    anat = generate("out", count=1) / "sub-0001" / "anat"
    shares = {
        path.name.split("_label-")[1].split("_")[0]: nib.load(path).get_fdata() for path in anat.glob("*_probseg*gz")
    }
    fluid = shares.pop("CSF")
    np.testing.assert_allclose(sum(shares.values()), 1, atol=1e-3)
    np.testing.assert_allclose(fluid, shares["outerCSF"] + shares["ventricle"], atol=1e-3)
    labels = nib.load(anat / "sub-0001_dseg.nii.gz").get_fdata()
    names = json.loads((anat / "sub-0001_dseg.json").read_text())["Labels"]
    white = shares["whiteMatter"] > 0.5
    assert all(names[str(int(number))] == "WM" for number in np.unique(labels[white]))
    assert (anat.parents[1] / "dseg.tsv").read_text() == label_table(REGIONS)
    volumes = pd.read_csv(anat / "sub-0001_volumes.tsv", sep="\t").set_index("name")
    assert volumes["volume_ml"]["WM"] == pytest.approx(shares["whiteMatter"].sum() / 1000, abs=2e-3)
    assert volumes["volume_dseg_ml"].tolist() == [round((labels == n).sum() / 1000, 3) for n in range(len(REGIONS))]


def test_noise_is_added_to_contrasts_and_to_no_map(generate):
    clean, noisy = (samples(generate(name, count=1, noise=noise)) for name, noise in (("a", None), ("b", 20.0)))
    maps = [name for name in clean if "map.nii.gz" in name or "probseg.nii.gz" in name]
    contrasts = [name for name in clean if "acq-" in name and name.endswith(".nii.gz")]
    assert maps and all(clean[name] == noisy[name] for name in maps)
    assert contrasts and all(clean[name] != noisy[name] for name in contrasts)
    more = samples(generate("c", count=2, noise=20.0))
    assert all(more[name] == content for name, content in noisy.items())


def test_a_users_own_table_gives_the_tissue(generate, tmp_path):
    (tmp_path / "table.json").write_text('{"white matter": [0.6, 0.5, 0.05]}')
    anat = generate("out", count=1, tissue=str(tmp_path / "table.json")) / "sub-0001" / "anat"
    tissue = json.loads((anat / "sub-0001_T1map.json").read_text())["Tissue"]
    assert tissue["white matter"] == [0.6, 0.5, 0.05]
    assert tissue["cortex"] == pytest.approx(class_values("cortex", 3.0))


@pytest.mark.parametrize(
    "overrides,message",
    [
        ({"count": 0}, "count: found 0"),
        ({"seed": -1}, "seed: found -1"),
        ({"position": "top"}, "position: found 'top'; give a number, a range such as 5:20, or none [mm]"),
        ({"ventricle": "20:5"}, "ventricle: found a range from 20 down to 5; give the lower end first"),
        ({"lesions": -1}, "lesions: found -1 cm²; use numbers from 0"),
        ({"brain": "1:2:3"}, "brain: found '1:2:3'"),
        ({"ventricle": 1e30}, "ventricle: found 1e+30; use numbers up to 1e+06"),
        ({"field_strength": 4.0}, "field_strength: found 4.0; give one of 1.5, 3, 7 [T]"),
        ({"tissue": "absent.json"}, "tissue: found 'absent.json', no readable table"),
        ({"latent_size": [5, 6]}, "latent_size"),
        ({"weights": "absent.pt"}, "train one with configs/train_ldm.json"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(generate, tmp_path, overrides, message):
    with pytest.raises(RuntimeError) as caught:
        generate("out", **overrides)
    error = caught.value
    while not isinstance(error, UserError):
        error = error.__cause__
    assert message in str(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spatial_dims,condition_channels", [(2, 2), (2, 0), (3, 2)])
@pytest.mark.parametrize("scheduler,trained_with", [(DDIMScheduler, 1000), (DDPMScheduler, 3)])
def test_a_sample_depends_on_its_address_alone(spatial_dims, condition_channels, scheduler, trained_with):
    vae, unet = networks(spatial_dims, condition_channels)
    sampler = MapSampler(scheduler(trained_with, **SCHEDULE), 3, (4, 8, 4)[:spatial_dims])
    torch.manual_seed(1)
    at = {"position": 3.0}
    expected, state = sampler((0, 5), vae, unet, at), torch.get_rng_state()
    assert expected.shape == (1, 3, *(8, 16, 8)[:spatial_dims])
    assert torch.equal(sampler((0, 5), vae, unet, at), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(sampler((0, 6), vae, unet, at), expected)
    free = sampler((0, 5), vae, unet)
    assert torch.equal(free, expected) == (condition_channels == 0)
    beside = in_parallel(lambda address: sampler(address, vae, unet, at), [(0, 6), (0, 5)] * 2, torch.device("cpu"))
    assert torch.equal([*beside][3], expected)


def test_ddpm_with_fewer_steps_than_trained_with_is_refused():
    with pytest.raises(UserError, match="num_inference_steps: found 50"):
        MapSampler(DDPMScheduler(1000, **SCHEDULE), 50)


@pytest.mark.parametrize("guidance", [-1, "strong", None])
def test_guidance_is_a_scale(guidance):
    with pytest.raises(UserError, match="guidance: found"):
        MapSampler(DDIMScheduler(1000, **SCHEDULE), guidance=guidance)


def test_guidance_changes_samples_and_what_they_say_they_depend_on():
    vae, unet = networks(2, 2)
    with torch.no_grad():
        unet.out[2].conv.weight.normal_(0, 0.1)
    at, strengths = {"position": 30.0}, (0.0, 1.0, 2.0)
    samplers = [MapSampler(DDIMScheduler(1000, **SCHEDULE), 3, (4, 8), guidance) for guidance in strengths]
    untold, told, guided = (sampler((0, 0), vae, unet, at) for sampler in samplers)
    torch.testing.assert_close(untold, samplers[1]((0, 0), vae, unet), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(told, guided) and samplers[1].settings != samplers[2].settings


def test_areas_are_asked_for_again_and_what_cannot_be_measured_is_not(monkeypatch):
    told, codec, diffusion = [], FractionCodec(), DiffusionTransformer((2, 2), width=32, depth=1)

    def draw(self, inputs, channels, diffusion, asked):
        told.append(asked)
        return torch.zeros(1, channels, 2, 2)

    monkeypatch.setattr(MapSampler, "draw", draw)
    sampler = MapSampler(RFlowScheduler(1000), 2, (2, 2), corrections=5)
    sampler.latent((0, 0), codec, diffusion, {"position": 3.0, "lesions": None})
    assert told == [{"position": 3.0, "lesions": None}]
    found = measure_areas(codec.decode(torch.zeros(1, 32, 2, 2)))["brain"].item()
    sampler.latent((0, 0), codec, diffusion, {"position": 3.0, "brain": found + 1.0})
    brains = [one["brain"] - found for one in told[1:]]
    # What is made does not change: each time the largest step, twice what is missing, halfway where that is 9 or more.
    assert brains == pytest.approx([1, 2, 4, 6, 8, 8.5], abs=1e-4) and {one["position"] for one in told} == {3.0}


def test_latents_are_divided_by_their_scale_before_decoding():
    vae, unet = networks(2, 0)
    sampler = MapSampler(DDIMScheduler(1000, **SCHEDULE, clip_sample=False), 3, (4, 8))
    decoded = []
    vae.decode_stage_2_outputs = lambda z: decoded.append(z) or vae.decode(z)
    sampler((0, 0), vae, unet)
    unet.scale_factor.fill_(4.0)
    sampler((0, 0), vae, unet)
    torch.testing.assert_close(decoded[0], 4 * decoded[1])


def test_the_foreground_has_no_holes_and_no_specks():
    pd = np.full((20, 20, 1), 0.01)
    pd[3:15, 3:15] = 0.8
    pd[8:10, 8:10] = 0.02
    pd[18, 18] = 0.9
    expected = np.zeros(pd.shape, bool)
    expected[3:15, 3:15] = True
    assert (foreground_from_pd(pd)[..., 0] == expected[..., 0]).all()
    assert (foreground_from_pd(700 * pd) == expected).all(), "whatever the unit of PD"
    assert not foreground_from_pd(np.zeros((4, 4, 1))).any()


@pytest.mark.parametrize("closed", [True, False])
def test_the_foreground_of_a_head_is_brain_skull_and_scalp(closed):
    x, y = np.meshgrid(np.arange(-30, 30), np.arange(-30, 30), indexing="ij")
    radius = np.hypot(x, y)
    brain, scalp = radius < 20, (radius > 23) & (radius < 26)
    scalp &= closed | (np.abs(x) > 2)
    found = foreground_from_pd((0.8 * brain + 0.7 * scalp)[..., None])[..., 0]
    assert found[brain | scalp].all() and not found[radius >= 26].any()
    assert found[(radius >= 20) & (radius <= 23)].all() == closed


def test_the_config_is_complete_before_there_are_weights():
    made = workflow("generate", output_dir="absent")
    assert made.check_properties() == []


def test_diffusion_weights_for_other_latents_are_refused(generate, tmp_path):
    path = tmp_path / "weights" / "transformer.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "vae_digest": torch.ones(32, dtype=torch.uint8)}, path)
    with pytest.raises(RuntimeError) as caught:
        generate("out")
    assert "made with other latents than those of" in str(caught.value.__cause__)
    assert not (tmp_path / "out").exists()
