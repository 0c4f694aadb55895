"""An elastic MobileNetV3 for small images and its plain, extracted sub-networks.

The supernet follows Once-for-All (Cai et al., ICLR 2020): every block of an elastic stage may
change its kernel size and its expand ratio, every stage its depth, and all sub-networks share one
set of weights. A sub-network takes the first channels, the first blocks, and transformed centres
of the stored 7x7 kernels. Parameter names are the "new" key names of the public OFA networks, so
`state_dict()` is the exchange format.

Shapes are written [N, C, H, W]. `mid` is a block's expanded width, `q` its squeeze width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depthwise import depthwise

SPACE = {
    "family": "fashion-mbv3",
    "width": 1,
    "classes": 10,
    "bn_eps": 1e-5,
    "stem": {"channels": 16, "stride": 1, "act": "h_swish"},
    "first": {"channels": 16, "stride": 2, "act": "relu", "se": False},
    "stages": [
        {"channels": 16, "stride": 1, "act": "relu", "se": False, "depths": [1, 2, 3]},
        {"channels": 32, "stride": 2, "act": "h_swish", "se": True, "depths": [1, 2, 3]},
        {"channels": 64, "stride": 2, "act": "h_swish", "se": True, "depths": [1, 2, 3]},
    ],
    "head": {"expand": 256, "features": 512, "act": "h_swish"},
    "kernels": [3, 5, 7],
    "expands": [2, 3, 4],
    "resolutions": [16, 20, 24, 28],
    "preprocess": {"crop": 1.0, "mean": [0.2860] * 3, "std": [0.3530] * 3},
}

ACTIVATIONS = {"relu": F.relu, "h_swish": F.hardswish}


def div8(v: float) -> int:
    """Rounds to a multiple of 8, never more than 10 % down (MobileNet's channel rule)."""
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n


@dataclass(frozen=True)
class Config:
    """One sub-network: kernels and expand ratios by slot, depths by stage, image side.

    Slot i belongs to stage i // 3, block i % 3; slots cut off by the depth have no effect.
    """

    ks: tuple[int, ...]
    e: tuple[int, ...]
    d: tuple[int, ...]
    r: int

    def as_dict(self) -> dict:
        return {"ks": list(self.ks), "e": list(self.e), "d": list(self.d), "r": self.r}

    @staticmethod
    def from_dict(v: dict) -> Config:
        return Config(tuple(v["ks"]), tuple(v["e"]), tuple(v["d"]), int(v["r"]))


def max_depths(space: dict) -> list[int]:
    return [max(s["depths"]) for s in space["stages"]]


def uniform(space: dict, k: int, e: int, d: int, r: int) -> Config:
    """The configuration with the same value in every slot (d is limited by each stage)."""
    depths = max_depths(space)
    n = sum(depths)
    return Config((k,) * n, (e,) * n, tuple(min(d, m) for m in depths), r)


def largest(space: dict) -> Config:
    return uniform(
        space,
        max(space["kernels"]),
        max(space["expands"]),
        max(max_depths(space)),
        max(space["resolutions"]),
    )


def sample(
    rng: random.Random,
    space: dict,
    kernels: list[int] | None = None,
    expands: list[int] | None = None,
    min_depth: int = 1,
    r: int | None = None,
) -> Config:
    """Draws every field uniformly; the optional limits serve progressive shrinking."""
    depths = max_depths(space)
    n = sum(depths)
    return Config(
        tuple(rng.choice(kernels or space["kernels"]) for _ in range(n)),
        tuple(rng.choice(expands or space["expands"]) for _ in range(n)),
        tuple(rng.choice([d for d in s["depths"] if d >= min_depth]) for s in space["stages"]),
        r or rng.choice(space["resolutions"]),
    )


def macs(space: dict, cfg: Config) -> int:
    """Multiply-adds of all convolutions (with SE) and the classifier, one image."""
    out, side = 0, cfg.r

    def conv(cin: int, cout: int, k: int = 1, groups: int = 1, n: int | None = None) -> int:
        area = side * side if n is None else n
        return cin // groups * k * k * cout * area

    stem, first, head = space["stem"], space["first"], space["head"]
    side = (side - 1) // stem["stride"] + 1
    out += conv(3, stem["channels"], 3)
    side = (side - 1) // first["stride"] + 1
    cin = stem["channels"]
    out += conv(cin, cin, 3, cin) + conv(cin, first["channels"])
    cin, slot = first["channels"], 0
    for stage, d in zip(space["stages"], cfg.d, strict=True):
        for i in range(d):
            mid = div8(round(cin * cfg.e[slot + i]))
            out += conv(cin, mid)
            if i == 0:
                side = (side - 1) // stage["stride"] + 1
            out += conv(mid, mid, cfg.ks[slot + i], mid)
            if stage["se"]:
                out += 2 * mid * div8(mid // 4)
            out += conv(mid, stage["channels"])
            cin = stage["channels"]
        slot += max(stage["depths"])
    out += conv(cin, head["expand"]) + head["expand"] * head["features"]
    return out + head["features"] * space["classes"]


# --- how a batch normalisation gets its statistics -------------------------------------------


class BatchStats:
    """Training: statistics of the batch, nothing remembered (they differ by sub-network)."""

    def __call__(self, x: Tensor, bn: nn.BatchNorm2d, c: int) -> Tensor:
        return F.batch_norm(x, None, None, bn.weight[:c], bn.bias[:c], True, 0.0, bn.eps)


class RunningStats:
    """Evaluation with the first channels of the supernet's stored statistics."""

    def __call__(self, x: Tensor, bn: nn.BatchNorm2d, c: int) -> Tensor:
        return F.batch_norm(
            x,
            bn.running_mean[:c],
            bn.running_var[:c],
            bn.weight[:c],
            bn.bias[:c],
            False,
            0.0,
            bn.eps,
        )


class Calibration:
    """Re-calibration: each batch is normalised by its own mean and biased variance, and the
    result is their average over batches, weighted by image counts."""

    def __init__(self) -> None:
        self.sums: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self.count: dict[nn.Module, int] = {}

    def __call__(self, x: Tensor, bn: nn.BatchNorm2d, c: int) -> Tensor:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        n = x.shape[0]
        m, v = self.sums.get(bn, (0.0, 0.0))
        self.sums[bn] = (m + n * mean.double(), v + n * var.double())
        self.count[bn] = self.count.get(bn, 0) + n
        return F.batch_norm(x, mean, var, bn.weight[:c], bn.bias[:c], False, 0.0, bn.eps)

    def result(self) -> FixedStats:
        return FixedStats(
            {
                bn: ((m / self.count[bn]).float(), (v / self.count[bn]).float())
                for bn, (m, v) in self.sums.items()
            }
        )


class FixedStats:
    """Evaluation with given statistics, as `Calibration.result` returns them."""

    def __init__(self, stats: dict[nn.Module, tuple[Tensor, Tensor]]) -> None:
        self.stats = stats

    def __call__(self, x: Tensor, bn: nn.BatchNorm2d, c: int) -> Tensor:
        mean, var = self.stats[bn]
        return F.batch_norm(x, mean, var, bn.weight[:c], bn.bias[:c], False, 0.0, bn.eps)


# --- the supernet ----------------------------------------------------------------------------


class Group(nn.Module):
    """A named group of modules; it exists only to give parameters their OFA names."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class KernelStore(nn.Module):
    """Depthwise kernels [C, 1, 7, 7] and the block's kernel transforms (OFA, section 3.3).

    5x5 = 7to5_matrix [25, 25] times the centre of the 7x7; 3x3 = 5to3_matrix [9, 9] times the
    centre of that 5x5. Row i of a matrix makes output i; channels share the matrices.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_parameter("5to3_matrix", nn.Parameter(torch.eye(9)))
        self.register_parameter("7to5_matrix", nn.Parameter(torch.eye(25)))
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False)

    def kernel(self, k: int, c: int) -> Tensor:
        """The [c, 1, k, k] kernel of the first c channels."""
        w = self.conv.weight[:c]
        for size, name in ((5, "7to5_matrix"), (3, "5to3_matrix")):
            if k <= size:
                v = w[:, :, 1:-1, 1:-1].reshape(c, size * size)
                w = F.linear(v, self.get_parameter(name)).view(c, 1, size, size)
        return w


def point_norm(cin: int, cout: int, eps: float) -> Group:
    """1x1 convolution and BN under elastic names (`conv.conv`, `bn.bn`)."""
    return Group(
        conv=Group(conv=nn.Conv2d(cin, cout, 1, bias=False)),
        bn=Group(bn=nn.BatchNorm2d(cout, eps)),
    )


class ElasticConv(nn.Module):
    """Inverted bottleneck with elastic kernel and expand ratio, and an optional SE."""

    def __init__(self, cin: int, stage: dict, stride: int, e_max: int, eps: float) -> None:
        super().__init__()
        self.cin, self.cout, self.stride = cin, stage["channels"], stride
        self.act = ACTIVATIONS[stage["act"]]
        mid = div8(round(cin * e_max))
        self.inverted_bottleneck = point_norm(cin, mid, eps)
        depth = {"conv": KernelStore(mid), "bn": Group(bn=nn.BatchNorm2d(mid, eps))}
        if stage["se"]:
            q = div8(mid // 4)
            depth["se"] = Group(fc=Group(reduce=nn.Conv2d(mid, q, 1), expand=nn.Conv2d(q, mid, 1)))
        self.se = stage["se"]
        self.depth_conv = Group(**depth)
        self.point_linear = point_norm(mid, self.cout, eps)

    def forward(self, x: Tensor, k: int, e: int, norm) -> Tensor:
        mid = div8(round(self.cin * e))
        ib, dc, pl = self.inverted_bottleneck, self.depth_conv, self.point_linear
        y = F.conv2d(x, ib.conv.conv.weight[:mid])
        y = self.act(norm(y, ib.bn.bn, mid))
        y = depthwise(y, dc.conv.kernel(k, mid), self.stride)
        y = self.act(norm(y, dc.bn.bn, mid))
        if self.se:
            y = y * self.gate(y, mid)
        y = F.conv2d(y, pl.conv.conv.weight[:, :mid])
        y = norm(y, pl.bn.bn, self.cout)
        return y + x if self.stride == 1 and self.cin == self.cout else y

    def gate(self, y: Tensor, mid: int) -> Tensor:
        """Squeeze-and-excitation gate [N, mid, 1, 1] of y [N, mid, H, W]."""
        q = div8(mid // 4)
        fc = self.depth_conv.se.fc
        s = y.mean((2, 3))
        s = F.linear(s, fc.reduce.weight[:q, :mid, 0, 0], fc.reduce.bias[:q])
        s = F.linear(F.relu(s), fc.expand.weight[:mid, :q, 0, 0], fc.expand.bias[:mid])
        return F.hardsigmoid(s)[:, :, None, None]


class FirstConv(nn.Module):
    """Block 0: depthwise 3x3 and 1x1 without expansion, not elastic."""

    def __init__(self, cin: int, first: dict, eps: float) -> None:
        super().__init__()
        cout, stride = first["channels"], first["stride"]
        self.act = ACTIVATIONS[first["act"]]
        self.residual = stride == 1 and cin == cout
        self.depth_conv = Group(
            conv=nn.Conv2d(cin, cin, 3, stride, 1, groups=cin, bias=False),
            bn=nn.BatchNorm2d(cin, eps),
        )
        self.point_linear = Group(
            conv=nn.Conv2d(cin, cout, 1, bias=False), bn=nn.BatchNorm2d(cout, eps)
        )

    def forward(self, x: Tensor, norm) -> Tensor:
        dc, pl = self.depth_conv, self.point_linear
        y = depthwise(x, dc.conv.weight, dc.conv.stride[0])
        y = self.act(norm(y, dc.bn, dc.bn.num_features))
        y = norm(pl.conv(y), pl.bn, pl.bn.num_features)
        return y + x if self.residual else y


class Supernet(nn.Module):
    """The elastic network; `forward(x, cfg, norm)` runs one sub-network of it."""

    def __init__(self, space: dict = SPACE) -> None:
        super().__init__()
        self.space = space
        eps, stem, head = space["bn_eps"], space["stem"], space["head"]
        e_max = max(space["expands"])
        self.first_conv = Group(
            conv=nn.Conv2d(3, stem["channels"], 3, stem["stride"], 1, bias=False),
            bn=nn.BatchNorm2d(stem["channels"], eps),
        )
        blocks = [Group(conv=FirstConv(stem["channels"], space["first"], eps))]
        cin = space["first"]["channels"]
        self.stage_blocks: list[list[int]] = []
        for stage in space["stages"]:
            indices = []
            for i in range(max(stage["depths"])):
                stride = stage["stride"] if i == 0 else 1
                indices.append(len(blocks))
                blocks.append(Group(conv=ElasticConv(cin, stage, stride, e_max, eps)))
                cin = stage["channels"]
            self.stage_blocks.append(indices)
        self.blocks = nn.ModuleList(blocks)
        self.final_expand_layer = Group(
            conv=nn.Conv2d(cin, head["expand"], 1, bias=False),
            bn=nn.BatchNorm2d(head["expand"], eps),
        )
        self.feature_mix_layer = Group(
            conv=nn.Conv2d(head["expand"], head["features"], 1, bias=False)
        )
        self.classifier = Group(linear=nn.Linear(head["features"], space["classes"]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation by fan-out; the last BN of a residual branch starts at zero."""
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        nn.init.normal_(self.classifier.linear.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.linear.bias)
        for b in self.blocks[1:]:
            if b.conv.stride == 1 and b.conv.cin == b.conv.cout:
                nn.init.zeros_(b.conv.point_linear.bn.bn.weight)

    def forward(self, x: Tensor, cfg: Config, norm, drop: float = 0.0) -> Tensor:
        """x [N, 3, r, r] -> logits [N, classes]; drop is a dropout rate before the classifier."""
        space = self.space
        fc, fe = self.first_conv, self.final_expand_layer
        x = norm(fc.conv(x), fc.bn, fc.bn.num_features)
        x = ACTIVATIONS[space["stem"]["act"]](x)
        x = self.blocks[0].conv(x, norm)
        slot = 0
        for indices, d in zip(self.stage_blocks, cfg.d, strict=True):
            for i in range(d):
                x = self.blocks[indices[i]].conv(x, cfg.ks[slot + i], cfg.e[slot + i], norm)
            slot += len(indices)
        head_act = ACTIVATIONS[space["head"]["act"]]
        x = head_act(norm(fe.conv(x), fe.bn, fe.bn.num_features))
        x = x.mean((2, 3))
        x = head_act(F.linear(x, self.feature_mix_layer.conv.weight[:, :, 0, 0]))
        if drop:
            x = F.dropout(x, drop, True)
        return self.classifier.linear(x)

    @torch.no_grad()
    def set_running_stats(self, stats: FixedStats) -> None:
        """Writes full-width statistics (of the largest sub-network) into the BN buffers."""
        for bn, (mean, var) in stats.stats.items():
            bn.running_mean.copy_(mean)
            bn.running_var.copy_(var)
