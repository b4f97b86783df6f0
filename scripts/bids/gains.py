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


"""Which scans of a session share one gain: the echoes of one acquisition."""

from collections.abc import Sequence

from ..acquisition import Acquisition
from .records import Contrast

SERIES_KEYS = ("SeriesInstanceUID", "SeriesNumber")
"""Name the series of a scan: DICOM's words, which converters write."""
SAME_KEYS = (
    *("StudyInstanceUID", *SERIES_KEYS, "SeriesDescription", "ProtocolName", "ImageType"),
    *("PhilipsRescaleSlope", "PhilipsScaleSlope"),
)
"""Where two scans both state one of these, it is the same for echoes of one acquisition on one scale."""
SAME_FIELDS = ("sequence", "tr", "ti", "ti2", "flip_angle", "field_strength")


def gain_groups(contrasts: Sequence[Contrast], acquisitions: Sequence[Acquisition]) -> list[int]:
    """Which gain each of M scans has, as a number: echoes of one acquisition share one, any other scan has its own.

    A scanner sets its receiver gain and its scale anew for every series, so images ``y_i = g_i s_i`` have ``g_i = g_j``
    only within one. Two scans count as echoes of one acquisition where

    - it is stated: by BIDS names that are equal but for ``echo-<n>``, or by sidecars with the same
      ``SeriesInstanceUID`` or ``SeriesNumber`` and different ``EchoNumber``;
    - nothing denies it: what both sidecars state of :data:`SAME_KEYS` agrees, equation, TR, TI, flip angle and field
      strength are the same, the echo times differ, and each ``AcquisitionTime`` is within one TR of the other.

    BIDS has no key for a shared gain. Whoever knows of one names the files ``echo-1``, ``echo-2``, or, where suffixes
    differ (PDw and T2w of one dual-echo scan), writes ``SeriesNumber`` and ``EchoNumber`` into the sidecars, as
    converters do. Scans that were rescaled each on its own since must not say so.

    Args:
        contrasts: M scans of one session.
        acquisitions: theirs; a scan whose echo time is unknown has a gain of its own.

    Returns:
        0 for the first scan, and for each new gain the next number.
    """
    groups: list[list[tuple[Contrast, Acquisition]]] = []
    numbers = []
    for scan in zip(contrasts, acquisitions, strict=True):
        fitting = (number for number, group in enumerate(groups) if all(_echoes(scan, other) for other in group))
        numbers.append(next(fitting, len(groups)))
        if numbers[-1] == len(groups):
            groups.append([])
        groups[numbers[-1]].append(scan)
    return numbers


def _echoes(first: tuple[Contrast, Acquisition], second: tuple[Contrast, Acquisition]) -> bool:
    """Whether two scans are proved to be echoes of one acquisition."""
    (scan, one), (other, two) = first, second
    if not (_named_alike(scan, other) or _of_one_series(scan.sidecar, other.sidecar)):
        return False
    same = all(scan.sidecar[key] == other.sidecar[key] for key in _stated(SAME_KEYS, scan.sidecar, other.sidecar))
    same = same and all(getattr(one, name) == getattr(two, name) for name in SAME_FIELDS)
    if not same or None in (one.te, two.te) or one.te == two.te:
        return False
    times = [_seconds(contrast.sidecar.get("AcquisitionTime")) for contrast in (scan, other)]
    return None in times or abs(times[0] - times[1]) <= (one.tr or 0.0)


def _named_alike(scan: Contrast, other: Contrast) -> bool:
    """Whether BIDS names differ in the echo only."""
    names = [{**contrast.entities, "suffix": contrast.suffix} for contrast in (scan, other)]
    echoes = [name.pop("echo", None) for name in names]
    return None not in echoes and echoes[0] != echoes[1] and names[0] == names[1]


def _of_one_series(sidecar: dict, other: dict) -> bool:
    """Whether sidecars state one series, and different echoes of it."""
    series = any(sidecar[key] == other[key] for key in _stated(SERIES_KEYS, sidecar, other))
    return series and any(sidecar[key] != other[key] for key in _stated(("EchoNumber",), sidecar, other))


def _stated(keys: tuple[str, ...], *sidecars: dict) -> list[str]:
    """The keys that all sidecars have a value of."""
    return [key for key in keys if all(sidecar.get(key) is not None for sidecar in sidecars)]


def _seconds(time: object) -> float | None:
    """``13:07:33.045`` in seconds since midnight; None for what is no such time."""
    try:
        hours, minutes, seconds = str(time).split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
