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

"""What MONAI Deploy's bundle operator does with this bundle, as far as that goes without its runtime.

:class:`Operator` takes the steps of ``monai/deploy/operators/monai_bundle_inference_operator.py`` of version 3.5 for a
bundle that is a folder; nothing else of the package is there. The example of docs/python.md runs on top of it.
"""

import json
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from monai.utils import convert_to_dst_type, ensure_tuple, first

from tests.studies import SHAPE, SIDECARS, true_maps
from tests.test_programmatic import example, folder, run

__all__ = ["folder"]
MINE = {"image_acquisitions": ["T1w"], "image_protocol": "clinical_2d"}


class Image:
    """Deploy's image: an array and what is known of it."""

    def __init__(self, data: np.ndarray, metadata: dict | None = None) -> None:
        self.data, self.metadata = data, metadata or {}


class IOType(Enum):
    IN_MEMORY = 2


class Names:
    """Deploy's ``BundleConfigNames``: what the sections are called, and the files they are in."""

    def __init__(self, preproc="preprocessing", postproc="postprocessing", inferer="inferer", config_names="inference"):
        self.preproc, self.postproc, self.inferer = preproc, postproc, inferer
        self.config_names = [config_names] if isinstance(config_names, str) else config_names


class Operator:
    """Deploy's ``MonaiBundleInferenceOperator`` without a model in the application's context."""

    known_io_data_types = {"image": Image, "series": np.ndarray, "tuples": np.ndarray}

    def __init__(self, fragment, *args, app_context, input_mapping, output_mapping, bundle_path, **kwargs) -> None:
        self.bundle, self.names = Path(bundle_path), kwargs.get("bundle_config_names", Names())
        assert [one.label for one in input_mapping] == ["image"] and [one.label for one in output_mapping] == ["pred"]

    def compute(self, received: dict) -> dict:
        """What the operator's ports emit for what they receive."""
        self._read_config()
        network = self._load_network()
        name, *others = self.inputs
        with torch.no_grad():
            data = {key: self._receive(key, received[key]) for key in self.inputs}
            data = self._apply(self.preprocessing, data)
            image = data[name]
            inputs = data.pop(name)[None].to(self.device)
            tensors = {key: value[None].to(self.device) for key, value in data.items() if torch.is_tensor(value)}
            rest = {key: data[key] for key in others if not torch.is_tensor(data[key])}
            pred = ensure_tuple(self.inferer(inputs=inputs, network=network, **tensors, **rest))[0]
            pred = self._answer(pred, {**data, name: image})
        return {key: self._send(key, pred[key]) for key in self.outputs}

    def _read_config(self) -> None:
        configs = self.bundle / "configs"
        self.parser = ConfigParser()
        self.parser.read_meta(f=json.loads((configs / "metadata.json").read_text()))
        self.parser.read_config([configs / f"{name}.json" for name in self.names.config_names])
        self.parser.parse()
        self.device = self.parser.get_parsed_content("device")
        self.inferer = self.parser.get_parsed_content(self.names.inferer)
        formats = self.parser["_meta_"]["network_data_format"]
        self.inputs, self.outputs = formats["inputs"], formats["outputs"]
        self.preprocessing, self.postprocessing = map(self._compose, (self.names.preproc, self.names.postproc))

    def _compose(self, name: str) -> Compose:
        if self.parser.get(name) is None:
            return Compose([])
        compose = self.parser.get_parsed_content(name)
        dropped = ("LoadImage", "SaveImage")
        compose.transforms = tuple(t for t in compose.transforms if not any(d in type(t).__name__ for d in dropped))
        return compose

    def _load_network(self) -> torch.nn.Module:
        models = self.bundle / "models"
        if (models / "model.ts").exists():
            return torch.jit.load(models / "model.ts", map_location=self.device).eval()
        network = self.parser.get_parsed_content("network")
        state = torch.load(models / "model.pt", map_location=self.device, weights_only=True)
        network.load_state_dict(state, strict=True)
        return network.eval()

    def _receive(self, name: str, value: object) -> MetaTensor:
        metadata: dict = {}
        if isinstance(value, Image):
            value, metadata = value.data, value.metadata
        elif isinstance(value, np.ndarray):
            # Bare arrays of volumes have their channels last, as many as the metadata say.
            assert value.ndim == 4 and value.shape[-1] == self.inputs[name]["num_channels"]
            value, metadata = torch.from_numpy(value).to(self.device), {"original_channel_dim": -1}
        return MetaTensor.ensure_torch_and_prune_meta(convert_to_dst_type(value, dst=value)[0], metadata)

    @staticmethod
    def _apply(compose: Compose, data: dict) -> dict:
        if isinstance(first(compose.transforms), MapTransform):
            return compose(data)
        return {key: compose(value) for key, value in data.items()}

    def _answer(self, pred: torch.Tensor, data: dict) -> dict:
        name = first(self.outputs)
        if isinstance(first(self.postprocessing.transforms), MapTransform):
            return self.postprocessing({name: pred, **data})
        return {name: self.postprocessing(pred)}

    def _send(self, name: str, value: torch.Tensor) -> object:
        if self.known_io_data_types[self.outputs[name]["type"]] is np.ndarray:
            return np.asarray(value)
        return Image(np.swapaxes(np.squeeze(value.cpu().numpy(), 0), 0, 2).astype(np.uint8))


@pytest.fixture
def operator(folder, monkeypatch):
    """Makes the operator of the text, which imports the stand-ins; more config files may be named."""
    core = {"Image": Image, "IOType": IOType}
    mapping = lambda label, data_type, storage: SimpleNamespace(label=label)  # noqa: E731
    own = {"BundleConfigNames": Names, "IOMapping": mapping, "MonaiBundleInferenceOperator": Operator}
    packages = {"monai.deploy": {}, "monai.deploy.core": core, "monai.deploy.operators": {}}
    for name, content in {**packages, "monai.deploy.operators.monai_bundle_inference_operator": own}.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return run(example("MonaiBundleInferenceOperator"))["tissue_maps"](None, None)


def scans() -> nib.Nifti1Image:
    """All contrasts in one file, as another operator would hand them on."""
    return nib.load("contrasts.nii.gz")


def described(image: nib.Nifti1Image, channel: int | str) -> Image:
    meta = {"affine": image.affine, "original_affine": image.affine, "original_channel_dim": channel}
    return Image(image.get_fdata(dtype=np.float32), {**meta, "spacing": image.header.get_zooms()[:3]})


def check(pred: np.ndarray, shape: tuple = SHAPE) -> None:
    """These are maps: everywhere in the head, nowhere in air, T2 shorter than T1."""
    inside = true_maps()[0] > 0
    assert pred.shape == (6, *shape) and pred.dtype == np.float32
    assert (pred[:, inside] > 0).mean() > 0.95 and not pred[:, 0].any()
    assert np.median(pred[2][inside] / pred[1][inside]) < 1


def test_the_operator_makes_maps_of_an_image(operator):
    pred = operator.compute({"image": described(scans(), -1)})["pred"]
    check(pred)
    bare = operator.compute({"image": scans().get_fdata(dtype=np.float32)})["pred"]
    np.testing.assert_allclose(bare, pred, rtol=1e-4)  # their voxels are of 1 mm


def test_the_maps_come_on_the_grid_of_the_image(operator):
    whole = scans()
    flipped = whole.slicer[::-1]
    pred = operator.compute({"image": described(whole, -1)})["pred"]
    other = operator.compute({"image": described(flipped, -1)})["pred"]
    np.testing.assert_allclose(other[:, ::-1], pred, rtol=1e-3, atol=1e-5)


def test_a_third_file_says_what_other_contrasts_are(operator, folder):
    # The bundle is not the tests' to write to.
    bundle = folder / "mine"
    (bundle / "configs").mkdir(parents=True)
    for name in ("models", "scripts"):
        (bundle / name).symlink_to(operator.bundle / name)
    for file in (operator.bundle / "configs").glob("*.json"):
        (bundle / "configs" / file.name).symlink_to(file)
    (bundle / "configs/mine.json").write_text(json.dumps(MINE))
    operator.bundle, operator.names.config_names = bundle, [*operator.names.config_names, "mine"]
    one = scans().slicer[..., list(SIDECARS).index("T1w")]
    check(operator.compute({"image": described(one, "no_channel")})["pred"])


def test_what_the_text_says_does_not_go(operator):
    image = {"image": described(scans(), -1)}
    operator.names.preproc = "preprocessing"
    with pytest.raises(Exception, match="LoadSessiond"):
        operator.compute(image)
    operator.names.preproc, operator.known_io_data_types = "image_preprocessing", Operator.known_io_data_types
    with pytest.raises(ValueError, match="not equal to one"):
        operator.compute(image)
