"""What live mode sends over the network, received over loopback: every protocol that `--stream` takes."""

import contextlib
import http.server
import socket
import subprocess
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import as_frame, native, picture
from vidunmask.errors import OutputError
from vidunmask.pipelines.live import network
from vidunmask.pipelines.live.network import NetworkStream
from vidunmask.video.camera import open_source
from vidunmask.video.reader import VideoReader
from vidunmask.video.urls import without_secrets

SIZE = (96, 128)


@pytest.fixture(scope="module")
def like(clip):
    with VideoReader(clip) as reader:
        return replace(reader.info, size=SIZE, display_size=SIZE)


def ffmpeg(*arguments):
    import imageio_ffmpeg

    return subprocess.Popen([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)])


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listen(url, kind, options, target):
    """The address and the process that listens there."""
    for _ in range(5):  # the look whether the port is taken may itself be what takes it
        port = free_port(kind)
        receiver = ffmpeg("-probesize", 5000, *options, "-i", url.format(port), "-c", "copy", *target)
        while receiver.poll() is None:
            with socket.socket(socket.AF_INET, kind) as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    return url.format(port), receiver
            time.sleep(0.05)
    raise AssertionError("nobody listens")


def push(sink, count):
    for number in range(count):
        sink.push(as_frame(native(picture(*SIZE, shift=3 * number), "yuv420p")))
        time.sleep(0.04)


def received(path):
    with av.open(str(path)) as container:
        return [(frame.height, frame.width) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("url", "kind", "listening"),
    [
        ("rtmp://127.0.0.1:{}/live/x", socket.SOCK_STREAM, ["-listen", 1]),
        ("rtsp://127.0.0.1:{}/live", socket.SOCK_STREAM, ["-rtsp_flags", "listen", "-listen_timeout", 10]),
        ("srt://127.0.0.1:{}", socket.SOCK_DGRAM, ["-mode", "listener"]),
        ("tcp://127.0.0.1:{}", socket.SOCK_STREAM, ["-listen", 1]),
    ],
    ids=["rtmp", "rtsp", "srt", "tcp"],
)
def test_a_stream_arrives(like, tmp_path, url, kind, listening):
    url, receiver = listen(url, kind, listening, [tmp_path / "got.mkv"])
    try:
        sink = NetworkStream(url, like)
        push(sink, 30)
        assert sink.close() == f"{without_secrets(url)}: 30 pictures sent"
        receiver.wait(20)
    finally:
        receiver.kill()
        receiver.wait()
    sizes = received(tmp_path / "got.mkv")
    assert len(sizes) > 15
    assert set(sizes) == {SIZE}


class Shelf(http.server.SimpleHTTPRequestHandler):
    """A web server that keeps what is put there, as those that take HLS do."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        with Path(self.translate_path(self.path)).open("wb") as file:
            while size := int(self.rfile.readline(), 16):  # chunks, RFC 9112 section 7.1
                file.write(self.rfile.read(size))
                self.rfile.readline()
        self.rfile.readline()
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_hls_is_put_on_a_web_server_and_received_from_there(like, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Shelf, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/live.m3u8"
            sink = NetworkStream(url, like)
            push(sink, 30)
            assert sink.close() == f"{url}: 30 pictures sent"
            with open_source(url, timeout=5) as source:
                assert source.info.size == SIZE
                assert len(list(source)) > 15
        finally:
            server.shutdown()
    assert "#EXT-X-ENDLIST" in (tmp_path / "live.m3u8").read_text()


@pytest.mark.parametrize("size", [(90, 150), (75, 101)])
def test_pictures_of_any_width_are_sent_row_by_row(like, tmp_path, size):
    """FFmpeg pads the rows of a picture to 16 pixels and more, but not those that it reads from a pipe."""
    image = picture(*size)
    sink = NetworkStream(str(tmp_path / "live.m3u8"), replace(like, size=size, display_size=size))
    for _ in range(5):
        sink.push(as_frame(native(image, "yuv420p")))
        time.sleep(0.04)
    assert sink.close().endswith("live.m3u8: 5 pictures sent")
    with av.open(str(tmp_path / "live.m3u8")) as container:
        got = next(container.decode(video=0)).to_ndarray(format="rgb24")[: size[0], : size[1]]
    assert np.abs(got.astype(int) - image).mean() < 8  # rows that run on into each other would be another picture


def test_the_last_picture_is_sent_on_while_none_come(like, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "_STILL", 0.1)
    sink = NetworkStream(str(tmp_path / "live.m3u8"), like)
    push(sink, 3)
    deadline = time.monotonic() + 20
    while not (tmp_path / "live.m3u8").exists():  # it appears with the first part, which holds two seconds
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sink.close() == f"{tmp_path / 'live.m3u8'}: 3 pictures sent"
    assert len(received(tmp_path / "live.m3u8")) > 20


def test_the_folder_of_a_playlist_may_be_called_like_a_protocol(like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("talk:1").mkdir()
    sink = NetworkStream("talk:1/live.m3u8", like)
    push(sink, 3)
    assert sink.close() == "talk:1/live.m3u8: 3 pictures sent"
    assert len(received("file:talk:1/live.m3u8")) > 1


def test_a_playlist_that_could_not_be_written_is_an_error(like, tmp_path):
    """FFmpeg goes on without, and ends as if all were well."""
    (tmp_path / "site").mkdir()
    sink = NetworkStream(str(tmp_path / "site" / "live.m3u8"), like)
    (tmp_path / "site").rmdir()
    push(sink, 3)
    with pytest.raises(OutputError, match=r"--stream .*live\.m3u8: not all of it could be written \(.*live0\.ts"):
        sink.close()


def test_the_way_around_a_protocol_that_pyav_has_not_works(like):
    """SRT in, as the message about it says: an ffmpeg passes it on over UDP."""
    udp = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    srt, relay = listen("srt://127.0.0.1:{}", socket.SOCK_DGRAM, ["-mode", "listener"], ["-f", "mpegts", udp])
    try:
        sink = NetworkStream(srt, like)
        pushing = threading.Thread(target=push, args=[sink, 60])
        pushing.start()
        with open_source(udp, timeout=5) as source:
            assert source.info.size == SIZE
            next(iter(source))
        pushing.join()
        sink.close()
    finally:
        relay.kill()
        relay.wait()


def test_an_outlet_does_not_tell_its_stream_key(like):
    sink = NetworkStream("rtmp://127.0.0.1:1/live/secret-key", like)
    with pytest.raises(OutputError, match=r"--stream rtmp://127\.0\.0\.1:1/live/\*\*\*: ffmpeg gave up \(.*refused") as raised:
        push(sink, 200)
    with contextlib.suppress(OutputError):
        sink.close()
    assert "secret" not in sink.name + str(raised.value)
