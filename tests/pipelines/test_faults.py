"""What goes wrong for people, from the outside: one line, the right exit code, nothing at the target, nothing left behind."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vidunmask.pipelines import cli

SMALL_FILES = 60_000  # bytes; less than the result takes


@pytest.fixture
def called(capfd):
    """The program as `program` has it, but in this process, into which torch need not be loaded first."""

    def run(*arguments):
        code = cli.main([str(part) for part in arguments])
        return SimpleNamespace(returncode=code, stderr=capfd.readouterr().err)

    return run


@pytest.fixture
def options(weights):
    return ["--segmenter", weights.everywhere, "--inpainter", weights.inpainter, "--device", "cpu", "--preset", "ultrafast"]


def assert_fails(result, code, *said):
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.startswith("vidunmask: ")]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in said:
        assert word in lines[0]


def assert_only(folder, *names):
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"this is no film\n" * 50, "in.mp4"),
        (bytes(range(256)) * 20, "in.mp4"),
        ("sound", "no video"),
        (None, "no such"),
    ],
    ids=["zero bytes", "text", "binary", "sound only", "missing"],
)
def test_an_input_that_is_no_video_is_named_before_any_work(called, tmp_path, options, content, said):
    path = tmp_path / "in.mp4"
    if content == "sound":
        sound_only(path)
    elif content is not None:
        path.write_bytes(content)
    before = [path.name] if path.exists() else []
    assert_fails(called(path, tmp_path / "out.mp4", "--quiet", *options), 3, str(path), said)
    assert_only(tmp_path, *before)


def test_a_video_that_is_cut_short_before_its_index_fails_and_writes_nothing(called, clip, tmp_path, options):
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip.read_bytes()[:20000])
    assert_fails(called(path, tmp_path / "out.mp4", "--quiet", *options), 3, "cut.mp4")
    assert_only(tmp_path, "cut.mp4")


def test_output_equal_to_input_is_refused_through_a_link_too(called, clip, tmp_path, options):
    path, link = tmp_path / "a.mp4", tmp_path / "b.mp4"
    path.write_bytes(clip.read_bytes())
    link.symlink_to(path)
    for target in (path, link, tmp_path / "." / "a.mp4"):
        assert_fails(called(path, target, "--overwrite", "--quiet", *options), 2, "same file")
    assert path.read_bytes() == clip.read_bytes()


def test_an_existing_target_is_kept_without_overwrite_and_replaced_with_it(called, clip, tmp_path, options):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    assert_fails(called(clip, target, "--quiet", *options), 4, "--overwrite")
    assert target.read_bytes() == b"precious"
    assert called(clip, target, "--overwrite", "--quiet", *options).returncode == 0
    assert target.stat().st_size > 10000
    assert_only(tmp_path, "out.mp4")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--codec", "h999"], 2, "h999"),
        (["--codec", "h264_nvenc"], 5, "h264_nvenc"),
        (["--crf", "99"], 2, "--crf 99"),
        (["--crf", "x"], 2, "--crf"),
        (["--pix-fmt", "yuv999"], 2, "yuv999"),
        (["--device", "mps"], 5, "--device mps"),
        (["--device", "tpu"], 2, "--device"),
        (["--segmenter", "nothing.safetensors"], 6, "nothing.safetensors"),
        (["--detect-every", "0"], 2, "--detect-every 0"),
        (["--quiet", "--verbose"], 2, "--verbose"),
        (["--frobnicate"], 2, "--frobnicate"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_before_any_work(called, clip, tmp_path, options, arguments, code, said):
    if arguments == ["--codec", "h264_nvenc"] and os.path.exists("/dev/nvidia0"):  # noqa: PTH110
        pytest.skip("this machine has the encoder")
    if arguments == ["--device", "mps"] and sys.platform == "darwin":
        pytest.skip("this machine has the device")
    result = called(clip, tmp_path / "out.mp4", *(["--quiet"] if "--verbose" not in arguments else []), *options, *arguments)
    assert_fails(result, code, said)
    assert_only(tmp_path)


@pytest.mark.parametrize("arguments", [["--crf", "0"], ["--codec", "libx264"], ["--convert-streams"]])
@pytest.mark.parametrize("name", ["in.jpg", "photos"])
def test_an_option_of_videos_is_refused_for_pictures(called, tmp_path, name, arguments):
    (tmp_path / "photos").mkdir()
    (tmp_path / "in.jpg").write_bytes(b"no picture, but nobody looks yet")
    assert_fails(called(tmp_path / name, tmp_path / f"out-{name}", *arguments), 2, arguments[0], name)


@pytest.mark.parametrize(("name", "code"), [("out.xyz", 2), ("out", 2), ("no/such/folder/out.mp4", 4), ("out.png", 2)])
def test_a_target_that_cannot_be_is_refused_before_any_work(called, clip, tmp_path, options, name, code):
    assert_fails(called(clip, tmp_path / name, "--quiet", *options), code, name.split("/")[0])
    assert_only(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_named(called, clip, tmp_path, options):
    tmp_path.chmod(0o500)
    try:
        assert_fails(called(clip, tmp_path / "out.mp4", "--quiet", *options), 4, "permission")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_named_and_nothing_is_left(program, clip, tmp_path, options):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, SMALL_FILES))

    result = program(clip, tmp_path / "out.mp4", "--quiet", "--crf", "1", *options, preexec_fn=limit)
    assert_fails(result, 4, "out.mp4")
    assert_only(tmp_path)


def test_a_network_that_gives_nan_leaves_the_faces_and_warns(called, clip, tmp_path, weights):
    result = called(
        clip, tmp_path / "out.mp4", "--segmenter", weights.nan, "--inpainter", weights.inpainter, "--device", "cpu",
        "--report", tmp_path / "run.json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "NaN" in result.stderr
    assert '"frames_edited": 0' in (tmp_path / "run.json").read_text()


def test_damaged_weights_are_named(called, clip, tmp_path, weights):
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(weights.everywhere.read_bytes())
    content[-3] ^= 0xFF
    damaged.write_bytes(content)
    result = called(clip, tmp_path / "out.mp4", "--segmenter", damaged, "--inpainter", weights.inpainter, "--quiet")
    assert_fails(result, 6, "damaged")
    assert_only(tmp_path, "damaged.safetensors")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["ctrl-c", "terminated"],
)
def test_a_run_that_is_stopped_leaves_nothing_and_ends_soon(clip, tmp_path, options, number, code):
    long = tmp_path / "long.mp4"
    repeat(clip, long, 12)
    command = [sys.executable, "-m", "vidunmask.pipelines.cli", long, tmp_path / "out.mp4", *options]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))
    reader.start()
    try:
        # It is in the midst of the work once its temporary file has grown.
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size > 50_000 for p in tmp_path.glob(".vidunmask-*")) and time.monotonic() < deadline:
            assert process.poll() is None, said
            time.sleep(0.05)
        process.send_signal(number)
        asked = time.monotonic()
        process.wait(30)
    finally:
        process.kill()
        reader.join()
    assert process.returncode == code, said
    assert time.monotonic() - asked < 20
    assert "Traceback" not in said[0]
    assert_only(tmp_path, "long.mp4")


def repeat(clip, path, times):
    """The clip's video ``times`` in a row, copied."""
    with av.open(str(clip)) as source:
        stream = source.streams.video[0]
        packets = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in source.demux(stream) if p.size]
        length = max(pts + duration for _, pts, _, duration, _ in packets)
        with av.open(str(path), "w") as target:
            out = target.add_stream_from_template(stream)
            for turn in range(times):
                for data, pts, dts, duration, key in packets:
                    packet = av.Packet(data)
                    packet.pts, packet.dts, packet.duration = pts + turn * length, dts + turn * length, duration
                    packet.time_base, packet.is_keyframe, packet.stream = stream.time_base, key, out
                    target.mux(packet)


def test_a_closed_stdin_and_a_closed_stderr_do_no_harm(clip, tmp_path, options):
    command = '"$0" -m vidunmask.pipelines.cli "$@" <&- 2>&-'
    parts = [sys.executable, clip, tmp_path / "out.mp4", *options]
    result = subprocess.run(["bash", "-c", command, *map(str, parts)], timeout=120)
    assert result.returncode == 0
    assert_only(tmp_path, "out.mp4")
