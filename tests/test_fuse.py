"""The deployed form of a spec: there are weights with which it computes what the trained form does, to the border.

The weights are not made by folding: they are solved for, layer by layer, from what the trained torch model computes.
So a layer that was fused where it cannot be has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import convstat
from convstat.cli.run import run
from convstat.deploy import graphs as deploy
from convstat.errors import SpecError
from convstat.graph import Graph, Node
from convstat.results.fusion import Changes
from convstat.spec import read
from convstat.trace.build import SpecModel, build

BATCH = 6
HEAD = "convstat: 1\ninput: [4, 7, 6]\nlayers:\n"


def graph_of(layers: str, head: str = HEAD) -> Graph:
    """The graph of a list of layers."""
    return read(head + layers, "net.yaml").expand()


def trained(graph: Graph) -> SpecModel:
    """The torch model with norms that do something, in double precision."""
    model = build(graph).double()
    assert isinstance(model, SpecModel)
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            module.eps = 1e-5
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5)
    return model.eval()


def values_of(model: SpecModel, inputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    """What every layer delivers."""
    found = dict(zip(model.input_names, inputs, strict=True))
    with torch.no_grad():
        model.run(inputs, {}, lambda node, value: found.update({node.name: value}))
    return found


def solved(node: Node, sources: list[torch.Tensor], wanted: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Those of some tensors that a layer can deliver, with weights that are solved for."""
    module = node.layer.build().double().eval()
    names = [name for name, _ in module.named_parameters()]
    sizes = [parameter.shape for parameter in module.parameters()]

    def output(flat: torch.Tensor) -> torch.Tensor:
        parts = torch.split(flat, [size.numel() for size in sizes])
        weights = {name: part.view(size) for name, part, size in zip(names, parts, sizes, strict=True)}
        return torch.func.functional_call(module, weights, tuple(sources)).flatten()  # type: ignore[no-any-return]

    start = torch.zeros(sum(size.numel() for size in sizes), dtype=torch.float64)
    rows = torch.func.jacfwd(output)(start)
    for tensor in wanted:
        weights = torch.linalg.lstsq(rows, tensor.flatten()[:, None], driver="gelsd").solution[:, 0]
        if torch.allclose(output(weights), tensor.flatten(), atol=1e-8):
            yield tensor


def computes_the_same(before: Graph, after: Graph, changes: Changes) -> bool:
    """Whether weights exist with which every output of the fused graph is that of the other one."""
    torch.manual_seed(2)
    inputs = tuple(torch.rand((BATCH, *item.shape[1:]), dtype=torch.float64) for item in before.inputs)
    model = trained(before)
    known = values_of(model, inputs)
    changed = {*(item.into for item in changes.folded), *(item.name for item in changes.merged)}

    def is_right(place: int, values: dict[str, torch.Tensor]) -> bool:
        """Whether what is left can deliver the outputs, after so many layers."""
        if place == len(after.nodes):
            ends = zip(after.outputs, before.outputs, strict=True)
            return all(torch.allclose(values[now], known[then], atol=1e-7) for now, then in ends)
        node = after.nodes[place]
        sources = [values[name] for name in node.inputs]
        if node.name not in changed:
            with torch.no_grad():
                value = node.layer.call(model.twins[node.owner or node.name], *sources)
            return is_right(place + 1, {**values, node.name: value})
        # Norms have come to lie on it, or it is complete only with what is added to it later.
        wanted = [value for value in known.values() if value.shape == (BATCH, *node.output_shape[1:])]
        for user in after.nodes:
            others = [values[name] for name in user.inputs if name != node.name and name in values]
            if node.name in user.inputs and others and user.layer.kind() == "add":
                wanted.append(known[user.name] - sum(others))
        found = solved(node, sources, wanted[::-1])
        return any(is_right(place + 1, {**values, node.name: value}) for value in found)

    return is_right(0, dict(zip(model.input_names, inputs, strict=True)))


CONV = "  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1, bias: false}\n"
NORM = "  - BatchNorm2d\n"

FUSED = {
    "a norm behind a convolution": (CONV + NORM + "  - ReLU\n", 2, 4 * 4 * 9 + 4),
    "behind a convolution with a bias": (CONV.replace("false", "true") + NORM, 1, 4 * 4 * 9 + 4),
    "two norms": (CONV + NORM + NORM, 1, 4 * 4 * 9 + 4),
    "behind a transposed one": (
        "  - ConvTranspose2d: {out_channels: 3, kernel_size: 2, stride: 2}\n" + NORM, 1, 4 * 3 * 4 + 3,
    ),
    "behind a linear layer": ("  - Flatten\n  - Linear: 5\n  - BatchNorm1d\n", 2, 8 * 5 + 5),
    "in front of a linear layer": ("  - Flatten\n  - BatchNorm1d\n  - Linear: 2\n", 2, 8 * 2 + 2),
    "in front of a convolution without padding": (NORM + CONV.replace("padding: 1", "padding: 0"), 1, 4 * 4 * 9 + 4),
    "in front of one that repeats the border": (
        NORM + CONV.replace("bias", "padding_mode: replicate, bias"), 1, 4 * 4 * 9 + 4,
    ),
    "without an affine part": (CONV + "  - BatchNorm2d: {affine: false}\n", 1, 4 * 4 * 9 + 4),
    "an asymmetric block": ("  - ACBlock: {out_channels: 4, kernel_size: 3, padding: 1}\n", 1, 4 * 4 * 9 + 4),
    "an asymmetric block that crops": (
        "  - ACBlock: {out_channels: 4, kernel_size: 5, padding: 1}\n", 1, 4 * 4 * 25 + 4,
    ),
    "an asymmetric block with dilation and groups": (
        "  - ACBlock: {out_channels: 4, kernel_size: 3, padding: 2, dilation: 2, groups: 2}\n", 1, 4 * 2 * 9 + 4,
    ),
    "an asymmetric block with a stride": (
        "  - ACBlock: {out_channels: 6, kernel_size: 3, padding: 1, stride: 2}\n", 1, 6 * 4 * 9 + 6,
    ),
    "a block of RepVGG": (
        "  - parallel:\n      merge: add\n      paths:\n"
        "        - [{Conv2d: {out_channels: 4, kernel_size: 3, padding: 1, bias: false}}, BatchNorm2d]\n"
        "        - [{Conv2d: {out_channels: 4, kernel_size: 1, bias: false}}, BatchNorm2d]\n"
        "        - [BatchNorm2d]\n  - ReLU\n", 2, 4 * 4 * 9 + 4,
    ),
    "a residual without an activation": (
        "  - residual: {body: [{Conv2d: {out_channels: 4, kernel_size: 1}}]}\n", 1, 4 * 4 + 4,
    ),
    "branches, and something else": (
        "  - ReLU:\n    name: other\n"
        "  - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n    name: a\n    from: input\n"
        "  - Conv2d: {out_channels: 4, kernel_size: 1}\n    name: b\n    from: input\n"
        "  - add: [a, other, b]\n", 3, 4 * 4 * 9 + 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_what_can_be_fused_is(name: str) -> None:
    """To so many layers and params, and it still computes the same."""
    layers, count, params = FUSED[name]
    before = graph_of(layers, HEAD.replace("7, 6", "1, 2") if "linear" in name else HEAD)
    after, changes = deploy.fuse(before)
    assert (count, params) == (len(after.nodes), sum(node.layer.params() for node in after.nodes))
    assert not changes.kept
    assert computes_the_same(before, after, changes)


SHARED = "  - Conv2d:\n    name: again\n    share: conv2d\n"
POINT = "Conv2d: {out_channels: 4, kernel_size: 1}"
KEPT = {
    "behind a concatenation": (
        f"  - parallel: {{merge: concat, paths: [[{{{POINT}}}], [{{{POINT}}}]]}}\n" + NORM,
        "the layer before it is concat",
    ),
    "behind what is used twice": (
        CONV + NORM + "  - add: [conv2d, batchnorm2d]\n", "the output of conv2d is also used by add",
    ),
    "behind what is an output": (CONV + NORM, "the output of conv2d is also used by the output of the model"),
    "in front of zeros": (
        "  - ReLU\n" + NORM + CONV, "conv2d pads the output of the norm with zeros, which are not shifted",
    ),
    "behind shared weights": (CONV + SHARED + NORM, "the parameters of again are shared"),
    "with shared factors": (
        CONV + NORM + "  - ReLU\n  - BatchNorm2d:\n    name: again\n    share: batchnorm2d\n",
        "its parameters are shared",
    ),
    "of a batch": (
        CONV + "  - BatchNorm2d: {track_running_stats: false}\n",
        "it has no running statistics: its factors depend on the data",
    ),
    "of the input": (NORM + "  - ReLU\n", "it is applied to an input of the model"),
    "of tokens": (
        "  - Flatten: {start_dim: 2}\n  - Linear: 5\n  - BatchNorm1d\n",
        "it normalises dimension 1, and the features of linear are the last",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_folded_stays_and_is_named(name: str) -> None:
    """With the reason; the graph is what it was."""
    layers, reason = KEPT[name]
    head = HEAD.replace("layers:", "outputs: [conv2d, batchnorm2d]\nlayers:") if "is an output" in name else HEAD
    before = graph_of(layers, head)
    after, changes = deploy.fuse(before)
    assert before == after
    assert reason in {item.reason for item in changes.kept}
    assert () == changes.folded == changes.merged


SIDES = "out_channels: 4, kernel_size: 3, padding: 1"
NOT_MERGED = {
    "other strides": f"[{{Conv2d: {{out_channels: 4, kernel_size: 2, stride: 2}}}}], [{{{POINT}}}, {{AvgPool2d: 2}}]",
    "other groups": f"[{{{POINT}}}], [{{Conv2d: {{out_channels: 4, kernel_size: 1, groups: 2}}}}]",
    "an activation in between": f"[{{{POINT}}}, ReLU], [{{{POINT}}}]",
    "dilations that do not fit": "[{Conv2d: {out_channels: 4, kernel_size: 3, dilation: 2, padding: 2}}], "
    f"[{{Conv2d: {{{SIDES}}}}}]",
    "other borders": f"[{{Conv2d: {{{SIDES}}}}}], [{{Conv2d: {{{SIDES}, padding_mode: reflect}}}}]",
    "a cross that would cost more": "[{Conv2d: {out_channels: 4, kernel_size: [3, 1], padding: [1, 0]}}], "
    "[{Conv2d: {out_channels: 4, kernel_size: [1, 3], padding: [0, 1]}}]",
}


@pytest.mark.parametrize("name", NOT_MERGED)
def test_other_branches_stay(name: str) -> None:
    """Where they are no single convolution, or one that would cost more."""
    before = graph_of(f"  - parallel: {{merge: add, paths: [{NOT_MERGED[name]}]}}\n", HEAD.replace("7, 6", "8, 8"))
    assert before == deploy.fuse(before)[0]


@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "Linear"])
def test_the_count_is_that_of_what_torch_fuses(kind: str) -> None:
    """Params and MACs of ``torch.nn.utils.fusion`` on the same layers."""
    dims = 0 if kind == "Linear" else int(kind[-2])
    size = [4, *[6] * dims]
    layer = (
        "Linear: {out_features: 5}" if kind == "Linear" else f"{kind}: {{out_channels: 5, kernel_size: 3, bias: false}}"
    )
    text = f"convstat: 1\ninput: {size}\nlayers:\n  - {layer}\n  - BatchNorm{max(dims, 1)}d\n"
    model = trained(read(text, "net.yaml").expand())
    first, norm = (module for module in model.modules() if [*module.parameters(recurse=False)])
    if kind == "Linear":
        fused: nn.Module = fuse_linear_bn_eval(first, norm)
    else:
        fused = fuse_conv_bn_eval(first, norm, transpose="Transpose" in kind)
    with torch.no_grad():
        x = torch.rand(2, *size, dtype=torch.float64)
        assert torch.allclose(fused(x), norm(first(x)))
    theirs = convstat.analyze(fused.float(), torch.rand(1, *size))
    after, _ = deploy.fuse(read(text, "net.yaml").expand())
    ours = [(sum(node.layer.params() for node in after.nodes), sum(node.cost.macs for node in after.nodes))]
    assert [(theirs.totals.params, theirs.totals.macs)] == ours


def branches(draw: st.DrawFn) -> Iterator[str]:
    """Random paths of one block."""
    stride, groups, channels = (
        draw(st.sampled_from([1, 1, 2])),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([4, 6])),
    )
    mode = draw(st.sampled_from(["zeros", "zeros", "replicate"]))
    for _ in range(draw(st.integers(2, 4))):
        kernel = draw(st.sampled_from([(3, 3), (1, 1), (3, 1), (1, 3), (5, 3)]))
        dilation = draw(st.sampled_from([1, 1, 2]))
        pads = [dilation * (k // 2) for k in kernel]
        conv = (
            f"{{Conv2d: {{out_channels: {channels}, kernel_size: {list(kernel)}, padding: {pads}, stride: {stride}, "
            f"groups: {groups}, dilation: {dilation}, padding_mode: {mode}, "
            f"bias: {str(draw(st.booleans())).lower()}}}}}"
        )
        norms = ["BatchNorm2d"] * draw(st.integers(0, 2))
        yield f"[{', '.join([*(['BatchNorm2d'] if draw(st.booleans()) else []), conv, *norms])}]"
    if draw(st.booleans()):
        yield draw(st.sampled_from(["[BatchNorm2d]", "[]", "[ReLU]"]))


@st.composite
def nets(draw: st.DrawFn) -> str:
    """Random blocks in a row: branches added or concatenated, norms and activations around them."""
    lines = []
    for _ in range(draw(st.integers(1, 2))):
        if draw(st.booleans()):
            lines.append("  - BatchNorm2d\n")
        merge = draw(st.sampled_from(["add", "add", "add", "concat"]))
        lines.append(f"  - parallel: {{merge: {merge}, paths: [{', '.join(branches(draw))}]}}\n")
        lines += ["  - BatchNorm2d\n"] if draw(st.booleans()) else []
        lines += ["  - ReLU\n"] if draw(st.booleans()) else []
    return "".join(lines)


@given(nets())
@settings(deadline=None, max_examples=8)
def test_whatever_is_fused_computes_the_same(layers: str) -> None:
    """Random nets: params and MACs never grow, and what is fused has weights that give the same outputs."""
    try:
        before = graph_of(layers)
    except SpecError:
        assume(False)
    after, changes = deploy.fuse(before)
    assert sum(node.cost.macs for node in after.nodes) <= sum(node.cost.macs for node in before.nodes)
    gone = {node.name for node in before.nodes} - {node.name for node in after.nodes}
    said = {*(item.name for item in changes.folded), *(name for merged in changes.merged for name in merged.of)}
    assert {name for name in gone if not name.endswith("add")} <= said
    assert computes_the_same(before, after, changes)


@pytest.mark.parametrize(
    ("rule", "wrong", "layers"),
    [
        ("_in_front", lambda self, after: (after, ""), "  - ReLU\n" + NORM + CONV),
        ("_is_own", lambda self, before, after: True, CONV + "  - add: [conv2d, input]\n  - add: [conv2d, prev]\n"),
    ],
)
def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch, rule: str, wrong: object, layers: str) -> None:
    """These checks are worth something: a norm folded over padded zeros has no weights that do the same."""
    before = graph_of(layers)
    assert computes_the_same(before, *deploy.fuse(before))
    monkeypatch.setattr(deploy._Fusing, rule, wrong)
    try:
        after, changes = deploy.fuse(before)
    except KeyError:
        return
    assert not computes_the_same(before, after, changes)


def test_flash_of_the_model_zoo() -> None:
    """MobileNetV1 in int8 with biases of 32 bits, as STMicroelectronics publishes it, in KiB."""
    for alpha, published in ((0.25, 467.33), (0.5, 1314.00), (1, 4157.09)):
        report = convstat.analyze("configs/mobilenet_v1.yaml", (3, 224, 224), weights="int8", fuse=True, alpha=alpha)
        assert published == round(report.totals.weight_bytes / 1024, 2)
        assert report.fusion is not None
        assert 27 == len(report.fusion.folded)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "resnet50", "unet", "mobilenet_v3_small"])
def test_norms_of_a_network_are_gone(name: str) -> None:
    """With them two values of each channel; the bias takes one. MACs and everything else stay."""
    before, after = (convstat.analyze(f"configs/{name}.yaml", fuse=fuse) for fuse in (False, True))
    norms = [row for row in before.layers if row.type == "BatchNorm2d"]
    assert not any(row.type == "BatchNorm2d" for row in after.layers)
    assert before.totals.params - sum(row.params // 2 for row in norms) == after.totals.params
    assert before.totals.macs == after.totals.macs
    assert {"bias", "norm"} >= {
        key
        for key in {**before.totals.other, **after.totals.other}
        if before.totals.other.get(key) != after.totals.other.get(key)
    }


def test_both_forms_are_in_every_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON is read back, the page shows both, sweeps and budgets count the deployed form, a baseline is of its form."""
    monkeypatch.chdir(tmp_path)
    Path("net.yaml").write_text(HEAD + "  - ACBlock: {out_channels: 4, kernel_size: 3, padding: 1}\n")
    assert 0 == run(["analyze", "net.yaml", "--fuse", "--counters", "none", "-o", "saved.json"])
    assert "deployed" in capsys.readouterr().out
    document = json.loads(Path("saved.json").read_text())
    assert (4 * 4 * 15 + 24, 4 * 4 * 9 + 4) == (document["fusion"]["trained"]["params"], document["totals"]["params"])
    assert convstat.load("saved.json") == convstat.analyze("net.yaml", (4, 7, 6), fuse=True)
    assert 0 == run(["check", "net.yaml", "--fuse", "--exact", f"params={4 * 4 * 9 + 4}", "-q"])
    assert 1 == run(["check", "net.yaml", "--exact", f"params={4 * 4 * 9 + 4}", "-q"])
    capsys.readouterr()
    assert 0 == run(["compare", "net.yaml", "out_channels=4,8", "--fuse", "-f", "json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [n * 4 * 9 + n for n in (4, 8)] == [row["totals"]["params"] for row in rows]
    assert 0 == run(["baseline", "save", "net.yaml", "--fuse", "-qq"])
    assert 0 == run(["baseline", "update", "-qq"])
    [file] = Path(".convstat/baselines").glob("*.json")
    assert json.loads(file.read_text())["asked"]["fuse"] is True


def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A deployed form is not trained."""
    assert 2 == run(["analyze", "configs/conv2d.yaml", "--fuse", "--mode", "train"])
    assert "--fuse cannot be combined with --mode train" in capsys.readouterr().err
