"""Which encoder is chosen, and what it is told."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import copy_clip, picture, write_clip
from vidunmask.errors import DeviceError, UsageError
from vidunmask.video import encoders
from vidunmask.video.dialects import dialect_of
from vidunmask.video.encoders import configure, plan_encoder
from vidunmask.video.formats import best_format
from vidunmask.video.info import VideoInfo
from vidunmask.video.reader import VideoReader

ALL = set(av.codecs_available)


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    path = write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=2, size=(144, 256))
    with VideoReader(path) as reader:
        return reader.info


@pytest.mark.parametrize(
    ("codec", "encoder"),
    [("h264", "libx264"), ("hevc", "libx265"), ("av1", "libsvtav1"), ("vp9", "libvpx-vp9"), ("vp8", "libvpx")],
)
def test_the_family_of_the_input_is_kept(like: VideoInfo, codec: str, encoder: str) -> None:
    assert plan_encoder(replace(like, codec=codec), ALL, "mkv").name == encoder


@pytest.mark.parametrize(
    ("codec", "keeper"),
    [("mjpeg", "mjpeg"), ("prores", "prores_ks"), ("mpeg4", "mpeg4"), ("ffv1", "ffv1"), ("wmv3", None)],
)
def test_a_video_that_becomes_another_kind_says_so(like: VideoInfo, codec: str, keeper: str | None) -> None:
    plan = plan_encoder(replace(like, codec=codec), ALL, "mkv")
    assert plan.name == "libx264"
    assert plan.warnings == (f"the video was {codec} and becomes h264{f'; --codec {keeper} keeps it' if keeper else ''}",)
    assert plan_encoder(replace(like, codec=codec), ALL, "mkv", codec="h264").warnings == ()


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("h264_nvenc", {"cq": "23", "preset": "p7", "rc": "vbr", "b": "0"}),
        ("hevc_qsv", {"global_quality": "23", "preset": "veryslow"}),
        ("h264_amf", {"qp_i": "23", "qp_p": "23", "rc": "cqp", "quality": "quality"}),
        ("libsvtav1", {"crf": "23", "preset": "2"}),
        ("libvpx-vp9", {"crf": "23", "b": "0", "cpu-used": "0"}),
        ("libx264", {"crf": "23", "preset": "veryslow"}),
    ],
)
def test_quality_and_speed_are_told_in_the_encoder_s_own_words(
    like: VideoInfo, monkeypatch: pytest.MonkeyPatch, codec: str, options: dict[str, str]
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    monkeypatch.setattr(encoders, "try_encoder", lambda plan, like: None)
    plan = plan_encoder(like, ALL, "mp4", codec=codec, crf=23, preset="veryslow")
    assert options.items() <= plan.options.items()
    assert plan.is_hardware == (not codec.startswith("lib"))


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("mpeg1video", ".mpg"), ("mpeg2video", ".mkv"), ("mpeg4", ".mp4"), ("mjpeg", ".mov"), ("wmv2", ".avi"), ("flv", ".flv")],
)
def test_encoders_of_the_mpeg_family_hear_the_quality_that_is_asked_for(tmp_path: Path, codec: str, suffix: str) -> None:
    """And write the best one by default: their own is 200 kbit/s, whatever the size of the picture."""
    full = codec == "mjpeg"
    source = write_clip(
        tmp_path / "in.mkv", frames=5, size=(96, 128), time_base=Fraction(1, 1000),
        pix_fmt="yuvj420p" if full else "yuv420p", colour=(2 if full else 1, 1, 1, 1),
    )  # fmt: skip
    sizes = []
    for crf in (None, 2, 20):
        copy_clip(source, tmp_path / f"{crf}{suffix}", codec=codec, crf=crf)
        sizes.append((tmp_path / f"{crf}{suffix}").stat().st_size)
    assert sizes[0] == sizes[1] > sizes[2] + 1000


def test_the_quality_of_apple_s_encoders_is_a_percentage_in_units_of_ffmpeg() -> None:
    """libavcodec/videotoolboxenc.c divides by FF_QP2LAMBDA, and by 100."""
    assert dialect_of("hevc_videotoolbox").quality(20) == {"flags": "+qscale", "global_quality": str(70 * 118)}


@pytest.mark.parametrize("size", [(270, 480), (240, 320)])
def test_the_same_frames_give_the_same_file_every_time(like: VideoInfo, size: tuple[int, int]) -> None:
    """Which x264 does not promise: with AVX-512 the third or fourth try at these sizes came out otherwise."""
    like = replace(like, size=size)
    plan = plan_encoder(like, ALL, "mp4", codec="h264", preset="medium")
    image = picture(*size, seed=1)
    noise = np.random.default_rng(1).integers(0, 12, (25, *image.shape), dtype=np.uint8)

    def encoded() -> bytes:
        context = av.CodecContext.create(plan.name, "w")
        configure(context, plan, like, like.time_base)
        packets = []
        for number, grain in enumerate(noise):
            native = av.VideoFrame.from_ndarray(np.roll(image, 3 * number, axis=1) // 2 + grain, format="rgb24")
            native = native.reformat(format=plan.pix_fmt)
            native.pts, native.time_base = number, like.time_base
            packets += context.encode(native)
        return b"".join(bytes(packet) for packet in [*packets, *context.encode(None)])

    assert len({encoded() for _ in range(8)}) == 1


def test_a_hardware_encoder_that_does_not_start_is_named_with_its_remedy(
    like: VideoInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "try_encoder", lambda plan, like: "no such device")
    for codec in ("h264_nvenc", "av1_qsv", "h264_nothing_vaapi", "hevc_videotoolbox"):
        with pytest.raises(DeviceError, match=codec) as caught:
            plan_encoder(like, ALL, "mp4", codec=codec)
        assert "needs" in str(caught.value)
        assert caught.value.exit_code == 5


def test_the_trial_finds_what_an_encoder_refuses(like: VideoInfo) -> None:
    plan = plan_encoder(like, ALL, "mp4", codec="h264")
    assert encoders.try_encoder(plan, like) is None
    assert encoders.try_encoder(plan, replace(like, size=(143, 255))) is not None
    with pytest.raises(UsageError, match="veryfastest"):
        plan_encoder(like, ALL, "mp4", codec="h264", preset="veryfastest")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "foo"}, "--preset foo: libx264 takes ultrafast, superfast, veryfast, .*, veryslow, placebo"),
        ({"preset": "12"}, "--preset 12: libx264 takes"),
        ({"preset": "12", "codec": "x265"}, "--preset 12: libx265 takes ultrafast"),
        ({"preset": "14", "codec": "av1"}, "--preset 14: libsvtav1 takes .* and 0 to 13"),
        ({"preset": "9", "codec": "vp9"}, "--preset 9: libvpx-vp9 takes .* and -8 to 8"),
        ({"preset": "p8", "codec": "h264_nvenc"}, "--preset p8: h264_nvenc takes .* p7"),
        ({"preset": "slow", "codec": "ffv1"}, "--preset slow: ffv1 has no presets"),
        ({"crf": 60}, "--crf 60: libx264 takes 0 to 51"),
        ({"pix_fmt": "gbrp"}, "--pix-fmt gbrp: libx264 takes"),
        ({"codec": "aac"}, "--codec aac: is for audio, not for video"),
        ({"codec": "subrip"}, "--codec subrip: is for subtitle, not for video"),
    ],
)
def test_an_option_that_does_not_fit_is_named_and_changes_nothing_else(
    like: VideoInfo, capfd: pytest.CaptureFixture[str], options: dict[str, str], said: str
) -> None:
    if options.get("codec") == "h264_nvenc" and "h264_nvenc" not in av.codecs_available:
        pytest.skip("this FFmpeg has no NVENC")
    with pytest.raises(UsageError, match=said) as caught:
        plan_encoder(like, ALL, "mkv", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("preset", ["ultrafast", "placebo", "3"])
def test_every_encoder_takes_the_names_of_x264(like: VideoInfo, preset: str) -> None:
    for codec in ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "libvpx"):
        assert plan_encoder(like, ALL, "mkv", codec=codec, preset=preset).name == codec


def test_a_pixel_format_that_was_asked_for_brings_in_no_other_encoder(like: VideoInfo) -> None:
    odd = replace(like, size=(143, 255), pix_fmt="yuv444p")
    assert plan_encoder(odd, ALL, "mkv").name == "libx264"
    with pytest.raises(UsageError, match=r"255x143 yuv420p .*libx264"):
        plan_encoder(odd, ALL, "mkv", pix_fmt="yuv420p")


@pytest.mark.parametrize("size", [(4400, 8), (8, 4400), (65, 24)])
def test_shapes_at_which_an_encoder_hangs_are_not_tried(
    like: VideoInfo, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    create = av.CodecContext.create

    def refuse(name: str, mode: str) -> av.CodecContext:
        assert name != "libsvtav1"
        return create(name, mode)

    monkeypatch.setattr(av.CodecContext, "create", refuse)
    thin = replace(like, size=size, codec="av1")
    with pytest.raises(UsageError, match=r"--codec av1 cannot encode .* hangs at so long and thin a picture"):
        plan_encoder(thin, ALL, "mkv", codec="av1")
    plan = plan_encoder(thin, ALL, "mkv")
    assert "libsvtav1 cannot hold" in plan.warnings[0]


def test_encoders_say_nothing_past_ffmpeg_and_each_try_has_its_own_reason(
    like: VideoInfo, capfd: pytest.CaptureFixture[str]
) -> None:
    for codec, size in (("libx265", (143, 255)), ("libsvtav1", (2, 2)), ("libx264", (143, 255)), ("libx264", (143, 255))):
        plan = plan_encoder(like, ALL, "mkv", codec=codec)
        reason = encoders.try_encoder(plan, replace(like, size=size))
        assert reason is not None
        assert {"libx264": "not divisible by 2", "libx265": "libx265", "libsvtav1": ""}[codec] in reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("pix_fmt", "encoder"),
    [("yuv420p12le", "libx265"), ("gbrp", "libx264rgb"), ("yuv440p", "libx264"), ("yuvj422p", "libx264")],
)
def test_another_encoder_steps_in_rather_than_losing_precision(like: VideoInfo, pix_fmt: str, encoder: str) -> None:
    plan = plan_encoder(replace(like, pix_fmt=pix_fmt), ALL, "mkv")
    assert plan.name == encoder
    assert bool(plan.warnings) == (pix_fmt != "yuvj422p")
    assert not any("loses" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("source", "formats", "chosen", "lost"),
    [
        ("yuv420p", ["yuv420p", "yuv444p"], "yuv420p", ""),
        ("yuv422p10le", ["yuv420p", "yuv444p10le"], "yuv444p10le", ""),
        ("yuv420p10le", ["nv12", "p010le"], "p010le", ""),
        ("yuv420p10le", ["yuv420p"], "yuv420p", "bit depth"),
        ("yuva420p", ["yuv420p"], "yuv420p", "transparency"),
        ("gray", ["yuv420p", "gray10le"], "gray10le", ""),
        ("yuv420p", ["gray", "rgb24"], "rgb24", "the RGB/YUV kind"),
        ("yuv420p", ["gray"], "gray", "colour"),
        ("yuva444p12le", ["yuv444p", "yuv444p12le"], "yuv444p12le", "transparency"),
        ("yuv444p", ["yuv420p", "gbrp"], "yuv420p", "chroma resolution"),
    ],
)
def test_the_pixel_format_that_loses_least_is_chosen(source: str, formats: list[str], chosen: str, lost: str) -> None:
    assert best_format(source, formats) == (chosen, lost)
