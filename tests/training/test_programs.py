"""Both training programs end to end on a made-up pack: they run, resume exactly, and export weights that load."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vidunmask import geometry
from vidunmask.errors import DeviceError, InputError, OutputError, UsageError, WeightsError
from vidunmask.networks import weights
from vidunmask.networks.inpainters.gated_mcsam import GatedMCSAM
from vidunmask.training import inpainter, segmenter
from vidunmask.training.dataset import align
from vidunmask.training.dataset.stored import masks_for
from vidunmask.training.morphology import dilate
from vidunmask.training.pack import (
    MARGIN,
    SIDE,
    STILL,
    Jitter,
    Order,
    build_pack,
    draw_batch,
    list_photos,
    open_pack,
    turned_more_often,
)
from vidunmask.training.synthesis.head_surface import HEAD
from vidunmask.training.teacher import Teacher

COUNT = 12  # faces of the made-up pack, see conftest.py


def options(pack, run, **more):
    values = {"pack": pack, "run": run, "preset": "tiny", "batch": 2, "precision": "float32", "evaluate_every": 1000, **more}
    return [part for key, value in values.items() for part in (f"--{key.replace('_', '-')}", str(value))]


def test_pack_knows_splits_and_tiers(pack):
    assert len(open_pack(pack, "train")) == 8
    assert len(open_pack(pack, "val", tiers="A")) == 2
    with pytest.raises(InputError, match="tiers 'C'"):
        open_pack(pack, "train", tiers="C")
    with pytest.raises(InputError, match="not a pack"):
        open_pack(pack / "nowhere", "train")


def test_photos_become_a_pack_of_aligned_faces(tmp_path):
    cv2 = pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data")
    photos = tmp_path / "photos"
    photos.mkdir()
    portrait = data.astronaut()[:300, 60:360, ::-1]
    for index in range(20):  # the twentieth, by name, goes to val
        cv2.imwrite(str(photos / f"{index:02d}.png"), portrait)
    cv2.imwrite(str(photos / "05.png"), np.full((120, 120, 3), 90, np.uint8))
    kept, missed = build_pack(photos, tmp_path / "pack")
    assert (kept, missed) == (19, ["05.png"])
    faces = open_pack(tmp_path / "pack", "val")
    assert len(faces) == 1
    assert faces.images.shape == (19, SIDE, SIDE, 3)
    eyes = faces.landmarks[0, 36:48].mean(axis=0) - MARGIN
    np.testing.assert_allclose(eyes, geometry.TEMPLATE68[36:48].mean(axis=0), atol=4)
    # where the pack says the photo's pixels went, they are
    x, y = geometry.apply(geometry.invert(faces.photo_to_pack[0]), np.array([SIDE / 2, SIDE / 2])).round().astype(int)
    np.testing.assert_allclose(faces.images[0, SIDE // 2, SIDE // 2], portrait[y, x, ::-1], atol=25)


def test_a_photo_that_was_cut_off_is_no_photo(tmp_path):
    cv2 = pytest.importorskip("cv2")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for ending in ("jpg", "png", "webp"):
        whole = cv2.imencode(f".{ending}", noise)[1].tobytes()
        path = tmp_path / f"photo.{ending}"
        path.write_bytes(whole)
        assert align.read_photo(path).shape == (64, 64, 3)
        path.write_bytes(whole[: len(whole) // 2])
        assert align.read_photo(path) is None


def test_of_few_photos_the_last_is_for_evaluation(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    assert [row["split"] for row in list_photos(tmp_path)] == ["train", "train", "val"]


def test_a_table_of_photos_needs_files_and_splits_and_nothing_else(tmp_path):
    (tmp_path / "images.csv").write_text("file,split\na.png,train\n", encoding="utf-8")
    assert list_photos(tmp_path) == [{"file": "a.png", "split": "train", "tier": "A", "source": ""}]
    (tmp_path / "images.csv").write_text("name,split\na.png,train\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"images\.csv: a row without 'file'"):
        list_photos(tmp_path)


def test_photos_without_a_face_make_no_pack(tmp_path):
    cv2 = pytest.importorskip("cv2")
    photos, made = tmp_path / "photos", tmp_path / "pack"
    photos.mkdir()
    cv2.imwrite(str(photos / "grey.png"), np.full((120, 120, 3), 90, np.uint8))
    with pytest.raises(InputError, match="none of 1 photos gave a face"):
        build_pack(photos, made)
    assert list(made.iterdir()) == []
    made.rmdir()
    made.touch()
    with pytest.raises(OutputError, match="pack: cannot be written"):
        build_pack(photos, made)


def test_a_still_crop_is_the_middle_of_the_pack(pack):
    faces = open_pack(pack, "train")
    images, landmarks, valid = draw_batch(faces, faces.rows[:2], jitter=STILL, generator=torch.Generator().manual_seed(0))
    expected = faces.images[:2, MARGIN:-MARGIN, MARGIN:-MARGIN].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images.numpy(), expected, atol=2e-3)
    np.testing.assert_allclose(landmarks.numpy(), faces.landmarks[:2] - MARGIN, atol=1e-3)
    assert valid.min() == 1


@pytest.mark.parametrize("bend", [0.0, 5.0])
def test_landmarks_stay_on_the_face_through_jitter_and_mirror(pack, bend):
    images = np.load(pack / "images.npy")
    table = dict(np.load(pack / "faces.npz"))
    images[:] = 0
    for index in range(COUNT):  # a white dot under each outer eye corner
        for x, y in table["landmarks"][index][[36, 45]].round().astype(int):
            images[index, y - 2 : y + 3, x - 2 : x + 3] = 255
    np.save(pack / "images.npy", images)
    faces = open_pack(pack, "train")
    generator = torch.Generator().manual_seed(5)
    jitter = Jitter(shift=4, scale=0.08, angle=0.1, bend=bend)
    crops, landmarks, _ = draw_batch(faces, faces.rows, jitter=jitter, generator=generator)
    for crop, points in zip(crops, landmarks, strict=True):
        assert points[36, 0] < points[45, 0]  # still the one on the picture's left
        for point in points[[36, 45]]:
            x, y = point.round().long().tolist()
            assert crop[0, y - 1 : y + 2, x - 1 : x + 2].mean() > 0.6


def test_bent_faces_have_other_proportions_on_both_sides_alike(pack):
    faces = open_pack(pack, "train")
    landmarks = {}
    for bend in (0.0, 5.0):
        still = Jitter(shift=0, scale=0, angle=0, flip=False, bend=bend)
        _, landmarks[bend], _ = draw_batch(faces, faces.rows, jitter=still, generator=torch.Generator().manual_seed(0))
    moved = landmarks[5.0] - landmarks[0.0]
    assert 1 < moved.norm(dim=2).mean() < 15
    knots = Jitter(bend=5.0).draw_bend(64, torch.Generator().manual_seed(0))
    mirrored = knots.flip(3) * torch.tensor([-1.0, 1.0])[:, None, None]
    assert 0 < (knots - mirrored).std() < 0.3 * (knots + mirrored).std()


def test_turned_faces_come_more_often(pack):
    table = dict(np.load(pack / "faces.npz"))
    turn = np.deg2rad(30)
    head = np.array(HEAD) @ np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]).T
    table["landmarks"][3] = 64 * head[:, :2] + 140
    np.savez(pack / "faces.npz", **table)
    faces = open_pack(pack, "train")
    counts = np.bincount(turned_more_often(faces, times=4))
    assert counts[3] == 4
    assert (np.delete(counts, 3) == 1).all()


def test_order_visits_every_face_once_an_epoch_and_is_the_same_from_any_place_on():
    rows = np.arange(10)
    order = Order(rows, seed=1)
    first = [order.at(position, 4) for position in range(0, 20, 4)]
    assert sorted(np.concatenate(first)[:10]) == list(range(10))
    assert Order(rows, seed=1).at(8, 4).tolist() == first[2].tolist()


@pytest.mark.parametrize("seen", [False, True])
def test_a_network_is_never_shown_what_it_is_to_find_out(seen, pack):
    faces = open_pack(pack, "train")
    cpu = torch.device("cpu")
    prepare = inpainter.preparation(faces, masks_for(faces, camera=0.0), cpu, turn=0.0, grow=0, seen=seen)
    truth, mask, shown, _, _ = prepare(faces.rows, torch.Generator().manual_seed(0))
    hole = mask.expand_as(truth) > 0.5
    assert hole.float().mean() > 0.05
    assert (shown - truth).abs()[hole].mean() > 0.1
    assert (shown - truth).abs()[~hole].mean() < 0.02  # a shadow where cloth is drawn
    spread = shown.where(mask > 0.5, torch.nan).flatten(1)
    assert all(bool(face[~face.isnan()].std() > 0.01) is seen for face in spread)  # cloth has folds and light


def test_what_is_left_of_a_face_is_bare_or_as_the_mask_that_is_worn_leaves_it(pack):
    faces = open_pack(pack, "train")
    masks = masks_for(faces, camera=0.0)
    apart = {}
    for worn in (False, True):
        prepare = inpainter.preparation(faces, masks, torch.device("cpu"), turn=0.0, grow=1, worn=worn)
        truth, mask, shown, _, _ = prepare(faces.rows, torch.Generator().manual_seed(0))
        assert (shown[mask.expand_as(shown) > 0.5] == 0.5).all()  # the cloth itself stays hidden
        near = (dilate(mask, 8) - mask)[:, 0] > 0.5
        apart[worn] = (shown - truth).abs().mean(1)[near]
    assert (apart[False] == 0).all()
    assert apart[True].mean() > 0.005


@pytest.mark.parametrize("seen", [False, True])
def test_beyond_the_frames_edge_the_inpainter_is_shown_the_edge_and_no_truth_is_known(seen, pack):
    faces = open_pack(pack, "train")
    masks = masks_for(faces, camera=0.0)
    prepare = inpainter.preparation(faces, masks, torch.device("cpu"), turn=0.0, grow=0, cut=1.0, seen=seen)
    truth, mask, shown, valid, _ = prepare(faces.rows, torch.Generator().manual_seed(0))
    sides = 0
    for layers, known in zip(torch.cat([truth, mask, shown], 1), valid[:, 0] > 0.5, strict=True):
        beyond = ~known.any(0)  # columns
        if known.all() or not beyond.any():
            continue
        sides += 1
        columns = beyond.nonzero()[:, 0]
        assert (columns[0] == 0) != (columns[-1] == 255)
        edge = columns[-1] + 1 if columns[0] == 0 else columns[0] - 1
        assert torch.equal(layers[..., beyond], layers[..., edge, None].expand(-1, -1, int(beyond.sum())))
    assert sides >= 2


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_some_faces_have_darker_skin_before_their_masks_are_drawn(program, pack):
    images = np.load(pack / "images.npy")
    images[:] = (230, 190, 165)  # nothing but skin
    np.save(pack / "images.npy", images)
    faces = open_pack(pack, "train")
    made = {}
    for dark in (0.0, 1.0):
        more = {"grow": 0, "seen": True} if program is inpainter else {}
        prepare = program.preparation(faces, masks_for(faces, camera=0.0), torch.device("cpu"), turn=0.0, dark=dark, **more)
        made[dark] = prepare(faces.rows, torch.Generator().manual_seed(0))
    corner = (slice(None), slice(None), slice(0, 40), slice(0, 40))  # of the picture, where no mask lies
    shown = {dark: parts[2 if program is inpainter else 0][corner].mean((0, 2, 3)) for dark, parts in made.items()}
    assert (shown[1.0] < 0.95 * shown[0.0]).all()
    if program is inpainter:
        torch.testing.assert_close(made[1.0][0][corner].mean((0, 2, 3)), shown[1.0], rtol=0, atol=0.02)  # and so is the truth


def learned(pack, vgg, run, **more):
    """The first line of critics' losses of a run, and the run."""
    made = inpainter.main(options(pack, run, **{"vgg": vgg, "feature_scale": 0.5, "critic_width": 4, "log_every": 2, **more}))
    return float(re.findall(r"critics (\d+\.\d+)", (run / "log.txt").read_text(encoding="utf-8"))[0]), made


def test_critics_go_on_from_those_of_another_run(pack, vgg, tmp_path):
    learned(pack, vgg, tmp_path / "first", images=40, lr=0.004)
    state = torch.load(tmp_path / "first" / "checkpoint.pt", weights_only=True)["parts"]["critics"]
    anew, _ = learned(pack, vgg, tmp_path / "anew", images=2)
    more = {"images": 2, "critics_from": tmp_path / "first"}
    on, run = learned(pack, vgg, tmp_path / "on", **more, lr=1e-12)
    kept = run.checkpoint.parts["critics"].state_dict()
    weight = next(name for name in state if name.endswith("original") or name.endswith("weight"))
    torch.testing.assert_close(kept[weight], state[weight])
    assert on < 0.9 * anew  # they know the fills of a fresh network
    # a run that goes on has its own, and that folder may be gone
    learned(pack, vgg, tmp_path / "on", **{**more, "images": 4, "critics_from": tmp_path / "gone"})


@pytest.mark.parametrize(
    ("critics", "message"),
    [
        ("nowhere", "nowhere: cannot be read"),
        ("segmenter", "segmenter: holds no critics"),
        ("wider", "give the --network and the --critic-width"),
        ("without", "without: that run has no critics"),
    ],
)
def test_critics_that_do_not_fit_are_refused(critics, message, pack, vgg, tmp_path):
    if critics == "segmenter":
        segmenter.main(options(pack, tmp_path / "segmenter", images=2))
    if critics == "wider":
        learned(pack, vgg, tmp_path / "wider", images=2, critic_width=8)
    if critics == "without":
        inpainter.main(options(pack, tmp_path / "without", images=2, network="rfr", vgg=vgg, size=64))
    with pytest.raises(WeightsError, match=message):
        learned(pack, vgg, tmp_path / "run", images=2, critics_from=tmp_path / critics)


def test_the_papers_network_learns_from_cloth_and_the_small_ones_from_shapes():
    presets = weights.presets("inpainter", "gated_mcsam")
    sees = {name: inpainter.sees_masks(weights.build("inpainter", "gated_mcsam", presets[name])) for name in presets}
    assert sees == {"paper": True, "compact": False, "tiny": False}


def test_a_network_that_sees_masks_is_trained_and_evaluated_on_masked_faces(pack, vgg, tmp_path):
    seen = []
    inside = GatedMCSAM.forward

    def spy(self, image, mask):
        seen.append((image, mask))
        return inside(self, image, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GatedMCSAM, "forward", spy)
        more = {"vgg": vgg, "feature_scale": 0.5, "weight_adversarial": 0, "set": "hide_masked=false"}
        run = inpainter.main(options(pack, tmp_path / "run", images=4, **more))
    assert run.clock.images == 4
    assert len(seen) == 3  # two steps and one evaluation
    for image, mask in seen:
        assert all((face[:, hole[0] > 0.5].std() > 0.01) for face, hole in zip(image, mask, strict=True))


@pytest.fixture
def teacher(request, tmp_path):
    torch.manual_seed(5)
    arguments = {**weights.presets("inpainter", "gated_mcsam")["tiny"], "hide_masked": getattr(request, "param", True)}
    state = weights.build("inpainter", "gated_mcsam", arguments).state_dict()
    path = tmp_path / "teacher.safetensors"
    weights.save(path, state, kind="inpainter", network="gated_mcsam", arguments=arguments, provenance={})
    return path


def taught(pack, vgg, run, teacher, **more):
    """The distance to the teacher in each step of a training in which no other term has weight."""
    others = {f"weight_{name}": 0 for name in inpainter.WEIGHTS}
    given = {"vgg": vgg, "size": 64, "feature_scale": 0.25, "teacher": teacher, "log_every": 2, **others, **more}
    inpainter.main(options(pack, run, **given))
    return [float(value) for value in re.findall(r"teacher (\d+\.\d+)", (run / "log.txt").read_text(encoding="utf-8"))]


def test_the_fills_of_a_teacher_are_learned(pack, vgg, teacher, tmp_path):
    made = tmp_path / "made.safetensors"
    distances = taught(pack, vgg, tmp_path / "run", teacher, images=60, lr=0.01, cooldown=30, export=made)
    assert len(distances) == 30
    assert np.mean(distances[-5:]) < 0.5 * np.mean(distances[:5])
    assert weights.read_card(made).provenance["teacher"] == "teacher.safetensors"


def test_a_network_that_starts_from_its_teacher_has_nothing_to_learn_of_it(pack, vgg, teacher, tmp_path):
    assert taught(pack, vgg, tmp_path / "run", teacher, images=2, start_from=teacher) == [0]


@pytest.mark.parametrize("teacher", [False], ids=["sees"], indirect=True)
def test_a_teacher_that_sees_masks_is_shown_masked_faces(pack, vgg, teacher, tmp_path, monkeypatch):
    seen = []
    inside = Teacher.distance

    def spy(self, fill, shown, mask):
        seen.append((shown, mask))
        return inside(self, fill, shown, mask)

    monkeypatch.setattr(Teacher, "distance", spy)
    taught(pack, vgg, tmp_path / "run", teacher, images=2)
    ((shown, mask),) = seen
    assert all(face[:, hole[0] > 0.5].std() > 0.01 for face, hole in zip(shown, mask, strict=True))


def test_what_is_no_inpainter_teaches_nobody(pack, vgg, tmp_path):
    with pytest.raises(WeightsError, match="give one of kind inpainter"):
        taught(pack, vgg, tmp_path / "run", "compact-segmenter", images=2)


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_a_run_measures_itself_on_faces_of_all_sources(program, pack, vgg, tmp_path, monkeypatch):
    measured = []
    real = program.draw_batch

    def draw(faces, rows, *, jitter, **more):
        measured.extend(rows.tolist() if jitter is STILL else [])
        return real(faces, rows, jitter=jitter, **more)

    monkeypatch.setattr(program, "draw_batch", draw)
    extra = {"vgg": vgg, "weight_adversarial": 0, "size": 64} if program is inpainter else {}
    program.main(options(pack, tmp_path / "run", images=2, val_faces=2, **extra))
    assert measured == [8, 11]  # the first and the last of val, whose order goes by source


def test_a_run_measures_itself_where_the_photo_has_a_picture(pack):
    class Black(torch.nn.Module):
        def forward(self, image, mask):
            return torch.zeros_like(image)

    table, images, cpu = dict(np.load(pack / "faces.npz")), np.load(pack / "images.npy"), torch.device("cpu")
    table["photo_size"][:] = 190, 256
    np.savez(pack / "faces.npz", **table)
    made = []
    for beyond in (0, 255):
        images[:, MARGIN + 190 :] = beyond
        np.save(pack / "images.npy", images)
        faces = open_pack(pack, "val")
        figures, _ = inpainter.evaluate(Black(), faces, masks_for(faces), cpu, dtype=torch.float32, size=128)
        made.append(figures)
    assert made[0]["l1"] < made[1]["l1"]
    assert made[0]["l1_masked"] == pytest.approx(made[1]["l1_masked"])


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(program, pack, vgg, tmp_path):
    extra = (
        {"vgg": vgg, "critic_width": 4, "feature_scale": 0.5, "adversarial_from": 2, "size": 64} if program is inpainter else {}
    )
    program.main(options(pack, tmp_path / "whole", images=8, **extra))
    program.main(options(pack, tmp_path / "parts", images=4, **extra))
    program.main(options(pack, tmp_path / "parts", images=8, **extra))
    whole, parts = (torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts"))
    assert whole["values"]["images"] == parts["values"]["images"] == 8
    for part in ("network", "average"):
        for name, tensor in whole["parts"][part].items():
            torch.testing.assert_close(parts["parts"][part][name], tensor, rtol=0, atol=0, msg=f"{part} {name}")
    assert (tmp_path / "whole" / "val_00000008.png").stat().st_size > 1000


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_trained_weights_are_exported_as_the_numbers_that_were_asked_for(program, pack, vgg, tmp_path):
    extra = {"vgg": vgg, "feature_scale": 0.5, "weight_adversarial": 0} if program is inpainter else {}
    kind = "inpainter" if program is inpainter else "segmenter"
    for store in (None, *weights.STORED):
        made = tmp_path / f"{store}.safetensors"
        # the run is over after the first round; each of the others exports it again
        program.main(options(pack, tmp_path / "run", images=4, export=made, **extra, **({"store": store} if store else {})))
        kept = {tensor.dtype for tensor in load_file(made).values() if tensor.dim() > 1 and tensor.dtype != torch.int64}
        assert kept == {weights.STORED[store or "float16"]}
        assert weights.load(made, kind=kind)


def test_trained_weights_are_exported_with_their_provenance(pack, tmp_path):
    segmenter.main(options(pack, tmp_path / "run", images=8, export=tmp_path / "made.safetensors"))
    card = weights.read_card(tmp_path / "made.safetensors")
    assert card.provenance["images"] == 8
    assert card.provenance["sources"] == ["made"]
    assert weights.load(tmp_path / "made.safetensors", kind="segmenter")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": 0}, "--batch 0"),
        ({"preset": "tinyy"}, "--preset tinyy"),
        ({"device": "mps"}, "--device mps"),
        ({"device": "cuda:99"}, "--device cuda:99"),
        ({"device": "tpu"}, "--device tpu"),
        ({"lr": "nan"}, "--lr nan"),
        ({"ema": 2}, "--ema 2.0: must lie from 0 to 1"),
        ({"val_faces": 0}, "--val-faces 0: must be 1 or more"),
        ({"minutes": -1}, "--minutes -1.0: must not be negative"),
    ],
)
@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_options_that_cannot_work_are_refused(program, given, message, pack, tmp_path):
    if "device" in given and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(UsageError, match=message):
        program.main(options(pack, tmp_path / "run", **given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"feature_scale": 0}, "--feature-scale 0.0"),
        ({"critic_width": 0}, "--critic-width 0: must be 1 or more"),
        ({"close_ups": 3}, "--close-ups 3.0: must lie from 0 to 1"),
    ],
)
def test_options_of_the_inpainter_that_cannot_work_are_refused(given, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        inpainter.main(options("pack", tmp_path / "run", **given))


def test_a_run_at_the_pace_of_a_clock_is_refused_to_several_processes(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--pace: the clocks of several processes differ"):
        segmenter.main([*options(pack, tmp_path / "run", minutes=1), "--pace"])


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_where_nothing_can_be_compiled_a_run_ends_in_one_line_before_it_begins(program, tmp_path, monkeypatch):
    def compile(network, **options):
        raise RuntimeError("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(DeviceError, match=r"--compile: torch cannot compile here \(No working C\+\+ compiler found\); leave"):
        program.main([*options("pack", tmp_path / "run"), "--compile"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_the_help_of_a_program_can_be_printed_in_ascii(program, capsys):
    with pytest.raises(SystemExit):
        program.parse(["--help"])
    assert capsys.readouterr().out.isascii()


def test_pictures_of_masks_are_for_the_program_that_draws_them(pack, tmp_path, capsys):
    with pytest.raises(SystemExit):
        inpainter.parse([*options(pack, tmp_path / "run"), "--templates", "masks"])
    assert "--templates" in capsys.readouterr().err


def test_a_folder_that_cannot_be_packed_is_one_line(tmp_path):
    command = [sys.executable, "-m", "vidunmask.training.pack", str(tmp_path / "nowhere"), str(tmp_path / "pack")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == InputError.exit_code
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
