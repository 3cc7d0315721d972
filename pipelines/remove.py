"""File to file: the whole chain, for a video, a picture or a folder of pictures."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from vidunmask import __version__
from vidunmask.pipelines import checks
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import RunReport, Stopwatch, Tally, WarningLog

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]  # frames done, frames expected

QUEUE_BYTES = 64 << 20  # of frames between two stages that overlap; 20 frames of 1080p, 5 of 2160p
SYNTHESIZED = "Faces in this video were synthesized, not recovered: what lay under the masks is not known."


def unmask(
    input: str | Path,
    output: str | Path,
    *,
    config: Config | None = None,
    progress: Progress | None = None,
    parts: Parts | None = None,
) -> RunReport:
    """Removes the face masks from ``input`` and writes ``output``: a video, a still picture or a folder of pictures each.

    ``progress`` is called with frames done and expected. ``parts`` from `build.build` may be reused over runs with the same
    networks; by default they are made from ``config``. Raises a VidunmaskError and leaves nothing at ``output`` where the run cannot
    be done; in a folder, a picture that cannot be done is reported in ``failures`` instead.
    """
    source, target, config = Path(input), Path(output), config or Config()
    checks.readable(source)
    if source.is_dir() or checks.is_picture(source):
        from vidunmask.pipelines import stills

        if source.is_dir():
            return stills.unmask_folder(source, target, config=config, progress=progress, parts=parts)
        checks.target(target, source=source, overwrite=config.overwrite)
        return stills.unmask_picture(source, target, config=config, parts=parts or build(config))
    checks.target(target, source=source, overwrite=config.overwrite)
    return _unmask_video(source, target, config, progress, parts)


def _unmask_video(source: Path, target: Path, config: Config, progress: Progress | None, parts: Parts | None) -> RunReport:
    from vidunmask.flow import prefetch
    from vidunmask.stages.blend import TemporalBlender, blend
    from vidunmask.stages.crop import crop
    from vidunmask.stages.detect import detect
    from vidunmask.stages.track import Tracker, track
    from vidunmask.stages.unmask import unmask as unmask_faces
    from vidunmask.video.reader import VideoReader
    from vidunmask.video.writer import VideoWriter

    watch, tally = Stopwatch(), Tally()
    with WarningLog.collecting() as warnings, ExitStack() as stack:
        reader = stack.enter_context(VideoReader(source))
        # The writer opens before the networks are loaded: an encoder that is missing is known at once.
        writer = stack.enter_context(
            VideoWriter(
                target,
                like=reader.info,
                codec=config.codec,
                crf=config.crf,
                preset=config.preset,
                pix_fmt=config.pix_fmt,
                overwrite=config.overwrite,
                metadata=provenance(),
            )
        )
        parts = parts or build(config)
        before = dict(parts.unmasker.seconds)
        began = time.perf_counter()

        frames = prefetch(watch.stage("decode", reader), 16, max_bytes=QUEUE_BYTES)
        seen = watch.stage("detect", detect(watch.stage("wait", frames), parts.detector, every=config.detect_every))
        tracked = watch.stage("track", track(seen, Tracker()))
        crops = prefetch(watch.stage("crop", crop(tracked)), 8, max_bytes=QUEUE_BYTES)
        fills = watch.stage(
            "unmask",
            unmask_faces(
                watch.stage("wait", crops), parts.unmasker, min_faces=config.batch, max_frames=config.batch, temporal=config.temporal
            ),
        )
        fills = watch.stage("wait", prefetch(fills, 8, max_bytes=QUEUE_BYTES))
        blender = TemporalBlender(strength=0.8 if config.temporal else 0.0)
        edited = stack.enter_context(_closing(watch.stage("blend", blend(tally.watch(fills), blender))))
        expected = reader.info.frames_estimate
        for frame in edited:
            with watch.timing("encode"):
                writer.write(frame)
            if progress is not None:
                progress(tally.frames, expected)
        with watch.timing("encode"):
            writer.close()
        seconds = time.perf_counter() - began
    messages = [*reader.warnings, *writer.warnings, *warnings.messages]
    return _report(source, target, parts, tally, watch, before, seconds, messages)
