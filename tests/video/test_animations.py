"""GIF and APNG written to themselves."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.clips import copy_clip, picture, write_clip
from vidunmask.types import Frame
from vidunmask.video import pixels
from vidunmask.video.animations import palettised
from vidunmask.video.reader import VideoReader


def _animation(path: Path, *, loop: int | None, colours: int = 200, alpha: bool = False) -> Path:
    frames = []
    for index in range(5):
        image = Image.fromarray(picture(48, 64, shift=5 * index)).quantize(colours)
        if alpha or path.suffix == ".apng":
            image = image.convert("RGBA")
            holes = np.full((48, 64), 255, np.uint8)
            holes[:10, : 10 + 4 * index] = 0
            image.putalpha(Image.fromarray(holes))
        frames.append(image)
    kind = {".gif": "GIF", ".apng": "PNG"}[path.suffix]
    with path.open("wb") as file:
        options = {} if loop is None else {"loop": loop}
        frames[0].save(
            file, kind, save_all=True, append_images=frames[1:], duration=[80, 40, 200, 40, 120], disposal=2, **options
        )
    return path


def _frames(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    with VideoReader(path) as reader:
        frames = [(frame.time, frame.native.to_ndarray(format="rgba").astype(int)) for frame in reader]
    for _, image in frames:
        image[image[..., 3] == 0] = 0  # the colour of what is not seen
    return frames


def _pauses(path: Path) -> list[float]:
    """How long each frame is shown, the last one too, in milliseconds."""
    with Image.open(path) as image:
        pauses = []
        for index in range(5):
            image.seek(index)
            pauses.append(image.info["duration"])
        return pauses


@pytest.mark.parametrize("suffix", [".gif", ".apng"])
@pytest.mark.parametrize("alpha", [False, True])
def test_frames_times_and_transparency_are_kept(tmp_path: Path, suffix: str, alpha: bool) -> None:
    source = _animation(tmp_path / f"in{suffix}", loop=0, alpha=alpha)
    _, writer = copy_clip(source, tmp_path / f"out{suffix}")
    assert writer.warnings == []
    assert _pauses(tmp_path / f"out{suffix}") == _pauses(source) == [80, 40, 200, 40, 120]
    for (time, before), (same_time, after) in zip(_frames(source), _frames(tmp_path / f"out{suffix}"), strict=True):
        assert time == same_time
        np.testing.assert_array_equal(before, after)


def test_an_edit_of_a_gif_is_seen(tmp_path: Path) -> None:
    def edit(frame: Frame) -> Frame:
        frame = pixels.editable(frame)
        frame_to_crop = np.array([[1.0, 0, -8], [0, 1.0, -8]])
        pixels.paste_crop(frame, np.full((32, 32, 3), 90, np.uint8), np.ones((32, 32), np.float32), frame_to_crop)
        return frame

    source = _animation(tmp_path / "in.gif", loop=0)
    copy_clip(source, tmp_path / "out.gif", edit)
    for _, image in _frames(tmp_path / "out.gif"):
        assert np.abs(image[12:36, 12:36, :3] - 90).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "loop"), [(".gif", None), (".gif", 0), (".gif", 3), (".apng", 0), (".apng", 1), (".apng", 4)]
)
def test_it_is_played_as_often(tmp_path: Path, suffix: str, loop: int | None) -> None:
    source = _animation(tmp_path / f"in{suffix}", loop=loop)
    copy_clip(source, tmp_path / f"out{suffix}")
    found = []
    for name in ("in", "out"):
        with Image.open(tmp_path / f"{name}{suffix}") as image:
            found.append(image.info.get("loop"))
    assert found == [loop, loop]


def test_a_film_as_gif_has_colours_and_says_what_it_loses(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=3)
    _, writer = copy_clip(source, tmp_path / "out.gif")
    assert any("256 colours" in warning for warning in writer.warnings)
    with av.open(str(tmp_path / "out.gif")) as written:
        first = next(written.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert np.abs(first - picture(48, 64)).mean() < 8


def test_a_frame_that_has_no_time_yet_gets_its_palette_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    made = palettised(av.VideoFrame.from_ndarray(picture(48, 64), "rgb24"))
    assert made.format.name == "pal8"
    assert not recwarn.list
