"""Training learns, and stops with a clear word when it cannot go on; that it resumes bit for bit
is in `test_survival`."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import top_k_accuracy_score

from tests.datasets import stripes, tiny
from zfrepro import device, training
from zfrepro.data.transforms import mean_image, ten_crops
from zfrepro.tensors import load_tensors, save_tensors
from zfrepro.training import (
    CheckpointError,
    Recipe,
    State,
    errors,
    learning_rate,
    predict_proba,
    start,
    train,
    train_epoch,
)

CPU = torch.device("cpu")
WORLD = stripes()


def quiet(*_, **__) -> None:
    pass


def run(recipe: Recipe, out, dataset=WORLD, **options):
    return train(recipe, dataset, out, device=CPU, progress=False, say=quiet, **options)


# --- learning ------------------------------------------------------------------------------------


def test_loss_falls_and_the_made_up_world_is_learnt(tmp_path):
    recipe = tiny(epochs=5, dropout=0.0, lr=0.05)
    state, mean = run(recipe, tmp_path)
    assert state.history[-1]["loss"] < 0.5 * state.history[0]["loss"]
    assert state.history[-1]["val_top1_error"] < 20 and state.history[-1]["train_error"] < 40
    assert torch.equal(mean, mean_image(WORLD.train.images))


@pytest.mark.parametrize("fast", [True, False])
def test_an_epoch_of_bf16_is_close_to_one_of_fp32_and_is_one_where_bf16_is_slow(fast, monkeypatch):
    monkeypatch.setattr(device, "fast_bf16", lambda where: fast)
    losses = []
    for precision in ("fp32", "bf16"):
        recipe = tiny(precision=precision, dropout=0.0)
        state = start(recipe, 3, CPU)
        row = train_epoch(recipe, state, WORLD.train, mean_image(WORLD.train.images), 0, False)
        losses.append(row["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert (losses[0] != losses[1]) == fast


@pytest.mark.parametrize(
    ("model", "amx", "fast"),
    [("AMD EPYC", False, True), ("Intel Xeon", True, True), ("Intel Xeon", False, False)],
)
def test_bf16_is_used_where_the_processor_has_more_of_it_a_cycle(monkeypatch, model, amx, fast):
    monkeypatch.setattr(device, "cpu_model", lambda: model)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert device.fast_bf16(CPU) == fast


def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    """By the compiler's graphs, without the machine code that a compiler of the system would be
    needed for.
    """
    compiled = []

    def traced(network, **options):
        compiled.append(network)
        return torch._dynamo.optimize("aot_eager", **options)(network)

    monkeypatch.setattr(torch, "compile", traced)
    recipe = tiny(epochs=1, precision="fp32")
    plain, _ = run(recipe, tmp_path / "plain")
    state, _ = run(recipe, tmp_path / "compiled", compiled=True)
    assert compiled == [state.network]
    for a, b in zip(state.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_filters_stay_within_the_radius_and_reach_it():
    def largest(clip: float) -> float:
        recipe = tiny(clip=clip)
        state = start(recipe, 3, CPU)
        with torch.no_grad():
            state.network.convs["conv1"].weight.mul_(20)
        train_epoch(recipe, state, WORLD.train, mean_image(WORLD.train.images), 0, False)
        filters = [c.weight.square().mean((1, 2, 3)).sqrt() for c in state.network.convs.values()]
        return torch.cat(filters).max().item()

    assert largest(0.03) == pytest.approx(0.03, rel=1e-5)
    assert largest(0.0) > 0.15  # 0 leaves them alone


def test_the_average_follows_the_weights():
    """By hand: the decay is (1 + t) / (10 + t) until it reaches the recipe's."""
    average, recipe = 0.0, tiny(ema=0.9)
    weights, averaged = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    averaged.weight.data.zero_()
    state = State(weights, None, averaged, [], 0)
    for step, weight in enumerate([1.0, 3.0, -2.0]):
        state.network.weight.data.fill_(weight)
        training._update_average(recipe, state, step)
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert averaged.weight.item() == pytest.approx(average)


# --- stop and go on ------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    run(tiny(epochs=1, ema=0.9), tmp_path)
    return tmp_path / training.CHECKPOINT_FILE


def test_loaded_tensors_keep_the_layout_that_makes_them_fast(checkpoint):
    state, _ = training.load_checkpoint(checkpoint, tiny(epochs=1, ema=0.9), CPU)
    weight = state.network.convs["conv2"].weight
    momentum = state.optimiser.state[weight]["momentum_buffer"]
    for tensor in (weight, momentum, state.average.convs["conv2"].weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def refused(checkpoint, dataset=WORLD) -> str:
    before = checkpoint.read_bytes()
    with pytest.raises(CheckpointError) as error:
        run(tiny(epochs=1, ema=0.9), checkpoint.parent, dataset)
    assert checkpoint.read_bytes() == before  # it may be someone's only copy
    text = str(error.value)
    assert str(checkpoint) in text and "\n" not in text
    return text


@pytest.mark.parametrize(
    "damage", ["truncated", "foreign", "weights", "tensor", "average", "momentum"]
)
def test_a_damaged_or_foreign_checkpoint_is_refused(checkpoint, damage):
    tensors, info = load_tensors(checkpoint)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # not views of the file
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    if damage == "foreign":
        save_file({"a": torch.zeros(2)}, checkpoint)
    if damage == "weights":  # the other kind of file this package writes
        save_tensors(checkpoint, tensors, recipe=info["recipe"], classes=["a", "b", "c"])
    if damage == "tensor":
        tensors["network.convs.conv2.weight"] = torch.zeros(3, 3)
        save_tensors(checkpoint, tensors, **info)
    if damage in ("average", "momentum"):
        del tensors[f"{damage}.fulls.fc8.bias"]
        save_tensors(checkpoint, tensors, **info)
    assert "remove it to start anew" in refused(checkpoint)


def test_a_checkpoint_of_other_data_is_refused(checkpoint):
    assert "than its 4 classes" in refused(checkpoint, dataset=stripes(classes=4))
    others = replace(WORLD, fingerprint="of other images")
    assert "other images than those of made-up here" in refused(checkpoint, dataset=others)


@pytest.mark.parametrize("broken", [8, 12])  # the second and the last step of the second epoch
def test_divergence_stops_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, broken):
    recipe, step, calls = tiny(epochs=3), torch.optim.SGD.step, []

    def diverging_step(optimiser, *arguments):
        step(optimiser, *arguments)
        calls.append(1)
        if len(calls) == broken:
            optimiser.param_groups[0]["params"][0].data.fill_(math.inf)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", diverging_step)
        told = "^epoch 2.*lower --lr .now 0.02.*checkpoint is untouched.$"
        with pytest.raises(FloatingPointError, match=told):
            run(recipe, tmp_path)
    state, _ = training.load_checkpoint(tmp_path / training.CHECKPOINT_FILE, recipe, CPU)
    assert len(state.history) == 1 and all(p.isfinite().all() for p in state.network.parameters())
    state, _ = run(recipe, tmp_path)
    assert len(state.history) == 3


# --- recipe and schedule -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"crops": "five"}, {"arch": "alexnet"}, {"lr": 0.0}, {"lr": math.nan}, {"epochs": 2.5},
        {"momentum": 1.0}, {"dropout": -0.1}, {"area": 1.1}, {"clip": -1.0}, {"image_size": 16},
        {"weight_decay": 1e30}, {"seed": 10**25}, {"units": 10**13},
    ],
    ids=str,
)  # fmt: skip
def test_a_recipe_refuses_what_cannot_work(wrong):
    with pytest.raises(ValueError) as error:
        tiny(**wrong)
    (value,) = wrong.values()
    assert str(value) in str(error.value) and "\n" not in str(error.value)


def test_the_cosine_schedule_and_that_it_reaches_the_optimiser():
    recipe = tiny(schedule="cosine", lr=0.4, warmup=2.0, epochs=12)
    state = start(recipe, 3, CPU)
    rates = [learning_rate(recipe, state, epoch / 10) for epoch in range(121)]
    assert 0 < rates[0] < 1e-3 and rates[10] == pytest.approx(0.2, rel=0.01)
    assert max(rates) == pytest.approx(0.4, rel=1e-3) and rates.index(max(rates)) in (19, 20)
    assert all(a < b for a, b in zip(rates[:19], rates[1:20], strict=True))
    assert all(a > b for a, b in zip(rates[20:-1], rates[21:], strict=True))
    assert rates[70] == pytest.approx(0.2) and rates[-1] == pytest.approx(0, abs=1e-9)
    recipe = tiny(schedule="cosine", warmup=0.0, epochs=1)
    train_epoch(recipe, state, WORLD.train, mean_image(WORLD.train.images), 0, False)
    assert state.optimiser.param_groups[0]["lr"] == learning_rate(recipe, state, 5 / 6)


def test_plateau_schedule(tmp_path, monkeypatch):
    stream = iter([50.0, 40.0, 41.0, 40.0, 39.0, 45.0, 45.0, 45.0])
    monkeypatch.setattr(
        training, "evaluate", lambda *_: {"top1_error": next(stream), "top5_error": 0.0}
    )
    monkeypatch.setattr(training, "save_checkpoint", lambda *_: None)
    seen = []

    def pretend(recipe, state, *_):
        seen.append(learning_rate(recipe, state, 0))
        return {"loss": 1.0, "train_error": 1.0}

    monkeypatch.setattr(training, "train_epoch", pretend)
    run(tiny(epochs=8, lr=1.0, patience=1), tmp_path)
    # Two epochs in a row without a new best (41, 40) cost a factor of ten, and so do the next two
    # (45, 45).
    assert seen == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, classes", [(500, 20), (1, 1000)])
def test_errors_equal_sklearn(count, classes):
    generator = torch.Generator().manual_seed(count)
    probabilities = torch.rand(count, classes, generator=generator).softmax(1)
    labels = torch.randint(classes, (count,), generator=generator)
    measured = errors(probabilities, labels)
    for k in (1, 5):
        options = {"k": k, "labels": np.arange(classes)}
        share = top_k_accuracy_score(labels.numpy(), probabilities.numpy(), **options)
        assert measured[f"top{k}_error"] == pytest.approx(100 * (1 - share), abs=1e-9)


def test_scores_at_the_centre_and_over_ten_crops_equal_a_loop():
    recipe = tiny()
    network, mean = start(recipe, 3, CPU).network.eval(), mean_image(WORLD.train.images)
    images = WORLD.val.images[:5]
    more = {"scale": 64.0, "image_size": 64}
    one = predict_proba(network, images, mean, **more)
    ten = predict_proba(network, images, mean, ten=True, batch=2, **more)
    assert one.shape == ten.shape == (5, 3) and torch.allclose(ten.sum(1), torch.ones(5))
    network.train()
    again = predict_proba(network, images, mean, batch=3, **more)  # and without dropout
    assert torch.allclose(again, one, atol=1e-6)
    network.eval()
    with torch.no_grad():
        for i, image in enumerate(images):
            x = (image.float() - mean)[None] / 64
            offset = (73 - 64) // 2
            centre = network(x[:, :, offset : offset + 64, offset : offset + 64]).softmax(1)
            assert torch.allclose(one[i], centre[0], atol=1e-5)
            views = [network(view).softmax(1) for view in ten_crops(x, 64)]
            assert torch.allclose(ten[i], sum(views)[0] / 10, atol=1e-5)
    assert not torch.allclose(one, ten, atol=1e-7)
