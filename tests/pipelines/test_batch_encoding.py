"""Options of the encoder that no file of a batch could be written with."""

import os

import av
import pytest

from vidunmask.errors import DeviceError, UsageError
from vidunmask.pipelines.batch.run import batch
from vidunmask.pipelines.batch.terms import BatchOptions
from vidunmask.pipelines.config import Config


@pytest.mark.parametrize(
    ("asked", "container", "said"),
    [
        ({"preset": "foo"}, None, "--preset foo: libx264 takes ultrafast"),
        ({"codec": "libx264", "preset": "12"}, None, "--preset 12: libx264 takes"),
        ({"codec": "aac"}, None, "--codec aac: is for audio"),
        ({"codec": "h264", "crf": 60}, None, "--crf 60: libx264 takes 0 to 51"),
        ({"pix_fmt": "nope"}, None, "--pix-fmt nope"),
        ({"codec": "h264"}, "webm", "--codec h264: a .webm file cannot hold it"),
        ({}, "xyz", "--container xyz: no such container"),
        ({}, "png", "--container png: is for pictures"),
    ],
)
def test_they_are_refused_before_the_folder_is_made(tmp_path, asked, container, said):
    (tmp_path / "talk.mp4").write_bytes(b"is not looked at")
    with pytest.raises(UsageError) as caught:
        batch([tmp_path / "talk.mp4"], tmp_path / "out", config=Config(**asked), options=BatchOptions(container=container))
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for_to_know_what_its_options_fit(tmp_path):
    os.mkfifo(tmp_path / "talk.mp4")
    report = batch([tmp_path / "talk.mp4"], tmp_path / "out", config=Config(crf=20))
    assert "is a pipe" in report.entries[0].message


def test_an_encoder_of_a_device_is_left_to_the_machines_of_a_cluster(tmp_path, monkeypatch):
    from vidunmask.pipelines.batch.encoding import check_encoding
    from vidunmask.video import encoders

    monkeypatch.setattr(encoders, "try_encoder", lambda plan, like: "no such device")
    config = Config(codec="h264_nvenc")
    check_encoding(config, BatchOptions(ray="auto"), [])
    with pytest.raises(DeviceError, match="h264_nvenc"):
        check_encoding(config, BatchOptions(), [])


def test_a_preset_that_no_video_has_is_refused_and_one_that_some_have_is_left_to_the_files(tmp_path, clip, weights):
    config = Config(device="cpu", segmenter=weights.nowhere, inpainter=weights.inpainter, preset="12")
    unread, av1 = tmp_path / "unread.mp4", tmp_path / "a.mkv"
    unread.write_bytes(b"no video")
    with av.open(str(av1), "w") as out:
        stream = out.add_stream("libsvtav1", rate=25)
        stream.width = stream.height = 64
        out.mux([*stream.encode(av.VideoFrame(64, 64, "yuv420p")), *stream.encode(None)])
    with pytest.raises(UsageError, match="--preset 12: libx264 takes ultrafast"):
        batch([unread, clip], tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()
    report = batch([unread, clip, av1], tmp_path / "out", config=config)
    assert [entry.status for entry in report.entries] == ["failed", "failed", "done"]
    assert report.entries[1].message.startswith(f"{clip}: --preset 12: libx264 takes")
