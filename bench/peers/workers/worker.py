"""The protocol of ../README.md around an engine that has no C library in its Python package.

    worker.py ENGINE MODEL LEVEL IMAGE CLASSES THREADS    measures
    worker.py ENGINE convert ONNX MODEL                   makes the engine's own model file

ENGINE is a module beside this one: convert(onnx, model), and load(model, image, classes, threads), which returns the
version and three functions without arguments: one puts the image in place, one runs an inference, one returns the
logits as an array. Only the run is timed: it must be one call into the engine, as far as that goes. The image is put in
place before each run, as engines may use its memory for something else.
"""

import importlib
import json
import os
import sys
import time

import numpy as np


def main():
    # The engine's own prints go to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine = importlib.import_module("peer_" + sys.argv[1])
    if sys.argv[2] == "convert":
        engine.convert(sys.argv[3], sys.argv[4] + ".part")
        os.replace(sys.argv[4] + ".part", sys.argv[4])
        return
    model, _level, image, classes, threads = sys.argv[2:]
    pixels = np.fromfile(image, np.float32)
    side = round((pixels.size / 3) ** 0.5)
    shape = (1, side, side, 3) if image.endswith(".nhwc") else (1, 3, side, side)
    version, fill, run, logits = engine.load(model, pixels.reshape(shape), int(classes), int(threads))
    fill()
    run()

    def answer(what):
        print(json.dumps(what, allow_nan=False), file=answers, flush=True)

    answer({"version": version})
    wall_clock, cpu_clock = time.perf_counter_ns, time.process_time_ns
    for line in sys.stdin:
        question = line.split()
        if question[0] == "logits":
            answer({"logits": np.asarray(logits(), np.float64).ravel().tolist()})
            continue
        wall, cpu = [], []
        for _ in range(int(question[1])):
            fill()
            cpu_from, wall_from = cpu_clock(), wall_clock()
            run()
            wall.append(wall_clock() - wall_from)
            cpu.append(cpu_clock() - cpu_from)
        answer({"wall": wall, "cpu": cpu})


main()
