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

"""Tissue maps to contrasts by the signal equations, as dictionary transforms for anybody's MONAI pipeline."""

from collections.abc import Hashable, Mapping, Sequence

from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from ..acquisition import Acquisition, check
from ..acquisition.families import FAMILIES, check_family, draw_acquisition
from ..acquisition.protocols import check_keys
from ..errors import UserError
from ..render import SignalModel
from .meta import like, plain

LONGEST_T1 = 20.0
"""A median T1 above this [s] is in milliseconds."""


class _Render(MapTransform):
    """What the two transforms below have in common, see :class:`RenderContrastd`."""

    def __init__(
        self,
        keys: KeysCollection,
        output_key: Hashable,
        acquisition_key: Hashable,
        b1_key: Hashable | None,
        signed: bool,
        allow_missing_keys: bool,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise UserError("keys", f"{len(self.keys)} keys", "name the one key of the concatenated maps")
        self.output_key, self.acquisition_key, self.b1_key = output_key, acquisition_key, b1_key
        self.model = SignalModel(signed)

    def _render(self, data: Mapping, key: Hashable, acquisition: Acquisition) -> dict:
        maps = plain(data[key])
        _check_maps(maps, key)
        b1 = None if self.b1_key is None else plain(data[self.b1_key])
        if b1 is not None and b1.shape != (1, *maps.shape[1:]):
            raise UserError(self.b1_key, f"shape {tuple(b1.shape)}", f"give {(1, *maps.shape[1:])}, as the maps")
        row = acquisition.to_row()
        contrast = self.model(maps[None], row[None, None].to(maps.device), b1=b1)[0]
        return {**data, self.output_key: like(data[key], contrast), self.acquisition_key: row}


def _check_maps(maps: Tensor, key: Hashable) -> None:
    if len(maps) != 3 or maps.ndim not in (3, 4):
        do = "give (3, X, Y) or (3, X, Y, Z): PD, T1 [s], T2 [s], as ConcatItemsd makes it"
        raise UserError(key, f"shape {tuple(maps.shape)}", do)
    t1 = maps[1][maps[1] > 0]
    if len(t1) and t1.median() > LONGEST_T1:
        raise UserError(key, f"a median T1 of {t1.median():.4g} s", "give seconds, if these are milliseconds")


class RenderContrastd(_Render):
    """Renders maps (3, X, Y[, Z]), PD, T1 [s], T2 [s], as one contrast (1, X, Y[, Z]) of a given acquisition.

    Where T1 or T2 is not positive (air) the contrast is 0. The affine of the maps is kept.

    Args:
        keys: the one key of the maps.
        acquisition: what to render.
        output_key: key of the contrast.
        acquisition_key: key of its acquisition row, see :mod:`scripts.acquisition`.
        b1_key: key of a map of B1+ relative to nominal (1, X, Y[, Z]); None for 1 everywhere.
        signed: keep the sign of inverted magnetisation, for the nuisance transforms that act on it;
            :class:`RandNoisyMagnituded` then takes the magnitude. By default it is taken here.
        allow_missing_keys: leave data without maps as they are.

    Raises:
        UserError: for an impossible acquisition, at once; for maps of another shape or unit, when called.
    """

    def __init__(
        self,
        keys: KeysCollection,
        acquisition: Acquisition,
        output_key: Hashable = "image",
        acquisition_key: Hashable = "acquisition",
        b1_key: Hashable | None = None,
        signed: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, output_key, acquisition_key, b1_key, signed, allow_missing_keys)
        check(acquisition, "acquisition")
        self.acquisition = acquisition

    def __call__(self, data: Mapping) -> dict:
        result = dict(data)
        for key in self.key_iterator(result):
            result = self._render(result, key, self.acquisition)
        return result


class RandRenderContrastd(Randomizable, _Render):
    """Renders maps as one contrast of a random acquisition: a family, each as likely, then its parameters.

    All parameters are drawn log-uniformly in the family's ranges, and again where their timing is impossible. The other
    arguments are those of :class:`RenderContrastd`.

    Args:
        keys: the one key of the maps.
        families: names of :data:`scripts.acquisition.families.FAMILIES`, or a table of one's own of that kind; None
            for all of them.
        output_key: key of the contrast.
        acquisition_key: key of its acquisition row.
        b1_key: key of a map of B1+ relative to nominal.
        signed: keep the sign of inverted magnetisation.
        allow_missing_keys: leave data without maps as they are.

    Raises:
        UserError: for an unknown or impossible family, at once.
    """

    def __init__(
        self,
        keys: KeysCollection,
        families: Sequence[str] | Mapping[str, Mapping] | None = None,
        output_key: Hashable = "image",
        acquisition_key: Hashable = "acquisition",
        b1_key: Hashable | None = None,
        signed: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, output_key, acquisition_key, b1_key, signed, allow_missing_keys)
        if families is not None and not isinstance(families, Mapping):
            check_keys(dict.fromkeys(families), FAMILIES, "families")
            families = {name: FAMILIES[name] for name in families}
        self.families = FAMILIES if families is None else families
        if not self.families:
            raise UserError("families", "none", f"name some of {', '.join(FAMILIES)}")
        for name, family in self.families.items():
            check_family(family, name)

    def randomize(self, data: object = None) -> None:
        """Draws :attr:`acquisition`."""
        name = list(self.families)[self.R.randint(len(self.families))]
        self.acquisition = draw_acquisition(self.families[name], self.R, name)

    def __call__(self, data: Mapping) -> dict:
        result = dict(data)
        for key in self.key_iterator(result):
            self.randomize()
            result = self._render(result, key, self.acquisition)
        return result
