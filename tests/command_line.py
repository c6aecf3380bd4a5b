"""The command line on miniature photographs, and how it refuses."""

from tests.datasets import TINY
from zfrepro.cli import main


def train_words(data="photos", out="run", **changes) -> list[str]:
    """Return the words of a `train` of seconds."""
    options = TINY | {"dataset": "imagenet", "epochs": 1, "batch": 4} | changes
    words = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
    return ["train", "--data", str(data), "--out", str(out), "--device", "cpu", "--quiet", *words]


def refused(line: list[str], capsys, *parts: str) -> None:
    """Run a command that ends with exit code 1 and one line that has all of `parts`."""
    capsys.readouterr()
    assert main(line) == 1
    *bars, error, end = capsys.readouterr().err.split("\n")
    assert error.startswith(f"zfrepro {line[0]}: ") and not end, error
    assert all("%|" in bar for bar in bars)
    for part in parts:
        assert part in error, error
