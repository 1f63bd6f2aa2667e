"""Image files: upright, opaque, 8 bits, of a size that fits; whatever their name says; damaged ones are named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import noise
from PIL import Image

from resteutils.data.reading import BACKGROUND, DECODERS, UnreadableImage, check_decoder, decode, opened


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("grey.JPEG", "L", {}),
        ("cmyk.JPEG", "CMYK", {}),
        ("alpha.png", "RGBA", {}),
        ("is_png.JPEG", "RGB", {"format": "PNG"}),
    ],
)
def test_odd_files_of_imagenet_become_rgb(name: str, mode: str, options: dict, tmp_path: Path) -> None:
    noise(tmp_path / name, mode=mode, **options)
    image = decode(tmp_path / name)
    assert (image.shape, image.dtype) == ((3, 30, 40), torch.uint8)


def test_sixteen_bits_are_refused_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 12, dtype=np.uint16).reshape(3, 4)).save(tmp_path / "deep.png")
    with pytest.raises(UnreadableImage, match=r"deep.png cannot be decoded \(mode I;16, expected 8 bits"):
        decode(tmp_path / "deep.png")


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_camera_says(orientation: int, decoder: str, tmp_path: Path) -> None:
    """Red is above in the scene; each orientation tells how the stored pixels lie to it (EXIF 2.3, tag 274)."""
    scene = np.zeros((16, 32, 3), dtype=np.uint8)
    scene[:8, :, 0], scene[8:, 16:, 2] = 255, 255
    stored = {1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1], 5: scene.transpose(1, 0, 2)}
    stored |= {6: np.rot90(scene), 7: scene.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(scene, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif, "quality": 100, "subsampling": 0}
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(tmp_path / "photo.jpg", **options)
    found = decode(tmp_path / "photo.jpg", decoder).permute(1, 2, 0).int()
    assert found.shape == scene.shape
    assert (found - torch.from_numpy(scene).int()).abs().max() <= 6


@pytest.mark.parametrize("ink", [0, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_strokes_over_transparency_stay_visible(mode: str, ink: int, tmp_path: Path) -> None:
    """A stroke is seen before the stated background, whatever colour the transparent pixels are said to have."""
    pixels = np.full((8, 8, 4), ink, dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[2:4, 2:4, 3] = 255
    image, options = Image.fromarray(pixels), {}
    if mode in ("P", "RGB"):  # one colour stands for what is transparent
        image, options = Image.new("RGB", (8, 8), (9, 9, 9)), {"transparency": (9, 9, 9)}
        image.paste((ink,) * 3, (2, 2, 4, 4))
        if mode == "P":
            image = image.quantize(2)
            options = {"transparency": image.getpixel((0, 0))}
    image.convert(mode).save(tmp_path / "stroke.png", **options)
    expected = np.full((8, 8), BACKGROUND[0])
    expected[2:4, 2:4] = ink
    assert np.array_equal(np.array(opened(tmp_path / "stroke.png", "L")), expected)
    assert decode(tmp_path / "stroke.png")[1].tolist() == expected.tolist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_decoders_read_the_same_files(decoder: str, tmp_path: Path) -> None:
    smooth = Image.fromarray(np.linspace(0, 255, 40 * 30 * 3).reshape(30, 40, 3).astype(np.uint8))
    for name, mode in (("rgb.jpg", "RGB"), ("grey.jpg", "L"), ("cmyk.jpg", "CMYK"), ("alpha.png", "RGBA")):
        smooth.convert(mode).save(tmp_path / name)
        found, expected = decode(tmp_path / name, decoder).int(), decode(tmp_path / name).int()
        assert (found - expected).abs().max() <= 3
    whole = (tmp_path / "rgb.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImage, match=r"cut.jpg cannot be decoded"):
        decode(tmp_path / "cut.jpg", decoder)


@pytest.mark.faults("a picture bomb")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_bomb_is_refused_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    for side, said in ((101, "10,201 pixels, expected at most 10,000"), (150, "22500 pixels")):
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        with pytest.raises(UnreadableImage, match=f"bomb.png cannot be decoded .*{said}"):
            opened(tmp_path / "bomb.png")


def test_an_orientation_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "odd.jpg", exif=b"Exif\x00\x00garbage that is no TIFF")
    assert decode(tmp_path / "odd.jpg").shape == (3, 4, 8)


def test_what_is_no_file_or_no_image_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opened, it would be waited for
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "text.png").write_text("text")
    for name, said in (
        ("link.png", "a link to nowhere.png"),
        ("none.png", "no such file"),
        ("text.png", "not an image"),
        ("pipe.png", "it is no file"),
        ("folder.png", "a folder"),
    ):
        with pytest.raises(UnreadableImage, match=rf"{name} cannot be decoded.*{said}"):
            opened(tmp_path / name)


def test_a_torchvision_that_decodes_no_jpeg_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's pixels instead would be another recipe's."""
    check_decoder("torchvision")

    def lacking(*arguments):
        raise RuntimeError("not compiled with libjpeg")

    monkeypatch.setattr("torchvision.io.decode_jpeg", lacking)
    with pytest.raises(RuntimeError, match=r"not compiled with libjpeg.*decoder=pillow"):
        check_decoder("torchvision")
    with pytest.raises(ValueError, match="'opencv', expected one of pillow, torchvision, shrunk"):
        check_decoder("opencv")
