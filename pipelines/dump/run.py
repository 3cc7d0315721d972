"""``vidunmask dump``: the main job's chain over a video or picture, with its seams written out instead of its result."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidunmask import __version__
from vidunmask.errors import UsageError
from vidunmask.pipelines import checks
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.dump import page, store
from vidunmask.pipelines.dump.choice import Choice
from vidunmask.pipelines.report import Stopwatch, Tally, library_versions

if TYPE_CHECKING:
    from vidunmask.pipelines.dump.record import Recorder
    from vidunmask.types import Frame

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]  # frames done, frames expected


@dataclass(frozen=True, slots=True)
class DumpReport:
    """The outcome of a dump."""

    folder: Path
    frames: int  # gone through
    written: int
    device: str

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.folder / store.PAGE


def dump(
    input: str | Path,
    folder: str | Path,
    *,
    choice: Choice | None = None,
    config: Config | None = None,
    progress: Progress | None = None,
    parts: Parts | None = None,
) -> DumpReport:
    """Runs ``input`` as the main job does and writes into ``folder`` what every stage saw and made of the chosen frames.

    Everything from the first frame on is gone through, since stages remember what was before, and nothing behind the last
    chosen frame but what the stages look ahead. ``choice`` None takes every frame. Raises a VidunmaskError; a run that is
    stopped keeps the frames that were done and notes it on the exception, and one that made none leaves what stood there.
    """
    source, target, config = Path(input), Path(folder), config or Config()
    checks.readable(source)
    if source.is_dir():
        raise UsageError(f"{source}: is a folder; a dump takes one video or picture")
    store.check(target, source=source, overwrite=config.overwrite)
    with ExitStack() as stack:
        if checks.is_picture(source):
            if choice is not None:
                raise UsageError(f"{choice.text}: {source} is a picture and has one frame; leave it out")
            frames, about, expected = _picture(source)
            config = replace(config, temporal=False)
        else:
            frames, about, expected = _video(source, choice, stack)
        parts = parts or build(config)
        about = {
            "format": store.FORMAT,
            "version": __version__,
            "versions": library_versions(),
            "input": str(source.resolve()),
            "chosen": choice.text if choice is not None else "all frames",
            "options": store.options_of(config),
            "device": parts.device,
            "precision": parts.precision,
            "weights": parts.weights,
            **about,
        }
        return _record(source, target, choice, config, parts, frames, about, expected, progress)


Chain = Callable[["Recorder", Parts, Config], Generator["Frame"]]


def _picture(source: Path) -> tuple[Chain, dict[str, Any], int | None]:
    from vidunmask.pipelines.stills import edited_picture
    from vidunmask.video import images

    picture = images.read_image(source)

    def frames(recorder: Recorder, parts: Parts, config: Config) -> Generator[Frame]:
        for frame in recorder.source([picture.frame]):
            yield from edited_picture(frame, parts, Stopwatch(), Tally(), observer=recorder)

    return frames, {"kind": "picture", "size": list(picture.frame.display_size)}, 1


def _video(source: Path, choice: Choice | None, stack: ExitStack) -> tuple[Chain, dict[str, Any], int | None]:
    from vidunmask.pipelines.remove import edited_frames
    from vidunmask.video.reader import VideoReader

    reader = stack.enter_context(VideoReader(source))
    info = reader.info
    if choice is not None:
        why = choice.begins_after(info.frames, info.duration)
        if why is not None:
            raise UsageError(f"{choice.text}: {source} {why}")
    expected = info.frames_estimate if choice is None else choice.expected(info.frames_estimate, info.average_rate)

    def frames(recorder: Recorder, parts: Parts, config: Config) -> Generator[Frame]:
        try:
            yield from edited_frames(recorder.source(reader), parts, config, Stopwatch(), Tally(), observer=recorder)
        finally:
            for message in reader.warnings:
                log.warning("%s", message)

    rate = float(info.average_rate) if info.average_rate else None
    return frames, {"kind": "video", "size": list(info.display_size), "rate": rate, "codec": info.codec}, expected


def _record(
    source: Path,
    target: Path,
    choice: Choice | None,
    config: Config,
    parts: Parts,
    frames: Chain,
    about: dict[str, Any],
    expected: int | None,
    progress: Progress | None,
) -> DumpReport:
    from vidunmask.pipelines.dump.record import Recorder

    made = store.Dump(target)
    recorder = Recorder(made, choice)
    done = 0
    with store.writing(target), _kept(made):
        made.begin(about, page.html())
        with closing(frames(recorder, parts, config)) as chain:
            for frame in chain:
                recorder.finish(frame)
                done = frame.index + 1
                if progress is not None:
                    progress(done, expected)
                if recorder.is_over:
                    break
        if progress is not None:
            progress(done, done)
        if not recorder.written and choice is not None:
            raise UsageError(f"{choice.text}: {source} has no such frame, it has {done}, the last is {done - 1}")
        if choice is not None and not recorder.is_over and choice.is_cut_short(recorder.last):
            log.warning("%s: %s ends before, at frame %d", choice.text, source, done - 1)
    return DumpReport(target, done, recorder.written, parts.device)


@contextlib.contextmanager
def _kept(made: store.Dump) -> Iterator[None]:
    """Where the body fails or is stopped, the frames that were done stay, or else the dump before, and the others go."""
    try:
        yield
    except BaseException as stopped:
        if done := made.mend():
            left = f"{made.folder / store.PAGE} shows the {done} frames that were done"
            stopped.add_note(left)
            if isinstance(stopped, Exception):
                log.warning("%s", left)
        else:
            made.discard()
        raise
