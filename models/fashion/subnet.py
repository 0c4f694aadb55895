"""Extraction of one sub-network into plain torch layers, and its exchange files.

Nothing here uses the elastic forward pass of `model.py`: slices, kernel transforms and layers are
written out a second time, so that each checks the other.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model import Config, div8

ACTIVATIONS = {"relu": nn.ReLU, "h_swish": nn.Hardswish}


class SqueezeExcite(nn.Module):
    def __init__(self, mid: int) -> None:
        super().__init__()
        q = div8(mid // 4)
        self.reduce, self.expand = nn.Conv2d(mid, q, 1), nn.Conv2d(q, mid, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(self.reduce(x.mean((2, 3), keepdim=True)).relu())
        return x * nn.functional.hardsigmoid(gate)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def transformed_kernel(weights: dict[str, Tensor], prefix: str, k: int) -> Tensor:
    """[C, 1, k, k] from the stored [C, 1, 7, 7]; every step is a plain matrix product."""
    w = weights[prefix + "conv.weight"]
    if k <= 5:
        centre = w[:, 0, 1:6, 1:6].reshape(-1, 25)
        w = (weights[prefix + "7to5_matrix"] @ centre.T).T.reshape(-1, 1, 5, 5)
    if k == 3:
        centre = w[:, 0, 1:4, 1:4].reshape(-1, 9)
        w = (weights[prefix + "5to3_matrix"] @ centre.T).T.reshape(-1, 1, 3, 3)
    return w


def extract(weights: dict[str, Tensor], space: dict, cfg: Config) -> nn.Sequential:
    """The sub-network in evaluation mode with the supernet's BN statistics, in the dtype of the
    weights. Module order is the order of execution."""
    eps = space["bn_eps"]

    def conv(w: Tensor, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        cout, per_group, k, _ = w.shape
        m = nn.Conv2d(
            per_group * groups, cout, k, stride, k // 2, groups=groups, bias=False, dtype=w.dtype
        )
        m.weight.data.copy_(w)
        return m

    def bn(prefix: str, c: int) -> nn.BatchNorm2d:
        m = nn.BatchNorm2d(c, eps, dtype=weights[prefix + ".weight"].dtype)
        for part in ("weight", "bias", "running_mean", "running_var"):
            getattr(m, part).data.copy_(weights[f"{prefix}.{part}"][:c])
        return m

    def se(prefix: str, mid: int) -> SqueezeExcite:
        q = div8(mid // 4)
        m = SqueezeExcite(mid).to(weights[prefix + "reduce.weight"].dtype)
        m.reduce.weight.data.copy_(weights[prefix + "reduce.weight"][:q, :mid])
        m.reduce.bias.data.copy_(weights[prefix + "reduce.bias"][:q])
        m.expand.weight.data.copy_(weights[prefix + "expand.weight"][:mid, :q])
        m.expand.bias.data.copy_(weights[prefix + "expand.bias"][:mid])
        return m

    stem, first, head = space["stem"], space["first"], space["head"]
    channels = stem["channels"]
    layers: list[nn.Module] = [
        conv(weights["first_conv.conv.weight"], stem["stride"]),
        bn("first_conv.bn", channels),
        ACTIVATIONS[stem["act"]](),
    ]
    p = "blocks.0.conv."
    block = nn.Sequential(
        conv(weights[p + "depth_conv.conv.weight"], first["stride"], channels),
        bn(p + "depth_conv.bn", channels),
        ACTIVATIONS[first["act"]](),
        conv(weights[p + "point_linear.conv.weight"]),
        bn(p + "point_linear.bn", first["channels"]),
    )
    same = first["stride"] == 1 and channels == first["channels"]
    layers.append(Residual(block) if same else block)

    channels, slot = first["channels"], 0
    for stage, d in zip(space["stages"], cfg.d, strict=True):
        for i in range(d):
            p = f"blocks.{slot + i + 1}.conv."
            k, stride, out = cfg.ks[slot + i], stage["stride"] if i == 0 else 1, stage["channels"]
            mid = div8(round(channels * cfg.e[slot + i]))
            kernel = transformed_kernel(weights, p + "depth_conv.conv.", k)[:mid]
            body = [
                conv(weights[p + "inverted_bottleneck.conv.conv.weight"][:mid]),
                bn(p + "inverted_bottleneck.bn.bn", mid),
                ACTIVATIONS[stage["act"]](),
                conv(kernel, stride, mid),
                bn(p + "depth_conv.bn.bn", mid),
                ACTIVATIONS[stage["act"]](),
            ]
            if stage["se"]:
                body.append(se(p + "depth_conv.se.fc.", mid))
            body += [
                conv(weights[p + "point_linear.conv.conv.weight"][:, :mid]),
                bn(p + "point_linear.bn.bn", out),
            ]
            block = nn.Sequential(*body)
            layers.append(Residual(block) if stride == 1 and channels == out else block)
            channels = out
        slot += max(stage["depths"])

    linear = nn.Linear(
        head["features"], space["classes"], dtype=weights["classifier.linear.weight"].dtype
    )
    linear.weight.data.copy_(weights["classifier.linear.weight"])
    linear.bias.data.copy_(weights["classifier.linear.bias"])
    layers += [
        conv(weights["final_expand_layer.conv.weight"]),
        bn("final_expand_layer.bn", head["expand"]),
        ACTIVATIONS[head["act"]](),
        nn.AdaptiveAvgPool2d(1),
        conv(weights["feature_mix_layer.conv.weight"]),
        ACTIVATIONS[head["act"]](),
        nn.Flatten(),
        linear,
    ]
    return nn.Sequential(*layers).requires_grad_(False).eval()


@torch.no_grad()
def recalibrate(net: nn.Sequential, batches: list[Tensor]) -> None:
    """Replaces the BN statistics of an extracted sub-network.

    Each batch passes through normalised by its own mean and biased variance; the new statistics
    are the averages of both over batches, weighted by image counts.
    """
    sums: dict[nn.Module, list] = {}

    def hook(bn: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        x = inputs[0]
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        n = x.shape[0]
        s = sums.setdefault(bn, [0, 0.0, 0.0])
        s[0], s[1], s[2] = s[0] + n, s[1] + n * mean.double(), s[2] + n * var.double()
        bn.running_mean.copy_(mean)  # the hook runs first: the layer then uses these
        bn.running_var.copy_(var)

    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [m.register_forward_pre_hook(hook) for m in layers]
    for x in batches:
        net(x)
    for h in hooks:
        h.remove()
    for bn, (n, mean, var) in sums.items():
        bn.running_mean.copy_(mean / n)
        bn.running_var.copy_(var / n)


def save(path: Path, weights: dict[str, Tensor], header: dict) -> None:
    """Writes PATH (safetensors, with the header as metadata `dynofa`) and PATH.pth beside it."""
    state = OrderedDict(
        (k, v.detach().float().contiguous().clone())
        for k, v in weights.items()
        if not k.endswith("num_batches_tracked")
    )
    save_file(state, path, {"dynofa": json.dumps(header)})
    torch.save({"state_dict": state}, path.with_suffix(".pth"))


def load(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a file that `save` wrote."""
    with safe_open(path, "pt") as f:
        names = f.keys()
        return {k: f.get_tensor(k) for k in names}, json.loads(f.metadata()["dynofa"])
