"""Recorded results: one JSON a run, written atomically, with everything needed to repeat it."""

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

import torch

DAY = 24 * 3600.0  # seconds; nobody writes one file for longer

ROOT = Path(__file__).resolve().parents[1]


def results_root() -> Path:
    """Return the folder of the records: `$ZFREPRO_RESULTS` or `results/` of the checkout."""
    return Path(os.environ.get("ZFREPRO_RESULTS") or ROOT / "results")


def git_commit() -> str:
    """Return the short hash of the checkout, marked when it has uncommitted changes.

    Outside a checkout it is `$ZFREPRO_COMMIT`, which says of which commit a copy without history
    is, or `unknown`.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # a copy within another repository is none of its commits
    own = os.environ | {"GIT_CEILING_DIRECTORIES": str(ROOT.parent)}
    try:
        run = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
        return run.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("ZFREPRO_COMMIT") or "unknown"


def sha256(file: Path) -> str:
    """Return the hex digest of a file."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def writing(file: Path) -> Iterator[BinaryIO]:
    """Open another name in the same folder and rename it at the end: no reader sees half a file.

    Raises:
        OSError: it cannot be written, as on a full disk, with its name; what was there stays.
    """
    # containers that share a folder may share the number of a process
    partial = file.with_name(f".{file.name}.{os.getpid()}-{token_hex(4)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError as error:
        # A failed write says no name, a failed opening the partial's.
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file as `writing` does."""
    with writing(file) as stream:
        stream.write(data)


def remove_partial(folder: Path, age: float = 0.0) -> None:
    """Remove what killed processes left of `write_atomically`.

    Args:
        age: spare what was written to within so many seconds, where other processes may be writing.
    """
    for partial in folder.glob(".*.part"):
        with contextlib.suppress(OSError):  # another process may have been quicker
            if time.time() - partial.stat().st_mtime >= age:
                partial.unlink()


def write_json(file: Path, content: Any) -> None:
    """Write indented JSON atomically, each list of plain values in one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # only line breaks and what indents the next line go: spaces within strings stay
    plain = re.compile(r"\[\n *([^\[\]{}]*?)\n *\]")
    text = plain.sub(lambda match: "[" + re.sub(r"\n *", " ", match[1]) + "]", text)
    # of a file name of any bytes, what is no character becomes JSON's escape for it
    write_atomically(file, (text + "\n").encode(errors="backslashreplace"))


def provenance(command: str) -> dict[str, Any]:
    """Return who made a number: command, commit, versions and date."""
    return {
        "command": command,
        "commit": git_commit(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def read(name: str) -> dict[str, Any]:
    """Read the record `results/NAME.json`.

    Raises:
        FileNotFoundError: naming the command that makes records, if it is missing.
        ValueError: the file is damaged.
    """
    return read_json(results_root() / f"{name}.json")


def read_json(file: Path) -> dict[str, Any]:
    """Read a record by its file; raises as `read` does."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such record; `python -m zfrepro train --help` says how records are made"
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
    except ValueError as error:  # JSON and UTF-8 errors are both ValueErrors
        raise ValueError(
            f"{file}: not a whole record ({error}); restore it from git, or remove it and give its "
            "command again"
        ) from error
    return record
