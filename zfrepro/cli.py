"""Read the command line: each command is a dataclass, its fields are the options."""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import torch
import tyro
from filelock import FileLock, Timeout
from torch import Tensor
from tyro.conf import OmitArgPrefixes, Positional

from zfrepro import claims, data, device, distributed, records, training, weights
from zfrepro.networks import ARCHITECTURES
from zfrepro.tensors import brief, save_tensors
from zfrepro.training import MODERN, SCALES, Recipe, command_of

RECORD = "record.json"  # in the folder of a run, written last
TRAIN_IMAGES = 20_000  # of which the training error is taken: more would only cost time


def _option(kind: Any, help: str) -> Any:
    return Annotated[kind, tyro.conf.arg(help=help)]


DataFolder = _option(str | None, "Folder that holds the photographs; by default $ZFREPRO_DATA.")
Device = _option(str | None, "cpu or cuda; by default a GPU if there is one.")
SkipDamaged = _option(
    bool,
    "Leave out photographs that cannot be decoded, and name them; also if "
    "$ZFREPRO_SKIP_DAMAGED is set.",
)


@dataclass
class Table:
    """Print layers, sizes, parameters and receptive fields of a network."""

    arch: str = "zfnet"
    """Row of Table 2; `--arch list` prints their names."""
    image_size: int = 224
    """Side of the input in pixels."""
    classes: int = 1000
    """Number of classes."""
    width: float = 1.0
    """Convolutions this many times as wide as the paper's."""
    units: int = 4096
    """Units in each of layers 6 and 7."""

    def run(self) -> None:
        from zfrepro.receptive_field import format_table

        if self.arch == "list":
            print("\n".join(ARCHITECTURES))
            return
        require_positive(classes=self.classes)
        recipe = Recipe(
            arch=self.arch, image_size=self.image_size, width=self.width, units=self.units
        )
        print(format_table(recipe.architecture(), self.image_size, self.classes))


@dataclass
class Data:
    """Check that a data set is there, decode or draw it into the cache, and describe it."""

    name: Positional[str]
    """diorama (drawn, needs nothing), imagenette, imagewoof, imagenet20, imagenet, caltech101, or
    the path of a folder with train/CLASS/ and val/CLASS/.
    """
    data: DataFolder = None
    image_size: int = 128
    """Side of a network's input in pixels; images are stored at 256/224 of it."""
    download: bool = False
    """Fetch it first, where torchvision knows how (imagenette, caltech101)."""
    skip_damaged: SkipDamaged = False

    def run(self) -> None:
        from zfrepro.data import photos

        if self.download:
            root = self.data or os.environ.get("ZFREPRO_DATA")
            if not root:
                raise ValueError(
                    "--download needs --data (or ZFREPRO_DATA), "
                    "the folder to put the photographs in"
                )
            print(f"{self.name} is in {photos.download(self.name, Path(root).expanduser())}")
        loaded = data.load(
            self.name, self.image_size, root=self.data, skip_damaged=self.skip_damaged
        )
        for part in ("train", "val"):
            split = getattr(loaded, part)
            shape = tuple(split.images.shape[1:])
            print(
                f"{loaded.name} {part}: {len(split):,} images of {shape}, {len(loaded.classes)} "
                "classes"
            )
        print(f"fingerprint {loaded.fingerprint}; kept in {data.cache_root()}")


@dataclass(frozen=True)
class Settings(Recipe):
    """Everything that decides the outcome of a run. The defaults are the paper's."""

    def __post_init__(self) -> None:
        """Leave the checks to `Recipe`, whose errors become one line."""


@dataclass
class Train:
    """Train a network; the defaults are the paper's recipe at the paper's size.

    A killed run continues when the same command is given again. An hour on two cores:
    python -m zfrepro train --recipe modern --scale compact --dataset imagenet20 --data DIR
    """

    settings: OmitArgPrefixes[Settings]
    recipe: Literal["paper", "modern"] = "paper"
    """modern suits small data sets; `train --recipe modern --help` shows its values."""
    scale: Literal["paper", "compact", "mini", "micro"] | None = None
    """Image size, width and units at once: paper (224 px, full width, 4096 units), compact (128 px,
    full width, 512), mini (96 px, half width, 256) or micro (96 px, quarter width, 256). Single
    options win over it.
    """
    data: DataFolder = None
    out: str | None = None
    """Folder of checkpoint, weights and record; by default runs/DATASET-ARCH-seedN."""
    device: Device = None
    keep: tuple[int, ...] = ()
    """Also keep the weights after these epochs and the last, as epoch-NNN.safetensors; Fig. 4 has 1
    2 5 10 20 30 40 64.
    """
    ship: bool = False
    """Put the finished network into results/ as `ship` does, where the book reads it."""
    compile: bool = False
    """Let torch compile the network: worth its minute on a GPU, in long runs."""
    wait: bool = False
    """If another run writes into --out, wait for its end and go on from there."""
    skip_damaged: SkipDamaged = False
    quiet: bool = False
    """A line an epoch and no progress bars."""

    def folder(self, recipe: Recipe) -> Path:
        """Return the folder of the run."""
        name = f"{data.dataset_name(recipe.dataset)}-{recipe.arch}-seed{recipe.seed}"
        return Path(self.out or f"runs/{name}").expanduser()  # shells leave the ~ of --out=~/x

    def made(self) -> Recipe:
        """Return the recipe, checked; the path of a data set is made absolute, so that the record
        names it anywhere.
        """
        settings = asdict(self.settings)
        return Recipe(**settings | {"dataset": named_anywhere(settings["dataset"])})

    def run(self) -> None:
        recipe, where = self.made(), device.pick(self.device)
        if late := [epoch for epoch in self.keep if not 1 <= epoch <= recipe.epochs]:
            raise ValueError(f"--keep {late[0]}: this run has epochs 1 to {recipe.epochs}")
        out = self.folder(recipe)
        with file_lock(out, self.wait):
            over = epochs_over(out, recipe)
            for epoch in (*self.keep, recipe.epochs) if self.keep else ():
                if epoch <= over and not (out / snapshot_name(epoch)).is_file():
                    raise ValueError(
                        f"--keep {epoch}: {out} has {over} epochs behind it and kept no "
                        f"{snapshot_name(epoch)}; choose another --out"
                    )
            if not (out / RECORD).is_file():
                self._train(recipe, where, out)
        if int(os.environ.get("RANK", "0")):  # of several processes the first says and ships
            return
        print_errors(records.read_json(out / RECORD)["errors"])
        print(f"{out} holds {training.WEIGHTS} and {RECORD}")
        if self.ship:
            Ship((str(out),)).run()
        else:
            print(f"`python -m zfrepro ship {out}` puts them into results/")

    def _train(self, recipe: Recipe, where: torch.device, out: Path) -> None:
        """Train, and write weights and record, which of several processes the first does."""
        with distributed.group(where):
            first, processes = not distributed.rank(), distributed.count()
            if first:
                records.remove_partial(out)
            with distributed.rank0_first(where):
                dataset = data.load(
                    recipe.dataset, recipe.image_size, root=self.data,
                    progress=first and not self.quiet, skip_damaged=self.skip_damaged,
                )  # fmt: skip
            command = command_of(recipe) + (" --skip-damaged" if dataset.skipped else "")
            origin = records.provenance(command)

            def save(name: str, state: training.State, mean: Tensor, **more: Any) -> str:
                return weights.save_weights(
                    out / name, state.evaluated, recipe, dataset.classes, mean,
                    data=dataset.fingerprint, **more, **origin,
                )  # fmt: skip

            def keep(state: training.State, mean: Tensor) -> None:
                epoch = len(state.history)
                if self.keep and epoch in (*self.keep, recipe.epochs):
                    save(snapshot_name(epoch), state, mean, epoch=epoch)

            state, mean = training.train(
                recipe, dataset, out, device=where, progress=not self.quiet, after_epoch=keep,
                compiled=self.compile,
            )  # fmt: skip
            if first:
                sha = save(training.WEIGHTS, state, mean)
        if not first:
            return
        print("evaluating the weights as written")
        written = weights.load_weights(out / training.WEIGHTS, device=where)
        errors = evaluation([written], dataset, not self.quiet, out)
        record = training.record(recipe, state, dataset, where, processes, origin, sha, errors)
        records.write_json(out / RECORD, record)


@dataclass
class Eval:
    """Top-1 and top-5 error of trained weights at one crop and at ten."""

    weights: Positional[tuple[str, ...]]
    """.safetensors files; of several, the mean of their probabilities."""
    dataset: str | None = None
    """By default, the one the network was trained on."""
    data: DataFolder = None
    skip_damaged: SkipDamaged = False
    device: Device = None

    def run(self) -> None:
        if not self.weights:
            raise ValueError("name at least one .safetensors file")
        where = device.pick(self.device)
        networks = {file: weights.load_weights(file, device=where) for file in self.weights}
        recipe = networks[self.weights[0]].recipe
        name = recipe.dataset if self.dataset is None else self.dataset
        dataset = load_for(networks, name, self.data, skip_damaged=self.skip_damaged)
        print(f"{dataset.name}, {len(dataset.val):,} validation images at {recipe.image_size} px")
        print_errors(evaluation(list(networks.values()), dataset, True))


@dataclass
class Ship:
    """Copy weights and records of finished runs into results/, where the book reads them."""

    runs: Positional[tuple[str, ...]]
    """Folders that `train` wrote."""
    numbers_only: bool = False
    """Only the record, filed by seed, for the spread over seeds; by default the weights too, as the
    book's network.
    """
    by_size: bool = False
    """As a network besides the book's, with its image size in its name."""
    replace: bool = False
    """Replace a pretrained network even by one with a larger error or another image size."""

    def run(self) -> None:
        if not self.runs:
            raise ValueError("name at least one folder that `train` wrote")
        by_target: dict[Path, tuple[Path, dict[str, Any]]] = {}
        for run in map(Path, self.runs):
            record = training_record(run / RECORD)
            name = _shipped_name(record, self.numbers_only, self.by_size)
            target = records.results_root() / f"{name}.json"
            if target in by_target:
                raise ValueError(
                    f"{by_target[target][0]} and {run} would both become {target}; ship one of them"
                )
            if not self.replace:
                refuse_weaker(record, target)
            by_target[target] = run, record
        for target, (run, record) in by_target.items():
            if not self.numbers_only:
                trained, sha = run / training.WEIGHTS, record["weights_sha256"]
                weights.load_weights(trained, expected_sha256=sha, device=device.pick("cpu"))
                records.write_atomically(target.with_suffix(".safetensors"), trained.read_bytes())
            records.write_json(target, record)
            print(f"wrote {target}")


@dataclass
class Measure:
    """Measure what a chapter reports and file it in results/CHAPTER/DATASET.json.

    A killed measurement continues when the same command is given again.
    """

    chapter: Positional[str]
    """Which chapter's measurement; a wrong name prints them all."""
    dataset: str | None = None
    """By default $ZFREPRO_DATASET, else diorama."""
    data: DataFolder = None
    network: str = "zfnet"
    """zfnet, or a network trained on ImageNet: squeezenet1_0 or alexnet of torchvision. Its record
    is results/CHAPTER/NETWORK.json.
    """
    weights: str | None = None
    """Weights of that network, under torchvision's names; by default those in torch's cache."""
    untrained: bool = False
    """Measure the same networks without any training, as a control of the rules. The record is
    results/CHAPTER/DATASET-untrained.json; with --only it needs those parts alone.
    """
    trained: tuple[str, ...] = ()
    """Folders of finished `train` runs of one seed, measured instead of the pretrained networks of
    their architectures. The record is results/CHAPTER/DATASET-seedN.json, and claims show it.
    """
    images: int | None = None
    """How many images to use; by default what the chapter reports."""
    seed: int = 0
    """Seed of everything drawn at random."""
    runs: tuple[str, ...] = ()
    """Folders of finished runs: of `train --keep` for evolution, of `sweep` for architecture."""
    only: tuple[str, ...] = ()
    """Measure these parts alone, and put them into the record that is there."""
    scratch: str = "runs/measure"
    """Folder of partial results."""
    fresh: bool = False
    """Measure again what is kept from an earlier run."""
    device: Device = None
    quiet: bool = False
    """A line a part and no progress bars."""

    def run(self) -> None:
        from zfrepro import measure

        measure.module_of(self.chapter)
        require_positive(images=self.images)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed {self.seed}: must be at least 0 and below 2**32")
        where, name = device.pick(self.device), named_anywhere(self.dataset)
        is_zfnet = self.network == "zfnet"
        subject = data.dataset_name(name) if is_zfnet else self.network
        file = "-".join(filter(None, (subject, self._repeat, "untrained" * self.untrained)))
        target = records.results_root() / self.chapter / f"{file}.json"
        # what can be told before any data is read
        if is_zfnet and self.weights:
            raise ValueError("--weights: only with --network, the name of a torchvision network")
        if unfinished := [run for run in self.runs if not Path(run, training.WEIGHTS).is_file()]:
            raise ValueError(
                f"--runs {unfinished[0]}: no {training.WEIGHTS} there; name finished runs"
            )
        if target.is_file():
            records.read_json(target)  # a damaged one is refused
        added = bool(self.only) and target.is_file()
        if self.only and not (added or self.untrained):
            raise ValueError(f"{target}: no record to add to; leave --only out")
        study = self._study(name, where) if is_zfnet else self._adapted(name, where)
        study = study.before_training() if self.untrained else study
        command, scratch = self._command(name), Path(self.scratch)
        with file_lock(scratch / f"{self.chapter}-{study.name}", option="--scratch"):
            if added:
                new = measure.record(self.chapter, study, {}, command)
                measure.refuse_other(records.read_json(target), new)
            parts = measure.measure(self.chapter, study, scratch, only=self.only, fresh=self.fresh)
            record = measure.record(self.chapter, study, parts, command)
            if target.is_file():  # read again, for other parts may have been measured meanwhile
                record = measure.joined(records.read_json(target), record, added)
            records.write_json(target, record)
        print(f"wrote {target}")

    def _study(self, name: str, where):
        """Return the study of the two shipped networks of a data set, or of those trained again."""
        from zfrepro.measure import Study

        networks = {}
        for arch in ("zfnet", "krizhevsky"):
            if run := self._trained.get(arch):
                networks[arch] = weights.load_weights(run / training.WEIGHTS, device=where)
            else:
                networks[arch] = weights.pretrained(arch, name, device=where)
        dataset = load_for(networks, name, self.data, progress=not self.quiet)
        return Study(dataset, networks, where, repeat=self._repeat, **self._options(name))

    @property
    def _trained(self) -> dict[str, Path]:
        """The runs of `--trained` by architecture."""
        runs = map(Path, self.trained)
        return {training_record(run / RECORD)["recipe"]["arch"]: run for run in runs}

    @property
    def _repeat(self) -> str:
        """What the record of networks trained again is called after the data set, or nothing."""
        if not self.trained:
            return ""
        if self.network != "zfnet":
            raise ValueError("--trained: not with --network, which names a network of others")
        recipes = [training_record(Path(run, RECORD))["recipe"] for run in self.trained]
        archs = sorted(recipe["arch"] for recipe in recipes)
        first, *others = {f"seed{recipe['seed']}" for recipe in recipes}
        whole = archs in (["zfnet"], ["krizhevsky", "zfnet"])
        if not whole or others or first not in claims.REPEATS:
            raise ValueError(
                f"--trained {' '.join(self.trained)}: name a run of zfnet, and one of krizhevsky "
                "if you have it, both of one seed of 1 to 4"
            )
        return first

    def _adapted(self, name: str, where):
        """Return the study of a network that others trained, asked for the data set's classes."""
        from zfrepro import imagenet, measure

        measure.refuse_adapted(self.chapter)
        adapted = imagenet.load(self.network, self.weights, device=where)
        dataset = data.load(
            name, adapted.image_size, root=self.data, parts=("val",), progress=not self.quiet
        )
        if not dataset.photographs:
            raise ValueError(f"--network {self.network} wants photographs: --dataset imagenet20")
        options = self._options(name)
        return measure.Study(
            dataset, {self.network: adapted.restrict_classes(dataset.classes)}, where,
            network=self.network, ours=weights.pretrained("zfnet", name, device=where),
            rows=imagenet.unseen(dataset, options["root"]), **options,
        )  # fmt: skip

    def _options(self, name: str) -> dict[str, Any]:
        root = name if data.is_path(name) else self.data
        return {
            "images": self.images, "seed": self.seed, "progress": not self.quiet, "source": name,
            "root": Path(root) if root else None, "runs": tuple(map(Path, self.runs)),
        }  # fmt: skip

    def _command(self, dataset: str) -> str:
        """Return the command as the record tells it."""
        words = f"python -m zfrepro measure {self.chapter} --dataset {shlex.quote(dataset)}"
        words += f" --network {self.network}" if self.network != "zfnet" else ""
        words += f" --weights {Path(self.weights).name}" if self.weights else ""
        words += " --untrained" if self.untrained else ""
        words += " ".join([" --trained", *map(_below_runs, self.trained)]) if self.trained else ""
        words += f" --images {self.images}" if self.images else ""
        words += f" --seed {self.seed}" if self.seed else ""
        words += " ".join([" --runs", *map(_below_runs, self.runs)]) if self.runs else ""
        return words + (" --only " + shlex.join(self.only) if self.only else "")


@dataclass
class Sweep:
    """Train networks that differ in one thing, with equal budgets, and file every run.

    A killed sweep continues when the same command is given again.
    """

    sweep: Positional[Literal["ablation", "architecture", "training"]]
    """Which networks: those of Table 2, Fig. 6 or Table 1."""
    dataset: str | None = None
    """By default $ZFREPRO_DATASET, else diorama."""
    data: DataFolder = None
    seeds: int | None = None
    """Runs of each network; by default 3, for training 5."""
    networks: tuple[str, ...] = ()
    """Only these of the sweep's networks."""
    scale: Literal["paper", "compact", "mini", "micro"] = "micro"
    """Size of all of them, see `train --help`."""
    epochs: int | None = None
    """Passes over the training images; by default a small budget."""
    jobs: int = 1
    """Runs at the same time."""
    scratch: str = "runs"
    """Folder of the runs' folders."""
    fresh: bool = False
    """Begin a new record, for another scale or budget."""
    device: Device = None

    def run(self) -> None:
        from zfrepro import sweeps

        require_positive(seeds=self.seeds, epochs=self.epochs, jobs=self.jobs)
        name = named_anywhere(self.dataset)
        seeds = range(self.seeds) if self.seeds else None
        recipes = sweeps.recipes(
            self.sweep, name, seeds, self.scale, self.epochs, self.networks or None
        )
        plain = sweeps.recipes(self.sweep, name, [0], self.scale, self.epochs)[0]
        target = records.results_root() / f"{sweeps.record_name(self.sweep, name, self.scale)}.json"
        if not self.fresh:  # told before any data is read
            sweeps.read(target, self.sweep, plain)
        # decoded once, before all runs ask for it
        dataset = data.load(name, plain.image_size, root=self.data)
        options = ["--data", self.data] if self.data else []
        options += ["--device", self.device] if self.device else []
        budget = f"-{self.epochs}epochs" if self.epochs else ""
        folder = Path(self.scratch) / f"{self.sweep}-{self.scale}{budget}"
        with file_lock(folder, option="--scratch"), file_lock(target, option="ZFREPRO_RESULTS"):
            sweeps.run(
                self.sweep, recipes, folder, target, plain=plain, jobs=self.jobs, options=options,
                device=self.device, fresh=self.fresh, fingerprint=dataset.fingerprint,
                say=lambda text: print(text, flush=True),
            )  # fmt: skip
        print(f"wrote {target}")


Command = Table | Data | Train | Eval | Ship | Measure | Sweep
COMMANDS = {kind.__name__.lower(): kind for kind in Command.__args__}


def presets(words: list[str]) -> Settings:
    """Return the recipe that --recipe and --scale choose, which single options then change."""
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scan.add_argument("--recipe")
    scan.add_argument("--scale")
    with contextlib.suppress(argparse.ArgumentError):
        options, _ = scan.parse_known_args(words)
        return Settings(
            **(MODERN if options.recipe == "modern" else {}) | SCALES.get(options.scale, {})
        )
    return Settings()


def parse(words: list[str] | None = None) -> Command:
    """Return the command that the words spell; usage errors and --help end the process."""
    words = sys.argv[1:] if words is None else words
    start = {"train": {"default": Train(presets(words))}}
    kinds = tuple(
        Annotated[kind, tyro.conf.subcommand(name, **start.get(name, {}))]
        for name, kind in COMMANDS.items()
    )
    return tyro.cli(
        Union[kinds],  # noqa: UP007, built at run time
        args=words, prog="python -m zfrepro",
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
        description="Train, evaluate and measure the networks of Zeiler & Fergus (2014). "
        "Start with: python -m zfrepro table; python -m zfrepro train --scale mini --recipe modern",
    )  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Run a command; a foreseen failure is one line on standard error and exit code 1."""
    device.keep_freed_memory()
    command, name = None, ""
    try:
        command = parse(words)
        name = type(command).__name__.lower()
        command.run()
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        code, message = 130, "stopped" + resume_hint(command)
    except BrokenPipeError:  # such as `table | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not (hint := resume_hint(command)):
            return 1
        code, message = 1, f"zfrepro {name}: standard output was closed{hint}"
    except (FloatingPointError, OSError, RuntimeError, ValueError) as error:
        code, message = 1, f"zfrepro {name}: {' '.join(str(error).split())}{remedy(error)}"
    # the exception is gone by now, and progress bars that it kept open are closed
    print(message, file=sys.stderr)
    return code


def resume_hint(command: Command | None) -> str:
    """Return how to go on after an interruption, where something was kept."""
    begun = isinstance(command, (Measure, Sweep)) or (
        isinstance(command, Train)
        and (command.folder(command.settings) / training.CHECKPOINT_FILE).is_file()
    )
    return "; give the same command again to continue" if begun else ""


def remedy(error: BaseException) -> str:
    """Return what to do about a file or folder that the system refuses."""
    name = str(getattr(error, "filename", None) or "")
    if not name:
        return ""
    if data.cache_root() in (Path(name), *Path(name).parents):
        return "; free some space or set ZFREPRO_CACHE to another folder"
    return "; free some space, change its permissions or choose another folder"


def named_anywhere(dataset: str | None) -> str:
    """Return the data set that an option names, else the environment's; a path made absolute, as
    records name it.
    """
    name = data.default_name() if dataset is None else dataset
    return str(Path(name).expanduser().resolve()) if data.is_path(name) else name


def require_positive(**counts: int | None) -> None:
    """Refuse counts below 1, by the name of their option."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"--{name} {count}: must be at least 1")


@contextlib.contextmanager
def file_lock(place: Path, wait: bool = False, option: str = "--out") -> Iterator[None]:
    """Hold a folder or a record for one process; the lock goes when the process does, however it
    ends.

    Of several that train together, the first holds it for all.

    Args:
        wait: for another owner to end, instead of refusing.
        option: that chooses the place.
    Raises:
        RuntimeError: another process holds it.
    """
    if int(os.environ.get("RANK", "0")):
        yield
        return
    lock = place.with_name(f".{place.name}.lock") if place.suffix == ".json" else place / ".lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            yield
    except Timeout:
        raise RuntimeError(
            f"{place}: another run is writing here; wait for it or choose another {option}"
        ) from None


def snapshot_name(epoch: int) -> str:
    """Return the file of the weights that `train --keep` puts aside after an epoch."""
    return f"epoch-{epoch:03}.safetensors"


def epochs_over(out: Path, recipe: Recipe) -> int:
    """Return how many epochs the run in a folder has behind it.

    Raises:
        CheckpointError: they were of another recipe.
        ValueError: weights lie there that training would overwrite, or a record without weights.
    """
    checkpoint = out / training.CHECKPOINT_FILE
    if (out / RECORD).is_file():
        training.refuse_other(out / RECORD, training_record(out / RECORD)["recipe"], recipe)
        if not (out / training.WEIGHTS).is_file():
            raise ValueError(f"{out}: holds {RECORD} without {training.WEIGHTS}; remove {RECORD}")
        return recipe.epochs
    if checkpoint.is_file():
        return len(training.read_checkpoint(checkpoint, recipe)[1]["history"])
    if (out / training.WEIGHTS).exists():
        raise ValueError(
            f"{out}: holds weights without their checkpoint; choose another --out, or remove "
            f"{training.WEIGHTS}"
        )
    return 0


def evaluation(
    networks, dataset, progress: bool, folder: Path | None = None
) -> dict[str, dict[str, float]]:
    """Return top-1 and top-5 errors in per cent, in fp32, of several networks' mean probabilities.

    On the validation split at one crop and averaged over ten; on the training split, or a random
    part of a large one, at one crop. Probabilities of the former are kept in `folder`, if given.
    """
    from zfrepro import ensembles

    def probabilities(images, ten: bool = False):
        each = (network.predict_proba(images, ten=ten, progress=progress) for network in networks)
        return sum(each) / len(networks)

    part, labels = dataset.train.shuffled(TRAIN_IMAGES), dataset.val.labels
    train = training.errors(probabilities(part.images), part.labels)
    views = {
        "one_crop": probabilities(dataset.val.images),
        "ten_crops": probabilities(dataset.val.images, ten=True),
    }
    if folder:
        save_tensors(folder / ensembles.FILE, views | {"labels": labels})
    return {"train": train} | {name: training.errors(p, labels) for name, p in views.items()}


def load_for(
    networks: Mapping[str, weights.Trained], name: str, root: str | None, **options: Any
) -> data.Dataset:
    """Load the data set that networks, by what to call them, were trained on.

    Raises ValueError, before an image is decoded, where they see another size or know other
    classes.
    """
    (first, one), *_ = networks.items()
    classes = data.load(name, one.image_size, root=root, parts=()).classes
    for other, network in networks.items():
        if network.image_size != one.image_size:
            raise ValueError(
                f"{other} sees {network.image_size} px, {first} {one.image_size} px; "
                "name networks of one size"
            )
        if network.classes != classes:
            raise ValueError(
                f"{other} knows other classes than {name}; name the data set it was trained on"
            )
    return data.load(name, one.image_size, root=root, **options)


def print_errors(errors: dict[str, dict[str, float]]) -> None:
    """Print one line a part of the data."""
    for name, values in errors.items():
        top1, top5 = values["top1_error"], values["top5_error"]
        print(f"{name.replace('_', ' '):9}  top-1 error {top1:5.2f} %   top-5 error {top5:5.2f} %")


def training_record(file: Path) -> dict[str, Any]:
    """Read the record of a finished training; raises where it is not there or of another kind."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file.parent}: no {file.name} there; give the --out folder of a finished `train`"
        )
    record = records.read_json(file)
    try:
        training.require_training(record)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: not the record of a training ({brief(error)}); remove it, and train or ship "
            "the network again"
        ) from error
    return record


def _shipped_name(record: dict[str, Any], numbers_only: bool, by_size: bool) -> str:
    """Return where a run is filed below results/: as the network that the book shows, by its size
    or by its seed.
    """
    recipe = record["recipe"]
    name = f"{data.dataset_name(recipe['dataset'])}-{recipe['arch']}"
    by_seed = f"runs/{name}-{record['scale']}-seed{recipe['seed']}"
    size = f"-{recipe['image_size']}" if by_size else ""
    return by_seed if numbers_only else f"networks/{name}{size}"


def refuse_weaker(record: dict[str, Any], target: Path) -> None:
    """Refuse to put a network in the place of one with a smaller error or another image size."""
    if not target.is_file():
        return
    pair = records.read_json(target), record
    size, new_size = (one["recipe"]["image_size"] for one in pair)
    error, new_error = (one["errors"]["one_crop"]["top1_error"] for one in pair)
    if new_size != size or new_error > error:
        raise ValueError(
            f"{target} has {error:.1f} % top-1 error at {size} px, the new run {new_error:.1f} % "
            f"at {new_size} px; --replace ships it anyway, --by-size beside"
        )


def _below_runs(run: str) -> str:
    """Return a run's folder as a record names it: below `runs`, wherever that is."""
    parts = Path(run).parts
    below = parts[len(parts) - parts[::-1].index("runs") :] if "runs" in parts[:-1] else parts[-1:]
    return "/".join(("runs", *below))
