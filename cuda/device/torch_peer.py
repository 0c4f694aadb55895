"""PyTorch on a network that `dynofa export` wrote, as a peer on a GPU: eager, compiled, and as a CUDA graph.

Every form runs the same nodes in float32 (no TF32), batch 1 unless told otherwise, from an image that lies on the
device to logits there; times are those of the device's events around one inference, the host waiting for each.

    python torch_peer.py net.onnx [--batch 1] [--runs 500] [--device cuda]

prints one JSON object a form: {"engine", "network", "batch", "p50_ms", "p99_ms", "runs", "logits"}. A form that this
build of PyTorch has not is {"engine", "missing"}. Needs torch, onnx and numpy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    for a in node.attribute:
        if a.name == name:
            return onnx.helper.get_attribute_value(a)
    return default


class Network(torch.nn.Module):
    """The nodes of an ONNX graph, in its order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.side = graph.input[0].type.tensor_type.shape.dim[2].dim_value
        self.steps: list[tuple[Callable[..., Tensor], list[str], str]] = []
        for w in graph.initializer:
            self.register_buffer(self.key(w.name), torch.tensor(numpy_helper.to_array(w)))
        for node in graph.node:
            self.steps.append((self.operator(node), list(node.input), node.output[0]))

    @staticmethod
    def key(name: str) -> str:
        return "w_" + name.replace(".", "_")

    @staticmethod
    def operator(node: onnx.NodeProto) -> Callable[..., Tensor]:
        match node.op_type:
            case "Conv":
                stride, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0] * 4)
                groups = attribute(node, "group", 1)
                if pads[:2] != pads[2:]:
                    raise ValueError(f"{node.name}: pads {pads}, expected the same on both sides")
                return lambda x, w, b=None: F.conv2d(x, w, b, stride, pads[:2], 1, groups)
            case "Relu":
                return F.relu
            case "Clip":
                return lambda x, low, high: torch.clamp(x, low, high)
            case "HardSwish":
                return F.hardswish
            case "HardSigmoid":
                alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
                if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
                    raise ValueError(f"{node.name}: alpha {alpha}, beta {beta}, expected 1/6 and 1/2")
                return F.hardsigmoid
            case "Add":
                return torch.add
            case "Mul":
                return torch.mul
            case "GlobalAveragePool":
                return lambda x: x.mean((2, 3), keepdim=True)
            case "Flatten":
                return lambda x: torch.flatten(x, 1)
            case "Gemm":
                return lambda x, w, b=None: F.linear(x, w, b)
            case other:
                raise ValueError(f"operator {other}, expected those that dynofa exports")

    def forward(self, image: Tensor) -> Tensor:
        values = dict(self.named_buffers()) | {self.input: image}
        for run, inputs, output in self.steps:
            values[output] = run(*(values[n] if n in values else values[self.key(n)] for n in inputs))
        return values[self.output]


def graphed(net: Network, image: Tensor) -> Callable[[Tensor], Tensor]:
    """One CUDA graph of an inference from and to fixed memory."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            net(image)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = net(image)

    def run(_: Tensor) -> Tensor:
        graph.replay()
        return logits

    return run


def measure(run: Callable[[Tensor], Tensor], image: Tensor, runs: int) -> list[float]:
    """Milliseconds of each run, after as many as settle it."""
    for _ in range(max(runs // 10, 3)):
        run(image)
    times = []
    for _ in range(runs):
        if image.is_cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run(image)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            since = time.perf_counter()
            run(image)
            times.append(1e3 * (time.perf_counter() - since))
    return times


@torch.inference_mode()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("network", type=Path)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--runs", type=int, default=500)
    p.add_argument("--device", default="cuda")
    p.add_argument("--image", type=Path, help="raw float32, [batch][3][side][side]; default: random")
    args = p.parse_args()

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    net = Network(args.network).eval().to(args.device)
    shape = (args.batch, 3, net.side, net.side)
    if args.image:
        values = np.fromfile(args.image, np.float32).reshape(shape)
    else:
        values = np.random.default_rng(1).standard_normal(shape, np.float32)
    image = torch.tensor(values, device=args.device)

    forms: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {"pytorch eager": lambda: net}
    if image.is_cuda:
        forms["pytorch cuda graph"] = lambda: graphed(net, image)
        forms["pytorch compile"] = lambda: torch.compile(net, mode="max-autotune")
    for name, build in forms.items():
        try:
            run = build()
            times = measure(run, image, args.runs)
        except Exception as e:  # noqa: BLE001 # one form that fails must not cost the others
            print(json.dumps({"engine": name, "missing": f"{type(e).__name__}: {e}"[:300]}), flush=True)
            continue
        p50, p99 = np.percentile(times, [50, 99])
        found = {"p50_ms": p50, "p99_ms": p99, "runs": len(times), "logits": run(image).flatten().tolist()}
        print(json.dumps({"engine": name, "network": args.network.name, "batch": args.batch} | found), flush=True)


if __name__ == "__main__":
    main()
