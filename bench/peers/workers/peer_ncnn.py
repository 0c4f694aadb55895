"""ncnn: converted by pnnx; float32 throughout, packed layouts and all convolution algorithms on."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np


def convert(onnx, model):
    """The model is the .param text; its weights lie beside it."""
    import onnx as format

    side = format.load(onnx).graph.input[0].type.tensor_type.shape.dim[2].dim_value
    # The package's Python half wants PyTorch, its program does not: find that without an import.
    program = os.path.join(importlib.util.find_spec("pnnx").submodule_search_locations[0], "pnnx")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(onnx, os.path.join(folder, "net.onnx"))
        command = [program, "net.onnx", f"inputshape=[1,3,{side},{side}]", "fp16=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0 or not os.path.exists(os.path.join(folder, "net.ncnn.param")):
            sys.exit(f"pnnx: {(done.stdout + done.stderr).strip()[-300:]}")
        with open(os.path.join(folder, "net.ncnn.param")) as text, open(model, "w") as out:
            out.write(fuse(text.read()))
        shutil.move(os.path.join(folder, "net.ncnn.bin"), weights(model))


def weights(model):
    return model.removesuffix(".part") + ".bin"


def fuse(text):
    """Makes HardSwish part of the convolution before it, which pnnx leaves to a tool that is not on PyPI."""
    magic, counts, *layers = text.splitlines()
    layers = [line.split() for line in layers]
    kept = []
    for layer in layers:
        before = kept[-1] if kept else None
        if layer[0] == "HardSwish" and before[0].startswith("Convolution") and before[5] == layer[4]:
            alpha, beta = (field.split("=")[1] for field in layer[6:8])
            before[5] = layer[5]
            before += ["9=6", f"-23310=2,{alpha},{beta}"]
        else:
            kept.append(layer)
    gone = len(layers) - len(kept)
    total, blobs = map(int, counts.split())
    return "\n".join([magic, f"{total - gone} {blobs - gone}"] + [" ".join(layer) for layer in kept]) + "\n"


def load(model, image, classes, threads):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for precision in ("fp16", "bf16", "int8"):
        for use in ("packed", "storage", "arithmetic"):
            if hasattr(net.opt, f"use_{precision}_{use}"):
                setattr(net.opt, f"use_{precision}_{use}", False)
    if net.load_param(model) != 0 or net.load_model(weights(model)) != 0:
        sys.exit(f"ncnn: {os.path.basename(model)} does not load")
    source = ncnn.Mat(image[0]).clone()
    sink = []

    def run():
        extractor = net.create_extractor()
        extractor.input("in0", source)
        sink[:] = extractor.extract("out0")

    return importlib.metadata.version("ncnn"), lambda: None, run, lambda: np.array(sink[1])
