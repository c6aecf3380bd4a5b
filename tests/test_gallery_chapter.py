"""The gallery chapter: its measures by hand, its study on a made-up data set, its claims."""

import pytest
import torch
from torch.testing import assert_close

from book.gallery import claims, figures, measures
from book.gallery import measure as study_module
from tests import datasets
from tests.networks import small
from zfrepro import deconvnet, gallery
from zfrepro import measure as studies
from zfrepro.data.transforms import center_crop
from zfrepro.deconvnet import Units
from zfrepro.networks import zfnet
from zfrepro.receptive_field import stage


@pytest.fixture(scope="module")
def study():
    return datasets.study()


@pytest.fixture(scope="module")
def tops(study):
    return study_module.search(study.trained, study.dataset.val.images)


@pytest.fixture(scope="module")
def network():
    return small(zfnet(), 96)


@pytest.fixture(scope="module")
def images():
    return torch.randn(40, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_purity_counts_the_most_frequent_class():
    values = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    top = gallery.Top("conv1", values, torch.arange(4).expand(2, 4))
    purity = measures.purity(top, torch.tensor([5, 5, 1, 1]))
    # the fourth unit does not respond and has no vote
    assert purity[0] == pytest.approx(2 / 3) and torch.isnan(purity[1])


def test_contrast_says_where_structure_is_and_forgives_a_small_shift():
    stripes = torch.zeros(1, 2, 3, 24, 24)
    stripes[:, 0, :, :12, ::2], stripes[:, 0, :, :12, 1::2] = 1, -1
    stripes[:, 1] = stripes[:, 0].roll(1, -1)  # the same stripes, a pixel further
    assert measures.contrast(stripes)[0, 0, 0, :, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert gallery.mean_pairwise_correlation(stripes)[0] == pytest.approx(-1)
    assert gallery.mean_pairwise_correlation(measures.contrast(stripes))[0] == pytest.approx(1)


@pytest.mark.parametrize("layer, size", [("conv3", 128), ("conv5", 96)])
def test_pictures_are_in_step_with_the_unit_in_the_middle(layer, size):
    network = small(zfnet(), size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    units = Units(torch.tensor([3, 3]), torch.tensor([1, 4]), torch.tensor([2, 0]))
    field = stage(network.architecture, size, layer).field
    projections, patches = measures.centered_pairs(network, images, layer, units)
    assert projections.shape == patches.shape == (2, 3, field.size, field.size)
    whole = deconvnet.project(network, images, layer, units)
    for i in range(2):
        y, x = (int(t[i]) * field.jump + field.start for t in (units.rows, units.columns))
        frame = [field.size] * 4  # nan beyond the border
        framed = torch.nn.functional.pad(torch.stack([whole[i], images[i]]), frame, value=torch.nan)
        seen = framed[..., y + field.size :, x + field.size :][..., : field.size, : field.size]
        assert_close(projections[i], seen[0], rtol=1e-3, atol=1e-5, equal_nan=True)
        assert_close(patches[i], seen[1], rtol=0, atol=0, equal_nan=True)


def test_similarity_is_measured_beside_that_of_other_images(network, images, monkeypatch):
    top = gallery.top_units(network, [images], ["conv1"], progress=False)["conv1"]
    seen = []

    def alike(pictures):
        seen.append(gallery.mean_pairwise_correlation(pictures))
        return seen[-1]

    monkeypatch.setattr(measures, "SIMILARITIES", {"pixels": alike})
    leads = measures.similarity_leads(network, lambda i: images[i], top, [0, 3], len(images))
    projections, patches, other_projections, other_patches = seen
    assert projections == pytest.approx(torch.ones(2), abs=1e-3)  # always the filter
    wanted = gallery.patches(network, images, top, [0, 3])
    assert_close(patches, gallery.mean_pairwise_correlation(wanted))
    assert (other_patches.abs() < 0.2).all() and (other_projections < 0.5).all()
    assert_close(leads["pixels"], projections - other_projections - (patches - other_patches))


def test_on_mask_looks_at_the_middle_of_the_field_and_beside_it_at_the_same_places(network):
    mask = torch.zeros(4, 96, 96, dtype=torch.bool)
    mask[:2, 23, 43] = True  # middle of conv1's unit (10, 20), in two images of four
    rows, columns = torch.full((2, 2), 10), torch.full((2, 2), 20)
    values = torch.tensor([[2.0, 1.0], [0.0, 0.0]])  # the second map never responds
    top = gallery.Top("conv1", values, torch.tensor([[0, 2], [0, 1]]), rows, columns)
    half = measures.lead_on_mask(top, network, mask)
    assert half[0] == 0 and half[1].isnan()  # on the object in one image of two, as all four are
    both = gallery.Top("conv1", values, torch.tensor([[0, 1], [0, 1]]), rows, columns)
    assert measures.lead_on_mask(both, network, mask)[0] == 50
    beside = gallery.Top("conv1", values, both.images, rows, columns + 1)
    assert measures.lead_on_mask(beside, network, mask)[0] == 0


# --- the study -----------------------------------------------------------------------------------


def test_the_study_runs_and_continues(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "MAPS", 3)
    lines = []
    record, again = (
        studies.measure("gallery", study, tmp_path, say=lambda text, **_: lines.append(text))
        for _ in range(2)
    )
    assert again == record and lines[-1].endswith("kept from before")
    assert record["on_object"] is None  # no masks in this data set
    outcomes = {claim.name: claim.judge(record).outcome for claim in claims.CLAIMS}
    assert all(outcomes.values()) and outcomes["gallery-objects"] == "not tested"


def test_units_on_the_object_are_counted_with_controls(study, tops):
    masks = torch.zeros(24, *study.dataset.val.images.shape[2:], dtype=torch.bool)
    masks[::2, 40:80, 40:80] = True
    record = study_module.on_object(study.trained, study.dataset.val.images, tops, masks, 0)
    assert set(record["over"]) == set(claims.CONTROLS)
    lead = record["lead"]["conv5"]
    seen = center_crop(masks[:, None], 96)[:, 0]
    leads = measures.lead_on_mask(tops["conv5"], study.trained.network, seen)
    assert lead[0] == pytest.approx(leads.nanmean().item(), abs=0.1)
    wanted = lead[0] - record["lead"]["untrained 1"][0]
    assert record["over"]["untrained 1"][0] == pytest.approx(wanted, abs=0.1)


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "conv5", "fc7", "fc8"])
def test_fig_2_shows_any_layer_and_refuses_silent_maps(study, layer):
    trained, split = study.trained, study.dataset.val
    batches = map(trained.preprocess, split.images.split(8))
    tops = gallery.top_units(trained.network, batches, layer, progress=False)
    alive = int(tops[layer].values[:, 0].argmax())
    tops[layer].values[alive - 1] = 0
    figure = figures.fig2(trained, split, tops, {layer: [alive, alive - 1]})
    assert [text.get_text() for text in figure.texts].count("patches") == 1
    with pytest.raises(ValueError, match="none of these maps responds"):
        figures.fig2(trained, split, tops, {layer: [alive - 1]})


def test_others_have_a_map_that_responds_at_the_same_place(network, images):
    places = Units(torch.zeros(40, dtype=torch.long), torch.arange(40) % 5, torch.arange(40) % 4)
    generator = torch.Generator().manual_seed(0)
    units = measures.random_responding_units(network, images, "conv4", places, generator)
    maps = network.features(images, ["conv4"])["conv4"]
    assert (maps[torch.arange(40), units.maps, places.rows, places.columns] > 0).all()
    assert len(units.maps.unique()) > 5


def test_telling_maps_are_pure_alike_and_of_different_classes(study, tops):
    trained, split = study.trained, study.dataset.val
    upper = {layer: tops[layer] for layer in ("conv4", "conv5")}
    maps = measures.telling_maps(trained, split, upper, count=2)
    assert [len(numbers) for numbers in maps.values()] == [2, 2] and len(set(maps["conv5"])) == 2
    classes = [
        int(split.labels[tops[layer].images[number]].mode().values)
        for layer, numbers in maps.items()
        for number in numbers
    ]
    assert classes[0] != classes[2]  # of the first map of each layer
    top = tops["conv4"]
    purity = measures.purity(top, split.labels)
    strong = (top.values[:, -1] >= top.values[:, -1].median()).nonzero().flatten()
    order = purity[strong].argsort(descending=True, stable=True)[: measures.PUREST]
    purest = strong[order].tolist()
    pictures, _ = measures.pictures_of(trained, split, top, purest)
    score = purity[purest] * measures.SIMILARITIES["contrast"](pictures)
    assert maps["conv4"][0] == purest[int(score.argmax())]
