"""One frame again: the same where nothing changed, and every change said where it begins."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from tests.stages.drawn_faces import DiscDetector, frame_with
from vidunmask import geometry
from vidunmask.errors import InputError, UsageError, WeightsError
from vidunmask.geometry import TEMPLATE68
from vidunmask.pipelines import cli
from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.dump import again, pictures, store
from vidunmask.pipelines.dump.choice import FrameChoice
from vidunmask.pipelines.dump.redo import STAGES, redo
from vidunmask.pipelines.dump.run import dump
from vidunmask.pipelines.report import library_versions
from vidunmask.stages import wearing
from vidunmask.stages.observe import Observer
from vidunmask.stages.unmask import unmask
from vidunmask.types import FaceCrop, FrameFaces
from vidunmask.video import pixels

from .conftest import SAMPLES
from .test_dump import calls, lines, place


@pytest.fixture(scope="module")
def config(weights):
    # One face a call, as a redo has it: a convolution's last bits may depend on how many go through at a time.
    return Config(device="cpu", precision="float32", segmenter=weights.everywhere, inpainter=weights.inpainter, batch=1)


@pytest.fixture(scope="module")
def parts(config):
    return build(config)


@pytest.fixture(scope="module")
def folder(clip, config, parts, tmp_path_factory):
    target = tmp_path_factory.mktemp("redo") / "seams"
    dump(clip, target, choice=FrameChoice("0,8"), config=config, parts=parts)
    return target


@pytest.fixture(scope="module")
def other_inpainter(weights, tmp_path_factory):
    import torch

    from vidunmask.networks import weights as store

    torch.manual_seed(1)
    arguments = store.presets("inpainter", "gated_mcsam")["tiny"]
    state = store.build("inpainter", "gated_mcsam", arguments).state_dict()
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    store.save(path, state, kind="inpainter", network="gated_mcsam", arguments=arguments, provenance={"made_by": "a test"})
    return path


@pytest.mark.parametrize("frame", [0, 8])
@pytest.mark.parametrize("start", STAGES[1:])
def test_unchanged_code_gives_the_same_bits_from_every_stage_on(folder, parts, start, frame):
    report = redo(folder, frame, start=start, parts=parts)
    assert report.identical
    assert [change.stage for change in report.changes] == [*STAGES[STAGES.index(start) :], "result"]
    assert all(change.most == 0 for change in report.changes)
    assert report.notes == ()


class BesideTheDisc(DiscDetector):
    """Finds a disc that it does not trust, as a head in profile."""

    def landmarks(self, region):
        return replace(super().landmarks(region), trust=0.0)


class Blue:
    """Takes blue for a mask."""

    def glance(self, images):
        return np.stack([(image[..., 2] > 180).astype(np.float32) for image in images])


def test_detection_of_a_turned_head_goes_where_its_mask_is(tmp_path):
    frame = frame_with([(160, 90, 30)])
    picture = frame.native.to_ndarray(format="rgb24").copy()  # it may be a view of the frame
    picture[92:118, 191:235] = (0, 0, 250)
    masked = replace(frame, native=av.VideoFrame.from_ndarray(picture, format="rgb24"))
    detector = BesideTheDisc()
    (bare,) = again.detect(frame, [], detector, Blue(), tmp_path)
    (worn,) = again.detect(masked, [], detector, Blue(), tmp_path)
    assert worn.path[0][1] - bare.path[0][1] > 5  # what the crop is laid by
    np.testing.assert_array_equal(worn.landmarks, bare.landmarks)


class Doubtful(DiscDetector):
    """Sees something in the right half of a picture that may be a face."""

    def detect(self, image, *, thorough=False):
        return [
            replace(found, score=0.5) if image.shape[0] != image.shape[1] and found.box[0] > image.shape[1] / 2 else found
            for found in super().detect(image, thorough=thorough)
        ]


def test_detection_begins_no_track_with_a_face_that_a_run_would_not_have_begun_one_with(tmp_path):
    frame = frame_with([(80, 90, 30), (240, 90, 30)])
    found = again.detect(frame, [], Doubtful(), Blue(), tmp_path)
    assert [round(face.box[:3:2].mean()) for face in found] == [80]
    before = replace(found[0], track_id=7, box=found[0].box + np.array([160, 0, 160, 0]))
    known = again.detect(frame, [before], Doubtful(), Blue(), tmp_path)
    assert [face.track_id for face in known] == [7, 8]


class Everywhere:
    def segment(self, images, *, large):
        return np.stack([np.ones(image.shape[:2], np.float32) for image in images])


def test_of_two_heads_side_by_side_each_loses_its_own_mask_only_as_in_the_run(tmp_path):
    frame = frame_with([])
    landmarks = [TEMPLATE68 * 0.3 + [shift, 40] for shift in (80, 130)]
    transforms = [geometry.align(points) for points in landmarks]
    images = [pixels.read_crop(frame, frame_to_crop, geometry.CROP_SIZE) for frame_to_crop in transforms]
    crops = tuple(
        FaceCrop(number, image, frame_to_crop, geometry.apply(frame_to_crop, points), 1.0, True)
        for number, (image, frame_to_crop, points) in enumerate(zip(images, transforms, landmarks, strict=True))
    )
    boxes = [np.concatenate([points.min(axis=0), points.max(axis=0)]) for points in landmarks]
    faces = [
        again.Face(number, box, points, 1.0, True, True, frame_to_crop=frame_to_crop, crop=image)
        for number, (box, points, frame_to_crop, image) in enumerate(zip(boxes, landmarks, transforms, images, strict=True))
    ]
    again.segment(faces, Everywhere(), tmp_path)
    in_the_run = []

    class Watcher(Observer):
        def segmented(self, item):
            in_the_run.extend(item.faces)

    networks = SimpleNamespace(segment=Everywhere().segment, inpaint=lambda images, _: np.stack(images).astype(np.float32))
    list(unmask([FrameFaces(frame, crops)], networks, observer=Watcher()))
    for face, run in zip(faces, in_the_run, strict=True):
        np.testing.assert_array_equal(face.probability, run.probability)
        assert 0.1 < face.probability.mean() < 0.95


def test_detection_has_no_past_and_says_so_but_finds_the_face_again(folder, parts):
    report = redo(folder, 8, start="detect", parts=parts)
    assert "as if it were the first" in report.notes[0]
    by_stage = {change.stage: change for change in report.changes}
    assert by_stage["detect"].most < 12
    assert by_stage["crop"].track == 0
    assert (report.folder / "detections.png").exists()


def test_other_weights_change_what_comes_after_them_and_nothing_before(folder, other_inpainter):
    report = redo(folder, 8, start="segment", given={"inpainter": other_inpainter})
    by_stage = {change.stage: change for change in report.changes}
    assert by_stage["segment"].most == by_stage["hole"].most == 0
    assert by_stage["inpaint"].most > 0
    assert by_stage["result"].most > 0
    assert not report.identical
    assert any("other.safetensors" in note for note in report.notes)


def test_another_device_than_that_of_the_dump_is_named(folder, parts):
    report = redo(folder, 8, start="inpaint", parts=replace(parts, device="cuda", precision="bfloat16"))
    assert report.notes == ("dumped on cpu in float32, run again on cuda in bfloat16",)


def test_other_versions_than_those_of_the_dump_are_named(folder, monkeypatch):
    about = json.loads((folder / "dump.json").read_text(encoding="utf-8"))
    assert about["versions"] == library_versions()
    monkeypatch.setattr(store, "read_about", lambda folder: {**about, "versions": {**about["versions"], "av": "1.2.3"}})
    assert redo(folder, 8, start="blend").notes == (f"dumped by av 1.2.3, run again by {av.__version__}",)


def test_frames_alone_differ_where_the_past_had_a_say(folder, parts):
    assert not redo(folder, 8, start="blend", given={"temporal": False}).identical


def test_a_mask_that_is_no_longer_seen_is_no_longer_removed(folder, weights):
    report = redo(folder, 8, start="segment", given={"segmenter": weights.nowhere, "temporal": False})
    assert "(there is none now)" in {change.stage: change for change in report.changes}["inpaint"].unit
    source = pictures.read_png(place(folder, 8) / "frame.png")
    assert np.array_equal(pictures.read_png(report.folder / "result.png"), source)
    assert json.loads((report.folder / "redo.json").read_text())["faces"][0]["opacity"] == 0


def test_the_pictures_lie_beside_the_old_ones_and_on_the_page(folder, parts):
    before = len(calls(folder, "redo"))
    old = (place(folder, 8) / "result.png").read_bytes()
    report = redo(folder, 8, start="inpaint", parts=parts)
    assert report.folder.parent == place(folder, 8) / "redo"
    assert (place(folder, 8) / "result.png").read_bytes() == old
    (entry,) = calls(folder, "redo")[before:]
    assert (entry["index"], entry["from"], entry["identical"]) == (8, "inpaint", True)
    assert all((folder / entry["place"] / name).exists() for name in entry["files"])
    assert {"face0-raw.png", "face0-blended.png", "result.png"} <= set(entry["files"])


def test_weights_of_the_dump_that_are_gone_are_named_with_the_way_on(clip, tmp_path, config, other_inpainter):
    gone = tmp_path / "gone.safetensors"
    shutil.copy(other_inpainter, gone)
    dump(clip, tmp_path / "d", choice=FrameChoice("0"), config=replace(config, inpainter=str(gone)))
    gone.unlink()
    with pytest.raises(WeightsError, match=rf"{gone}.*dump was made with it; --inpainter WEIGHTS"):
        redo(tmp_path / "d", 0, start="inpaint")
    assert redo(tmp_path / "d", 0, start="inpaint", given={"inpainter": other_inpainter}).identical


def test_a_face_that_wore_no_mask_can_be_run_again(clip, tmp_path, config, weights):
    bare = replace(config, segmenter=weights.nowhere)
    dump(clip, tmp_path / "d", choice=FrameChoice("3"), config=bare)
    assert redo(tmp_path / "d", 3).identical
    assert not redo(tmp_path / "d", 3, start="segment", given={"segmenter": weights.everywhere, "temporal": False}).identical


def test_a_picture_can_be_run_again_even_from_detection_on(tmp_path, config, parts):
    small = Image.open(SAMPLES / "astronaut_masked.jpg").resize((256, 256))
    picture = Image.new("RGB", (3000, 300), (150, 150, 150))  # in which only a search in tiles finds faces of 45 pixels
    picture.paste(small, (60, 20))
    picture.save(tmp_path / "in.png")
    dump(tmp_path / "in.png", tmp_path / "d", config=config, parts=parts)
    assert len(lines(tmp_path / "d")[0]["faces"]) == 1
    report = redo(tmp_path / "d", 0, start="detect", parts=parts)
    assert report.identical


def test_a_small_face_that_was_left_alone_for_doubt_is_left_alone_again(tmp_path, monkeypatch, config, parts):
    monkeypatch.setattr(wearing, "UNSURE", -1.0)  # so that every small face is in doubt
    Image.open(SAMPLES / "astronaut_masked.jpg").resize((256, 256)).save(tmp_path / "in.png")
    dump(tmp_path / "in.png", tmp_path / "d", config=config, parts=parts)
    (face,) = lines(tmp_path / "d")[0]["faces"]
    assert face["opacity"] == 0
    assert redo(tmp_path / "d", 0, start="segment", parts=parts).identical


@pytest.fixture
def close_up(clip, tmp_path):
    """The clip's first frames at twice its size, where a face is larger than its crop, with the grain of a camera."""
    rng = np.random.default_rng(0)
    path = tmp_path / "close.mkv"
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 960, "yuv420p"
        for frame, _ in zip(source.decode(video=0), range(8), strict=False):
            image = frame.to_ndarray(format="rgb24", width=1280, height=960)
            grainy = np.clip(image + rng.normal(0, 6, image.shape[:2])[..., None], 0, 255).astype(np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(grainy, "rgb24")))
        target.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("start", ["blend", "crop"])
def test_a_face_larger_than_its_crop_gets_the_skin_it_had(start, close_up, tmp_path, config, parts):
    dump(close_up, tmp_path / "d", choice=FrameChoice("0,6"), config=config, parts=parts)
    (face,) = lines(tmp_path / "d")[1]["faces"]
    assert face["past"]["skin"]["strength"] > 0
    assert face["past"]["skin"]["age"] == 6
    for frame in (0, 6):
        assert redo(tmp_path / "d", frame, start=start, parts=parts).identical


def test_a_run_without_memory_is_run_again_without_memory(clip, tmp_path, config, parts):
    dump(clip, tmp_path / "d", choice=FrameChoice("5"), config=replace(config, temporal=False), parts=parts)
    assert redo(tmp_path / "d", 5, parts=parts).identical


def test_what_cannot_be_run_again_is_one_line(folder, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    cases = [
        ([folder, "--frame", "7"], 2, "--frame 7: not among the 2 frames"),
        ([folder, "--frame", "-1"], 2, "counted from 0"),
        ([folder, "--frame", "8", "--from", "nose"], 2, "--from"),
        ([folder], 2, "--frame"),
        ([tmp_path / "empty", "--frame", "8"], 3, "holds no dump"),
        ([place(folder, 8) / "frame.png", "--frame", "8"], 3, "holds no dump"),
        ([tmp_path / "none", "--frame", "8"], 3, "no such file or folder"),
        ([folder, "--frame", "8", "--inpainter", tmp_path / "none"], 6, "no such weights"),
        ([folder, "--frame", "8", "--batch", "0"], 2, "--batch 0"),
    ]
    redone = sorted((place(folder, 8) / "redo").iterdir()) if (place(folder, 8) / "redo").exists() else []
    for arguments, code, said in cases:
        assert cli.main(["redo", *map(str, arguments)]) == code
        (line,) = capfd.readouterr().err.splitlines()
        assert said in line
    assert (sorted((place(folder, 8) / "redo").iterdir()) if redone else []) == redone


def test_a_damaged_dump_is_named_and_left_as_it_was(clip, tmp_path, config, parts):
    dump(clip, tmp_path / "d", choice=FrameChoice("1"), config=config, parts=parts)
    data = (tmp_path / "d" / "data.js").read_bytes()
    for name in ("face0.npz", "face0-crop.png", "frame.npz"):
        path = place(tmp_path / "d", 1) / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match=name):
            redo(tmp_path / "d", 1, start="blend")
        path.write_bytes(whole)
    assert (tmp_path / "d" / "data.js").read_bytes() == data
    assert not list((place(tmp_path / "d", 1) / "redo").iterdir())
    (tmp_path / "d" / "dump.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        redo(tmp_path / "d", 1)


def test_options_come_from_the_dump_where_none_are_given(folder, config, capsys):
    with pytest.raises(UsageError, match="--precision"):
        redo(folder, 8, given={"precision": "float64"})
    assert cli.main(["redo", str(folder), "--frame", "8", "--from", "hole"]) == 0
    said = capsys.readouterr()
    assert "result   frame    identical" in said.out
    assert "the result is identical" in said.err
    assert len(lines(folder)) == 2
