"""Files that a command reads are never written, and those that are there already only where that is asked for."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.video.clips import picture
from vidunmask.errors import OutputError
from vidunmask.pipelines import checks, cli


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder with a source, a symbolic and a hard link to it, and an old file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.mp4").write_bytes(b"precious")
    (tmp_path / "link.mp4").symlink_to("talk.mp4")
    os.link("talk.mp4", "hard.mp4")
    (tmp_path / "old.txt").write_text("precious")
    (tmp_path / "w.safetensors").write_text("precious")
    yield
    assert all((tmp_path / name).read_bytes() == b"precious" for name in ("talk.mp4", "link.mp4", "hard.mp4", "old.txt"))
    assert (tmp_path / "link.mp4").is_symlink()
    assert (tmp_path / "w.safetensors").read_text() == "precious"


def refused(arguments, capsys, *, code=2):
    """The one line with which a command is refused as wrongly called."""
    assert cli.main(arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("name", ["talk.mp4", "./talk.mp4", "link.mp4", "hard.mp4"])
@pytest.mark.parametrize("source", ["talk.mp4", "file://talk.mp4", "link.mp4"])
@pytest.mark.parametrize("flag", ["--record", "--stats"])
def test_live_mode_never_writes_its_source(source, flag, name, capsys):
    said = refused(["live", "--no-window", "--source", source, flag, name, "--overwrite"], capsys)
    assert said.startswith(f"vidunmask: {flag} {name.removeprefix('./')}: is the file of --source as well")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--record", "a.mkv", "--stats", "a.mkv"], "--stats a.mkv: is the file of --record as well"),
        (
            ["--record", "link.mp4", "--stats", "hard.mp4", "--source", "udp://x"],
            "--stats hard.mp4: is the file of --record",
        ),
        (["--stream", "a.m3u8", "--stats", "a.m3u8"], "--stream a.m3u8: is the file of --stats as well"),
        (["--stats", "w.safetensors", "--segmenter", "w.safetensors"], "--stats w.safetensors: is the file of --segmenter"),
    ],
)
def test_live_mode_writes_no_file_twice_and_no_weights(arguments, said, capsys):
    assert said in refused(["live", "--no-window", "--source", "talk.mp4", "--overwrite", *arguments], capsys)


def test_a_source_that_is_named_like_a_part_of_the_playlist_is_not_replaced(tmp_path, capsys):
    (tmp_path / "cam0.ts").write_text("precious")
    said = refused(["live", "--no-window", "--source", "cam0.ts", "--stream", "cam.m3u8"], capsys)
    assert "cam0.ts" in said
    assert (tmp_path / "cam0.ts").read_text() == "precious"


def test_figures_of_a_live_run_replace_a_file_only_where_that_is_asked_for(tmp_path, capsys):
    from vidunmask.pipelines.live.pace import Stats

    said = refused(["live", "--no-window", "--source", "talk.mp4", "--stats", "old.txt"], capsys, code=4)
    assert said == "vidunmask: --stats old.txt: exists already; add --overwrite to replace it\n"
    with pytest.raises(OutputError, match="--overwrite"):  # it may appear while the networks are loaded
        Stats.open(tmp_path / "old.txt", 1.0)
    (tmp_path / "s.csv").write_text("of yesterday")
    with Stats.open(tmp_path / "s.csv", 1.0, overwrite=True):
        pass
    assert (tmp_path / "s.csv").read_text() == Stats.COLUMNS + "\n"


def test_figures_of_a_live_run_end_with_those_of_its_last_seconds(tmp_path):
    from vidunmask.pipelines.live.pace import Stats

    with Stats.open(tmp_path / "s.csv", 10.0) as stats:
        stats.start(100.0)
        for second in range(1, 14):
            stats.add(40.0)
            stats.write_when_due(100.0 + second, captured=2 * second, level=0, faces=1)
    lines = [line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    assert [line[:4] for line in lines] == [["10.0", "20", "10", "1.00"], ["13.0", "26", "13", "1.00"]]


def test_a_report_that_cannot_be_written_is_noticed_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != Path("closed"))  # root may write everywhere
    (tmp_path / "closed").mkdir()
    said = refused(["talk.mp4", "out.mp4", "--report", "closed/r.json"], capsys, code=4)
    assert said == "vidunmask: --report closed/r.json: no permission to write there\n"


@pytest.mark.parametrize("name", ["talk.mp4", "link.mp4", "hard.mp4", "out.mp4", "w.safetensors"])
def test_a_report_is_never_written_over_what_the_run_reads_or_makes(name, capsys):
    command = ["talk.mp4", "out.mp4", "--report", name, "--overwrite", "--segmenter", "w.safetensors"]
    assert refused(command, capsys).startswith(f"vidunmask: --report {name}: is an ")


@pytest.mark.parametrize("name", ["in/a.png", "out/a.png", "hard.png"])
def test_a_report_is_never_written_over_a_picture_of_a_folder(name, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("precious")
    os.link("in/a.png", "hard.png")
    assert f"--report {name}" in refused(["in", "out", "--report", name, "--overwrite"], capsys)
    assert (tmp_path / "in" / "a.png").read_text() == "precious"


def test_a_report_replaces_a_file_only_where_that_is_asked_for(tmp_path, weights, capsys):
    Image.fromarray(picture(64, 64)).save(tmp_path / "in.png")
    command = ["in.png", "out.png", "--quiet", "--device", "cpu", "--segmenter", weights.everywhere]
    command = [str(part) for part in [*command, "--inpainter", weights.inpainter, "--report"]]
    assert "--report old.txt: exists already; add --overwrite" in refused([*command, "old.txt"], capsys, code=4)
    assert not (tmp_path / "out.png").exists()
    assert cli.main([*command, "r.json"]) == 0
    (tmp_path / "r.json").write_text("of yesterday")
    assert cli.main([*command, "r.json", "--overwrite"]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["frames"] == 1
    assert cli.main([*command, "/dev/null", "--overwrite"]) == 0


def test_a_device_is_written_to_as_it_is():
    with checks.open_new("--stats", Path("/dev/null"), overwrite=False) as file:
        file.write("figures")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", "out.mp4"], "INPUT is empty: give a file name"),
        (["talk.mp4", ""], "OUTPUT is empty: give a file name"),
        (["talk.mp4", "out.mp4", "--report", ""], "--report is empty: give a file name"),
        (["talk.mp4", "out.mp4", "--inpainter", " "], "--inpainter is empty: give a file or a shipped name"),
        (["live", "--source", ""], "--source is empty: give a camera, a URL or a file"),
        (["live", "--record", ""], "--record is empty: give a file name"),
        (["live", "--stats", ""], "--stats is empty: give a file name"),
        (["live", "--folder", ""], "--folder is empty: give a folder"),
        (["live", "--stream", ""], "--stream is empty: give a URL or a FILE.m3u8"),
        (["batch", "", "--out", "x"], "INPUTS is empty: give a file name"),
        (["batch", "talk.mp4", "--out", ""], "--out is empty: give a folder"),
        (["batch", "--list", "", "--out", "x"], "--list is empty: give a file name"),
        (["batch", "a", "--out", "x", "--container", ""], "--container is empty: give an extension such as mkv"),
        (["dump", "", "x"], "INPUT is empty: give a file name"),
        (["dump", "talk.mp4", ""], "DIR is empty: give a folder"),
        (["redo", "", "--frame", "1"], "DIR is empty: give a folder"),
        (["evaluate", "--pack", "p", "--out", ""], "--out is empty: give a name"),
        (["make-masked-faces", "", "x"], "PHOTOS is empty: give a folder"),
        (["make-masked-faces", "x", ""], "FOLDER is empty: give a folder"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(arguments, said, capsys):
    assert refused(arguments, capsys) == f"vidunmask: {said}\n"


@pytest.mark.parametrize("kind", ["HEIC", "JPEG 2000", "PPM", "TGA", "MPO"])
@pytest.mark.parametrize("command", [["{}", "out.jpg"], ["{}", "out.mp4"], ["{}", "{}"], ["dump", "{}", "dumped"]])
def test_a_picture_that_cannot_be_read_is_called_one(kind, command, tmp_path, capsys):
    name = {"HEIC": "x.HEIC", "JPEG 2000": "x.jp2", "PPM": "x.ppm", "TGA": "x.tga", "MPO": "x.mpo"}[kind]
    (tmp_path / name).write_bytes(b"x")
    said = refused([part.format(name) for part in command], capsys, code=3)
    assert said == f"vidunmask: {name}: {kind} pictures cannot be read; convert it to JPEG or PNG first\n"


def test_pictures_of_a_folder_that_cannot_be_read_are_named_apart_from_other_files(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.heic", "b.heic", "c.tga"):
        (tmp_path / "in" / name).write_bytes(b"x")
    line = "a.heic and 2 more: HEIC and TGA pictures cannot be read; convert them to JPEG or PNG first"
    assert list(checks.left_alone([tmp_path / "notes.txt", *sorted((tmp_path / "in").iterdir())], what="no picture")) == [
        "notes.txt: no picture, left alone",
        line,
    ]
    for command in (["in", "out"], ["batch", "in", "--out", "out"]):
        said = refused(command, capsys, code=3)
        assert said.startswith("vidunmask: in: holds no ")
        assert said.endswith(f"; {line}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize(
    ("command", "code"),
    [(["pipe.mp4", "out.mp4"], 3), (["dump", "pipe.mp4", "out"], 3), (["batch", "pipe.mp4", "--out", "out"], 7)],
)
def test_a_pipe_is_refused_instead_of_waited_for(command, code, capsys):
    os.mkfifo("pipe.mp4")
    assert "pipe.mp4: is a pipe or a device" in refused([*command, "--quiet"], capsys, code=code)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["{}.mp4", "out.mp4"], 3),
        (["talk.mp4", "{}.mp4"], 4),
        (["talk.mp4", "out.mp4", "--report", "{}"], 4),
        (["dump", "{}.mp4", "out"], 3),
        (["dump", "talk.mp4", "{}"], 4),
        (["redo", "{}", "--frame", "1"], 3),
        (["batch", "{}.mp4", "--out", "out"], 3),
        (["batch", "talk.mp4", "--out", "{}"], 4),
    ],
)
def test_a_name_that_is_too_long_is_an_error_of_what_it_names(command, code, capsys):
    said = refused([word.format("x" * 300) for word in command], capsys, code=code)
    assert "x" * 300 in said
    assert "(File name too long)" in said


def test_a_name_that_begins_with_a_dash_is_a_name_after_a_double_dash(capsys):
    assert refused(["batch", "--out", "out", "--", "-x.mp4"], capsys, code=3) == "vidunmask: -x.mp4: no such file or folder\n"
