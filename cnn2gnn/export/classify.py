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
for path in sys.argv[1:]:
    image = Image.open(path).convert("L" if channels == 1 else "RGB")
    image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).reshape(1, height, width, channels).transpose(0, 3, 1, 2)
    logits, *reasons = session.run(None, {"samples": pixels})
    print(path, names[logits[0].argmax()])
    for node, weight in list(zip(*(reason[0] for reason in reasons), strict=True))[:5]:
        print(f"  {weight:.3f} from training image {node}, {names[facts['nodes'][node]]}")
