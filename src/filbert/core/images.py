"""Images as a model may see them: checked, turned upright, made small and written anew.

What comes from a file or a client is read here, by Pillow, with five formats open and a bound on its pixels. The
engine's own decoder sees nothing but what this module wrote.
"""

from __future__ import annotations

import base64
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from filbert.core.errors import BadInput
from filbert.core.files import read_plain_file, size

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = "str | Path | bytes | Image"  # a path, a file's bytes, or what Pillow holds
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM")
MOST_BYTES = 50_000_000
MOST_PIXELS = 64_000_000
LONGEST_SIDE = 2048  # pixels: SmolVLM cuts as much into tiles, Qwen's takes 4,096 patches of 28 x 28, others take less
JPEG_QUALITY = 92
BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)


def image_part(picture: Picture, name: str = "The image") -> dict[str, Any]:
    """A part of a message's content, in OpenAI's shape: a data: address that holds a PNG or JPEG of ours, at most 2048
    pixels long. name: what a person calls it. Raises BadInput for what is no image, is damaged or is too large."""
    if isinstance(picture, str | Path):
        path = Path(picture)
        picture, name = read_plain_file(path, MOST_BYTES), path.name
    image = _opened(picture, name) if isinstance(picture, bytes) else _ready(picture)
    _need_pixels(image, name)
    written_as = "JPEG" if image.format in ("JPEG", "MPO") else "PNG"
    try:
        if isinstance(picture, bytes):  # nobody else's: a large JPEG is decoded at a half, a quarter or an eighth
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        with warnings.catch_warnings(action="ignore"):  # of what is odd about its notes, which are not kept
            clean = _clean(image)
    except BROKEN as exc:
        raise BadInput(f"{name} is damaged or cut short.", why=f"{exc}.", do="Save it anew, or take another.") from exc
    file = BytesIO()
    clean.save(file, written_as, quality=JPEG_QUALITY)
    encoded = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/{written_as.lower()};base64,{encoded}"}}


def image_part_of_address(url: str) -> dict[str, Any]:
    """As `image_part`, of an address as OpenAI's clients write it. Nothing is fetched: only a data: address, which
    holds the image itself, is taken. Raises BadInput."""
    head, _, encoded = url.partition(",")
    if not head.startswith("data:"):
        raise BadInput(
            "An image is taken as a data: address only; nothing is fetched.",
            do="Send the image itself: data:image/png;base64,…",
        )
    if not head.endswith(";base64"):
        raise BadInput("The image's data: address is not base64.", do="Write data:image/png;base64,…")
    try:
        return image_part(base64.b64decode(encoded, validate=True))
    except ValueError as exc:  # binascii's, or that of letters beyond ASCII
        raise BadInput("The image's base64 is broken.", why=f"{exc}.", do="Encode the whole file.") from exc


def is_image(data: bytes) -> bool:
    """Whether bytes begin as an image of a known format does."""
    return data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def pixels(part: dict[str, Any]) -> tuple[int, int]:
    """Width and height of a part that `image_part` made."""
    from PIL import Image

    encoded = part["image_url"]["url"].partition(",")[2]
    with Image.open(BytesIO(base64.b64decode(encoded))) as image:
        return image.size


def _opened(data: bytes, name: str) -> Image:
    """Only the header is read. Raises BadInput."""
    from PIL import Image

    if len(data) > MOST_BYTES:
        raise BadInput(f"{name} has {size(len(data))}, and {size(MOST_BYTES)} are taken.", do="Make it smaller.")
    if not data:
        raise BadInput(f"{name} is empty.", do="Take another file.")
    try:
        with warnings.catch_warnings(action="ignore"):  # our bound on pixels is lower, and notes are not kept
            return Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as exc:
        raise _too_many_pixels(name, "far more") from exc
    except BROKEN as exc:
        raise BadInput(
            f"{name} is no image that can be read.",
            why="PNG, JPEG, WebP, GIF and BMP can.",
            do="Save it as one of them.",
        ) from exc


def _ready(picture: object) -> Image:
    from PIL import Image

    if not isinstance(picture, Image.Image):
        raise BadInput(
            f"{type(picture).__name__} is no image.", do="Give a path, the bytes of a file, or an image of Pillow."
        )
    return picture


def _need_pixels(image: Image, name: str) -> None:
    width, height = image.size
    if not width * height:
        raise BadInput(f"{name} has no pixels.", do="Take another.")
    if width * height > MOST_PIXELS:
        raise _too_many_pixels(name, f"{width} x {height} pixels")


def _too_many_pixels(name: str, has: str) -> BadInput:
    most = f"{MOST_PIXELS // 1_000_000} megapixels"
    return BadInput(f"{name} has {has}, and {most} are taken at most.", do="Make it smaller.")


def _clean(image: Image) -> Image:
    """The first frame in plain colours on white, upright, at most LONGEST_SIDE long, without anything else the file
    says: no place, no name, no profile."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a pixel, of which a conversion would keep the wrong eight
        upright = upright.convert("I").point(lambda value: value / 256).convert("L")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
    elif upright.mode != "RGB":
        upright = upright.convert("RGB")
    upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", upright.size, "white")
    canvas.paste(upright, mask=upright if upright.mode == "RGBA" else None)
    return canvas
