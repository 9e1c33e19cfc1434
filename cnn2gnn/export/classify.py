"""Classify images by student.onnx beside this file: python classify.py IMAGE …"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(Path(__file__).with_name("student.onnx"))
facts = json.loads(session.get_modelmeta().custom_metadata_map["cnn2gnn"])
names, (_, channels, height, width) = [*facts["classes"], "no label"], facts["input"]["shape"]


def pixels_of(path: str) -> np.ndarray:
    """Return an image as uint8 `(1, C, H, W)`, made as those that the student learned from."""
    image = ImageOps.exif_transpose(Image.open(path))  # upright
    if image.mode[0] in "IF":  # grey of more than 8 bits, which Pillow would clip
        grey = np.asarray(image, float)
        if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
            sys.exit(f"{path}: save it with 8 or 16 bits, for others have no fixed range")
        grey[grey == image.info.get("transparency")] = 65535  # white
        image = Image.fromarray((grey / 257 + 0.5).astype(np.uint8))
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    image = image.convert("L" if channels == 1 else "RGB")
    return np.asarray(image).reshape(1, height, width, channels).transpose(0, 3, 1, 2)


for path in sys.argv[1:]:
    logits, *reasons = session.run(None, {"samples": pixels_of(path)})
    print(path, names[logits[0].argmax()])
    for node, weight in list(zip(*(reason[0] for reason in reasons), strict=True))[:5]:
        print(f"  {weight:.3f} from training image {node}, {names[facts['nodes'][node]]}")
