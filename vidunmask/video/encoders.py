"""Which encoder writes a video, in which pixel format and with which options; tried before the run starts."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError

from vidunmask.errors import DeviceError, UsageError
from vidunmask.video import animations
from vidunmask.video.colour import RANGE_FULL, RANGE_LIMITED, SPACE_709, SPACE_RGB
from vidunmask.video.dialects import dialect_of, is_hardware
from vidunmask.video.formats import best_format, layout_of, nearest_supported
from vidunmask.video.index import SpanError, scan
from vidunmask.video.info import BOTTOM_FIRST, Colour, VideoInfo

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
FAMILY = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9", "vp8": "libvpx"}
# Tried in this order where the family's own encoder cannot hold the picture (odd sizes, 12 bits, RGB) or the container that
# codec.
_FALLBACKS = ("libx264", "libx264rgb", "libx265", "libvpx-vp9", "libsvtav1", "libvpx")
_REMEDIES = {
    "_nvenc": "an NVIDIA GPU with an encoder and its driver",
    "_qsv": "an Intel GPU and its media driver",
    "_vaapi": "a VA-API driver and an FFmpeg built with it",
    "_videotoolbox": "macOS",
    "_amf": "an AMD GPU and its driver",
}

_APPLE = ("mp4", "mov")  # whose HEVC Apple's players show as hvc1, which has no parameter sets between frames, and not as hev1
_RATED = ("mpeg1video", "mpeg2video")  # with the times of frames in units of their distance
_MPEG4_TICKS = 65535  # a second at most (ISO/IEC 14496-2, vop_time_increment_resolution)
_ONLY_ORDERED = ("avi", "asf", "wmv", "mxf")  # without times of presentation, or FFmpeg does not find them again
_WITHOUT_MBTREE = ("ultrafast", "superfast")  # presets of x264
_THIN, _BLOCK = 24, 64  # pixels: SVT-AV1 4.1 never gives out a picture so narrow that is longer than one block
_CV_AVX512_SKX = 256  # cv::CpuFeatures, which Python has no names for


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """What `configure` needs to set up an encoder."""

    name: str
    pix_fmt: str
    options: dict[str, str]
    flags: int = FRAME_DURATION_FLAG
    warnings: tuple[str, ...] = ()
    tick: Fraction | None = None  # seconds; for encoders that count frames, which come at this distance
    tag: str | None = None  # four letters by which the container calls the codec; None for the muxer's own

    @property
    def is_hardware(self) -> bool:
        """Whether the encoder runs on a device that a machine may lack."""
        return is_hardware(self.name)


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
    picture as it is. What is asked for by name never changes the choice. Raises `UsageError` for options that do not fit and
    `DeviceError` for a hardware encoder that does not start here.
    """
    if container == "avi" and like.path and like.average_rate:
        with contextlib.suppress(SpanError):
            if _collide(like, like.average_rate):
                raise UsageError("an .avi file wants frames at a fixed rate, these come unevenly; name the output .mkv or .mp4")
    if codec is not None:
        return _plan_named(codec, like, supported, container, crf, preset, pix_fmt)
    chosen = _choose(like, supported, container, pix_fmt)
    if crf is None and preset is None:
        return chosen
    plan = replace(_plan(chosen.name, like, container, crf, preset, pix_fmt), warnings=chosen.warnings)
    if (reason := try_encoder(plan, like)) is not None:
        asked = [f"--crf {crf:g}" if crf is not None else "", f"--preset {preset}" if preset is not None else ""]
        raise UsageError(f"{' '.join(filter(None, asked))}: {plan.name} does not start so ({reason})")
    return plan


def _plan_named(
    codec: str,
    like: VideoInfo,
    supported: set[str],
    container: str,
    crf: float | None,
    preset: str | None,
    pix_fmt: str | None,
) -> EncoderPlan:
    """The plan for the encoder that was asked for; nothing else is tried."""
    name = _ALIASES.get(codec.lower(), codec)
    others = "try h264, hevc, av1, vp9, ffv1 or h264_nvenc"
    if name not in av.codecs_available or not _is_encoder(name):
        if is_hardware(name):
            raise DeviceError(f"--codec {codec}: this FFmpeg was built without it; {_remedy(name)}")
        raise UsageError(f"--codec {codec}: no such encoder; {others}")
    if (kind := av.Codec(name, "w").type) != "video":
        raise UsageError(f"--codec {codec}: is for {kind}, not for video; {others}")
    if not _holds(name, supported):
        raise UsageError(f"--codec {codec}: a .{container} file cannot hold it; choose another codec or output extension")
    plan = _plan(name, like, container, crf, preset, pix_fmt)
    reason = try_encoder(plan, like)
    if reason is None:
        return plan
    if is_hardware(name):
        raise DeviceError(f"--codec {codec} does not start here ({reason}); {_remedy(name)}, or use --codec h264")
    raise UsageError(
        f"--codec {codec} cannot encode {_picture(like, plan.pix_fmt)} ({reason}); try another --codec or --pix-fmt"
    )


def _choose(like: VideoInfo, supported: set[str], container: str, pix_fmt: str | None) -> EncoderPlan:
    """The plan for the encoder of the input's family, or for the first that holds the picture as it is, or with a loss."""
    family = FAMILY.get(like.codec, animations.ENCODERS.get(container, "libx264"))
    names = dict.fromkeys((family, *_FALLBACKS, animations.ENCODERS.get(container, family)))
    candidates = [name for name in names if name in av.codecs_available and _holds(name, supported)]
    own = _ALIASES.get(like.codec, like.codec)
    if not candidates and _is_encoder(own) and _holds(own, supported):  # as on a DVD, which holds nothing newer
        candidates = [own]
    lossy: list[EncoderPlan] = []
    reasons: list[str] = []
    for name in candidates if pix_fmt is None else candidates[:1]:
        try:
            plan = _plan(name, like, container, None, None, pix_fmt)
        except UsageError as error:
            if pix_fmt is not None:
                raise
            reasons.append(str(error).removeprefix("--codec "))
            continue
        if plan.warnings:  # holds the picture only converted
            lossy.append(plan)
        elif (reason := try_encoder(plan, like)) is None:
            return _noting(plan, family, like, supported)
        else:
            reasons.append(f"{name}: {reason}")
    for plan in lossy:
        if (reason := try_encoder(plan, like)) is None:
            return _noting(plan, family, like, supported)
        reasons.append(f"{plan.name}: {reason}")
    raise UsageError(
        f"no encoder for {_picture(like, pix_fmt or like.pix_fmt)} in a .{container} file "
        f"({'; '.join(reasons) or 'none fits'}); choose --codec and --pix-fmt, or another output extension such as .mkv"
    )


def configure(context: Any, plan: EncoderPlan, like: VideoInfo, time_base: Fraction) -> None:
    """Sets the fields of an encoder's context that is not open yet."""
    os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 writes on stderr otherwise, past FFmpeg's own log
    height, width = like.size
    context.width, context.height, context.pix_fmt = width, height, plan.pix_fmt
    context.time_base = plan.tick or time_base
    context.framerate = 1 / plan.tick if plan.tick else like.average_rate or Fraction(25)
    if like.sample_aspect is not None:
        context.sample_aspect_ratio = like.sample_aspect
    colour = colour_of(like, plan.pix_fmt)
    context.color_range, context.color_primaries = colour.range, colour.primaries
    context.color_trc, context.colorspace = colour.transfer, colour.space
    if like.interlaced:
        context.field_order = like.field_order
    context.flags |= plan.flags
    if plan.tag is not None:
        context.codec_tag = plan.tag
    context.options = dict(plan.options)


def colour_of(like: VideoInfo, pix_fmt: str) -> Colour:
    """The colour tags of a video like ``like`` in another pixel format: those of the source, but of RGB as YUV BT.709's."""
    before, after = (layout_of(nearest_supported(name)) for name in (like.pix_fmt, pix_fmt))
    assert before is not None
    assert after is not None
    if before.is_rgb == after.is_rgb:
        return like.colour
    if after.is_rgb:
        return replace(like.colour, range=RANGE_FULL, space=SPACE_RGB)
    return replace(like.colour, range=RANGE_LIMITED, space=SPACE_709)


def try_encoder(plan: EncoderPlan, like: VideoInfo) -> str | None:
    """Encodes one black frame of the real size; None where that worked, else the reason in a few words."""
    if plan.name == "libsvtav1" and min(like.size) <= _THIN < _BLOCK < max(like.size):
        return "it hangs at so long and thin a picture"
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # or else the reason of the last try would be missing from this one
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
            av.logging.set_skip_repeated(skip)
    return None if packets else "it gave out nothing"


def _noting(plan: EncoderPlan, family: str, like: VideoInfo, supported: set[str]) -> EncoderPlan:
    """The plan with a word on what differs from the input, unless a loss said it already."""
    notes = []
    codec = av.Codec(plan.name, "w").canonical_name
    if codec != like.codec and like.codec not in FAMILY:
        own = _ALIASES.get(like.codec, like.codec)
        keeps = own in av.codecs_available and _is_encoder(own) and _holds(own, supported)
        notes.append(f"the video was {like.codec} and becomes {codec}{f'; --codec {own} keeps it' if keeps else ''}")
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
) -> EncoderPlan:
    """The plan for one encoder. Raises `UsageError` for an option that it does not have."""
    warnings: tuple[str, ...] = ()
    formats = [f.name for f in av.Codec(name, "w").video_formats or ()]
    if name.startswith("libvpx") and container not in ("webm", "mkv"):  # which alone have a place for transparency
        formats = [each for each in formats if not each.startswith(("yuva", "gbrap"))]
    if pix_fmt is not None:
        if not _is_format(pix_fmt) or (formats and pix_fmt not in formats):
            raise UsageError(f"--pix-fmt {pix_fmt}: {name} takes {', '.join(formats)}")
        chosen = pix_fmt
    else:
        chosen, lost = best_format(like.pix_fmt, formats)
        if name == "gif":
            chosen, lost = "pal8", "" if like.codec == "gif" else "all but 256 colours of a frame"
        if lost:
            warnings = (f"{name} cannot hold {like.pix_fmt}: {chosen} is written, which loses {lost}",)
    dialect = dialect_of(name)
    options = dict(dialect.fixed)
    value = dialect.crf if crf is None else crf
    if value is not None and dialect.crf is None:
        raise UsageError(f"--crf {value:g}: {name} has no such option, it is lossless or has a fixed quality")
    if value is not None:
        if not dialect.least <= value <= dialect.most:
            raise UsageError(f"--crf {value:g}: {name} takes {max(0, dialect.least)} to {dialect.most}, lower is better")
        options |= dialect.quality(value)
    if preset is not None or dialect.preset is not None:
        options[dialect.preset_key] = dialect.speed(preset or dialect.preset or "", name)
    flags = FRAME_DURATION_FLAG
    if like.interlaced and name in ("libx264", "mpeg2video", "mpeg4", "prores_ks"):
        flags |= _INTERLACED_FLAGS
    if container in _ONLY_ORDERED:
        options["bf"] = "0"
    if name == "libvpx" and chosen == "yuva420p":
        options["auto-alt-ref"] = "0"  # it refuses transparency otherwise
    if name in ("libx264", "libx264rgb") and options["preset"] not in _WITHOUT_MBTREE and _has_avx512():
        options["x264-params"] = "asm=AVX2"
    _add_params(name, options, like)
    tag = "hvc1" if container in _APPLE and av.Codec(name, "w").canonical_name == "hevc" else None
    return EncoderPlan(name, chosen, options, flags, warnings, _tick(name, like), tag)


def _tick(name: str, like: VideoInfo) -> Fraction | None:
    """The distance of frames for an encoder that has no times but a rate; None for one that takes them as they are.

    Raises `UsageError` where the frames come at no such rate.
    """
    if not (name in _RATED or (name == "mpeg4" and like.time_base.denominator > _MPEG4_TICKS)):
        return None
    average = like.average_rate or Fraction(25)
    rates = [Fraction(rate.numerator, rate.denominator) for rate in av.Codec(name, "w").frame_rates or ()]
    rate = min(rates, key=lambda known: abs(known - average)) if rates else average.limit_denominator(1001)
    if like.path:
        try:
            uneven = _collide(like, rate)
        except SpanError as error:
            raise UsageError(f"--codec {name}: wants frames at a fixed rate, which these may not have ({error})") from error
        if uneven:
            raise UsageError(f"--codec {name}: wants frames at a fixed rate, these come unevenly; choose another --codec")
    return 1 / rate


def _collide(like: VideoInfo, rate: Fraction) -> bool:
    """Whether two frames of a file would get one time in units of ``rate``. Raises `SpanError`."""
    frames = np.floor(scan(like, unrolled=True).pts * float(like.time_base * rate) + 0.5)  # as FFmpeg rounds
    return bool((np.diff(frames) < 1).any())


def _has_avx512() -> bool:
    """Whether x264 would use AVX-512, with which its macroblock tree is not the same from run to run.

    Of one clip at 480 x 270, encoded eight times with preset medium, eight files came out, and at 854 x 480 two; with AVX2
    and everything else as it was, or without the tree, always one. It costs x264 6 % of its time at 1080p (build 165).
    """
    return cv2.checkHardwareSupport(_CV_AVX512_SKX)


def _add_params(name: str, options: dict[str, str], like: VideoInfo) -> None:
    """HDR10 metadata, which PyAV has no way to attach as side data, and the order of fields, for encoders that take text."""
    display, light = like.hdr.mastering_display, like.hdr.content_light
    params: list[str] = []
    if name == "libx265":
        params += [f"master-display={display}"] if display else []
        params += [f"max-cll={light}"] if light else []
    elif name == "libx264":
        params += ["bff=1"] if like.field_order == BOTTOM_FIRST else []  # which x264 says of the first frame, or top
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
