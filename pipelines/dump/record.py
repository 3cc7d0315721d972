"""Watches a run and writes what passes its seams for the chosen frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from vidunmask import geometry
from vidunmask.pipelines.dump import pictures
from vidunmask.pipelines.dump.choice import Choice
from vidunmask.pipelines.dump.store import Dump
from vidunmask.stages.blend import Past
from vidunmask.stages.crop import placement
from vidunmask.stages.detail import Skin
from vidunmask.stages.observe import Observer
from vidunmask.stages.unmask import Segmented, Settling
from vidunmask.types import ByteArray, FaceCrop, Fill, FloatArray, Frame, FrameFaces, SeenFace, TrackedFace

LEAD = 50  # frames before the first chosen one that the plots show too
_HISTORY = 256  # samples of a path that are kept: more than the crop stage looks at, at any frame rate
_WINDOW = 0.5  # seconds to each side of a frame that are stored of it
# Where jitter is measured: eyes, tip of the nose, chin of the canonical face.
_POINTS = geometry.TEMPLATE68[[36, 45, 30, 8]]


@dataclass(slots=True)
class _Sample:
    """One frame of one track's path, as the crop stage smooths it."""

    time: float
    parameters: FloatArray  # (4,), see geometry.similarity_parameters
    weight: float


@dataclass(slots=True)
class _Path:
    samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    last_frame: int = -1
    raw: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=3))  # places of the points, of the alignment itself
    smooth: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=3))  # and of the crop


@dataclass(slots=True)
class _Record:
    """What is known of a frame on its way through the chain."""

    chosen: bool
    line: dict[str, Any] = field(default_factory=dict)
    faces: dict[int, dict[str, Any]] = field(default_factory=dict)  # by track
    tracked: FrameFaces[TrackedFace] | None = None
    paths: dict[int, _Path] = field(default_factory=dict)


class Recorder(Observer):
    """Writes the chosen frames of a run into a dump, files at once and a frame's line when its result is there.

    `source` goes between the reader and the chain, `finish` takes every result. Stages call from threads of their own; each
    writes only its own part of a frame's record. Pictures are written when they pass: many frames are on their way at a time.
    """

    def __init__(self, dump: Dump, choice: Choice | None) -> None:
        """choice: None takes every frame."""
        self._dump = dump
        self._choice = choice
        self._records: dict[int, _Record] = {}
        self._start: Fraction | None = None
        self._recent: deque[int] = deque(maxlen=LEAD)  # frames before the first chosen one, for the plots
        self._points: dict[int, list[Any]] = {}
        self._paths: dict[int, _Path] = {}
        self._asked = 0  # frames that are chosen among those that the reader gave out
        self._all_asked = False  # no later one is
        self.written = 0
        self.last = Fraction(0)  # seconds of the latest result

    def source(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames of the reader, of which the chosen ones are marked before any stage sees them."""
        for frame in frames:
            chosen = self._choice is None or self._choice.wants(frame.index, self._seconds(frame))
            self._records[frame.index] = _Record(chosen)
            self._asked += chosen
            self._all_asked = self._choice is not None and self._choice.is_over(frame.index, self._seconds(frame))
            yield frame

    def _seconds(self, frame: Frame) -> Fraction:
        if self._start is None:
            self._start = frame.time
        return frame.time - self._start

    @property
    def is_over(self) -> bool:
        """Whether every chosen frame is written and no later one is chosen.

        A choice goes through the frames in order and only once, so it is asked where the reader is, which runs ahead.
        """
        return self._all_asked and self.written == self._asked

    def seen(self, item: FrameFaces[SeenFace]) -> None:
        record = self._records[item.frame.index]
        if not record.chosen:
            return
        frame = item.frame
        place = self._dump.place(frame.index)
        pictures.write_png(place / "frame.png", pictures.whole(frame))
        pictures.write_native(place / "frame.npz", frame)
        pictures.write_png(place / "detections.png", pictures.detections(frame, item.faces))
        record.line = {
            "index": frame.index,
            "pts": frame.pts,
            "time_base": str(frame.time_base),
            "time": float(self._seconds(frame)),
            "cut": item.cut,
            "native": pictures.describe(frame),
            "detections": [{name: getattr(face, name) for name in SeenFace.__slots__} for face in item.faces],
        }

    def tracked(self, item: FrameFaces[TrackedFace]) -> None:
        record = self._records[item.frame.index]
        record.tracked = item
        time = float(item.frame.time)
        for face in item.faces:
            path = self._paths.get(face.track_id)
            # The crop stage begins a path anew where a track was away for a frame.
            if path is None or face.reset or path.last_frame != item.frame.index - 1:
                path = self._paths[face.track_id] = _Path()
            path.last_frame = item.frame.index
            parameters = placement(face)
            path.samples.append(_Sample(time, parameters, face.weight))
            record.paths[face.track_id] = path
        self._paths = {number: path for number, path in self._paths.items() if path.last_frame == item.frame.index}

    def cropped(self, item: FrameFaces[FaceCrop]) -> None:
        record = self._records[item.frame.index]
        assert record.tracked is not None
        time = float(item.frame.time)
        for crop, face in zip(item.faces, record.tracked.faces, strict=True):
            path = record.paths[crop.track_id]
            record.faces[crop.track_id] = {
                "id": crop.track_id,
                "score": crop.score,
                "jitter": _jitter(path.smooth, crop.frame_to_crop),
                "raw_jitter": _jitter(path.raw, geometry.similarity_from_parameters(placement(face))),
            }
        if record.chosen:
            place = self._dump.place(item.frame.index)
            transforms = [crop.frame_to_crop for crop in item.faces]
            size = len(item.faces[0].image) if item.faces else geometry.CROP_SIZE
            picture = pictures.tracks(item.frame, record.tracked.faces, transforms, size)
            pictures.write_png(place / "tracks.png", picture)
            for crop, face in zip(item.faces, record.tracked.faces, strict=True):
                pictures.write_png(place / f"face{crop.track_id}-crop.png", crop.image)
                samples = record.paths[crop.track_id].samples
                record.faces[crop.track_id] |= {
                    "box": face.box,
                    "landmarks": face.landmarks,
                    "detected": face.detected,
                    "reset": face.reset,
                    "trust": face.trust,
                    "frame_to_crop": crop.frame_to_crop,
                    "path": [[s.time, *s.parameters.tolist(), s.weight] for s in samples if abs(s.time - time) <= _WINDOW],
                }
        record.tracked, record.paths = None, {}

    def settled(self, item: FrameFaces[Segmented], settling: list[Settling]) -> None:
        record = self._records[item.frame.index]
        for face, around in zip(item.faces, settling, strict=True):
            track = face.crop.track_id
            record.faces[track] |= {
                "covered": face.covered,
                "opacity": face.opacity,
                "failed": face.failed,
                "area": float((face.probability > 0.5).mean()),
                "confidence": float(np.abs(2 * face.probability - 1).mean()),
            }
            if record.chosen:
                place = self._dump.place(item.frame.index)
                pictures.write_png(place / f"face{track}-probability.png", pictures.to_bytes(face.probability))
                pictures.write_arrays(
                    place / f"face{track}.npz",
                    {
                        "probability": record.faces[track].pop("own"),
                        "smoothed": face.probability,
                        "total": around.total,
                        "weights": around.weights,
                    },
                )
                record.faces[track]["wearing"] = {**asdict(around.past), "ahead": around.ahead}

    def segmented(self, item: FrameFaces[Segmented]) -> None:
        record = self._records[item.frame.index]
        if record.chosen:
            place = self._dump.place(item.frame.index)
            for face in item.faces:
                record.faces[face.crop.track_id]["own"] = face.probability
                picture = pictures.logits(face.probability)
                pictures.write_png(place / f"face{face.crop.track_id}-logits.png", picture)

    def inpainted(self, frame: Frame, track_id: int, image: FloatArray) -> None:
        if self._records[frame.index].chosen:
            place = self._dump.place(frame.index)
            pictures.write_png(place / f"face{track_id}-raw.png", raw_bytes(image))

    def blending(self, frame: Frame, fill: Fill, past: Past, skin: Skin | None) -> None:
        record = self._records[frame.index]
        if record.chosen:
            place = self._dump.place(frame.index)
            pictures.write_png(place / f"face{fill.track_id}-mask.png", pictures.to_bytes(fill.mask))
            known: dict[str, Any] = {"grain": past.grain, "age": past.age, "noise": past.noise is not None}
            record.faces[fill.track_id]["past"] = known
            there = {name: getattr(past, name) for name in ("composed", "small", "tint")}
            if skin is not None:
                known["skin"] = {name: getattr(skin, name) for name in ("strength", "light", "factor", "age")}
                there["texture"] = skin.texture
            arrays = {name: value for name, value in there.items() if value is not None}
            pictures.write_arrays(place / f"face{fill.track_id}-past.npz", arrays)

    def blended(self, frame: Frame, fill: Fill, picture: FloatArray, alpha: FloatArray) -> None:
        record = self._records[frame.index]
        if record.chosen:
            write_blend(self._dump.place(frame.index), fill, picture, alpha)

    def finish(self, frame: Frame) -> None:
        """Takes the result of a frame; writes its line where it is chosen and a point of the plots from then on."""
        record = self._records[frame.index]
        self.last = self._seconds(frame)
        faces = list(record.faces.values())
        point = [frame.index, float(self._seconds(frame)), [[_round(face.get(name)) for name in POINT] for face in faces]]
        if record.chosen or self.written:
            for index in self._recent:
                self._dump.add_point(self._points[index])
            self._recent.clear()
            self._points.clear()
            self._dump.add_point(point)
        else:
            if len(self._recent) == LEAD:
                del self._points[self._recent[0]]
            self._recent.append(frame.index)
            self._points[frame.index] = point
        if record.chosen:
            self._write_result(frame, record.line, faces)
            self.written += 1
        del self._records[frame.index]

    def _write_result(self, frame: Frame, line: dict[str, Any], faces: list[dict[str, Any]]) -> None:
        place = self._dump.place(frame.index)
        before, after = pictures.read_png(place / "frame.png"), pictures.whole(frame)
        pictures.write_png(place / "result.png", after)
        pictures.write_png(place / "difference.png", pictures.difference(before, after))
        for face in faces:
            write_after(place, frame, face["id"], face["frame_to_crop"])
            face["files"] = sorted(path.name for path in place.glob(f"face{face['id']}-*.png"))
        self._dump.add_frame({**line, "faces": faces, "result_sha256": pictures.fingerprint(frame)})


# What the plots know of a face, in the order in which a point has them.
POINT = ("id", "score", "covered", "area", "jitter", "raw_jitter", "confidence", "opacity")


def raw_bytes(image: FloatArray) -> ByteArray:
    """The inpainter's output 0..255 as bytes, rounded as the fill is; black where it gave NaN."""
    return np.clip(np.nan_to_num(image) + 0.5, 0, 255).astype(np.uint8)


def write_blend(place: FilePath, fill: Fill, picture: FloatArray, alpha: FloatArray) -> None:
    """Writes the picture that is laid over a face, without the texture that a large one gets then, and its alpha."""
    name = f"face{fill.track_id}"
    pictures.write_png(place / f"{name}-blended.png", pictures.to_bytes(picture))
    pictures.write_png(place / f"{name}-alpha.png", pictures.to_bytes(alpha))


def write_after(place: FilePath, result: Frame, track_id: int, frame_to_crop: FloatArray) -> None:
    """Writes a face that was edited as it is in the result, texture and neighbours and all."""
    if (place / f"face{track_id}-blended.png").exists():
        pictures.write_png(place / f"face{track_id}-after.png", pictures.face(result, frame_to_crop))


def _jitter(places: deque[FloatArray], to_crop: FloatArray) -> float | None:
    """Adds a frame_to_crop to the last ones of its track; how unsteadily it moved, in pixels of the crop.

    The second difference of where four points of the canonical face lie, root mean square: steady motion counts for nothing.
    """
    places.append(geometry.apply(geometry.invert(to_crop), _POINTS))
    if len(places) < 3:
        return None
    second = places[2] - 2 * places[1] + places[0]
    return float(np.sqrt((second**2).sum(axis=1).mean())) * geometry.scale_of(to_crop)


def _round(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 4)
