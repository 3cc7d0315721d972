"""Measures what is filled in: every method on every face, with the mask that is found and with the true one."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from vidunmask.training import metrics
from vidunmask.training.evaluation.groups import Person, as_turned
from vidunmask.training.evaluation.identity import Identity
from vidunmask.training.evaluation.inception import Inception
from vidunmask.training.evaluation.methods import Method, widen
from vidunmask.training.evaluation.perceptual import Perceptual, frechet, summary
from vidunmask.training.evaluation.protocols import Masks, chunks
from vidunmask.training.losses import compose
from vidunmask.training.pack import Pack, spread
from vidunmask.types import ByteArray, FloatArray

SEGMENTED, TRUE = "segmented mask", "true mask"  # where the mask to fill comes from; Table 1 has the first
SHOWN = 24  # faces on the sheet
EXTREMES = 8  # best and worst cases on theirs

Record = dict[str, str | float | None]


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """The metrics that need more than the two pictures; each None where its weights are not there."""

    perceptual: Perceptual | None = None
    identity: Identity | None = None
    inception: Inception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A row of pictures: the masked face, the truth, and each method's result, with a line on it."""

    pictures: list[ByteArray]  # each (S, S, 3)
    caption: str


@dataclass(slots=True)
class Gallery:
    """Keeps some rows of pictures of many: evenly spread ones, the best and the worst."""

    every: int
    seen: int = 0
    sheet: list[Shown] = field(default_factory=list)
    _best: list[tuple[float, int, Shown]] = field(default_factory=list)
    _worst: list[tuple[float, int, Shown]] = field(default_factory=list)

    def add(self, score: float, show: Callable[[], Shown]) -> None:
        """Counts a face with a score of which more is better; its pictures are made only if they are kept."""
        for heap, value in ((self._best, score), (self._worst, -score)):
            if len(heap) < EXTREMES:
                heapq.heappush(heap, (value, self.seen, show()))
            elif value > heap[0][0]:
                heapq.heapreplace(heap, (value, self.seen, show()))
        if self.seen % self.every == 0 and len(self.sheet) < SHOWN:
            self.sheet.append(show())
        self.seen += 1

    @property
    def best(self) -> list[Shown]:
        """The rows of the highest scores, best first."""
        return [shown for _, _, shown in sorted(self._best, key=lambda row: (-row[0], row[1]))]

    @property
    def worst(self) -> list[Shown]:
        """The rows of the lowest scores, worst first."""
        return [shown for _, _, shown in sorted(self._worst, key=lambda row: (-row[0], row[1]))]


@dataclass(frozen=True, slots=True, eq=False)
class Fills:
    """What was measured."""

    records: list[Record]  # one for each face, method and source of the mask
    distances: dict[str, dict[str, float]]  # "method, source" to Fréchet distances over all faces
    gallery: Gallery


@torch.inference_mode()
def measure_fills(
    pack: Pack,
    rows: np.ndarray,
    *,
    masks: Masks,
    people: Mapping[int, Person],
    segmenter: nn.Module,
    methods: Sequence[Method],
    judges: Judges,
    identities: int,
    seed: int,
    device: torch.device,
    progress: Callable[[int], None],
    turned: float = 0.0,
) -> Fills:
    """Measures all methods on the faces ``rows``; ``identities`` of them, evenly spread, by `Identity` too.

    A record has the person's fields, the type of mask, the share of the picture under it, method and mask, and the figures: for
    the whole picture and, as "... masked", for the region under the mask widened by `GROW`, where the photo has a picture.
    """
    records: list[Record] = []
    features: dict[str, list[FloatArray]] = defaultdict(list)
    gallery = Gallery(every=max(1, len(rows) // SHOWN))
    identified = set(spread(rows, identities).tolist()) if judges.identity is not None and identities > 0 else set()
    for chunk in chunks(pack, rows, seed=seed, stream=0, device=device, turned=turned):
        some = chunk.rows
        made = masks(chunk)
        found = widen(torch.sigmoid(segmenter(made.masked)))
        region = widen(made.mask)
        truth = _Truth(made.truth, region * chunk.valid, judges)
        points = list(chunk.landmarks.cpu().numpy())
        chosen = [index for index, row in enumerate(some.tolist()) if row in identified]
        known = truth.embed(chosen, points)
        for name, activations in truth.features.items():
            features[f"truth {name}"].append(activations)
        shown: list[ByteArray] = [_bytes(made.masked), _bytes(made.truth)]
        scores: FloatArray | None = None
        for method in methods:
            for source, mask in ((SEGMENTED, found), (TRUE, region)):
                result = compose(made.masked, method.fill(made.masked, mask), mask)
                figures, seen = truth.compare(result)
                for name, activations in seen.items():
                    features[f"{method.name}, {source} {name}"].append(activations)
                if source == SEGMENTED:
                    shown.append(_bytes(result))
                    if chosen and judges.identity is not None:
                        embedded = judges.identity.embed([shown[-1][i] for i in chosen], [points[i] for i in chosen])
                        figures["identity"] = np.full(len(some), np.nan)
                        figures["identity"][chosen] = np.linalg.norm(embedded - known, axis=1)
                if scores is None:
                    scores = -figures["lpips masked"] if "lpips masked" in figures else figures["psnr masked"]
                for index, row in enumerate(some.tolist()):
                    person = as_turned(people[row], chunk.yaws, index)
                    record: Record = {
                        "photo": person.photo,
                        **person.groups,
                        "yaw degrees": person.yaw,
                        "ita degrees": person.ita,
                        "type": made.types[index],
                        "masked share": float(region[index].mean()),
                        "method": method.name,
                        "mask": source,
                    }
                    values = {metric: float(numbers[index]) for metric, numbers in figures.items()}
                    records.append(record | {metric: value for metric, value in values.items() if value == value})
        assert scores is not None
        first = records[len(records) - 2 * len(methods) * len(some) :]  # of the first method
        for index in range(len(some)):
            caption = (
                f"{first[index]['type']}, turned {first[index]['yaw']}, {methods[0].name} {first[index]['psnr masked']:.1f} dB"
            )
            gallery.add(float(scores[index]), lambda i=index, c=caption, s=shown: Shown([p[i] for p in s], c))  # type: ignore[misc]
        progress(len(some))
    return Fills(records, _distances(features, methods), gallery)


class _Truth:
    """The true faces of a chunk, with what results are compared with."""

    def __init__(self, truth: Tensor, region: Tensor, judges: Judges) -> None:
        self.truth, self.region, self.judges = truth, region, judges
        self.activations = None if judges.perceptual is None else judges.perceptual(truth)
        self.features = self._features(truth, self.activations)

    def embed(self, chosen: list[int], points: Sequence[FloatArray]) -> FloatArray:
        """Embeddings (N, 128) of some of the faces."""
        if not chosen or self.judges.identity is None:
            return np.zeros((0, 128))
        pictures = _bytes(self.truth)
        return self.judges.identity.embed([pictures[i] for i in chosen], [points[i] for i in chosen])

    def compare(self, result: Tensor) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Figures (B,) of results (B, 3, S, S), and their features for the Fréchet distances."""
        alike = metrics.ssim_map(result, self.truth)
        apart = (result - self.truth).abs_()
        squared = apart.square()
        figures = {}
        for suffix, weight in (("", None), (" masked", self.region)):
            figures["ssim" + suffix] = metrics.mean_over(alike, None if weight is None else metrics.within_window(weight))
            figures["psnr" + suffix] = metrics.decibels(metrics.mean_over(squared, weight))
            figures["l1" + suffix] = metrics.mean_over(apart, weight)
        activations = None
        if self.judges.perceptual is not None and self.activations is not None:
            activations = self.judges.perceptual(result)
            figures["lpips"] = self.judges.perceptual.distance(activations, self.activations)
            figures["lpips masked"] = self.judges.perceptual.distance(activations, self.activations, self.region)
        return {name: value.cpu().double().numpy() for name, value in figures.items()}, self._features(result, activations)

    def _features(self, images: Tensor, activations: list[Tensor] | None) -> dict[str, FloatArray]:
        features = {}
        if activations is not None:
            features["frechet alexnet"] = summary(activations).cpu().numpy()
        if self.judges.inception is not None:
            features["fid"] = self.judges.inception(images).cpu().numpy()
        return features


def _distances(features: Mapping[str, list[FloatArray]], methods: Sequence[Method]) -> dict[str, dict[str, float]]:
    distances: dict[str, dict[str, float]] = defaultdict(dict)
    for name in ("frechet alexnet", "fid"):
        if f"truth {name}" not in features:
            continue
        truth = np.concatenate(features[f"truth {name}"])
        if len(truth) < 2:
            continue
        for method in methods:
            for source in (SEGMENTED, TRUE):
                key = f"{method.name}, {source}"
                distances[key][name] = frechet(np.concatenate(features[f"{key} {name}"]), truth)
    return dict(distances)


def _bytes(images: Tensor) -> ByteArray:
    """(B, S, S, 3) uint8 of images (B, 3, S, S)."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
