"""Recordings, texts and feature vectors, from the file to the explorer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import small_config
from PIL import Image

from cnn2gnn import Predictor, distil, load_data
from cnn2gnn.base import extras
from cnn2gnn.config import ConfigError
from cnn2gnn.data import DataError, Item
from cnn2gnn.data.audio import AUDIO, SIDE, coerce, decode, learn, mask
from cnn2gnn.data.text import PADDING, TEXT, UNKNOWN, counts
from cnn2gnn.explore.markup import card_html
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.models.text import NgramStem, TextCNN
from cnn2gnn.registry import MODALITIES, STEMS, TEACHERS

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


# ---- texts


def texts(count: int = 60) -> pd.DataFrame:
    about = {"sea": "the wave and the harbour", "hill": "a mountain and a valley"}
    rows = [
        {"text": f"{words}, number {at} of {count}", "label": name}
        for at in range(count // 2)
        for name, words in about.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_of_texts_are_read_alike(tmp_path: Path, suffix: str) -> None:
    table, path = texts(), tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    elif suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    train = load_data(f"text:{path}").train
    assert train.images.dtype == torch.int32 and train.images.shape[1:] == (1, 64)
    assert train.classes == ("hill", "sea")
    shown = train.originals[0].decode()
    assert ("mountain" in shown) == (train.classes[train.labels[0]] == "hill")
    assert train.preview(0).size == (128, 128)


def test_the_vocabulary_is_learned_from_training_texts_alone(tmp_path: Path) -> None:
    table = texts()
    table["split"] = ["test" if at % 4 == 0 else "train" for at in range(len(table))]
    codecs = []
    for word in ("mountain", "zyzzyva"):
        table.loc[table["split"] == "test", "text"] = f"{word} " * 5
        table.to_parquet(tmp_path / f"{word}.parquet")
        codecs.append(load_data(f"text:{tmp_path / word}.parquet").train.codec)
    assert codecs[0] == codecs[1] and "zyzzyva" not in codecs[1]
    # and where the kit cuts the test part itself: other validation seeds, the same vocabulary
    table.drop(columns="split").to_csv(tmp_path / "t.csv", index=False)
    seeds = [load_data(f"text:{tmp_path}/t.csv", split_seed=seed) for seed in (0, 1)]
    assert seeds[0].train.codec == seeds[1].train.codec
    assert not torch.equal(seeds[0].train.images, seeds[1].train.images)


def test_empty_and_endless_texts(tmp_path: Path) -> None:
    table = texts()
    table.loc[3, "text"], table.loc[4, "text"] = "  ", None
    table.loc[5, "text"] = "a mountain " * 100_000  # more than a megabyte
    table.to_parquet(tmp_path / "t.parquet")
    splits = load_data(f"text:{tmp_path}/t.parquet")
    assert sum(map(len, splits)) == 58
    assert any("rows without text 2" in note for note in splits.train.notes)
    with pytest.raises(DataError, match=r"texts\[1\] holds no text"):
        TEXT.coerce(["a mountain", " \n"], 1, 64, splits.train.codec)
    with pytest.raises(DataError, match=r"texts\[0\] must be a str, not bytes"):
        TEXT.coerce([b"a"], 1, 64, splits.train.codec)


def test_views_of_text_drop_tokens_never_padding() -> None:
    tokens = torch.randint(2, 100, (200, 1, 32), dtype=torch.int32)
    tokens[:, :, 20:] = PADDING
    rows = torch.arange(200)
    seen = TEXT.augment(tokens, rows, 2, "drop")
    assert torch.equal(seen[50:60], TEXT.augment(tokens[50:60], rows[50:60], 2, "drop"))
    dropped = seen == UNKNOWN
    assert 0.09 < dropped[:, :, :20].float().mean() < 0.16
    assert torch.equal(seen[~dropped], tokens[~dropped]) and not dropped[:, :, 20:].any()
    assert torch.equal(TEXT.augment(tokens, rows, 0, "drop"), tokens)


def test_padding_changes_nothing_for_student_and_teacher() -> None:
    torch.manual_seed(0)
    short = torch.randint(2, 100, (3, 1, 9)).float()
    long = torch.nn.functional.pad(short, (0, 40))
    for network in (NgramStem(1, 9).eval(), TextCNN(1, 9, 4).eval()):
        assert torch.allclose(network(short), network(long), atol=1e-5)


def test_copies_of_a_text_are_near() -> None:
    tokens = torch.randint(2, 8000, (3, 1, 64), dtype=torch.int32)
    tokens[1] = tokens[0]
    tokens[1, 0, :3] = 7
    bags = counts(tokens)
    assert (bags[0] - bags[1]).norm() < 0.5 < (bags[0] - bags[2]).norm()


def test_texts_are_distilled_explained_and_predicted(tmp_path: Path) -> None:
    table = texts(160)
    table.loc[:, "text"] += " <script>alert(1)</script> العربية"
    table.to_parquet(tmp_path / "t.parquet")
    asked = {"dataset": f"text:{tmp_path}/t.parquet", "stem": "ngrams", "teacher": "text-cnn"}
    longer = {"epochs": 10, "teacher_epochs": 6, "batch_size": 16, "teacher_batch_size": 16}
    run = distil(small_config(tmp_path, run="words", **asked, **longer))
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.9
    state = ExplorerState(run)
    html = card_html(state.card(), "data:,", state.nodes.player(state.card().node))
    assert "&lt;script&gt;" in html and "<script>" not in html and "العربية" in html
    assert state.nodes.words(state.card().neighbours["node"][0]).startswith(("the wave", "a mount"))
    predictor = Predictor.load(run)
    assert repr(predictor) == "Predictor(2 classes, text, bank of 108, cpu)"
    assert predictor.predict("the harbour")[0] == "sea"
    found = predictor.neighbours("the harbour and a wave")
    assert found["weight"].sum() == pytest.approx(1, abs=1e-5) and "sea" in set(found["label"])


@pytest.mark.parametrize(("name", "classes"), [("vowels", 3), ("docstrings", 4)])
def test_examples_need_no_download(name: str, classes: int) -> None:
    first, again = load_data(name), load_data(name)
    assert torch.equal(first.test.images, again.test.images)
    assert all(len(part.labels.unique()) == classes for part in first)
    assert len({first.train.originals[at] for at in range(len(first.train))}) == len(first.train)


# ---- features, groups, and what suits what


def vectors(count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    return np.random.default_rng(0).normal(labels[:, None] * 2.0, 1, (count, 6)), labels


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features_are_distilled_and_predicted(tmp_path: Path, suffix: str) -> None:
    rows, labels = vectors()
    path = tmp_path / f"f.{suffix}"
    if suffix == "npz":
        np.savez(path, features=rows, labels=labels, classes=["no", "yes"])
    else:
        pd.DataFrame({"features": list(rows), "label": np.array(["no", "yes"])[labels]}).to_parquet(
            path
        )
    asked = {"dataset": f"features:{path}", "stem": "features", "teacher": "mlp"}
    run = distil(small_config(tmp_path, run=f"f-{suffix}", **asked, epochs=5, teacher_epochs=4))
    splits = run.load_splits()
    assert splits.train.images.shape[1:] == (6, 1, 1) and splits.train.images.is_floating_point()
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.85
    predictor = Predictor.load(run)
    assert predictor.predict(np.array([[2.0] * 6, [0.0] * 6])).tolist() == ["yes", "no"]
    with pytest.raises(DataError, match=r"features of shape \(2, 5\) must be \(N, 6\)"):
        predictor.predict(np.zeros((2, 5)))


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_teacher_elsewhere_teaches_by_its_logits(tmp_path: Path, suffix: str) -> None:
    rows, labels = vectors()
    logits = np.random.default_rng(1).normal(0, 0.5, (80, 2)) + 3 * np.eye(2)[labels]
    logits[:4] = -logits[:4]  # it is not always right
    previews = [f"row {at} <b>" for at in range(80)]
    path = tmp_path / f"f.{suffix}"
    if suffix == "npz":
        np.savez(path, features=rows, labels=labels, logits=logits, preview=previews)
    else:
        held = {"features": list(rows), "label": labels, "logits": list(logits)}
        pd.DataFrame(held | {"preview": previews}).to_parquet(path)
    asked = {"dataset": f"features:{path}", "stem": "features", "teacher": "given"}
    run = distil(small_config(tmp_path, run="given", **asked, epochs=2))
    splits = load_data(f"features:{path}")  # from the cache of decoded samples
    assert torch.equal(splits.test.logits, run.load_splits().test.logits)
    right = (splits.test.logits.argmax(1) == splits.test.labels).float().mean().item()
    assert run.metrics()["teacher"]["accuracy"] == pytest.approx(right)
    for part in splits:  # each with its own: subsets keep them together
        for at in range(len(part)):
            row = int(part.words(at).split()[1])
            assert np.allclose(part.images[at].flatten(), rows[row], atol=1e-6)
            assert np.allclose(part.logits[at], logits[row], atol=1e-5)
    state = ExplorerState(run)
    assert "&lt;b&gt;" in card_html(state.card(), "data:,", state.nodes.player(state.card().node))


def test_previews_may_be_pictures(tmp_path: Path) -> None:
    rows, labels = vectors()
    buffer = io.BytesIO()
    Image.new("RGB", (9, 5), "red").save(buffer, "PNG")
    table = {"features": list(rows), "label": labels, "preview": [buffer.getvalue()] * 80}
    pd.DataFrame(table).to_parquet(tmp_path / "f.parquet")
    train = load_data(f"features:{tmp_path}/f.parquet").train
    assert train.preview(0).size == (9, 5) and train.preview(0).getpixel((0, 0)) == (255, 0, 0)
    assert train.words(0) == "" == train.player(0)


def test_a_teacher_that_said_nothing_is_refused(tmp_path: Path) -> None:
    rows, labels = vectors()
    np.savez(tmp_path / "f.npz", features=rows, labels=labels)
    asked = {"dataset": f"features:{tmp_path}/f.npz", "stem": "features", "teacher": "given"}
    with pytest.raises(DataError, match="teacher='given' needs data with logits"):
        distil(small_config(tmp_path, run="wrong", **asked))
    np.savez(tmp_path / "f.npz", features=rows, labels=labels, logits=np.zeros((80, 3)))
    with pytest.raises(DataError, match="logits must be finite, and 2 for each of 80 rows"):
        load_data(f"features:{tmp_path}/f.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.zeros((4, 2))}, "has no array 'labels'; its arrays: features"),
        ({"features": np.zeros(4), "labels": np.zeros(4)}, r"features \(4,\) must be \(N, d\)"),
        ({"features": np.full((4, 2), "x"), "labels": [0, 1, 0, 1]}, "row 0 of .* no numbers"),
        (
            {"features": np.zeros((4, 2)), "labels": [0, 1, 0, 1], "preview": ["a"]},
            "1 previews for 4 rows",
        ),
        ({"features": np.full((4, 2), np.nan), "labels": [0, 1, 0, 1]}, "row 0 of .* holds NaN"),
        (
            {"features": np.zeros((4, 2)), "labels": [0, 1, 0, 1], "split": ["train"] * 3 + ["x"]},
            "split must name for each row one of train, .*, not 'x'",
        ),
        (
            {"features": np.zeros((2, 2)), "labels": [0, 2], "classes": ["a", "b"]},
            "labels must be 0 to 1",
        ),
    ],
)
def test_features_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_data(f"features:{tmp_path}/f.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_file_of_features_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"f\.npz cannot be read as npz"):
        load_data(f"features:{tmp_path}/f.npz")


def test_a_group_never_stands_on_both_sides(tmp_path: Path) -> None:
    table = texts(120)
    table["author"] = [f"a{at // 2 % 6}" for at in range(120)]
    table["split"] = "train"
    table.to_parquet(tmp_path / "t.parquet")
    splits = load_data(f"text:{tmp_path}/t.parquet", group_column="author")
    test = {one for one in map(splits.test.originals.__getitem__, range(len(splits.test)))}
    authors = dict(zip(table["text"], table["author"], strict=True))
    tested = {authors[one.decode()] for one in test}
    others = {
        authors[part.originals[at].decode()] for part in splits[:2] for at in range(len(part))
    }
    assert tested and not tested & others
    assert any(note.startswith("test is all of author a") for note in splits.train.notes)
    with pytest.raises(DataError, match="group_column='who' is not in .*author"):
        load_data(f"text:{tmp_path}/t.parquet", group_column="who")
    with pytest.raises(DataError, match="group_column='author' is for tables"):
        load_data("digits", group_column="author")
    with pytest.raises(DataError, match="group_column='split' has one value only, 'train'"):
        load_data(f"text:{tmp_path}/t.parquet", group_column="split")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "stem='conv-tiny' is not for text: choose ngrams"),
        ({"stem": "ngrams"}, "teacher='resnet20' is not for text: choose text-cnn"),
        (
            {"stem": "ngrams", "teacher": "text-cnn", "augmentation": "crop"},
            "augmentation='crop' is not for text: choose auto, none, drop",
        ),
        (
            {"stem": "ngrams", "teacher": "text-cnn", "graph": "fixed"},
            "graph='fixed' compares raw samples",
        ),
    ],
)
def test_what_does_not_suit_is_refused_before_anything_is_made(
    tmp_path: Path, parameters: dict, message: str
) -> None:
    texts().to_parquet(tmp_path / "t.parquet")
    asked = {"dataset": f"text:{tmp_path}/t.parquet", "stem": "conv-tiny", "teacher": "resnet20"}
    with pytest.raises(ConfigError, match=message):
        distil(small_config(tmp_path, run="wrong", **asked | parameters))
    assert not list(tmp_path.rglob("config.json"))


def test_every_stem_and_teacher_suits_some_kind_of_samples() -> None:
    kinds = list(MODALITIES.values())
    assert {name for kind in kinds for name in kind.stems} == set(STEMS)
    assert {name for kind in kinds for name in kind.teachers} == set(TEACHERS)


def test_a_label_that_only_the_test_part_has_is_named(tmp_path: Path) -> None:
    table = texts()
    table["split"] = "train"
    table.loc[len(table)] = {"text": "a river", "label": "river", "split": "test"}
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no training .* is of the class 'river'"):
        load_data(f"text:{tmp_path}/t.parquet")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(
        ConfigError, match=r"soundfile is not installed: pip install 'cnn2gnn\[audio"
    ):
        learn([item(wave(440))])
