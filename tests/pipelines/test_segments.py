from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vidunmask import geometry
from vidunmask.pipelines.batch import seams
from vidunmask.pipelines.batch.seams import FaceAt
from vidunmask.pipelines.batch.segments import Outcome, divide, run_segment, tasks
from vidunmask.pipelines.build import build
from vidunmask.pipelines.config import Config
from vidunmask.pipelines.remove import edited_frames
from vidunmask.pipelines.report import Stopwatch, Tally, TrackReport
from vidunmask.video.index import FrameIndex, scan
from vidunmask.video.joining import JoinedWriter
from vidunmask.video.packets import Summary, holds
from vidunmask.video.reader import VideoReader
from vidunmask.video.spans import SpanReader

from .conftest import SAMPLES

FPS = 25


def index_of(frames, keys):
    pts = np.arange(frames)
    return FrameIndex(pts, np.array(keys), tuple(keys), 0)


def divided(frames, keys, seconds, every=3):
    return divide(index_of(frames, keys), seconds=seconds, time_base=1 / FPS, every=every)


def begins(segments):
    return [segment.begin for segment in segments]


def test_segments_follow_each_other_and_begin_at_key_frames_near_their_length():
    segments = divided(2000, range(0, 2000, 60), 10)
    assert begins(segments) == [0, 240, 480, 720, 960, 1200, 1440, 1680]
    assert [s.end for s in segments] == [*begins(segments)[1:], 2000]
    assert [s.number for s in segments] == list(range(8))


def test_a_key_frame_before_its_time_is_where_a_segment_likes_to_begin():
    keys = [*range(0, 190, 60), 217, *range(277, 1000, 60)]  # a new shot at 217
    assert begins(divided(1000, keys, 10))[1] == 217


def test_a_video_with_one_key_frame_is_divided_all_the_same():
    assert begins(divided(1000, [0], 10)) == [0, 250, 500]


def test_a_video_shorter_than_two_segments_is_one():
    assert len(divided(499, [0, 250], 10)) == 1
    assert len(divided(1000, [0, 250], float("inf"))) == 1


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_segment_runs_in_for_two_seconds_from_a_frame_on_which_the_detector_runs(every):
    for segment in divided(2000, range(0, 2000, 60), 10, every=every)[1:]:
        assert segment.start % every == 0
        assert 50 <= segment.begin - segment.start < 50 + every + 1
        assert segment.stop == min(2000, segment.end + 26 + 8)  # 1.05 s and what the detector holds back


def test_at_a_low_rate_the_run_in_is_counted_in_frames():
    segments = divide(index_of(600, range(0, 600, 5)), seconds=40, time_base=1 / 5, every=3)
    assert all(s.begin - s.start >= 48 for s in segments[1:])


def face(x=100.0, y=100.0, *, size=80.0, track=0, opacity=1.0):
    scale = 0.4 * 256 / size
    crop = (scale, 0.0, 127.5 - scale * x, 0.0, scale, 127.5 - scale * y)
    return FaceAt(track, crop, 256, 3.0, opacity)


def test_segments_agree_where_they_edit_the_same_faces():
    assert seams.agree([face(), face(300)], [face(300, track=4), face(103)])
    assert seams.agree([face(), face(300, opacity=0)], [face()])  # nobody sees a face that is not edited
    assert not seams.agree([face()], [])
    assert not seams.agree([], [face()])
    assert not seams.agree([face()], [face(opacity=0.2)])
    assert not seams.agree([face()], [face(200)])
    assert not seams.agree([face()], [face(size=160)])


def test_the_faces_at_a_joint_are_paired_one_to_one_and_the_nearest_first():
    joined = seams.pairs([face(track=1), face(110, track=2)], [face(109, track=3), face(99, track=4)])
    assert {(a.track, b.track) for a, b in joined} == {(1, 4), (2, 3)}


def test_a_track_goes_on_over_a_joint_in_the_report():
    def track(number, first, frames):
        return TrackReport(number, first, first + frames - 1, frames, frames, 0.5)

    parts = [
        ([track(0, 0, 10), track(3, 5, 5)], [], [face(track=3), face(300, track=0)]),
        ([track(0, 10, 10)], [face(track=0)], [face(track=0)]),
        ([track(0, 20, 5), track(1, 22, 3)], [face(track=0)], []),
    ]
    merged = seams.join_tracks(parts)
    assert [(t.first_frame, t.last_frame, t.frames) for t in merged] == [(0, 9, 10), (5, 24, 20), (22, 24, 3)]
    assert [t.track_id for t in merged] == [0, 1, 2]


def test_a_face_that_is_handed_over_lies_where_its_crop_was():
    known = face(150, 90, size=100, track=5).known([(5, 3.04, True), (4, 3.04, True), (5, 3.08, False)])
    assert (known.track_id, known.worn) == (5, True)
    assert known.decisions == ((3.04, True), (3.08, False))
    expected = (geometry.TEMPLATE68 - 127.5) / (0.4 * 256 / 100) + [150, 90]
    assert np.allclose(known.landmarks, expected)


@pytest.fixture(scope="module")
def parts(weights):
    return build(Config(device="cpu", precision="float32", segmenter=weights.everywhere, inpainter=weights.inpainter, batch=8))


@pytest.fixture(scope="module")
def config(weights):
    networks = {"segmenter": weights.everywhere, "inpainter": weights.inpainter}
    return Config(device="cpu", precision="float32", batch=8, preset="ultrafast", **networks)


def task_of(number, config, folder, seconds=1.5):
    source = str(SAMPLES / "astronaut_masked.mp4")
    with VideoReader(source) as reader:
        info, index = reader.info, scan(reader.info)
    segments = divide(index, seconds=seconds, time_base=float(info.time_base), every=config.detect_every)
    writer = JoinedWriter(folder / "out.mp4", info, preset=config.preset)
    made = tasks(source, info, index, segments, config=config, plan=writer.plan, container="mp4", folder=folder)
    return made[number]


def test_a_segment_gives_the_same_packets_every_time_and_its_outcome_can_be_read_back(tmp_path, config, parts):
    task = task_of(0, config, tmp_path, seconds=0.5)
    outcome = run_segment(task, parts)
    assert Outcome.read(task.outcome) == outcome
    assert holds(task.packets, Summary(outcome.count, outcome.sha256))
    assert (outcome.count, outcome.edited) == (task.segment.end, tuple(range(task.segment.end)))
    assert [t.frames for t in outcome.tracks] == [task.segment.end]
    again = run_segment(replace(task, packets=tmp_path / "b.packets", outcome=tmp_path / "b.json"), parts)
    assert again.sha256 == outcome.sha256
    task.outcome.write_text(task.outcome.read_text()[:-30])
    assert Outcome.read(task.outcome) is None


def pictures(reader, parts, config, until):
    """The luma of the edited frames up to ``until``, before any encoder, by number."""
    found = {}
    with closing(edited_frames(reader, parts, config, Stopwatch(), Tally())) as frames:
        for frame in frames:
            found[frame.index] = frame.native.to_ndarray(format="gray").astype(int)
            if frame.index == until:
                return found
    return found


@pytest.fixture(scope="module")
def whole(config, parts):
    """The first frames of a run from the start."""
    with VideoReader(SAMPLES / "astronaut_masked.mp4") as reader:
        return pictures(reader, parts, config, 82)


def test_a_segment_from_the_midst_differs_from_the_whole_by_nothing_that_could_be_seen(config, parts, whole, tmp_path):
    task = task_of(2, config, tmp_path)
    begin = task.segment.begin
    assert 0 < task.segment.start < begin <= 82
    with SpanReader(task.source, task.span) as reader:
        part = pictures(reader, parts, config, 82)
    off = [np.abs(whole[i] - part[i]) for i in range(begin, 83)]
    motion = [np.abs(whole[i] - whole[i - 1]).mean() for i in range(begin, 83)]
    assert max(d.mean() for d in off) < 0.05 * min(motion)
    assert max(np.percentile(d, 99.9) for d in off) <= 4
    step = np.abs(part[begin] - whole[begin - 1]).mean()  # over the joint
    assert step == pytest.approx(motion[0], rel=0.05)


def test_a_segment_that_runs_in_from_the_start_of_the_video_is_that_of_the_whole(config, parts, whole, tmp_path):
    task = task_of(1, config, tmp_path, seconds=1)
    assert (task.segment.start, task.segment.end) == (0, 50)
    with SpanReader(task.source, task.span) as reader:
        part = pictures(reader, parts, config, 49)
    assert max(np.abs(whole[i] - part[i]).max() for i in range(50)) <= 1  # the networks' batches may end elsewhere


def test_a_segment_that_decides_otherwise_at_its_joint_is_made_again_with_what_was_known(tmp_path):
    """The plan of the work alone, with outcomes made up."""
    from vidunmask.pipelines.batch.job import Job
    from vidunmask.pipelines.batch.ledger import Entry
    from vidunmask.pipelines.batch.terms import BatchOptions

    job = Job(
        Entry(input="in.mp4", output="out.mp4"),
        out=tmp_path,
        folder=tmp_path,
        config=Config(),
        options=BatchOptions(),
        identity={},
    )
    segments = divided(1000, range(0, 1000, 50), 10)
    info = SimpleNamespace(path="in.mp4", time_base=1)
    index = index_of(1000, range(0, 1000, 50))
    made = tasks("in.mp4", info, index, segments, config=Config(), plan=None, container="mp4", folder=tmp_path)
    job._parts = SimpleNamespace(tasks=made, index=index, info=info)

    def outcome(task, head, tail, *, handed=False):
        return Outcome(
            number=task.segment.number, count=1, sha256="", delay=0, headers="", handed=handed, edited=(), tracks=(), head=head,
            tail=tail, handover=(face(track=9),), decisions=((9, 1.0, True),), seconds=1.0,
        )  # fmt: skip

    assert job.took(made[1], outcome(made[1], (face(opacity=0),), (face(),))) == []  # the one before is not there yet
    again = job.took(made[0], outcome(made[0], (), (face(),)))
    assert [(task.segment.number, task.handed, task.known) for task in again] == [(1, True, (face(track=9),))]
    assert again[0].decisions == ((9, 1.0, True),)
    assert not job.complete
    assert job.took(made[2], outcome(made[2], (face(),), (face(),))) == []
    assert job.took(again[0], outcome(made[1], (face(),), (face(),), handed=True)) == []
    assert job.complete
    assert job.entry.warnings == []
