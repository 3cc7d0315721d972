from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from vidunmask.errors import DeviceError
from vidunmask.geometry import TEMPLATE68
from vidunmask.stages.holes import DOUBT, MOST, RIM, SAFETY, MaskSmoother, guide_of, hole_of
from vidunmask.stages.memory import TrackMemory
from vidunmask.stages.unmask import FillsAgain, Unmasker, unmask
from vidunmask.stages.wearing import Thresholds, lower_face
from vidunmask.types import FaceCrop, FrameFaces, KnownFace

SIZE = 256
BLUE = (40, 80, 220)


class BlueIsMask(nn.Module):
    """Takes every clearly blue pixel for a mask."""

    def forward(self, image):
        return (image[:, 2:] - image[:, :1] - 0.3) * 100


class HalfSure(BlueIsMask):
    """The same, and no more than rather sure of it."""

    def forward(self, image):
        return super().forward(image).clamp(max=0.6)


class Skin(nn.Module):
    """Fills with one colour."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, image, mask):
        self.sizes.append(len(image))
        return torch.full_like(image, 0.7)


class NotANumber(nn.Module):
    def forward(self, image, mask=None):
        return torch.full_like(image[:, :1] if mask is None else image, float("nan"))


def face(*, masked):
    image = np.full((SIZE, SIZE, 3), (190, 150, 130), np.uint8)
    if masked:
        image[135:225, 70:186] = BLUE
    return image


def crops(masked, *, tracks=1, reset_at=()):
    """Frames at 25/s whose faces are masked or not, as the entries of ``masked`` say."""
    for index, on in enumerate(masked):
        frame = SimpleNamespace(index=index, pts=index, time=Fraction(index, 25), nbytes=0)
        reset = index == 0 or index in reset_at
        yield FrameFaces(
            frame,
            tuple(FaceCrop(track, face(masked=on), np.eye(2, 3), TEMPLATE68, 1.0, reset) for track in range(tracks)),
            cut=index == 3,
        )


def test_a_masked_face_is_filled_and_a_bare_one_never_reaches_the_inpainter():
    skin = Skin()
    masked = list(unmask(crops([True] * 12), Unmasker(BlueIsMask(), skin)))
    assert [item.frame.index for item in masked] == list(range(12))
    fill = masked[5].faces[0]
    assert fill.opacity == 1
    assert fill.mask[180, 128] == 1
    assert fill.image[180, 128].tolist() == [179, 179, 179]
    assert np.array_equal(fill.image[fill.mask == 0], fill.crop[fill.mask == 0])

    skin.sizes.clear()
    bare = list(unmask(crops([False] * 12), Unmasker(BlueIsMask(), skin)))
    assert all(item.faces[0].opacity == 0 for item in bare)
    assert np.array_equal(bare[3].faces[0].image, bare[3].faces[0].crop)
    assert skin.sizes == []


@pytest.mark.parametrize(("enlarged", "opacity"), [(1.0, 1.0), (3.0, 0.0)])
def test_a_doubtful_mask_is_taken_off_a_large_face_and_not_off_a_small_one(enlarged, opacity):
    series = (
        replace(item, faces=tuple(replace(crop, frame_to_crop=enlarged * np.eye(2, 3)) for crop in item.faces))
        for item in crops([True] * 12)
    )
    done = list(unmask(series, Unmasker(HalfSure(), Skin())))
    assert [item.faces[0].opacity for item in done] == [opacity] * 12


@pytest.mark.parametrize(("enlarged", "reach"), [(1.0, SAFETY), (4.0, MOST)])
def test_the_hole_of_a_face_that_is_small_in_the_frame_reaches_further(enlarged, reach):
    (item,) = crops([True])
    small = replace(item, faces=tuple(replace(crop, frame_to_crop=enlarged * np.eye(2, 3)) for crop in item.faces))
    ((fill,),) = (done.faces for done in unmask([small], Unmasker(BlueIsMask(), Skin())))
    rows = np.flatnonzero(fill.mask[:, 128])
    assert (rows[0], rows[-1]) == (135 - reach - RIM, 224 + reach + RIM)


def test_the_cut_flag_and_frames_without_faces_pass_through():
    items = [*crops([True] * 5), FrameFaces(SimpleNamespace(index=5, time=Fraction(1, 5), nbytes=0), ())]
    out = list(unmask(items, Unmasker(BlueIsMask(), Skin())))
    assert [item.cut for item in out] == [False, False, False, True, False, False]
    assert out[-1].faces == ()


def test_faces_of_several_frames_share_a_call_of_the_network():
    skin = Skin()
    list(unmask(crops([True] * 16, tracks=2), Unmasker(BlueIsMask(), skin, batch=8), min_faces=8, max_frames=16))
    assert skin.sizes == [8, 8, 8, 8]


@pytest.mark.parametrize("temporal", [True, False])
def test_large_frames_are_not_held_by_the_batch(temporal):
    alive = 0

    def large():
        nonlocal alive
        for item in crops([True] * 60):
            item.frame.nbytes = 50 << 20
            alive += 1
            yield item

    most = 0
    networks = Unmasker(BlueIsMask(), Skin(), batch=64)
    for _ in unmask(large(), networks, min_faces=64, max_frames=64, max_bytes=200 << 20, temporal=temporal):
        most = max(most, alive)
        alive -= 1
    assert most <= 12


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to"), RuntimeError("MPS backend out of memory (MPS allocated: 1 GB")],
)
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(error, caplog):
    class Small(Skin):
        def forward(self, image, mask):
            if len(image) > 3:
                raise error
            return super().forward(image, mask)

    skin = Small()
    unmasker = Unmasker(BlueIsMask(), skin, batch=16)
    with caplog.at_level("WARNING"):
        out = list(unmask(crops([True] * 16), unmasker, min_faces=16, max_frames=16))
    assert len(out) == 16
    assert all(item.faces[0].opacity == 1 for item in out)
    assert max(skin.sizes) <= 3
    assert unmasker.batch == 2
    assert "out of memory" in caplog.text


def test_one_face_that_does_not_fit_is_a_device_error():
    class Never(Skin):
        def forward(self, image, mask):
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(DeviceError, match="--device cpu"):
        list(unmask(crops([True] * 4), Unmasker(BlueIsMask(), Never())))


def test_what_else_goes_wrong_in_a_network_is_no_lack_of_memory():
    class Broken(Skin):
        def forward(self, image, mask):
            raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes"):
        list(unmask(crops([True] * 4), Unmasker(BlueIsMask(), Broken())))


def test_a_batch_that_another_thread_has_halved_meanwhile_is_tried_again_in_that_size():
    class Small(Skin):
        def forward(self, image, mask):
            unmasker.batch = 1  # as a look of another stage does that found no memory either
            if len(image) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(image, mask)

    unmasker = Unmasker(BlueIsMask(), Small(), batch=4)
    fills = unmasker.inpaint([face(masked=True)] * 5, [np.ones((SIZE, SIZE), np.float32)] * 5)
    assert len(fills) == 5
    assert unmasker.batch == 1


@pytest.mark.parametrize("networks", [(NotANumber(), Skin()), (BlueIsMask(), NotANumber())])
def test_nan_leaves_the_face_as_it_is_and_says_so_once(networks, caplog):
    with caplog.at_level("WARNING"):
        out = list(unmask(crops([True] * 20), Unmasker(*networks)))
    assert all(item.faces[0].opacity == 0 for item in out)
    assert all(np.array_equal(item.faces[0].image, item.faces[0].crop) for item in out)
    assert caplog.text.count("NaN") == 1


def test_a_mask_put_on_fades_in_and_a_reset_starts_afresh():
    out = list(unmask(crops([False] * 20 + [True] * 20), Unmasker(BlueIsMask(), Skin())))
    opacity = [item.faces[0].opacity for item in out]
    assert opacity[15] == 0
    assert opacity[-5] == 1
    assert any(0 < value < 1 for value in opacity)

    cut = list(unmask(crops([False] * 20 + [True] * 20, reset_at=(20,)), Unmasker(BlueIsMask(), Skin())))
    assert [item.faces[0].opacity for item in cut] == [0] * 20 + [1] * 20


def half_masked(rows):
    """A face with that many rows of it blue, from the chin up."""
    image = face(masked=False)
    image[225 - rows : 225, 70:186] = BLUE
    return image


def test_a_face_known_to_have_worn_a_mask_before_the_first_frame_goes_on_wearing_it():
    items = list(crops([False] * 6))
    zones, limits = lower_face(TEMPLATE68, SIZE), Thresholds()
    shares = {rows: zones.covered((half_masked(rows)[..., 2] == BLUE[2]).astype(np.float32)) for rows in range(30, 90)}
    # too little to begin with, enough to go on
    image = half_masked(next(rows for rows, share in shares.items() if limits.stop + 0.02 < share < limits.stop + 0.08))
    items = [replace(item, faces=tuple(replace(crop, image=image) for crop in item.faces)) for item in items]

    def opacities(known=()):
        return [item.faces[0].opacity for item in unmask(items, Unmasker(BlueIsMask(), Skin()), known=known)]

    assert opacities() == [0] * 6
    assert opacities([KnownFace(0, TEMPLATE68, -0.04, worn=True)]) == [1] * 6
    assert opacities([KnownFace(5, TEMPLATE68, -0.04, worn=True)]) == [0] * 6


@pytest.mark.parametrize("look_ahead", [0.25, 0])
def test_a_mask_that_is_missed_in_the_first_frame_is_removed_there_where_frames_are_held_back(look_ahead):
    class Misses(BlueIsMask):
        def forward(self, image):
            return super().forward(image) - 1000 * (image[:, :1, :1, :1] > 0.99).float()

    items = list(crops([True] * 10))
    items[0].faces[0].image[0, 0] = 255  # the sign to miss it
    out = list(unmask(items, Unmasker(Misses(), Skin()), look_ahead=look_ahead))
    assert out[0].faces[0].opacity == out[0].faces[0].mask[180, 128] == (1 if look_ahead else 0)
    assert out[-1].faces[0].opacity == 1


def test_without_temporal_every_frame_stands_alone():
    out = list(unmask(crops([False, True, False, True]), Unmasker(BlueIsMask(), Skin()), temporal=False))
    assert [item.faces[0].opacity for item in out] == [0, 1, 0, 1]


def test_inference_mode_does_not_leak_out_of_the_generator():
    stream = unmask(crops([True] * 20), Unmasker(BlueIsMask(), Skin()))
    next(stream)
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")


def test_bfloat16_gives_nearly_the_same_fill():
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, image, mask):
            return torch.sigmoid(self.conv(torch.cat([image, mask], 1)))

    net = Net()
    images, holes = [face(masked=True)], [np.ones((SIZE, SIZE), np.float32)]
    full = Unmasker(BlueIsMask(), net).inpaint(images, holes)
    half = Unmasker(BlueIsMask(), net, dtype=torch.bfloat16).inpaint(images, holes)
    assert full.dtype == half.dtype == np.float32
    assert np.abs(full - half).max() < 3
    assert not np.array_equal(full, half)


def region():
    return lower_face(TEMPLATE68, SIZE).region


def test_doubtful_parts_belong_to_the_mask_where_they_hang_together_with_it():
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[140:180, 80:176] = 0.9
    probability[180:220, 80:176] = 0.35  # a profile's chin
    hole = hole_of(probability, region())
    assert hole[200, 128] == 1
    probability[140:180, 80:176] = 0.35  # nothing is certain
    assert not hole_of(probability, region()).any()


def test_a_faint_loop_belongs_to_the_mask_where_it_hangs_together_with_it_and_a_faint_haze_does_not():
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[140:220, 80:176] = 1
    probability[100:140, 80:83] = 0.18  # a loop before hair
    probability[140:220, 176:216] = 0.18  # what hangs behind the head
    hole = hole_of(probability, region())
    assert hole[100, 81] == 1
    assert hole[180, 200] == 0


def test_pieces_of_a_loop_that_hair_cuts_belong_to_the_mask_and_far_ones_do_not():
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[140:220, 80:176] = 1
    probability[112:134, 78:82] = 1  # the loop goes on above a lock of hair,
    probability[86:106, 76:80] = 1  # and once more
    probability[60:80, 200:204] = 1  # an earring, far off
    hole = hole_of(probability, region())
    assert hole[96, 78] == 1
    assert hole[120, 80] == 1
    assert hole[70, 202] == 0


def test_a_hole_reaches_safely_beyond_the_mask_and_drops_what_is_elsewhere():
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[140:220, 80:176] = 1
    probability[10:40, 10:40] = 1  # somebody's hat
    hole = hole_of(probability, region())
    assert hole[140 - SAFETY - RIM, 128] == 1
    assert hole[140 - SAFETY - RIM - 2, 128] == 0
    assert hole[20, 20] == 0


@pytest.mark.parametrize(("scale", "reach"), [(0.3, SAFETY), (2.0, 3), (20.0, MOST)])
def test_a_hole_reaches_further_where_a_pixel_of_the_frame_covers_several_of_the_crop(scale, reach):
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[140:220, 80:176] = 1
    hole = hole_of(probability, region(), scale=scale)
    assert int(np.flatnonzero(hole[:, 128])[0]) == 140 - reach - RIM


def test_a_hole_reaches_further_where_the_masks_edge_is_in_doubt_but_not_to_the_end_of_the_doubt():
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[140:220, 80:176] = 1
    probability[100:140, 80:120] = 0.15  # a fringe, or hair in front of the mask
    hole = hole_of(probability, region())
    assert int(np.flatnonzero(hole[:, 100])[0]) == 140 - DOUBT - RIM
    assert int(np.flatnonzero(hole[:, 160])[0]) == 140 - SAFETY - RIM


def test_a_print_inside_the_mask_is_filled_too_and_a_hand_at_its_edge_is_not():
    probability = np.zeros((SIZE, SIZE), np.float32)
    probability[130:230, 60:196] = 1
    probability[160:190, 115:145] = 0  # a print
    assert hole_of(probability, region())[175, 130] == 1
    probability[150:230, 100:150] = 0  # a hand from below
    assert hole_of(probability, region())[200, 125] == 0


def test_an_empty_segmentation_gives_an_empty_hole():
    assert not hole_of(np.zeros((SIZE, SIZE), np.float32), region()).any()


def test_smoothing_calms_a_flickering_edge_but_not_a_moving_mask():
    still, flicker = guide_of(face(masked=True)), []
    smoother = MaskSmoother()
    rng = np.random.default_rng(0)
    series = [np.clip(0.6 + 0.4 * rng.standard_normal((SIZE, SIZE)), 0, 1).astype(np.float32) for _ in range(12)]
    for index, probability in enumerate(series):
        flicker.append(smoother.step(probability, still, [(later, still) for later in series[index + 1 : index + 3]]))
    assert np.std(flicker[5] - flicker[6]) < 0.5 * np.std(series[5] - series[6])

    smoother = MaskSmoother()
    on, off = np.ones((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32)
    smoother.step(on, guide_of(face(masked=True)))
    after = smoother.step(off, guide_of(face(masked=False)))
    assert after[180, 128] < 0.1


def test_a_loop_in_a_crop_that_sways_is_not_averaged_away():
    rng = np.random.default_rng(3)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (SIZE + 40, SIZE + 40, 3)).astype(np.uint8), (0, 0), 4)
    line = np.zeros((SIZE + 40, SIZE + 40), np.float32)
    cv2.line(line, (40, 60), (150, 160), 1.0, 4)  # a loop
    frames = [(line[20:-20, x : x + SIZE].copy(), wide[20:-20, x : x + SIZE]) for x in (20, 28, 14, 25, 18)]
    series = [(probability, guide_of(np.ascontiguousarray(crop))) for probability, crop in frames]
    smoother = MaskSmoother()
    for probability, guide in series[:2]:
        smoother.step(probability, guide)
    probability, guide = series[2]
    smoothed = smoother.step(probability, guide, series[3:])
    there = probability > 0
    assert smoothed[there].mean() > 0.8  # 0.36 without the motion
    assert smoothed[cv2.dilate(probability, np.ones((9, 9), np.uint8)) == 0].max() < 0.3


def test_a_bare_face_costs_no_flow_but_one_that_is_about_to_wear_a_mask_does(monkeypatch):
    moved = []
    monkeypatch.setattr(
        MaskSmoother, "_moved", lambda self, other, *_: moved.append(1) or (other, np.zeros((128, 128), np.float32))
    )
    guide, bare = guide_of(face(masked=False)), np.full((SIZE, SIZE), 0.05, np.float32)
    smoother = MaskSmoother()
    for _ in range(3):
        np.testing.assert_array_equal(smoother.step(bare, guide, [(bare, guide)] * 2), bare)
    assert not moved
    assert smoother.step(bare, guide, [(bare, guide), (np.ones_like(bare), guide)]).max() > 0.1
    assert len(moved) == 4  # two before, two ahead


def test_a_track_is_forgotten_after_a_while_and_on_reset():
    memory = TrackMemory(list, patience=10)
    memory.of(1, 0).append("seen")
    for index in range(1, 10):
        memory.prune(index)
    assert memory.of(1, 10) == ["seen"]
    assert memory.of(1, 11, reset=True) == []
    memory.of(1, 11).append("seen")
    for index in range(12, 31):
        memory.of(2, index)
        memory.prune(index)
    assert len(memory) == 1
    assert memory.of(1, 31) == []


def test_frames_that_a_slow_run_drops_are_no_absence():
    memory = TrackMemory(list, patience=3)
    memory.of(1, 0).append("seen")
    for index in range(0, 1000, 100):
        assert memory.of(1, index) == ["seen"]
        memory.prune(index)


def test_a_fill_is_used_again_where_the_machine_is_too_slow():
    skin, again = Skin(), FillsAgain(every=3)
    out = list(unmask(crops([True] * 12, reset_at=(5,)), Unmasker(BlueIsMask(), skin), min_faces=1, max_frames=1, again=again))
    assert skin.sizes == [1] * 5  # at 0 and 3, afresh at 5 after the reset, then at 8 and 11
    assert all(item.faces[0].image[180, 128].tolist() == [179, 179, 179] for item in out)
    again.every = 1
    skin.sizes.clear()
    list(unmask(crops([True] * 4), Unmasker(BlueIsMask(), skin), min_faces=1, max_frames=1, again=again))
    assert skin.sizes == [1] * 4


def test_segmenting_and_inpainting_may_overlap_at_a_seam():
    seen = []

    def seam(items):
        for item in items:
            seen.append(item.frame.index)
            yield item

    out = list(unmask(crops([True] * 6), Unmasker(BlueIsMask(), Skin()), seam=seam))
    assert seen == [item.frame.index for item in out] == list(range(6))
