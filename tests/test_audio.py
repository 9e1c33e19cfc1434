"""Recordings, from the file to the explorer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import small_config

from cnn2gnn import Predictor, distil
from cnn2gnn.data import DataError, Item
from cnn2gnn.data.audio import AUDIO, SIDE, coerce, decode, learn, mask
from cnn2gnn.explore.markup import card_html
from cnn2gnn.explore.state import ExplorerState

RATE = 8000


def wave(hertz: float, seconds: float = 0.3, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV")
    return buffer.getvalue()


def item(samples: np.ndarray, rate: int = RATE) -> Item:
    return Item(wav(samples, rate), "a recording")


# ---- recordings


def test_a_higher_tone_lies_higher_in_the_spectrogram() -> None:
    items = [item(wave(hertz)) for hertz in (200, 800, 3000)]
    pictures = decode(items, None, "tones", learn(items))
    AUDIO.check(pictures)
    assert pictures.shape == (3, 1, SIDE, SIDE)
    loudest = pictures[:, 0].float().mean(2).argmax(1).tolist()  # row of each
    assert loudest[0] > loudest[1] > loudest[2]
    assert pictures.amax((1, 2, 3)).tolist() == [255, 255, 255]  # loudness does not count


def test_rate_and_length_are_those_of_most_training_recordings() -> None:
    items = [item(wave(300, 0.5, 16000), 16000)] + [item(wave(300))] * 20
    told = json.loads(learn(items))
    assert told == {"rate": 8000, "seconds": pytest.approx(0.3, abs=0.01)}
    assert json.loads(learn([item(wave(300, 1, 44100), 44100)]))["rate"] == 16000


def test_mixed_rates_channels_and_lengths_become_alike() -> None:
    tone = wave(440, 0.3, 16000)
    same = [item(wave(440)), item(tone, 16000), item(np.stack([tone, tone], 1), 16000)]
    one, other, stereo = decode(same, 32, "tones", learn([same[0]])).int()
    assert torch.equal(other, stereo)
    assert (one - other).abs().float().mean() < 12  # of 255: resampling leaves a little
    short, long = decode([item(wave(440, 0.1)), item(wave(440, 3))], 32, "", learn([same[0]]))
    assert not short[..., 20:].any() and long[..., -2:].any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF....WAVE", "row 3 is broken or no recording"),
        (b"", "row 3 is broken or no recording"),
        (wav(np.zeros(0)), "row 3 holds no sound"),
        (Path("/nowhere/a.wav"), "row 3 is broken or no recording"),
    ],
)
def test_a_recording_that_cannot_be_heard_is_named(content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        learn([Item(content, "row 3")])  # type: ignore[arg-type]


def test_silence_is_black() -> None:
    items = [item(np.zeros(2000)), item(wave(440))]
    silent, tone = decode(items, 16, "", learn(items))
    assert not silent.any() and tone.any()


def test_views_of_sound_are_pure_functions_of_index_and_view() -> None:
    pictures = decode(
        [item(wave(h)) for h in range(200, 1800, 100)], 32, "", learn([item(wave(9))])
    )
    rows = torch.arange(16)
    seen = mask(pictures, rows, 3, "mask")
    assert torch.equal(seen[5:9], mask(pictures[5:9], rows[5:9], 3, "mask"))
    assert torch.equal(mask(pictures, rows, 0, "mask"), pictures)
    assert not torch.equal(seen, mask(pictures, rows, 4, "mask"))
    full = torch.full((400, 1, 32, 32), 255, dtype=torch.uint8)
    lost = (mask(full, torch.arange(400), 1, "mask") == 0).float()
    assert lost.amax(3).sum((1, 2)).max() == 32 and 0.05 < lost.mean() < 0.3
    assert lost.amin(2).sum((1, 2)).max() <= 8  # whole columns: a shift of 4 and a mask of 4


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Class folders of 30 low and 30 high tones, with noise."""
    noise = np.random.default_rng(0)
    for name, hertz in (("low", 300), ("high", 1200)):
        (tmp_path / "sounds" / name).mkdir(parents=True)
        for at in range(30):
            tone = wave(hertz + 10 * at) + 0.05 * noise.normal(size=2400)
            soundfile.write(tmp_path / "sounds" / name / f"{at}.flac", tone, RATE)
    (tmp_path / "sounds" / "notes.txt").write_text("not a sound")
    return tmp_path / "sounds"


def test_spectrograms_of_another_size_are_named() -> None:
    given = torch.zeros(2, 1, 48, 48, dtype=torch.uint8)
    with pytest.raises(DataError, match=r"must be \(N, 1, 32, 32\) here, not \(2, 1, 48, 48\)"):
        coerce(given, 1, 32, "{}")


def test_recordings_are_distilled_explained_and_predicted(recordings: Path, tmp_path: Path) -> None:
    asked = {"dataset": f"audio:{recordings}", "image_size": 16, "stem": "conv-tiny"}
    config = small_config(tmp_path, run="sound", **asked, epochs=6, teacher_epochs=4)
    run = distil(config)
    splits = run.load_splits()
    assert any("files of unknown suffix 1" in note for note in splits.train.notes)
    assert run.manifest["augmentation"] == "mask"
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.9
    state = ExplorerState(run)
    player = state.nodes.player(state.card().node)
    heard, rate = soundfile.read(io.BytesIO(splits.test.originals[0]))
    assert rate == RATE and len(heard) == round(0.3 * RATE)
    html = card_html(state.card(), "data:,", player)
    assert '<audio controls src="data:audio/wav;base64,UklG' in html
    saved = tmp_path / "sound.predictor"
    Predictor.load(run).save(saved)
    predictor = Predictor.load(saved)  # knows rate and length by itself
    files = [recordings / "low" / "3.flac", str(recordings / "high" / "4.flac")]
    assert predictor.predict(files).tolist() == ["low", "high"]
    assert np.allclose(
        predictor.predict_proba(files),
        predictor.predict_proba(coerce(files, 1, 16, splits.train.codec)),
    )
    with pytest.raises(DataError, match=r"recordings\[0\] must be a path .*, not ndarray"):
        predictor.predict([np.zeros(2400)])
    with pytest.raises(DataError, match="recordings is empty"):
        predictor.predict([])
