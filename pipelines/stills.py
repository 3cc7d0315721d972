"""Still pictures: one, or all of a folder, each on its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vidunmask.errors import InputError, OutputError, UsageError, VidunmaskError, unforeseen
from vidunmask.pipelines import checks
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.report import Failure, RunReport, Stopwatch, Tally, WarningLog

if TYPE_CHECKING:
    from vidunmask.pipelines.remove import Progress
    from vidunmask.stages.observe import Observer
    from vidunmask.types import Frame

log = logging.getLogger(__name__)


def unmask_picture(
    source: Path, target: Path, *, config: Config, progress: Progress | None = None, parts: Parts | None = None
) -> RunReport:
    """Removes the masks from one picture. Raises a VidunmaskError and leaves nothing at ``target`` where that fails."""
    from vidunmask.pipelines.remove import make_report, provenance, stage_seconds
    from vidunmask.video import atomic, images

    atomic.check_target(target, source=source, overwrite=config.overwrite)
    if not checks.is_picture(target):
        raise UsageError(f"{target}: {source} is a picture, name the output with one of {' '.join(checks.PICTURES)}")
    watch, tally = Stopwatch(), Tally()
    with WarningLog.collecting() as warnings:
        with watch.timing("decode"):
            picture = images.read_image(source)
        parts = parts or build(config)
        networks_before = dict(parts.unmasker.seconds)
        began = time.perf_counter()
        for frame in edited_picture(picture.frame, parts, watch, tally):
            with watch.timing("encode"):
                images.write_image(target, frame, like=picture, overwrite=config.overwrite, metadata=provenance())
        seconds = time.perf_counter() - began
    stages = stage_seconds(watch, parts, networks_before)
    if progress is not None:
        progress(1, 1)
    return make_report(source, target, parts, tally, seconds=seconds, stages=stages, warnings=warnings.messages)


def unmask_folder(
    source: Path, target: Path, *, config: Config, progress: Progress | None = None, parts: Parts | None = None
) -> RunReport:
    """Removes the masks from every picture in a folder, under the same names in the folder ``target``, which is made.

    A picture that cannot be done is named in the report's ``failures`` and the others go on. Raises InputError for a folder
    without pictures and OutputError where results exist already, before any work.
    """
    checks.folder(target, source=source)
    files = checks.visible_files(source)
    pictures = [path for path in files if checks.is_picture(path)]
    strangers = [path for path in files if not checks.is_picture(path)]
    videos = any(map(checks.is_video, strangers))
    hint = f"; the videos are done by: vidunmask batch {source} --out {target}" if videos else ""
    if not pictures:
        unreadable = [path for path in strangers if checks.unreadable_kind(path)]
        lines = "".join(f"; {line}" for line in checks.left_alone(unreadable, what=""))
        raise InputError(f"{source}: holds no pictures ({', '.join(checks.PICTURES)}){lines}{hint}")
    there = [target / path.name for path in pictures if (target / path.name).exists()]
    if there and not config.overwrite:
        raise OutputError(f"{checks.first_of(there)}: exists already; add --overwrite to replace")
    for line in checks.left_alone(strangers, what="no picture"):
        log.warning("%s%s", line, hint)
        hint = ""  # said once
    parts = parts or build(config)
    made = not target.exists()
    target.mkdir(exist_ok=True)
    reports, failures = [], []
    began = time.perf_counter()
    try:
        for index, path in enumerate(pictures):
            try:
                reports.append(unmask_picture(path, target / path.name, config=config, parts=parts))
            except VidunmaskError as error:
                failures.append(Failure(str(path), str(error), error.exit_code))
            except Exception as error:  # one picture's surprise must not end the others
                failures.append(Failure(str(path), f"{path}: {unforeseen(error)}", 1))
            if progress is not None:
                progress(index + 1, len(pictures))
    finally:
        if made and not any(target.iterdir()):
            target.rmdir()
    return RunReport(
        input=str(source),
        output=str(target),
        frames=sum(report.frames for report in reports),
        frames_edited=sum(report.frames_edited for report in reports),
        seconds=round(time.perf_counter() - began, 3),
        stages=_sum(report.stages for report in reports),
        faces=(),
        warnings=tuple(dict.fromkeys(warning for report in reports for warning in report.warnings)),
        device=parts.device,
        precision=parts.precision,
        weights=parts.weights,
        files=tuple(reports),
        failures=tuple(failures),
        versions=reports[0].versions if reports else {},
    )


def _sum(many: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for stages in many:
        for name, spent in stages.items():
            total[name] = round(total.get(name, 0.0) + spent, 3)
    return total


def edited_picture(
    frame: Frame, parts: Parts, watch: Stopwatch, tally: Tally, *, observer: Observer | None = None
) -> Iterator[Frame]:
    """The chain of the house for a single frame: nothing to overlap, no time to smooth over."""
    from vidunmask.flow import tap
    from vidunmask.stages.aim import aim
    from vidunmask.stages.blend import TemporalBlender, blend
    from vidunmask.stages.crop import crop
    from vidunmask.stages.detect import detect
    from vidunmask.stages.track import Tracker, track
    from vidunmask.stages.unmask import unmask

    seen = watch.stage("detect", detect([frame], parts.detector, every=1, tiles=True))
    seen = seen if observer is None else tap(seen, observer.seen)
    tracked = watch.stage("aim", aim(watch.stage("track", track(seen, Tracker())), parts.unmasker))
    tracked = tracked if observer is None else tap(tracked, observer.tracked)
    crops = watch.stage("crop", crop(tracked))
    crops = crops if observer is None else tap(crops, observer.cropped)
    fills = watch.stage("unmask", unmask(crops, parts.unmasker, temporal=False, observer=observer))
    yield from watch.stage("blend", blend(tally.watch(fills), TemporalBlender(strength=0.0), observer=observer))
