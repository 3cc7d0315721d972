"""Pictures keep what the edit does not touch."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, PngImagePlugin

from tests.video.clips import picture
from vidunmask.errors import InputError, OutputError, UsageError
from vidunmask.video import images, pixels

HALF = np.ones((24, 24), np.float32)
TO_CROP = np.array([[1.0, 0, -10], [0, 1.0, -6]])


def _edit(source: Path, target: Path, **options: object) -> images.Picture:
    read = images.read_image(source)
    frame = pixels.editable(read.frame)
    pixels.paste_crop(frame, np.full((24, 24, 3), 40, np.uint8), HALF, TO_CROP)
    images.write_image(target, frame, like=read, **options)  # type: ignore[arg-type]
    return read


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_png_pixels_outside_the_edit_and_transparency_are_kept(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture(48, 64)).convert(mode if mode != "LA" else "L")
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(picture(48, 64)[..., 1]))
    image.save(tmp_path / "in.png")
    _edit(tmp_path / "in.png", tmp_path / "out.png")
    wide = "RGBA" if mode in ("RGBA", "LA") else "RGB"
    before = np.array(Image.open(tmp_path / "in.png").convert(wide))
    after = np.array(Image.open(tmp_path / "out.png").convert(wide))
    np.testing.assert_array_equal(after[:, 40:], before[:, 40:])
    if wide == "RGBA":
        np.testing.assert_array_equal(after[..., 3], before[..., 3])
    assert np.abs(after[10:26, 14:30, :3].astype(int) - 40).max() <= 1
    if mode in ("RGB", "RGBA", "L", "LA"):
        assert Image.open(tmp_path / "out.png").mode == mode


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, channels: int, suffix: str) -> None:
    deep = (np.random.default_rng(0).random((48, 64, channels)) * 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"in{suffix}"), deep)
    _edit(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    after = cv2.imread(str(tmp_path / f"out{suffix}"), cv2.IMREAD_UNCHANGED).reshape(48, 64, channels)
    assert after.dtype == np.uint16
    np.testing.assert_array_equal(after[:, 40:], deep[:, 40:])
    if channels == 4:
        np.testing.assert_array_equal(after[..., 3], deep[..., 3])
    assert np.abs(after[10:26, 14:30, :3].astype(int) - 40 * 257).max() <= 257


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_keeps_tables_sampling_and_tags(tmp_path: Path, sampling: str) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "A maker", 6
    profile = b"not a real profile, but bytes all the same"
    Image.fromarray(picture(48, 64)).save(
        tmp_path / "in.jpg", quality=77, subsampling=sampling, exif=exif, icc_profile=profile, dpi=(300, 300), comment=b"first"
    )
    read = _edit(tmp_path / "in.jpg", tmp_path / "out.jpg", metadata={"comment": "synthesised"})
    assert read.frame.display_size == (64, 48)  # turned by its tag
    before, after = Image.open(tmp_path / "in.jpg"), Image.open(tmp_path / "out.jpg")
    assert isinstance(before, JpegImagePlugin.JpegImageFile)
    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
    assert dict(after.getexif()) == dict(before.getexif())
    assert after.info["icc_profile"] == profile
    assert after.info["dpi"] == before.info["dpi"]
    assert after.info["comment"] == b"first; synthesised"
    assert after.size == before.size


def test_an_upright_crop_of_a_turned_picture_lands_where_it_was_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(48, 64)).save(tmp_path / "in.png", exif=exif)
    _edit(tmp_path / "in.png", tmp_path / "out.png")
    stored = np.array(Image.open(tmp_path / "out.png"))
    upright = np.rot90(stored, -1)
    assert np.abs(upright[8:28, 12:32].astype(int) - 40).max() <= 1


def test_png_text_and_gamma_survive(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "somebody")
    text.add_itxt("Title", "größe", "de", "Titel")
    for deep in (False, True):
        source, target = tmp_path / f"in{deep}.png", tmp_path / f"out{deep}.png"
        if deep:
            Image.fromarray((picture(48, 64)[..., 0].astype(np.uint16)) * 257).save(source, pnginfo=text)
        else:
            Image.fromarray(picture(48, 64)).save(source, pnginfo=text, dpi=(72, 72))
        _edit(source, target, metadata={"Comment": "synthesised"})
        after = Image.open(target)
        assert isinstance(after, PngImagePlugin.PngImageFile)
        assert {"Author": "somebody", "Title": "größe", "Comment": "synthesised"}.items() <= after.text.items()


def test_a_picture_in_which_nothing_changed_is_copied_byte_for_byte(tmp_path: Path) -> None:
    Image.fromarray(picture(48, 64)).save(tmp_path / "in.jpg", quality=31)
    read = images.read_image(tmp_path / "in.jpg")
    images.write_image(tmp_path / "out.jpg", read.frame, like=read, metadata={"comment": "x"})
    assert (tmp_path / "out.jpg").read_bytes() == (tmp_path / "in.jpg").read_bytes()


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tiff", ".avif", ".gif"])
def test_other_formats_are_read_and_written(tmp_path: Path, suffix: str) -> None:
    lossless = {"lossless": True} if suffix == ".webp" else {}
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    extra = {"exif": exif} if suffix in (".webp", ".avif") else {}
    Image.fromarray(picture(48, 64)).save(tmp_path / f"in{suffix}", **lossless, **extra)
    _edit(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", metadata={"comment": "synthesised"})
    before = np.array(Image.open(tmp_path / f"in{suffix}").convert("RGB")).astype(int)
    after = np.array(Image.open(tmp_path / f"out{suffix}").convert("RGB")).astype(int)
    assert np.abs(after[:, 44:] - before[:, 44:]).max() <= (24 if suffix in (".avif", ".gif") else 0)
    if extra:
        assert Image.open(tmp_path / f"out{suffix}").getexif()[0x010F] == "A maker"


def test_cmyk_outside_the_edit_goes_through_no_conversion(tmp_path: Path) -> None:
    Image.fromarray(picture(48, 64)).convert("CMYK").save(tmp_path / "in.tif")
    _edit(tmp_path / "in.tif", tmp_path / "out.tif")
    before, after = Image.open(tmp_path / "in.tif"), Image.open(tmp_path / "out.tif")
    assert after.mode == "CMYK"
    np.testing.assert_array_equal(np.array(after)[:, 40:], np.array(before)[:, 40:])


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(picture(200, 300)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    for name in ("missing.png", "text.jpg", "empty.png", "cut.png"):
        with pytest.raises(InputError, match=name):
            images.read_image(tmp_path / name)


def test_targets_are_checked_and_failures_leave_nothing(tmp_path: Path) -> None:
    Image.fromarray(picture(48, 64)).save(tmp_path / "in.png")
    read = images.read_image(tmp_path / "in.png")
    with pytest.raises(UsageError, match="same file"):
        images.write_image(tmp_path / "in.png", read.frame, like=read, overwrite=True)
    with pytest.raises(UsageError, match="no picture format"):
        images.write_image(tmp_path / "out.xyz", read.frame, like=read)
    (tmp_path / "there.png").write_bytes(b"precious")
    with pytest.raises(OutputError, match="--overwrite"):
        images.write_image(tmp_path / "there.png", read.frame, like=read)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "there.png"]


def test_a_damaged_avif_is_no_picture_that_can_be_read(tmp_path):
    path = tmp_path / "a.avif"
    Image.new("RGB", (64, 48), "teal").save(path)
    path.write_bytes(path.read_bytes().replace(b"iloc", b"xloc"))  # where its data lie is not said
    with pytest.raises(InputError, match=r"a\.avif: not a picture that can be read"):
        images.read_image(path)
