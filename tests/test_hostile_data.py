"""Data from somebody else: read, or refused in one line; never run, never let out of its folder."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cnn2gnn import cli
from cnn2gnn.base.signs import visible
from cnn2gnn.data import DataError, load
from cnn2gnn.drawing.classnames import readable
from cnn2gnn.report.latex import latex_text

# clears the terminal, paints it, turns the line round, breaks it
HOSTILE = "a\x1b[2J\x1b[31m\u202egpj.exe\u2066\n<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))


def png(grey: int, side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), grey).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int = 60_000) -> bytes:
    """A PNG of some hundred bytes that claims side × side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def table(images: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"image": images, "label": [f"{at % 2}" for at in range(len(images))]})


def test_an_image_that_claims_more_pixels_than_memory_holds_is_named(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        for at in range(6):
            (tmp_path / "own" / label / f"{at}.png").write_bytes(png(at))
    (tmp_path / "own" / "b" / "5.png").write_bytes(bomb())
    with pytest.raises(DataError, match=r"b/5\.png cannot be read: Image size \(3600000000 pixels"):
        load(f"folder:{tmp_path}/own")
    table([*map(png, range(11)), bomb()]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"row 11 of .*t\.parquet cannot be read: Image size"):
        load(f"parquet:{tmp_path}/t.parquet")


@pytest.mark.parametrize("leading_out", ["/etc/hostname", "../secret.png", "a/../../secret.png"])
def test_a_table_names_no_file_outside_its_folder(tmp_path: Path, leading_out: str) -> None:
    (tmp_path / "secret.png").write_bytes(png(7))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "0.png").write_bytes(png(0))
    rows = [{"bytes": None, "path": name} for name in ["0.png"] * 11 + [leading_out]]
    table(rows).to_parquet(tmp_path / "own" / "t.parquet")
    with pytest.raises(DataError, match=r"row 11 of .* names the file .*, which is not in "):
        load(f"parquet:{tmp_path}/own/t.parquet")
    few_shot = tmp_path / "mini-imagenet"
    (few_shot / "images").mkdir(parents=True)
    (few_shot / "train.csv").write_text(f"filename,label\n{leading_out},n01\n")
    with pytest.raises(DataError, match=r"line 2 of .*train\.csv names the file .*, which is not"):
        load("mini-imagenet", data_dir=tmp_path)


def test_a_recording_that_claims_hours_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile = pytest.importorskip("soundfile")
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        for at in range(6):
            wave = np.random.default_rng(at).normal(size=800) / 10
            soundfile.write(tmp_path / "own" / label / f"{at}.wav", wave, 8000)
    claim = SimpleNamespace(frames=2**40, channels=1, samplerate=8000)

    class Claiming:
        def __init__(self, source: object) -> None: ...
        def __enter__(self) -> SimpleNamespace:
            return claim  # has no `read`: nothing may be read of it

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(soundfile, "SoundFile", Claiming)
    with pytest.raises(DataError, match=r"\.wav is broken .*38,177 hours of sound"):
        load(f"audio:{tmp_path}/own", image_size=16)


def test_an_archive_that_unpacks_to_more_than_is_free_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.npz"
    np.savez_compressed(path, features=np.zeros((1000, 1000)), labels=np.zeros(1000, int))
    assert path.stat().st_size < 20_000
    free = SimpleNamespace(available=10**6)
    with monkeypatch.context() as small:
        small.setattr("psutil.virtual_memory", lambda: free)
        with pytest.raises(DataError, match=r"it unpacks to 0\.0 GB, and 0\.0 are free"):
            load(f"features:{path}")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "features.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        )
    with pytest.raises(DataError, match=r"f\.npz cannot be read as npz"):
        load(f"features:{path}")
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    with pytest.raises(DataError, match=r"single\.npz cannot be read as npz: it is a single array"):
        load(f"features:{tmp_path}/single.npz")


def test_nothing_in_a_file_name_acts_on_the_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = HOSTILE.replace("/", "∕")
    for label in "ab":
        (tmp_path / "own" / label).mkdir(parents=True)
        for at in range(6):
            (tmp_path / "own" / label / f"{at}.png").write_bytes(png(at))
    (tmp_path / "own" / "a" / f"{name}.txt").write_text("left out, and told")
    assert cli.main(["data", f"folder:{tmp_path}/own"]) == 0
    (tmp_path / "own" / "b" / f"{name}.png").write_bytes(b"broken")
    assert cli.main(["data", f"folder:{tmp_path}/own"]) == 2
    said = capsys.readouterr()
    assert "\\x1b[2J" in said.out and "\\x1b[2J" in said.err
    for text in (said.out, said.err):
        assert not set("\x1b\u202e\u2066") & set(text)
    assert said.err.count("\n") == 1


def test_a_hostile_class_name_is_only_read() -> None:
    assert visible(HOSTILE) == (
        "a\\x1b[2J\\x1b[31m\\u202egpj.exe\\u2066\\n<script>alert(1)</script>"
    )
    assert readable([HOSTILE]) == (visible(HOSTILE),)
    told = latex_text(r"\input{/etc/passwd}\write18{rm}%")
    assert told == (r"\textbackslash{}input\{/etc/passwd\}\textbackslash{}write18\{rm\}\%")
