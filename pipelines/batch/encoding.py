"""What can be found wrong with the options of the encoder before any work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vidunmask.errors import DeviceError, InputError, UsageError
from vidunmask.pipelines import checks
from vidunmask.pipelines.batch.terms import BatchOptions
from vidunmask.pipelines.config import Config


def check_encoding(config: Config, options: BatchOptions, files: Iterable[Path]) -> None:
    """Raises UsageError where no video could be written so, DeviceError where the encoder's device is missing here.

    Without ``--codec`` a video of ``files`` decides that: they are looked into until there is one that the options fit. Whether
    they fit each single one is found out when it is its turn.
    """
    if options.container is None and (config.codec, config.crf, config.preset, config.pix_fmt) == (None,) * 4:
        return
    import av
    import numpy as np

    from vidunmask.video.encoders import plan_encoder
    from vidunmask.video.info import Colour, HdrMetadata, VideoInfo
    from vidunmask.video.writer import container_of

    supported = set(av.codecs_available)
    if options.container is not None:
        name = Path(f"--container {options.container}.{options.container}")
        if checks.is_picture(name):
            raise UsageError(f"--container {options.container}: is for pictures; give mp4, mkv, mov or webm")
        try:
            _, supported = container_of(name)
        except UsageError as error:
            raise UsageError(f"--container {options.container}: no such container; give mp4, mkv, mov or webm") from error
    ordinary = VideoInfo(
        path="", container="", stream_index=0, codec="h264", size=(480, 640), display_size=(480, 640),
        native_to_display=np.eye(2, 3), display_matrix=None, sample_aspect=None, pix_fmt=config.pix_fmt or "yuv420p",
        colour=Colour(), hdr=HdrMetadata(None, None), time_base=Fraction(1, 25), average_rate=Fraction(25), frames=None,
        duration=None, bit_rate=None, field_order=0,
    )  # fmt: skip
    refusals = []
    for codec in ("h264",) if config.codec else _codecs(files):
        like = replace(ordinary, codec=codec)
        try:
            plan_encoder(
                like,
                supported,
                options.container or "video",
                codec=config.codec,
                crf=config.crf,
                preset=config.preset,
                pix_fmt=config.pix_fmt,
            )
        except UsageError as error:
            refusals.append(error)
        except DeviceError:
            if options.ray is None:  # the machines of a cluster may have what this one has not
                raise
            return
        else:
            return
    raise refusals[0]


def _codecs(files: Iterable[Path]) -> Iterator[str]:
    """The codecs of the videos among ``files``, each once, read one by one; usual ones where no file tells."""
    from vidunmask.video.reader import open_input

    found: set[str] = set()
    for path in files:
        if checks.is_picture(path):
            continue
        with contextlib.suppress(InputError):
            checks.readable(path)  # of a pipe one would wait for ever
            with open_input(path) as container:
                contexts = [stream.codec_context for stream in container.streams.video]
                codecs = {context.codec.canonical_name for context in contexts if context is not None}
            yield from sorted(codecs - found)
            found |= codecs
    if not found:
        yield from ("h264", "hevc", "av1", "vp9")
