"""What `vidunmask live` makes of its arguments before anything is opened."""

import pytest

from vidunmask.errors import UsageError
from vidunmask.pipelines import cli
from vidunmask.pipelines.commands.live import parser


def test_the_first_virtual_camera_is_asked_for_by_none_or_by_auto_and_not_by_an_empty_name():
    flag = "--virtual-camera"
    assert [parser().parse_args(given).virtual_camera for given in ([], [flag], [flag, "x"])] == [None, "auto", "x"]
    with pytest.raises(UsageError, match="--virtual-camera is empty: give a device, or auto"):
        parser().parse_args(["--virtual-camera", ""])


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (["live.m3u8"], "--stream live.m3u8: exists already; add --overwrite to replace it"),
        (["live7.ts", "live12.ts"], "--stream live.m3u8: its part live12.ts: exists already; add --overwrite to replace it"),
    ],
)
def test_a_playlist_and_its_parts_are_replaced_only_where_that_is_asked_for(tmp_path, monkeypatch, capsys, there, said):
    monkeypatch.chdir(tmp_path)
    for name in ("talk.mp4", "live.ts", "alive7.ts", *there):
        (tmp_path / name).write_text("precious")
    arguments = ["live", "--no-window", "--source", "talk.mp4", "--stream", "live.m3u8"]
    assert cli.main(arguments) == 4
    assert capsys.readouterr().err == f"vidunmask: {said}\n"
    assert cli.main([*arguments, "--overwrite"]) == 3  # talk.mp4 is no video
    for name in there:
        (tmp_path / name).unlink()
    assert cli.main(arguments) == 3


@pytest.mark.parametrize("flag", ["--source", "--record", "--stats"])
def test_no_other_file_is_named_like_a_part_of_the_playlist(capsys, flag):
    source = [] if flag == "--source" else ["--source", "talk.mp4"]
    arguments = ["live", "--no-window", *source, "--stream", "live.m3u8", flag, "live3.ts"]
    assert cli.main(arguments) == 2
    assert f"its parts would replace live3.ts of {flag}" in capsys.readouterr().err


def test_a_playlist_needs_its_folder(capsys):
    assert cli.main(["live", "--no-window", "--source", "talk.mp4", "--stream", "nowhere/live.m3u8"]) == 4
    assert "--stream nowhere/live.m3u8: name a file in a folder that exists" in capsys.readouterr().err
