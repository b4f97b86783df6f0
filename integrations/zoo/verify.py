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

"""The model zoo's own checks on this bundle, from a checkout of the zoo and without network.

    .venv/bin/python integrations/zoo/verify.py --zoo CHECKOUT [--schema FILE]

What the zoo would get of the bundle is copied to a scratch copy of the zoo, with its unit test; the network, which
TorchScript cannot compile, goes on the copy's list of such bundles. Then the zoo's own scripts run: prepare_schema.py,
verify_bundle.py in full mode, the unit test by runner.py, and the formatters of runtests.sh.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "brain_mri_physics_latent_diffusion"
BUNDLE = ("LICENSE", "README.md", "configs", "docs", "integrations", "large_files.yml", "models", "scripts")
"""What the zoo would get. Tests and benchmarks stay with the development of the bundle."""
ZOO = ("ci", "pyproject.toml", "setup.cfg")
UNIT_TEST = f"test_{NAME}.py"
TORCHSCRIPT_EXCEPTION = f'\nexclude_verify_torchscript_list.append("{NAME}")\n'
CHECKS = {
    "schema": ["ci/prepare_schema.py", "--l", NAME],
    "bundle": ["ci/verify_bundle.py", "--b", NAME, "--mode", "full"],
    "unit test": ["ci/unit_tests/runner.py", "--b", NAME],
    "isort": ["-m", "isort", "--check", "."],
    "black": ["-m", "black", "--skip-magic-trailing-comma", "--check", "."],
    "flake8": ["-m", "flake8", ".", "--count", "--statistics"],
}


def copy(source: Path, target: Path) -> None:
    """Copies a file or a folder, without what Python or the bundle's runs left in it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def prepare(zoo: Path, schema: Path | None, scratch: Path) -> None:
    """Makes the scratch copy of the zoo with the bundle in it."""
    for name in (*ZOO, "models/model_info.json"):
        copy(zoo / name, scratch / name)
    for name in BUNDLE:
        copy(ROOT / name, scratch / "models" / NAME / name)
    if schema is not None:
        # prepare_schema.py downloads what is not there yet.
        copy(schema, scratch / "models" / schema.name)
    copy(HERE / UNIT_TEST, scratch / "ci/unit_tests" / UNIT_TEST)
    with (scratch / "ci/bundle_custom_data.py").open("a") as file:
        file.write(TORCHSCRIPT_EXCEPTION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--zoo", type=Path, required=True, help="a checkout of github.com/Project-MONAI/model-zoo")
    parser.add_argument("--schema", type=Path, help="the file that metadata.json names as its schema, to stay offline")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), help="only these")
    arguments = parser.parse_args()
    for path in [arguments.zoo / "ci/verify_bundle.py", *([arguments.schema] if arguments.schema else [])]:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    with TemporaryDirectory() as folder:
        prepare(arguments.zoo, arguments.schema, Path(folder))
        environment = {**os.environ, "PYTHONPATH": folder}
        for name in [name for name in CHECKS if name in arguments.checks]:
            print(f"== {name}", flush=True)
            if subprocess.run([sys.executable, *CHECKS[name]], cwd=folder, env=environment).returncode:
                sys.exit(f"{name}: failed")
    print("all checks passed")


if __name__ == "__main__":
    main()
