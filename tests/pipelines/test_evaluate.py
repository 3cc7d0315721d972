"""``vidunmask evaluate --clips`` on the sample whose face is bare, with tiny networks."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vidunmask.pipelines import cli

TRUTH = Path(__file__).resolve().parents[2] / "samples" / "astronaut_truth.mp4"


def evaluate(out, segmenter, *methods, clips=(TRUTH,), more=()):
    given = ["--clips", *clips, "--out", out, "--segmenter", segmenter, "--methods", *methods, "--seconds", 0.4, *more]
    return cli.main(["evaluate", *map(str, given), "--device", "cpu", "--quiet"])


def test_a_mask_that_nobody_sees_stays_where_it_is(weights, tmp_path):
    assert evaluate(tmp_path / "out", weights.nowhere, f"tiny={weights.inpainter}", "telea") == 0
    figures = json.loads((tmp_path / "out" / "clips.json").read_text())["clips"]["tiny"][TRUTH.name]
    assert figures["frames"] == 10
    assert figures["edited"] == 0
    assert figures["mask left"] == 1
    assert figures["psnr"] == pytest.approx(figures["psnr before"])


def test_every_frame_is_measured_and_shown_beside_the_truth(weights, tmp_path):
    out = tmp_path / "out"
    names = (f"one={weights.inpainter}", f"two={weights.inpainter}")
    assert evaluate(out, weights.everywhere, *names, more=("--kinds", "cloth")) == 0
    with (out / "frames.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert {row["mask"] for row in rows} == {"cloth"}
    table = json.loads((out / "clips.json").read_text())["clips"]
    assert table["one"] == table["two"]
    found = table["one"][TRUTH.name]
    assert found["edited"] == 1
    assert {"warp error", "flicker of the truth", "seam too much"} <= set(found)
    assert "| mean of clips |" in (out / "clips.md").read_text(encoding="utf-8")
    with Image.open(out / f"{TRUTH.stem}.png") as sheet:
        assert sheet.width == 4 * 256


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"methods": ("telea",)}, 2, "measured with networks"),
        ({"clips": ("nowhere.mp4",)}, 3, "nowhere.mp4"),
        ({"clips": (TRUTH, TRUTH)}, 2, "same name"),
        ({"more": ("--seconds", "-1")}, 2, "--seconds -1"),
        ({"methods": ("a.safetensors",)}, 6, "no such weights"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(weights, tmp_path, capsys, change, code, message):
    methods = change.pop("methods", (weights.inpainter,))
    assert evaluate(tmp_path / "out", weights.everywhere, *methods, **change) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_clip_without_a_face_is_left_out_with_a_warning(weights, tmp_path, capsys):
    from tests.video.clips import write_clip

    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(TRUTH, clips / "face.mp4")
    write_clip(clips / "empty.MTS", frames=5)
    (clips / "._face.mp4").write_bytes(b"what macOS leaves beside a file")
    (clips / "folder.mp4").mkdir()
    given = ["--clips", clips, "--out", tmp_path / "out", "--segmenter", weights.nowhere, "--methods", weights.inpainter]
    assert cli.main(["evaluate", *map(str, given), "--device", "cpu", "--seconds", "0.2"]) == 0
    assert "empty.MTS: no face found" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["face.png"]


def test_a_clip_that_cannot_be_read_is_named_before_the_others_are_measured(weights, tmp_path, capsys, monkeypatch):
    from vidunmask.pipelines import evaluate as program

    monkeypatch.setattr(program, "build", None)  # comes before all work
    (tmp_path / "broken.mp4").write_text("x")
    clips = (TRUTH, tmp_path / "broken.mp4")
    assert evaluate(tmp_path / "out", weights.nowhere, weights.inpainter, clips=clips) == 3
    assert "broken.mp4: not a video" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
