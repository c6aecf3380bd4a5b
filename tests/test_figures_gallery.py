"""The flip book of features."""

import json
import re

import torch

from book.gallery.figures import TILE, explorer, nine_and_nine, resized
from tests.networks import small
from tests.worlds import stripes, tiny
from zfrepro import gallery, networks
from zfrepro.weights import Trained


def test_pictures_come_to_one_size_and_small_ones_stay_sharp():
    little = torch.rand(2, 3, 7, 7)
    large = resized(little, 49)
    assert (large[:, :, 3::7, 3::7] == little).all()
    assert resized(torch.full((1, 3, 139, 139), 0.25)).sub(0.25).abs().max() < 1e-6


def test_projections_stand_left_of_their_patches():
    picture = nine_and_nine(torch.zeros(9, 3, 7, 7), torch.full((9, 3, 7, 7), 200, dtype=torch.uint8))
    assert (picture[:TILE, :TILE] == 128).all() and (picture[:TILE, -TILE:] == 200).all()


def test_every_picture_of_the_explorer_has_its_note():
    world = stripes(val=24, image_size=96)
    trained = Trained(small(networks.zfnet()), tiny(image_size=96), world.classes, torch.full((3, 110, 110), 60.0))
    tops = gallery.top_activations(trained.network, [trained.preprocess(world.val.images)], progress=False)
    shown = explorer(trained, world.val, tops, maps=2)
    data = json.loads(re.search(r'json">(.*?)</script>', shown.data, re.S).group(1))
    assert [axis["labels"] for axis in data["axes"]] == [["1", "2", "3", "4", "5"], ["1 of 2", "2 of 2"]]
    assert len(data["notes"]) == 10 and data["notes"][4].startswith("conv3, map ")
