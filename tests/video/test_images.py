"""Pictures keep what the edit does not touch."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from tests.video.clips import picture
from vidunmask.errors import InputError, OutputError, UsageError
from vidunmask.video import images, picture_files, pixels, tiff_tags

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


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".jp2"])
def test_sixteen_bits_of_gray_are_as_bright_in_another_format(tmp_path: Path, suffix: str) -> None:
    deep = picture(48, 64)[..., 0].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "in.png"), deep)
    _edit(tmp_path / "in.png", tmp_path / f"out{suffix}")
    after = cv2.imread(str(tmp_path / f"out{suffix}"), cv2.IMREAD_UNCHANGED)
    assert after.dtype == (np.uint16 if suffix == ".jp2" else np.uint8)
    shown = cv2.imread(str(tmp_path / f"out{suffix}"), cv2.IMREAD_GRAYSCALE)
    assert np.abs(shown[:, 40:].astype(int) - deep[:, 40:] // 257).mean() < 3


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


@pytest.mark.parametrize("before", ["jpg", "png", "webp", "avif", "tif"])
@pytest.mark.parametrize("after", ["jpg", "png", "webp", "avif", "tif"])
def test_what_a_picture_says_of_itself_goes_from_every_format_into_every_other(tmp_path: Path, before: str, after: str) -> None:
    exif, chunks, profile = Image.Exif(), PngImagePlugin.PngInfo(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    exif[tiff_tags.ORIENTATION], exif[271], xmp = 6, "Camera", b'<x:xmpmeta xmlns:x="adobe:ns:meta/">said</x:xmpmeta>'
    chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    said = {"png": {"exif": exif, "pnginfo": chunks}, "tif": {"tiffinfo": {**exif, tiff_tags.XMP: xmp}}}
    plain = {"exif": exif, "xmp": xmp}
    image = Image.fromarray(picture(48, 64))
    image.save(tmp_path / f"in.{before}", icc_profile=profile.tobytes(), **said.get(before, plain))
    _edit(tmp_path / f"in.{before}", tmp_path / f"out.{after}")
    with Image.open(tmp_path / f"out.{after}") as image:
        assert image.getexif()[271] == "Camera"
        assert image.info["icc_profile"] == profile.tobytes()
        assert image.info["xmp"] == xmp
        upright = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    expected = np.rot90(picture(48, 64), -1)
    assert np.abs(upright[40:].astype(int) - expected[40:]).mean() < 8


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


def test_of_an_animation_only_an_edit_loses_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, *others = [Image.fromarray(picture(48, 64, shift=9 * index)) for index in range(3)]
    first.save(tmp_path / "in.webp", save_all=True, append_images=others)
    read = images.read_image(tmp_path / "in.webp")
    images.write_image(tmp_path / "same.webp", read.frame, like=read)
    assert (tmp_path / "same.webp").read_bytes() == (tmp_path / "in.webp").read_bytes()
    assert caplog.messages == []
    _edit(tmp_path / "in.webp", tmp_path / "out.webp")
    assert caplog.messages == [f"{tmp_path / 'in.webp'}: not kept in the WEBP file: all but the first of its 3 pictures"]


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


def test_a_damaged_tiff_of_sixteen_bits_says_nothing_past_its_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "in.tif"), picture(48, 64).astype(np.uint16) * 257)
    data = bytearray((tmp_path / "in.tif").read_bytes())
    data[1000:2000] = bytes(1000)
    (tmp_path / "in.tif").write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        images.read_image(tmp_path / "in.tif")
    assert capfd.readouterr().err == ""


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _tiff(path: Path, *, deep: bool, tags: tiff_tags.Tags) -> None:
    samples = picture(48, 64).astype(np.uint16) * 257 if deep else picture(48, 64)
    coded = cv2.imencode(".tif", samples[..., ::-1])[1].tobytes()
    path.write_bytes(tiff_tags.with_tags(coded, tags))


def _short(value: int) -> tiff_tags.Tag:
    return tiff_tags.Tag(3, 1, value.to_bytes(2, "little"))


def _seen(path: Path) -> np.ndarray:
    """The picture as a viewer shows it."""
    return np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_turned_tiff_is_shown_as_it_was(tmp_path: Path, deep: bool, suffix: str, orientation: int) -> None:
    _tiff(tmp_path / "in.tif", deep=deep, tags={tiff_tags.ORIENTATION: _short(orientation)})
    read = _edit(tmp_path / "in.tif", tmp_path / f"out{suffix}")
    before, after = _seen(tmp_path / "in.tif"), _seen(tmp_path / f"out{suffix}")
    assert before.shape == after.shape == (*read.frame.display_size, 3)
    changed = np.abs(after - before).max(axis=2) > 1
    assert not changed[:6].any()
    assert not changed[30:].any()
    assert not changed[:, :10].any()
    assert not changed[:, 34:].any()
    assert np.abs(after[10:26, 14:30] - 40).max() <= 1  # the edit lies where it was seen
    if suffix == ".tif":
        # OpenCV turns a TIFF by its tag, whatever the flags.
        turned = cv2.imdecode(np.fromfile(tmp_path / "out.tif", np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert turned.dtype == (np.uint16 if deep else np.uint8)
        assert np.abs(turned.astype(float) / (257 if deep else 1) - after).max() <= 1


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_tiff_keeps_profile_resolution_and_tags_and_is_marked(tmp_path: Path, deep: bool, suffix: str) -> None:
    exif: tiff_tags.Tags = {0x9003: tiff_tags.Tag(2, 20, b"2020:01:01 00:00:00\0")}
    tags: tiff_tags.Tags = {
        tiff_tags.ICC_PROFILE: tiff_tags.Tag(7, len(SRGB), SRGB),
        270: tiff_tags.Tag(2, 8, b"my desc\0"),
        315: tiff_tags.Tag(2, 4, b"Zoe\0"),
        tiff_tags.EXIF_IFD: exif,
    }
    _tiff(tmp_path / "in.tif", deep=deep, tags=tiff_tags.with_resolution(tags, (300, 300)))
    _edit(tmp_path / "in.tif", tmp_path / f"out{suffix}", metadata={"comment": "synthesised"})
    after = Image.open(tmp_path / f"out{suffix}")
    assert after.info["icc_profile"] == SRGB
    assert after.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    kept = after.getexif()
    assert (kept[270], kept[315]) == ("my desc", "Zoe")
    assert kept.get_ifd(tiff_tags.EXIF_IFD)[0x9003] == "2020:01:01 00:00:00"
    assert b"synthesised" in (tmp_path / f"out{suffix}").read_bytes()


def _jpeg_with(path: Path, *added: tuple[int, bytes]) -> None:
    Image.fromarray(picture(48, 64)).save(path, quality=90)
    plain = path.read_bytes()
    parts = [b"\xff" + bytes([marker]) + (len(data) + 2).to_bytes(2, "big") + data for marker, data in added]
    path.write_bytes(plain[:2] + b"".join(parts) + plain[2:])


def _resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + number.to_bytes(2, "big") + b"\0\0" + len(data).to_bytes(4, "big") + data + bytes(len(data) % 2)


def _exif_with_thumbnail(thumbnail: bytes) -> bytes:
    first = b"\0\1" + b"\x01\x0f\0\2\0\0\0\4Abc\0" + (26).to_bytes(4, "big")
    second = b"\0\2" + b"\x02\x01\0\4\0\0\0\1" + (56).to_bytes(4, "big")
    second += b"\x02\x02\0\4\0\0\0\1" + len(thumbnail).to_bytes(4, "big") + bytes(4)
    return b"Exif\0\0MM\0*\0\0\0\x08" + first + second + thumbnail


def test_no_thumbnail_of_the_masked_face_is_left(tmp_path: Path) -> None:
    thumbnail = b"\xff\xd8THE MASKED FACE\xff\xd9"
    exif = _exif_with_thumbnail(thumbnail)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><xmp:Thumbnails>THE MASKED FACE</xmp:Thumbnails>kept</x:xmpmeta>'
    resources = _resource(0x0404, b"caption") + _resource(0x040C, thumbnail) + _resource(0x0425, b"odd")
    _jpeg_with(
        tmp_path / "in.jpg",
        (0xE1, exif),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),
        (0xED, b"Photoshop 3.0\0" + resources),
    )
    assert (tmp_path / "in.jpg").read_bytes().count(b"THE MASKED FACE") == 3
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        _edit(tmp_path / "in.jpg", tmp_path / f"out{suffix}")
        assert b"THE MASKED FACE" not in (tmp_path / f"out{suffix}").read_bytes()
        assert Image.open(tmp_path / f"out{suffix}").getexif()[0x010F] == "Abc"
    after = Image.open(tmp_path / "out.jpg")
    assert after.info["xmp"] == xmp.replace(b"<xmp:Thumbnails>THE MASKED FACE</xmp:Thumbnails>", b"")
    assert after.info["photoshop"] == {0x0404: b"caption", 0x0425: b"odd"}
    # The other way: a PNG with such EXIF.
    Image.fromarray(picture(48, 64)).save(tmp_path / "in.png", exif=exif)
    assert b"THE MASKED FACE" in (tmp_path / "in.png").read_bytes()
    _edit(tmp_path / "in.png", tmp_path / "from.png")
    assert b"THE MASKED FACE" not in (tmp_path / "from.png").read_bytes()


@pytest.mark.parametrize("name", ["in.jpg", "in.tif"])
def test_no_preview_of_the_masked_face_is_left_in_a_maker_s_note(tmp_path: Path, name: str) -> None:
    Image.fromarray(picture(48, 64)).save(tmp_path / "preview.jpg", comment=b"THE MASKED FACE")
    preview = (tmp_path / "preview.jpg").read_bytes()
    note = b"MAKER\0" + preview + b"kept"
    tags: tiff_tags.Tags = {tiff_tags.EXIF_IFD: {0x927C: tiff_tags.Tag(7, len(note), note)}}
    if name == "in.tif":
        _tiff(tmp_path / name, deep=False, tags=tags)
    else:
        _jpeg_with(tmp_path / name, (0xE1, tiff_tags.exif_of(tags)))
    _edit(tmp_path / name, tmp_path / f"out{name[2:]}")
    stored = (tmp_path / f"out{name[2:]}").read_bytes()
    assert b"MAKER\0" + bytes(len(preview)) + b"kept" in stored


def test_content_credentials_of_the_original_are_left_out_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = b"\0\0\1\0jumb\0\0\0\x1ejumdc2pa" + bytes.fromhex("00110010800000aa00389b71") + b"\3c2pa\0"
    _jpeg_with(tmp_path / "in.jpg", (0xEB, b"JP\0\1\0\0\0\1" + boxes))
    plain = cv2.imencode(".png", picture(48, 64))[1].tobytes()
    (tmp_path / "in.png").write_bytes(picture_files.with_chunks(plain, [picture_files.chunk(b"caBX", boxes)]))
    _tiff(tmp_path / "in.tif", deep=False, tags={0xCD41: tiff_tags.Tag(7, len(boxes), boxes)})
    for name in ("in.jpg", "in.png", "in.tif"):
        caplog.clear()
        _edit(tmp_path / name, tmp_path / f"out{name[2:]}")
        assert b"c2pa" not in (tmp_path / f"out{name[2:]}").read_bytes()
        assert [message.rpartition(": ")[2] for message in caplog.messages] == [
            "the Content Credentials (C2PA) of the original"
        ]


def test_what_another_format_cannot_hold_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _jpeg_with(tmp_path / "in.jpg", (0xED, b"Photoshop 3.0\0" + _resource(0x0404, b"caption")))
    _edit(tmp_path / "in.jpg", tmp_path / "same.jpg", metadata={"comment": "synthesised"})
    assert not caplog.messages
    _edit(tmp_path / "in.jpg", tmp_path / "out.bmp", metadata={"comment": "synthesised"})
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "not kept in the BMP file: IPTC",
        "a BMP file cannot hold the mark that faces were synthesized",
    ]


@pytest.mark.parametrize("deep", [False, True])
def test_png_keeps_what_its_colours_mean(tmp_path: Path, deep: bool, caplog: pytest.LogCaptureFixture) -> None:
    samples = picture(48, 64).astype(np.uint16) * 257 if deep else picture(48, 64)
    plain = cv2.imencode(".png", samples)[1].tobytes()
    added = {
        b"gAMA": (100000).to_bytes(4, "big"),
        b"cHRM": bytes(range(32)),
        b"cICP": bytes([9, 16, 0, 1]),
        b"sBIT": b"\5\6\5",
        b"tIME": b"\7\xe0\1\1\0\0\0",
        b"prVt": b"kept",
        b"prVT": b"not safe to copy",
    }
    (tmp_path / "in.png").write_bytes(
        picture_files.with_chunks(plain, [picture_files.chunk(name, data) for name, data in added.items()])
    )
    _edit(tmp_path / "in.png", tmp_path / "out.png")
    kept = {name: whole[8:-4] for name, whole in picture_files.chunks((tmp_path / "out.png").read_bytes()) if name in added}
    assert kept == {name: data for name, data in added.items() if name not in (b"tIME", b"prVT")}
    assert not caplog.messages
    _edit(tmp_path / "in.png", tmp_path / "out.webp")
    assert caplog.messages[-1].endswith("not kept in the WEBP file: the description of its colours")


def _cmyk_profile() -> bytes:
    """A profile of ICC.1 with tables of two points a side: inks darken, and back."""

    def table(inputs: int, outputs: int, values: list[list[int]]) -> bytes:
        head = b"mft1" + bytes(4) + bytes([inputs, outputs, 2, 0])
        unit = b"".join((65536 * (row == column)).to_bytes(4, "big") for row in range(3) for column in range(3))
        ramp = bytes(range(256))
        return head + unit + ramp * inputs + bytes(value for point in values for value in point) + ramp * outputs

    inks = [[i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(16)]
    to_lab = table(4, 3, [[255 - 255 * k if k else 255 - 60 * (c + m + y), 128, 128] for c, m, y, k in inks])
    to_inks = table(3, 4, [[0, 0, 0, 255 * (1 - (i >> 2))] for i in range(8)])
    white = b"XYZ " + bytes(4) + bytes.fromhex("0000f6d6000100000000d32d")
    words = b"desc" + bytes(4) + (5).to_bytes(4, "big") + b"test\0" + bytes(78 + 1)
    tags = {b"A2B0": to_lab, b"B2A0": to_inks, b"wtpt": white, b"desc": words, b"cprt": b"text" + bytes(4) + b"none\0"}
    at, directory, body = 128 + 4 + 12 * len(tags), len(tags).to_bytes(4, "big"), b""
    for name, data in tags.items():
        directory += name + (at + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data + bytes(-len(data) % 4)
    header = (at + len(body)).to_bytes(4, "big") + bytes(4) + bytes.fromhex("02400000") + b"prtrCMYKLab " + bytes(12) + b"acsp"
    return header.ljust(68, b"\0") + bytes.fromhex("0000f6d6000100000000d32d").ljust(60, b"\0") + directory + body


def test_cmyk_becomes_rgb_by_its_profile_which_does_not_go_along(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profile = _cmyk_profile()
    flat = Image.new("CMYK", (64, 48), (0, 0, 0, 128))
    flat.save(tmp_path / "in.tif", icc_profile=profile)
    _edit(tmp_path / "in.tif", tmp_path / "out.png")
    after = Image.open(tmp_path / "out.png")
    assert after.mode == "RGB"
    assert "icc_profile" not in after.info
    assert caplog.messages[-1].endswith("its CMYK profile is not kept in the PNG file, which is in sRGB")
    grey = np.array(after)[40, 60].astype(int)
    assert np.abs(grey - 118).max() <= 3  # L* of 50, which the plain formula makes 127
    _edit(tmp_path / "in.tif", tmp_path / "out.tif")
    after = Image.open(tmp_path / "out.tif")
    assert (after.mode, after.info["icc_profile"]) == ("CMYK", profile)
    assert after.getpixel((60, 40)) == (0, 0, 0, 128)
    assert np.abs(np.array(after)[18, 22].astype(int) - (0, 0, 0, 215)).max() <= 4  # sRGB 40 has an L* of 16


def test_grey_with_a_colour_that_is_transparent_stays_grey(tmp_path: Path) -> None:
    Image.fromarray(picture(48, 64)[..., 0]).save(tmp_path / "in.png", transparency=100)
    _edit(tmp_path / "in.png", tmp_path / "out.png")
    before, after = Image.open(tmp_path / "in.png").convert("LA"), Image.open(tmp_path / "out.png")
    assert after.mode == "LA"
    np.testing.assert_array_equal(np.array(after)[..., 1], np.array(before)[..., 1])


def test_lab_is_edited_too(tmp_path: Path) -> None:
    Image.fromarray(picture(48, 64)).convert("LAB").save(tmp_path / "in.tif")
    _edit(tmp_path / "in.tif", tmp_path / "out.tif")
    assert Image.open(tmp_path / "out.tif").mode == "LAB"
    assert np.abs(_seen(tmp_path / "out.tif")[10:26, 14:30] - 40).max() <= 4


def test_exif_that_is_damaged_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for end in range(8, 50):
        _jpeg_with(tmp_path / "in.jpg", (0xE1, _exif_with_thumbnail(b"THE MASKED FACE")[: 6 + end]))
        with warnings.catch_warnings(record=True) as raw:  # none of Pillow's reaches the terminal
            _edit(tmp_path / "in.jpg", tmp_path / "out.jpg", overwrite=True)
        assert not raw
        assert Image.open(tmp_path / "out.jpg").size == (64, 48)
    assert any("EXIF, which is damaged" in message for message in caplog.messages)
    assert any("in.jpg: its metadata is damaged" in message for message in caplog.messages)
