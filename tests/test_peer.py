from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from benchmarks.networks import export
from benchmarks.networks.cifar_resnet import CifarResNet, stream_layers, trained
from benchmarks.peer import Rule, count, cut_to_share, dry_run, modules, output_layers, pruner_of, scores, total
from benchmarks.peer_accuracy.remembered import Remembered
from benchmarks.peer_accuracy.reporting import Result, compare, frontier, latency_at
from benchmarks.peer_scores import peer_kept, shared_scores
from pipeline.graph.couple import couple
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import load
from targets.errors import BadInput

RESULT = Result("net", "a", "peer", 1.0, (0.9, 1.1), (1.0, 0.9, 1.1), 90.0, None, 1.0)


class Branches(nn.Module):
    """A grouped convolution, a depthwise one, a Concat, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.other = nn.Conv2d(3, 24, 1)
        self.joined = nn.Conv2d(40, 32, 1)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x):
        left = self.depthwise(self.grouped(torch.relu(self.first(x))))
        both = torch.cat([left, torch.relu(self.other(x))], 1)
        return self.classifier(torch.relu(self.joined(both)).mean((2, 3)))


def branches():
    torch.manual_seed(0)
    return Branches().eval()


def image():
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_trained_weights_come_back_under_the_modules_own_names(tmp_path):
    network, generator = CifarResNet(3).eval(), torch.Generator().manual_seed(1)
    for values in network.state_dict().values():  # fresh norms are all alike, and the exporter keeps one of them
        if values.is_floating_point():
            values.copy_(0.1 * torch.randn(values.shape, generator=generator).abs())
    path = export(network, tmp_path / "net.onnx", 32, image="input")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        found = trained("resnet20", path)(x).numpy()
    assert np.allclose(found, session.run(None, {"input": x.numpy()})[0], atol=1e-4)


def test_a_file_of_other_weights_is_refused(tmp_path):
    path = export(CifarResNet(3).eval(), tmp_path / "net.onnx", 32)
    with pytest.raises(BadInput, match="no weights of resnet56"):
        trained("resnet56", path)


def test_the_stream_is_what_no_block_has_for_itself():
    network = CifarResNet(3)
    writes = {layer.out_channels for layer in stream_layers(network)}
    assert writes == {16, 32, 64}
    assert len(stream_layers(network)) == 1 + 9
    assert not {id(layer) for layer in stream_layers(network)} & {
        id(block.conv1) for stage in (network.layer1, network.layer2, network.layer3) for block in stage
    }


def test_multiply_adds_are_counted_as_on_the_exported_graph(tmp_path):
    network = branches()
    path = export(network, tmp_path / "net.onnx", 8)
    assert total(network, count(network, image())) == paper_cost(load(path)).flops


@pytest.mark.parametrize("round_to", [None, 4])
def test_a_dry_run_of_the_peer_says_what_its_step_leaves(round_to):
    pytest.importorskip("torch_pruning")
    network, rule = branches(), Rule("magnitude", round_to)
    ignored = output_layers(network, 10)
    importance = lambda group: torch.arange(1.0, 1 + len(group[0].idxs))  # noqa: E731
    positions = count(network, image())
    own = branches()
    pruner = pruner_of(network, image(), rule, 0.5, modules(network, ignored), importance)
    step = dry_run(pruner, 0.5, network, positions)
    pruner_of(own, image(), rule, 0.5, modules(own, ignored), importance).step()
    assert step.left == total(own, count(own, image())) / total(network, positions)
    assert step.left < 1
    assert network.first.out_channels == 16


def test_the_peer_is_cut_to_the_share_asked_for_and_not_above():
    pytest.importorskip("torch_pruning")
    network = branches()
    found = cut_to_share(network, image(), Rule("magnitude"), 0.6, output_layers(network, 10))
    assert 0.4 < found.left <= 0.6
    assert found.network(image()).shape == (1, 10)


def test_taylor_reads_the_gradients_that_the_network_holds():
    pytest.importorskip("torch_pruning")
    network = branches()
    network(torch.cat([image(), image() * 2])).sum().backward()
    found = cut_to_share(network, image(), Rule("taylor"), 0.6, output_layers(network, 10))
    assert found.left <= 0.6
    assert all(parameter.grad is None for parameter in found.network.parameters())
    assert network.first.weight.grad is not None


def test_both_tools_keep_the_same_importance_of_the_same_channels(tmp_path):
    pytest.importorskip("torch_pruning")
    network = branches()
    ignored = output_layers(network, 10)
    theirs = scores(network, image(), Rule("magnitude"), ignored)
    channels = couple(load(export(network, tmp_path / "net.onnx", 8)))
    shared = shared_scores(theirs, channels.free)
    everything = {group.id: group.channels for group in shared.groups}
    assert shared.kept(everything) == pytest.approx(1.0)
    assert shared.apart == pytest.approx(0.0)
    joined = next(g.id for g in shared.groups if any(s.tensor == "joined.weight" and s.axis == 0 for s in g.slices))
    worst = np.argsort(theirs["joined"])[:10]
    assert shared.kept({**everything, joined: 22}) == pytest.approx(peer_kept(theirs, {"joined": worst}))


def test_a_group_that_the_peer_does_not_rank_is_not_offered(tmp_path):
    channels = couple(load(export(branches(), tmp_path / "net.onnx", 8)))
    shared = shared_scores({"joined": np.ones(32)}, channels.free)
    assert [group.channels for group in shared.groups] == [32]
    assert shared.total == 32


def test_a_teacher_is_asked_once_about_a_batch_whoever_asks(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()
    asked = []
    network.register_forward_hook(lambda *_: asked.append(torch.is_autocast_enabled("cpu")))
    images, others = torch.randn(2, 5, 3, 8, 8)
    with torch.inference_mode():
        first = Remembered(network, tmp_path)(images)
        again = Remembered(network, tmp_path)(images.contiguous(memory_format=torch.channels_last))
        assert torch.equal(first, network(images))
        assert torch.equal(again, first)
        assert len(asked) == 2  # the network itself just now is one of them
        assert not torch.equal(Remembered(network, tmp_path)(others), first)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = Remembered(network, tmp_path)(images)
    assert asked == [False, False, False, True]
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, first)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_frontier_leaves_out_what_is_slower_and_no_better():
    fast, slow, bad = (replace(RESULT, ms=ms, accuracy=top1) for ms, top1 in ((1, 80), (3, 90), (2, 79)))
    assert frontier([slow, bad, fast]) == [fast, slow]


def test_latency_is_interpolated_inside_a_curve_and_not_given_outside():
    curve = [replace(RESULT, ms=1.0, accuracy=80.0), replace(RESULT, ms=3.0, accuracy=90.0)]
    assert latency_at(85.0, curve) == pytest.approx(2.0)
    assert latency_at(79.9, curve) is None
    assert latency_at(90.1, curve) is None


def test_a_point_past_the_peers_fastest_gets_no_ratio():
    uncut = replace(RESULT, name="uncut", method="uncut", ms=4.0, accuracy=92.0)
    theirs = replace(RESULT, name="peer8-0.5", method="peer8", ms=2.0, accuracy=90.0)
    inside, outside = (replace(RESULT, name=f"ours-{t}", method="ours", ms=1.5, accuracy=t) for t in (91.0, 88.0))
    rows = {(row.name, row.rival): row for row in compare([uncut, theirs, inside, outside], "")}
    assert rows["ours-91.0", "its best rounding"].ratio == pytest.approx(3.0 / 1.5)
    assert rows["ours-88.0", "its best rounding"].ratio is None
    assert "below its least accurate" in rows["ours-88.0", "its best rounding"].because
