"""MNN: its converter, and a session with precision "high", which is float32."""

import importlib.metadata
import subprocess
import sys

import numpy as np


def convert(onnx, model):
    command = [sys.executable, "-m", "MNN.tools.mnnconvert", "-f", "ONNX", "--modelFile", onnx, "--MNNModel", model]
    done = subprocess.run([*command, "--bizCode", "dynofa"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"mnnconvert: {(done.stdout + done.stderr).strip()[-300:]}")


def load(model, image, classes, threads):
    import MNN

    net = MNN.Interpreter(model)
    session = net.createSession({"backend": "CPU", "precision": "high", "numThread": threads})
    source = net.getSessionInput(session)
    net.resizeTensor(source, image.shape)
    net.resizeSession(session)
    pixels = MNN.Tensor(image.shape, MNN.Halide_Type_Float, image, MNN.Tensor_DimensionType_Caffe)
    sink = net.getSessionOutput(session)

    def fill():
        source.copyFrom(pixels)

    def run():
        net.runSession(session)

    def logits():
        host = MNN.Tensor(
            (1, classes), MNN.Halide_Type_Float, np.zeros((1, classes), np.float32), MNN.Tensor_DimensionType_Caffe
        )
        sink.copyToHostTensor(host)
        return np.array(host.getData(), np.float32)

    return importlib.metadata.version("MNN"), fill, run, logits
