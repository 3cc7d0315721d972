import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.test_masked_faces import faces, head_landmarks
from vidunmask.errors import InputError
from vidunmask.training.evaluation.pasted import PastedMasks


@pytest.fixture
def folder(tmp_path):
    rgba = np.zeros((80, 120, 4), np.uint8)
    rgba[10:70, 10:110] = (30, 160, 90, 255)
    for name in ("cloth.png", "cloth_left.png", "kn95_green_right.png"):
        Image.fromarray(rgba).save(tmp_path / name)
    Image.fromarray(rgba[..., :3]).save(tmp_path / "texture.png")
    return tmp_path


def test_a_picture_lies_between_nose_bridge_and_chin(folder):
    images, landmarks = faces(3)
    masked, mask, types = PastedMasks(folder)(images, landmarks, torch.Generator().manual_seed(0))
    assert types == ("cloth",) * 3
    points = head_landmarks()
    x, y = points[51].round().long().tolist()
    assert mask[:, 0, y - 4 : y + 4, x - 10 : x + 10].min() > 0.9
    for eye in (37, 44):
        x, y = points[eye].round().long().tolist()
        assert mask[:, 0, y - 4 : y + 4, x - 4 : x + 4].max() == 0
    inside = mask.expand_as(images) > 0.999
    green = torch.tensor([30, 160, 90]).view(1, 3, 1, 1).expand_as(images) / 255
    torch.testing.assert_close(masked[inside], green[inside], atol=0.02, rtol=0)
    torch.testing.assert_close(masked[mask.expand_as(images) == 0], images[mask.expand_as(images) == 0])


def test_turned_faces_wear_the_picture_from_their_side(folder):
    masks = PastedMasks(folder)
    for yaw, expected in ((40.0, "kn95"), (-40.0, "cloth")):
        images, landmarks = faces(2, yaw=yaw)
        assert set(masks(images, landmarks, torch.Generator().manual_seed(0))[2]) == {expected}


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        PastedMasks(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no picture of a mask"):
        PastedMasks(tmp_path)
