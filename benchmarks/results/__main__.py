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

"""``python -m benchmarks.results PART``"""

import argparse
import sys
from pathlib import Path

from scripts.errors import UserError
from scripts.evaluate.contrasts import render, with_gain
from scripts.evaluate.estimators import BOTH, estimators

from . import __doc__ as about
from . import duration, generation, heads, patient, targets, two_echoes, volumes
from .estimators import CONFIG, WEIGHTS, load_network, load_posterior
from .label_maps import WIDE
from .page import PAGE, ROOT, fill
from .phantoms import FILES, phantom_truth
from .pictures import contrasts_picture, maps_picture
from .settings import Settings, load_settings
from .tables import acquisitions, markdown
from .truth import signals

PARTS = ("heads", "wide", "phantom", "object", "real", "generation", "volumes", "time")


def head_part(options: argparse.Namespace, settings: Settings) -> str:
    """Heads from label maps."""
    ways = estimators(load_network(options.weights, options.config), load_posterior(options.config))
    truths = heads.label_map_truths(settings, data(options, "label_maps"))
    evaluations, ceiling = heads.evaluate(truths, settings, ways)
    for number in (0, 3):
        protocol, (truth, found) = evaluations[number].protocol, evaluations[number].example
        where = f"{truth.name}, {protocol.name}"
        maps_picture(options.pictures / f"results_maps_{number + 1}.jpg", where, truth, found.estimate)
    truth, found = evaluations[0].example
    rows, z = settings.unseen.rows, truth.maps.shape[-1] // 2
    target = signals(truth, rows).abs()
    image = with_gain(target, render(found.estimate.log_maps[0], rows, truth.mask, found.fluid), rows, truth.brain)
    names = [request.name for request in settings.unseen.requests]
    title = f"Unseen contrasts of {truth.name} from {evaluations[0].protocol.name}"
    shown = target[..., z], image[..., z], truth.mask[..., z], truth.brain[..., z]
    contrasts_picture(options.pictures / "results_contrasts.jpg", title, names, *shown)
    text = markdown(evaluations, ceiling, targets.checks(evaluations))
    return f"{text}\nUnseen contrasts: {acquisitions(settings.unseen)}.\n"


def wide_part(options: argparse.Namespace, settings: Settings) -> str:
    """The same heads with tissue far from the literature, as shipped only."""
    every = estimators(load_network(options.weights, options.config), load_posterior(options.config))
    truths = heads.label_map_truths(settings, data(options, "label_maps"), WIDE)
    evaluations, ceiling = heads.evaluate(truths, settings, {BOTH: every[BOTH]})
    return markdown(evaluations, ceiling, targets.checks(evaluations))


def phantom_part(options: argparse.Namespace, settings: Settings) -> str:
    """The head of asldro at two field strengths."""
    ways, text = estimators(load_network(options.weights, options.config), load_posterior(options.config)), []
    for field_strength, file in FILES.items():
        path = data(options, "phantom") / "asldro" / file
        truth = phantom_truth(path, settings.phantom, field_strength)
        evaluations, ceiling = heads.evaluate([truth], settings, ways)
        checks = targets.checks(evaluations, unusual=field_strength == 3.0)
        text.append(f"### {truth.name}\n\n{markdown(evaluations, ceiling, checks)}")
        maps_picture(
            options.pictures / f"results_phantom_{field_strength * 10:.0f}.jpg",
            f"{truth.name}, {evaluations[0].protocol.name}",
            truth,
            evaluations[0].example[1].estimate,
        )
    return "\n".join(text)


def data(options: argparse.Namespace, name: str) -> Path:
    """A folder of the development data.

    Raises:
        UserError: when it is not there.
    """
    folder = options.shared / "data" / name
    if not folder.is_dir():
        raise UserError(folder, "no such folder", "name the folder that holds data/ with --shared")
    return folder


def run(options: argparse.Namespace) -> str:
    """Markdown of one part."""
    settings = load_settings()
    if options.part == "heads":
        return head_part(options, settings)
    if options.part == "wide":
        return wide_part(options, settings)
    if options.part == "phantom":
        return phantom_part(options, settings)
    if options.part in ("generation", "volumes"):
        if options.samples is None:
            raise UserError("--samples", "nothing", "name the folder that configs/generate.json wrote")
        folder = data(options, "label_maps")
        if options.part == "volumes":
            return volumes.run(options.samples, options.estimated, folder, options.pictures, settings.seed)
        return generation.run(options.samples, options.asked, folder, options.pictures, settings.seed)
    network, posterior = load_network(options.weights, options.config), load_posterior(options.config)
    if options.part == "object":
        return two_echoes.run(data(options, "test_object"), estimators(network, posterior))
    if options.part == "real":
        control = None if options.control is None else load_network(options.control, options.config)
        return patient.run(data(options, "real"), network, control, options.pictures, posterior)
    return duration.run(network, settings, options.threads, posterior)


def main() -> None:
    """Measures one part, prints it and puts it into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=about.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of the estimator")
    parser.add_argument("--config", type=Path, default=CONFIG, help="that defines the network")
    parser.add_argument("--control", type=Path, help="weights of a network trained without physics, for real")
    parser.add_argument("--samples", type=Path, help="folder of samples, for generation and volumes")
    parser.add_argument("--estimated", type=Path, help="folder of maps estimated from the samples, for volumes")
    parser.add_argument(
        "--asked", type=Path, nargs="*", default=[], help="folders of samples of which areas were asked"
    )
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder of the development data")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs", help="folder of the pictures")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to fill in")
    parser.add_argument("--threads", type=int, default=2, help="for time")
    options = parser.parse_args()
    try:
        text = run(options)
        print(text)
        fill(options.page, options.part, text)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
