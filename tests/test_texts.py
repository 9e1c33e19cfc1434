"""Texts, from the table to the explorer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import small_config

from cnn2gnn import Predictor, distil, load_data
from cnn2gnn.data import DataError
from cnn2gnn.data.text import PADDING, TEXT, UNKNOWN, counts
from cnn2gnn.explore.markup import card_html
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.models.text import NgramStem, TextCNN


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


@pytest.mark.parametrize("double", ["text", "label", "split"])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, double: str) -> None:
    table = texts().assign(split="train", note="")
    table.insert(0, "double", table[double])
    table.rename(columns={"double": double}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=rf"t\.csv has 2 columns '{double}'"):
        load_data(f"text:{tmp_path}/t.csv")


def test_labels_groups_and_what_is_not_utf8_are_never_read_as_the_texts(tmp_path: Path) -> None:
    table, path = texts().assign(user=[f"user{at % 7}" for at in range(60)]), tmp_path / "t.csv"
    told = r"t\.csv cannot be read as csv: In CSV column #0: .* invalid UTF8 data"
    table["text"] += " café"
    for columns, group in ((["text", "label"], None), (["text", "label", "user"], "user")):
        table[columns].to_csv(path, index=False, encoding="latin-1")
        with pytest.raises(DataError, match=told):
            load_data(f"text:{path}", group_column=group)
    table.drop(columns="text").to_csv(path, index=False)
    with pytest.raises(DataError, match="has no column `text` of text; its columns: label, user"):
        load_data(f"text:{path}", group_column="user")
    table.rename(columns={"text": "said"}).to_csv(path, index=False)  # the only one that is left
    assert "caf" in load_data(f"text:{path}", group_column="user").test.words(0)
    table["text"] = table["text"].str.encode("latin-1")
    table.to_parquet(tmp_path / "t.parquet")
    told = r"column `text` of \S*t\.parquet must hold text, not binary: its text is not UTF-8"
    with pytest.raises(DataError, match=told):
        load_data(f"text:{tmp_path}/t.parquet", group_column="user")


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "classes",
    [("01", "1", "02"), ("false", "true"), ("0", "2", "10"), ("2024-01-01", "NA"), ("1.0", "b")],
    ids=str,
)
def test_labels_groups_and_texts_are_what_is_written(
    tmp_path: Path, suffix: str, classes: tuple[str, ...]
) -> None:
    path = tmp_path / f"t.{suffix}"
    rows = [(f"{1900 + at}", classes[at % len(classes)], f"0{at // 9 % 4}") for at in range(90)]
    table = pd.DataFrame(rows, columns=["text", "label", "user"])
    table.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    splits = load_data(f"text:{path}", group_column="user")
    assert splits.train.classes == classes
    assert splits.train.notes[0].startswith("test is all of user 0")
    for part in splits:
        for at, label in enumerate(part.labels.tolist()):
            assert classes[(int(part.originals[at]) - 1900) % len(classes)] == classes[label]


@pytest.mark.parametrize("known", [("0", "1"), ("no", "yes")])
def test_a_row_without_a_label_is_named(tmp_path: Path, known: tuple[str, str]) -> None:
    table = texts().replace({"label": {"sea": known[0], "hill": known[1]}})
    table.loc[5, "label"] = None
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"label='' in row 5 of .* is none of the classes"):
        load_data(f"text:{tmp_path}/t.csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_row_may_be_longer_than_a_block(tmp_path: Path, suffix: str) -> None:
    table, path = texts(), tmp_path / f"t.{suffix}"
    table.loc[7, "text"] = "wave " * 500_000
    write = table.to_csv if suffix == "csv" else table.to_json
    write(path, **({"index": False} if suffix == "csv" else {"orient": "records", "lines": True}))
    assert sum(map(len, load_data(f"text:{path}"))) == 60


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.ones(2, 1, 7, dtype=torch.int32), r"\(N, 1, 64\) here.*not \(2, 1, 7\)$"),
        (torch.full((2, 1, 64), 9000, dtype=torch.int32), r"from 0 to 8191, not .* of others$"),
        (5, "texts must be a str or a list of them, not int"),
        (["a", 5], r"texts\[1\] must be a str, not int"),
        ([], "texts is empty"),
    ],
)
def test_what_is_no_text_is_named(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TEXT.coerce(given, 1, 64, "{}")


def test_a_column_that_is_not_read_may_be_there_twice(tmp_path: Path) -> None:
    table = texts().assign(one="", other="")
    table.columns = ["text", "label", "", ""]
    table.to_csv(tmp_path / "t.csv", index=False)
    assert sum(map(len, load_data(f"text:{tmp_path}/t.csv"))) == 60


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
