"""How each encoder is told quality and speed (ffmpeg-codecs documentation).

Both have one scale for the user, x264's (``crf`` 0..51 or the encoder's own range, ``preset`` by name or the encoder's own).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vidunmask.errors import UsageError

_HARDWARE = ("_nvenc", "_qsv", "_vaapi", "_videotoolbox", "_amf", "_v4l2m2m", "_mf", "_vulkan", "_mediacodec", "_rkmpp")

_LAMBDA = 118  # FF_QP2LAMBDA
# FFmpeg's own encoders of one make (mpegvideo_enc.c), which write 200 kbit/s unless told otherwise.
_MPEG = (
    "flv", "h261", "h263", "h263p", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "rv10", "rv20",
    "wmv1", "wmv2",
)  # fmt: skip
_NAMES = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")


def _own(*words: str) -> dict[str, str]:
    """The names of x264 in an encoder's words, from the fastest to the slowest."""
    return dict(zip(_NAMES, words, strict=True))


_X264 = _own(*_NAMES) | dict(zip("0123456789", _NAMES, strict=True))  # which numbers them, too
_SVT = _own("12", "11", "10", "9", "8", "6", "4", "3", "2", "1")
_AOM = _own("8", "8", "8", "8", "8", "6", "4", "3", "2", "1")
_VPX = _own("5", "5", "5", "4", "4", "3", "2", "1", "0", "0")
_NVENC = _own("p1", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p7", "p7")
_QSV = _own("veryfast", "veryfast", *_NAMES[2:9], "veryslow")
_AMF = _own(*("speed",) * 4, *("balanced",) * 2, *("quality",) * 4)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an encoder is told quality and speed."""

    crf: int | None = None  # the default, chosen to look like the source at arm's length; None: the encoder has no such knob
    least: int = 0  # x264 goes below zero beyond 8 bits
    most: int = 51
    crf_keys: tuple[str, ...] = ("crf",)
    is_percentage: bool = False  # of which more is better
    preset: str | None = None
    preset_key: str = "preset"
    presets: dict[str, str] = field(default_factory=dict)  # names to the encoder's own
    own: tuple[str, ...] = ()  # further names, passed as they are
    numbers: tuple[int, int] | None = None  # the first and the last of those that it takes besides
    fixed: dict[str, str] = field(default_factory=dict)

    def quality(self, crf: float) -> dict[str, str]:
        """The options for a quality between ``least`` and ``most``."""
        if self.is_percentage:
            return {"flags": "+qscale", "global_quality": str(_LAMBDA * round(100 - crf * 1.5))}
        return dict.fromkeys(self.crf_keys, f"{crf:g}")

    def speed(self, preset: str, encoder: str) -> str:
        """The word of ``encoder`` for a preset. Raises `UsageError` with those that there are."""
        if self.preset is None:
            raise UsageError(f"--preset {preset}: {encoder} has no presets")
        if preset in self.presets or preset in self.own:
            return self.presets.get(preset, preset)
        if self.numbers and re.fullmatch(r"-?\d{1,3}", preset) and self.numbers[0] <= int(preset) <= self.numbers[1]:
            return preset
        words = [name for name in (*self.presets, *self.own) if not name.isdigit()]
        numbers = f" and {self.numbers[0]} to {self.numbers[1]}" if self.numbers else ""
        raise UsageError(f"--preset {preset}: {encoder} takes {', '.join(words)}{numbers}")


# Defaults measured on 1080p clips at two cores: x264 veryfast 16 gives 48.8 dB luma at twice the speed of fast 17 (50.0 dB) and
# a smaller file; x265 superfast 18 runs at one and a half times the speed of veryfast.
_DIALECTS = {
    "libx264": Dialect(16, least=-12, preset="veryfast", presets=_X264),
    "libx264rgb": Dialect(16, preset="veryfast", presets=_X264),
    # What goes wrong is said by FFmpeg too, x265 itself would write on stderr. Closed captions are kept by x264 unasked.
    "libx265": Dialect(18, preset="superfast", presets=_X264, fixed={"x265-params": "log-level=none", "a53cc": "1"}),
    "libsvtav1": Dialect(20, most=63, preset="8", presets=_SVT, numbers=(0, 13)),
    "libaom-av1": Dialect(
        20, most=63, preset="6", preset_key="cpu-used", presets=_AOM, numbers=(0, 8), fixed={"b": "0", "row-mt": "1"}
    ),
    "libvpx-vp9": Dialect(
        20, most=63, preset="4", preset_key="cpu-used", presets=_VPX, numbers=(-8, 8),
        fixed={"b": "0", "row-mt": "1", "deadline": "good"},
    ),
    "libvpx": Dialect(
        8, most=63, preset="4", preset_key="cpu-used", presets=_VPX, numbers=(-16, 16), fixed={"b": "20M", "deadline": "good"}
    ),
    "_nvenc": Dialect(
        19, crf_keys=("cq",), preset="p5", presets=_NVENC, own=tuple(f"p{n}" for n in range(1, 8)),
        fixed={"rc": "vbr", "b": "0", "bf": "3", "b_ref_mode": "0"},
    ),
    "_qsv": Dialect(19, crf_keys=("global_quality",), preset="medium", presets=_QSV),
    "_vaapi": Dialect(19, crf_keys=("qp",), fixed={"rc_mode": "CQP"}),
    "_amf": Dialect(
        19, crf_keys=("qp_i", "qp_p", "qp_b"), preset="quality", preset_key="quality", presets=_AMF,
        own=("speed", "balanced", "quality"), fixed={"rc": "cqp"},
    ),
    "_videotoolbox": Dialect(19, is_percentage=True),
    "ffv1": Dialect(fixed={"level": "3", "slicecrc": "1"}),
    # FFmpeg's own way is a number on each frame, which PyAV has not.
    **dict.fromkeys(_MPEG, Dialect(2, least=1, most=31, crf_keys=("qmin", "qmax"))),
}  # fmt: skip


def dialect_of(name: str) -> Dialect:
    """The dialect of FFmpeg's encoder ``name``; one that nothing is known of has no options."""
    if name in _DIALECTS:
        return _DIALECTS[name]
    suffix = next((suffix for suffix in _HARDWARE if name.endswith(suffix)), "")
    return _DIALECTS.get(suffix, Dialect())


def is_hardware(name: str) -> bool:
    """Whether FFmpeg's encoder ``name`` needs a device."""
    return name.endswith(_HARDWARE)
