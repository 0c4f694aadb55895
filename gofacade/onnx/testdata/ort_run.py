"""Runs every *.onnx of a folder in ONNX Runtime: NAME.in -> NAME.out, raw float32 in the model's layout.

The batch follows from the size of NAME.in. Where the onnx package is there, it checks each model first.
Prints the versions of what was used as one line of JSON.
"""

import json
import pathlib
import sys

import numpy
import onnxruntime

try:
    import onnx
except ImportError:
    onnx = None

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    if onnx is not None:
        onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, logits.name, image.shape[0], logits.shape[0]) == ("image", "logits", "n", "n"), path
    x = numpy.fromfile(path.with_suffix(".in"), "<f4").reshape([-1] + image.shape[1:])
    (y,) = session.run(["logits"], {"image": x})
    assert list(y.shape) == [len(x)] + logits.shape[1:], (path, y.shape)
    y.astype("<f4").tofile(path.with_suffix(".out"))

print(json.dumps({"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__ if onnx else None}))
