"""One way to read an image file, wherever one is read: upright, opaque, 8 bits a channel, of a size that fits memory.

A photograph is turned as its EXIF orientation says. Transparent parts show middle grey, on which neither black nor
white strokes vanish. Files that Pillow would warn of as a decompression bomb are refused.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resteutils.data.base import check_choice

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["BACKGROUND", "DECODERS", "READERS", "UnreadableImage", "check_decoder", "decode", "opened"]

BACKGROUND = (128, 128, 128)  # behind transparent parts
DECODERS = ("pillow", "torchvision")
READERS = (*DECODERS, "shrunk")  # what recipes may say: the last is of resteutils.data.shrunk
ORIENTATION = 0x0112  # the tag's number in EXIF

_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error)  # what Pillow raises for broken files


class UnreadableImage(RuntimeError):
    """An image file cannot be decoded."""


def opened(path: Path, mode: str = "RGB") -> Image:
    """Read an image file as "RGB" or "L", decoded in full.

    Raises ``UnreadableImage`` with the file's name and what is wrong with it.
    """
    from PIL import Image

    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise UnreadableImage(f"{path} cannot be decoded ({'a folder' if path.is_dir() else 'it is no file'})")
    try:
        with Image.open(path) as image:
            pixels = image.width * image.height
            if Image.MAX_IMAGE_PIXELS and pixels > Image.MAX_IMAGE_PIXELS:
                raise ValueError(
                    f"{image.width} x {image.height} = {pixels:,} pixels, expected at most {Image.MAX_IMAGE_PIXELS:,}"
                )
            if image.mode == "F" or image.mode.startswith("I"):  # convert would cut them off at 255
                raise ValueError(f"mode {image.mode}, expected 8 bits per channel")
            return _opaque(_upright(image)).convert(mode)
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(f"{path} cannot be decoded (it is not an image that Pillow can read)") from error
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path} cannot be decoded ({missing(path)})") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path} cannot be decoded ({getattr(error, 'strerror', None) or error})") from error


def missing(path: Path) -> str:
    """Why there is no file: a broken link is one to mend, not one that never was."""
    return f"a link to {path.readlink()}, which is not there" if path.is_symlink() else "no such file"


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
    except _DAMAGE:  # an orientation that cannot be read is none
        turned = False
    return ImageOps.exif_transpose(image) if turned else image


def _opaque(image: Image) -> Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image
    behind = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(behind, image.convert("RGBA"))


def check_decoder(decoder: str) -> None:
    """Raise ``ValueError`` for a decoder of another name, ``RuntimeError`` where torchvision cannot decode JPEG files:
    reading them all by Pillow instead would give other pixels than the recipe says.
    """
    check_choice("decoder", decoder, READERS)
    if decoder == "torchvision":
        from torchvision.io import decode_jpeg, encode_jpeg

        try:
            decode_jpeg(encode_jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8)))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RuntimeError(
                f"decoder = 'torchvision': this build of it decodes no JPEG files ({reason}); use decoder=pillow"
            ) from error


def decode(path: Path, decoder: str = "pillow") -> Tensor:
    """Read an image file as uint8 (3, H, W), whatever its name says it is: by Pillow, or JPEG files by "torchvision",
    whose pixels differ by a few levels.

    Raises ``UnreadableImage`` as :func:`opened` does.
    """
    from torchvision.transforms.v2.functional import pil_to_tensor

    if decoder == "torchvision" and (pixels := _jpeg(path)) is not None:
        return pixels
    return pil_to_tensor(opened(path))


def _jpeg(path: Path) -> Tensor | None:
    """The pixels of a whole JPEG file; None for one that is something else, cut short, or of unusual colours."""
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        content = path.read_bytes()
    except OSError:
        return None
    if not content.startswith(b"\xff\xd8") or b"\xff\xd9" not in content[-1024:]:
        return None
    try:
        return decode_jpeg(
            torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB, apply_exif_orientation=True
        )
    except RuntimeError:
        return None
