"""The stages of the chain for one stored frame: each takes faces as they were stored and makes its own part of them anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidunmask import geometry
from vidunmask.detectors import Detector
from vidunmask.pipelines.dump import pictures
from vidunmask.pipelines.dump.record import raw_bytes, write_after, write_blend
from vidunmask.stages import blend as blending
from vidunmask.stages.aim import Aimer
from vidunmask.stages.crop import LOOK_AHEAD, placement
from vidunmask.stages.detail import Skin
from vidunmask.stages.detect import detect as find_faces
from vidunmask.stages.holes import guide_of, hole_of
from vidunmask.stages.observe import Observer
from vidunmask.stages.smoothing import Path as CropPath
from vidunmask.stages.track import START, as_tracked
from vidunmask.stages.unmask import Segmented, Unmasker, fill_of, probabilities_of, segmented
from vidunmask.stages.wearing import MaskWearing, WearingPast, is_small, lower_face
from vidunmask.types import ByteArray, FaceCrop, Fill, FloatArray, Frame, FrameFaces, TrackedFace
from vidunmask.video import pixels


@dataclass(slots=True)
class Face:
    """One face with all that the stages make of it; what a later stage has not made yet is what was stored."""

    track_id: int
    box: FloatArray
    landmarks: FloatArray  # (68, 2) display pixels
    score: float
    detected: bool
    reset: bool
    trust: float = 1.0
    path: list[list[float]] = field(default_factory=list)  # time, parameters (4), weight of each frame around
    frame_to_crop: FloatArray | None = None
    crop: ByteArray | None = None
    probability: FloatArray | None = None
    failed: bool = False
    around: tuple[FloatArray, FloatArray] | None = None  # (S, S) float64 what the frames around add to the mask; sum of weights
    wearing: WearingPast = field(default_factory=WearingPast)
    ahead: list[tuple[float, float]] = field(default_factory=list)
    smoothed: FloatArray | None = None
    covered: float = 0.0
    opacity: float = 0.0
    hole: FloatArray | None = None
    raw: FloatArray | None = None  # (S, S, 3) 0..255
    past: blending.Past | None = None
    skin: Skin | None = None


def load(place: Path, stored: Mapping[str, Any]) -> Face:
    """A face of the dump. Raises InputError where its files are missing, KeyError where its line lacks something."""
    name = f"face{stored['id']}"
    arrays = pictures.read_arrays(place / f"{name}.npz")
    probability = arrays["probability"]
    # In double precision what is taken away here and added again later gives the very same sum.
    around = arrays["total"].astype(np.float64) - probability.astype(np.float64)
    wearing = stored["wearing"]
    crop = pictures.read_png(place / f"{name}-crop.png")
    face = Face(
        track_id=stored["id"],
        box=np.array(stored["box"], float),
        landmarks=np.array(stored["landmarks"], float),
        score=stored["score"],
        detected=stored["detected"],
        reset=stored["reset"],
        trust=stored["trust"],
        path=stored["path"],
        frame_to_crop=np.array(stored["frame_to_crop"], float),
        crop=crop,
        probability=probability,
        failed=stored["failed"],
        around=(around, arrays["weights"]),
        wearing=WearingPast(tuple(map(tuple, wearing["covered"])), tuple(map(tuple, wearing["worn"]))),
        ahead=[(time, share) for time, share in wearing["ahead"]],
        smoothed=arrays["smoothed"],
        covered=stored["covered"],
        opacity=stored["opacity"],
    )
    if (place / f"{name}-mask.png").exists():
        face.hole = (pictures.read_png(place / f"{name}-mask.png") > 127).astype(np.float32)
        face.raw = pictures.read_png(place / f"{name}-raw.png").astype(np.float32)
    if "past" in stored:
        known, there = stored["past"], pictures.read_arrays(place / f"{name}-past.npz")
        texture = there.pop("texture", None)
        face.past = blending.Past(**there, grain=known["grain"], age=known["age"])
        if "skin" in known:
            face.skin = Skin(texture, **known["skin"])
        if known["noise"]:
            face.past.noise = blending.noise_of(0, len(crop))
    return face


def detect(
    frame: Frame, faces: Sequence[Face], detector: Detector, unmasker: Unmasker, place: Path, *, still: bool = False
) -> list[Face]:
    """The faces of the frame on its own; those that lie on a stored one keep its track and its past.

    ``still``: a picture, which is searched in tiles too.
    """
    (item,) = find_faces([frame], detector, every=1, tiles=still)
    pictures.write_png(place / "detections.png", pictures.detections(frame, item.faces))
    tracked = tuple(as_tracked(number, seen) for number, seen in enumerate(item.faces))
    aimed = Aimer(unmasker).step(FrameFaces(frame, tracked)).faces
    left = list(faces)
    fresh = max((face.track_id for face in faces), default=-1) + 1
    found = []
    for seen in sorted(aimed, key=lambda face: -face.score):
        old = max(left, key=lambda face: _overlap(face.box, seen.box), default=None)
        if old is None or _overlap(old.box, seen.box) < 0.3:
            if seen.score < START:  # enough for a track to go on, too little to begin one
                continue
            face = Face(fresh, seen.box, seen.landmarks, seen.score, seen.detected, reset=True, trust=seen.trust)
            face.path = [[float(frame.time), *_parameters(seen), seen.weight]]
            fresh += 1
        else:
            left.remove(old)
            face = old
            time = float(frame.time)
            own = [time, *_parameters(seen), seen.weight]
            face.path = [own if sample[0] == time else sample for sample in old.path]
            face.box, face.landmarks, face.score, face.detected = seen.box, seen.landmarks, seen.score, seen.detected
            face.trust = seen.trust
        found.append(face)
    return sorted(found, key=lambda face: face.track_id)


def _parameters(seen: TrackedFace) -> list[float]:
    values: list[float] = placement(seen).tolist()
    return values


def _overlap(a: FloatArray, b: FloatArray) -> float:
    shared = float(np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)))
    return shared / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared, 1e-9)


def crop(frame: Frame, faces: Sequence[Face], place: Path) -> None:
    """Smooths the path of each face and reads its crop."""
    for face in faces:
        path = CropPath()
        for time, *parameters, weight in face.path:
            path.append(time, np.array(parameters), weight=weight)
        smoothed = path.smoothed(float(frame.time), LOOK_AHEAD)
        face.frame_to_crop = geometry.resize(geometry.similarity_from_parameters(smoothed), geometry.CROP_SIZE)
        face.crop = pixels.read_crop(frame, face.frame_to_crop, geometry.CROP_SIZE)
        pictures.write_png(place / f"face{face.track_id}-crop.png", face.crop)
    tracked = [TrackedFace(f.track_id, f.box, f.landmarks, f.score, f.detected, f.reset, f.trust) for f in faces]
    transforms = [_there(face.frame_to_crop) for face in faces]
    pictures.write_png(place / "tracks.png", pictures.tracks(frame, tracked, transforms, geometry.CROP_SIZE))


def segment(faces: Sequence[Face], unmasker: Unmasker, place: Path) -> None:
    """Where the mask is, by the network alone."""
    crops = [_crop_of(face) for face in faces]
    for face, new in zip(faces, segmented(crops, probabilities_of(crops, unmasker)), strict=True):
        face.failed, face.probability = new.failed, new.probability
        pictures.write_png(place / f"face{face.track_id}-logits.png", pictures.logits(face.probability))


def settle(frame: Frame, faces: Sequence[Face], *, temporal: bool, place: Path) -> None:
    """Smooths the mask over the frames around, decides whether it is worn, and makes the hole."""
    for face in faces:
        probability = _there(face.probability)
        frame_to_crop = _there(face.frame_to_crop)
        small = is_small(frame_to_crop)
        zones = lower_face(_crop_landmarks(face), len(probability), trust=face.trust, small=small)
        face.covered = zones.covered(probability)
        if temporal:
            decision, time = MaskWearing(past=face.wearing), float(frame.time)
            worn = decision.step(time, face.covered, face.ahead)
        else:
            worn = MaskWearing().step(0.0, face.covered)
        face.opacity = 0.0 if face.failed else worn
        if temporal and face.around is not None:
            others, weights = face.around
            face.smoothed = (others + probability).astype(np.float32) / weights
        else:
            face.smoothed = probability
        name = f"face{face.track_id}"
        pictures.write_png(place / f"{name}-probability.png", pictures.to_bytes(face.smoothed))
        scale = geometry.scale_of(frame_to_crop)
        face.hole = hole_of(face.smoothed, zones.region, scale=scale) if face.opacity > 0 else None
        if face.hole is not None and face.hole.any():
            pictures.write_png(place / f"{name}-mask.png", pictures.to_bytes(face.hole))


def _crop_landmarks(face: Face) -> FloatArray:
    return geometry.apply(_there(face.frame_to_crop), face.landmarks)


def inpaint(faces: Sequence[Face], unmasker: Unmasker, place: Path) -> None:
    """What the network puts into the holes."""
    for face in faces:
        face.raw = None
    worn = [face for face in faces if face.opacity > 0 and face.hole is not None and face.hole.any()]
    if not worn:
        return
    images = unmasker.inpaint([_there(face.crop) for face in worn], [_there(face.hole) for face in worn])
    for face, image in zip(worn, images, strict=True):
        pictures.write_png(place / f"face{face.track_id}-raw.png", raw_bytes(image))
        face.raw = image if np.isfinite(image).all() else None


def blend(frame: Frame, faces: Sequence[Face], *, temporal: bool, place: Path) -> Frame:
    """Lays the fills into the frame, with what the blender remembered of each; returns the frame, which it changes."""
    before = pictures.whole(frame)
    strength = blending.TemporalBlender.STRENGTH if temporal else 0.0
    blender = blending.TemporalBlender(strength=strength)
    known = {face.track_id: face for face in faces}

    class Memory(Observer):
        def blending(self, frame: Frame, fill: Fill, past: blending.Past, skin: Skin | None) -> None:
            stored = known[fill.track_id]
            for empty, full in ((past, stored.past), (skin, stored.skin)):
                if empty is not None and full is not None:
                    for name in full.__slots__:
                        setattr(empty, name, getattr(full, name))

        def blended(self, frame: Frame, fill: Fill, picture: FloatArray, alpha: FloatArray) -> None:
            write_blend(place, fill, picture, alpha)

    fills = tuple(fill_of(_segmented(face), face.raw, face.hole) for face in faces)
    (result,) = blending.blend([FrameFaces(frame, fills)], blender, observer=Memory())
    after = pictures.whole(result)
    pictures.write_png(place / "result.png", after)
    pictures.write_png(place / "difference.png", pictures.difference(before, after))
    for face in faces:
        write_after(place, result, face.track_id, _there(face.frame_to_crop))
    return result


def _segmented(face: Face) -> Segmented:
    crop = _crop_of(face)
    region = lower_face(crop.landmarks, len(crop.image), trust=crop.trust).region
    return Segmented(crop, _there(face.smoothed), region, guide_of(crop.image), face.covered, face.opacity, face.failed)


def _crop_of(face: Face) -> FaceCrop:
    image, frame_to_crop = _there(face.crop), _there(face.frame_to_crop)
    return FaceCrop(face.track_id, image, frame_to_crop, _crop_landmarks(face), face.score, face.reset, face.trust)


def compare(stage: str, old: Face, new: Face, stored: Path, place: Path) -> tuple[str, float, float] | None:
    """Unit, greatest and mean difference of what a stage made of a face; None where it made nothing both times."""
    name = f"face{new.track_id}"
    if stage == "detect":
        apart = np.hypot(*(new.landmarks - old.landmarks).T)
        return "pixels, landmarks", float(apart.max()), float(apart.mean())
    if stage == "segment":
        apart = np.abs(_there(new.probability) - _there(old.probability))
        return "probability", float(apart.max()), float(apart.mean())
    file, unit = {
        "crop": ("crop", "grey levels"),
        "hole": ("mask", "of the crop's pixels"),
        "inpaint": ("raw", "grey levels, raw fill"),
        "blend": ("blended", "grey levels, blended fill"),
    }[stage]
    paths = stored / f"{name}-{file}.png", place / f"{name}-{file}.png"
    if not any(path.exists() for path in paths):
        return None
    most, mean = picture_difference(*paths)
    if not paths[0].exists():
        unit += " (there was none)"
    elif not paths[1].exists():
        unit += " (there is none now)"
    return (unit, most / 255, mean / 255) if stage == "hole" else (unit, most, mean)


def picture_difference(before: Path, after: Path) -> tuple[float, float]:
    """Greatest and mean difference of two pictures in grey levels; one that is not there is black."""
    images = [pictures.read_png(path) if path.exists() else None for path in (before, after)]
    there = next(image for image in images if image is not None)
    a, b = (np.zeros_like(there) if image is None else image for image in images)
    apart = cv2.absdiff(a, b)
    return float(apart.max()), float(apart.mean())


def describe(face: Face) -> dict[str, Any]:
    """What the page says of a face."""
    values = {name: getattr(face, name) for name in ("score", "trust", "covered", "opacity", "failed", "reset", "detected")}
    confidence = float(np.abs(2 * _there(face.smoothed) - 1).mean())
    area = float((_there(face.smoothed) > 0.5).mean())
    return {"id": face.track_id, "frame_to_crop": face.frame_to_crop, "confidence": confidence, "area": area, **values}


def _there(value: Any) -> Any:
    """The value, which an earlier stage has made or the dump has stored."""
    assert value is not None
    return value
