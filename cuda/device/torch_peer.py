"""PyTorch on networks that `dynofa export` wrote, as a peer on a GPU: eager, as a CUDA graph, and compiled.

Every form runs the same nodes in float32 (no TF32), batch 1 unless told otherwise, as PyTorch lays them out by itself
or with channels last. Two times of each run: that of the device's events around the inference, from an image that lies
on the device to logits there, and wall clock, as dynofa's: from an image in the host's memory to logits there, by way
of pinned memory.

    python torch_peer.py net.onnx... [--batch 1] [--runs 500] [--seconds 400] [--device cuda]

prints one JSON object a network and form: {"engine", "network", "batch", "p50_ms", "p99_ms", "wall_p50_ms", "runs",
"logits"}. The logits are those of cuda_bench's image, (i % 17) / 8 - 1 in NHWC. A form that this build of PyTorch has
not, or for which there was no time, is {"engine", "network", "missing"}: compiling is last. Needs torch, onnx, numpy.
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


Run = Callable[[], None]


class Inference:
    """A network with its memory: an image and logits of the host's, pinned, and of the device's."""

    def __init__(self, net: Network, values: np.ndarray, device: str, layout: torch.memory_format) -> None:
        self.net = net
        self.given = torch.tensor(values).to(memory_format=layout)
        self.image = self.given.to(device)
        self.cuda = self.image.is_cuda
        self.host_image = torch.empty_like(self.image, device="cpu", pin_memory=self.cuda)
        self.logits = net(self.image)
        self.host_logits = torch.empty_like(self.logits, device="cpu", pin_memory=self.cuda)

    def inference(self, net: Callable[[Tensor], Tensor]) -> None:
        self.logits = net(self.image)

    def eager(self) -> Run:
        return lambda: self.inference(self.net)

    def compiled(self) -> Run:
        compiled = torch.compile(self.net, mode="reduce-overhead")
        return lambda: self.inference(compiled)

    def graph(self) -> Run:
        run = self.eager()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def settle(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def device_times(self, run: Run, runs: int) -> list[float]:
        """Milliseconds of each run by the device's events, the host waiting for each; on a CPU, of the wall clock."""
        times = []
        for _ in range(runs):
            if self.cuda:
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                run()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end))
            else:
                since = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - since))
        return times

    def wall_times(self, run: Run, runs: int) -> list[float]:
        """Milliseconds from an image in memory that is not pinned to logits in the host's."""
        times = []
        for _ in range(runs):
            since = time.perf_counter()
            self.host_image.copy_(self.given)
            self.image.copy_(self.host_image, non_blocking=True)
            run()
            self.host_logits.copy_(self.logits, non_blocking=True)
            self.settle()
            times.append(1e3 * (time.perf_counter() - since))
        return times

    def measure(self, run: Run, runs: int) -> dict[str, object]:
        self.wall_times(run, max(runs // 10, 3))
        times, walls = self.device_times(run, runs), self.wall_times(run, runs)
        p50, p99 = np.percentile(times, [50, 99])
        logits = self.host_logits.flatten().tolist()
        return {"p50_ms": p50, "p99_ms": p99, "wall_p50_ms": np.percentile(walls, 50), "runs": runs, "logits": logits}


FORMS = [
    ("pytorch eager", Inference.eager, torch.contiguous_format),
    ("pytorch cuda graph", Inference.graph, torch.contiguous_format),
    ("pytorch cuda graph, channels last", Inference.graph, torch.channels_last),
    ("pytorch compile", Inference.compiled, torch.contiguous_format),
]


@torch.inference_mode()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("networks", type=Path, nargs="+")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--runs", type=int, default=500)
    p.add_argument("--seconds", type=float, default=400, help="after which nothing new is begun")
    p.add_argument("--device", default="cuda")
    args = p.parse_args()

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    began = time.monotonic()
    for engine, form, layout in FORMS:
        for path in args.networks:
            row = {"engine": engine, "network": path.name, "batch": args.batch}
            if args.device != "cuda" and form is not Inference.eager:
                continue
            if time.monotonic() - began > args.seconds:
                print(json.dumps(row | {"missing": f"the {args.seconds:.0f} s were over"}), flush=True)
                continue
            try:
                net = Network(path).eval().to(args.device, memory_format=layout)
                values = (np.arange(args.batch * net.side**2 * 3) % 17 / 8 - 1).astype(np.float32)
                values = values.reshape(args.batch, net.side, net.side, 3).transpose(0, 3, 1, 2)
                found = Inference(net, np.ascontiguousarray(values), args.device, layout)
                row |= found.measure(form(found), args.runs)
            except Exception as e:  # noqa: BLE001 # one form that fails must not cost the others
                row |= {"missing": f"{type(e).__name__}: {e}"[:300]}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
