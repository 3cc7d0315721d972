"""Measures the segmentation: overlap by type and camera, with and without straps, calibration, false alarms on bare faces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vidunmask.training import metrics
from vidunmask.training.evaluation.fills import Record
from vidunmask.training.evaluation.groups import Person, as_turned
from vidunmask.training.evaluation.protocols import Masks, chunks
from vidunmask.training.morphology import dilate, erode
from vidunmask.training.pack import Pack
from vidunmask.types import ByteArray, FloatArray

BINS = 15
STRAP = 15  # px: opening by a disc this wide takes away straps and loops, which are up to 10 px wide, and leaves the body
NEAR = 8  # px to either side of the true edge: where a segmentation is in doubt at all
BARE = 4  # one face in so many is measured without a mask
FALSE = 0.005  # of the picture: a bare face with more than this segmented is a false alarm


@dataclass(slots=True)
class Calibration:
    """Predicted probabilities against how often they are right, in `BINS` bins."""

    count: FloatArray = field(default_factory=lambda: np.zeros(BINS))
    predicted: FloatArray = field(default_factory=lambda: np.zeros(BINS))
    true: FloatArray = field(default_factory=lambda: np.zeros(BINS))

    def add(self, probability: Tensor, truth: Tensor) -> None:
        """Counts pixels, both of any one shape; truth is thresholded at 0.5."""
        p, t = probability.flatten().double(), (truth > 0.5).flatten().double()
        where = (p * BINS).long().clamp(0, BINS - 1)
        for total, values in ((self.count, torch.ones_like(p)), (self.predicted, p), (self.true, t)):
            total += torch.bincount(where, weights=values, minlength=BINS).cpu().numpy()

    @property
    def error(self) -> float:
        """The expected calibration error: mean difference of predicted and true share over the bins, by their size.

        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3, for the probability of the mask.
        """
        return float(np.abs(self.predicted - self.true).sum() / max(1.0, self.count.sum()))

    def curve(self) -> list[tuple[float, float, int]]:
        """Mean prediction, true share and pixels of each bin that has any."""
        filled = np.flatnonzero(self.count)
        return [(self.predicted[i] / self.count[i], self.true[i] / self.count[i], int(self.count[i])) for i in filled]


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What was measured at one camera."""

    camera: float
    records: list[Record]  # one a face
    everywhere: Calibration
    edges: Calibration

    def figures(self) -> dict[str, float]:
        """The summary: overlaps over all faces and by type, calibration, bare faces."""
        worn = [record for record in self.records if record["type"] != "none"]
        bare = [float(record["false area"] or 0) for record in self.records if record["type"] == "none"]
        found: dict[str, float] = {}
        for name in ("iou", "iou of the body"):
            values = np.array([float(record[name] or 0) for record in worn])
            if len(values):
                found |= {
                    name: float(values.mean()),
                    f"{name}, median": float(np.median(values)),
                    f"{name}, 10th percentile": float(np.percentile(values, 10)),
                }
        by_type = defaultdict(list)
        for record in worn:
            by_type[str(record["type"])].append(float(record["iou"] or 0))
        found |= {f"iou {name}": float(np.mean(values)) for name, values in sorted(by_type.items())}
        found["calibration error"] = self.everywhere.error
        found[f"calibration error within {NEAR} px of the edge"] = self.edges.error
        if bare:
            found["false area of bare faces"] = float(np.mean(bare))
            found[f"bare faces with more than {FALSE:.1%} segmented"] = float(np.mean(np.array(bare) > FALSE))
        return found


@torch.inference_mode()
def measure_segmentation(
    pack: Pack,
    rows: np.ndarray,
    *,
    masks: Masks,
    camera: float,
    people: Mapping[int, Person],
    segmenter: nn.Module,
    seed: int,
    device: torch.device,
    progress: Callable[[int], None],
    turned: float = 0.0,
) -> Segmentation:
    """Measures the segmenter on the faces ``rows``, every `BARE`-th of them without a mask."""
    result = Segmentation(camera, [], Calibration(), Calibration())
    is_bare = np.arange(len(rows)) % BARE == BARE - 1
    for bare in (False, True):
        stream = 1 + round(camera * 100) + 500 * bare
        for chunk in chunks(pack, rows[is_bare == bare], seed=seed, stream=stream, device=device, turned=turned):
            some = chunk.rows
            made = masks(chunk, bare=bare)
            probability = torch.sigmoid(segmenter(made.masked))
            result.everywhere.add(probability, made.mask)
            edge = _near_edge(made.mask)
            result.edges.add(probability[edge], made.mask[edge])
            overlap = metrics.iou(probability, made.mask).tolist()
            body = [_overlap(body_of(a), body_of(b)) for a, b in zip(_binary(probability), _binary(made.mask), strict=True)]
            area = (probability > 0.5).float().mean((1, 2, 3)).tolist()
            for index, row in enumerate(some.tolist()):
                figures = {"false area": area[index]} if bare else {"iou": overlap[index], "iou of the body": body[index]}
                person = as_turned(people[row], chunk.yaws, index)
                record: Record = {
                    "photo": person.photo, **person.groups, "type": made.types[index], "camera": camera, **figures,
                }  # fmt: skip
                result.records.append(record)
            progress(len(some))
    return result


def body_of(mask: ByteArray) -> ByteArray:
    """A binary mask (H, W) without what is thinner than `STRAP`: its straps and loops."""
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (STRAP, STRAP))).astype(np.uint8)


def _binary(mask: Tensor) -> Sequence[ByteArray]:
    return list((mask[:, 0] > 0.5).to(torch.uint8).cpu().numpy())


def _overlap(a: ByteArray, b: ByteArray) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def _near_edge(mask: Tensor) -> Tensor:
    """(B, 1, H, W) bool: within `NEAR` pixels of the edge of a mask."""
    binary = (mask > 0.5).float()
    return (dilate(binary, NEAR) - erode(binary, NEAR)) > 0.5
