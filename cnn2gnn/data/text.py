"""Texts as tokens: numbers of word pieces, learned from the training texts.

The rules:
- A byte-pair vocabulary of at most 8,192 pieces is learned from the training texts (their test
  texts are not looked at); upper and lower case are one, accents fall away.
- Of a text the first L tokens count, L = `image_size` (64); shorter ones are filled up by padding.
- What the vocabulary does not know is one token, `UNKNOWN`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from markupsafe import Markup
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.base.extras import needed
from cnn2gnn.data.hashing import uniform
from cnn2gnn.data.modality import Modality
from cnn2gnn.data.pixels import DataError, Item

VOCABULARY, PADDING, UNKNOWN = 8192, 0, 1
LENGTH = 64  # tokens, unless asked otherwise
DROPPED = 8  # one token in so many is dropped in an augmented view
LONGEST = 20_000  # signs of a text that are looked at: far more than L tokens hold
_PICTURE, _LINE, _LINES, _SHOWN, _HINT = 128, 20, 9, 2000, 300  # pixels, signs, lines, signs


def learn(items: Sequence[Item]) -> str:
    """Return a tokeniser for these training texts, as the JSON of the library `tokenizers`."""
    library = needed("tokenizers", "text")
    tokeniser = library.Tokenizer(library.models.BPE(unk_token="[UNK]"))
    tokeniser.normalizer = library.normalizers.BertNormalizer()
    tokeniser.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    trainer = library.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    tokeniser.train_from_iterator((_text(item) for item in items), trainer)
    return tokeniser.to_str()


def decode(items: Sequence[Item], size: int | None, title: str, codec: str) -> Tensor:
    """Return texts as tokens, int32 `(N, 1, L)`.

    Raises:
        DataError: a text is empty (its row is named).
    """
    tokeniser = needed("tokenizers", "text").Tokenizer.from_str(codec)
    length = size or LENGTH
    tokeniser.enable_truncation(length)
    tokeniser.enable_padding(pad_id=PADDING, pad_token="[PAD]", length=length)
    texts = [_text(item) for item in items]
    found = tokeniser.encode_batch(texts)
    return torch.tensor([one.ids for one in found], dtype=torch.int32)[:, None]  # (N, 1, L)


def drop(tokens: Tensor, indices: Tensor, view: int, augmentation: str) -> Tensor:
    """Replace one token in eight by `UNKNOWN`, another one in each view."""
    if view == 0 or augmentation == "none":
        return tokens
    places = indices[:, None] * tokens.shape[-1] + torch.arange(
        tokens.shape[-1], device=indices.device
    )  # (B, L)
    dropped = (uniform(places, DROPPED, view) == 0)[:, None] & (tokens != PADDING)
    return tokens.masked_fill(dropped, UNKNOWN)


def originals(items: Sequence[Item], codec: str) -> list[bytes]:
    """Return the texts."""
    del codec
    return [_text(item).encode() for item in items]


def picture(text: bytes) -> Image.Image:
    """Return the beginning of a text as a picture."""
    lines = textwrap.wrap(text.decode()[:_SHOWN], _LINE)[:_LINES]
    page = Image.new("RGB", (_PICTURE, _PICTURE), "white")
    # Pillow's own font knows Latin letters alone
    known = "\n".join(lines).encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(page).multiline_text((4, 4), known, "black", spacing=3)
    return page


def player(text: bytes) -> Markup:
    """Return a text to be read."""
    shown = text.decode()
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + " …"
    return Markup('<blockquote dir="auto">{}</blockquote>').format(shown)


def words(text: bytes) -> str:
    """Return the beginning of a text in one line."""
    return textwrap.shorten(text.decode(), _HINT, placeholder=" …")


def coerce(texts: Any, channels: int, size: int, codec: str) -> Tensor:
    """Return a user's texts as tokens: a str, or a list of them; tokens stay as they are.

    Raises:
        DataError: there is none, one is something else, or tokens are not those of `size`.
    """
    if isinstance(texts, Tensor):
        check(texts)
        if texts.shape[2] != size or not ((texts >= 0) & (texts < VOCABULARY)).all():
            raise DataError(
                f"tokens must be (N, 1, {size}) here, each from 0 to {VOCABULARY - 1}, not "
                f"{tuple(texts.shape)}{' of others' if texts.shape[2] == size else ''}"
            )
        return texts
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, Iterable):
        raise DataError(f"texts must be a str or a list of them, not {type(texts).__name__}")
    texts = list(texts)
    if not texts:
        raise DataError("texts is empty: give at least one")
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"texts[{at}] must be a str, not {type(text).__name__}")
    return decode([Item(text, f"texts[{at}]") for at, text in enumerate(texts)], size, "", codec)


def check(tokens: Tensor) -> None:
    """Raise a `DataError` for what is no set of tokens."""
    shape = tuple(tokens.shape)
    if tokens.dtype != torch.int32 or len(shape) != 3 or shape[1] != 1:
        raise DataError(f"tokens must be int32 (N, 1, L), not {tokens.dtype} {shape}")


def counts(tokens: Tensor, buckets: int = 512) -> Tensor:
    """Return how often each token occurs, hashed, `(N, 512)`, of length 1: copies are near."""
    bags = torch.zeros(len(tokens), buckets)
    flat = tokens[:, 0].long()  # (N, L)
    bags.scatter_add_(1, flat % buckets, (flat != PADDING).float())
    return F.normalize(bags)


def _text(item: Item) -> str:
    assert isinstance(item.content, str)
    text = item.content[:LONGEST].encode("utf-8", "replace").decode()  # no lone surrogates
    if not text.strip():
        raise DataError(f"{item.origin} holds no text")
    return text


def _preview(tokens: Tensor) -> Image.Image:
    """Tokens without their text, as grey bars."""
    row = (tokens[0].cpu() % 251).to(torch.uint8)  # (L,)
    return Image.fromarray(row.expand(_PICTURE // 2, -1).numpy().copy())


TEXT = Modality(
    decode,
    check,
    drop,
    _preview,
    learn=learn,
    originals=originals,
    picture=picture,
    player=player,
    words=words,
    coerce=coerce,
    vectors=counts,
    libraries=("tokenizers",),
    columns=("text", "sentence", "content"),
    holds="text",
    augmentations=("none", "drop"),
    stems=("ngrams",),
    teachers=("text-cnn",),
)
