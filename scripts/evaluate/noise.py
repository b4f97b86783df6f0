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


"""Noise of a scan, read from its air, and whether rendered contrasts with that noise look alike."""

from math import exp, lgamma, sqrt
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import ndimage
from scipy.stats import chi, kstest

from ..estimate.posterior.noise import noise_level
from ..nuisance import Noise
from .page import png_of

MOST_COILS = 32
MARGIN = 6
"""Voxels around the head that are no air: ringing, motion and fat lie there."""
EMPTY = 0.2
"""Share of zeros in air from which a scan counts as cleaned of its noise."""
PATCH = 16
"""Edge of the squares that spectra are taken of [voxels]."""
FEWEST = 1000
"""Voxels of air that a noise level is read from."""
STRIDE, HIGHEST = 11, 3
"""Every n-th place is tried for a square; frequencies that count as high."""


class Measured(NamedTuple):
    """Noise of a scan.

    Attributes:
        sigma: standard deviation in each channel of each coil, in units of the scan.
        coils: number of independent coils.
        snr: mean signal of the head over ``sigma``.
        distance: Kolmogorov-Smirnov distance of the air from the chi distribution with these two; None where the air
            holds no noise, and sigma is read from the head.
    """

    sigma: float
    coils: int
    snr: float
    distance: float | None

    @property
    def option(self) -> str:
        """As ``--noise`` of ``render`` and ``generate`` takes it."""
        return f"snr={self.snr:.1f},coils={self.coils}"


def air_ratio(coils: int) -> float:
    """Mean over root mean square of a magnitude image without signal: ``G(L + 1/2) / (G(L) sqrt(L))``, L coils.

    .886 for one coil (Rayleigh), towards 1 for many: Constantinides et al. 1997, doi:10.1002/mrm.1910380524.
    """
    return exp(lgamma(coils + 0.5) - lgamma(coils)) / sqrt(coils)


def air_of(image: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Where air is: outside of the head's surroundings, and of a frame that was never measured, ``(X, Y)``.

    Args:
        image: an axial slice.
        head: where the head is.
    """
    measured = np.zeros_like(head)
    rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
    if len(rows):
        measured[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return measured & ~ndimage.binary_dilation(head, iterations=MARGIN)


def measure(image: np.ndarray, head: np.ndarray) -> Measured:
    """Noise of an axial slice ``(X, Y)``.

    ``E m^2 = 2 L sigma^2`` in air gives sigma, and the ratio of mean and root mean square the number of coils L. Many
    scanners set air to zero. Then sigma is that of :func:`scripts.estimate.posterior.noise.noise_level`, from
    differences of neighbours in the head, which anatomy makes larger, and one coil is taken.
    """
    air = image[air_of(image, head)].astype(float)
    if len(air) < FEWEST or (air == 0).mean() > EMPTY:
        sigma = float(noise_level(torch.from_numpy(image).float(), torch.from_numpy(head)))
        return Measured(sigma, 1, float(image[head].mean() / sigma), None)
    square = np.sqrt((air**2).mean())
    coils = min(range(1, MOST_COILS + 1), key=lambda number: abs(air_ratio(number) - air.mean() / square))
    sigma = square / sqrt(2 * coils)
    # Integers, as scanners store them, would look far from any continuous distribution.
    spread = air + np.random.default_rng(0).uniform(-0.5, 0.5, len(air)) * (air == air.round()).all()
    distance = kstest(spread, chi(2 * coils, scale=sigma).cdf).statistic
    return Measured(float(sigma), coils, float(image[head].mean() / sigma), float(distance))


def spectrum(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radial power spectrum of a square, its mean removed: frequencies [cycles per voxel], power.

    Power is ``|F|^2 / N``: that of white noise is its variance at every frequency.
    """
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2 / image.size
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in image.shape], indexing="ij"))
    edges = np.linspace(0, 0.5, image.shape[0] // 2 + 1)
    number = np.digitize(radius.ravel(), edges)
    inside = [power.ravel()[number == one + 1] for one in range(len(edges) - 1)]
    centres = (edges[1:] + edges[:-1]) / 2
    return centres[1:], np.array([one.mean() for one in inside[1:]])


def squares_in(mask: np.ndarray, edge: int = PATCH) -> list[tuple[slice, slice]]:
    """Places of squares in a mask, all of each: every n-th that there is."""
    whole = ndimage.uniform_filter(mask.astype(float), edge, mode="constant") > 1 - 0.5 / edge**2
    return [(slice(x, x + edge), slice(y, y + edge)) for x, y in np.argwhere(whole)[::STRIDE] - edge // 2]


def high_power(square: np.ndarray) -> float:
    """Mean power at the :data:`HIGHEST` highest frequencies of :func:`spectrum`."""
    return float(spectrum(square)[1][-HIGHEST:].mean())


def draw(
    name: str, scan: np.ndarray, head: np.ndarray, found: Measured, clean: np.ndarray, brain: np.ndarray, seed: int
) -> tuple[bytes, dict[str, float]]:
    """Scan beside a rendered slice with its noise; histograms of air, spectra of air and brain.

    Args:
        name: of the scan.
        scan: axial slice.
        head: where the head of the scan is.
        found: its noise.
        clean: rendered slice without noise, of another head.
        brain: where that head is.
        seed: of the noise.

    Returns:
        PNG file; power in air and at the highest frequencies of the brain, of scan and rendered slice over sigma².
    """
    clean = clean * scan[head].mean() / clean[brain].mean()
    noise = Noise(found.snr, found.coils)
    signal = torch.from_numpy(clean).float()
    noisy = noise(signal, torch.from_numpy(brain), torch.Generator().manual_seed(seed)).numpy()
    figure = Figure((13, 6), layout="constrained")
    axes = figure.subplots(2, 3)
    top = np.percentile(scan[head], 99.5)
    for axis, image, title in ((axes[0, 0], scan, name), (axes[1, 0], noisy, f"rendered, --noise {found.option}")):
        axis.imshow(image.T[::-1, ::-1], cmap="gray", vmin=0, vmax=top / 3)
        axis.set_title(f"{title} (air brightened)", fontsize=8)
        axis.axis("off")
    air = scan[air_of(scan, head)] if found.distance is not None else np.zeros(0)
    rendered_air = noisy[air_of(noisy, brain)]
    # Whole numbers, as scanners store them, want bins of whole numbers.
    bins = np.arange(0, 6 * found.sigma * sqrt(found.coils), max(1, round(found.sigma / 8))) - 0.5
    x = (bins[1:] + bins[:-1]) / 2
    if len(air):
        axes[0, 1].hist(air, bins, density=True, color="0.7", label="scan")
    if len(rendered_air):
        axes[0, 1].hist(rendered_air, bins, density=True, histtype="step", color="tab:orange", label="rendered")
    axes[0, 1].plot(x, chi(2 * found.coils, scale=found.sigma).pdf(x), "k--", lw=1, label=f"chi, {found.coils} coil(s)")
    axes[0, 1].set_title("air, histogram" + " (that of the scan was set to 0)" * (not len(air)), fontsize=8)
    axes[0, 1].legend(fontsize=7)
    powers = {}
    panels = (
        (axes[0, 2], "air", air_of(scan, head) & bool(len(air)), {"rendered": (noisy, air_of(noisy, brain))}),
        (axes[1, 2], "brain", head, {"rendered": (noisy, brain), "rendered without noise": (clean, brain)}),
    )
    for axis, where, mask, others in panels:
        for label, (image, inside) in ({"scan": (scan, mask)} | others).items():
            squares = [image[place] for place in squares_in(inside)]
            if squares:
                # Anatomy hides noise in the brain but where it is least; air has none.
                shown = [min(squares, key=high_power)] if where == "brain" else squares
                frequency = spectrum(shown[0])[0]
                axis.semilogy(frequency, np.mean([spectrum(one)[1] for one in shown], 0) / found.sigma**2, label=label)
                powers[f"{where}, {label}"] = float(np.mean([high_power(one) for one in shown])) / found.sigma**2
        axis.set_title(f"{where}, power over sigma²", fontsize=8)
        axis.set_xlabel("cycles per voxel", fontsize=8)
        if axis.has_data():
            axis.legend(fontsize=7)
    values = np.sort(scan[head]), np.sort(noisy[brain]), np.sort(clean[brain])
    for one, label in zip(values, ("scan", "rendered", "rendered without noise")):
        axes[1, 1].hist(one, np.linspace(0, top, 80), density=True, histtype="step", label=label)
    axes[1, 1].set_title("head, histogram (another head)", fontsize=8)
    axes[1, 1].legend(fontsize=7)
    return png_of(figure), powers
