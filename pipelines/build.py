"""From a config to the parts of a run, once: the device is chosen here and nowhere else."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidunmask.errors import DeviceError
from vidunmask.pipelines.config import Config

if TYPE_CHECKING:
    import torch

    from vidunmask.detectors import Detector
    from vidunmask.stages.unmask import Unmasker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What is expensive to make and can serve any number of runs, one at a time: OpenCV's detector fails in two at once."""

    detector: Detector
    unmasker: Unmasker
    device: str
    precision: str
    weights: dict[str, str]  # file name to SHA-256; the whole path where both files have one name


def build(config: Config) -> Parts:
    """Loads the detector and both networks onto the device. Raises DeviceError, UsageError or WeightsError."""
    from vidunmask import detectors
    from vidunmask.networks import weights
    from vidunmask.networks.layers import fold_norms
    from vidunmask.networks.precision import check_compiler, choose_dtype
    from vidunmask.stages.unmask import Unmasker

    device = choose_device(config.device)
    dtype = choose_dtype(config.precision, device)
    precision = str(dtype).removeprefix("torch.")
    log.info("running on %s in %s", device, precision)
    if config.compile:
        check_compiler(device)
    detector = detectors.create(config.detector, device=device.type, workers=detectors_at_once())
    # The networks stay in float32; autocast decides per operation what runs in less.
    segmenter = fold_norms(weights.load(config.segmenter, kind="segmenter", device=device))
    inpainter = fold_norms(weights.load(config.inpainter, kind="inpainter", device=device))
    unmasker = Unmasker(segmenter, inpainter, device=device, dtype=dtype, batch=config.batch, compile=config.compile)
    cards = [weights.read_card(name) for name in (config.segmenter, config.inpainter)]
    alike = len({card.path.name for card in cards}) < len(cards)
    files = {str(card.path) if alike else card.path.name: card.sha256 for card in cards}
    return Parts(detector, unmasker, str(device), precision, files)


def detectors_at_once() -> int:
    """How many detectors work side by side: one for every three cores that this process may use, at most six.

    A call of theirs takes 20 ms of a core and hardly gains by more; the other stages have a use for the rest. OpenCV's number
    of threads is what this process may use, also where several share a machine.
    """
    import cv2

    return max(1, min(6, cv2.getNumThreads() // 3))


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, else Apple's, else the CPU. Raises DeviceError where it is not there."""
    import torch

    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if not present[name]:
        there = ", ".join(kind for kind, here in present.items() if here)
        raise DeviceError(f"--device {name}: this machine or this build of torch has none; available: {there}")
    return torch.device(name)
