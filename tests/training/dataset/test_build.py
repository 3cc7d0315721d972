"""The dataset builder: CelebA's layouts, what a shard holds, any number of processes, kill -9, and training from the result."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vidunmask.errors import InputError, OutputError, UsageError
from vidunmask.training import inpainter, segmenter
from vidunmask.training.dataset.build import FIVE, Settings, build, export_pictures, read_manifest
from vidunmask.training.dataset.celeba import list_celeba
from vidunmask.training.dataset.shards import LAYERS
from vidunmask.training.dataset.stored import StoredMasks, masks_for
from vidunmask.training.evaluation.groups import people, typology_angle
from vidunmask.training.masked_faces import KINDS, MaskSynthesizer
from vidunmask.training.pack import STILL, Jitter, draw_batch, open_pack
from vidunmask.training.synthesis.head_surface import SHAPE

SETTINGS = Settings(seed=3, shard=16)


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000004.jpg 0\n"


@pytest.mark.parametrize(
    ("images", "lists", "text"),
    [
        ("Img/img_align_celeba", "Eval/list_eval_partition.txt", PARTITION),
        ("img_align_celeba", "list_eval_partition.txt", PARTITION),
        (
            "img_align_celeba/img_align_celeba",
            "list_eval_partition.csv",
            "image_id,partition\n" + PARTITION.replace(" ", ","),
        ),
    ],
    ids=["official", "torchvision", "kaggle"],
)
def test_celeba_keeps_its_splits_in_every_layout(images, lists, text, tmp_path):
    for number in (1, 2, 3):  # the fourth was not unpacked
        touch(tmp_path / images / f"00000{number}.jpg")
    touch(tmp_path / lists, text)
    rows = list_celeba(tmp_path)
    assert [(row["file"], row["split"]) for row in rows] == [
        (f"{images}/00000{number}.jpg", split) for number, split in ((1, "train"), (2, "val"), (3, "test"))
    ]
    assert {row["tier"] for row in rows} == {"C"}
    inner = tmp_path / images.split("/")[0] if images.startswith("img") else tmp_path / images
    assert [row["split"] for row in list_celeba(inner)] == ["train", "val", "test"]


def test_wild_photos_of_celeba_know_which_face_is_meant(tmp_path):
    touch(tmp_path / "img_celeba" / "000001.jpg")
    touch(tmp_path / "list_eval_partition.txt", PARTITION)
    touch(tmp_path / "list_bbox_celeba.txt", "1\nimage_id x_1 y_1 width height\n000001.jpg    95  71 226 313\n")
    assert list_celeba(tmp_path)[0]["about"] == "208 227.5"


def test_what_is_not_celeba_is_an_ordinary_folder_and_a_foreign_list_is_refused(tmp_path):
    assert list_celeba(tmp_path) is None
    touch(tmp_path / "img_align_celeba" / "somebody.jpg")
    touch(tmp_path / "list_eval_partition.txt", PARTITION)
    with pytest.raises(InputError, match="names none of the 1 photos"):
        list_celeba(tmp_path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 photos of one face, smaller, darker, aside; one without a face, one cut at the mouth, one that is no picture."""
    cv2 = pytest.importorskip("cv2")
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("photos")
    portrait = data.astronaut()[:, :, ::-1]
    for index in range(40):
        left, size = 60 + 2 * index, 260 + index
        picture = portrait[: size + 20, max(0, left - 40) : left + size - 20]
        cv2.imwrite(str(folder / f"{index:02d}.jpg"), (picture * (0.7 + 0.01 * index)).astype(np.uint8))
    cv2.imwrite(str(folder / "05.jpg"), np.full((120, 120, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "06.jpg"), portrait[:165, 100:340])
    (folder / "07.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def dataset(photos, tmp_path_factory):
    target = tmp_path_factory.mktemp("built") / "dataset"
    steps = []
    built = build(photos, target, SETTINGS, jobs=1, progress=lambda done, expected: steps.append((done, expected)))
    assert steps[-1] == (40, 40)
    assert built.photos == 40
    assert built.made_now == 40
    return target


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_equal(one, other):
    assert digests(one) == digests(other)
    a, b = np.load(one / "faces.npz"), np.load(other / "faces.npz")  # a zip file, which holds the time
    assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_photos_without_all_landmarks_are_counted_and_listed(dataset):
    lines = (dataset / "failed.csv").read_text().splitlines()
    assert lines[0] == "file,split,reason"
    assert "05.jpg,train,no face found" in lines
    assert "06.jpg,train,landmarks outside the photo" in lines
    assert "07.jpg,train,unreadable" in lines
    counts = json.loads((dataset / "dataset.json").read_text())["counts"]
    assert counts["faces"] == 40 - sum(counts["failed"].values())
    assert counts["failed"]["landmarks outside the photo"] >= 1


def test_a_sample_is_truth_mask_and_the_truth_with_the_mask_on_it(dataset):
    faces = open_pack(dataset, "train", layers=LAYERS)
    pixels = faces.images[faces.rows].astype(int)
    truth, masked, mask = pixels[..., :3], pixels[..., 3:6], pixels[..., 6]
    assert pixels.shape[1:] == (256, 256, 8)
    assert set(np.unique(mask)) == {0, 255}
    changed = np.abs(truth - masked).max(3)
    assert (changed[mask == 255] > 8).mean() > 0.7
    brighter = (masked - truth).max(3) > 2
    soft = torch.nn.functional.max_pool2d(torch.from_numpy(mask)[:, None].float(), 5, 1, 2)[:, 0].numpy() > 0
    assert brighter[~soft].mean() < 0.002  # outside the mask there is its shadow, and straps thinner than a pixel


def test_the_manifest_tells_kind_parameters_and_landmarks(dataset):
    samples = list(read_manifest(dataset))
    assert {sample["kind"] for sample in samples} <= set(FIVE)
    assert len({sample["kind"] for sample in samples}) >= 3
    for sample in samples:
        points = np.array(sample["landmarks68"])
        np.testing.assert_allclose(points[list(SHAPE)], sample["landmarks21"])
        assert len(sample["landmarks21"]) == 21
        assert 0 < sample["parameters"]["side"] < 3
        left, top, right, bottom = sample["mask"]["box"]
        assert 0 <= left < right <= 256
        assert 0 <= top < bottom <= 256
        assert sample["tier"] == "A"


def test_shards_are_plain_tar_files(dataset):
    with tarfile.open(dataset / "shards" / "train-00000.tar") as shard:
        names = shard.getnames()
        keys = sorted({name.split(".")[0] for name in names})
        assert names[:4] == [f"{keys[0]}.{end}" for end in ("truth.webp", "masked.webp", "mask.png", "json")]
        sample = json.loads(shard.extractfile(f"{keys[0]}.json").read())
    assert len(names) == 4 * len(keys)
    assert sample["key"] == keys[0]
    assert len(keys) <= SETTINGS.shard


def children(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in listed]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_two_processes_killed_and_started_again_make_what_one_makes_and_leave_no_worker(photos, tmp_path):
    many, target = tmp_path / "photos", tmp_path / "dataset"  # so many that two workers cannot end with what they have begun
    many.mkdir()
    for photo in photos.iterdir():
        for copy in "ab":
            shutil.copy(photo, many / f"{copy}{photo.name}")
    command = [sys.executable, "-m", "vidunmask.pipelines.cli", "make-masked-faces", str(many), str(target)]
    command += ["--seed", "3", "--shard", "16", "--jobs", "2", "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(target.glob("shards/*.jsonl")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(workers) >= 2
    assert not (target / "faces.npz").exists()
    with pytest.raises(InputError, match="not finished; run the same"):
        open_pack(target, "train")
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    finished = {path: path.stat().st_mtime_ns for path in target.glob("shards/*.jsonl")}
    assert finished
    whole = tmp_path / "whole"
    build(many, whole, SETTINGS, jobs=1)
    assert len(finished) < len(list(whole.glob("shards/*.jsonl")))
    build(many, target, SETTINGS, jobs=2)
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())
    assert_equal(whole, target)


def test_a_finished_dataset_is_left_as_it_is(photos, dataset):
    before = digests(dataset)
    built = build(photos, dataset, SETTINGS)
    assert built.made_now == 0
    assert digests(dataset) == before


def test_what_does_not_belong_together_is_refused(photos, dataset, tmp_path):
    with pytest.raises(UsageError, match="was begun with --seed 3, not 4"):
        build(photos, dataset, Settings(seed=4, shard=16))
    with pytest.raises(UsageError, match=r"was begun with \d+ photos, and 20 of .* are asked for now; .* --limit"):
        build(photos, dataset, Settings(seed=3, shard=16, limit=20))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="is not empty and holds no Masked-Faces"):
        build(photos, tmp_path, SETTINGS)
    with pytest.raises(InputError, match="no such folder"):
        build(photos / "nowhere", tmp_path / "new", SETTINGS)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kinds": ("gas",)}, "--kinds gas: gas: choose from"),
        ({"kinds": ("template",)}, "needs --templates"),
        ({"crop": "middle"}, "--crop middle: choose from aligned, centre"),
        ({"camera": 2.0}, "--camera"),
        ({"shard": 1}, "--shard 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(value, message):
    with pytest.raises(UsageError, match=message):
        Settings(**value)


def test_pictures_can_be_had_as_loose_files(dataset):
    from PIL import Image

    folder = export_pictures(dataset, 2)
    files = sorted(path.name for path in (folder / "train").iterdir())
    assert len(files) == 6
    key = files[0].split("_")[0]
    faces = open_pack(dataset, "train", layers=LAYERS)
    with Image.open(folder / "train" / f"{key}_masked.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), faces.images[faces.rows[:1]][0, ..., 3:6])


def test_stored_masks_come_with_the_faces_as_they_are(dataset):
    faces = open_pack(dataset, "train", layers=LAYERS)
    masks = masks_for(faces, camera=0.0)
    assert isinstance(masks, StoredMasks)
    generator = torch.Generator().manual_seed(0)
    images, landmarks, valid = draw_batch(faces, faces.rows[:4], jitter=STILL, generator=generator)
    made = masks(images, landmarks, generator)
    pixels = torch.from_numpy(faces.images[faces.rows[:4]]).permute(0, 3, 1, 2) / 255
    for layer, stored in ((made.truth, pixels[:, :3]), (made.masked, pixels[:, 3:6]), (made.mask, pixels[:, 6:7])):
        torch.testing.assert_close(layer, stored, atol=2e-3, rtol=0)
    kinds = [sample["kind"] for sample in read_manifest(dataset) if sample["split"] == "train"]
    assert [KINDS[number] for number in made.kind.tolist()] == kinds[:4]
    assert valid.mean() > 0.6  # the photos end near the face


def test_jitter_moves_face_and_mask_together_and_does_not_count_what_lies_beyond_the_crop(dataset):
    faces = open_pack(dataset, "train", layers=("truth", "mask"))
    generator = torch.Generator().manual_seed(1)
    wide = Jitter(shift=20, scale=0.2, angle=0.2)
    images, landmarks, valid = draw_batch(faces, faces.rows[:8], jitter=wide, generator=generator)
    made = masks_for(faces)(images, landmarks, generator, shapes_only=True)
    mouth = landmarks[:, 51].round().long().clamp(0, 255)
    worn = torch.stack([made.mask[i, 0, y : y + 12, x].mean() for i, (x, y) in enumerate(mouth.tolist())])
    assert (worn > 0.5).float().mean() > 0.6
    assert valid.mean() < 1


def test_a_pack_of_photos_gets_its_masks_drawn(pack):
    assert type(masks_for(open_pack(pack, "train"))) is MaskSynthesizer


def test_a_network_trains_from_stored_masks(dataset, tmp_path):
    arguments = ["--pack", str(dataset), "--run", str(tmp_path), "--preset", "tiny", "--batch", "4", "--images", "8"]
    run = segmenter.main([*arguments, "--precision", "float32"])
    assert run.clock.images == 8


@pytest.mark.parametrize("program", [segmenter, inpainter], ids=["segmenter", "inpainter"])
def test_skin_under_stored_masks_is_not_darkened(program, dataset, tmp_path):
    arguments = ["--pack", str(dataset), "--run", str(tmp_path / "run"), "--preset", "tiny", "--dark", "0.2"]
    with pytest.raises(UsageError, match=r"--dark 0\.2: .* has its masks drawn already; leave it out"):
        program.main(arguments)


def test_a_network_learns_distant_faces_from_stored_masks(dataset, tmp_path, monkeypatch):
    read = []

    def note(*given, layers, **more):
        read.append(layers)
        return open_pack(*given, layers=layers, **more)

    monkeypatch.setattr(segmenter, "open_pack", note)
    arguments = ["--pack", str(dataset), "--run", str(tmp_path), "--preset", "tiny", "--batch", "4", "--images", "8"]
    run = segmenter.main([*arguments, "--precision", "float32", "--distant", "1", "--cut", "0.5"])
    assert run.clock.images == 8
    assert "truth" in read[0]  # without it the bare faces would be masked ones that are said to be bare


def test_distant_bare_faces_of_a_dataset_are_those_that_are_stored_without_a_mask(dataset, monkeypatch):
    given = []

    def note(images, mask, bare, generator, *, share):
        given.append((images, mask, bare(torch.arange(len(images))), share))
        return images, mask

    monkeypatch.setattr(segmenter, "distant_some", note)
    faces = open_pack(dataset, "train", layers=LAYERS)
    prepare = segmenter.preparation(faces, masks_for(faces, camera=0.0), torch.device("cpu"), turn=0.0, distant=0.4)
    prepare(faces.rows[:6], torch.Generator().manual_seed(3))
    ((images, mask, bare, share),) = given
    assert share == 0.4
    changed = (images - bare).abs().mean(1, keepdim=True)
    assert changed[mask > 0.95].mean() > 0.1
    assert changed[mask < 0.05].mean() < 0.01


def test_an_inpainter_that_hides_masks_is_shown_what_is_stored_about_them(dataset, vgg, tmp_path, monkeypatch):
    shown, inside = [], inpainter.hidden

    def note(face, mask):
        shown.append((face, mask.expand_as(face) > 0.5))
        return inside(face, mask)

    monkeypatch.setattr(inpainter, "hidden", note)
    arguments = ["--pack", str(dataset), "--preset", "tiny", "--batch", "4", "--images", "4", "--precision", "float32"]
    arguments += ["--vgg", str(vgg), "--feature-scale", "0.5", "--weight-adversarial", "0", "--grow", "0", "--jitter", "0"]
    faces = {}
    for name, more in {"bare": [], "worn": ["--worn"]}.items():
        run = inpainter.main([*arguments, "--run", str(tmp_path / name), *more])
        assert run.clock.images == 4
        faces[name], hole = shown[0]  # of the first step, on the same photos in both runs
        shown.clear()
    assert (faces["worn"] - faces["bare"]).abs()[hole].mean() > 0.05
    assert faces["worn"][hole].std() > 0.01  # cloth, not the grey that stands for masks that were not read


def test_bare_faces_can_be_left_out(dataset, tmp_path):
    some = tmp_path / "dataset"
    shutil.copytree(dataset, some)
    with np.load(dataset / "faces.npz") as stored:
        table = dict(stored)
    bare = np.flatnonzero(table["split"] == "train")[::3]
    table["kind"][bare] = 0
    np.savez(some / "faces.npz", **table)
    every, worn = open_pack(some, "train"), open_pack(some, "train", bare=False)
    assert set(every.rows.tolist()) - set(worn.rows.tolist()) == set(bare.tolist())
    assert len(open_pack(dataset, "train", bare=False)) == len(every)


def test_the_people_of_a_dataset_are_grouped_as_those_of_a_pack(dataset):
    faces = open_pack(dataset, "train")
    found = people(dataset, faces, faces.rows[:3])
    assert all(-90 < person.yaw < 90 for person in found.values())
    whole = typology_angle(np.ascontiguousarray(faces.images[faces.rows[:1]][0]), faces.landmarks[faces.rows[0]])
    assert found[int(faces.rows[0])].ita == whole


def test_a_damaged_shard_is_named_with_the_remedy(dataset, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    shard = broken / "shards" / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    faces = open_pack(broken, "train", layers=LAYERS)
    with pytest.raises(InputError, match=r"train-00000\.tar: sample 0 cannot be read .* run the same"):
        faces.images[faces.rows[:1]]
    shard.unlink()
    with pytest.raises(InputError, match="is missing; run the same"):
        open_pack(broken, "train")
