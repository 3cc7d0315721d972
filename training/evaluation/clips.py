"""Measures the whole pipeline on a clip of a bare face that wears a drawn mask, against the clip as it was."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from vidunmask.detectors import Detector
from vidunmask.training import metrics
from vidunmask.training.evaluation.clip_masks import ClipMask, Dressed, Place, trace
from vidunmask.training.evaluation.fills import Record, Shown
from vidunmask.training.evaluation.methods import widen
from vidunmask.training.evaluation.steadiness import Steadiness, seam
from vidunmask.types import ByteArray, Frame
from vidunmask.video import pixels
from vidunmask.video.reader import VideoReader

Chain = Callable[[Iterable[Frame]], Generator[Frame]]  # the pipeline: frames in, edited frames out

SHOWN = 6  # frames on the sheet
_SAME = 3  # grey levels: a pixel of the mask that is this close to what it was is still the mask


@dataclass(frozen=True, slots=True, eq=False)
class ClipFigures:
    """What was measured on one clip with one method."""

    records: list[Record]  # one a frame with a mask
    figures: dict[str, float]
    shown: list[Shown]  # truth, masked and result of some frames


def find_face(path: Path, detector: Detector, *, seconds: float) -> dict[int, Place]:
    """Where the main face of the clip's first ``seconds`` is, by the index of the frame. Raises InputError for no video."""
    with VideoReader(path) as reader:
        return trace(_first(reader, seconds), detector)


def measure_clip(
    path: Path,
    places: dict[int, Place],
    chain: Chain,
    *,
    kind: str,
    seed: int,
    seconds: float,
    progress: Callable[[int], None],
) -> ClipFigures:
    """Puts a mask of one ``kind`` on the face, takes it off again with ``chain``, and compares.

    Figures are means over the frames that wear the mask, in the region under it, widened as for faces; those with "before" are
    the masked clip itself. ``edited``: share of these frames in which the mask is gone, at least for its greater part; ``mask
    left``: share of the mask's pixels that are still what they were.
    """
    mask = ClipMask(places, kind=kind, seed=seed)
    steadiness = Steadiness()
    records: list[Record] = []
    shown: list[Shown] = []
    stops = set(np.array(sorted(places))[np.linspace(0, len(places) - 1, SHOWN).round().astype(int)].tolist())
    last = None
    with VideoReader(path) as reader, closing(chain(mask.dress(_first(reader, seconds)))) as frames:
        for frame in frames:
            progress(1)
            dressed = mask.dressed.pop(frame.index, None)
            if dressed is None:
                continue
            result = pixels.read_crop(frame, dressed.place.frame_to_crop, len(dressed.truth))
            region = widen(torch.from_numpy(dressed.mask)[None, None])
            figures = _compare(dressed, result, region)
            jumped = dressed.place.reset or last != frame.index - 1
            last = frame.index
            inside = region[0, 0].numpy().astype(np.uint8)
            figures |= steadiness.step(dressed.truth, result, inside, reset=jumped)
            figures |= seam(dressed.truth, result, dressed.mask)
            records.append({"frame": float(frame.index), "seconds": float(frame.time), **figures})
            if frame.index in stops:
                text = f"frame {frame.index}, {figures['psnr']:.1f} dB"
                shown.append(Shown([dressed.truth, dressed.masked, result], text))
    names = list(dict.fromkeys(name for record in records for name in record if name not in ("frame", "seconds")))
    means = {name: float(np.mean([r[name] for r in records if name in r])) for name in names}  # type: ignore[arg-type]
    means["edited"] = float(np.mean([float(r["mask left"] or 0) < 0.5 for r in records])) if records else 0.0
    return ClipFigures(records, {"frames": float(len(records)), **means}, shown)


def _compare(dressed: Dressed, result: ByteArray, region: torch.Tensor) -> dict[str, float]:
    truth, masked, made = (
        torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
        for picture in (dressed.truth, dressed.masked, result)
    )
    core = dressed.mask > 0.95
    changed = np.abs(result.astype(np.int16) - dressed.masked).max(axis=2) > _SAME
    return {
        "psnr": metrics.psnr(made, truth, region).item(),
        "l1": metrics.l1(made, truth, region).item(),
        "ssim": metrics.ssim(made, truth, region).item(),
        "psnr before": metrics.psnr(masked, truth, region).item(),
        "l1 before": metrics.l1(masked, truth, region).item(),
        "mask left": float(1 - changed[core].mean()) if core.any() else 0.0,
    }


def _first(frames: Iterable[Frame], seconds: float) -> Iterator[Frame]:
    """The frames up to ``seconds`` after the first."""
    begin: list[float] = []

    def early(frame: Frame) -> bool:
        if not begin:
            begin.append(float(frame.time))
        return float(frame.time) - begin[0] < seconds

    return takewhile(early, frames)
