"""What a run can be told, in one frozen object that is checked when it is made. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidunmask.errors import UsageError
from vidunmask.networks.precision import PRECISIONS

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every option of a run; the command line's flags have the same names with dashes.

    Raises UsageError where a value cannot be used; the message names the flag, the value and what would be valid. Whether this
    machine has the device, the detector and the encoder is found out in `pipelines.build` and by the writer, before any work.
    """

    overwrite: bool = False  # may an existing target be replaced
    detector: str = "yunet"  # a module of vidunmask.detectors
    detect_every: int = 3  # frames; motion is estimated in between
    device: str = "auto"
    precision: str = "auto"
    batch: int = 16  # faces in one call of a network
    segmenter: str | Path = "compact-segmenter"  # a shipped name or a path
    inpainter: str | Path = "compact-inpainter"
    compile: bool = False  # torch.compile: a slow start, then faster
    temporal: bool = True  # False decides, fills and blends every frame alone; tracks and crops stay steady
    codec: str | None = None  # an encoder's name; None keeps the family of the input
    crf: int | None = None  # constant quality; None is visually lossless for the codec
    preset: str | None = None  # the encoder's own names
    pix_fmt: str | None = None  # None keeps the input's
    convert_streams: bool = False  # convert what the target container cannot hold instead of leaving it out

    def __post_init__(self) -> None:
        whole_number("--detect-every", self.detect_every, 1, 60)
        whole_number("--batch", self.batch, 1, 1024)
        if self.crf is not None:
            whole_number("--crf", self.crf, 0, 63)
        _choice("--device", self.device, DEVICES)
        _choice("--precision", self.precision, PRECISIONS)
        names = {"--detector": self.detector, "--segmenter": self.segmenter, "--inpainter": self.inpainter}
        wanted = {"--codec": self.codec, "--preset": self.preset, "--pix-fmt": self.pix_fmt}
        for flag, value in (*names.items(), *((flag, value) for flag, value in wanted.items() if value is not None)):
            if not isinstance(value, str | Path):
                raise UsageError(f"{flag} {value!r}: must be a name, that is a string")
            if not str(value).strip():
                raise UsageError(f"{flag} {value!r}: must not be empty")
        for name in ("overwrite", "compile", "temporal", "convert_streams"):
            if not isinstance(value := getattr(self, name), bool):
                raise UsageError(f"{name} {value!r}: must be True or False")


def whole_number(flag: str, value: int, low: int, high: int) -> None:
    """Raises UsageError, with the ``flag``, where a value is no whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{flag} {value!r}: must be a whole number from {low} to {high}")
    if not low <= value <= high:
        raise UsageError(f"{flag} {value}: must lie from {low} to {high}")


def _choice(flag: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UsageError(f"{flag} {value!r}: must be one of {', '.join(valid)}")
