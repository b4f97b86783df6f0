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

"""MONAI Label with this bundle, from nothing to answers: environment, server, requests, picture, stop.

    .venv/bin/python integrations/monailabel/round_trip.py --environment runs/monailabel

Run it with the bundle's own Python. The environment is made once (some minutes, 3 GB; ``PIP_ARGS`` holds options for
pip), the server gets a free port of the loopback interface, and it is stopped when the requests are done or fail.
"""

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import requests
from picture import draw

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
NAME = "brain_mri_physics_latent_diffusion"
READY = "ready"
"""File of a complete environment."""
SUFFIXES = ("T1w", "T2w", "FLAIR")
SLAB = 4
"""Axial slices of the scans that are sent."""
CONTRAST = {"output": "signal", "sequence": "inversion_recovery", "te": 0.015, "tr": 4.0, "ti": 0.4}
START, ANSWER = 300, 600
"""Longest time [s] until the server runs, and until it answers."""


def build(environment: Path) -> None:
    """Makes the environment unless it is complete."""
    if (environment / READY).exists():
        return
    rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin/python", "-m", "pip", "install", *shlex.split(os.environ.get("PIP_ARGS", ""))]
    [torch] = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch==")]
    # First and alone, as in the Makefile: else a dependency chooses the build of torch.
    subprocess.run([*pip, torch], check=True)
    subprocess.run([*pip, "-r", ROOT / "requirements.txt", "-r", HERE / "requirements.txt"], check=True)
    subprocess.run([*pip, "--no-deps", "-r", HERE / "requirements-alone.txt"], check=True)
    (environment / READY).touch()


@contextmanager
def server(environment: Path, work: Path) -> Iterator[str]:
    """Runs MONAI Label on the files of ``work / "studies"``; gives its address."""
    app = work / "monaibundle"
    copytree(environment / "monailabel/sample-apps/monaibundle", app)
    (app / "model").mkdir()
    (app / "model" / NAME).symlink_to(ROOT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [environment / "bin/python", HERE / "serve.py", "start_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--app", app, "--studies", work / "studies", "--conf", "models", NAME]
    # Any other source of bundles would be asked for a list of them over the network.
    settings = {**os.environ, "BUNDLE_DOWNLOAD_SRC": "ngc"}
    with open(work / "server.log", "wb") as log:
        process = subprocess.Popen(command, env=settings, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait(url, process, work / "server.log")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def wait(url: str, process: subprocess.Popen, log: Path) -> None:
    """Returns when the server answers."""
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(f"{url}/info/", timeout=START).ok:
                return
        except requests.ConnectionError:
            time.sleep(2)
    raise SystemExit(f"error: the server did not start:\n{log.read_text()[-3000:]}")


def prepare(study: Path, folder: Path) -> None:
    """Simulates a subject unless it is there, and puts a slab of its scans into the server's folder.

    The slab lies as no grid of the bundle does: left before right, and tilted.
    """
    from scripts.simulate import Simulator

    anat = Simulator(study, subjects=1).run() / "sub-01/anat"
    folder.mkdir()
    slabs = []
    for suffix in SUFFIXES:
        scan = nib.load(anat / f"sub-01_{suffix}.nii.gz")
        start = round(0.5 * scan.shape[2])
        scan = scan.slicer[::-1, :, start : start + SLAB]
        angle = np.deg2rad(4.0)
        tilt = np.eye(4)
        tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        slabs.append(nib.Nifti1Image(scan.get_fdata(dtype=np.float32), tilt @ scan.affine))
        nib.save(slabs[-1], folder / f"sub-01_{suffix}.nii.gz")
        (folder / f"sub-01_{suffix}.json").write_text((anat / f"sub-01_{suffix}.json").read_text())
    whole = nib.concat_images(slabs)
    nib.save(whole, folder / "whole.nii.gz")
    nib.save(whole.slicer[:, :, :1], folder / "slice.nii.gz")
    nib.save(slabs[0], folder.parent / "elsewhere.nii.gz")


class Client:
    """Asks the server for images of the files in its folder.

    Args:
        url: of the server.
        folder: where answers go.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = f"{url}/infer/{NAME}", folder

    def ask(self, image: str, parameters: dict, upload: bool = False) -> tuple[requests.Response, float]:
        """The server's response and the seconds it took; with ``upload`` the file is sent, not only named."""
        begin = time.monotonic()
        query, form = {"output": "image"}, {"params": json.dumps(parameters)}
        if upload:
            with open(self.folder / f"{image}.nii.gz", "rb") as file:
                response = requests.post(self.url, params=query, data=form, files={"file": file}, timeout=ANSWER)
        else:
            response = requests.post(self.url, params={**query, "image": image}, data=form, timeout=ANSWER)
        return response, time.monotonic() - begin

    def image(self, title: str, image: str, upload: bool = False, **parameters: object) -> np.ndarray:
        """The answer's voxels, after a look at its geometry."""
        response, seconds = self.ask(image, parameters, upload)
        if not response.ok:
            raise SystemExit(f"error: {title}: {response.status_code} {response.text}")
        path = self.folder / "answer.nii.gz"
        path.write_bytes(response.content)
        answer, asked = nib.load(path), nib.load(self.folder / f"{image}.nii.gz")
        np.testing.assert_array_equal(answer.shape, asked.shape[:3])
        np.testing.assert_allclose(answer.affine, asked.affine, atol=1e-3)
        voxels = answer.get_fdata(dtype=np.float32)
        assert np.isfinite(voxels).all() and voxels.any() and answer.get_data_dtype() == np.float32
        median = np.median(voxels[voxels > 0])
        print(f"{title}: {' x '.join(map(str, answer.shape))} in {seconds:.1f} s, median {median:.3g}")
        return voxels

    def refusal(self, image: str, says: str, **parameters: object) -> None:
        """Checks that the answer to a wrong request says what is wrong."""
        response, seconds = self.ask(image, parameters)
        assert response.status_code >= 400 and says in response.text, f"{response.status_code} {response.text}"
        print(f"refused with {response.status_code} in {seconds:.1f} s: {response.json()['detail']}")


def run(url: str, studies: Path) -> dict[str, np.ndarray]:
    """All kinds of requests; the images for the picture by title."""
    information = requests.get(f"{url}/info/", timeout=ANSWER).json()["models"][NAME]
    # Parameters of ours would stand here only if the server evaluated what requests give for them.
    assert set(information["config"]) == {"device", "model_filename"}, information["config"]
    print(f"/info: {NAME} {information['version']}")
    client = Client(url, studies)
    others = [f"sub-01_{suffix}.nii.gz" for suffix in SUFFIXES[1:]]
    told = [{"suffix": suffix, **json.loads((studies / f"sub-01_{suffix}.json").read_text())} for suffix in SUFFIXES]
    told = [{key: value for key, value in one.items() if not key.startswith(("Sig", "Par"))} for one in told]

    shown = {"t1": client.image("4D, acquisitions given, t1", "whole", acquisitions=told, output="t1")}
    listed = client.image("list of files, t1", "sub-01_T1w", files=others, output="t1")
    np.testing.assert_allclose(listed, shown["t1"], rtol=1e-3)
    sent = client.image("4D, uploaded, t1", "whole", upload=True, acquisitions=told, output="t1")
    np.testing.assert_array_equal(sent, shown["t1"])
    client.refusal("whole", "output", output="t3", acquisitions=told)
    client.refusal("whole", "EchoTime", output="signal", sequence="spin_echo", te=20, tr=0.5, acquisitions=told)
    client.refusal("whole", "2 for 3 contrasts", acquisitions="T1w,T2w", protocol="clinical_2d")
    client.refusal("slice", "seed", acquisitions=told, seed=-1)
    client.refusal("slice", "use one of: oasis3", protocol="$import this")
    client.refusal(str(studies.parent / "elsewhere.nii.gz"), "outside the server's folder", protocol="oasis3")
    client.refusal("sub-01_T1w", "twice", files=["sub-01_T1w.nii.gz"])
    client.refusal("slice", "use model.pt", protocol="oasis3", model_filename="model_ldm.pt")
    for asked in ({"output": "t1_sd"}, {"output": "t2"}, {"output": "pd"}, CONTRAST):
        output = asked["output"]
        shown[output] = client.image(f"4D, {output}", "whole", acquisitions=told, **asked)
    client.image("single contrast, t2", "sub-01_T1w", output="t2")
    client.image("slice of contrasts named by protocol, t1", "slice", protocol="oasis3", output="t1")
    client.image("slice of unknown contrasts, t2_sd", "slice", protocol="unknown", output="t2_sd")
    one, same, other = (
        client.image(f"slice, signal, seed {seed}", "slice", acquisitions=told, seed=seed, **CONTRAST)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    return shown


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--environment", type=Path, default=ROOT / "runs/monailabel", help="folder to install into")
    parser.add_argument("--picture", type=Path, help="where to draw scans and answers")
    options = parser.parse_args()
    environment = options.environment.resolve()
    build(environment)
    with TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(environment / "study", work / "studies")
        begin = time.monotonic()
        with server(environment, work) as url:
            print(f"server started in {time.monotonic() - begin:.0f} s")
            shown = run(url, work / "studies")
        if options.picture:
            scans = {suffix: nib.load(work / f"studies/sub-01_{suffix}.nii.gz").get_fdata() for suffix in SUFFIXES}
            parameters = json.dumps({"acquisitions": "…", **CONTRAST}, indent=4, ensure_ascii=False)
            draw(options.picture, scans, shown, f"POST /infer/{NAME}\n\nparams = {parameters}")
    print("round trip complete")


if __name__ == "__main__":
    main()
