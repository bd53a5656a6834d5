"""Images from strangers: what is read, what is refused, and what is left of them."""

from __future__ import annotations

import base64
import os
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from filbert.core.errors import BadInput
from filbert.core.images import FORMATS, LONGEST_SIDE, MOST_BYTES, image_part, image_part_of_address, pixels


def seen(part: dict[str, Any]) -> Image.Image:
    """What the model sees of a part."""
    url = part["image_url"]["url"]
    assert url.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    return Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of any size in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 20)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read_and_written_anew(format: str) -> None:
    image = seen(image_part(written(Image.new("RGB", (40, 20), "red"), format)))
    assert image.size == (40, 20) and image.mode == "RGB"
    assert image.format == ("JPEG" if format == "JPEG" else "PNG")
    red, green, blue = image.getpixel((20, 10))
    assert red > 240 and green < 15 and blue < 15


def test_a_large_image_is_made_as_small_as_a_model_can_use() -> None:
    assert pixels(image_part(written(Image.new("RGB", (6000, 3000)), "JPEG"))) == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert pixels(image_part(written(Image.new("RGB", (5000, 1)), "PNG"))) == (LONGEST_SIDE, 1)


def test_a_turned_photo_stands_upright_and_says_nothing_of_where_it_was_taken() -> None:
    photo = Image.new("RGB", (40, 20))
    exif = photo.getexif()
    exif[0x0112], exif[0x010F] = 6, "A maker"
    image = seen(image_part(written(photo, "JPEG", exif=exif)))
    assert image.size == (20, 40)
    assert not image.getexif() and set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG", 255),
        (Image.new("I;16", (8, 8), 0x8000), "PNG", 128),
        (Image.new("L", (8, 8), 77), "PNG", 77),
        (Image.new("1", (8, 8), 1), "PNG", 255),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 128)), "JPEG", 127),
        (Image.new("P", (8, 8), 0), "GIF", 0),
    ],
    ids=["see-through", "16 bits", "grey", "one bit", "for print", "palette"],
)
def test_every_kind_of_colour_becomes_plain(image: Image.Image, format: str, expected: int) -> None:
    plain = seen(image_part(written(image, format)))
    assert plain.mode == "RGB"
    assert all(abs(value - expected) <= 2 for value in plain.getpixel((4, 4)))


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_of_a_moving_image_the_first_frame_is_seen(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    moving = written(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert seen(image_part(moving)).getpixel((8, 8)) == (255, 0, 0)  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("size", [(10_000, 10_000), (8001, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)], ids=str)
def test_too_many_pixels_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    with warnings.catch_warnings(action="error"), pytest.raises(BadInput, match=r"64 megapixels are taken|no image"):
        image_part(png_header(*size))


def test_a_gif_that_grows_when_it_is_decoded_is_refused() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    for bomb in (
        screen + frame,
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame,
    ):
        with pytest.raises(BadInput, match="64 megapixels"):
            image_part(bomb)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
        b"<svg/>",
        b"\xff\xd8\xff",
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"The image is (no image|empty|damaged)"):
        image_part(data)


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_cut_short_is_refused_wherever_it_was_cut(format: str) -> None:
    noise = Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3))
    whole = written(noise, format)
    for share in (0.1, 0.5, 0.8):
        with pytest.raises(BadInput, match=r"no image|cut short"):
            image_part(whole[: int(len(whole) * share)])


def test_damaged_bytes_never_raise_anything_but_a_sentence() -> None:
    noise = Image.frombytes("RGB", (32, 32), os.urandom(32 * 32 * 3))
    for format in FORMATS:
        whole = written(noise, format)
        for at in range(0, len(whole), max(1, len(whole) // 60)):
            damaged = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
            try:
                part = image_part(damaged)
            except BadInput as exc:
                assert "The image" in str(exc)
            else:
                assert max(seen(part).size) <= LONGEST_SIDE


def test_a_pipe_a_device_a_folder_and_a_loop_are_no_files(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.png", tmp_path / "loop.png"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    (tmp_path / "to_pipe.png").symlink_to(pipe)
    for path in (pipe, loop, tmp_path / "to_pipe.png", tmp_path, Path("/dev/zero"), tmp_path / "none.png"):
        with pytest.raises(BadInput, match=r"is no plain file|cannot be read"):
            image_part(path)


def test_a_file_of_200_megabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(BadInput, match=r"huge.png has more than 50 MB\. Take a smaller file"):
        image_part(path)
    with pytest.raises(BadInput, match="50 MB are taken"):
        image_part(bytes(MOST_BYTES + 1))


def test_a_path_bytes_and_a_pillow_image_are_the_same_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 8), "green")
    path = tmp_path / "green.png"
    image.save(path)
    assert image_part(path) == image_part(str(path)) == image_part(path.read_bytes()) == image_part(image)
    with pytest.raises(BadInput, match=r"int is no image\. Give a path"):
        image_part(3)  # type: ignore[arg-type]


def test_an_image_that_somebody_holds_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("RGB", (5000, 4000), "green").save(path)
    with Image.open(path) as image:
        assert pixels(image_part(image)) == (2048, 1638)
        assert image.size == (5000, 4000)


def test_only_an_address_that_holds_the_image_is_taken(tmp_path: Path) -> None:
    encoded = base64.b64encode(written(Image.new("RGB", (4, 4)), "PNG")).decode()
    assert pixels(image_part_of_address(f"data:image/png;base64,{encoded}")) == (4, 4)
    for url in ("http://localhost/a.png", "https://localhost/a.png", f"file://{tmp_path}/a.png", encoded, "", "data"):
        with pytest.raises(BadInput, match="nothing is fetched"):
            image_part_of_address(url)
    for url in (
        f"data:image/png,{encoded}",
        "data:image/png;base64,%%%",
        "data:image/png;base64,é",
        "data:image/png;base64,",
        "data:;base64,AAAA",
    ):
        with pytest.raises(BadInput, match=r"base64|empty|no image"):
            image_part_of_address(url)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(BadInput, match="no pixels"):
        image_part(Image.new("RGB", (0, 5)))


def test_broken_notes_of_a_camera_are_passed_over_in_silence() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(image_part(written(Image.new("RGB", (8, 8)), "JPEG", exif=exif))) == (8, 8)
