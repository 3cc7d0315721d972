"""Runs the two networks over the crops: where is the mask, is it worn, what lies under it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vidunmask.errors import DeviceError
from vidunmask.flow import tap
from vidunmask.geometry import scale_of
from vidunmask.networks.looks import SecondLook
from vidunmask.networks.precision import autocast
from vidunmask.stages.holes import MaskSmoother, guide_of, hole_of
from vidunmask.stages.memory import TrackMemory
from vidunmask.stages.observe import Observer
from vidunmask.stages.owners import shared_out
from vidunmask.stages.wearing import MaskWearing, WearingPast, is_small, lower_face
from vidunmask.types import ByteArray, FaceCrop, Fill, FloatArray, Frame, FrameFaces, KnownFace

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_AHEAD = 16  # frames held back, whatever the time stamps say


class Unmasker:
    """Owns both networks and the device they run on; takes and returns numpy.

    segmenter: image (B, 3, S, S) in 0..1 to logits (B, 1, S, S); where it is in doubt it is asked again, see `SecondLook`.
    inpainter: image and mask (B, 1, S, S) to a fill (B, 3, S, S). dtype: float32, or bfloat16 for autocast. batch: faces in one
    call; it is halved for good where the device's memory does not suffice. compile: torch.compile both networks.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        inpainter: nn.Module,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        batch: int = 16,
        compile: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.batch = batch
        self.seconds = {"segment": 0.0, "inpaint": 0.0}
        self._glance: Callable[..., Tensor] = self._prepare(segmenter, compile=False)
        self._segmenter: Callable[..., Tensor] = SecondLook(self._prepare(segmenter, compile=compile))
        self._inpainter: Callable[..., Tensor] = self._prepare(inpainter, compile=compile)

    def _prepare(self, network: nn.Module, *, compile: bool) -> nn.Module:
        network = network.to(self.device).eval()
        return cast(nn.Module, torch.compile(network, dynamic=True)) if compile else network

    def segment(self, images: Sequence[ByteArray], *, large: Sequence[bool] | None = None) -> FloatArray:
        """Probabilities (N, S, S) float32 of a mask, for crops (S, S, 3) uint8 RGB. NaN where the network gave none.

        ``large`` says which faces are worth a second look where the first leaves a doubt; by default all are.
        """
        began = time.perf_counter()
        may = torch.tensor([True] * len(images) if large is None else list(large))
        result = self._run(lambda image, may: torch.sigmoid(self._segmenter(image, may).float())[:, 0], _images(images), may)
        self.seconds["segment"] += time.perf_counter() - began
        return result.numpy()

    def glance(self, images: Sequence[ByteArray]) -> FloatArray:
        """The same as `segment` by one look and never compiled; it may run in another thread beside `segment`."""
        return self._run(lambda image: torch.sigmoid(self._glance(image).float())[:, 0], _images(images)).numpy()

    def inpaint(self, images: Sequence[ByteArray], holes: Sequence[FloatArray]) -> FloatArray:
        """Fills (N, S, S, 3) float32 in 0..255 for crops and holes (S, S) in 0..1. NaN where the network gave none."""
        began = time.perf_counter()
        masks = torch.from_numpy(np.stack(holes))[:, None]  # (N, 1, S, S)
        result = self._run(lambda image, mask: self._inpainter(image, mask).float() * 255, _images(images), masks)
        self.seconds["inpaint"] += time.perf_counter() - began
        return result.permute(0, 2, 3, 1).numpy()

    # inference_mode and autocast are thread-local and would leak through a generator's yield, so they stand here.
    @torch.inference_mode()
    def _run(self, network: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Runs all inputs (N, ...) in batches; uint8 becomes 0..1 on the device. Returns float32 on the CPU."""
        results: list[Tensor] = []
        start, count = 0, len(inputs[0])
        while start < count:
            size = min(self.batch, count - start)  # another thread may halve the batch meanwhile
            try:
                with autocast(self.device, self.dtype):
                    results.append(network(*(self._to_device(x[start : start + size]) for x in inputs)).cpu())
            except RuntimeError as error:  # torch.OutOfMemoryError is one, and Apple's GPUs raise no other
                if "out of memory" not in str(error):
                    raise
                if size == 1:
                    raise DeviceError(f"--device {self.device}: no memory left for a single face; try --device cpu") from error
                self.batch = min(self.batch, size // 2)
                log.warning("%s ran out of memory, going on with batches of %d faces", self.device, self.batch)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            start += size
        return torch.cat(results)

    def _to_device(self, values: Tensor) -> Tensor:
        # A picture crosses the bus as bytes and is already channels-last, since it comes from (S, S, 3) arrays.
        values = values.to(self.device, non_blocking=True)
        return values.float() / 255 if values.dtype == torch.uint8 else values


def _images(images: Sequence[ByteArray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)  # (N, 3, S, S), channels last in memory


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """A crop with the segmentation of its mask; lives only between the parts of this stage."""

    crop: FaceCrop
    probability: FloatArray  # (S, S) float32
    region: ByteArray  # (S, S) 0/1, the lower face
    guide: ByteArray  # (128, 128) uint8, see holes.guide_of
    covered: float  # 0..1, share of the lower face under the mask
    opacity: float = 0.0
    failed: bool = False


class FillsAgain:
    """Uses what the inpainter made of a face for the frames that follow too, where the machine is too slow for every frame.

    Crops are aligned, so the last fill lies where the next one would. ``every``: frames of a track from one run of the
    inpainter to the next, 1 for every frame; it may be changed at any time.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self._last: TrackMemory[list[tuple[int, FloatArray]]] = TrackMemory(list)

    def known(self, crop: FaceCrop, index: int) -> FloatArray | None:
        """The fill (S, S, 3) to use again for a crop of frame ``index``, None where the inpainter has to run."""
        if self.every <= 1:
            return None
        last = self._last.of(crop.track_id, index, reset=crop.reset)
        if not last:
            return None
        used, image = last.pop()
        if used + 1 >= self.every or image.shape != crop.image.shape:
            return None
        last.append((used + 1, image))
        return image

    def prune(self, index: int) -> None:
        """Forgets the tracks that have been away too long."""
        self._last.prune(index)

    def keep(self, crop: FaceCrop, index: int, image: FloatArray) -> None:
        """Remembers a fill that the inpainter has just made."""
        if self.every > 1 and np.isfinite(image).all():
            self._last.of(crop.track_id, index, reset=True).append((0, image))


@dataclass(frozen=True, slots=True, eq=False)
class Settling:
    """The time around one face of a frame that its mask was settled with; for observers."""

    total: FloatArray  # (S, S) float32, weighted sum of the probabilities of this frame (weight 1) and its neighbours
    weights: FloatArray  # (S, S) float32, sum of the weights
    past: WearingPast  # what the decision remembered before
    ahead: tuple[tuple[float, float], ...]  # (seconds, share covered) of the next frames


def unmask(
    crops: Iterable[FrameFaces[FaceCrop]],
    unmasker: Unmasker,
    *,
    min_faces: int = 16,
    max_frames: int = 8,
    max_bytes: int = 256 << 20,
    look_ahead: float = 0.25,
    temporal: bool = True,
    known: Sequence[KnownFace] = (),
    observer: Observer | None = None,
    seam: Callable[[Iterator[FrameFaces[Segmented]]], Iterator[FrameFaces[Segmented]]] | None = None,
    again: FillsAgain | None = None,
) -> Iterator[FrameFaces[Fill]]:
    """Segments every crop, decides per track whether a mask is worn, and fills the faces that wear one.

    Frames are gathered until they hold ``min_faces`` faces or are ``max_frames`` many, so that one call of a network serves
    several. ``look_ahead`` seconds of frames (at most 16) are held back for the decision and for the smoothing of the masks.
    Neither these nor those gathered before each network may be more than about ``max_bytes``, however large the frames are.
    temporal=False takes every frame alone: nothing is smoothed and the decision has no past. ``known`` are faces of which it is
    known whether they wore a mask before the first frame. A face for which a network gives NaN passes through untouched.
    ``seam`` is put between segmenting and inpainting, such as `flow.prefetch`, which lets the two overlap. ``again`` saves the
    inpainter some of its work.
    """
    faces = _segment(_gather(crops, min_faces=min_faces, max_frames=max_frames, max_bytes=max_bytes), unmasker)
    if observer is not None:
        faces = tap(faces, observer.segmented)
    if seam is not None:
        faces = seam(faces)
    if temporal:
        settled = _settle(faces, look_ahead=look_ahead, max_bytes=max_bytes, known=known, observer=observer)
    else:
        settled = _alone(faces, observer=observer)
    groups = _gather(settled, min_faces=min_faces, max_frames=max_frames, max_bytes=max_bytes)
    yield from _inpaint(groups, unmasker, again=again or FillsAgain(), observer=observer)


def _gather(
    items: Iterable[FrameFaces[T]], *, min_faces: int, max_frames: int, max_bytes: int
) -> Iterator[list[FrameFaces[T]]]:
    held: list[FrameFaces[T]] = []
    faces = nbytes = 0
    for item in items:
        held.append(item)
        faces += len(item.faces)
        nbytes += item.nbytes
        if faces >= min_faces or len(held) >= max_frames or nbytes >= max_bytes:
            yield held
            held, faces, nbytes = [], 0, 0
    if held:
        yield held


def _segment(groups: Iterable[list[FrameFaces[FaceCrop]]], unmasker: Unmasker) -> Iterator[FrameFaces[Segmented]]:
    for group in groups:
        raw = deque(probabilities_of([crop for item in group for crop in item.faces], unmasker))
        for item in group:
            yield FrameFaces(item.frame, segmented(item.faces, [raw.popleft() for _ in item.faces]), item.cut)


def probabilities_of(crops: Sequence[FaceCrop], unmasker: Unmasker) -> list[FloatArray]:
    """What the segmenter makes of crops, of whatever frames: probabilities (S, S) of a mask, anybody's; NaN where it failed."""
    if not crops:
        return []
    return list(unmasker.segment([crop.image for crop in crops], large=[not is_small(crop.frame_to_crop) for crop in crops]))


def segmented(crops: Sequence[FaceCrop], probabilities: Sequence[FloatArray]) -> tuple[Segmented, ...]:
    """All faces of one frame, each with the part of its probabilities (S, S) that is its own, before anything is decided."""
    done = []
    for crop, probability in zip(crops, shared_out(probabilities, crops), strict=True):
        failed = not np.isfinite(probability).all()
        if failed:
            probability = np.zeros_like(probability)
        zones = lower_face(crop.landmarks, len(probability), trust=crop.trust, small=is_small(crop.frame_to_crop))
        covered = zones.covered(probability)
        done.append(Segmented(crop, probability, zones.region, guide_of(crop.image), covered, failed=failed))
    return tuple(done)


def _settle(
    items: Iterable[FrameFaces[Segmented]],
    *,
    look_ahead: float,
    max_bytes: int,
    known: Sequence[KnownFace] = (),
    observer: Observer | None = None,
) -> Iterator[FrameFaces[Segmented]]:
    """Sets the opacity and smooths the probability of every face, from its track's past and ``look_ahead`` seconds ahead."""
    wearing: TrackMemory[MaskWearing] = TrackMemory(MaskWearing)
    smoothers: TrackMemory[MaskSmoother] = TrackMemory(MaskSmoother)
    window: deque[FrameFaces[Segmented]] = deque()
    nbytes = 0  # of the frames in the window
    before = {face.track_id: face for face in known}

    def settle(item: FrameFaces[Segmented]) -> FrameFaces[Segmented]:
        index, seconds = item.frame.index, float(item.frame.time)
        faces: list[Segmented] = []
        settling: list[Settling] = []
        for face in item.faces:
            track, reset = face.crop.track_id, face.crop.reset
            ahead = _ahead(track, window)
            decision = wearing.of(track, index, reset=reset)
            if track in before:
                earlier = before.pop(track)
                decision.begin(worn=earlier.worn, decisions=earlier.decisions)
            past = decision.past if observer is not None else None
            covered_ahead = [(float(frame.time), later.covered) for frame, later in ahead]
            opacity = decision.step(seconds, face.covered, covered_ahead if look_ahead > 0 else None)
            smoother = smoothers.of(track, index, reset=reset)
            probability = smoother.step(face.probability, face.guide, [(later.probability, later.guide) for _, later in ahead])
            if past is not None and smoother.sums is not None:
                settling.append(Settling(*smoother.sums, past, tuple(covered_ahead)))
            faces.append(replace(face, opacity=0.0 if face.failed else opacity, probability=probability))
        wearing.prune(index)
        smoothers.prune(index)
        settled = FrameFaces(item.frame, tuple(faces), item.cut)
        if observer is not None:
            observer.settled(settled, settling)
        return settled

    for item in items:
        window.append(item)
        nbytes += item.nbytes
        while window and (
            item.frame.time - window[0].frame.time >= look_ahead
            or len(window) > _MOST_AHEAD
            or (nbytes > max_bytes and len(window) > 1)
        ):
            nbytes -= window[0].nbytes
            yield settle(window.popleft())
    while window:
        yield settle(window.popleft())


def _ahead(track_id: int, window: Iterable[FrameFaces[Segmented]]) -> list[tuple[Frame, Segmented]]:
    """The next frames of a track with its face in each, up to where it ends or is reset."""
    found: list[tuple[Frame, Segmented]] = []
    for item in window:
        face = next((face for face in item.faces if face.crop.track_id == track_id), None)
        if face is None or face.crop.reset:
            break
        found.append((item.frame, face))
    return found


def _alone(items: Iterable[FrameFaces[Segmented]], *, observer: Observer | None = None) -> Iterator[FrameFaces[Segmented]]:
    for item in items:
        worn = (0.0 if face.failed else MaskWearing().step(0.0, face.covered) for face in item.faces)
        faces = tuple(replace(face, opacity=opacity) for face, opacity in zip(item.faces, worn, strict=True))
        settled = FrameFaces(item.frame, faces, item.cut)
        if observer is not None:
            alone = [Settling(face.probability, np.ones_like(face.probability), WearingPast(), ()) for face in faces]
            observer.settled(settled, alone)
        yield settled


def _inpaint(
    groups: Iterable[list[FrameFaces[Segmented]]],
    unmasker: Unmasker,
    *,
    again: FillsAgain,
    observer: Observer | None = None,
) -> Iterator[FrameFaces[Fill]]:
    warned = False
    for group in groups:
        holes: dict[int, FloatArray] = {}
        worn: list[tuple[int, Segmented]] = []
        fills: dict[int, FloatArray] = {}
        for index, face in ((item.frame.index, face) for item in group for face in item.faces):
            if face.opacity > 0:
                holes[id(face)] = hole_of(face.probability, face.region, scale=scale_of(face.crop.frame_to_crop))
                if holes[id(face)].any():
                    known = again.known(face.crop, index)
                    if known is None:
                        worn.append((index, face))
                    else:
                        fills[id(face)] = known
        crops, gaps = [face.crop.image for _, face in worn], [holes[id(face)] for _, face in worn]
        for (index, face), image in zip(worn, unmasker.inpaint(crops, gaps) if worn else (), strict=True):
            fills[id(face)] = image
            again.keep(face.crop, index, image)
        for item in group:
            out = []
            for face in item.faces:
                image = fills.get(id(face))
                if observer is not None and image is not None:
                    observer.inpainted(item.frame, face.crop.track_id, image)
                finite = image is not None and bool(np.isfinite(image).all())
                if (face.failed or (image is not None and not finite)) and not warned:
                    log.warning("a network gave NaN at frame %d: such faces are left as they are", item.frame.index)
                    warned = True
                out.append(fill_of(face, image if finite else None, holes.get(id(face))))
            again.prune(item.frame.index)
            yield FrameFaces(item.frame, tuple(out), item.cut)


def fill_of(face: Segmented, image: FloatArray | None, hole: FloatArray | None) -> Fill:
    """Composes crop and fill by eq. 1 of the paper; without an image the face passes untouched."""
    crop = face.crop
    confidence = float(np.abs(2 * face.probability - 1).mean())
    if image is None or hole is None:
        empty = np.zeros(crop.image.shape[:2], np.float32)
        composed, hole, opacity = crop.image, empty, 0.0
    else:
        fill = np.clip(image + 0.5, 0, 255).astype(np.uint8)
        composed = cv2.copyTo(fill, hole.astype(np.uint8), crop.image.copy())  # in a tenth of np.where's time
        opacity = face.opacity
    return Fill(
        track_id=crop.track_id,
        crop=crop.image,
        image=composed,
        mask=hole,
        frame_to_crop=crop.frame_to_crop,
        opacity=opacity,
        confidence=confidence,
        reset=crop.reset,
    )
