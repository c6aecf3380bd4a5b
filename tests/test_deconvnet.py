"""The deconvnet against hand-worked tensors, Captum, and itself: general, and on crops."""

import pytest
import torch
import torch.nn.functional as F
from captum.attr import NeuronDeconvolution

from tests.networks import relative, small
from zfrepro import deconvnet, rules
from zfrepro.deconvnet import Units, strongest
from zfrepro.networks import as_modules, krizhevsky, without_norm, zfnet


def test_unpool_sums_where_windows_share_their_maximum():
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 9.0  # the maximum of all four 3x3/2 windows
    pooled, switches = deconvnet.pool(x)
    assert pooled.flatten().tolist() == [9.0] * 4
    values = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    back = deconvnet.unpool(values, switches, x.shape)
    assert back[0, 0, 2, 2] == 10 and back.sum() == 10
    overwritten = F.max_unpool2d(values, switches, 3, 2, output_size=(5, 5))
    assert overwritten[0, 0, 2, 2] in (1, 2, 3, 4)  # what this project must not do


UNIT = Units(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", LAYERS)
def test_explicit_equals_general(make, layer):
    network = small(make())
    images = torch.randn(3, 3, 96, 96)
    activations = deconvnet.forward(network, images, layer).activations
    units = strongest(activations)
    explicit = deconvnet.project(network, images, layer, units)
    general = rules.project(lambda x: network.features(x, [layer])[layer], images, units)
    assert explicit.abs().max() > 0
    assert relative(explicit, general) < 1e-4


@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5", "fc7", "fc8"])
@pytest.mark.filterwarnings("ignore")  # Captum's own
def test_explicit_equals_captum_without_norm(make, layer):
    network = without_norm(small(make(), seed=1))
    image = torch.randn(1, 3, 96, 96)
    activations = deconvnet.forward(network, image, layer).activations
    unit = strongest(activations)
    neuron = tuple(int(index) for index in unit.places)
    model = as_modules(network, layer)
    captum = NeuronDeconvolution(model, model[-1]).attribute(image, neuron)
    ours = deconvnet.project(network, image, layer, unit)
    assert relative(ours, activations[0][neuron].item() * captum) < 1e-4


def test_nothing_is_changed_and_no_layer_above_is_run():
    network = small(zfnet()).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.convs["conv4"].register_forward_hook(lambda *_: pytest.fail("conv4 was run"))
    deconvnet.project(network, torch.randn(1, 3, 96, 96), "conv3", UNIT)
    assert all(m.training for m in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_the_way_up_drops_nothing_out():
    network, x = small(zfnet()), torch.randn(1, 3, 96, 96)
    network.dropout = 0.5
    wanted = deconvnet.forward(network.eval(), x, "fc8").activations
    assert torch.equal(deconvnet.forward(network.train(), x, "fc8").activations, wanted)
    assert network.training


def test_an_unknown_layer_is_named():
    with pytest.raises(ValueError, match="'conv9'.*choose among conv1"):
        deconvnet.project(small(zfnet()), torch.randn(1, 3, 96, 96), "conv9", UNIT)


# --- on receptive-field crops ------------------------------------------------------------------


def test_flat_images_keep_the_order_of_equal_maxima():
    """All positions of a flat image tie in every pool; crops must choose the same switches."""
    network, image = small(zfnet(), 160), torch.ones(1, 3, 160, 160)
    activations = deconvnet.forward(network, image, "conv3").activations
    places = torch.arange(activations.shape[-1])
    rows, columns = torch.cartesian_prod(places, places).T
    units = Units(activations[0, :, rows, columns].argmax(0), rows, columns)
    images = image.expand(len(units), -1, -1, -1)
    crops = deconvnet.project_crops(network, images, "conv3", units)
    whole = deconvnet.project(network, images, "conv3", units)
    wanted = deconvnet.crop(whole, crops.tops, crops.lefts, crops.pixels.shape[-1])
    assert relative(crops.pixels, wanted) < 1e-4


@pytest.mark.parametrize(
    ("layer", "size", "unit", "of", "says"),
    [
        ("fc6", (96, 96), Units(torch.tensor([0])), None, "no conv layer 'fc6'"),
        ("conv3", (140, 96), UNIT, None, "images are 140 x 96 px, this network sees 96"),
        ("conv3", (96, 96), UNIT, [2], "conv3: image 2: there are 2"),
    ],
)
def test_what_has_no_crops_is_refused(layer, size, unit, of, says):
    with pytest.raises(ValueError, match=says):
        deconvnet.project_crops(
            small(zfnet(), 96), torch.zeros(2, 3, *size), layer, unit, of and torch.tensor(of)
        )


# --- units that share images ---------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("make", [zfnet, krizhevsky])
@pytest.mark.parametrize("layer", LAYERS[:5])
def test_units_that_share_images_equal_units_one_by_one(make, layer, monkeypatch):
    network = small(make(), 128)  # layer 5 sees more than the images
    images = torch.randn(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    maps = network.features(images, [layer])[layer]
    respond = (maps > 0).nonzero()
    respond = respond[torch.randperm(len(respond), generator=torch.Generator().manual_seed(3))]
    of, *places = respond[:12].T  # border units among them
    units, values = Units(*places), maps[(of, *places)]
    whole = deconvnet.project(network, images[of], layer, units)
    switches = deconvnet.forward(network, images, "conv5").switches
    codes = {name: code[of] for name, code in deconvnet.switch_codes(switches).items()}
    results = [deconvnet.project_codes(network, layer, units, values, codes)]
    for on_crops in (True, False):  # either way the switches are found
        monkeypatch.setattr(deconvnet, "_crops_cost_less", lambda *_, answer=on_crops: answer)
        results.append(deconvnet.project_crops(network, images, layer, units, of))
    window = deconvnet.window(network, layer, units)
    for crops in results:
        assert torch.equal(crops.tops, window[0]) and torch.equal(crops.lefts, window[1])
        assert relative(crops.pixels, deconvnet.crop(whole, *window)) < 1e-5
        assert torch.allclose(crops.activations, values, rtol=1e-4, atol=1e-5)
