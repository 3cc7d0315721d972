"""The live loop: the chain of the house without look-ahead, newest picture first, and what is shown of it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidunmask.errors import OutputError, UsageError
from vidunmask.flow import ticking
from vidunmask.pipelines import checks
from vidunmask.pipelines.build import Parts, build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.chain import THREADS, Chain, Output, sharing_cores, warm_up
from vidunmask.pipelines.live.config import LiveConfig
from vidunmask.pipelines.live.controls import Controls
from vidunmask.pipelines.live.network import NetworkStream
from vidunmask.pipelines.live.pace import Governor, Level, Meter, Pace, Stats, levels
from vidunmask.pipelines.live.sinks import Sinks, VirtualCamera
from vidunmask.pipelines.live.view import Figures, View, compose, strip_height
from vidunmask.pipelines.report import Stopwatch
from vidunmask.types import ByteArray
from vidunmask.video.camera import Mode, file_of, open_source
from vidunmask.video.info import VideoInfo
from vidunmask.video.live import LiveSource
from vidunmask.video.pixels import Preview

if TYPE_CHECKING:
    from vidunmask.pipelines.live.window import Window

log = logging.getLogger(__name__)

_ENDED = "the source ended"
_TICK = 0.02  # seconds after which the window is looked after even where no picture has come
_FASTEST = 240  # pictures a second that a source may promise
_SHOWN_SIDE = 1280  # longer side of the window's picture in pixels; larger ones are shown smaller


@dataclass(frozen=True, slots=True)
class LiveReport:
    """The outcome of a live run."""

    source: str
    captured: int
    shown: int
    seconds: float  # from the first picture shown to the last
    p50: float  # milliseconds from capture to display
    p95: float
    level: int  # what was given up at the end; 0 for nothing
    changes: int  # how often that changed
    stages: Mapping[str, float]  # milliseconds of work for a picture, by stage
    outcomes: tuple[str, ...]  # a line for every recording, stream and camera
    why: str  # it ended

    @property
    def rate(self) -> float:
        """Pictures a second that came out."""
        return (self.shown - 1) / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        lost = max(0, self.captured - self.shown)
        return (
            f"{self.source}: {self.shown} pictures in {self.seconds:.1f} s, {self.rate:.1f} a second, {lost} left out, "
            f"latency {self.p50:.0f} ms (p95 {self.p95:.0f} ms); {self.why}"
        )


def run(
    live: LiveConfig, config: Config | None = None, *, parts: Parts | None = None, say: Callable[[str], None] | None = None
) -> LiveReport:
    """Runs live mode until the source ends, the viewer quits or ``live.duration`` is over.

    ``parts`` from `build.build` may be reused. ``say`` gets what is worth a line: what became of recordings and streams, also
    where the run ends in an error. Raises a VidunmaskError where the source is lost or nothing can come out; recordings are
    finished and kept all the same, after KeyboardInterrupt too. No file that the run reads is ever written.
    """
    config = config or Config()
    _check_files(live, config)
    say = say or (lambda line: None)
    sinks = Sinks(window=live.window)
    session: _Session | None = None
    report: LiveReport | None = None
    if live.window:
        from vidunmask.pipelines.live.window import check_display

        check_display()
    try:
        with ExitStack() as stack:
            mode = Mode(live.size, live.rate, live.input_format)
            source = stack.enter_context(
                open_source(
                    live.source, mode=mode, backend=live.backend, timeout=live.timeout, reconnect=live.reconnect, loop=live.loop
                )
            )
            for warning in source.warnings:
                log.warning("%s", warning)
            log.info("%s: %dx%d %s", source.name, *source.info.size[::-1], source.info.pix_fmt)
            stack.callback(sinks.close)
            session = _Session(live, config, source, sinks, parts, say, stack)
            report = session.run(stack)
    finally:
        for outcome in sinks.outcomes:
            say(outcome)
        if report is None and session is not None and session.report().shown:
            say(str(replace(session.report(), why="it was broken off")))
    if sinks.failed:
        raise sinks.failed[0]
    return replace(report, outcomes=tuple(sinks.outcomes))


def _check_files(live: LiveConfig, config: Config) -> None:
    """Raises UsageError or OutputError where a file to write is one that is read, or another one, or must not be replaced."""
    playlist = Path(live.stream) if live.stream is not None and "://" not in live.stream else None
    source = file_of(live.source)
    weights = {"--segmenter": config.segmenter, "--inpainter": config.inpainter}
    read = {"--source": source, **{flag: Path(name) for flag, name in weights.items() if Path(name).is_file()}}
    checks.apart({"--record": live.record, "--stats": live.stats, "--stream": playlist}, read)
    for flag, path in {**read, "--record": live.record, "--stats": live.stats}.items():
        if playlist is not None and path is not None and _is_part(path, playlist):
            raise UsageError(f"--stream {playlist}: its parts would replace {path} of {flag}; choose another name")
    if live.stats is not None:
        checks.free("--stats", live.stats, overwrite=config.overwrite)
    if playlist is not None:
        checks.free("--stream", playlist, overwrite=config.overwrite)
        for path in sorted(path for path in playlist.parent.iterdir() if _is_part(path, playlist)):
            checks.free(f"--stream {playlist}: its part", path, overwrite=config.overwrite)


def _is_part(path: Path, playlist: Path) -> bool:
    """Whether FFmpeg would give a part of a playlist that path: the playlist's own name with a number behind."""
    named = re.fullmatch(rf"{re.escape(playlist.stem)}\d+\.ts", path.name)
    return named is not None and checks.same(path.parent, playlist.parent)


def as_sent(source: VideoInfo) -> VideoInfo:
    """What recordings and streams of a source are like: H.264 wherever the file holds it, at the rate that it promises.

    Of a stream whose times are irregular FFmpeg promises one picture for each of the clock's ticks, such as 1000 a second, and
    an encoder would repeat its pictures until there are so many.
    """
    rate = source.average_rate
    return replace(source, codec="h264", average_rate=rate if rate is not None and rate <= _FASTEST else None)


class _Session:
    """One run, from the opened source to the report."""

    def __init__(
        self,
        live: LiveConfig,
        config: Config,
        source: LiveSource,
        sinks: Sinks,
        parts: Parts | None,
        say: Callable[[str], None],
        stack: ExitStack,
    ) -> None:
        """Cores are shared between the stages until ``stack`` ends."""
        self._live, self._config, self._source, self._sinks, self._say = live, config, source, sinks, say
        self._preview = Preview()
        self._watch, self._pace = Stopwatch(), Pace()
        self._changes = 0
        self._first_at = self._last_at = 0.0  # clock of the first and the last picture shown
        self._window: Window | None = None
        self._stats: Stats | None = None
        self._last: Output | None = None
        self._why = _ENDED
        like = as_sent(source.info)
        self._view = View(split=live.split, overlay=live.overlay)
        self._controls = Controls(self._view, sinks, like, config, live.folder)
        # Targets and encoders that will not do are known before the networks are loaded.
        if live.record is not None:
            self._controls.record(live.record)
        if live.stream is not None:
            sinks.add(NetworkStream(live.stream, like))
        if live.virtual_camera is not None:
            sinks.add(VirtualCamera(live.virtual_camera, like))
        parts = parts or build(config)
        # Not before: how many detectors are made goes by the cores that there are.
        stack.enter_context(sharing_cores())
        warm_up(parts)
        steps = levels(config.detect_every)
        self._governor = Governor(steps[:1] if live.fixed else steps)
        self._chain = Chain(source, parts, config, self._governor.level, self._watch)
        self._meter = Meter(places=self._chain.places)

    def run(self, stack: ExitStack) -> LiveReport:
        """Shows pictures until something ends it; what is opened is closed by ``stack``."""
        live, source = self._live, self._source
        if live.stats is not None:
            self._stats = stack.enter_context(Stats.open(live.stats, live.stats_every, overwrite=self._config.overwrite))
        # What it was before is kept of every picture: in a pause the viewer may ask for that of the one that stands.
        chain = self._chain.outputs(lambda: _SHOWN_SIDE if live.window else 0)
        outputs = stack.enter_context(closing(ticking(chain, _TICK, stop=self._stop)))
        # Window and recordings do not wait for the chain to end, which may wait for a stream that is silent.
        stack.callback(self._sinks.close)
        if live.window:
            from vidunmask.pipelines.live.window import Window

            height, width = source.info.display_size
            factor = min(1.0, _SHOWN_SIDE / max(height, width))
            size = round(height * factor), round(width * factor)
            self._window = Window(f"vidunmask: {source.name}", (size[0] + strip_height(size[1], size[0]), size[1]))
            stack.callback(self._window.close)
        looked = said = time.monotonic()
        for output in outputs:
            now = time.monotonic()
            if output is not None and source.age(output.frame) <= now - self._controls.resumed:
                with self._watch.timing("show"):
                    self._show(output)
                self._last_at = time.monotonic()
                if self._meter.shown == 0:
                    self._first_at = said = self._last_at
                    if self._stats is not None:
                        self._stats.start(said)
                latency = source.age(output.frame)
                self._meter.show(self._last_at, latency)
                if self._stats is not None:
                    self._stats.add(latency)
            elif self._window is not None:
                self._redraw_waiting()
            if output is not None:
                self._chain.done()
            self._last = output or self._last
            if self._meter.shown and now - looked >= 1.0:
                looked = now
                self._look(now, settled=now - self._first_at >= 4.0)
                if self._window is None and now - said >= 30.0:
                    said = now
                    self._say(self._line(now - self._first_at))
            self._write_stats(now)
            if self._over(now - self._first_at):
                break
        return self.report()

    def report(self) -> LiveReport:
        """What the run has come to so far."""
        return LiveReport(
            source=self._source.name, captured=self._source.captured, shown=self._meter.shown,
            seconds=self._last_at - self._first_at,
            p50=self._meter.total.percentile(0.5), p95=self._meter.total.percentile(0.95),
            level=self._governor.at, changes=self._changes, stages=self._stages(), outcomes=(), why=self._why,
        )  # fmt: skip

    def _write_stats(self, now: float) -> None:
        if self._stats is None or self._last is None or not self._meter.shown:
            return
        try:
            self._stats.write_when_due(now, self._source.captured, self._governor.at, len(self._last.faces))
        except OutputError as error:
            self._stats = None
            self._sinks.note(error)

    def _stop(self) -> None:
        """Lets nothing wait any more, or closing the chain would wait with it."""
        self._source.stop()
        self._chain.stop()

    def _over(self, seconds: float) -> bool:
        """Whether it is time to stop; also does what the keys say, as long as the run is paused."""
        if self._window is not None:
            self._obey()
            while self._view.paused and self._why == _ENDED and not self._window.closed:
                self._redraw()
                time.sleep(0.03)
                self._obey()
            if self._window.closed:
                self._why = "the window was closed"
        if self._live.duration is not None and self._meter.shown and seconds >= self._live.duration:
            self._why = f"{self._live.duration:g} s are over"
        if self._window is None and not self._sinks and self._stats is None:
            self._why = "nothing is left that takes the pictures"
        return self._why != _ENDED

    def _look(self, now: float, *, settled: bool) -> None:
        """Measures the pace, and changes what is spent where that is needed."""
        spent = dict(self._watch.seconds)
        worked = {thread: sum(spent.get(name, 0.0) for name in names) for thread, names in THREADS.items()}
        self._pace = self._meter.look(now, self._source.captured, worked)
        level = self._governor.step(now, self._pace) if settled else None
        if level is not None:
            self._change(level)

    def _change(self, level: Level) -> None:
        self._changes += 1
        pace = f"{self._pace.shown:.1f} of {self._pace.captured:.1f} pictures a second"
        log.warning("%s came out; %s: %s", pace, self._governor.reason, level)
        self._chain.change(level)

    # What is shown

    def _show(self, output: Output) -> None:
        self._sinks.push(output.frame)
        if self._window is not None:
            self._window.show(self._picture(output))
            self._obey()

    def _picture(self, output: Output, waiting: str | None = None) -> ByteArray:
        after, frame_to_shown = self._preview.rgb(output.frame, _SHOWN_SIDE)
        return compose(after, output.before, self._view, output.faces, frame_to_shown, self._figures(waiting))

    def _stages(self) -> dict[str, float]:
        """Milliseconds of work for a picture, by stage, in the order of the chain."""
        spent = dict(self._watch.seconds)
        names = (name for stages in THREADS.values() for name in stages if name in spent)
        return {name: 1000 * spent[name] / max(1, self._meter.shown) for name in names}

    def _figures(self, waiting: str | None) -> Figures:
        return Figures(
            captured=self._pace.captured, shown=self._pace.shown, p50=self._pace.p50, p95=self._pace.p95,
            reduced=f"to keep up: {self._governor.level}" if self._governor.at else "",
            recording=self._controls.recording, failed=self._controls.failed,
            waiting=waiting, stages=self._stages(),
        )  # fmt: skip

    def _redraw(self) -> None:
        if self._window is not None and self._last is not None:
            self._window.show(self._picture(self._last, self._source.waiting))

    def _redraw_waiting(self) -> None:
        if self._source.waiting:
            self._redraw()

    def _line(self, seconds: float) -> str:
        pace = self._pace
        return (
            f"{seconds:.0f} s: {pace.shown:.1f} of {pace.captured:.1f} pictures a second, "
            f"latency {pace.p50:.0f} ms (p95 {pace.p95:.0f} ms)"
        )

    def _obey(self) -> None:
        if self._window is not None:
            self._controls.obey(self._window.keys(), self._last.frame if self._last is not None else None)
            if self._controls.quit:
                self._why = "stopped by the viewer"
