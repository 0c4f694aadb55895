"""oneDNN has primitives, not models: convert writes down which ones run, for onednn.cc.

A line a step, values numbered in order of appearance and 0 the image; offsets count floats of the weights, which lie
beside the text. Activations, and the addition of a residual, are part of the convolution before them.

    conv IN OUT CHANNELS KERNEL STRIDE GROUPS WEIGHT BIAS ACTIVATION RESIDUAL      BIAS and RESIDUAL may be -1
    dense IN OUT CHANNELS WEIGHT BIAS ACTIVATION                                   on pooled vectors
    pool IN OUT
    mul IN GATE OUT
"""

import numpy as np

ACTIVATIONS = {"Relu": 1, "HardSwish": 2, "HardSigmoid": 3}


def convert(onnx, model):
    import onnx as format

    graph = format.load(onnx).graph
    tensors = {t.name: format.numpy_helper.to_array(t) for t in graph.initializer}
    users = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    values, vectors, merged = {"image": 0}, set(), set()
    lines, weights, offset = [], [], 0

    def number(name):
        return values.setdefault(name, len(values))

    def tensor(node, at):
        nonlocal offset
        if len(node.input) <= at:
            return -1
        weights.append(np.ascontiguousarray(tensors[node.input[at]], np.float32).ravel())
        offset += weights[-1].size
        return offset - weights[-1].size

    def follower(name):
        following = users.get(name, [])
        return following[0] if len(following) == 1 else None

    for node in graph.node:
        if node.name in merged:
            continue
        source, out = node.input[0], node.output[0]
        at = {a.name: format.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in ("Conv", "Gemm"):
            activation, residual = 0, -1
            then = follower(out)
            if then is not None and then.op_type in ACTIVATIONS:
                activation, out = ACTIVATIONS[then.op_type], then.output[0]
                merged.add(then.name)
            elif then is not None and then.op_type == "Add":
                residual, out = values[next(i for i in then.input if i != out)], then.output[0]
                merged.add(then.name)
            shape = tensors[node.input[1]].shape
            parts = [tensor(node, 1), tensor(node, 2), activation]
            if source in vectors:
                vectors.add(out)
                lines.append(["dense", values[source], number(out), shape[0], *parts])
            else:
                lines.append(
                    [
                        "conv",
                        values[source],
                        number(out),
                        shape[0],
                        shape[2],
                        at["strides"][0],
                        at["group"],
                        *parts,
                        residual,
                    ]
                )
        elif node.op_type == "GlobalAveragePool":
            vectors.add(out)
            lines.append(["pool", values[source], number(out)])
        elif node.op_type == "Mul":
            lines.append(["mul", values[source], values[node.input[1]], number(out)])
        elif node.op_type == "Flatten":
            vectors.add(out)
            values[out] = values[source]
        else:
            raise SystemExit(f"onednn: no step for a {node.op_type}")
    np.concatenate(weights).tofile(model.removesuffix(".part") + ".bin")
    with open(model, "w") as file:
        file.writelines(" ".join(map(str, line)) + "\n" for line in lines)
