"""A repository whose fifty models are guarded by budgets, absolute and relative, for the benchmark of the gate."""

from __future__ import annotations

import subprocess
from pathlib import Path

MODELS = 50

SPEC = """\
convstat: 1
name: net{number}
input: [3, 64, 64]
vars: {{width: {width}, n: {depth}}}
blocks:
  unit:
    params: {{out: null, stride: 1}}
    layers:
      - Conv2d: {{out_channels: cin, kernel_size: 3, stride: stride, padding: 1, groups: cin, bias: false}}
      - BatchNorm2d
      - ReLU
      - Conv2d: {{out_channels: out, kernel_size: 1, bias: false}}
      - BatchNorm2d
      - ReLU
layers:
  - Conv2d: {{out_channels: width, kernel_size: 3, stride: 2, padding: 1, bias: false}}
    name: stem
  - BatchNorm2d
  - ReLU
  - unit: {{out: 2 * width, stride: "2 if i == 0 else 1"}}
    name: stage1
    repeat: n
  - unit: {{out: 4 * width, stride: "2 if i == 0 else 1"}}
    name: stage2
    repeat: n
  - AdaptiveAvgPool2d: 1
  - Flatten
  - Linear: {classes}
    name: head
budget:
  - params<=5M
  - macs(each)@stage1.**<=50M
"""

SETTINGS = """\
model = [{models}]
base = "main"
budget = ["macs<=+2%", "params@**%Conv2d<=+10%", "macs(share)@head<=20%"]
"""


def make(folder: Path) -> None:
    """Make the repository: fifty specs on the branch main, every fifth of them changed since."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)

    names = [f"configs/net{number}.yaml" for number in range(MODELS)]
    (folder / "configs").mkdir(parents=True)
    for number, name in enumerate(names):
        text = SPEC.format(number=number, width=16 + 2 * (number % 10), depth=2 + number % 4, classes=100)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "convstat.toml").write_text(SETTINGS.format(models=", ".join(f'"{name}"' for name in names)))
    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("-c", "user.name=gate", "-c", "user.email=gate@example.invalid", "commit", "--quiet", "--message=models")
    for name in names[::5]:
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("Linear: 100", "Linear: 101"), encoding="utf-8")
