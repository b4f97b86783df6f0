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

"""The bundle's unit test in the model zoo's own form: it lies in ``ci/unit_tests`` there, and runs from the zoo's root.

    python ci/unit_tests/runner.py --b brain_mri_physics_latent_diffusion

Every config is checked and run, tiny, on fake scans; what one makes, such as weights, the next ones use.
"""

import json
import os
import shutil
import sys
import tempfile
import unittest

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow

BUNDLE_ROOT = "models/brain_mri_physics_latent_diffusion"
SCANS = {
    "T1w": {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0},
    "T2w": {"EchoTime": 0.09, "RepetitionTime": 4.5},
    "FLAIR": {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5},
}
RENDER = [{"name": "late", "suffix": "T2w", "EchoTime": 0.2, "RepetitionTime": 4.0}]
VAE = {"network_def::channels": [8, 8, 8], "network_def::norm_num_groups": 4, "network_def::skip_channels": [4, 4]}
POSTERIOR = {"posterior::voxels": 100, "posterior::steps": 4}
UNET = {"diffusion_def::channels": [32, 32, 32], "diffusion_def::num_head_channels": [0, 32, 32]}
TRAINING = {
    "max_epochs": 1,
    "val_interval": 1,
    "batch_size": 2,
    "crop_size": [32, 32, -1],
    "num_slices": 2,
    "slice_step": 1,
}
ORDER = [
    "acquisitions",
    "protocol_report",
    "simulate",
    "train_vae",
    "calibrate",
    "train_ldm",
    "convert",
    "inference",
    "render",
    "generate",
    "overlays",
]


def test_order(test_name1, test_name2):
    def get_order(name):
        return ORDER.index(name.removeprefix("test_"))

    return get_order(test_name1) - get_order(test_name2)


def write_scans(dataset_dir, subjects=2, shape=(32, 40, 4)):
    """Noise inside an ellipsoid, as a BIDS folder."""
    generator = np.random.default_rng(0)
    head = sum(np.linspace(-1, 1, n).reshape([-1 if i == a else 1 for i in range(3)]) ** 2 for a, n in enumerate(shape))
    for number in range(1, subjects + 1):
        anat = os.path.join(dataset_dir, f"sub-0{number}", "anat")
        os.makedirs(anat)
        for suffix, sidecar in SCANS.items():
            image = (generator.uniform(200, 1000, shape) * (head < 1)).astype(np.int16)
            stem = os.path.join(anat, f"sub-0{number}_{suffix}")
            nib.save(nib.Nifti1Image(image, np.eye(4)), f"{stem}.nii.gz")
            with open(f"{stem}.json", "w") as f:
                json.dump(sidecar, f)


class TestBrainMriPhysicsLatentDiffusion(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, BUNDLE_ROOT)
        cls.dir = tempfile.mkdtemp()
        cls.scans = os.path.join(cls.dir, "scans")
        write_scans(cls.scans)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def check(self, configs, workflow_type=None, run=True, run_id="run", **override):
        """Checks the properties of a workflow and runs it."""
        workflow = ConfigWorkflow(
            config_file=[os.path.join(BUNDLE_ROOT, f"configs/{name}.json") for name in configs.split("+")],
            logging_file=os.path.join(BUNDLE_ROOT, "configs/logging.conf"),
            meta_file=os.path.join(BUNDLE_ROOT, "configs/metadata.json"),
            workflow_type=workflow_type,
            run_id=run_id,
            bundle_root=BUNDLE_ROOT,
            **override,
        )
        workflow.initialize()
        self.assertFalse(workflow.check_properties())
        if run:
            workflow.run()
            workflow.finalize()

    def assert_written(self, *parts):
        self.assertTrue(os.path.isfile(self.path(*parts)), self.path(*parts))

    def test_acquisitions(self):
        self.check("acquisitions", dataset_dir=self.scans, output_dir=self.path("acquisitions"))
        self.assert_written("acquisitions", "acquisitions.tsv")

    def test_protocol_report(self):
        self.check("protocol_report", dataset_dir=self.scans, output_dir=self.path("report"))
        self.assertTrue(os.listdir(self.path("report")))

    def test_simulate(self):
        self.check("simulate", subjects=1, output_dir=self.path("simulated"), **{"simulator#resolution": 8})
        self.assert_written("simulated", "sub-01", "anat", "sub-01_T1w.nii.gz")

    def test_train_vae(self):
        self.check("train_vae", "train", dataset_dir=self.scans, runs_dir=self.path("runs"), **TRAINING, **VAE)
        self.assert_written("runs", "train_vae", "model.pt")

    def test_calibrate(self):
        files = {"weights": self.path("runs", "train_vae", "model.pt"), "output": self.path("model.pt")}
        self.check("calibrate", slices=1, cache_dir=self.path("slices"), **files, **VAE)
        self.assert_written("model.pt")

    def test_train_ldm(self):
        weights = {"vae_weights": self.path("model.pt")}
        networks = {**VAE, **UNET}
        config = "train_ldm+vae_latents"
        self.check(
            config, "train", dataset_dir=self.scans, runs_dir=self.path("runs"), **weights, **TRAINING, **networks
        )
        self.assert_written("runs", "train_ldm", "model.pt")

    def test_convert(self):
        source = self.path("runs", "train_ldm", "model.pt")
        self.check("convert", run_id="promote", source=source, target=self.path())
        self.assert_written("model_ldm.pt")

    def test_inference(self):
        files = {"weights": self.path("model.pt"), "output_dir": self.path("maps")}
        self.check("inference", "infer", threads=1, dataset_dir=self.scans, render=RENDER, **files, **VAE, **POSTERIOR)
        self.assert_written("maps", "sub-02", "anat", "sub-02_T1map.nii.gz")

    def test_render(self):
        self.check("render", dataset_dir=self.path("maps"), render=RENDER, output_dir=self.path("rendered"))
        self.assertTrue(os.listdir(self.path("rendered")))

    def test_generate(self):
        weights = {"codec_weights": self.path("model.pt"), "weights": self.path("model_ldm.pt")}
        small = {"threads": 1, "count": 1, "latent_size": [8, 8], "num_inference_steps": 2, "render": RENDER}
        self.check(
            "generate+vae_latents", "infer", output_dir=self.path("generated"), **weights, **small, **VAE, **UNET
        )
        self.assert_written("generated", "sub-0001", "anat", "sub-0001_T1map.nii.gz")

    def test_overlays(self):
        # The published networks are large, and the paper's perceptual loss is an optional extra.
        small = {"network_def::channels": [32, 32], **UNET}
        for stage in ("train_vae", "train_ldm"):
            for overlay, override in (("smoke", {}), ("paper", {**small, "loss_weights::perceptual": 0})):
                with self.subTest(stage=stage, overlay=overlay):
                    self.check(f"{stage}+{overlay}", "train", run=False, dataset_dir=self.scans, **override)
        for config in ("inference", "generate"):
            with self.subTest(config=config):
                self.check(f"{config}+published", "infer", run=False, dataset_dir=self.scans, **small)


if __name__ == "__main__":
    loader = unittest.TestLoader()
    loader.sortTestMethodsUsing = test_order
    unittest.main(testLoader=loader)
