"""The page of a dump, in a browser without a window, opened from the disk."""

import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from vidunmask.pipelines.config import Config
from vidunmask.pipelines.dump.choice import FrameChoice
from vidunmask.pipelines.dump.redo import redo
from vidunmask.pipelines.dump.run import dump

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1280,1400",
    "--virtual-time-budget=5000", "--enable-logging=stderr",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")

    def run(url, *flags):
        profile = tmp_path_factory.mktemp("profile")
        result = subprocess.run(
            [program, *FLAGS, f"--user-data-dir={profile}", *flags, url], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert "CONSOLE" not in result.stderr, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def folder(clip, weights, tmp_path_factory):
    config = Config(device="cpu", precision="float32", segmenter=weights.everywhere, inpainter=weights.inpainter, batch=4)
    target = tmp_path_factory.mktemp("page") / "Кадры & seams"
    dump(clip, target, choice=FrameChoice("2,5,9"), config=config)
    redo(target, 5, start="blend", given={"temporal": False})
    return target


def page(folder, after=""):
    return (folder / "index.html").as_uri() + after


def test_the_page_shows_every_stage_of_the_frame_that_is_asked_for(folder, browser):
    text = browser(page(folder, "#9"), "--dump-dom")
    assert 'id="main">' in text
    assert "frame 9 · 0.360 s · 3 of 3" in text
    shown = set(re.findall(r'src="frames/000009/([\w-]+)\.png"', text))
    assert {"frame", "detections", "tracks", "result", "difference", "face0-crop", "face0-logits", "face0-raw"} <= shown
    assert "face 0" in text
    assert len(re.findall("<canvas", text)) == 4


def test_a_redo_is_on_the_page_with_what_changed(folder, browser):
    text = browser(page(folder, "?redo#5"), "--dump-dom")
    assert "Redo 1 from blend: the result differs." in text
    assert 'src="frames/000005/redo/1-blend/result.png"' in text


def pressed(folder, browser, *actions):
    """The page after keys and clicks, in a copy beside it that does them by itself."""
    script = "".join(f"{action};" for action in actions)
    keys = "const key = (name) => document.dispatchEvent(new KeyboardEvent('keydown', {key: name, bubbles: true}));"
    text = (folder / "index.html").read_text(encoding="utf-8").replace("start();\n", f"start();{keys}{script}\n")
    (folder / "acted.html").write_text(text, encoding="utf-8")
    try:
        return browser((folder / "acted.html").as_uri(), "--dump-dom")
    finally:
        (folder / "acted.html").unlink()


def shown(text, which):
    return re.search(rf'<span class="name \w+" id="{which}name">([^<]*)', text).group(1)


def test_arrows_go_from_frame_to_frame_and_stop_at_the_ends(folder, browser):
    assert "frame 5 ·" in pressed(folder, browser, "key('ArrowRight')")
    text = pressed(folder, browser, *["key('ArrowRight')"] * 5, "key('ArrowLeft')")
    assert "frame 5 · 0.200 s · 2 of 3" in text
    assert "frame 9 ·" in pressed(folder, browser, "key('End')")


def test_a_picture_that_is_clicked_is_compared_with_what_went_in(folder, browser):
    click = "document.querySelector('figure img[src*=\"face0-raw\"]').click()"
    text = pressed(folder, browser, click)
    assert (shown(text, "left"), shown(text, "right")) == ("face 0: crop", "face 0: raw fill")
    text = pressed(folder, browser, click, "key('s')", "key('ArrowRight')")
    assert (shown(text, "left"), shown(text, "right")) == ("face 0: raw fill", "face 0: crop")
    assert 'id="over" alt="" src="frames/000005/face0-raw.png"' in text


def test_zoom_keys_change_the_scale(folder, browser):
    def scale(*actions):
        return int(re.search(r'id="scale">(\d+) %', pressed(folder, browser, *actions)).group(1))

    later = "setTimeout(() => {{ {} }}, 1500)"
    whole = scale()
    assert scale(later.format("key('1')")) == 100
    assert scale(later.format("key('f')")) > whole
    assert scale(later.format("key('+'); key('+'); key('0')")) == whole


def test_the_picture_of_the_page_has_the_frame_and_the_lines_in_it(folder, browser, tmp_path):
    browser(page(folder, "#5"), f"--screenshot={tmp_path / 'page.png'}")
    image = cv2.imread(str(tmp_path / "page.png")).astype(int)
    assert image.shape == (1400, 1280, 3)
    stage = image[120:600, 40:760]
    assert stage.std() > 30  # a photograph, not an empty box
    amber = (np.abs(image[100:700, 800:] - (59, 176, 255)).max(axis=2) < 30).sum()
    assert amber > 300  # the track's lines


def test_a_dump_without_its_data_says_so(folder, browser, tmp_path):
    shutil.copy(folder / "index.html", tmp_path / "index.html")
    (tmp_path / "data.js").write_text("")
    assert "data.js is missing or damaged" in browser(page(tmp_path), "--dump-dom")
