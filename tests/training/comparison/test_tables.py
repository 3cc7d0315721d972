"""All rows through one program on a made-up pack, and the tables made of them."""

import json
import re

import pytest
import torch
from PIL import Image

from vidunmask.errors import UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.training import ending, inpainter, methods, tables
from vidunmask.training.comparison import curves
from vidunmask.training.tables import NAMES, OURS

TRAINING = [
    "--batch",
    "2",
    "--precision",
    "float32",
    "--critic-width",
    "4",
    "--feature-scale",
    "0.25",
    "--evaluate-every",
    "1000",
]


@pytest.fixture(scope="session")
def pack(split_pack):
    """Eight faces to train on and four to measure on, which are only read."""
    return split_pack


def options(pack, run, vgg, network, *more):
    fixed = ["--pack", str(pack), "--run", str(run), "--vgg", str(vgg), "--preset", "tiny", "--network", network, *TRAINING]
    return [*fixed, *more]


@pytest.mark.parametrize("network", [name for name in methods.names() if name != OURS])
def test_a_resumed_run_of_a_rival_is_the_run_that_was_never_stopped(network, pack, vgg, tmp_path):
    extra = ("--adversarial-from", "2", "--size", "64")
    inpainter.main(options(pack, tmp_path / "whole", vgg, network, "--images", "4", *extra))
    inpainter.main(options(pack, tmp_path / "parts", vgg, network, "--images", "2", *extra))
    inpainter.main(options(pack, tmp_path / "parts", vgg, network, "--images", "4", *extra))
    whole, parts = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts"))
    assert ("critic_optimizer" in whole["parts"]) == (network != "rfr")
    for part in ("network", "average", "critics"):
        for name, tensor in whole["parts"][part].items():
            torch.testing.assert_close(parts["parts"][part][name], tensor, rtol=0, atol=0, msg=f"{part} {name}")


def test_a_rivals_weights_come_back_from_their_file_but_not_into_the_product(pack, vgg, tmp_path):
    file = tmp_path / "rn.safetensors"
    inpainter.main(options(pack, tmp_path / "run", vgg, "rn", "--images", "2", "--export", str(file)))
    card = weights.read_card(file)
    assert (card.kind, card.network) == ("baseline", "rn")
    assert card.provenance["losses"] == {"reconstruction": 1.0, "adversarial": 0.1}
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 30:50, 20:40] = 1
    assert methods.load(file)(image, mask).shape == image.shape
    with pytest.raises(WeightsError, match="is a network of kind baseline; give one of kind inpainter"):
        weights.load(file, kind="inpainter")
    inpainter.main(options(pack, tmp_path / "on", vgg, "rn", "--images", "2", "--start-from", str(file)))
    with pytest.raises(WeightsError, match="is a network of kind baseline"):
        inpainter.main(options(pack, tmp_path / "no", vgg, OURS, "--images", "2", "--start-from", str(file)))


@pytest.mark.parametrize(("network", "size"), [*((name, 64) for name in methods.names()), ("csa", 128)])  # which differs
def test_every_network_trains_on_smaller_pictures_too(network, size, pack, vgg, tmp_path):
    file = tmp_path / "weights.safetensors"
    more = ("--images", "2", "--size", str(size), "--export", str(file))
    inpainter.main(options(pack, tmp_path / "run", vgg, network, *more))
    assert weights.read_card(file).provenance["size"] == size
    image, mask = torch.rand(1, 3, size, size), torch.zeros(1, 1, size, size)
    mask[..., 30:50, 20:40] = 1
    assert methods.load(file)(image, mask).shape == image.shape


def test_networks_that_halve_down_to_one_place_halve_less_for_smaller_pictures():
    csa = methods.method("csa")
    lengths = {size: len(csa.arguments("compact", size=size)["widths"]) for size in (256, 128, 64)}
    assert lengths == {256: 7, 128: 6, 64: 5}


@pytest.mark.parametrize(
    ("network", "more", "message"),
    [
        ("rfr", ["--weight-adversarial", "0.1"], "--weight adversarial: this network has no such term; it has valid, hole"),
        ("rn", ["--weight", "style"], "--weight style: must be TERM=NUMBER"),
        ("rn", ["--without-csam"], "--without-csam: rn has no attention to leave out"),
        ("rn", ["--preset", "huge"], "--preset huge: rn has paper, compact, tiny"),
        ("rn", ["--size", "100"], "--size 100: must be one of 256, 128, 64"),
    ],
)
def test_options_that_do_not_fit_the_network_are_refused(network, more, message, pack, vgg, tmp_path):
    with pytest.raises(UsageError, match=re.escape(message)):
        inpainter.main(options(pack, tmp_path / "run", vgg, network, "--images", "2", *more))


@pytest.fixture(scope="session")
def made(pack, vgg, networks, alexnet_files, tmp_path_factory):
    """All tables at the smallest size."""
    out = tmp_path_factory.mktemp("tables")
    command = ["--pack", str(pack), "--out", str(out), "--budget", "4", "--preset", "tiny"]
    command += ["--lpips-weights", str(alexnet_files)]
    command += ["--segmenter", str(networks.segmenter), "--", *TRAINING, "--vgg", str(vgg)]
    assert tables.main(command) == 0
    return out, command


def test_the_three_tables_have_all_their_rows_beside_the_papers(made):
    out, _ = made
    text = (out / "tables.md").read_text(encoding="utf-8")
    assert [title for title in tables.TABLES if f"## {title}" in text] == list(tables.TABLES)
    first = text[text.index("## Table 1") : text.index("## Table 2")]
    for label, published in (("GatedConv", "0.9428 | 29.61 | 0.0096"), ("M-CSAM (ours)", "0.9511 | 30.39 | 0.0076")):
        line = next(line for line in first.splitlines() if line.startswith(f"| {label} |"))
        assert line.endswith(f"{published} |")
        assert "–" not in line.replace("– | " + published, published)  # ours has no distance from itself
    shipped = next(line for line in first.splitlines() if line.startswith("| M-CSAM, losses as shipped |"))
    assert shipped.endswith("| – | – | – |")  # the paper has no such row
    assert "4 images" in text


def test_tables_have_lpips_and_the_distance_from_ours(made):
    out, _ = made
    text = (out / "tables.md").read_text(encoding="utf-8")
    heads = next(line for line in text.splitlines() if line.startswith("| | parameters")).split(" | ")
    assert "lpips masked" in heads
    rows = json.loads((out / "tables.json").read_text())["rows"]
    mine, other = (rows[name][0]["figures"]["segmented"]["psnr masked"] for name in (OURS, "without_csam"))
    line = next(line for line in text[: text.index("# With true")].splitlines() if line.startswith("| without CSAM |"))
    assert line.split(" | ")[heads.index("from ours")].startswith(f"{other - mine:+.2f} ± ")


def test_every_row_has_a_sheet_and_there_are_curves(made):
    out, _ = made
    for name in NAMES:
        with Image.open(out / "runs" / f"{name}-0" / "sheet.png") as sheet:
            assert sheet.size[0] > 700
    with Image.open(out / "curves_psnr.png") as picture:
        assert picture.size == curves.SIZE
        assert len(picture.convert("P").getcolors()) > 7
    rows = json.loads((out / "tables.json").read_text())["rows"]
    for entries in rows.values():
        figures = entries[0]["figures"]["true"]
        assert figures["psnr"] > figures["psnr masked"]  # what is copied flatters the whole picture


def test_all_rows_are_measured_under_the_same_masks(made):
    out, _ = made
    rows = json.loads((out / "tables.json").read_text())["rows"]
    assert len({(entry["faces"], entry["images"]) for entries in rows.values() for entry in entries}) == 1


def test_rows_that_are_done_are_not_done_again(made, monkeypatch, capsys):
    command = made[1]
    monkeypatch.setattr(inpainter, "main", lambda arguments: pytest.fail("trained again"))
    assert tables.main(command) == 0
    assert "## Table 3" in capsys.readouterr().out


def test_another_budget_needs_another_folder(made):
    command = made[1]
    place = command.index("--budget") + 1
    command = [*command[:place], "8", *command[place + 1 :]]
    with pytest.raises(UsageError, match=r"--out .*: holds rows made with budget 4, now 8; take another folder"):
        tables.main(command)


def test_a_row_that_was_stopped_goes_on_later(pack, vgg, networks, tmp_path):
    command = ["--pack", str(pack), "--out", str(tmp_path), "--budget", "4", "--preset", "tiny", "--rows", "rn"]
    command += ["--segmenter", str(networks.segmenter), "--", *TRAINING, "--vgg", str(vgg)]
    short = inpainter.main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainter, "main", lambda arguments: short([*arguments, "--images", "2"]))
        assert tables.main(command) == ending.INTERRUPTED
    assert not (tmp_path / "runs" / "rn-0" / "row.json").exists()
    assert "| RN | – |" in (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert tables.main(command) == 0
    assert "resumed at 2 images" in (tmp_path / "runs" / "rn-0" / "log.txt").read_text()


def test_a_row_that_runs_away_says_so_and_the_others_go_on(pack, vgg, networks, tmp_path, capsys):
    command = ["--pack", str(pack), "--out", str(tmp_path), "--budget", "4", "--preset", "tiny", "--rows", "rfr", "rn"]
    command += ["--segmenter", str(networks.segmenter), "--", *TRAINING, "--vgg", str(vgg)]
    train = inpainter.main

    def diverging(arguments):
        if "rfr" in arguments:
            raise FloatingPointError("after 2 images 'l1' became nan")
        return train(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainter, "main", diverging)
        assert tables.main(command) == 0
    assert "RFR is out: after 2 images 'l1' became nan" in capsys.readouterr().out
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "RFR, seed 0: after 2 images 'l1' became nan" in text
    assert "| RFR | – |" in text
    assert "| RN | – |" not in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--", "--network", "rn"], "--network after --"),
        (["--budget", "0"], "--budget 0: must be 1 or more"),
        (["--turned", "1.5"], "--turned 1.5: must be between 0 and 1"),
    ],
)
def test_options_of_the_tables_that_cannot_work_are_refused(more, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        tables.main(["--pack", "p", "--out", str(tmp_path / "o"), "--budget", "4", *more])
    assert not (tmp_path / "o").exists()


def test_ticks_are_round_and_hold_the_values():
    assert curves.ticks([0.0, 1.0]) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert curves.ticks([23.1, 28.4])[0] <= 23.1
    assert curves.ticks([23.1, 28.4])[-1] >= 28.4
    assert len(curves.ticks([5.0, 5.0])) >= 2


def test_several_seeds_give_a_mean_and_its_spread():
    entries = [{"figures": {"true": {"psnr": value, "l1": value / 1000}}} for value in (24.0, 25.0, 26.0)]
    assert tables.cell(entries, "true", "psnr") == "25.00 ± 1.00"
    assert tables.cell(entries, "true", "l1") == "0.0250 ± 0.0010"
    assert tables.cell(entries[:1], "true", "psnr") == "24.00"
