"""The command line: `python -m zfrepro COMMAND --help`."""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from zfrepro.networks import ARCHITECTURES

SCALES: dict[str, dict[str, Any]] = {
    "paper": {"image_size": 224, "width": 1.0, "units": 4096},
    "compact": {"image_size": 128, "width": 1.0, "units": 512},
    "mini": {"image_size": 96, "width": 0.5, "units": 256},
    "micro": {"image_size": 96, "width": 0.25, "units": 256},
}
"""Sizes of everything: the paper's for a GPU, one for an hour or two on two cores, one for minutes, one for sweeps."""

TRAIN_IMAGES = 20_000  # of which the training error is taken: more would only cost time

KEPT_EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)  # of Fig. 4

HELP: dict[str, str] = {
    "arch": "a row of Table 2: " + ", ".join(ARCHITECTURES),
    "dataset": "diorama (drawn, needs nothing), imagenette, imagewoof, imagenet20, imagenet, caltech101",
    "image_size": "side of the network's input in pixels; images are stored at 256/224 of it",
    "width": "convolutions this many times as wide as the paper's",
    "units": "units in each of layers 6 and 7, where the paper has 4096; its 2048 and 8192 keep their proportion",
    "epochs": "passes over the training images",
    "batch": "images a step",
    "lr": "learning rate at the start (plateau) or at its highest (cosine)",
    "momentum": "of SGD",
    "weight_decay": "the paper mentions none; Krizhevsky used 5e-4",
    "dropout": "of layers 6 and 7",
    "clip": "largest RMS of a conv filter, checked after every step; 0 clips none",
    "crops": "ten (the paper's ten fixed views), random (Krizhevsky's) or resized (random size and aspect)",
    "area": "smallest share of the image that a resized crop covers",
    "init": "paper (Gaussian 0.01), modern (0.01 in the first layer, He's rule above) or clean (0.002 there)",
    "input_scale": "inputs are divided by it; 1 keeps the paper's [-128, 128]",
    "schedule": "plateau (rate falls tenfold when the validation error stalls) or cosine",
    "patience": "epochs without a better validation error before the plateau schedule acts",
    "warmup": "epochs of rising rate before the cosine",
    "label_smoothing": "share of the target spread over all classes",
    "ema": "decay a step of the averaged weights that are evaluated and shipped; 0 for none",
    "precision": "fp32, or bf16, which is fp32 on a CPU that is slow at bf16",
    "seed": "of the weights, the order of the images, the crops and dropout",
}

SKIP_DAMAGED: dict[str, Any] = {
    "action": "store_true",
    "default": None,
    "help": "leave out photographs that cannot be decoded, and say which (default: if $ZFREPRO_SKIP_DAMAGED is set)",
}


def recipe_of(options: argparse.Namespace):
    """The `Recipe` of parsed options: the paper's, changed by --recipe, then by --scale, then by single options."""
    from zfrepro.training import MODERN, Recipe

    chosen = dict(MODERN) if options.recipe == "modern" else {}
    chosen |= SCALES[options.scale] if options.scale else {}
    chosen |= {f.name: getattr(options, f.name) for f in fields(Recipe) if getattr(options, f.name) is not None}
    return Recipe(**chosen)


def command_of(recipe) -> str:
    """The shortest command that makes this recipe again."""
    from zfrepro.training import MODERN, Recipe

    def left(base: dict[str, Any]) -> list[str]:
        merged = {f.name: f.default for f in fields(Recipe)} | base
        return [f"--{n.replace('_', '-')} {getattr(recipe, n)}" for n, v in merged.items() if getattr(recipe, n) != v]

    choices = []
    for kind, modern in (("", {}), ("--recipe modern ", MODERN)):
        for scale, sizes in (("", {}), *((f"--scale {name} ", sizes) for name, sizes in SCALES.items())):
            choices.append(f"python -m zfrepro train {kind}{scale}" + " ".join(left(modern | sizes)))
    return min(choices, key=lambda text: len(text.split())).strip()


def scale_of(recipe) -> str:
    """`paper`, `compact` or `mini`, or `own` for sizes that are none of these."""
    for name, sizes in SCALES.items():
        if all(getattr(recipe, k) == v for k, v in sizes.items()):
            return name
    return "own"


@contextlib.contextmanager
def sole_owner(folder: Path, wait: bool = False, option: str = "--out") -> Iterator[None]:
    """Hold `folder` for one process; the lock goes when the process does, however it ends.

    Of several that train together, the first holds it for all.

    Args:
        wait: for another owner to end, instead of refusing.
        option: that chooses the folder.
    Raises:
        RuntimeError: another process holds it.
    """
    if int(os.environ.get("RANK", "0")):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            said = f"{folder}: another run is writing here; wait for it or choose another {option}"
            raise RuntimeError(said) from None
        yield


def cmd_table(options: argparse.Namespace) -> None:
    from zfrepro.networks import architecture
    from zfrepro.receptive_field import format_table

    chosen = architecture(options.arch, width=options.width, units=options.units)
    print(format_table(chosen, options.image_size, options.classes))


def cmd_data(options: argparse.Namespace) -> None:
    from zfrepro import data
    from zfrepro.data import photos

    if options.download:
        root = options.data or os.environ.get("ZFREPRO_DATA")
        if not root:
            raise ValueError("--download needs --data (or ZFREPRO_DATA), the folder to put the photographs in")
        print(f"{options.name} is in {photos.download(options.name, Path(root).expanduser())}")
    found = data.load(options.name, options.image_size, root=options.data, skip_damaged=options.skip_damaged)
    for part in ("train", "val"):
        split = getattr(found, part)
        shape = tuple(split.images.shape[1:])
        print(f"{found.name} {part}: {len(split):,} images of {shape}, {len(found.classes)} classes")
    print(f"fingerprint {found.fingerprint}; kept in {data.cache_root()}")


def cmd_train(options: argparse.Namespace) -> None:
    from zfrepro import data, device, distributed, records, training, weights
    from zfrepro.receptive_field import multiply_adds

    recipe = recipe_of(options)
    where = device.pick(options.device)
    kept = KEPT_EPOCHS if options.keep == [] else options.keep or ()
    out = Path(options.out or f"runs/{recipe.dataset}-{recipe.arch}-seed{recipe.seed}")
    with sole_owner(out, options.wait):
        with distributed.group(where):
            first, processes = not distributed.rank(), distributed.count()
            if first:
                records.remove_partial(out)
            with distributed.first_alone(where):
                dataset = data.load(
                    recipe.dataset, recipe.image_size, root=options.data, progress=first and not options.quiet,
                    skip_damaged=options.skip_damaged,
                )  # fmt: skip
            origin = records.provenance(command_of(recipe) + (" --skip-damaged" if dataset.skipped else ""))
            origin |= _of_finished(out, recipe, dataset.fingerprint)

            def keep(state, mean) -> None:
                epoch = len(state.history)
                if kept and (epoch in kept or epoch == recipe.epochs):
                    weights.save_weights(
                        out / f"epoch-{epoch:03}.safetensors", training.evaluated(recipe, state, where), recipe,
                        dataset.classes, mean,
                        data=dataset.fingerprint, epoch=epoch, **origin,
                    )  # fmt: skip

            state, mean = training.train(
                recipe, dataset, out, device=where, progress=not options.quiet, after_epoch=keep,
                compiled=options.compile,
            )  # fmt: skip
        if not first:
            return
        network = training.evaluated(recipe, state, where)
        sha = weights.save_weights(
            out / "weights.safetensors", network, recipe, dataset.classes, mean, data=dataset.fingerprint, **origin
        )
        print("evaluating the weights as written")
        record = {
            "kind": "training",
            "scale": scale_of(recipe),
            **origin,
            "device": device.describe(where),
            "precision": device.precision(where, recipe.precision),
            "processes": processes,
            "recipe": vars(recipe),
            "dataset": {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "train": len(dataset.train),
                "val": len(dataset.val),
                **({"skipped": list(dataset.skipped)} if dataset.skipped else {}),
            },
            "parameters": sum(p.numel() for p in network.parameters()),
            "multiply_adds": multiply_adds(recipe.architecture(), recipe.image_size, len(dataset.classes)),
            "weights_sha256": sha,
            "seconds": sum(row["seconds"] for row in state.history),
            "errors": evaluation(
                [weights.load_weights(out / "weights.safetensors", device=where)], dataset, not options.quiet, out
            ),
            "history": state.history,
        }
        records.write_json(out / "record.json", record)
    print_errors(record["errors"])
    print(f"wrote {out}/weights.safetensors and record.json; `python -m zfrepro ship {out}` puts them into results/")


def _of_finished(out: Path, recipe, fingerprint: str) -> dict[str, Any]:
    """Who made a run that is whole already, and is only evaluated again; empty for any other."""
    from zfrepro import records, training

    file, checkpoint = out / "record.json", out / "checkpoint.safetensors"
    if not file.is_file() or not checkpoint.is_file():
        return {}
    if len(training.checkpoint_info(checkpoint)["history"]) < recipe.epochs:
        return {}
    earlier, made = records.read_json(file), ("command", "commit", "versions", "date")
    same = earlier.get("recipe") == vars(recipe) and earlier.get("dataset", {}).get("fingerprint") == fingerprint
    return {key: earlier[key] for key in made} if same and set(made) <= set(earlier) else {}


def evaluation(networks, dataset, progress: bool, folder: Path | None = None) -> dict[str, dict[str, float]]:
    """Top-1 and top-5 errors in per cent, in fp32, of a network, or of several whose probabilities are averaged: on the
    validation split at one crop and averaged over ten, and at one crop on the training split or, of a large one, on a
    random part. With a folder, the probabilities behind the validation errors are kept there, see `ensembles`."""
    from zfrepro import ensembles, training

    def probabilities(images, ten: bool = False):
        found = (network.probabilities(images, ten=ten, progress=progress) for network in networks)
        return sum(found) / len(networks)

    part = dataset.train.shuffled(TRAIN_IMAGES)
    found = {"train": training.errors(probabilities(part.images), part.labels)}
    views = {"one_crop": probabilities(dataset.val.images), "ten_crops": probabilities(dataset.val.images, ten=True)}
    if folder:
        ensembles.keep(folder, views, dataset.val.labels)
    return found | {name: training.errors(values, dataset.val.labels) for name, values in views.items()}


def print_errors(errors: dict[str, dict[str, float]]) -> None:
    for name, values in errors.items():
        top1, top5 = values["top1_error"], values["top5_error"]
        print(f"{name.replace('_', ' '):9}  top-1 error {top1:5.2f} %   top-5 error {top5:5.2f} %")


def cmd_eval(options: argparse.Namespace) -> None:
    from zfrepro import data, device, weights

    where = device.pick(options.device)
    networks = [weights.load_weights(file, device=where) for file in options.weights]
    recipe = networks[0].recipe
    dataset = data.load(
        options.dataset or recipe.dataset, recipe.image_size, root=options.data, skip_damaged=options.skip_damaged
    )
    for file, network in zip(options.weights, networks, strict=True):
        if dataset.classes != network.classes:
            raise ValueError(f"{file} knows other classes than {dataset.name}; name the data set it was trained on")
        if network.recipe.image_size != recipe.image_size:
            raise ValueError(f"{file} sees {network.recipe.image_size} px, {options.weights[0]} {recipe.image_size} px")
    print(f"{dataset.name}, {len(dataset.val):,} validation images at {recipe.image_size} px")
    print_errors(evaluation(networks, dataset, True))


def _finished(run: Path) -> dict[str, Any]:
    """The record of a finished training in its folder."""
    from book import status
    from zfrepro import records

    file = run / "record.json"
    if not file.is_file():
        raise FileNotFoundError(f"{run}: no record.json there; give the --out folder of a finished `train`")
    record = records.read_json(file)
    needed = (*status.KEYS["training"], "weights_sha256")
    if record.get("kind") != "training" or any(key not in record for key in needed):
        raise ValueError(f"{file}: not the record of a training; give the --out folder of a `train`")
    return record


def _shipped_name(record: dict[str, Any], numbers_only: bool) -> str:
    """Where a run is filed below results/: as the network that the book shows, or by its seed."""
    recipe = record["recipe"]
    name = f"{recipe['dataset']}-{recipe['arch']}"
    return f"runs/{name}-{record['scale']}-seed{recipe['seed']}" if numbers_only else f"networks/{name}"


def cmd_ship(options: argparse.Namespace) -> None:
    from zfrepro import device, records, weights

    made: dict[Path, tuple[Path, dict[str, Any]]] = {}
    for run in map(Path, options.runs):
        record = _finished(run)
        target = records.results_root() / f"{_shipped_name(record, options.numbers_only)}.json"
        if target in made:
            raise ValueError(f"{made[target][0]} and {run} would both become {target}; ship one of them")
        made[target] = run, record
    for target, (run, record) in made.items():
        if not options.numbers_only:
            trained = run / "weights.safetensors"
            weights.load_weights(trained, expected_sha256=record["weights_sha256"], device=device.pick("cpu"))
            records.write_atomically(target.with_suffix(".safetensors"), trained.read_bytes())
        records.write_json(target, record)
        print(f"wrote {target}")


def cmd_measure(options: argparse.Namespace) -> None:
    from zfrepro import data, device, records, weights
    from zfrepro import measure as studies

    if options.chapter not in measurements():
        raise ValueError(f"no measurement called {options.chapter!r}; there are: {', '.join(measurements())}")
    where = device.pick(options.device)
    world = options.dataset or data.default_name()
    networks, hashes = {}, {}
    for arch in ("zfnet", "krizhevsky"):
        networks[arch] = weights.pretrained(arch, world, device=where)
        hashes[arch] = records.read(weights.record_name(arch, world))["weights_sha256"]
    size = networks["zfnet"].recipe.image_size
    dataset = data.load(world, size, root=options.data, progress=not options.quiet)
    if dataset.classes != networks["zfnet"].classes:
        raise ValueError(
            f"{world} has {len(dataset.classes)} classes, its networks know {len(networks['zfnet'].classes)}; "
            "measure on the data set they were trained on"
        )
    study = studies.Study(
        dataset, networks, where,
        images=options.images, seed=options.seed, root=Path(options.data) if options.data else None,
        progress=not options.quiet, hashes=hashes, runs=tuple(Path(run) for run in options.runs),
    )  # fmt: skip
    command = f"python -m zfrepro measure {options.chapter} --dataset {world}"
    command += f" --images {options.images}" if options.images else ""
    command += f" --seed {options.seed}" if options.seed else ""
    command += " ".join([" --runs", *map(_told, options.runs)]) if options.runs else ""
    command += " --only " + shlex.join(options.only) if options.only else ""
    scratch, target = Path(options.scratch), records.results_root() / options.chapter / f"{world}.json"
    with sole_owner(scratch / f"{options.chapter}-{world}", option="--scratch"):
        if options.only:
            studies.refuse_other(records.read_json(target), studies.record(options.chapter, study, {}, command))
        found = studies.measure(options.chapter, study, scratch, only=options.only, fresh=options.fresh)
        record = studies.record(options.chapter, study, found, command)
        if options.only:  # read again, for other parts may have been measured meanwhile
            record = studies.added(records.read_json(target), record, found)
        records.write_json(target, record)
    print(f"wrote {target}")


def _told(run: str) -> str:
    """A run's folder as a record names it: below `runs`, wherever that is."""
    parts = Path(run).parts
    below = parts[len(parts) - parts[::-1].index("runs") :] if "runs" in parts[:-1] else parts[-1:]
    return "/".join(("runs", *below))


def cmd_sweep(options: argparse.Namespace) -> None:
    from zfrepro import data, records, sweeps

    world = options.dataset or data.default_name()
    seeds = range(options.seeds) if options.seeds else None
    chosen = sweeps.recipes(options.sweep, world, seeds, options.scale, options.epochs, options.networks)
    data.load(world, chosen[0].image_size, root=options.data)  # decoded once, before the runs ask for it all at once
    words = ["--data", options.data] if options.data else []
    words += ["--device", options.device] if options.device else []
    budget = f"-{options.epochs}epochs" if options.epochs else ""
    folder = Path(options.scratch) / f"{options.sweep}-{options.scale}{budget}"
    with sole_owner(folder, option="--scratch"):
        target = records.results_root() / f"{sweeps.record_name(options.sweep, world, options.scale)}.json"
        sweeps.run(
            options.sweep, chosen, folder, target, jobs=options.jobs, options=words, device=options.device,
            fresh=options.fresh, say=lambda text: print(text, flush=True),
        )  # fmt: skip
    print(f"wrote {target}")


def cmd_transfer(options: argparse.Namespace) -> None:
    own = ("novel", "caltech101")  # what the study `transfer` measures by itself, from the diorama and from photographs
    chapter = "transfer" if options.target in own else f"transfer_{options.target}"
    world = options.dataset or ("diorama" if options.target == "novel" else "imagenet20")
    if (options.target == "novel") != (world == "diorama"):
        raise ValueError(f"{world} to {options.target}: novel classes go with the diorama, the others with photographs")
    words = ["measure", chapter, "--dataset", world, "--scratch", options.scratch]
    words += ["--data", options.data] if options.data else []
    words += ["--quiet"] if options.quiet else []
    cmd_measure(parser().parse_args(words))


def positive(text: str) -> int:
    """A whole number above 0, for options that count."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def parser() -> argparse.ArgumentParser:
    from zfrepro.sweeps import SWEEPS
    from zfrepro.training import MODERN, Recipe

    top = argparse.ArgumentParser(
        prog="python -m zfrepro",
        description="Train, evaluate and describe the networks of Zeiler & Fergus (2014).",
        epilog="Start with: python -m zfrepro table; python -m zfrepro train --scale mini --recipe modern",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run, text: str, epilog: str = "") -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, epilog=epilog)
        found.set_defaults(run=run)
        return found

    table = add("table", cmd_table, "Print layers, sizes, parameters and receptive fields of a network.")
    table.add_argument("--arch", default="zfnet", help=HELP["arch"] + " (default: %(default)s)")
    table.add_argument("--image-size", type=int, default=224, help=HELP["image_size"] + " (default: %(default)s)")
    table.add_argument("--classes", type=positive, default=1000, help="number of classes (default: %(default)s)")
    table.add_argument("--width", type=float, default=1.0, help=HELP["width"] + " (default: %(default)s)")
    table.add_argument("--units", type=int, default=4096, help=HELP["units"] + " (default: %(default)s)")

    found = add("data", cmd_data, "Check that a data set is there, decode or draw it into the cache, and describe it.")
    found.add_argument("name", help=HELP["dataset"])
    found.add_argument("--data", help="folder of the photographs; default $ZFREPRO_DATA")
    found.add_argument("--image-size", type=int, default=128, help=HELP["image_size"] + " (default: %(default)s)")
    found.add_argument(
        "--download", action="store_true", help="fetch it first, where torchvision knows how (imagenette)"
    )
    found.add_argument("--skip-damaged", **SKIP_DAMAGED)

    train = add(
        "train", cmd_train, "Train a network; the defaults are the paper's recipe at the paper's size.",
        "A killed run continues when the same command is given again. Example, an hour on two cores: "
        "python -m zfrepro train --recipe modern --scale compact --dataset imagenet20 --data DIR",
    )  # fmt: skip
    train.add_argument(
        "--recipe", choices=("paper", "modern"), default="paper",
        help="modern suits small data sets (default: %(default)s)",
    )  # fmt: skip
    train.add_argument("--scale", choices=tuple(SCALES), help="image size, width and units at once")
    train.add_argument("--data", help="folder of the photographs; default $ZFREPRO_DATA")
    train.add_argument("--out", help="folder of checkpoint, weights and record; default runs/DATASET-ARCH-seedN")
    train.add_argument("--device", help="cpu or cuda; default, a GPU if there is one")
    train.add_argument(
        "--keep", type=int, nargs="*", metavar="EPOCH",
        help="also keep the weights after these epochs and the last, as epoch-NNN.safetensors "
        f"(--keep alone: {' '.join(map(str, KEPT_EPOCHS))}, those of Fig. 4)",
    )  # fmt: skip
    train.add_argument(
        "--compile", action="store_true", help="let torch compile the network: worth its minute on a GPU, in long runs"
    )
    train.add_argument(
        "--wait", action="store_true", help="if another run writes into --out, wait for its end and go on from there"
    )
    train.add_argument("--skip-damaged", **SKIP_DAMAGED)
    train.add_argument("--quiet", action="store_true", help="a line an epoch and no progress bars")
    for f in fields(Recipe):
        modern = f", modern: {MODERN[f.name]}" if f.name in MODERN else ""
        train.add_argument(
            f"--{f.name.replace('_', '-')}",
            type=type(f.default),
            default=None,  # None says that it was not given: --recipe and --scale may set it then
            help=f"{HELP[f.name]} (default: {f.default}{modern})",
        )

    ev = add("eval", cmd_eval, "Top-1 and top-5 error of trained weights at one crop and at ten.")
    ev.add_argument("weights", nargs="+", help="a .safetensors file; of several, the mean of their probabilities")
    ev.add_argument("--dataset", help="default, the one the network was trained on")
    ev.add_argument("--data", help="folder of the photographs; default $ZFREPRO_DATA")
    ev.add_argument("--skip-damaged", **SKIP_DAMAGED)
    ev.add_argument("--device", help="cpu or cuda; default, a GPU if there is one")

    ship = add("ship", cmd_ship, "Copy weights and records of finished runs into results/, where the book reads them.")
    ship.add_argument("runs", nargs="+", help="folders that `train` wrote")
    ship.add_argument(
        "--numbers-only", action="store_true",
        help="only the record, filed by seed, for spreads (default: the weights too, as the network the book shows)",
    )  # fmt: skip

    measure = add(
        "measure", cmd_measure, "Measure what a chapter reports and file it in results/CHAPTER/DATASET.json.",
        "A killed measurement continues when the same command is given again.",
    )  # fmt: skip
    measure.add_argument("chapter", help="which chapter's measurement: " + ", ".join(measurements()))
    measure.add_argument("--dataset", help="default $ZFREPRO_DATASET, else diorama")
    measure.add_argument("--data", help="folder of the photographs; default $ZFREPRO_DATA")
    measure.add_argument("--images", type=positive, help="how many images to use (default: what the chapter reports)")
    measure.add_argument("--seed", type=int, default=0, help="of everything drawn at random (default: %(default)s)")
    measure.add_argument(
        "--runs",
        nargs="+",
        default=[],
        help="finished runs: of `train --keep` for evolution, of `sweep` for ablation and architecture",
    )
    measure.add_argument(
        "--only", nargs="+", default=[], metavar="PART",
        help="measure these parts alone, and put them into the record that is there",
    )  # fmt: skip
    measure.add_argument("--scratch", default="runs/measure", help="folder of partial results (default: %(default)s)")
    measure.add_argument("--fresh", action="store_true", help="measure again what is kept from an earlier run")
    measure.add_argument("--device", help="cpu or cuda; default, a GPU if there is one")
    measure.add_argument("--quiet", action="store_true", help="a line a part and no progress bars")

    for name, text in (
        ("sweep", "Train networks that differ in one thing, with equal budgets, and file every run."),
        ("ablate", "Train the twelve networks of Table 2 with equal budgets: short for `sweep ablation`."),
    ):
        sweep = add(name, cmd_sweep, text, "A killed sweep continues when the same command is given again.")
        if name == "sweep":
            sweep.add_argument("sweep", choices=tuple(SWEEPS), help="which networks: those of Table 2, Fig. 6, Table 1")
        else:
            sweep.set_defaults(sweep="ablation")
        sweep.add_argument("--dataset", help="default $ZFREPRO_DATASET, else diorama")
        sweep.add_argument("--data", help="folder of the photographs; default $ZFREPRO_DATA")
        sweep.add_argument("--seeds", type=positive, help="runs of each network (default: 3, for training 5)")
        sweep.add_argument("--networks", nargs="+", metavar="NAME", help="only these of the sweep's networks")
        sweep.add_argument(
            "--scale", choices=tuple(SCALES), default="micro", help="size of all of them (default: %(default)s)"
        )
        sweep.add_argument("--epochs", type=positive, help="passes over the training images (default: a small budget)")
        sweep.add_argument("--jobs", type=positive, default=1, help="runs at the same time (default: %(default)s)")
        sweep.add_argument("--scratch", default="runs", help="folder of the runs' folders (default: %(default)s)")
        sweep.add_argument("--fresh", action="store_true", help="begin a new record, for another scale or budget")
        sweep.add_argument("--device", help="cpu or cuda; default, a GPU if there is one")

    transfer = add(
        "transfer", cmd_transfer, "Measure a network's layers on another data set (Tables 4 to 7, Fig. 9).",
        "Short for `measure transfer`, or `measure transfer_TARGET`. Example: "
        "python -m zfrepro transfer --target caltech101 --data DIR",
    )  # fmt: skip
    transfer.add_argument(
        "--target", choices=("caltech101", "caltech256", "voc2012", "novel"), default="caltech101",
        help="novel: drawn classes that the diorama's networks have not seen (default: %(default)s)",
    )  # fmt: skip
    transfer.add_argument("--dataset", help="what the networks learned from (default: imagenet20; for novel, diorama)")
    transfer.add_argument("--data", help="folder of the photographs; default $ZFREPRO_DATA")
    transfer.add_argument("--scratch", default="runs/measure", help="folder of partial results (default: %(default)s)")
    transfer.add_argument("--quiet", action="store_true", help="a line a part and no progress bars")
    return top


def measurements() -> list[str]:
    """Names of the chapters that can be measured, without importing torch: `--help` must be quick."""
    chapters = Path(__file__).parents[1] / "book"
    targets = (f"transfer_{name}" for name in ("caltech256", "voc2012"))
    return sorted((*(file.parent.name for file in chapters.glob("*/measure.py")), *targets))


def main(arguments: list[str] | None = None) -> int:
    """Run a command; a foreseen failure is one line on standard error and exit code 1."""
    from zfrepro import device
    from zfrepro.data import DataError
    from zfrepro.sweeps import SweepError
    from zfrepro.training import CheckpointError
    from zfrepro.weights import WeightsError

    device.keep_freed_memory()
    own = (CheckpointError, DataError, SweepError, WeightsError)
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        return 0
    except KeyboardInterrupt:
        code, message = 130, "stopped; give the same command again to continue"
    except (*own, FloatingPointError, OSError, RuntimeError, ValueError) as error:
        code, message = 1, f"zfrepro {options.command}: {' '.join(str(error).split())}"
    print(message, file=sys.stderr)  # the exception is gone by now, and progress bars that it kept open are closed
    return code
