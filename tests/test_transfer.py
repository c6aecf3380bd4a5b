"""Draws, probes, near-duplicates, target sets and the verdicts of the transfer chapter."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from book.transfer import claims as transfer_claims
from book.transfer import duplicates, figures, targets
from book.transfer import measure as study
from book.transfer import training as transfer
from book.transfer import voc2012 as transfer_voc2012
from book.transfer.claims import CLAIMS, interval
from book.transfer.voc2012 import once_a_class
from tests.networks import small
from tests.photographs import picture
from tests.worlds import stripes, tiny
from zfrepro import data, paper, probes, records, training, weights
from zfrepro import measure as studies
from zfrepro import verdicts as claims
from zfrepro.cli import main
from zfrepro.data import DataError
from zfrepro.data.transforms import mean_image
from zfrepro.measure import Study
from zfrepro.networks import krizhevsky, zfnet
from zfrepro.weights import Trained


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path / "cache"))


def clusters(number: int = 40, classes: int = 4, size: int = 12, noise: float = 2.0, seed: int = 0):
    """Rows around one centre a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number * classes) % classes
    centres = torch.randn(classes, size, generator=generator)
    return centres[labels] + noise * torch.randn(len(labels), size, generator=generator), labels


# --- features --------------------------------------------------------------------------------------------------------


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
        assert torch.allclose(network.fulls["fc6"](out["conv5"].flatten(1)).relu(), maps["fc6"], atol=1e-5)
        assert torch.allclose(network.fulls["fc8"](out["fc7"]), maps["fc8"], atol=1e-5)


@pytest.mark.parametrize("maps, side, most, fields", [(96, 31, 3500, 6), (256, 3, 3500, 3), (4000, 7, 3500, 1)])
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


# --- draws -----------------------------------------------------------------------------------------------------------


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


# --- classifiers -----------------------------------------------------------------------------------------------------


def test_per_class_accuracy_by_hand():
    labels, named = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    assert probes.per_class_accuracy(named, labels) == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert probes.per_class_accuracy(named, labels) == pytest.approx(100 * balanced_accuracy_score(labels, named))


def test_a_probe_tells_the_accuracy_of_each_class():
    rows, labels = clusters()
    found = probes.probe(rows, labels, probes.draw(labels, 20), "svm")
    assert found.by_class.shape == (4,) and found.accuracy == pytest.approx(found.by_class.mean())
    assert len(set(found.by_class)) > 1


def test_gains_are_split_by_likeness():
    likeness = np.array([50.0, 10, 60, 20, 40, 30])
    thirds, rho, p = transfer.gains_by_likeness(likeness, untrained=np.full(6, 7.0), trained=7 + 2 * likeness)
    assert thirds.tolist() == [30, 70, 110] and rho == pytest.approx(1) and p < 0.05
    mixed = np.array([3.0, 1, 4, 1, 5, 9])
    assert transfer.gains_by_likeness(likeness, mixed, mixed * 0)[1] == pytest.approx(
        stats.spearmanr(likeness, mixed).statistic
    )
    with pytest.raises(ValueError, match="three or more"):
        transfer.gains_by_likeness(likeness, likeness[:4], likeness)


def test_svm_on_products_is_the_linear_svm_of_scikit_learn():
    rows, labels = (t.numpy() for t in clusters())
    train, test = rows[:100], rows[100:]
    plain = make_pipeline(StandardScaler(), SVC(C=10 / train.shape[1], kernel="linear")).fit(train, labels[:100])
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


# --- near-duplicates -------------------------------------------------------------------------------------------------


def natural(seed: int, side: int = 64) -> torch.Tensor:
    """A picture of blobs of several sizes, uint8 (3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(
        torch.nn.functional.interpolate(torch.randn(1, 3, n, n, generator=generator) / n, (side, side), mode="bicubic")
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
    target = torch.stack([saved_again(natural(3), tmp_path, 48, 40), natural(100), natural(7) // 2 + 60])
    best, which = duplicates.closest(*map(duplicates.thumbnails, (target, source)), chunk=6)
    assert best[0] > duplicates.THRESHOLD and which[0] == 3
    assert best[1] < duplicates.THRESHOLD
    assert best[2] > duplicates.THRESHOLD and which[2] == 7  # darker and paler, the same picture


def test_normalised_correlation_is_pearson_s():
    a, b = natural(0, 32), natural(1, 32)
    rows = duplicates.thumbnails(torch.stack([a, b]))
    centred = [(x.float() - x.float().mean((1, 2), keepdim=True)).flatten().numpy() for x in (a, b)]
    expected = np.corrcoef(*centred)[0, 1]
    assert (rows[0] @ rows[1]).item() == pytest.approx(expected, abs=1e-4)
    blank = duplicates.thumbnails(torch.full((1, 3, 32, 32), 9, dtype=torch.uint8))
    assert (blank == 0).all()


def test_a_common_tint_is_not_likeness():
    noise = torch.randint(0, 40, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    blue = (noise + torch.tensor([20, 90, 200]).view(1, 3, 1, 1)).to(torch.uint8)
    one, other = duplicates.thumbnails(blue)
    assert abs(one @ other) < 0.2


# --- whole networks --------------------------------------------------------------------------------------------------


def trained_on_stripes() -> tuple[Trained, object]:
    world, recipe = stripes(), tiny()
    network = recipe.network(3).eval()
    return Trained(network, recipe, world.classes, mean_image(world.train.images)), world


def test_fine_tuning_starts_from_the_source_and_scratch_does_not():
    source, world = trained_on_stripes()
    still = tiny(epochs=1, lr=1e-12, weight_decay=0.0, momentum=0.0, clip=0.0)
    tuned, mean = transfer.fitted(still, world.train, 5, source=source)
    assert torch.allclose(tuned.convs["conv3"].weight, source.network.convs["conv3"].weight)
    assert tuned.fulls["fc8"].weight.shape[0] == 5 and torch.equal(mean, source.mean)
    fresh, _ = transfer.fitted(tiny(epochs=1, lr=1e-12, seed=4), world.train, 5)
    assert not torch.allclose(fresh.convs["conv3"].weight, source.network.convs["conv3"].weight)


def test_a_network_from_scratch_learns_an_easy_world():
    world, recipe = stripes(train=96), tiny(epochs=14, lr=0.04, dropout=0.0, units=32)
    network, mean = transfer.fitted(recipe, world.train, 3)
    named = transfer.names(network, recipe, mean, world.val.images)
    assert probes.per_class_accuracy(named, world.val.labels.numpy()) > 60


def test_the_control_has_other_weights_and_the_same_mean():
    source, _ = trained_on_stripes()
    control = transfer.untrained(source)
    assert torch.equal(control.mean, source.mean)
    assert not torch.equal(control.network.fulls["fc7"].weight, source.network.fulls["fc7"].weight)
    again = transfer.untrained(source).network.fulls["fc7"].weight
    assert torch.equal(again, control.network.fulls["fc7"].weight)
    assert training.Recipe is type(control.recipe)


# --- average precision -----------------------------------------------------------------------------------------------


def test_average_precision_by_hand():
    scores, truth = np.array([4.0, 3, 2, 1]), np.array([1, -1, 1, 1])
    # precision at the three hits: 1, 2/3, 3/4; the second is lifted to the best that follows
    assert transfer.average_precision(scores, truth) == pytest.approx(100 * (1 + 3 / 4 + 3 / 4) / 3)
    difficult = transfer.average_precision(np.array([5.0, 4, 3, 2, 1]), np.array([0, 1, -1, 1, 1]))
    assert difficult == pytest.approx(100 * (1 + 3 / 4 + 3 / 4) / 3)
    with pytest.raises(ValueError, match="at least one"):
        transfer.average_precision(scores, -np.ones(4))


def test_average_precision_is_at_least_that_without_the_envelope():
    generator = np.random.default_rng(0)
    for _ in range(20):
        truth = np.where(generator.random(50) < 0.3, 1, -1)
        truth[0] = 1
        scores = generator.random(50)
        plain = 100 * average_precision_score(truth > 0, scores)
        assert plain - 1e-9 <= transfer.average_precision(scores, truth) <= 100


# --- target sets -----------------------------------------------------------------------------------------------------


def test_caltech256_without_its_clutter(tmp_path):
    for i, name in enumerate(("001.ak47", "002.american-flag", "257.clutter")):
        folder = tmp_path / "caltech256" / "256_ObjectCategories" / name
        folder.mkdir(parents=True)
        for number in range(3):
            picture(i, number).save(folder / f"{i:03}_{number:04}.jpg")
    found = targets.caltech256(28, tmp_path, progress=False)
    assert found.classes == ("ak47", "american-flag") and found.labels.tolist() == [0, 0, 0, 1, 1, 1]
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
    assert found.truth.tolist() == [[1, 1], [-1, 1], [0, -1]] and found.images.shape == (3, 3, 32, 32)
    images, classes = once_a_class(found.truth)
    assert images.tolist() == [0, 0, 1] and classes.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="dog_val.txt"):
        targets.voc2012("val", 28, tmp_path, progress=False)


def test_table_6_is_measured_from_train_to_val(tmp_path):
    source, world = trained_on_stripes()
    marks = {"cat": [1, -1, -1] * 4, "dog": [-1, 1, -1] * 4, "person": [-1, -1, 1] * 4}  # the colour tells
    for part in ("train", "val"):
        voc(tmp_path, marks, part)
    one = Study(world, {"zfnet": source}, torch.device("cpu"), root=tmp_path, progress=False)
    found = transfer_voc2012.parts(one)["table6"]()
    assert list(found["average_precision"]) == list(marks) and (found["train"], found["test"]) == (12, 12)
    assert all(value > 90 for value in found["average_precision"].values())
    assert found["mean"] == pytest.approx(np.mean(list(found["average_precision"].values())), abs=0.01)


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


# --- the paper's tables ----------------------------------------------------------------------------------------------


def test_the_paper_s_tables_agree_with_each_other():
    for number, (mean, _) in paper.CALTECH256["pretrained"].items():
        assert paper.FEW_SHOT[number] == mean
    ours = [row[2] for row in paper.VOC2012.values()]
    assert len(ours) == 20 and np.mean(ours) == pytest.approx(paper.VOC2012_MEAN[2], abs=0.06)
    printed = [np.mean([row[i] for row in paper.VOC2012.values()]) for i in (0, 1)]
    for i, (mean, right) in enumerate(zip(printed, (68.6, 75.2), strict=True)):  # the cow's numbers printed twice
        assert mean + (right - paper.VOC2012["diningtable"][i]) / 20 == pytest.approx(paper.VOC2012_MEAN[i], abs=0.06)


def test_unknown_targets_are_refused():
    class World:
        dataset, progress, root = stripes(), False, None

    with pytest.raises(ValueError, match="there are: novel"):
        study.target_of(World, "cifar")


# --- verdicts and pages ----------------------------------------------------------------------------------------------


def made_up(trained=(40, 50, 60, 70, 80, 81, 80), untrained=30.0, frozen=70.0, scratch=30.0, fitted=90.0):
    """A record of five folds around given numbers."""
    noise = [-0.4, -0.2, 0.0, 0.2, 0.4]
    record = {}
    for layer, level in zip(study.LAYERS, trained, strict=True):
        own = {"accuracy": [level + e for e in noise], "by_class": [level - 5, level, level + 5]}
        record |= {f"trained-svm-{layer}": own, f"trained-softmax-{layer}": own}
        record[f"untrained-svm-{layer}"] = {"accuracy": [untrained - e for e in noise], "by_class": [untrained] * 3}
        record[f"source-{layer}"] = {"trained": own["accuracy"], "untrained": [5.0] * 5}
    for n in (1, 3, 6, 15, 30):
        record.setdefault("curve-softmax-fc7", {})[str(n)] = [frozen - 30 / n + e for e in noise]
    for n in (15, 30):
        record[f"scratch-{n}"] = {"accuracy": [scratch, scratch + 1], "train": [fitted, fitted + 4]}
    return record | {"likeness": {"chair": 20.0, "anchor": 10.0, "ball": 90.0}}


def verdict(name: str, **changes) -> str:
    claim = next(c for c in claims.of_chapter("transfer") if c.name == f"transfer-{name}")
    return claim.judge(made_up(**changes)).verdict


def test_a_record_like_the_paper_s_reproduces_it():
    like = {"trained": (44.8, 66.2, 72.3, 76.6, 86.2, 86.0, 85.5)}
    for name in ("pretrained", "few", "depth", "flat", "exception", "learned"):
        assert verdict(name, **like) == "reproduced", name


@pytest.mark.parametrize(
    "name, changes, expected",
    [
        ("pretrained", {"scratch": 65.0}, "partly"),
        ("pretrained", {"scratch": 90.0}, "not reproduced"),
        ("pretrained", {"fitted": 47.9}, "not tested"),  # on average less than half of their own training images
        ("pretrained", {"fitted": 48.1}, "reproduced"),
        ("few", {"scratch": 66.0}, "partly"),
        ("few", {"untrained": 90.0}, "not reproduced"),
        ("depth", {"trained": (40, 50, 45, 60, 70, 70, 70)}, "partly"),
        ("depth", {"trained": (80, 70, 60, 50, 40, 30, 20)}, "not reproduced"),
        ("flat", {"trained": (40, 42, 44, 46, 48, 60, 70)}, "not reproduced"),
        ("flat", {"trained": (80, 70, 60, 50, 40, 30, 20)}, "not reproduced"),  # nothing rises
        ("flat", {"trained": (40, 50, 60, 70, 80, 75, 70)}, "partly"),  # a collapse is not flat
        ("flat", {"trained": (40, 50, 60, 70, 80, 79, 78.5)}, "reproduced"),
        ("exception", {"trained": (40, 50, 60, 70, 80, 85, 90)}, "not reproduced"),
        ("exception", {"trained": (40, 50, 60, 70, 80, 80, 80)}, "partly"),
        ("learned", {"untrained": 55.0}, "partly"),
        ("learned", {"untrained": 95.0}, "not reproduced"),
    ],
)
def test_verdicts_can_fail(name, changes, expected):
    assert verdict(name, **changes) == expected


def test_intervals_are_student_s():
    values = [1.0, 2.0, 4.0, 3.0, 2.5]
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx((np.mean(values), *expected))
    assert interval([3.0])[1:] == (-np.inf, np.inf)


def test_tables_and_figures_take_whole_and_empty_records():
    record = made_up()
    rows = figures.table4(record)
    assert rows[3]["15 a class"] == "83.8 ± 0.5" and rows[6]["30 a class"] == "69.0 ± 0.3"
    assert figures.table4(None)[6]["30 a class"] == "not run"
    assert {row["here"] for row in figures.table6(None)} == {"not run"} and len(figures.table6(None)) == 21
    assert figures.untrained_told(record) == "30.0 % (conv1) against 69.0 %"
    assert figures.untrained_told(None) == "no record yet"
    assert [row["x"] for row in figures.table7({"x": record})][:2] == ["40.0 ± 0.3", "50.0 ± 0.3"]
    assert figures.gains({"x, here": record})[0]["x, here"] == "10.0 ± 0.6"
    assert [len(figures.likeness(here).axes) for here in ({"x": record, "y": record}, {})] == [2, 1]
    assert "1: +0.50" in figures.likeness_told(record) and "in none" in figures.likeness_told(record)
    for here in ({"x": record}, {}):
        assert len(figures.layers(here).axes) == 1 + len(here)
    for one in (record, {}):
        assert len(figures.few_shot(one, "made up").axes) == 2


def test_one_size_that_has_not_learned_leaves_the_claim_untested():
    record = made_up()
    record["scratch-15"]["train"] = [30.0, 20.0]
    found = next(c for c in claims.of_chapter("transfer") if c.name == "transfer-pretrained").judge(record)
    assert found.verdict == "not tested" and "25.0 % of their own training images" in found.numbers


def test_the_command_fills_the_tables_of_other_targets(tmp_path, monkeypatch):
    made = {
        "caltech256": made_up(), "voc2012": {"table6": {"mean": 70.0, "average_precision": {"cow": 61.5}}},
    }  # fmt: skip
    assert transfer_claims.of_target("caltech256") is None
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))
    monkeypatch.setattr(studies, "measure", lambda chapter, *_, **__: made[chapter.removeprefix("transfer_")])
    monkeypatch.setattr(weights, "pretrained", lambda *_, **__: trained_on_stripes()[0])
    monkeypatch.setattr(data, "load", lambda *_, **__: stripes())
    shipped = {"weights_sha256": "0"}
    for arch in ("zfnet", "krizhevsky"):
        records.write_json(tmp_path / f"{weights.record_name(arch, 'imagenet20')}.json", shipped)
    for target in made:
        assert main(["transfer", "--target", target, "--scratch", str(tmp_path), "--quiet"]) == 0
    record = transfer_claims.of_target("caltech256")
    assert figures.captioned("Table 5.", record) == "Table 5." != figures.captioned("Table 5.", None)
    row = {row["Caltech-256"]: row for row in figures.table5(record) if row["by"] == "here"}["pretrained, frozen"]
    assert (row["15 a class"], row["60 a class"]) == ("68.0 ± 0.3", "not run")
    cells = {row["class"]: row["here"] for row in figures.table6(transfer_claims.of_target("voc2012"))}
    assert (cells["cow"], cells["mean"], cells["dog"]) == ("61.5", "70.0", "not run")
    by_name = {claim.name: claim.judge({}).verdict for claim in CLAIMS[-2:]}
    assert by_name["transfer-caltech256"] == "reproduced" and by_name["transfer-voc"] == "not reproduced"


def test_the_command_pairs_sources_with_targets(capsys):
    assert main(["transfer", "--target", "novel", "--dataset", "imagenet20"]) == 1
    assert "novel classes go with the diorama" in capsys.readouterr().err


def test_some_classes_are_a_small_pool_with_labels_from_nought():
    labels = torch.arange(60) % 6
    pool = targets.Pool(
        "x", tuple("abcdef"), torch.arange(60).byte().view(60, 1, 1, 1).expand(60, 3, 2, 2), labels, "0"
    )
    found = targets.some_classes(pool, 3, 4)
    assert found.classes == ("a", "c", "f") and found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (found.images[:, 0, 0, 0] % 6).tolist() == [0] * 4 + [2] * 4 + [5] * 4


@pytest.mark.parametrize(("mean", "verdict"), [(79.0, "partly"), (60.0, "not reproduced")])
def test_the_voc_claim_is_judged_by_its_number(tmp_path, monkeypatch, mean, verdict):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))
    claim = next(claim for claim in CLAIMS if claim.name == "transfer-voc")
    assert claim.judge({}).verdict == "not tested"
    records.write_json(tmp_path / "transfer_voc2012" / "imagenet20.json", {"table6": {"mean": mean}})
    assert claim.judge({}).verdict == verdict
