"""Writes pillow.json: what Pillow makes of small generated images.

Run with Python 3 and Pillow 9.4.0: python3 pillow.py > pillow.json
(Pillow 13.0.0 resamples some tall images vertically first and differs there.)
The images are pseudo-random and made here; nothing is taken from elsewhere.
"""

import base64
import hashlib
import io
import json
import math
import random
import struct
import sys
import zlib

import PIL
from PIL import Image, features


def lcg(seed, n):
    """n bytes; the Go test has the same generator."""
    out = bytearray(n)
    for i in range(n):
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = seed >> 24
    return bytes(out)


def crop(w, h, r, share, seed):
    """torchvision's Resize and CenterCrop around Pillow's resize."""
    img = Image.frombytes("RGB", (w, h), lcg(seed, w * h * 3))
    s = math.ceil(r / share)
    rw, rh = (s, int(s * h / w)) if w <= h else (int(s * w / h), s)
    if (rw, rh) != (w, h):
        img = img.resize((rw, rh), Image.BILINEAR)
    left, top = int(round((rw - r) / 2.0)), int(round((rh - r) / 2.0))
    data = img.crop((left, top, left + r, top + r)).tobytes()
    return {"w": w, "h": h, "r": r, "crop": share, "seed": seed, "sha256": hashlib.sha256(data).hexdigest()}


def crops():
    rnd = random.Random(7)
    sizes = [(1, 1, 8), (1, 2000, 7), (2000, 1, 7), (3, 500, 21), (900, 2, 9), (224, 224, 224), (256, 256, 224),
             (256, 300, 224), (300, 256, 224), (28, 28, 28), (28, 28, 32), (255, 256, 223), (1200, 900, 31)]
    sizes += [(rnd.randint(1, 400), rnd.randint(1, 400), rnd.randint(1, 120)) for _ in range(50)]
    return [crop(w, h, r, rnd.choice([0.875, 1.0, 0.9, 0.5]), i + 1) for i, (w, h, r) in enumerate(sizes)]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, depth, kind, extra=b""):
    bits = w * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    raw = b"".join(b"\0" + lcg(y + 77, (bits + 7) // 8) for y in range(h))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def decoded(name, data):
    img = Image.open(io.BytesIO(data)).convert("RGB")
    return {"name": name, "w": img.width, "h": img.height, "file": base64.b64encode(data).decode(),
            "rgb": base64.b64encode(img.tobytes()).decode()}


def pngs():
    plte = lambda n: chunk(b"PLTE", lcg(5, 3 * n))
    trns = lambda data: chunk(b"tRNS", data)
    cases = [(f"grey{d}", png(13, 5, d, 0)) for d in (1, 2, 4, 8, 16)]
    cases += [(f"palette{d}", png(13, 5, d, 3, plte(1 << d))) for d in (1, 2, 4, 8)]
    cases += [("rgb8", png(7, 5, 8, 2)), ("rgb16", png(7, 5, 16, 2)), ("la8", png(7, 5, 8, 4)), ("la16", png(7, 5, 16, 4)),
              ("rgba8", png(7, 5, 8, 6)), ("rgba16", png(7, 5, 16, 6)),
              ("palette4 trns", png(7, 5, 4, 3, plte(16) + trns(b"\0\x80\x40"))),
              ("grey8 trns", png(7, 5, 8, 0, trns(b"\0" + lcg(77, 1)))),
              ("grey16 trns", png(7, 5, 16, 0, trns(lcg(77, 2)))),
              ("rgb8 trns", png(7, 5, 8, 2, trns(b"".join(b"\0" + bytes([v]) for v in lcg(77, 3))))),
              ("rgb16 trns", png(7, 5, 16, 2, trns(lcg(77, 6))))]
    return [decoded(n, d) for n, d in cases]


def jpegs():
    out = []

    def add(name, mode, w, h, **options):
        noise = Image.frombytes("RGB", (5, 4), lcg(w * h, 60))
        img = noise.resize((w, h), Image.BICUBIC).convert(mode)
        buf = io.BytesIO()
        img.save(buf, "JPEG", **options)
        out.append(decoded(name, buf.getvalue()))

    for s, name in enumerate(["4:4:4", "4:2:2", "4:2:0"]):
        add(name, "RGB", 37, 29, subsampling=s, quality=90)
        add(name + " progressive", "RGB", 24, 19, subsampling=s, quality=60, progressive=True)
        for w in range(1, 7):
            add(f"{name} {w} wide", "RGB", w, 9 - w, subsampling=s, quality=90)
    add("grey", "L", 37, 29, quality=90)
    add("cmyk", "CMYK", 19, 13, quality=90)
    add("orientation", "RGB", 19, 13, quality=90, subsampling=0,
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    return out


json.dump({"pillow": PIL.__version__, "libjpeg": "turbo " + features.version("libjpeg_turbo"),
           "crops": crops(), "png": pngs(), "jpeg": jpegs()}, sys.stdout, indent=0)
sys.stdout.write("\n")
