"""Makes the fixtures of this folder with PyTorch and safetensors: python make.py

forms.pth, forms_legacy.pth   tensors of every type and form, under a state_dict beside other keys
bare.pth                      an OrderedDict of parameters, no state_dict
deflated.pth                  forms.pth, compressed
../../safetensors/testdata/types.safetensors
forms.json                    the values, as lists
"""
import collections
import json
import pathlib
import zipfile

import safetensors.torch
import torch

here = pathlib.Path(__file__).parent
torch.manual_seed(7)
base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 8 - 1
forms = collections.OrderedDict(
    float32=base.clone(),
    float64=base.double() / 3,
    float16=base.half() / 3,
    bfloat16=base.bfloat16() / 3,
    int64=torch.tensor([-(2 ** 40), 5]),
    scalar=torch.tensor(2.5),
    counter=torch.tensor(7),
    empty=torch.zeros(0, 3),
    transposed=base.permute(2, 0, 1),
    offset=base[1:, 1:],
    strided=base[:, ::2, ::3],
    shared=base,
    expanded=torch.tensor([[1.0], [2.0]]).expand(2, 5),
    channels_last=torch.arange(48, dtype=torch.float32).reshape(2, 3, 2, 4).contiguous(memory_format=torch.channels_last),
    parameter=torch.nn.Parameter(base[0].clone()),
)
top = {"epoch": 3, "lr": 0.1, "state_dict": forms, "rng": torch.tensor([1, 2], dtype=torch.uint8), "best": None, "args": ["a", (1, 2)]}
torch.save(top, here / "forms.pth")
torch.save(top, here / "forms_legacy.pth", _use_new_zipfile_serialization=False)
torch.save(collections.OrderedDict((k, torch.nn.Parameter(forms[k])) for k in ("float32", "float16")), here / "bare.pth")
with zipfile.ZipFile(here / "forms.pth") as src, zipfile.ZipFile(here / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as dst:
    for name in src.namelist():
        dst.writestr(zipfile.ZipInfo("any/" + name.split("/", 1)[1]), src.read(name), zipfile.ZIP_DEFLATED)

plain = {k: v.detach().contiguous() for k, v in forms.items() if k not in ("shared",)}
plain["uint8"] = top["rng"]
safetensors.torch.save_file(plain, here / "../../safetensors/testdata/types.safetensors", metadata={"format": "pt"})

values = {k: {"shape": list(v.shape), "dtype": str(v.dtype).removeprefix("torch."), "values": v.detach().float().flatten().tolist()} for k, v in forms.items()}
(here / "forms.json").write_text(json.dumps({"torch": torch.__version__, "tensors": values}, indent=1) + "\n")
