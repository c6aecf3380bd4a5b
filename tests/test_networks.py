"""The networks of Table 2: sizes, parameters, order of operations, features, initial weights."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks import relative, small
from zfrepro.networks import (
    ARCHITECTURES,
    INITIAL_WEIGHTS,
    Full,
    architecture,
    build,
    initialise_,
    krizhevsky,
    zfnet,
    zfnet_wide,
)


def count(spelled) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(spelled, 224, 1000).parameters())


def plain(network, x) -> dict[str, torch.Tensor]:
    """Every layer's output, written out again with torch's own functions."""
    first = network.architecture.norm_before_pool
    outputs = {}
    for c in network.architecture.convs:
        conv = network.convs[c.name]
        short = [(-(s + 2 * c.padding - c.kernel)) % c.stride for s in x.shape[-2:]]
        x = F.conv2d(
            F.pad(x, (0, short[1], 0, short[0])), conv.weight, conv.bias, c.stride, c.padding
        ).relu()
        outputs[c.name] = x
        if c.norm and first:
            x = F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)
        if c.pool:
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        if c.norm and not first:
            x = F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)
    x = x.flatten(1)
    for f in network.architecture.fulls:
        weight, bias = network.fulls[f.name].weight, network.fulls[f.name].bias
        x = outputs[f.name] = (x @ weight.T + bias).relu()
    outputs["fc8"] = x @ network.fulls["fc8"].weight.T + network.fulls["fc8"].bias
    return outputs


def test_parameters_known_from_elsewhere_and_what_the_rows_take_out_and_change():
    assert count(zfnet()) == 62_357_608
    assert count(zfnet_wide()) == 107_627_624
    rows = ARCHITECTURES
    full = count(rows["krizhevsky"])
    assert full == 62_378_344
    assert full - count(rows["krizhevsky-without-7"]) == 16_781_312  # PAPER: parameters of layer 7
    # Without 6 and 7 the classes hang on the 9,216 values of pool5 instead of 4,096 units.
    without67 = full - 37_752_832 - 16_781_312 - 4_097_000 + (9216 + 1) * 1000
    assert count(rows["krizhevsky-without-6-7"]) == without67
    # Without 3 and 4 conv5 filters the 256 maps of conv2.
    missing = full - count(rows["krizhevsky-without-3-4"])
    assert missing == 885_120 + 1_327_488 + (384 - 256) * 9 * 256
    assert {f.units for f in rows["zfnet-wide-fc8192"].fulls} == {8192}
    assert [c.maps for c in rows["zfnet-wide-fc8192"].convs] == [96, 256, 512, 1024, 512]


@pytest.mark.parametrize(
    ("name", "size"), [("zfnet", 75), ("krizhevsky", 64), ("krizhevsky-without-3-4-6-7", 75)]
)
def test_features_equal_a_plain_re_implementation(name, size):
    network = small(ARCHITECTURES[name], size)
    images = 300 * torch.randn(2, 3, size, size)  # so large that the order of norm and pool matters
    before = images.clone()
    with torch.no_grad():
        expected = plain(network, images)
        together = network.features(images, network.layers)
        assert set(together) == set(expected) == set(network.layers)
        for layer in network.layers:
            assert relative(together[layer], expected[layer]) < 1e-4
            alone = network.features(images, [layer])
            assert list(alone) == [layer] and torch.equal(alone[layer], together[layer])
        assert relative(network(images), expected["fc8"]) < 1e-4
    assert torch.equal(images, before)


@pytest.mark.parametrize("layer, above", [("conv4", "conv5"), ("conv5", "fc6")])
def test_features_stop_at_the_highest_layer(layer, above):
    network = small(zfnet(), 64)
    network.get_submodule(network.module(above)).register_forward_pre_hook(
        lambda *_: pytest.fail(f"{above} ran")
    )
    network.features(torch.randn(1, 3, 64, 64), ["conv1", layer])


def test_architectures_are_values():
    assert zfnet() == zfnet() and hash(zfnet()) == hash(zfnet()) and zfnet() != krizhevsky()
    assert [c.maps for c in zfnet().with_width(0.5).convs] == [48, 128, 192, 192, 128]
    assert zfnet().with_units(7).fulls == (Full(6, 7), Full(7, 7))
    assert architecture("zfnet", width=0.5, units=9) == zfnet().with_width(0.5).with_units(9)
    with pytest.raises(ValueError, match="only 3, 4, 6 and 7"):
        zfnet().without(5)
    with pytest.raises(ValueError, match="must be above 0"):
        architecture("zfnet", width=-1.0)


@pytest.mark.parametrize("rule", INITIAL_WEIGHTS)
def test_initial_weights(rule):
    spelled = zfnet().with_width(0.5).with_units(512)
    network, again = (
        initialise_(build(spelled, 64, 20), rule, torch.Generator().manual_seed(0))
        for _ in range(2)
    )
    assert torch.equal(network.fulls["fc8"].weight, again.fulls["fc8"].weight)
    for name, layer in (*network.convs.items(), *network.fulls.items()):
        expected = (2 / layer.weight[0].numel()) ** 0.5  # He's
        if rule == "paper" or name in ("conv1", "fc8"):
            expected = 0.002 if (rule, name) == ("clean", "conv1") else 0.01
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.06)
        assert abs(layer.weight.mean().item()) < 0.05 * expected and not layer.bias.any()
