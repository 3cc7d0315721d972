"""``vidunmask redo``: one frame of a dump again from any stage on, with the code and the weights of today.

What a single frame cannot know is taken from the dump: the path of its crop, the masks and decisions of the frames around it,
and what the blender remembered. Only detection has no past here: it searches the frame as if it were the first.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidunmask import __version__
from vidunmask.errors import InputError, WeightsError
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.dump import store
from vidunmask.pipelines.report import library_versions

if TYPE_CHECKING:
    from vidunmask.pipelines.dump.again import Face
    from vidunmask.types import Frame

STAGES = ("detect", "crop", "segment", "hole", "inpaint", "blend")


@dataclass(frozen=True, slots=True)
class Change:
    """How far what a stage made now lies from what it had made."""

    stage: str
    track: int | None  # None for the whole frame
    unit: str
    most: float
    mean: float

    def __str__(self) -> str:
        who = "frame" if self.track is None else f"face {self.track}"
        if self.most == 0:
            return f"{self.stage:8} {who:8} identical"
        return f"{self.stage:8} {who:8} max {self.most:.4g}, mean {self.mean:.4g} {self.unit}"


@dataclass(frozen=True, slots=True)
class RedoReport:
    """The outcome of a redo."""

    folder: Path  # of the new pictures
    page: Path
    changes: tuple[Change, ...]
    notes: tuple[str, ...]  # what else is different from the run of the dump
    identical: bool  # every sample of the result


@dataclass(slots=True)
class _Work:
    """A frame on its second way through the stages."""

    frame: Frame
    line: Mapping[str, Any]
    place: Path
    faces: list[Face]
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def redo(
    folder: str | Path, index: int, *, start: str = "crop", given: Mapping[str, Any] | None = None, parts: Parts | None = None
) -> RedoReport:
    """Runs frame ``index`` of a dump again from the stage ``start`` on and adds the outcome to the dump and its page.

    ``given`` replaces options of the dump by their names in `Config`. Raises a VidunmaskError and leaves the dump as it was
    where that cannot be done.
    """
    folder = Path(folder)
    about = store.read_about(folder)
    line = store.read_frame(folder, index)
    config = store.read_config(about, given or {})
    with store.writing(folder):
        number, place = _place(folder, index, start)
        try:
            work = _run(place, about, line, config, start, parts or _parts(config, start, given or {}))
            return _keep(folder, place, number, work, start, given or {})
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise


def _place(folder: Path, index: int, start: str) -> tuple[int, Path]:
    """The number of this redo and a folder for its pictures, beside those of the frame."""
    parent = store.frame_folder(folder, index) / "redo"
    parent.mkdir(exist_ok=True)
    number = 1 + max((int(path.name.split("-")[0]) for path in parent.glob("[0-9]*-*")), default=0)
    place = parent / f"{number}-{start}"
    place.mkdir()
    return number, place


def _parts(config: Config, start: str, given: Mapping[str, Any]) -> Parts | None:
    """The networks, where the stages that run again need any."""
    try:
        return build(config) if start != "blend" else None
    except WeightsError as error:
        for name in ("segmenter", "inpainter"):
            if name not in given and str(getattr(config, name)) in str(error):
                raise WeightsError(f"{error} (the dump was made with it; --{name} WEIGHTS takes another)") from error
        raise


def _run(
    place: Path, about: Mapping[str, Any], line: Mapping[str, Any], config: Config, start: str, parts: Parts | None
) -> _Work:
    from vidunmask.pipelines.dump import again, pictures

    stored = place.parent.parent
    frame = pictures.read_native(stored / "frame.npz", line)
    try:
        faces = [again.load(stored, face) for face in line["faces"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{stored}: what was stored of frame {line['index']} lacks {error}; dump again") from error
    work = _Work(frame, line, place, faces)
    if parts is not None:
        work.notes += _other_weights(about["weights"], parts)
        then, now = f"{about['device']} in {about['precision']}", f"{parts.device} in {parts.precision}"
        if then != now:
            work.notes.append(f"dumped on {then}, run again on {now}")
    dumped_by = {"vidunmask": about["version"], **about.get("versions", {})}  # the first dumps did not say
    for name, version in {"vidunmask": __version__, **library_versions()}.items():
        if dumped_by.get(name, version) != version:
            work.notes.append(f"dumped by {name} {dumped_by[name]}, run again by {version}")
    todo = STAGES[STAGES.index(start) :]
    if "detect" in todo:
        assert parts is not None
        still = about["kind"] == "picture"
        work.faces = again.detect(frame, faces, parts.detector, parts.unmasker, place, still=still)
        work.notes.append("detection searched the frame as if it were the first: nothing was followed into it")
        work.notes += _who_changed(faces, work.faces)
    if "crop" in todo:
        again.crop(frame, work.faces, place)
    if "segment" in todo:
        assert parts is not None
        again.segment(work.faces, parts.unmasker, place)
    if "hole" in todo:
        again.settle(frame, work.faces, temporal=config.temporal, place=place)
    if "inpaint" in todo:
        assert parts is not None
        again.inpaint(work.faces, parts.unmasker, place)
    result = again.blend(frame, work.faces, temporal=config.temporal, place=place)
    work.frame = result
    before = {face.track_id: face for face in (again.load(stored, face) for face in line["faces"])}
    for stage in todo:
        for face in work.faces:
            old = before.get(face.track_id)
            difference = again.compare(stage, old, face, stored, place) if old is not None else None
            if difference is not None:
                work.changes.append(Change(stage, face.track_id, *difference))
    most, mean = again.picture_difference(stored / "result.png", place / "result.png")
    work.changes.append(Change("result", None, "grey levels", most, mean))
    return work


def _other_weights(before: Mapping[str, str], parts: Parts) -> list[str]:
    return [
        f"weights {name} {sha256[:12]} {'instead of ' + before[name][:12] if name in before else 'are not those of the dump'}"
        for name, sha256 in parts.weights.items()
        if before.get(name) != sha256
    ]


def _who_changed(before: Sequence[Face], after: Sequence[Face]) -> list[str]:
    old, new = ({face.track_id for face in faces} for faces in (before, after))
    gone = [f"face {track} is not found again" for track in sorted(old - new)]
    return gone + [f"face {track} is new and has no past" for track in sorted(new - old)]


def _keep(folder: Path, place: Path, number: int, work: _Work, start: str, given: Mapping[str, Any]) -> RedoReport:
    from vidunmask.pipelines.dump import again, pictures

    fingerprint = pictures.fingerprint(work.frame)
    index = work.line["index"]
    entry = {
        "index": index,
        "number": number,
        "from": start,
        "options": given,
        "place": place.relative_to(folder).as_posix(),
        "files": sorted(path.name for path in place.glob("*.png")),
        "faces": [again.describe(face) for face in work.faces],
        "changes": [[c.stage, c.track, c.unit, c.most, c.mean] for c in work.changes],
        "notes": work.notes,
        "result_sha256": fingerprint,
        "identical": fingerprint == work.line["result_sha256"],
    }
    (place / "redo.json").write_text(store.dumps(entry, indent=2) + "\n", encoding="utf-8")
    store.mend(folder / store.DATA)
    store.append(folder / store.DATA, f"dump.redo({store.dumps(entry)});")
    return RedoReport(place, folder / store.PAGE, tuple(work.changes), tuple(work.notes), bool(entry["identical"]))
