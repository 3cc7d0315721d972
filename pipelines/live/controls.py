"""What the viewer's keys do: views, pauses, pictures and recordings."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

from vidunmask.errors import VidunmaskError
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.sinks import Pictures, Recorder, Sinks, fresh_name
from vidunmask.pipelines.live.view import View
from vidunmask.types import Frame
from vidunmask.video.info import VideoInfo

log = logging.getLogger(__name__)


class Controls:
    """Obeys keys. ``view`` is what they have made of the picture; ``quit`` is true once one of them has ended the run.

    Pictures and recordings go to ``folder``, through sinks that are added to ``sinks``. One that fails is a warning, and in
    ``failed`` until the next attempt.
    """

    def __init__(self, view: View, sinks: Sinks, like: VideoInfo, config: Config, folder: Path) -> None:
        self.view = view
        self.quit = False
        self.resumed = float("-inf")  # clock of the latest end or beginning of a pause
        self._sinks, self._like, self._config, self._folder = sinks, like, config, folder
        self._recorder: Recorder | None = None
        self._recording_since = 0.0
        self._pictures: Pictures | None = None
        self._recording_failed = self._picture_failed = False

    @property
    def recording(self) -> float | None:
        """For how many seconds it has been recording; None where it is not."""
        return None if self._recorder is None else time.monotonic() - self._recording_since

    @property
    def failed(self) -> str:
        """What could not be done and has not been tried again; empty where all is well."""
        what = {"recording failed": self._recording_failed, "picture not saved": self._picture_failed}
        return ", ".join(text for text, true in what.items() if true)

    def obey(self, keys: Iterable[str], shown: Frame | None) -> None:
        """Does what keys say; ``shown`` is the picture that they were pressed at. To be called often, also without any."""
        self._notice_failures()
        view = self.view
        for key in keys:
            if key in ("q", "\x1b"):
                self.quit = True
            elif key == " ":
                view.paused = not view.paused
                self.resumed = time.monotonic()
            elif key == "b":
                view.before, view.split = not view.before, False
            elif key == "s":
                view.split, view.before = not view.split, False
            elif key == "o":
                view.overlay = not view.overlay
            elif key == "h":
                view.help = not view.help
            elif key == "p":
                self._save_picture(shown)
            elif key == "r":
                self._toggle_recording()

    def record(self, path: Path) -> None:
        """Begins a recording. Raises UsageError, OutputError or DeviceError."""
        self._recorder = Recorder(path, self._like, self._config)
        self._recording_since = time.monotonic()
        self._recording_failed = False
        self._sinks.add(self._recorder)

    def _notice_failures(self) -> None:
        if self._recorder is not None and self._recorder not in self._sinks:  # they have named it and left it out
            self._recorder, self._recording_failed = None, True
        for error in self._pictures.failures() if self._pictures is not None else ():
            self._sinks.note(error)
            self._picture_failed = True

    def _save_picture(self, shown: Frame | None) -> None:
        if shown is None:
            return
        if self._pictures is None:
            self._pictures = Pictures(self._folder)
            self._sinks.add(self._pictures)
        self._picture_failed = False
        self._pictures.save(shown)

    def _toggle_recording(self) -> None:
        if self._recorder is not None:
            self._recording_failed = not self._sinks.finish(self._recorder)
            self._recorder = None
            return
        try:
            self.record(fresh_name(self._folder, ".mp4"))
        except VidunmaskError as error:  # the run goes on without
            log.warning("%s", error)
            self._recording_failed = True
