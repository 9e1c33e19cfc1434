"""Every kind of image becomes the 8-bit pixels that the rules promise."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cnn2gnn.data import DataError
from cnn2gnn.data.decode import decode
from cnn2gnn.data.pixels import Item


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> Item:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Item(buffer.getvalue(), "x")


def pixels(image: Image.Image, kind: str = "PNG", size: int | None = None) -> np.ndarray:
    """The decoded pixels `(C, S, S)` of a single image."""
    return decode([encoded(image, kind)], size, "x")[0].numpy()


def noise(*shape: int, high: int = 256, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def test_grey_and_rgb_keep_their_pixels() -> None:
    grey, rgb = noise(6, 6), noise(6, 6, 3)
    np.testing.assert_array_equal(pixels(Image.fromarray(grey)), grey[None])
    np.testing.assert_array_equal(pixels(Image.fromarray(rgb)), rgb.transpose(2, 0, 1))


def test_one_coloured_image_makes_all_rgb() -> None:
    grey, rgb = noise(4, 4), noise(4, 4, 3)
    both = decode([encoded(Image.fromarray(x)) for x in (grey, rgb)], None, "x").numpy()
    np.testing.assert_array_equal(both[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(both[1], rgb.transpose(2, 0, 1))


def test_colour_far_from_grey_is_met_across_chunks() -> None:
    items = [encoded(Image.new("L", (2, 2), 9))] * 600 + [encoded(Image.new("RGB", (2, 2), "red"))]
    images = decode(items, None, "x")
    assert images.shape == (601, 3, 2, 2)
    assert images[0].unique().tolist() == [9] and images[600, 0].unique().tolist() == [255]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_lies_on_white(mode: str) -> None:
    clear = Image.new(mode, (4, 4), (0,) * len(mode))
    clear.putpixel((0, 0), (10,) * (len(mode) - 1) + (255,))
    out = pixels(clear)
    assert out.shape[0] == (1 if mode == "LA" else 3)
    assert out[0, 0, 0] == 10 and out[0, 1, 1] == 255
    half = pixels(Image.new(mode, (4, 4), (0,) * (len(mode) - 1) + (128,)))
    assert np.unique(half).tolist() == [127]


def test_a_palette_becomes_its_colours() -> None:
    image = Image.fromarray(noise(8, 8, 3)).quantize(16)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels(image), expected)
    np.testing.assert_array_equal(pixels(image, "GIF"), expected)


def test_a_transparent_palette_entry_lies_on_white() -> None:
    image = Image.new("P", (3, 3), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 1), 1)
    out = decode([encoded(image, transparency=0)], None, "x")[0]
    assert out[:, 0, 0].tolist() == [255, 255, 255] and out[:, 1, 1].tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind: str) -> None:
    values = np.array([[0, 257], [32768, 65535]], dtype=np.uint16)
    assert pixels(Image.fromarray(values), kind)[0].tolist() == [[0, 1], [128, 255]]


def png_file(depth: int, kind: int, rows: list[bytes], trns: bytes | None = None) -> Item:
    """A PNG as the standard says, of kinds that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        size, check = struct.pack(">L", len(data)), zlib.crc32(name + data)
        return size + name + data + struct.pack(">L", check)

    header = struct.pack(">LLBBBBB", len(rows), len(rows), depth, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    content += b"" if trns is None else chunk(b"tRNS", trns)
    content += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return Item(content + chunk(b"IEND", b""), "x")


RAMP = np.linspace(0, 65535, 8).astype(">u2")
EIGHT = np.round(RAMP / 257).astype(int).tolist()


@pytest.mark.parametrize(
    ("transparent", "first"), [(None, 0), (1, 0), (0, 255)], ids=["none", "absent", "black"]
)
def test_sixteen_bit_grey_keeps_its_range_beside_transparency(
    transparent: int | None, first: int
) -> None:
    trns = None if transparent is None else struct.pack(">H", transparent)
    out = decode([png_file(16, 0, [RAMP.tobytes()] * 8, trns)], None, "x")
    assert out.shape[1] == 1 and out[0, 0, 0].tolist() == [first, *EIGHT[1:]]


def test_one_bit_with_a_transparent_value_is_grey() -> None:
    out = decode([png_file(1, 0, [b"\xaa"] * 8, struct.pack(">H", 0))], None, "x")
    assert out.shape[1] == 1 and out.unique().tolist() == [255]


def test_integers_without_a_fixed_range_are_refused() -> None:
    values = np.array([[0, 1], [2, 70_000]], dtype=np.int32)
    with pytest.raises(DataError, match="x is broken: 32-bit pixels have no fixed range"):
        decode([encoded(Image.fromarray(values), "TIFF")], None, "x")


def exif_table(entries: list[tuple[int, int, int, bytes]], more: bytes = b"") -> bytes:
    """EXIF's own format: a TIFF of one table; an entry is tag, type, count, value."""
    body = b"".join(struct.pack("<HHL4s", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<LH", 8, len(entries))
    return b"Exif\0\0" + head + body + b"\0" * 4 + more


def short(value: int) -> bytes:
    return struct.pack("<HH", value, 0)


TURN = (0x0112, 3, 1, short(6))
AFTER = struct.pack("<L", 8 + 2 + 12 * 2 + 4)  # what two entries point to
BROKEN = {
    "none": (b"Exif\0\0", False),
    "garbage": (b"Exif\0\0\0\x08\0\x02\x01\x12\0\x03", False),
    "header twice": (b"Exif\0\0" + exif_table([(0x0112, 3, 1, short(1))]), False),
    "no such turn": (exif_table([(0x0112, 3, 1, short(9))]), False),
    "turn as text": (exif_table([(0x0112, 2, 2, b"6\0\0\0")]), False),
    "negative over zero": (
        exif_table([TURN, (0x011A, 10, 1, AFTER)], struct.pack("<ll", -1, 0)),
        True,
    ),
    "two resolutions": (exif_table([TURN, (0x011A, 5, 2, AFTER)], b"\1\0\0\0" * 4), True),
    "beyond the end": (exif_table([TURN, (0x0110, 2, 400, short(5000))]), True),
    "a number for text": (exif_table([TURN, (0x0131, 3, 1, short(7))]), True),
    "a place that is none": (exif_table([TURN, (0x8825, 4, 1, short(60000))]), True),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("exif", "turned"), BROKEN.values(), ids=BROKEN)
def test_broken_exif_never_refuses_pixels(exif: bytes, turned: bool, kind: str) -> None:
    upright = np.zeros((16, 16), np.uint8)
    upright[:8] = 250
    options = {"lossless": True} if kind == "WEBP" else {}
    out = decode([encoded(Image.fromarray(upright), kind, exif=exif, **options)], None, "x")[0, 0]
    expected = np.rot90(upright, -1) if turned else upright
    np.testing.assert_allclose(out.numpy().astype(int), expected, atol=12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_what_pillow_makes_of_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        item = encoded(Image.fromarray(noise(6, 6)), kind, exif=exif)
        assert isinstance(item.content, bytes)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(item.content)))
        np.testing.assert_array_equal(decode([item], None, "x")[0, 0].numpy(), expected)


def test_black_and_white_is_grey() -> None:
    assert pixels(Image.fromarray(np.eye(3, dtype=bool)))[0].tolist() == (np.eye(3) * 255).tolist()


def test_cmyk_is_rgb() -> None:
    assert pixels(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF")[:, 0, 0].tolist() == [
        255, 0, 0,
    ]  # fmt: skip


def test_the_orientation_of_a_camera_is_applied() -> None:
    upright = noise(6, 6)
    lying = Image.fromarray(np.rot90(upright))  # turned left; orientation 6 says: turn right
    exif = Image.Exif()
    exif[0x0112] = 6
    out = decode([encoded(lying, exif=exif)], None, "x")
    np.testing.assert_array_equal(out[0, 0].numpy(), upright)


def test_resizing_takes_the_centre_of_the_longer_side() -> None:
    wide = Image.new("L", (40, 20), 0)
    wide.paste(200, (10, 0, 30, 20))
    assert np.unique(pixels(wide, size=20)).tolist() == [200]
    assert pixels(wide.rotate(90, expand=True), size=10).mean() == pytest.approx(200, abs=12)


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    small = pixels(Image.fromarray(stripes), size=16).astype(int)
    assert np.abs(small - 127.5).max() < 10


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 255))
def test_any_shape_becomes_square_and_flat_stays_flat(
    width: int, height: int, size: int, value: int
) -> None:
    out = pixels(Image.new("L", (width, height), value), size=size)
    assert out.shape == (1, size, size) and np.unique(out).tolist() == [value]


def test_sizes_that_differ_ask_for_image_size() -> None:
    images = [encoded(Image.new("L", (n, n))) for n in (8, 9)]
    with pytest.raises(DataError, match="image_size must be given, for sizes differ: x is 9×9"):
        decode(images, None, "x")
    with pytest.raises(DataError, match="image_size must be given, for x is 8×6 pixels"):
        decode([encoded(Image.new("L", (8, 6)))], None, "x")


def test_broken_images_are_named(tmp_path: Path) -> None:
    whole = encoded(Image.fromarray(noise(32, 32, 3))).content
    assert isinstance(whole, bytes)
    cases = {
        "cut.png is broken": whole[: len(whole) // 2],
        "text.png is broken or no image of a known format": b"hello",
        "empty.png is broken or no image of a known format": b"",
    }
    for message, content in cases.items():
        file = tmp_path / message.split()[0]
        file.write_bytes(content)
        items = [Item(whole, "whole"), Item(file, str(file))]
        with pytest.raises(DataError, match=message):
            decode(items, None, "x")
    with pytest.raises(DataError, match=r"gone\.png cannot be read: .*No such file"):
        decode([Item(tmp_path / "gone.png", "gone.png")], None, "x")
    with pytest.raises(DataError, match="x is broken: float pixels"):
        decode([encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")], None, "x")


def test_worker_processes_give_the_same_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [encoded(Image.fromarray(image)) for image in noise(600, 5, 5, 3)]
    here = decode(items, None, "x")
    monkeypatch.setattr("cnn2gnn.data.decode.WORKERS_FROM", 1)
    assert torch.equal(decode(items, None, "x"), here)
    with pytest.raises(DataError, match="the last one is broken or no image"):
        decode([*items, Item(b"", "the last one")], None, "x")


def test_workers_need_neither_torch_nor_pyarrow() -> None:
    code = "import sys, cnn2gnn.data.pixels; print({'torch', 'pyarrow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
