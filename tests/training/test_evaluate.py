"""The evaluation of faces from its options to its files."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vidunmask.errors import InputError, OutputError, UsageError, WeightsError
from vidunmask.pipelines import cli
from vidunmask.training import evaluate


@pytest.fixture(scope="module")
def measure(faces_pack, networks, tmp_path_factory):
    """Runs the evaluation with tiny networks and returns the folder of its results."""

    def run(*arguments, out=None):
        out = out or tmp_path_factory.mktemp("out") / "figures"
        shown = ["--pack", str(faces_pack), "--out", str(out), "--segmenter", str(networks.segmenter), "--identities", "0"]
        methods = ["--methods", f"vidunmask={networks.inpainter}", "telea", "mean-colour"]
        evaluate.main([*shown, *methods, *map(str, arguments)])
        return out

    return run


@pytest.fixture(scope="module")
def figures(measure, alexnet_files):
    return measure("--lpips-weights", alexnet_files)


def read(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_every_method_is_measured_with_the_mask_found_and_the_true_one(figures):
    table = read(figures)["inpainting"]
    assert set(table) == {f"{m}, {s} mask" for m in ("vidunmask", "Telea", "mean colour") for s in ("segmented", "true")}
    for name, row in table.items():
        assert 0 < row["ssim"] <= 1
        assert row["lpips"] >= 0
        assert row["frechet alexnet"] >= 0
        assert "fid" not in row
        if "true" in name:
            assert row["psnr"] > row["psnr masked"]  # what is copied flatters the whole picture


def test_the_protocol_and_its_conditions_stand_in_every_output(figures):
    conditions = read(figures)["conditions"]
    assert (conditions["protocol"], conditions["camera"], conditions["occlusion"]) == ("paper", 0.0, 0.0)
    text = (figures / "evaluation.md").read_text(encoding="utf-8")
    assert "Protocol `paper`: as in §4" in text
    assert "| Telea, true mask |" in text
    assert "| surgical |" in text
    assert "FID" not in text.upper().replace("CONFIDENCE", "")


def test_figures_are_the_means_of_the_faces_in_the_csv(figures):
    with (figures / "faces.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "Telea" and row["mask"] == "true mask"]
    assert len(rows) == 20
    for metric in ("ssim", "psnr masked", "lpips masked"):
        mean = np.mean([float(row[metric]) for row in rows])
        assert read(figures)["inpainting"]["Telea, true mask"][metric] == pytest.approx(mean, abs=1e-4)
    assert {row["yaw"] for row in rows} == {"under 15°", "30° to 60°"}
    assert {row["type"] for row in rows} <= {"surgical", "cloth", "n95", "kn95", "scarf"}


def test_groups_cover_every_face_once(figures):
    for grouping, found in read(figures)["groups"].items():
        assert sum(row["Telea"]["faces"] for row in found.values()) == 20, grouping
    assert {"A", "B"} == set(read(figures)["groups"]["tier"])
    assert read(figures)["groups"]["tone"]["no colour"]["Telea"]["faces"] == 1


def test_segmentation_is_measured_at_three_cameras(figures):
    segmentation = read(figures)["segmentation"]
    assert list(segmentation) == ["camera 0", "camera 0.3", "camera 1"]
    for row in segmentation.values():
        assert {"iou", "iou, median", "iou, 10th percentile", "iou of the body", "calibration error"} <= set(row)
        assert 0 <= row["false area of bare faces"] <= 1


def test_sheets_show_input_truth_and_each_method(figures):
    with Image.open(figures / "sheet.png") as sheet:
        assert sheet.width == 2 * 5 * 160 + 8
    for name in ("best.png", "worst.png"):
        with Image.open(figures / name) as picture:
            assert picture.size[0] == 5 * 224
    with Image.open(figures / "reliability.png") as plot:
        assert np.asarray(plot).std() > 5


def test_one_seed_gives_the_same_figures_and_another_seed_others(measure):
    first, again, other = (read(measure("--limit", 6, "--seed", seed))["inpainting"] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_heads_can_be_turned_aside_and_are_grouped_by_where_they_look_then(measure):
    out = measure("--limit", 6, "--turned", 1)
    assert read(out)["conditions"]["of them turned aside"] == "100%"
    with (out / "faces.csv").open(encoding="utf-8") as file:
        turned = {row["photo"]: float(row["yaw degrees"]) for row in csv.DictReader(file)}
    with (measure("--limit", 6) / "faces.csv").open(encoding="utf-8") as file:
        straight = {row["photo"]: float(row["yaw degrees"]) for row in csv.DictReader(file)}
    assert all(abs(yaw) > abs(straight[photo]) for photo, yaw in turned.items())
    assert max(map(abs, turned.values())) > 45
    with (out / "segmentation.csv").open(encoding="utf-8") as file:
        assert "over 60°" in {row["yaw"] for row in csv.DictReader(file)}


def test_a_face_wears_the_same_mask_whatever_methods_are_compared(faces_pack, networks, measure, tmp_path):
    alone = tmp_path / "alone"
    arguments = ["--pack", faces_pack, "--out", alone, "--segmenter", networks.segmenter, "--identities", 0, "--limit", 6]
    evaluate.main([str(part) for part in [*arguments, "--methods", "telea"]])
    together = read(measure("--limit", 6))["inpainting"]
    assert read(alone)["inpainting"]["Telea, true mask"] == together["Telea, true mask"]


def test_the_hard_protocol_is_harder_to_see_through_and_says_so(measure):
    conditions = read(measure("--limit", 4, "--protocol", "hard"))["conditions"]
    assert (conditions["protocol"], conditions["camera"], conditions["occlusion"]) == ("hard", 1.0, 1.0)
    changed = read(measure("--limit", 4, "--protocol", "hard", "--camera", 0.5))["conditions"]
    assert (changed["protocol"], changed["camera"]) == ("hard, changed", 0.5)


def test_masks_of_another_synthesis_are_named_by_their_pictures(measure, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rgba = np.zeros((60, 90, 4), np.uint8)
    rgba[10:50, 10:80] = (60, 120, 200, 255)
    Image.fromarray(rgba).save(folder / "blue_surgical.png")
    out = measure("--limit", 4, "--held-out-templates", folder)
    assert set(read(out)["groups"]["type"]) == {"surgical"}
    assert "laid on flat as in §4.1" in (out / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--limit", "1"], UsageError, "--limit 1"),
        (["--camera", "2"], UsageError, "--camera 2.0"),
        (["--identities", "-1"], UsageError, "--identities -1"),
        (["--turned", "1.5"], UsageError, "--turned 1.5: must lie from 0 to 1"),
        (["--templates", "a", "--held-out-templates", "b"], UsageError, "exclude each other"),
        (["--methods", "nowhere.safetensors"], WeightsError, "no such weights"),
        (["--methods", "telea", "telea"], UsageError, "more than one"),
        (["--lpips-weights", "nowhere"], WeightsError, "--lpips-weights nowhere"),
        (["--fid-weights", "nowhere.pth"], WeightsError, "nowhere.pth"),
        (["--held-out-templates", "nowhere"], InputError, "--held-out-templates nowhere"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(measure, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        measure(*arguments, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_is_not_replaced_unasked(measure, figures, tmp_path):
    before = (figures / "evaluation.json").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        measure("--limit", 4, out=figures)
    assert (figures / "evaluation.json").read_bytes() == before
    with pytest.raises(OutputError, match="no folder"):
        measure("--limit", 4, out=tmp_path / "a" / "b")


def test_without_weights_for_lpips_the_rest_is_measured_with_a_warning(measure, monkeypatch, caplog):
    from vidunmask.training.evaluation import perceptual

    monkeypatch.setattr(perceptual, "_candidates", lambda given: [])
    table = read(measure("--limit", 4))["inpainting"]
    assert "lpips" not in table["Telea, true mask"]
    assert "--lpips-weights" in caplog.text


def test_the_command_and_the_module_are_the_same_thing(faces_pack, networks, measure, tmp_path, capsys):
    arguments = ["--pack", faces_pack, "--out", tmp_path / "out", "--segmenter", networks.segmenter, "--limit", 4]
    arguments += ["--identities", 0, "--device", "cpu", "--methods", f"vidunmask={networks.inpainter}", "telea", "mean-colour"]
    assert cli.main(["evaluate", *map(str, arguments), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert read(tmp_path / "out")["inpainting"] == read(measure("--limit", 4))["inpainting"]


def test_the_command_wants_faces_or_clips(capsys, tmp_path):
    assert cli.main(["evaluate", "--out", str(tmp_path / "out")]) == 2
    assert "--pack PACK or --clips PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--clips", "a.mp4", "--lpips-weights", "b.pth"], "--lpips-weights: has no meaning with --clips"),
        (["--clips", "a.mp4", "--limit", "5"], "--limit: has no meaning with --clips"),
        (["--pack", "pack", "--seconds", "5"], "--seconds: has no meaning with --pack"),
        (["--pack", "pack", "--no-temporal"], "--no-temporal: has no meaning with --pack"),
    ],
)
def test_options_of_what_is_not_measured_are_refused(given, message, capsys, tmp_path):
    assert cli.main(["evaluate", *given, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_the_options_are_known_without_heavy_imports():
    code = (
        "import sys, argparse; from vidunmask.training import evaluate; p = argparse.ArgumentParser();"
        "evaluate.add_common(p); evaluate.add_faces(p); print({'torch', 'cv2', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
