"""Which encoder writes a video, in which pixel format and with which options; tried before the run starts.

Quality and speed have one scale for the user, x264's (``crf`` 0..51 or the encoder's own range, ``preset`` by name or the
encoder's own) and are translated to what each encoder calls them (ffmpeg-codecs documentation).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import cv2
from av.error import FFmpegError

from vidunmask.errors import DeviceError, UsageError
from vidunmask.video.formats import best_format, layout_of
from vidunmask.video.info import VideoInfo

FRAME_DURATION_FLAG = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the last frame of a variable rate keeps its length
_INTERLACED_FLAGS = (1 << 18) | (1 << 29)  # AV_CODEC_FLAG_INTERLACED_DCT, _ME

_ALIASES = {
    "h264": "libx264",
    "avc": "libx264",
    "x264": "libx264",
    "hevc": "libx265",
    "h265": "libx265",
    "x265": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "vp8": "libvpx",
    "prores": "prores_ks",
}
_FAMILY = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
# Tried in this order where the family's own encoder cannot hold the picture (odd sizes, 12 bits, RGB) or the container that
# codec.
_FALLBACKS = ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1", "libvpx")
_HARDWARE = ("_nvenc", "_qsv", "_vaapi", "_videotoolbox", "_amf", "_v4l2m2m", "_mf", "_vulkan", "_mediacodec", "_rkmpp")
_REMEDIES = {
    "_nvenc": "an NVIDIA GPU with an encoder and its driver",
    "_qsv": "an Intel GPU and its media driver",
    "_vaapi": "a VA-API driver and an FFmpeg built with it",
    "_videotoolbox": "macOS",
    "_amf": "an AMD GPU and its driver",
}

_WITHOUT_MBTREE = ("ultrafast", "superfast")  # presets of x264
_CV_AVX512_SKX = 256  # cv::CpuFeatures, which Python has no names for

_NAMES = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_SVT_SPEED = dict(zip(_NAMES, ("12", "11", "10", "9", "8", "6", "4", "3", "2"), strict=True))
_VPX_SPEED = dict(zip(_NAMES, ("5", "5", "5", "4", "4", "3", "2", "1", "0"), strict=True))
_NVENC_SPEED = dict(zip(_NAMES, ("p1", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p7"), strict=True))
_AMF_SPEED = dict(zip(_NAMES, ("speed",) * 4 + ("balanced",) * 2 + ("quality",) * 3, strict=True))


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How an encoder is told quality and speed."""

    crf: int | None = None  # the default, chosen to look like the source at arm's length; None: the encoder has no such knob
    most: int = 51
    crf_key: str = "crf"
    preset: str | None = None
    preset_key: str = "preset"
    presets: dict[str, str] = field(default_factory=dict)  # names to the encoder's own; others are passed as they are
    fixed: dict[str, str] = field(default_factory=dict)


# Defaults measured on 1080p clips at two cores: x264 veryfast 16 gives 48.8 dB luma at twice the speed of fast 17 (50.0 dB) and
# a smaller file; x265 superfast 18 runs at one and a half times the speed of veryfast.
_DIALECTS = {
    "libx264": _Dialect(16, preset="veryfast"),
    "libx264rgb": _Dialect(16, preset="veryfast"),
    "libx265": _Dialect(18, preset="superfast", fixed={"x265-params": "log-level=error"}),
    "libsvtav1": _Dialect(20, most=63, preset="8", presets=_SVT_SPEED),
    "libaom-av1": _Dialect(
        20, most=63, preset="6", preset_key="cpu-used", presets=_SVT_SPEED, fixed={"b": "0", "row-mt": "1"}
    ),
    "libvpx-vp9": _Dialect(
        20, most=63, preset="4", preset_key="cpu-used", presets=_VPX_SPEED,
        fixed={"b": "0", "row-mt": "1", "deadline": "good"},
    ),
    "libvpx": _Dialect(
        8, most=63, preset="4", preset_key="cpu-used", presets=_VPX_SPEED, fixed={"b": "20M", "deadline": "good"}
    ),
    "_nvenc": _Dialect(
        19, crf_key="cq", preset="p5", presets=_NVENC_SPEED, fixed={"rc": "vbr", "b": "0", "bf": "3", "b_ref_mode": "0"}
    ),
    "_qsv": _Dialect(19, crf_key="global_quality", preset="medium"),
    "_vaapi": _Dialect(19, crf_key="qp", fixed={"rc_mode": "CQP"}),
    "_amf": _Dialect(19, crf_key="qp_i", preset="quality", preset_key="quality", presets=_AMF_SPEED, fixed={"rc": "cqp"}),
    "_videotoolbox": _Dialect(19, crf_key="q"),
    "ffv1": _Dialect(fixed={"level": "3", "slicecrc": "1"}),
    "mpeg4": _Dialect(2, most=31, crf_key="q"),
    "mpeg2video": _Dialect(2, most=31, crf_key="q"),
    "mjpeg": _Dialect(2, most=31, crf_key="q"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """What `configure` needs to set up an encoder."""

    name: str
    pix_fmt: str
    options: dict[str, str]
    quality: int | None = None  # for encoders with a fixed quantiser, in QP
    flags: int = FRAME_DURATION_FLAG
    warnings: tuple[str, ...] = ()

    @property
    def is_hardware(self) -> bool:
        """Whether the encoder runs on a device that a machine may lack."""
        return is_hardware(self.name)


def is_hardware(name: str) -> bool:
    """Whether FFmpeg's encoder ``name`` needs a device."""
    return name.endswith(_HARDWARE)


def plan_encoder(
    like: VideoInfo,
    supported: set[str],
    container: str,
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
) -> EncoderPlan:
    """Chooses and tries an encoder for frames like ``like``; ``supported`` are the codecs that ``container`` can hold.

    Without ``codec`` the input's family is kept, and another encoder steps in, with a warning, where that one cannot hold the
    picture as it is. With ``codec`` nothing else is tried. Raises `UsageError` for options that do not fit and
    `DeviceError` for a hardware encoder that does not start here.
    """
    if codec is not None:
        name = _ALIASES.get(codec.lower(), codec)
        if name not in av.codecs_available or not _is_encoder(name):
            if is_hardware(name):
                raise DeviceError(f"--codec {codec}: this FFmpeg was built without it; {_remedy(name)}")
            raise UsageError(f"--codec {codec}: no such encoder; try h264, hevc, av1, vp9, ffv1 or h264_nvenc")
        if not _holds(name, supported):
            raise UsageError(f"--codec {codec}: a .{container} file cannot hold it; choose another codec or output extension")
        plan = _plan(name, like, container, crf, preset, pix_fmt)
        reason = try_encoder(plan, like)
        if reason is None:
            return plan
        if is_hardware(name):
            raise DeviceError(f"--codec {codec} does not start here ({reason}); {_remedy(name)}, or use --codec h264")
        picture = _picture(like, plan.pix_fmt)
        raise UsageError(f"--codec {codec} cannot encode {picture} ({reason}); try another --codec or --pix-fmt")

    family = _FAMILY.get(like.codec, "libx264")
    names = dict.fromkeys((family, *_FALLBACKS))
    candidates = [name for name in names if name in av.codecs_available and _holds(name, supported)]
    lossy: list[EncoderPlan] = []
    reasons: list[str] = []
    for name in candidates:
        plan = _plan(name, like, container, crf, preset, pix_fmt, strict=False)
        if plan.warnings:  # holds the picture only converted
            lossy.append(plan)
        elif (reason := try_encoder(plan, like)) is None:
            return _noting(plan, family, like)
        else:
            reasons.append(f"{name}: {reason}")
    for plan in lossy:
        if (reason := try_encoder(plan, like)) is None:
            return _noting(plan, family, like)
        reasons.append(f"{plan.name}: {reason}")
    raise UsageError(
        f"no encoder for {_picture(like, pix_fmt or like.pix_fmt)} in a .{container} file "
        f"({'; '.join(reasons) or 'none fits'}); choose --codec and --pix-fmt, or another output extension such as .mkv"
    )


def configure(context: Any, plan: EncoderPlan, like: VideoInfo, time_base: Fraction) -> None:
    """Sets the fields of an encoder's context that is not open yet."""
    height, width = like.size
    context.width, context.height, context.pix_fmt = width, height, plan.pix_fmt
    context.time_base = time_base
    context.framerate = like.average_rate or Fraction(25)
    if like.sample_aspect is not None:
        context.sample_aspect_ratio = like.sample_aspect
    colour = like.colour
    context.color_range, context.color_primaries = colour.range, colour.primaries
    context.color_trc, context.colorspace = colour.transfer, colour.space
    if like.interlaced:
        context.field_order = like.field_order
    context.flags |= plan.flags
    if plan.quality is not None:
        context.global_quality = plan.quality
    context.options = dict(plan.options)


def try_encoder(plan: EncoderPlan, like: VideoInfo) -> str | None:
    """Encodes one black frame of the real size; None where that worked, else the reason in a few words."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes thirty lines to stderr otherwise, past FFmpeg's own log
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as logs:
        try:
            context: Any = av.CodecContext.create(plan.name, "w")
            configure(context, plan, like, like.time_base)
            frame = av.VideoFrame(context.width, context.height, plan.pix_fmt)
            frame.pts = 0
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            packets = [*context.encode(frame), *context.encode(None)]
        except (FFmpegError, OSError, ValueError, OverflowError) as error:
            said = " ".join(message.strip() for _, _, message in logs[:1])
            return said or getattr(error, "strerror", None) or str(error)
        finally:
            av.logging.set_level(level)
    return None if packets else "it gave out nothing"


def _noting(plan: EncoderPlan, family: str, like: VideoInfo) -> EncoderPlan:
    """The plan with a word on what differs from the input, unless a loss said it already."""
    notes = []
    if plan.name != family:
        notes.append(f"{family} cannot hold {_picture(like, like.pix_fmt)} in this container; {plan.name} is used")
    before, after = layout_of(like.pix_fmt), layout_of(plan.pix_fmt)
    if not plan.warnings and before and after and (before.depth, before.log2_chroma) != (after.depth, after.log2_chroma):
        notes.append(f"{plan.name} does not know {like.pix_fmt}: {plan.pix_fmt} is written, which holds all of it")
    return replace(plan, warnings=(*plan.warnings, *notes))


def _plan(
    name: str,
    like: VideoInfo,
    container: str,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
    *,
    strict: bool = True,
) -> EncoderPlan:
    """The plan for one encoder; an option that it does not have raises only where it was asked for by name (``strict``)."""
    warnings: tuple[str, ...] = ()
    formats = [f.name for f in av.Codec(name, "w").video_formats or ()]
    if pix_fmt is not None:
        if not _is_format(pix_fmt) or (formats and pix_fmt not in formats):
            raise UsageError(f"--pix-fmt {pix_fmt}: {name} takes {', '.join(formats)}")
        chosen = pix_fmt
    else:
        chosen, lost = best_format(like.pix_fmt, formats)
        if lost:
            warnings = (f"{name} cannot hold {like.pix_fmt}: {chosen} is written, which loses {lost}",)
    dialect = _dialect(name)
    options, quality = dict(dialect.fixed), None
    value = dialect.crf if crf is None else crf
    if value is not None and dialect.crf is None:
        if strict:
            raise UsageError(f"--crf {value:g}: {name} has no such option, it is lossless or has a fixed quality")
        value = None
    if value is not None:
        if not (-12 if name == "libx264" else 0) <= value <= dialect.most:
            raise UsageError(f"--crf {value:g}: {name} takes 0 to {dialect.most}, lower is better")
        if dialect.crf_key == "q":
            # A percentage in VideoToolbox, where more is better; QP in the MPEG family.
            quality = round(100 - value * 1.5) if name.endswith("_videotoolbox") else max(1, round(value))
        else:
            options[dialect.crf_key] = f"{value:g}"
            if dialect.crf_key == "qp_i":
                options["qp_p"] = options["qp_b"] = f"{value:g}"
    if preset is not None and dialect.preset is None and strict:
        raise UsageError(f"--preset {preset}: {name} has no presets")
    if dialect.preset is not None:
        speed = preset or dialect.preset
        options[dialect.preset_key] = dialect.presets.get(speed, speed)
    flags = FRAME_DURATION_FLAG | (2 if quality is not None else 0)  # AV_CODEC_FLAG_QSCALE
    if like.interlaced and name in ("libx264", "mpeg2video", "mpeg4"):
        flags |= _INTERLACED_FLAGS
    if container == "avi":
        options["bf"] = "0"  # AVI has no pts, only an order
    if name in ("libx264", "libx264rgb") and options["preset"] not in _WITHOUT_MBTREE and _has_avx512():
        options["x264-params"] = "asm=AVX2"
    _add_hdr(name, options, like)
    return EncoderPlan(name, chosen, options, quality, flags, warnings)


def _dialect(name: str) -> _Dialect:
    if name in _DIALECTS:
        return _DIALECTS[name]
    for suffix in _HARDWARE:
        if name.endswith(suffix):
            return _DIALECTS.get(suffix, _Dialect())
    return _Dialect()


def _has_avx512() -> bool:
    """Whether x264 would use AVX-512, with which its macroblock tree is not the same from run to run.

    Of one clip at 480 x 270, encoded eight times with preset medium, eight files came out, and at 854 x 480 two; with AVX2
    and everything else as it was, or without the tree, always one. It costs x264 6 % of its time at 1080p (build 165).
    """
    return cv2.checkHardwareSupport(_CV_AVX512_SKX)


def _add_hdr(name: str, options: dict[str, str], like: VideoInfo) -> None:
    """HDR10 metadata where the encoder takes it as text; PyAV has no way to attach it as side data."""
    display, light = like.hdr.mastering_display, like.hdr.content_light
    params: list[str] = []
    if name == "libx265":
        params += [f"master-display={display}"] if display else []
        params += [f"max-cll={light}"] if light else []
    elif name == "libx264":
        params += [f"mastering-display={display}"] if display else []
        params += [f"cll={light}"] if light else []
    elif name == "libsvtav1":
        params += [f"mastering-display={_as_decimals(display)}"] if display else []
        params += [f"content-light={light}"] if light else []
    if params:
        key = {"libx265": "x265-params", "libx264": "x264-params", "libsvtav1": "svtav1-params"}[name]
        options[key] = ":".join([*([options[key]] if key in options else []), *params])


def _as_decimals(display: str) -> str:
    """x265's integers as SVT-AV1's decimals: chromaticity 0..1, luminance in cd/m2."""
    out = []
    for part in display.rstrip(")").split(")"):
        label, numbers = part.split("(")
        unit = 10000 if label == "L" else 50000
        out.append(f"{label}({','.join(f'{int(n) / unit:g}' for n in numbers.split(','))})")
    return "".join(out)


def _is_format(name: str) -> bool:
    try:
        av.VideoFormat(name)
    except ValueError:
        return False
    return True


def _is_encoder(name: str) -> bool:
    try:
        return av.Codec(name, "w").is_encoder
    except (ValueError, FFmpegError):
        return False


def _holds(name: str, supported: set[str]) -> bool:
    return name in supported or av.Codec(name, "w").canonical_name in supported


def _remedy(name: str) -> str:
    needs = next((text for suffix, text in _REMEDIES.items() if name.endswith(suffix)), "its device and driver")
    return f"it needs {needs}"


def _picture(like: VideoInfo, pix_fmt: str) -> str:
    return f"{like.size[1]}x{like.size[0]} {pix_fmt}"
