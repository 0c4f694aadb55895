"""Writes the layers of OFA-MobileNetV3 sub-networks, one file each, in the form that README.md describes."""

from collections import Counter
from pathlib import Path

BASE = [(24, 2, "relu", 0), (40, 2, "relu", 1), (80, 2, "h_swish", 0), (112, 1, "h_swish", 1), (160, 2, "h_swish", 1)]

# The levels of the library nets_6 of DynamicOFA (Lou et al. 2021): kernels, expand ratios, depths, resolution.
LEVELS = [
    ([5, 7, 7, 7, 3, 5, 5, 7, 7, 7, 5, 3, 5, 3, 3, 7, 3, 3, 7, 7], [6, 4, 4, 6, 4, 3, 6, 4, 6, 4, 4, 6, 4, 6, 4, 6, 4, 3, 3, 4], [3, 2, 3, 2, 2], 176),
    ([7, 3, 5, 7, 7, 3, 5, 7, 5, 7, 5, 3, 5, 3, 3, 5, 3, 3, 3, 7], [6, 4, 4, 4, 4, 6, 6, 6, 3, 3, 4, 6, 4, 6, 6, 3, 4, 3, 3, 3], [3, 2, 3, 3, 2], 176),
    ([5, 5, 7, 3, 7, 7, 7, 3, 7, 7, 7, 5, 7, 7, 7, 3, 7, 7, 7, 7], [3, 4, 3, 4, 4, 4, 4, 3, 4, 4, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4], [3, 3, 3, 3, 3], 192),
    ([7, 3, 5, 3, 5, 7, 3, 3, 5, 5, 5, 7, 7, 7, 5, 5, 3, 3, 3, 7], [6, 6, 3, 3, 4, 4, 3, 3, 6, 4, 4, 4, 6, 4, 4, 6, 4, 6, 3, 3], [2, 3, 3, 3, 4], 208),
    ([5, 3, 3, 7, 7, 3, 3, 3, 7, 5, 3, 5, 7, 5, 7, 3, 7, 7, 5, 7], [6, 6, 4, 3, 4, 6, 6, 3, 4, 6, 3, 4, 6, 6, 6, 6, 4, 4, 4, 6], [2, 4, 4, 4, 3], 224),
    ([5, 5, 5, 5, 5, 7, 7, 3, 5, 7, 7, 7, 7, 7, 5, 5, 7, 5, 5, 5], [6, 6, 6, 6, 6, 6, 4, 6, 6, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 3], [4, 4, 4, 4, 4], 224),
]


def divisible(v):
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n


def strided(n, stride):
    return (n - 1) // stride + 1


def layers(width, ks, es, ds, r):
    def ch(base):
        return divisible(base * width)

    side, stem = strided(r, 2), ch(16)
    yield f"stem {r} 2 {stem} h_swish"
    yield f"dwconv {side} 3 1 {stem} relu 0"
    yield f"pointwise {side * side} {stem} {stem} none 0 1"
    previous = stem
    for stage, (base, first_stride, act, se) in enumerate(BASE):
        for i in range(ds[stage]):
            k, e = ks[4 * stage + i], es[4 * stage + i]
            stride, out = (first_stride if i == 0 else 1), ch(base)
            mid, after = previous * e, strided(side, stride)
            yield f"pointwise {side * side} {previous} {mid} {act} 0 0"
            yield f"dwconv {side} {k} {stride} {mid} {act} {se}"
            if se:
                squeeze = divisible(mid // 4)
                yield f"average 1 {mid}"
                yield f"dense {mid} {squeeze} relu 1"
                yield f"dense {squeeze} {mid} h_sigmoid 1"
            yield f"pointwise {after * after} {mid} {out} none {se} {int(stride == 1 and previous == out)}"
            previous, side = out, after
    yield f"pointwise {side * side} {previous} {ch(960)} h_swish 0 0"
    yield f"average {side * side} {ch(960)}"
    yield f"dense {ch(960)} {ch(1280)} h_swish 0"
    yield f"dense {ch(1280)} 1000 none 1"


def write(name, *net):
    counts = Counter(layers(*net))
    text = "".join(f"{n} {layer}\n" for layer, n in counts.items())
    (Path(__file__).parent / f"{name}.txt").write_text(f"# made by make.py\n{text}")


for level, net in enumerate(LEVELS):
    write(f"w12_n{level}", 1.2, *net)
write("w10_min", 1.0, [3] * 20, [3] * 20, [2] * 5, 160)
write("w10_max", 1.0, [7] * 20, [6] * 20, [4] * 5, 224)
