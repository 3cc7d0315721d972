import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from vidunmask.training.morphology import dilate, erode


@pytest.mark.parametrize("radius", [0, 1, 4])
def test_masks_grow_and_shrink_as_in_opencv(radius):
    mask = torch.rand(2, 1, 24, 40, generator=torch.Generator().manual_seed(1))
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    for index in range(2):
        plane = mask[index, 0].numpy()
        assert_array_equal(dilate(mask, radius)[index, 0].numpy(), cv2.dilate(plane, square))
        assert_array_equal(erode(mask, radius)[index, 0].numpy(), cv2.erode(plane, square))
