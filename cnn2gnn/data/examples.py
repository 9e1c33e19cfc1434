"""Texts and recordings that need no download: docstrings of installed libraries, made-up vowels."""

from __future__ import annotations

import importlib
import inspect
import io

import numpy as np

from cnn2gnn.base.extras import needed
from cnn2gnn.data.pixels import Item
from cnn2gnn.data.source import Request, Samples, Source

# real texts that lie on every machine; which library is each from?
LIBRARIES = {
    "networkx": ("networkx",),
    "numpy": ("numpy", "numpy.linalg", "numpy.fft", "numpy.random"),
    "scipy": ("scipy.stats", "scipy.signal", "scipy.optimize", "scipy.linalg", "scipy.special"),
    "torch": ("torch", "torch.nn", "torch.nn.functional", "torch.linalg", "torch.optim"),
}
PER_LIBRARY, SHORTEST, LONGEST = 250, 80, 400  # texts; signs of each
# the first two formants of a voice, hertz (Peterson and Barney 1952, table II, men)
VOWELS = {"a": (730, 1090), "i": (270, 2290), "u": (300, 870)}
PER_VOWEL, RATE = 150, 8000


def docstrings_source(asked: Request) -> Source:
    """The beginnings of docstrings; a class a library. They change with the versions installed."""
    return Source(asked.name, (), _read_docstrings, modality="text")


def vowels_source(asked: Request) -> Source:
    """Vowels from a pulse through two resonators, of many voices; no recording at all."""
    return Source(asked.name, (), _read_vowels, modality="audio")


def _read_docstrings() -> Samples:
    items: list[Item] = []
    labels: list[int] = []
    for label, modules in enumerate(LIBRARIES.values()):
        found: dict[str, str] = {}  # text → name: many names share a text
        for module in map(importlib.import_module, modules):
            for name in sorted(vars(module)):
                thing = getattr(module, name)
                text = (inspect.getdoc(thing) or "") if callable(thing) else ""
                if not name.startswith("_") and len(text) >= SHORTEST:
                    found.setdefault(text[:LONGEST], f"{module.__name__}.{name}")
        items += [Item(text, name) for text, name in list(found.items())[:PER_LIBRARY]]
        labels += [label] * (len(items) - len(labels))
    return Samples(items, labels, ["train"] * len(items), tuple(LIBRARIES))


def _read_vowels() -> Samples:
    draws = np.random.default_rng(0)
    items, labels = [], []
    for label, formants in enumerate(VOWELS.values()):
        for at in range(PER_VOWEL):
            items.append(Item(_vowel(formants, draws), f"vowel {list(VOWELS)[label]} {at}"))
            labels.append(label)
    return Samples(items, labels, ["train"] * len(items), tuple(VOWELS))


def _vowel(formants: tuple[int, int], draws: np.random.Generator) -> bytes:
    """One vowel of a voice of its own, as wav."""
    from scipy.signal import lfilter

    samples = int(RATE * draws.uniform(0.2, 0.4))
    phase = np.cumsum(np.full(samples, draws.uniform(90, 220) / RATE))  # turns of the vocal folds
    sound = np.diff(np.floor(phase), prepend=0) + 0.02 * draws.normal(size=samples)
    for hertz in np.array(formants) * draws.normal(1, 0.08):
        radius, angle = np.exp(-np.pi * 90 / RATE), 2 * np.pi * hertz / RATE  # 90 Hz wide
        sound = lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], sound)
    buffer = io.BytesIO()
    soundfile = needed("soundfile", "audio")
    soundfile.write(buffer, 0.5 * sound / np.abs(sound).max(), RATE, format="WAV")
    return buffer.getvalue()
