"""Recordings as log-mel spectrograms: pictures of sound, which any image network can take.

The rules:
- A recording is a file that libsndfile reads (wav, flac, ogg, mp3, …); channels are averaged.
- All are resampled to one rate, the commonest of the training recordings, 16 kHz at most.
- All are made as long as 95 % of the training recordings are: longer ones lose their end, shorter
  ones are followed by silence.
- S mel bands (low ones at the bottom) by S frames, S = `image_size` (64); decibels from 80 below
  the loudest to it become 0 to 255. Silence is black.
"""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from cnn2gnn.base.extras import needed
from cnn2gnn.data.hashing import uniform
from cnn2gnn.data.modality import PICTURE_STEMS, PICTURE_TEACHERS, Modality
from cnn2gnn.data.pixels import DataError, Item

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64")
SIDE = 64  # mel bands and frames, unless asked otherwise
HIGHEST_RATE, SHORTEST = 16_000, 0.1  # hertz; seconds
WINDOW = 0.032  # seconds of sound in a frame
RANGE = 80.0  # decibels
MOST_SAMPLES = 2**29  # of a recording: two gigabytes, nine hours at 16 kHz
SILENCE = 1e-10  # of the mean square: nothing is heard


def learn(items: Sequence[Item]) -> str:
    """Return rate (hertz) and length (seconds) for these training recordings, as JSON."""
    found = [(rate, len(wave) / rate) for wave, rate in map(_read, items)]
    rate = min(HIGHEST_RATE, Counter(rate for rate, _ in found).most_common(1)[0][0])
    seconds = max(SHORTEST, float(np.quantile([length for _, length in found], 0.95)))
    return json.dumps({"rate": rate, "seconds": round(seconds, 3)})


def decode(items: Sequence[Item], size: int | None, title: str, codec: str) -> Tensor:
    """Return recordings as uint8 spectrograms `(N, 1, S, S)`.

    Raises:
        DataError: a recording is broken or empty (its file or row is named).
    """
    told = json.loads(codec)
    bar = tqdm(items, desc=f"decoding {title}", unit="recording", disable=None)
    pictures = [spectrogram(_heard(item, told), told["rate"], size or SIDE) for item in bar]
    return torch.from_numpy(np.stack(pictures))[:, None]  # (N, 1, S, S)


def spectrogram(wave: np.ndarray, rate: int, side: int) -> np.ndarray:
    """A wave `(T,)` in [-1, 1] as uint8 `(side, side)`, high tones in the first row."""
    librosa = needed("librosa", "audio")
    length = 2 ** int(np.ceil(np.log2(2 * WINDOW * rate)))  # of the transform
    hop = max(1, -(-len(wave) // side))
    tones = librosa.stft(wave, n_fft=length, win_length=round(WINDOW * rate), hop_length=hop)
    power = _bands(rate, length, side) @ np.abs(tones[:, :side]) ** 2  # (side, <= side)
    if np.mean(np.square(wave)) < SILENCE:
        return np.zeros((side, side), np.uint8)
    decibels = librosa.power_to_db(power, ref=np.max, top_db=RANGE)  # (side, frames), in [-80, 0]
    grey = np.rint((decibels + RANGE) * (255 / RANGE)).astype(np.uint8)
    return np.pad(grey, ((0, 0), (0, side - grey.shape[1])))[::-1].copy()


@cache
def _bands(rate: int, length: int, side: int) -> np.ndarray:
    """The mel filters `(side, length / 2 + 1)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # low bands may lie between two tones: they stay black
        return needed("librosa", "audio").filters.mel(sr=rate, n_fft=length, n_mels=side)


def mask(pictures: Tensor, indices: Tensor, view: int, augmentation: str) -> Tensor:
    """Shift in time, and silence a band and a moment (SpecAugment, Park et al. 2019, §2).

    Args:
        pictures: uint8 `(B, 1, S, S)`; each is shifted by up to S/8 frames, and loses up to S/8
            bands and as many frames.
    """
    if view == 0 or augmentation == "none":
        return pictures
    side = pictures.shape[-1]
    most = max(1, side // 8)
    places = torch.arange(side, device=pictures.device)
    shift = uniform(indices, 2 * most + 1, view, 0) - most  # (B,)
    source = places + shift[:, None]  # (B, S)
    inside = (source >= 0) & (source < side)
    column = source.clamp(0, side - 1)[:, None, None, :].expand_as(pictures)
    moved = pictures.gather(3, column) * inside[:, None, None, :]
    for axis, stream in ((2, 1), (3, 3)):
        width = uniform(indices, most + 1, view, stream)  # (B,)
        start = (uniform(indices, side, view, stream + 1) * (side - width)) // side
        hidden = (places >= start[:, None]) & (places < (start + width)[:, None])  # (B, S)
        shape = [len(indices), 1, 1, 1]
        shape[axis] = side
        moved = moved * ~hidden.view(shape)
    return moved


def originals(items: Sequence[Item], codec: str) -> list[bytes]:
    """Return what the models hear of each recording, as 16-bit wav."""
    told = json.loads(codec)
    return [_wav(_heard(item, told), told["rate"]) for item in items]


def player(wav: bytes) -> Markup:
    """Return a button that plays it."""
    source = base64.b64encode(wav).decode()
    return Markup('<audio controls src="data:audio/wav;base64,{}"></audio>').format(source)


def coerce(recordings: Any, channels: int, size: int, codec: str) -> Tensor:
    """Return a user's recordings as spectrograms: paths, bytes of files, or a list of them.

    Spectrograms `(N, 1, S, S)` of uint8, as this module makes them, stay as they are; S is `size`.

    Raises:
        DataError: there is none, one is something else, broken or empty.
    """
    if isinstance(recordings, (np.ndarray, Tensor)):
        pictures = torch.as_tensor(recordings)
        check(pictures)
        if pictures.shape[2] != size:
            shape = tuple(pictures.shape)
            raise DataError(f"spectrograms must be (N, 1, {size}, {size}) here, not {shape}")
        return pictures
    if isinstance(recordings, (str, Path, bytes)):
        recordings = [recordings]
    if not recordings:
        raise DataError("recordings is empty: give at least one")
    for at, one in enumerate(recordings):
        if not isinstance(one, (str, Path, bytes)):
            raise DataError(
                f"recordings[{at}] must be a path or the bytes of a file, not {type(one).__name__}"
            )
    items = [
        Item(Path(one) if isinstance(one, str) else one, f"recordings[{at}]")
        for at, one in enumerate(recordings)
    ]
    return decode(items, size, "recordings", codec)


def check(pictures: Tensor) -> None:
    """Raise a `DataError` for what is no set of spectrograms."""
    shape = tuple(pictures.shape)
    if pictures.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3]:
        raise DataError(f"spectrograms must be uint8 (N, 1, S, S), not {pictures.dtype} {shape}")


def _preview(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture[0].cpu().numpy())


def _read(item: Item) -> tuple[np.ndarray, int]:
    """A recording as one channel of float32 `(T,)`, and its rate in hertz."""
    soundfile = needed("soundfile", "audio")
    content = item.content
    try:
        source = io.BytesIO(content) if isinstance(content, bytes) else str(content)
        with soundfile.SoundFile(source) as sound:
            if sound.frames * sound.channels > MOST_SAMPLES:  # as its header claims: not read yet
                hours = sound.frames / sound.samplerate / 3600
                raise ValueError(f"{hours:,.0f} hours of sound are more than is read at once")
            wave, rate = sound.read(dtype="float32"), sound.samplerate
    except Exception as error:  # libsndfile's own errors, and those of the file system
        raise DataError(f"{item.origin} is broken or no recording: {error}") from None
    wave = wave if wave.ndim == 1 else wave.mean(1)
    if not len(wave) or not np.isfinite(wave).all():
        raise DataError(f"{item.origin} holds {'no sound' if not len(wave) else 'NaN or infinity'}")
    return wave, rate


def _heard(item: Item, told: dict[str, Any]) -> np.ndarray:
    """A recording at the learned rate and length, `(T,)`."""
    wave, rate = _read(item)
    if rate != told["rate"]:
        wave = needed("librosa", "audio").resample(wave, orig_sr=rate, target_sr=told["rate"])
    length = max(1, round(told["seconds"] * told["rate"]))
    return np.pad(wave[:length], (0, max(0, length - len(wave))))


def _wav(wave: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    needed("soundfile", "audio").write(buffer, wave, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


AUDIO = Modality(
    decode,
    check,
    mask,
    _preview,
    learn=learn,
    originals=originals,
    player=player,
    coerce=coerce,
    libraries=("librosa", "soundfile"),
    columns=("audio",),
    augmentations=("none", "mask"),
    stems=PICTURE_STEMS,
    teachers=PICTURE_TEACHERS,
)
