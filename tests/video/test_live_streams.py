"""Network streams over loopback, as live sources: each with a sender of its own, a far end that is lost and comes back.

The senders are ffmpeg processes, a web server, and for RTSP the few answers that a client waits for (RFC 2326).
"""

import contextlib
import http.server
import re
import socket
import subprocess
import threading
import time
import types
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest

from tests.video.clips import native, picture, write_clip
from tests.video.clock import Clock
from vidunmask.errors import InputError
from vidunmask.video import live, live_streams
from vidunmask.video.camera import open_source
from vidunmask.video.live_streams import PacketSource
from vidunmask.video.urls import without_secrets


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """1.2 seconds with a key frame every 0.2."""
    folder = tmp_path_factory.mktemp("clips")
    return write_clip(folder / "a.mp4", frames=30, size=(96, 128), options={"g": "5", "bf": "0"})


@contextlib.contextmanager
def ffmpeg(*arguments):
    import imageio_ffmpeg

    process = subprocess.Popen([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, arguments)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def send(clip, format, url, *more, loop=-1):
    return ffmpeg("-re", "-stream_loop", loop, "-i", clip, "-c", "copy", "-f", format, *more, url)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_when_there(url, **options):
    """The source as soon as its server listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return open_source(url, **options)
        except InputError as error:
            if "refused" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def take(source, count):
    return [frame for frame, _ in zip(source, range(count), strict=False)]


def test_a_udp_stream_that_stalls_is_named(clip):
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    with send(clip, "mpegts", url, loop=1), open_source(url, timeout=1.0) as source:
        assert source.info.size == (96, 128)
        with pytest.raises(InputError, match=r"no picture for 1 s, the stream has stalled"):
            list(source)


def test_a_udp_stream_comes_back_with_reconnect(clip, monkeypatch, caplog):
    monkeypatch.setattr(live, "_PAUSES", (0.05,))
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    sent = []  # one sender after the other

    def send_again(once_lost):
        while once_lost.waiting is None:
            time.sleep(0.01)
        sent.append(stack.enter_context(send(clip, "mpegts", url)))

    with contextlib.ExitStack() as stack, caplog.at_level("WARNING"):
        sender = stack.enter_context(send(clip, "mpegts", url))
        source = stack.enter_context(open_source(url, timeout=0.5, reconnect=True))
        frames = iter(source)
        first = [next(frames) for _ in range(3)]
        sender.kill()
        threading.Thread(target=send_again, args=[source]).start()
        while not sent or len(first) < 40:  # what was on its way comes first
            first.append(next(frames))
    lost = caplog.text.count("trying to get it back")
    assert lost >= 1  # a sender that starts on a busy machine may stall once more
    assert caplog.text.count("is back") == lost
    assert [frame.index for frame in first] == list(range(len(first)))


def test_a_stream_that_nobody_sends_is_given_up_in_time():
    began = time.monotonic()
    with pytest.raises(InputError, match="no answer in time"):
        open_source(f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}", timeout=0.3)
    assert time.monotonic() - began < 5


def test_an_rtmp_stream_is_received_whose_sound_is_not_waited_for(clip):
    """FFmpeg would look five seconds for it."""
    url = f"rtmp://127.0.0.1:{free_port()}/live/x"
    with send(clip, "flv", url, "-listen", 1), open_when_there(url, timeout=1.5) as source:
        assert source.info.size == (96, 128)
        assert len(take(source, 50)) == 50


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server's answers."""

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def web_server(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


HLS = ("-f", "hls", "-hls_time", "0.4", "-hls_list_size", "0")


def convert(clip, path, *options):
    with ffmpeg("-i", clip, "-c", "copy", *options, path) as process:
        assert process.wait() == 0


# Of what may be live the first picture has served to know the size.
@pytest.mark.parametrize(("name", "options", "count"), [("a.m3u8", HLS, 30), ("a.ts", (), 29)])
def test_what_a_web_server_has_is_played_at_its_own_pace(clip, tmp_path, name, options, count):
    convert(clip, tmp_path / name, *options)
    with web_server(tmp_path) as address, open_source(f"{address}/{name}", timeout=5) as source:
        began = time.monotonic()
        frames = list(source)
        took = time.monotonic() - began
    assert len(frames) == count
    assert took > 0.8


@pytest.mark.parametrize(("ended_at_first", "count", "lost"), [(True, 30, 0), (False, 29, 1)])
def test_a_playlist_that_has_ended_is_not_played_again_with_reconnect(
    clip, tmp_path, monkeypatch, caplog, ended_at_first, count, lost
):
    monkeypatch.setattr(live, "_PAUSES", (0.01,))
    path = tmp_path / "a.m3u8"
    convert(clip, path, *HLS)
    whole = path.read_text()
    if not ended_at_first:
        path.write_text(whole.replace("#EXT-X-ENDLIST\n", ""))
    with web_server(tmp_path) as address, open_source(f"{address}/a.m3u8", reconnect=True) as source:
        path.write_text(whole)
        assert len(take(source, 40)) == count
    assert caplog.text.count("trying to get it back") == lost
    assert "is back" not in caplog.text


class RtspCamera(threading.Thread):
    """A camera that speaks RTSP over TCP to one client after the other, and hangs up after ``packets`` of RTP.

    ffmpeg makes the RTP packets and the description of the session; here they are interleaved (RFC 2326 section 10.12).
    """

    def __init__(self, clip, folder, packets):
        super().__init__(daemon=True)
        self.clip, self.description, self.packets, self.clients = clip, folder / "session.sdp", packets, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self.listener.getsockname()[1]}/door"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(10)

    def run(self):
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                client, _ = self.listener.accept()
                self.clients += 1
                with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
                    rtp.bind(("127.0.0.1", 0))
                    rtp.settimeout(5)
                    sdp = ["-sdp_file", self.description]
                    url = f"rtp://127.0.0.1:{rtp.getsockname()[1]}?pkt_size=1200"
                    with send(self.clip, "rtp", url, *sdp), contextlib.suppress(OSError):
                        self.serve(client, rtp)

    def serve(self, client, rtp):
        first = rtp.recv(2048)  # from now on there is a description
        requests = client.makefile("rb")
        while (method := self.answer(client, requests)) != "PLAY":
            assert method
        for packet in (first, *(rtp.recv(2048) for _ in range(self.packets))):
            client.sendall(b"$\0" + len(packet).to_bytes(2) + packet)

    def answer(self, client, requests):
        method, *_ = requests.readline().decode().split()
        fields = {}
        while line := requests.readline().decode().strip():
            name, _, value = line.partition(": ")
            fields[name.lower()] = value
        lines, body = [f"CSeq: {fields['cseq']}"], b""
        if method == "OPTIONS":
            lines.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = re.sub(rb"m=video \d+", b"m=video 0", self.description.read_bytes()) + b"a=control:track1\r\n"
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines += [f"Transport: {fields['transport']}", "Session: 1"]
        client.sendall("\r\n".join(["RTSP/1.0 200 OK", *lines, "", ""]).encode() + body)
        return method


def test_an_rtsp_camera_is_received_until_it_hangs_up(clip, tmp_path):
    with RtspCamera(clip, tmp_path, packets=75) as camera, open_source(camera.url, timeout=2) as source:
        assert source.info.size == (96, 128)
        assert len(list(source)) > 5
    assert camera.clients == 1


def test_an_rtsp_camera_comes_back_with_reconnect(clip, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(live, "_PAUSES", (0.05,))
    with RtspCamera(clip, tmp_path, packets=30) as camera, open_source(camera.url, timeout=2, reconnect=True) as source:
        frames = take(source, 60)
    assert len(frames) == 60
    assert camera.clients >= 2
    assert "is back" in caplog.text


def test_a_protocol_that_is_not_built_in_is_named_with_a_way_around():
    with pytest.raises(InputError, match=r"built without nothing;.*ffmpeg -i nothing://host:9 -c copy -f mpegts udp://"):
        open_source("nothing://host:9")


class Sender:
    """What PyAV opens: 25 pictures a second since ``began``, those that are due within a millisecond, the others in time.

    After 500 of them there is sound alone.
    """

    duration = None

    def __init__(self, clock, began):
        self.clock, self.began, self.sent = clock, began, -1
        self.stream = types.SimpleNamespace(codec_context=True, average_rate=Fraction(25))
        self.streams = types.SimpleNamespace(video=[self.stream])

    def demux(self):
        while self.sent < 500:
            self.sent += 1
            self.clock.now = max(self.clock.now + 0.001, self.began + self.sent / 25)
            shot = native(picture(48, 64), "yuv420p")
            shot.pts, shot.time_base = self.sent, Fraction(1, 25)
            yield types.SimpleNamespace(stream=self.stream, decode=lambda shot=shot: [shot])
        while True:
            self.clock.now += 0.02
            yield types.SimpleNamespace(stream="sound")

    def late(self):
        return self.clock.now - (self.began + self.sent / 25)

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(live_streams, "time", clock)
    monkeypatch.setattr(live, "time", clock)
    return clock


def open_sender(clock, monkeypatch, *, waited=0, loaded=4, **options):
    """A source whose sender begins after ``waited`` seconds, which was probed for one and left alone for ``loaded`` then."""

    def open_(*arguments, **more):
        clock.now += waited + 1
        return sender

    sender = Sender(clock, clock.now + waited)
    monkeypatch.setattr(av, "open", open_)
    source = PacketSource("it", "udp://it", **options)
    clock.now += loaded
    return source, sender


@pytest.mark.parametrize("waited", [0, 8])
def test_what_piled_up_while_networks_were_loaded_is_not_shown_and_nothing_else_is_left_out(clock, monkeypatch, waited):
    source, sender = open_sender(clock, monkeypatch, waited=waited)
    shown = [(sender.sent, sender.late()) for _ in zip(range(50), source, strict=False)]
    numbers, late = zip(*shown, strict=True)
    assert max(late) < 0.2
    assert 120 <= numbers[0] < 140  # of the 125 that piled up the last may come
    assert np.all(np.diff(numbers) == 1)


def test_what_a_web_server_has_goes_on_behind_the_first_picture_at_its_own_pace(clock, monkeypatch):
    source, sender = open_sender(clock, monkeypatch, loaded=1.5, paced=True)
    source._stopped = clock
    shown = [(sender.sent, clock.now) for _ in zip(range(50), source, strict=False)]
    numbers, at = zip(*shown, strict=True)
    assert numbers == tuple(range(1, 51))
    assert np.diff(at).min() > 0.03


def test_a_stream_of_which_only_sound_is_left_has_stalled(clock, monkeypatch):
    source, sender = open_sender(clock, monkeypatch)
    with pytest.raises(InputError, match="it: no picture for 5 s"):
        list(source)
    assert sender.late() == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:se:cr@t@host:554/door", "rtsp://user:***@host:554/door"),
        ("rtsp://user@host/a:b@c", "rtsp://user@host/a:b@c"),
        ("Cannot open RTMPS://host:443/app/key?token=1: refused", "Cannot open RTMPS://host:443/app/***: refused"),
        ("rtmp://me:secret@host/app/key", "rtmp://me:***@host/app/***"),
        ("srt://host:9?passphrase=secret", "srt://host:9?***"),
        ("what is http://127.0.0.1:8000/live.m3u8?", "what is http://127.0.0.1:8000/live.m3u8?"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(text, shown):
    assert without_secrets(text) == shown


def test_messages_about_a_stream_do_not_tell_its_password():
    for url in ("nothing://me:secret@host:9", f"udp://me:secret@127.0.0.1:{free_port(socket.SOCK_DGRAM)}"):
        with pytest.raises(InputError, match=re.escape(without_secrets(url))) as raised:
            open_source(url, timeout=0.1)
        assert "secret" not in str(raised.value)
