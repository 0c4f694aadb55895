"""Sums what DYNOFA_FAKE_CUDA_COUNTS=FILE has written, by kernel: python3 counts.py FILE."""

import collections
import json
import sys

if len(sys.argv) != 2:
    sys.exit(__doc__)
sums = collections.defaultdict(collections.Counter)
with open(sys.argv[1]) as lines:
    for line in lines:
        launch = json.loads(line)
        of = sums[launch["kernel"]]
        of["launches"] += 1
        of["blocks"] += launch["grid"][0] * launch["grid"][1] * launch["grid"][2]
        of.update({k: v for k, v in launch.items() if isinstance(v, int)})
total = sum(of["instructions"] for of in sums.values())
print(f"{total / 1e6:.2f} M instructions of warps")
print("kernel                     launches  blocks  of all %  fma %  bytes a sector  turns a request, least")
for name, of in sorted(sums.items(), key=lambda s: -s[1]["instructions"]):
    sectors = of["load_sectors"] + of["store_sectors"]
    requests = max(of["shared_requests"], 1)
    print(
        f"{name:26} {of['launches']:8} {of['blocks']:7}  {100 * of['instructions'] / total:8.1f}"
        f"  {100 * (of['fma'] + of['mma']) / of['instructions']:5.1f}"
        f"  {(of['load_bytes'] + of['store_bytes']) / max(sectors, 1):14.1f}"
        f"  {of['shared_turns'] / requests:15.2f} {of['shared_least'] / requests:6.2f}"
    )
