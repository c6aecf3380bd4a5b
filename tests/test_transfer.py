"""Draws, probes, near-duplicates, target sets, claims and tables of the transfer chapter."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from book.transfer import caltech256, claims, figures, measure, targets, voc2012
from tests.datasets import stripes, tiny
from tests.networks import small
from tests.photographs import picture
from zfrepro import paper, probes, records
from zfrepro.data import DataError
from zfrepro.data.transforms import mean_image
from zfrepro.measure import Study
from zfrepro.networks import krizhevsky, zfnet
from zfrepro.weights import Trained

pytestmark = pytest.mark.usefixtures("own_places")


def clusters(number: int = 40, classes: int = 4, size: int = 12, noise: float = 2.0, seed: int = 0):
    """Rows around one centre a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number * classes) % classes
    centres = torch.randn(classes, size, generator=generator)
    return centres[labels] + noise * torch.randn(len(labels), size, generator=generator), labels


@pytest.mark.parametrize("architecture", [zfnet(), krizhevsky()], ids=lambda a: a.name)
def test_a_layer_hands_on_what_the_next_one_reads(architecture):
    """Each layer's weights on the outputs of the one below give its own maps."""
    network = small(architecture)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        out, maps = probes.outputs(network, images), network.features(images, network.layers)
        assert list(out) == [name for name in network.layers if name != "fc8"]
        for below, above in zip(list(out)[:4], list(out)[1:5], strict=True):
            assert torch.allclose(network.convs[above](out[below]).relu(), maps[above], atol=1e-5)
        assert torch.allclose(
            network.fulls["fc6"](out["conv5"].flatten(1)).relu(), maps["fc6"], atol=1e-5
        )
        assert torch.allclose(network.fulls["fc8"](out["fc7"]), maps["fc8"], atol=1e-5)


@pytest.mark.parametrize(
    "maps, side, most, fields", [(96, 31, 3500, 6), (256, 3, 3500, 3), (4000, 7, 3500, 1)]
)
def test_grids_keep_rows_short(maps, side, most, fields):
    assert probes.grid(maps, side, most) == fields
    assert maps * fields**2 <= most or fields == 1


def test_reduction_averages_fields_and_leaves_short_rows_alone():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert probes.reduced(maps, most=4).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    assert torch.equal(probes.reduced(maps, most=16), maps.flatten(1))
    assert torch.equal(probes.reduced(torch.ones(2, 9000)), torch.ones(2, 9000))


def test_features_do_not_depend_on_batches_and_are_kept(tmp_path):
    network, images = small(zfnet()), torch.randn(5, 3, 96, 96)
    file, calls = tmp_path / "features.safetensors", []

    def make():
        calls.append(1)
        return probes.features(network, images.split(2))

    whole = probes.features(network, [images])
    for found in (probes.cached(file, make), probes.cached(file, make)):
        for name, rows in whole.items():
            assert torch.allclose(found[name], rows, rtol=2e-3, atol=1e-4)
    assert len(calls) == 1
    file.write_bytes(b"damaged")
    probes.cached(file, make)
    assert len(calls) == 2


def test_fingerprints_tell_networks_apart():
    a, b = small(zfnet()), small(zfnet(), seed=1)
    assert probes.fingerprint(a, 3) == probes.fingerprint(a, 3) != probes.fingerprint(b, 3)
    assert probes.fingerprint(a, 3) != probes.fingerprint(a, 4)


def test_draws_have_the_right_numbers_and_do_not_meet():
    labels = torch.tensor([0] * 9 + [1] * 5 + [2] * 30)
    found = probes.draw(labels, 4, test=10)
    assert labels[found.train].bincount().tolist() == [4, 4, 4]
    assert labels[found.test].bincount().tolist() == [5, 1, 10]
    assert not set(found.train.tolist()) & set(found.test.tolist())


def test_smaller_draws_are_nested_and_share_their_test():
    labels = torch.arange(60) % 3
    few, many = (probes.draw(labels, n, reserve=8, test=5, fold=2) for n in (3, 8))
    assert set(few.train.tolist()) < set(many.train.tolist())
    assert torch.equal(few.test, many.test)
    others = probes.draw(labels, 3, reserve=8, test=5, fold=3)
    assert not torch.equal(others.test, few.test)
    again = probes.draw(labels, 3, reserve=8, test=5, fold=2)
    assert torch.equal(again.train, few.train)


@pytest.mark.parametrize("number, more", [(5, {}), (0, {}), (3, {"reserve": 2}), (2, {"test": 0})])
def test_draws_that_cannot_be_made_are_refused(number, more):
    with pytest.raises(ValueError):
        probes.draw(torch.tensor([0] * 9 + [1] * 5), number, **more)


def test_per_class_accuracy_by_hand():
    labels, named = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    assert probes.per_class_accuracy(named, labels) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert probes.per_class_accuracy(named, labels) == pytest.approx(
        100 * balanced_accuracy_score(labels, named)
    )


def test_svm_on_products_is_the_linear_svm_of_scikit_learn():
    rows, labels = (t.numpy() for t in clusters())
    train, test = rows[:100], rows[100:]
    plain = make_pipeline(StandardScaler(), SVC(C=10 / train.shape[1], kernel="linear")).fit(
        train, labels[:100]
    )
    assert (probes.predicted("svm", 10, train, labels[:100], test) == plain.predict(test)).all()


def test_softmax_is_the_logistic_regression_of_scikit_learn():
    rows, labels = (t.numpy() for t in clusters())
    train, test = rows[:100], rows[100:]
    model = LogisticRegression(C=10 / train.shape[1], tol=1e-8, max_iter=1000)
    plain = make_pipeline(StandardScaler(), model).fit(train, labels[:100])
    ours = probes.predicted("softmax", 10, train, labels[:100], test)
    assert (ours == plain.predict(test)).mean() > 0.95  # ours stops earlier


def test_standardisation_sees_the_training_rows_alone():
    train, test = np.random.default_rng(0).normal(3, 2, (50, 8)), np.full((1, 8), 1e6)
    alone, with_test = probes.standardised(train)[0], probes.standardised(train, test)[0]
    assert np.array_equal(alone, with_test)
    assert (alone**2).sum(1).mean() == pytest.approx(1, rel=1e-5)


def test_what_is_held_out_is_a_third_of_each_class():
    labels = np.array([0] * 6 + [1] * 3 + [2] * 2)
    assert [int(probes.held_out(labels)[labels == c].sum()) for c in range(3)] == [2, 1, 1]


def test_the_strength_is_chosen_without_the_test_images():
    rows, labels = clusters()
    found = probes.draw(labels, 12)
    before = probes.probe(rows, labels, found, "svm")
    spoiled = rows.clone()
    spoiled[found.test] = 0
    after = probes.probe(spoiled, labels, found, "svm")
    assert after.strength == before.strength and after.accuracy == pytest.approx(25)


def test_one_image_a_class_takes_the_middle_strength():
    rows, labels = clusters()
    assert probes.probe(rows, labels, probes.draw(labels, 1), "softmax").strength == 10.0


@pytest.mark.parametrize("kind", probes.KINDS)
def test_probes_learn_and_shuffled_labels_do_not(kind):
    rows, labels = clusters(noise=0.5)
    found = probes.draw(labels, 10)
    assert probes.probe(rows, labels, found, kind).accuracy > 90
    mixed = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    assert probes.probe(rows, mixed, probes.draw(mixed, 10), kind).accuracy < 50


def test_unknown_classifiers_are_refused():
    rows, labels = clusters()
    with pytest.raises(ValueError, match="choose among svm, softmax, one-vs-rest"):
        probes.probe(rows, labels, probes.draw(labels, 2), "tree")


def natural(seed: int, side: int = 64) -> torch.Tensor:
    """A picture of blobs of several sizes, uint8 (3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(
        torch.nn.functional.interpolate(
            torch.randn(1, 3, n, n, generator=generator) / n, (side, side), mode="bicubic"
        )
        for n in (2, 4, 8, 16)
    )
    return ((total - total.min()) / (total.max() - total.min()) * 255).to(torch.uint8)[0]


def saved_again(image: torch.Tensor, tmp_path, side: int, quality: int) -> torch.Tensor:
    """Resized, written as JPEG, read and resized back."""
    file = tmp_path / "again.jpg"
    Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side)).save(file, quality=quality)
    back = Image.open(file).resize((image.shape[-1],) * 2)
    return torch.from_numpy(np.array(back)).permute(2, 0, 1)


def test_pictures_saved_again_are_found_and_others_are_not(tmp_path):
    source = torch.stack([natural(i) for i in range(20)])
    target = torch.stack(
        [saved_again(natural(3), tmp_path, 48, 40), natural(100), natural(7) // 2 + 60]
    )
    best, which = targets.closest(*map(targets.thumbnails, (target, source)), chunk=6)
    assert best[0] > targets.THRESHOLD and which[0] == 3
    assert best[1] < targets.THRESHOLD
    assert best[2] > targets.THRESHOLD and which[2] == 7  # darker and paler, the same picture


def test_normalised_correlation_is_pearson_s():
    a, b = natural(0, 32), natural(1, 32)
    rows = targets.thumbnails(torch.stack([a, b]))
    centred = [(x.float() - x.float().mean((1, 2), keepdim=True)).flatten().numpy() for x in (a, b)]
    expected = np.corrcoef(*centred)[0, 1]
    assert (rows[0] @ rows[1]).item() == pytest.approx(expected, abs=1e-4)
    blank = targets.thumbnails(torch.full((1, 3, 32, 32), 9, dtype=torch.uint8))
    assert (blank == 0).all()


def test_a_common_tint_is_not_likeness():
    noise = torch.randint(0, 40, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    blue = (noise + torch.tensor([20, 90, 200]).view(1, 3, 1, 1)).to(torch.uint8)
    one, other = targets.thumbnails(blue)
    assert abs(one @ other) < 0.2


def trained_on_stripes() -> tuple[Trained, object]:
    dataset, recipe = stripes(), tiny()
    network = recipe.network(3).eval()
    return Trained(network, recipe, dataset.classes, mean_image(dataset.train.images)), dataset


def quiet(dataset) -> Study:
    return Study(dataset, {}, torch.device("cpu"), progress=False)


def test_fine_tuning_starts_from_the_source_and_scratch_does_not():
    source, dataset = trained_on_stripes()
    still = tiny(epochs=1, lr=1e-12, weight_decay=0.0, momentum=0.0, clip=0.0)
    tuned, mean = measure.fitted(still, dataset.train, 5, quiet(dataset), source=source)
    assert torch.allclose(tuned.convs["conv3"].weight, source.network.convs["conv3"].weight)
    assert tuned.fulls["fc8"].weight.shape[0] == 5 and torch.equal(mean, source.mean)
    fresh, _ = measure.fitted(tiny(epochs=1, lr=1e-12, seed=4), dataset.train, 5, quiet(dataset))
    assert not torch.allclose(fresh.convs["conv3"].weight, source.network.convs["conv3"].weight)


def test_a_network_from_scratch_learns_an_easy_world():
    dataset, recipe = stripes(train=96), tiny(epochs=14, lr=0.04, dropout=0.0, units=32)
    network, mean = measure.fitted(recipe, dataset.train, 3, quiet(dataset))
    named = measure.predict(network, recipe, mean, dataset.val.images)
    assert probes.per_class_accuracy(named, dataset.val.labels.numpy()) > 60


def test_the_control_has_other_weights_and_the_same_mean():
    source, _ = trained_on_stripes()
    control = probes.untrained(source)
    assert torch.equal(control.mean, source.mean)
    assert not torch.equal(control.network.fulls["fc7"].weight, source.network.fulls["fc7"].weight)
    again = probes.untrained(source).network.fulls["fc7"].weight
    assert torch.equal(again, control.network.fulls["fc7"].weight)


def test_average_precision_by_hand():
    scores, truth = np.array([4.0, 3, 2, 1]), np.array([1, -1, 1, 1])
    # precision at the three hits: 1, 2/3, 3/4; the second is lifted to the best that follows
    assert voc2012.average_precision(scores, truth) == pytest.approx(100 * (1 + 3 / 4 + 3 / 4) / 3)
    difficult = voc2012.average_precision(np.array([5.0, 4, 3, 2, 1]), np.array([0, 1, -1, 1, 1]))
    assert difficult == pytest.approx(100 * (1 + 3 / 4 + 3 / 4) / 3)
    with pytest.raises(ValueError, match="at least one"):
        voc2012.average_precision(scores, -np.ones(4))


def test_caltech256_without_its_clutter(tmp_path):
    for i, name in enumerate(("001.ak47", "002.american-flag", "257.clutter")):
        folder = tmp_path / "caltech256" / "256_ObjectCategories" / name
        folder.mkdir(parents=True)
        for number in range(3):
            picture(i, number).save(folder / f"{i:03}_{number:04}.jpg")
    found = targets.caltech256(28, tmp_path, progress=False)
    assert found.classes == ("ak47", "american-flag") and found.labels.tolist() == [
        0,
        0,
        0,
        1,
        1,
        1,
    ]
    assert found.images.shape == (6, 3, 32, 32)


def voc(root, marks: dict[str, list[int]], part: str = "train"):
    folder = root / "VOCdevkit" / "VOC2012"
    lists, images = folder / "ImageSets" / "Main", folder / "JPEGImages"
    for made in (lists, images):
        made.mkdir(parents=True, exist_ok=True)
    for name, column in marks.items():
        lines = [f"2008_{i:06} {value:2d}" for i, value in enumerate(column)]
        (lists / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
        for i in range(len(column)):
            picture(i % 3, i).save(images / f"2008_{i:06}.jpg")
    return folder


def test_voc_in_torchvision_s_layout(tmp_path):
    voc(tmp_path, {"dog": [1, -1, 0], "person": [1, 1, -1]})
    found = targets.voc2012("train", 28, tmp_path, progress=False)
    assert found.classes == ("dog", "person")
    assert found.truth.tolist() == [[1, 1], [-1, 1], [0, -1]] and found.images.shape == (
        3,
        3,
        32,
        32,
    )
    images, classes = voc2012.once_a_class(found.truth)
    assert images.tolist() == [0, 0, 1] and classes.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="dog_val.txt"):
        targets.voc2012("val", 28, tmp_path, progress=False)


def test_table_6_is_measured_from_train_to_val(tmp_path):
    source, dataset = trained_on_stripes()
    marks = {
        "cat": [1, -1, -1] * 4,
        "dog": [-1, 1, -1] * 4,
        "person": [-1, -1, 1] * 4,
    }  # the colour tells
    for part in ("train", "val"):
        voc(tmp_path, marks, part)
    one = Study(dataset, {"zfnet": source}, torch.device("cpu"), root=tmp_path, progress=False)
    found = voc2012.parts(one)["table6"]()
    assert list(found["average_precision"]) == list(marks) and (found["train"], found["test"]) == (
        12,
        12,
    )
    assert all(value > 90 for value in found["average_precision"].values())
    assert found["mean"] == pytest.approx(
        np.mean(list(found["average_precision"].values())), abs=0.01
    )


def test_damaged_voc_is_one_clear_error(tmp_path):
    folder = voc(tmp_path, {"dog": [1, -1, 0], "person": [1, 1, -1]})
    (folder / "JPEGImages" / "2008_000001.jpg").unlink()
    with pytest.raises(DataError, match="2008_000001.jpg: in the lists and not there"):
        targets.voc2012("train", 28, tmp_path, progress=False)
    (folder / "ImageSets" / "Main" / "dog_train.txt").write_text("2008_000000 yes\n")
    with pytest.raises(DataError, match="1, 0 or -1"):
        targets.voc2012("train", 28, tmp_path, progress=False)


@pytest.mark.parametrize("load", [targets.caltech256, lambda s, r: targets.voc2012("train", s, r)])
def test_absent_sets_are_one_clear_error(load, tmp_path):
    with pytest.raises(DataError, match="inside; get it"):
        load(28, tmp_path)


def test_the_paper_s_tables_agree_with_each_other():
    for number, (mean, _) in paper.CALTECH256["pretrained"].items():
        assert paper.FEW_SHOT[number] == mean
    ours = [row[2] for row in paper.VOC2012.values()]
    assert len(ours) == 20 and np.mean(ours) == pytest.approx(paper.VOC2012_MEAN[2], abs=0.06)
    printed = [np.mean([row[i] for row in paper.VOC2012.values()]) for i in (0, 1)]
    for i, (mean, right) in enumerate(
        zip(printed, (68.6, 75.2), strict=True)
    ):  # the cow's numbers printed twice
        assert mean + (right - paper.VOC2012["diningtable"][i]) / 20 == pytest.approx(
            paper.VOC2012_MEAN[i], abs=0.06
        )


def test_unknown_targets_are_refused():
    class Source:
        dataset, progress, root = stripes(), False, None

    with pytest.raises(ValueError, match="there are: novel"):
        measure.target_of(Source, "cifar")


def test_a_study_measures_every_part_on_a_small_target(monkeypatch):
    source, dataset = trained_on_stripes()
    labels = torch.arange(48) % 3
    pool = targets.Pool("stripes", tuple("abc"), stripes(train=48).train.images, labels, "0")
    target = measure.Target(lambda size: pool, (1, 4), {4: 1}, 1, 8)
    monkeypatch.setattr(measure, "target_of", lambda study, name: target)
    monkeypatch.setattr(measure, "SCRATCH", measure.SCRATCH | {"image_size": 28, "width": 0.1})
    monkeypatch.setattr(targets, "THRESHOLD", 2.0)  # the images are the source's own
    study = Study(dataset, {"zfnet": source}, torch.device("cpu"), progress=False)
    parts = caltech256.parts(study)
    assert parts["target"]()["train"] == 12 and parts["duplicates"]()["at"]["0.99"] > 0
    bench_free = ("trained-svm-conv5", "untrained-svm-fc7", "trained-softmax-fc7", "tuned-4")
    found = {name: parts[name]()["accuracy"] for name in bench_free}
    assert all(len(values) == measure.FOLDS for values in found.values())
    assert set(parts["curve-untrained-svm-conv5"]()) == {"1", "4"}
    rows, labels = measure.Bench(study, target).rows("trained", "conv5"), pool.labels
    first = probes.probe(rows, labels, probes.draw(labels, 4), "svm").accuracy
    assert found["trained-svm-conv5"][0] == pytest.approx(first, abs=0.01)
    assert set(parts["source-conv1"]()) == {"trained", "untrained"}


def made_up(
    trained=(44.8, 66.2, 72.3, 76.6, 86.2, 86.0, 85.5),
    softmax=(45.0, 60, 70, 75, 82.9, 84, 85.4),
    untrained=30.0,
    frozen=(57.0, 86.5),
    scratch=46.5,
    fitted=90.0,
):
    """Return a record of five folds around given numbers."""
    noise = np.array([-0.4, -0.2, 0.0, 0.2, 0.4])
    record = {"target": {"classes": 10, "train": 300, "test": 300}}
    for layer, svm, soft in zip(claims.LAYERS, trained, softmax, strict=True):
        record[f"trained-svm-{layer}"] = {"accuracy": list(svm + noise)}
        record[f"trained-softmax-{layer}"] = {"accuracy": list(soft + noise)}
        record[f"untrained-svm-{layer}"] = {"accuracy": list(untrained + noise)}
        record[f"source-{layer}"] = {"trained": list(svm + noise)}
    sizes = {"3": frozen[0], "15": frozen[1] - 3, "30": frozen[1]}
    record["curve-softmax-fc7"] = {n: list(value + noise) for n, value in sizes.items()}
    record["curve-untrained-softmax-fc7"] = {n: list(20 + noise) for n in sizes}
    for n in (15, 30):
        record[f"scratch-{n}"] = {"accuracy": list(scratch - noise), "train": [fitted] * 5}
    return record


def outcome(name: str, **changes) -> str:
    claim = next(claim for claim in claims.CLAIMS if claim.name == f"transfer-{name}")
    return claim.judge(made_up(**changes)).outcome


@pytest.mark.parametrize("name", ["few", "depth", "flat", "top", "learned"])
def test_a_record_like_the_paper_agrees(name):
    assert outcome(name) == "agrees"


@pytest.mark.parametrize(
    "name, changes, expected",
    [
        ("pretrained", {}, "agrees"),
        ("pretrained", {"scratch": 75.0}, "same direction, other size"),
        ("pretrained", {"scratch": 90.0}, "contradicts"),
        ("pretrained", {"fitted": 47.9}, "not tested"),
        ("few", {"frozen": (46.5, 86.5)}, "not resolved"),
        ("few", {"untrained": 90.0}, "contradicts"),
        ("depth", {"trained": (60, 62, 64, 66, 68, 70, 70)}, "same direction, other size"),
        ("depth", {"trained": (40, 50, 45, 60, 70, 70, 70)}, "contradicts"),
        ("flat", {"trained": (40, 50, 60, 70, 80, 75, 70)}, "contradicts"),  # a loss is not flat
        ("flat", {"trained": (80, 70, 60, 50, 40, 40, 40)}, "contradicts"),  # nothing rises
        ("top", {"softmax": (45.0, 60, 70, 75, 85, 80, 75)}, "contradicts"),
        ("learned", {"untrained": 60.0}, "contradicts"),
    ],
)
def test_outcomes_follow_the_record(name, changes, expected):
    assert outcome(name, **changes) == expected


def test_the_printed_numbers_pass_every_rule():
    outcomes = {claim.name: claim.printed_outcome() for claim in claims.CLAIMS if claim.printed}
    assert len(outcomes) == 7 and set(outcomes.values()) == {"agrees"}


def test_printed_folds_have_the_printed_mean_and_deviation():
    values = claims.folds(83.8, 0.5)
    assert np.mean(values) == pytest.approx(83.8) and np.std(values, ddof=1) == pytest.approx(0.5)


def test_intervals_allow_for_shared_images():
    record = made_up()
    values = np.array([1.0, 2.0, 4.0, 3.0, 2.5])
    error = values.std(ddof=1) * np.sqrt(1 / 5 + 300 / 300)  # Nadeau and Bengio: test / train
    assert claims.over_folds(record, values).high == pytest.approx(2.5 + 2.776 * error, abs=1e-3)


def test_the_untrained_control_takes_the_place_of_the_network():
    found = claims.untrained(made_up(untrained=30.0))
    assert found["trained-svm-conv5"]["accuracy"][2] == 30.0
    assert found["curve-softmax-fc7"]["30"][2] == 20.0


def test_other_targets_have_records_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))
    by_name = {claim.name: claim for claim in claims.CLAIMS}
    voc, caltech = by_name["transfer-voc"], by_name["transfer-caltech256"]
    assert "measure transfer_voc2012" in voc.finding("imagenet20").reason
    assert caltech.finding("diorama").outcome == "not applicable"
    for mean, expected in ((79.0, "agrees"), (60.0, "contradicts")):
        record = {"table6": {"mean": mean, "average_precision": {"cow": 61.5}}}
        records.write_json(tmp_path / "transfer_voc2012" / "imagenet20.json", record)
        assert voc.finding("imagenet20").outcome == expected
    cells = {row["Acc %"]: row["ours"] for row in figures.table6(record)}
    assert (cells["cow"], cells["Mean"], cells["dog"]) == (61.5, 60.0, None)


def test_tables_have_the_rows_of_the_paper():
    record = made_up()
    table4 = figures.by_size(paper.CALTECH101, (15, 30), record)
    assert [row["# Train"] for row in table4][2:] == [
        "Non-pretrained convnet",
        "ImageNet-pretrained convnet",
    ]
    assert (
        table4[3]["Acc % 15/class"] == "83.8 ± 0.5" and table4[3]["ours 30/class"] == "86.5 ± 0.3"
    )
    assert "ours 15/class" not in figures.by_size(paper.CALTECH256, (15, 60), None)[0]
    assert list(figures.table6()[-1].values()) == ["# won", "0", "15", "5"]
    table7 = figures.table7({"imagenet20": record})
    assert [row[""] for row in table7][-2:] == ["Softmax (5)", "Softmax (7)"]
    assert table7[0]["ours, Cal-101"] == "44.8 ± 0.3" and len(table7) == 8
    assert len(figures.further({"diorama": record})) == 4
    for draw in (figures.few_shot, figures.by_layer):
        assert len(draw({"imagenet20": record, "diorama": record}).axes) == 3


def test_some_classes_are_a_small_pool_with_labels_from_zero():
    labels = torch.arange(60) % 6
    images = torch.arange(60).byte().view(60, 1, 1, 1).expand(60, 3, 2, 2)
    found = targets.some_classes(targets.Pool("x", tuple("abcdef"), images, labels, "0"), 3, 4)
    assert found.classes == ("a", "c", "f")
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (found.images[:, 0, 0, 0] % 6).tolist() == [0] * 4 + [2] * 4 + [5] * 4
