"""Real clips from phones, cameras and news, copied through: nothing but the codec's own loss may change."""

from pathlib import Path

import pytest

from tests.video.clips import other_packets
from vidunmask.flow import prefetch
from vidunmask.video.reader import VideoReader
from vidunmask.video.writer import VideoWriter

CLIPS = [
    "masked_videos/03_donning_rot90_audio.mp4",
    "masked_videos/09_car_valvemask_jumpcuts.mp4",
    "masked_videos/11_airport_news_audio.mp4",
    "masked_videos/12_walking_n95_audio.mp4",
    "clean_videos/c01_vfr_man_suit_audio.mp4",
]


@pytest.mark.parametrize("name", CLIPS)
def test_a_real_clip_keeps_times_sound_and_form(shared_dir: Path, tmp_path: Path, name: str) -> None:
    source, target = shared_dir / "data" / name, tmp_path / "out.mp4"
    times = []
    with VideoReader(source) as reader, VideoWriter(target, reader.info, preset="ultrafast", crf=35) as writer:
        for frame in prefetch(reader, 8):
            times.append(frame.pts)
            writer.write(frame)
    assert writer.warnings == []
    assert reader.warnings == []
    with VideoReader(target) as copy:
        assert [frame.pts for frame in copy] == times
    before, after = reader.info, copy.info
    assert before.time_base == after.time_base
    assert before.display_size == after.display_size
    assert before.display_matrix == after.display_matrix
    assert before.colour == after.colour
    assert before.average_rate == after.average_rate
    assert [str(stream) for stream in before.streams] == [str(stream) for stream in after.streams]
    assert other_packets(source) == other_packets(target)
