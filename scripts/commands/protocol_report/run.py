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
"""The run: protocols from a name or a folder, findings for each, files."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ...acquisition import FIELDS, UNKNOWN, Acquisition, from_sidecar, is_number, load_protocol
from ...bids import Session, find_sessions, gain_groups, resolve_all
from ...errors import UserError
from ...files import write_atomically
from ...tissue import known_tissues
from .analysis import ANCHORS, Assumptions, Findings, Protocol, analyse
from .candidates import FILE, load_candidates
from .identifiability import PRIOR_SD, SNR
from .picture import picture
from .text import bounds_table, candidates_table, report

FIELD_STRENGTH = 3.0
"""Assumed where no scan states one [T]."""
ORDER = ("T1w", "T2w", "PDw", "FLAIR")
"""In which scans are listed; others follow."""
NAMED_SESSIONS = 3


class ProtocolReport:
    """Says what the scans of a protocol, or of the sessions of a folder, can tell about PD, T1 and T2.

    Prints the report and writes ``report.md``, ``bounds.tsv``, ``candidates.tsv`` and ``protocol_report.png`` (with
    ``_2``, ``_3``, ... for further protocols of a folder). Building this object reads and writes nothing.

    Args:
        dataset_dir: folder of scans, see :func:`scripts.bids.find_sessions`; every distinct protocol among its sessions
            is reported, the most frequent first. None for the named protocol itself.
        protocol: named protocol or file; with a folder it fills what the sidecars lack, or is ``unknown``. Scans whose
            acquisition is unknown add nothing that equations can use: they are named and left out.
        output_dir: folder of the files; it is made if absent.
        field_strength: of the tissue values [T]; None for that of the scans, or else :data:`FIELD_STRENGTH`.
        gain_sd: uncertainty of the scale of each scan, as the standard deviation of its logarithm; 0 where it is known.
        snr: signal-to-noise ratio of every scan, in the brighter of white and grey matter.
        prior_sd: standard deviations of ln PD, ln T1, ln T2 before any scan.
        candidates: JSON file of scans that may be added, see :func:`load_candidates`; None for ``candidates.json``.
        equations: ``exact``, or ``paper`` for the published ones.
    """

    def __init__(
        self,
        dataset_dir: str | None = None,
        protocol: str | None = None,
        output_dir: str | Path = "runs/protocol_report",
        field_strength: float | None = None,
        gain_sd: float = 0.05,
        snr: float = SNR,
        prior_sd: Sequence[float] = PRIOR_SD,
        candidates: str | None = None,
        equations: str = "exact",
    ) -> None:
        self.dataset_dir, self.protocol, self.output_dir = dataset_dir, protocol, Path(output_dir)
        self.field_strength, self.gain_sd, self.snr, self.prior_sd = field_strength, gain_sd, snr, prior_sd
        self.candidates, self.equations = candidates or FILE, equations

    def run(self) -> list[Findings]:
        """Computes, prints and writes everything.

        Raises:
            UserError: for impossible options, unusable scans, and a folder that cannot be written.
        """
        self._check()
        candidates = load_candidates(self.candidates)
        protocols = self._protocols()
        findings = [analyse(protocol, self._assumptions(protocol), candidates) for protocol in protocols]
        text = report(findings)
        print(text)
        files = {"report.md": text, "bounds.tsv": bounds_table(findings), "candidates.tsv": candidates_table(findings)}
        pictures = {
            f"protocol_report{f'_{number}' if number > 1 else ''}.png": picture(one)
            for number, one in enumerate(findings, 1)
        }
        self._write({name: content.encode() for name, content in files.items()} | pictures)
        print(f"written to {self.output_dir}: {', '.join([*files, *pictures])}", flush=True)
        return findings

    def _check(self) -> None:
        if self.dataset_dir is None and self.protocol is None:
            raise UserError("protocol", "neither a protocol nor a folder", "name one with --protocol or --dataset_dir")
        for name, value, least in (("gain_sd", self.gain_sd, 0.0), ("snr", self.snr, 1e-9)):
            if not is_number(value) or value < least:
                raise UserError(
                    name, repr(value), f"use a{' positive' if least else ''} number{'' if least else ' ≥ 0'}"
                )
        if self.field_strength is not None and not (is_number(self.field_strength) and self.field_strength > 0):
            raise UserError("field_strength", repr(self.field_strength), "use 1.5, 3 or 7 [T]")
        prior = self.prior_sd
        if not isinstance(prior, Sequence) or len(prior) != 3 or not all(is_number(sd) and sd > 0 for sd in prior):
            raise UserError("prior_sd", repr(prior), "give three positive numbers, for ln PD, ln T1 and ln T2")

    def _assumptions(self, protocol: Protocol) -> Assumptions:
        stated = sorted({one.field_strength for one in protocol.acquisitions if one.field_strength is not None})
        if self.field_strength is None and stated and stated[-1] > 1.1 * stated[0]:
            fields = " and ".join(f"{field:g} T" for field in stated)
            raise UserError(protocol.name, f"scans at {fields}", "choose one with --field_strength")
        field_strength = self.field_strength or next(iter(stated), FIELD_STRENGTH)
        if not set(ANCHORS) <= set(known_tissues(field_strength)):
            found = f"{field_strength:g} T, at which the literature table has no white and grey matter"
            raise UserError("field_strength", found, "choose 1.5, 3 or 7 with --field_strength")
        return Assumptions(float(field_strength), self.snr, self.gain_sd, tuple(self.prior_sd))

    def _protocols(self) -> list[Protocol]:
        if self.dataset_dir is None:
            table = load_protocol(self.protocol)
            suffixes = () if table == UNKNOWN else sorted(table, key=_rank)
            where = {suffix: f"{self.protocol}: {suffix}" for suffix in suffixes}
            scans = [from_sidecar(suffix, {}, where[suffix], table, self.equations) for suffix in suffixes]
            return [_protocol(Path(self.protocol).stem, [*zip(suffixes, scans, range(len(scans)))])]
        sessions = find_sessions(self.dataset_dir)
        resolved, failures = resolve_all(sessions, self.protocol, self.equations)
        for name, error in failures.items():
            print(f"left out {name}: {error}", flush=True)
        groups = defaultdict(list)
        for session in sessions:
            if session.name in resolved:
                scans = _scans(session, resolved[session.name])
                if all(one.sequence == UNKNOWN for _, one, _ in scans):
                    print(f"left out {_nothing_known(session.name)}", flush=True)
                    continue
                key = tuple(
                    (suffix, one.sequence, *(getattr(one, f) for f in FIELDS), gain) for suffix, one, gain in scans
                )
                groups[key].append((session, scans))
        if not groups:
            raise _nothing_known(self.dataset_dir)
        ranked = sorted(groups.values(), key=len, reverse=True)
        return [_of_sessions(number, members) for number, members in enumerate(ranked, 1)]

    def _write(self, files: dict[str, bytes]) -> None:
        """Every file, whole or not at all."""
        for name, content in files.items():
            write_atomically(self.output_dir / name, content)


def _scans(session: Session, acquisitions: Sequence[Acquisition]) -> list[tuple[str, Acquisition, int]]:
    """Suffix, acquisition and gain of each scan, in the order of reading."""
    scans = sorted(zip(session.contrasts, acquisitions), key=lambda scan: _rank(scan[0].suffix))
    gains = gain_groups(*zip(*scans))
    return [(contrast.suffix, acquisition, gain) for (contrast, acquisition), gain in zip(scans, gains)]


def _protocol(name: str, scans: Sequence[tuple[str, Acquisition, int]], notes: Sequence[str] = ()) -> Protocol:
    """A protocol of the scans whose acquisition is known; a note names the others.

    Raises:
        UserError: where no acquisition is known.
    """
    known = [scan for scan in scans if scan[1].sequence != UNKNOWN]
    if not known:
        raise _nothing_known(name)
    if len(known) < len(scans):
        unknown = ", ".join(suffix for suffix, one, _ in scans if one.sequence == UNKNOWN)
        why = f"an {UNKNOWN} acquisition adds nothing that equations can use"
        notes = (*notes, f"{unknown} left out of all that follows: {why}")
    suffixes, acquisitions, gains = zip(*known)
    return Protocol(name, suffixes, acquisitions, gains, tuple(notes))


def _nothing_known(where: object) -> UserError:
    found = f"no scan of known acquisition; an {UNKNOWN} one adds nothing that equations can use"
    return UserError(where, found, "name a protocol that tells the parameters, or complete the sidecars")


def _of_sessions(number: int, members: list[tuple[Session, list[tuple[str, Acquisition, int]]]]) -> Protocol:
    """The protocol of sessions that have it in common."""
    names = [session.name for session, _ in members]
    shown = ", ".join(names[:NAMED_SESSIONS]) + (", …" if len(names) > NAMED_SESSIONS else "")
    session, scans = members[0]
    gains = [gain for _, _, gain in scans]
    notes = [f"the protocol of {len(names)} session{'s' if len(names) > 1 else ''}: {shown}"]
    shared = [suffix for suffix, _, gain in scans if gains.count(gain) > 1]
    if shared:
        notes.append(f"{', '.join(shared)} are echoes of one measurement and share their scale")
    if any(contrast.post_contrast for contrast in session.contrasts):
        notes.append(
            "some scans seem to follow a contrast agent, which shortens T1: the values below are those without"
        )
    return _protocol(f"protocol {number}", scans, notes)


def _rank(suffix: str) -> tuple[int, str]:
    return (ORDER.index(suffix) if suffix in ORDER else len(ORDER), suffix)
