"""File to file: the whole chain, for a video, a picture or a folder of pictures."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vidunmask import __version__
from vidunmask.errors import OutputError, UsageError
from vidunmask.pipelines import checks
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import RunReport, Stopwatch, Tally, WarningLog, library_versions

if TYPE_CHECKING:
    from vidunmask.stages.observe import Observer
    from vidunmask.types import Frame, KnownFace
    from vidunmask.video.info import VideoInfo

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]  # frames done, frames expected (None: not known)

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

    ``progress`` is called in this thread with frames done and expected, of a folder with pictures; what it raises ends the run.
    ``parts`` from `build.build` may be reused over runs with the same networks, one at a time; by default they are made from
    ``config``. Raises a VidunmaskError and leaves nothing at ``output`` where the run cannot be done; in a folder, a picture
    that cannot be done is reported in ``failures``.
    """
    if input == "" or output == "":  # from a variable that is not set; as a path it would be the current folder
        raise UsageError("an empty name is no file; name input and output")
    source, target, config = Path(input), Path(output), config or Config()
    checks.readable(source)
    if source.is_dir() or checks.is_picture(source):
        from vidunmask.pipelines import stills

        if source.is_dir():
            return stills.unmask_folder(source, target, config=config, progress=progress, parts=parts)
        return stills.unmask_picture(source, target, config=config, progress=progress, parts=parts)
    return _unmask_video(source, target, config, progress, parts)


def _unmask_video(source: Path, target: Path, config: Config, progress: Progress | None, parts: Parts | None) -> RunReport:
    from vidunmask.video import atomic
    from vidunmask.video.reader import VideoReader
    from vidunmask.video.writer import VideoWriter

    atomic.check_target(target, source=source, overwrite=config.overwrite)
    if checks.is_picture(target):
        raise UsageError(f"{target}: {source} is no picture, name a video such as {target.with_suffix('.mp4').name}")
    watch, tally = Stopwatch(), Tally()
    seen = source.stat()
    is_copy = False
    with ExitStack() as stack:
        warnings = stack.enter_context(WarningLog.collecting())
        reader = stack.enter_context(VideoReader(source))
        like = reader.info
        if config.convert_streams:
            like = convert(like, target, stack)
        about_streams = list(warnings.messages)
        # Made before the networks are loaded: a target or an encoder that will not do is known at once.
        writer = VideoWriter(
            target,
            like,
            codec=config.codec,
            crf=config.crf,
            preset=config.preset,
            pix_fmt=config.pix_fmt,
            overwrite=config.overwrite,
            metadata=provenance(),
        )
        parts = parts or build(config)
        networks_before = dict(parts.unmasker.seconds)
        began = time.perf_counter()
        expected = reader.info.frames_estimate
        may_be_copy = is_copy_enough(source, target, config)
        unless = "if a mask is found, " if may_be_copy else ""  # nothing else is lost or becomes another codec then
        with writer:
            _log_new([*reader.warnings, *(unless + message for message in writer.warnings)], warnings)
            with closing(edited_frames(reader, parts, config, watch, tally)) as frames:
                for frame in frames:
                    with watch.timing("encode"):
                        writer.write(frame)
                    if progress is not None:
                        progress(frame.index + 1, expected)
            if progress is not None:
                progress(tally.frames, tally.frames)
            finishing = time.perf_counter()

            def copied(written: Path) -> None:
                nonlocal is_copy
                is_copy = copy(source, written, seen=seen)

            if not tally.frames_edited and may_be_copy:
                writer.inspection = copied  # before the result takes its place: stopped while copying, nothing stands there
        done = time.perf_counter()
        watch.seconds["encode"] = watch.seconds.get("encode", 0.0) + done - finishing
        warnings.messages = [message.removeprefix(unless) for message in warnings.messages]
        if is_copy:  # nothing came of what was to be written
            log.info("%s: no mask was found, so it is a copy of %s byte for byte", target, source)
            untrue = {*about_streams, *writer.warnings}
            warnings.messages = [message for message in warnings.messages if message not in untrue]
        _log_new(reader.warnings if is_copy else [*reader.warnings, *writer.warnings], warnings)
        if not is_unchanged(source, seen):
            log.warning("%s: was changed while it was read; run it again", source)
    stages = stage_seconds(watch, parts, networks_before)
    copied_frames = tally.frames if is_copy else 0
    return make_report(
        source, target, parts, tally, seconds=done - began, stages=stages, warnings=warnings.messages, copied=copied_frames
    )


def is_copy_enough(source: Path, target: Path, config: Config) -> bool:
    """Whether a video in which nothing was edited may be copied: nobody asked for another container or encoding."""
    asked = (config.codec, config.crf, config.preset, config.pix_fmt)
    return source.suffix.lower() == target.suffix.lower() and all(value is None for value in asked)


def copy(source: Path, target: Path, *, seen: os.stat_result) -> bool:
    """Puts the source's own bytes in the place of a result that says no more.

    False, with the target as it was, where there is no room, or where the source is no longer what it was when it was ``seen``.
    """
    from vidunmask.video import atomic

    try:
        with atomic.replacing(target, overwrite=True) as temporary:
            shutil.copyfile(source, temporary)
            if not is_unchanged(source, seen):
                raise OutputError(f"{source}: was changed while it was read")
    except OutputError:
        return False
    return True


def is_unchanged(source: Path, seen: os.stat_result) -> bool:
    """Whether a file is still the one that was ``seen``, and as it was then."""
    try:
        now = source.stat()
    except OSError:
        return False
    return os.path.samestat(now, seen) and (now.st_size, now.st_mtime_ns) == (seen.st_size, seen.st_mtime_ns)


def convert(like: VideoInfo, target: Path, stack: ExitStack) -> VideoInfo:
    """What to copy the other streams from, with those converted that ``target`` cannot hold; kept until ``stack`` ends."""
    from vidunmask.video import ffmpeg

    # Beside the target, where there has to be room for the result anyway.
    folder = stack.enter_context(TemporaryDirectory(prefix=".vidunmask-", dir=target.parent))
    like, converted, left_out = ffmpeg.convert_streams(like, target, Path(folder))
    for message in converted:
        log.info("%s", message)
    for message in left_out:
        log.warning("%s", message)
    return like


def edited_frames(
    reader: Iterable[Frame],
    parts: Parts,
    config: Config,
    watch: Stopwatch,
    tally: Tally,
    *,
    known: Sequence[KnownFace] = (),
    observer: Observer | None = None,
) -> Generator[Frame]:
    """The chain of the house, with a thread at each seam where two stages should overlap.

    ``known`` are the faces of a run that ended just before the first frame. ``observer`` is shown what passes the seams.
    """
    from vidunmask.flow import prefetch, tap
    from vidunmask.stages.aim import aim
    from vidunmask.stages.blend import TemporalBlender, blend
    from vidunmask.stages.crop import crop
    from vidunmask.stages.detect import detect
    from vidunmask.stages.track import Tracker, track
    from vidunmask.stages.unmask import unmask as unmask_faces

    decoded = watch.stage("wait", prefetch(watch.stage("decode", reader), 16, max_bytes=QUEUE_BYTES))
    seen = watch.stage("detect", detect(decoded, parts.detector, every=config.detect_every))
    seen = seen if observer is None else tap(seen, observer.seen)
    tracked = watch.stage("track", track(seen, Tracker(known=known)))
    tracked = watch.stage("aim", aim(tracked, parts.unmasker))
    tracked = tracked if observer is None else tap(tracked, observer.tracked)
    cropped = watch.stage("crop", crop(tracked))
    cropped = cropped if observer is None else tap(cropped, observer.cropped)
    crops = watch.stage("wait", prefetch(cropped, 8, max_bytes=QUEUE_BYTES))
    unmasked = unmask_faces(
        crops,
        parts.unmasker,
        min_faces=config.batch,
        max_frames=config.batch,
        temporal=config.temporal,
        known=known,
        observer=observer,
    )
    fills = watch.stage("wait", prefetch(watch.stage("unmask", unmasked), 8, max_bytes=QUEUE_BYTES))
    blender = TemporalBlender(strength=TemporalBlender.STRENGTH if config.temporal else 0.0)
    # An error or a Ctrl-C in the blend ends no thread of the stages before it by itself: its traceback holds on to them.
    with closing(decoded), closing(crops), closing(fills):
        yield from watch.stage("blend", blend(tally.watch(fills), blender, observer=observer))


def provenance() -> dict[str, str]:
    """What is added to the tags of a file: that its faces were synthesized. It follows a comment already there."""
    return {"comment": SYNTHESIZED, "synthesized_by": f"vidunmask {__version__}"}


def stage_seconds(watch: Stopwatch, parts: Parts, before: Mapping[str, float]) -> dict[str, float]:
    """Seconds of work by stage; what the networks took since ``before`` stands apart from the rest of their stage."""
    stages = {name: spent for name, spent in watch.seconds.items() if name != "wait"}
    for name, spent in parts.unmasker.seconds.items():
        stages[name] = spent - before[name]
        stages["unmask"] -= stages[name]
    return stages


def make_report(
    source: Path,
    target: Path,
    parts: Parts,
    tally: Tally,
    *,
    seconds: float,
    stages: Mapping[str, float],
    warnings: Sequence[str],
    copied: int = 0,
) -> RunReport:
    """The report of one file."""
    return RunReport(
        input=str(source),
        output=str(target),
        frames=tally.frames,
        frames_edited=tally.frames_edited,
        frames_copied=copied,
        seconds=round(seconds, 3),
        stages={name: round(spent, 3) for name, spent in stages.items()},
        faces=tally.faces(),
        warnings=tuple(warnings),
        device=parts.device,
        precision=parts.precision,
        weights=parts.weights,
        versions=library_versions(),
    )


def _log_new(messages: Iterable[str], seen: WarningLog) -> None:
    for message in messages:
        if message not in seen.messages:
            log.warning("%s", message)
