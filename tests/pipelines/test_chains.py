"""The chains of stages, a file's and live mode's, over a head in profile: its mask lies beyond the crop of its landmarks."""

import time
from contextlib import closing
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch import nn

from vidunmask import detectors, geometry
from vidunmask.detectors import Landmarks
from vidunmask.flow import Latest
from vidunmask.pipelines.build import Parts
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.live.chain import AIM_EVERY, Chain
from vidunmask.pipelines.live.pace import Level
from vidunmask.pipelines.remove import edited_frames
from vidunmask.pipelines.report import Stopwatch, Tally
from vidunmask.stages.unmask import Unmasker
from vidunmask.types import Detection, Frame

HEIGHT, WIDTH = 480, 720
CORNER = np.array([200.0, 100.0])  # where a face of the crop's own size has the corner of its crop
MASK = slice(245, 345), slice(310, 530)  # rows and columns; from the middle of the face to beyond the crop
COUNT = 14


class Profile:
    """A detector that sees one head at one place and cannot say where its features are."""

    region_size = 256

    def detect(self, image, *, thorough=False):
        side = image.shape[1]
        if side == image.shape[0]:  # a second look, which is square and has the face in its middle
            box = np.array([0.3, 0.3, 0.7, 0.7], np.float32) * side
            return [Detection(box, np.full((5, 2), side / 2, np.float32), 0.9)]
        scale = side / WIDTH  # of a smaller copy of the frame
        points = (geometry.TEMPLATE68[[37, 44, 30, 48, 54]] + CORNER) * scale
        box = np.concatenate([geometry.TEMPLATE68.min(0) + CORNER, geometry.TEMPLATE68.max(0) + CORNER]) * scale
        return [Detection(box.astype(np.float32), points.astype(np.float32), 0.9)]

    def region(self, face):
        return np.hstack([np.eye(2), -CORNER[:, None]])

    def landmarks(self, region):
        return Landmarks(geometry.TEMPLATE68.astype(np.float32), 0.9, trust=0.0)


class Blue(nn.Module):
    """Takes what is blue for a mask."""

    def forward(self, image):
        return 24 * (image[:, 2:] - image[:, :1]) - 6


class Grey(nn.Module):
    """Fills every hole with the grey of the frame."""

    def forward(self, image, mask):
        return torch.full_like(image, 120 / 255)


def frames():
    picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    picture[MASK] = 30, 60, 220
    for index in range(COUNT):
        native = av.VideoFrame.from_ndarray(picture, format="rgb24")
        time.sleep(0.02)  # a camera's pictures come one by one; the detector needs the first of them
        yield Frame(index, native, index, Fraction(1, 25), (HEIGHT, WIDTH), np.eye(2, 3))


class Every(Latest):
    """All items, none overtaken by a newer one."""

    def __init__(self, items, limit):
        super().__init__(items, limit)
        self._newest = items


@pytest.fixture
def run(monkeypatch):
    """Runs the chain over the frames, none of them dropped. Gives the blue pixels left in each, the frames with a face, and the
    looks of `aim`."""

    def run():
        monkeypatch.setattr(detectors, "create", lambda name, **_: Profile())
        monkeypatch.setattr("vidunmask.pipelines.live.chain.Latest", Every)
        unmasker = Unmasker(Blue(), Grey())
        looks = []
        glance = unmasker.glance
        monkeypatch.setattr(unmasker, "glance", lambda images: looks.append(len(images)) or glance(images))
        parts = Parts(Profile(), unmasker, "cpu", "float32", {})
        chain = Chain(frames(), parts, Config(), Level(every=1, thorough_every=1e9, inpaint_every=1), Stopwatch())
        left, with_face = [], 0
        for output in chain.outputs(lambda: 0):
            left.append(blue_left(output.frame))
            with_face += bool(output.faces)
            chain.done()
        return left, with_face, looks

    return run


def blue_left(frame):
    picture = frame.native.to_ndarray(format="rgb24").astype(int)
    return int((picture[..., 2] - picture[..., 0] > 60).sum())


def test_in_a_file_the_mask_of_a_turned_head_is_taken_away_in_every_frame(monkeypatch):
    def left():
        parts = Parts(Profile(), Unmasker(Blue(), Grey()), "cpu", "float32", {})
        with closing(edited_frames(frames(), parts, Config(), Stopwatch(), Tally())) as edited:
            return [blue_left(frame) for frame in edited]

    assert left() == [0] * COUNT
    monkeypatch.setattr("vidunmask.stages.aim.aim", lambda tracked, looker: tracked)
    assert min(left()) > 0


def test_live_the_mask_of_a_turned_head_is_taken_away_as_soon_as_it_is_found(run, monkeypatch):
    left, with_face, looks = run()
    assert len(left) == COUNT
    assert with_face > 2 * AIM_EVERY  # the detector runs beside: the first frames go without
    assert left[-1] == 0
    assert sum(looks) == -(-with_face // AIM_EVERY)  # the first frame with a face and every third from there

    monkeypatch.setattr("vidunmask.pipelines.live.chain.aim", lambda tracked, looker, *, every: tracked)
    unaimed, *_ = run()
    assert unaimed[-1] > 0.1 * left[0] > 0  # so it is `aim` that finds it
