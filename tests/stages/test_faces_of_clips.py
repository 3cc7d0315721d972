"""Detect, track and crop on real clips; skipped where they are absent."""

from itertools import islice

import numpy as np
import pytest

from vidunmask import detectors
from vidunmask.stages.crop import crop
from vidunmask.stages.cuts import THUMBNAIL_SIDE, CutDetector
from vidunmask.stages.detect import detect
from vidunmask.stages.track import Tracker, track
from vidunmask.video import pixels
from vidunmask.video.reader import VideoReader


def crops_of(path, count: int):
    with VideoReader(path) as reader:
        return list(crop(track(detect(islice(reader, count), detectors.create("yunet")), Tracker())))


@pytest.mark.parametrize("clip", ["08_1080p_frontal.mp4", "03_donning_rot90_audio.mp4", "12_walking_n95_audio.mp4"])
def test_the_person_is_found_in_every_frame_under_one_identity(shared_dir, clip) -> None:
    crops = crops_of(shared_dir / "data" / "masked_videos" / clip, 24)
    assert len(crops) == 24
    assert all(0 in [face.track_id for face in c.faces] for c in crops)
    assert sum(face.reset for c in crops for face in c.faces if face.track_id == 0) == 1


def test_the_crop_of_a_still_person_does_not_tremble(shared_dir) -> None:
    crops = crops_of(shared_dir / "data" / "masked_videos" / "08_1080p_frontal.mp4", 24)
    matrices = np.array([c.faces[0].frame_to_crop for c in crops])
    assert np.abs(np.diff(matrices[:, :, :2], 2, axis=0)).max() < 0.01


def test_the_cuts_of_a_news_clip_are_found_and_nothing_else(shared_dir) -> None:
    cuts = CutDetector()
    with VideoReader(shared_dir / "data" / "masked_videos" / "11_airport_news_audio.mp4") as reader:
        found = [frame.index for frame in reader if cuts.step(pixels.small_rgb(frame, THUMBNAIL_SIDE)[0])]
    assert found == [101, 321, 456]
