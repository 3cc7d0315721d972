"""A race on a made-up pack: variants are chosen, trained alike, measured on the same faces, and compared."""

import csv
import json
import re
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from vidunmask.errors import InputError, UsageError
from vidunmask.networks import weights
from vidunmask.networks.looks import SecondLook
from vidunmask.training import ending, inpainter, race
from vidunmask.training.comparison import contest, standings
from vidunmask.training.comparison.scores import score
from vidunmask.training.comparison.variants import BUILT_IN
from vidunmask.training.evaluation.fills import Judges
from vidunmask.training.evaluation.protocols import Masks
from vidunmask.training.pack import STILL, Jitter, open_pack

TRAINING = ["--batch", "2", "--precision", "float32", "--critic-width", "4", "--feature-scale", "0.25"]
VARIANTS = ["baseline", "baseline+mirrored", "no-jitter", "deep=--set modules=2"]


def command(pack, out, vgg, networks, *more, budget=("--budget", "4"), variants=VARIANTS):
    own = ["--pack", str(pack), "--out", str(out), *budget, "--preset", "tiny", "--size", "128", "--variants", *variants]
    return [*own, "--segmenter", str(networks.segmenter), *more, "--", *TRAINING, "--vgg", str(vgg)]


@pytest.fixture(scope="module")
def made(split_pack, vgg, networks, alexnet_files, tmp_path_factory):
    """A race that was run to its end, and its command."""
    out = tmp_path_factory.mktemp("race") / "out"
    arguments = command(split_pack, out, vgg, networks, "--lpips-weights", str(alexnet_files))
    assert race.main(arguments) == 0
    return out, arguments


def test_every_variant_stands_beside_the_first_one(made):
    out, _ = made
    text = (out / "race.md").read_text(encoding="utf-8")
    first, second = text.split("## With true masks")
    for part in (first, second):
        for label in ("baseline", "baseline+mirrored", "no-jitter", "deep"):
            line = next(line for line in part.splitlines()[::-1] if line.startswith(f"| {label} |"))
            assert "–" not in line
            assert ("±" in line) == (label != "baseline")
        assert "lpips masked -" in part
    assert "128 x 128 pixels, 4 images, seed 0" in text
    assert "| deep | `--set modules=2` |" in text
    rows = json.loads((out / "race.json").read_text())["rows"]
    assert {entries[0]["images"] for entries in rows.values()} == {4}
    assert rows["deep"][0]["parameters"] < rows["baseline"][0]["parameters"]  # tiny has three modules
    assert rows["baseline+mirrored"][0]["minutes"] == rows["baseline"][0]["minutes"]
    assert rows["baseline+mirrored"][0]["values"] != rows["baseline"][0]["values"]


def test_a_race_has_a_line_a_face_and_a_sheet_of_all(made):
    out, _ = made
    with (out / "faces.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2 * 4  # variants, sources of the mask, faces of val
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 6 * 192
    assert (out / "curves_psnr_masked.png").exists()


def test_what_is_done_is_not_done_again_and_variants_can_be_added(made, monkeypatch, capsys):
    _, arguments = made
    monkeypatch.setattr(inpainter, "main", lambda arguments: pytest.fail("trained again"))
    place = arguments.index("deep=--set modules=2")
    assert race.main([*arguments[:place], "no-jitter+mirrored", *arguments[place:]]) == 0
    assert "| no-jitter+mirrored |" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"--variants deep: stands in .* with \['--set', 'modules=2'\]; take another name"):
        race.main([*arguments[:place], "deep=--set modules=1", *arguments[place + 1 :]])
    with pytest.raises(UsageError, match="holds rows made with budget 4, now 8"):
        race.main(["8" if part == "4" else part for part in arguments])
    place = arguments.index("--lpips-weights")
    with pytest.raises(UsageError, match="holds rows made with lpips "):  # figures that cannot be compared
        race.main([*arguments[:place], *arguments[place + 2 :]])


def test_a_race_that_was_stopped_goes_on_later(pack, vgg, networks, tmp_path):
    arguments = command(pack, tmp_path / "out", vgg, networks, variants=["baseline"])
    train = inpainter.main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainter, "main", lambda arguments: train([*arguments, "--images", "2"]))
        assert race.main(arguments) == ending.INTERRUPTED
    assert "| baseline | – |" in (tmp_path / "out" / "race.md").read_text(encoding="utf-8")
    assert race.main(arguments) == 0
    assert "resumed at 2 images" in (tmp_path / "out" / "runs" / "baseline-0" / "log.txt").read_text()


def test_a_variant_whose_training_fails_is_out_and_the_others_go_on(pack, vgg, networks, tmp_path, capsys):
    arguments = command(pack, tmp_path / "out", vgg, networks, variants=["baseline", "wild=--lr 1", "no-jitter"])
    train = inpainter.main

    def sometimes(arguments):
        if arguments[arguments.index("--lr") + 1 if "--lr" in arguments else 0] == "1":
            raise FloatingPointError("after 2 images 'l1' became nan")
        return train(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainter, "main", sometimes)
        assert race.main(arguments) == 0
    assert race.main(arguments) == 0  # and is not tried again
    text = capsys.readouterr().out
    assert "wild, seed 0, failed: after 2 images 'l1' became nan" in text
    assert "| wild | – |" in text
    assert "| no-jitter | – |" not in text


def test_masks_are_looked_for_as_the_program_does(pack, vgg, networks, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(contest, "score", lambda _, segmenter, *rest, **more: given.append(segmenter))
    options = race.parse(command(pack, tmp_path / "out", vgg, networks))
    contest.measure(options, torch.nn.Identity(), Judges())
    assert isinstance(given[0], SecondLook)


def test_networks_are_measured_where_they_are_trained(pack, vgg, networks, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(contest, "score", lambda network, *rest, device, **more: given.append((network, device)))
    monkeypatch.setattr(contest.weights, "load", lambda *_, device, **more: given.append(device))
    monkeypatch.setattr(torch.nn.Identity, "to", lambda self, device: device)
    options = race.parse([*command(pack, tmp_path / "out", vgg, networks), "--device", "cuda:1"])
    contest.measure(options, torch.nn.Identity(), Judges())
    second = torch.device("cuda:1")
    assert given == [second, (second, second)]


def test_minutes_count_from_the_first_start(pack, vgg, networks, tmp_path):
    budget = ("--minutes", "0.02")
    arguments = command(pack, tmp_path / "out", vgg, networks, budget=budget, variants=["baseline"])
    train, given = inpainter.main, []

    def interrupted(arguments):
        given.append(float(arguments[arguments.index("--minutes") + 1]))
        run = train([*arguments, "--images", "2"])
        run.clock.interrupted = True
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inpainter, "main", interrupted)
        assert race.main(arguments) == ending.INTERRUPTED
        assert race.main(arguments) == ending.INTERRUPTED
    assert given[0] == 0.02
    assert given[1] < 0.02
    assert race.main(arguments) == 0
    row = json.loads((tmp_path / "out" / "runs" / "baseline-0" / "row.json").read_text())
    assert row["images"] >= 2
    with pytest.raises(UsageError, match="--cooldown: counts images"):
        race.main([*command(pack, tmp_path / "new", vgg, networks, budget=budget), "--cooldown", "2"])


def test_ctrl_c_is_given_back_after_a_training(pack, vgg, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    fixed = ["--pack", str(pack), "--run", str(tmp_path / "run"), "--vgg", str(vgg), "--preset", "tiny", "--images", "2"]
    inpainter.main([*fixed, *TRAINING])
    assert signal.getsignal(signal.SIGINT) is before


def test_built_in_variants_are_all_accepted_by_the_training_program(tmp_path):
    for name in BUILT_IN:
        options = race.parse(["--pack", "p", "--out", str(tmp_path), "--budget", "4", "--variants", name])
        race.check(options)
        assert options.chosen[0].name == name


def test_variants_come_from_a_file_too(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[variants]\nbaseline = "--lr 1e-3"\nsoft = "--weight-style 5 --jitter 0.5"\n')
    options = race.parse(["--pack", "p", "--out", "o", "--budget", "4", "--variants-file", str(file)])
    race.check(options)
    assert [(v.name, v.options) for v in options.chosen] == [
        ("baseline", ("--lr", "1e-3")),
        ("soft", ("--weight-style", "5", "--jitter", "0.5")),
    ]
    file.write_text("[variants]\nsoft = 5\n")
    with pytest.raises(InputError, match='every variant must be name = "options"'):
        race.check(options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nothing"], "--variants nothing: give NAME=OPTIONS, or one of baseline"),
        (["a/b=--jitter 0"], "a name has letters"),
        (["baseline", "baseline"], "'baseline' is named twice"),
        (["no-jitter+mirrored"], "name no-jitter too, whose weights it takes"),
        (["a=--lr '1"], "No closing quotation"),
        (["a=--seed 3"], "--seed in variant a: the comparison sets it itself"),
        (["a=--set depth=5"], "--set depth=5: inpainter gated_mcsam cannot be built"),
        (["a=--set modules"], "--set modules: must be NAME=VALUE"),
        (["a=--set normalisation=layer"], "normalisation 'layer': must be one of none, instance, group"),
        (["a=--jitter -1"], "--jitter -1.0: must not be negative"),
        (["baseline", "--camera", "5"], "--camera 5: must be between 0 and 1"),
    ],
)
def test_variants_that_cannot_race_are_refused_before_anything_is_trained(given, message, tmp_path):
    with pytest.raises(UsageError, match=re.escape(message)):
        race.main(["--pack", "p", "--out", str(tmp_path / "o"), "--budget", "4", "--variants", *given])
    assert not (tmp_path / "o").exists()


def test_a_race_needs_a_budget(tmp_path):
    with pytest.raises(UsageError, match="--budget IMAGES or --minutes M: one of them is needed"):
        race.main(["--pack", "p", "--out", str(tmp_path / "o")])


def test_the_difference_is_taken_face_by_face_and_seed_by_seed():
    def row(seed, *values):
        return {"seed": seed, "values": {"true": {"psnr": list(values)}}}

    first = [row(0, 20.0, 30.0, None), row(1, 21.0, 31.0, 5.0)]
    away = standings.difference([row(1, 22.0, 33.0, 7.0)], first, "true", "psnr")
    assert away[0] == pytest.approx(5 / 3)
    assert away[1] == pytest.approx(1 / 3)
    assert standings.difference([row(0, 20.5, 30.5, None)], first, "true", "psnr") == (0.5, 0.0)
    assert standings.difference([row(2, 1.0)], first, "true", "psnr") is None


def test_mirrored_averaging_treats_both_sides_alike():
    class Ramp(torch.nn.Module):
        def forward(self, image, mask):
            return image * torch.linspace(0, 1, image.shape[3])

    image, mask = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)
    fill = race.Mirrored(Ramp())(image, mask)
    torch.testing.assert_close(fill, image * 0.5)
    torch.testing.assert_close(race.Mirrored(Ramp())(image.flip(3), mask).flip(3), fill)


def test_identity_is_compared_on_some_faces_by_the_landmarks_of_the_truth(split_pack, networks):
    class Brightness:
        def embed(self, images, landmarks):
            assert all(points.max() < images[0].shape[0] for points in landmarks)  # in pixels of the smaller picture
            return np.array([[image.mean(), 0.0] for image in images])

    made = score(
        weights.load(networks.inpainter, kind="inpainter"),
        weights.load(networks.segmenter, kind="segmenter"),
        open_pack(split_pack, "val"),
        Masks(camera=0.0, occlusion=0.0),
        size=128,
        judges=Judges(identity=Brightness()),
        identities=2,
    )
    for values in made.values.values():
        assert [value is not None for value in values["identity"]] == [True, False, False, True]
    moved = [value for value in made.values["true"]["identity"] if value is not None]
    assert made.figures["true"]["identity"] == pytest.approx(np.mean(moved))
    assert min(moved) > 0


def test_jitter_is_scaled_but_faces_are_mirrored_as_often():
    assert Jitter().times(0) == Jitter(shift=0.0, scale=0.0, angle=0.0, flip=True)
    assert Jitter().times(1) == Jitter()
    assert STILL.times(2) == STILL


@pytest.mark.parametrize("normalisation", ["instance", "group"])
@torch.no_grad()
def test_a_normalised_network_rebuilds_itself_from_its_file(normalisation, tmp_path):
    arguments = {**weights.presets("inpainter", "gated_mcsam")["tiny"], "normalisation": normalisation}
    network = weights.build("inpainter", "gated_mcsam", arguments).eval()
    made = {"kind": "inpainter", "network": "gated_mcsam", "arguments": arguments, "provenance": {}}
    weights.save(tmp_path / "n.safetensors", network.state_dict(), **made)
    image, mask = torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[..., 30:60, 20:50] = 1
    loaded = weights.load(tmp_path / "n.safetensors", kind="inpainter")
    torch.testing.assert_close(loaded(image, mask), network(image, mask))
    torch.testing.assert_close(loaded(image, mask)[:1], loaded(image[:1], mask[:1]), atol=1e-5, rtol=1e-4)
    network.train()  # features and gates come from one convolution there
    torch.testing.assert_close(loaded(image, mask), network(image, mask), atol=1e-5, rtol=1e-4)


def test_faces_can_be_turned_aside_before_they_are_measured(split_pack, networks):
    def measure(**more):
        return score(
            weights.load(networks.inpainter, kind="inpainter"),
            weights.load(networks.segmenter, kind="segmenter"),
            open_pack(split_pack, "val"),
            Masks(camera=0.0, occlusion=0.0),
            size=64,
            **more,
        )

    straight, turned, again = measure(), measure(turned=1.0), measure(turned=1.0)
    assert turned.values == again.values
    assert all(a != b for a, b in zip(straight.values["true"]["psnr"], turned.values["true"]["psnr"], strict=True))
