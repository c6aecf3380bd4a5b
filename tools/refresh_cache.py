"""Empty the cache of executed notebooks when something a notebook reads has changed.

jupyter-cache looks at the code cells only. What the cells read lives elsewhere: the package, the recorded
results, the versions installed, the ZFREPRO_ variables and the photographs they name. One hash covers all.
"""

import hashlib
import os
import shutil
from pathlib import Path

from zfrepro import data
from zfrepro.data import photos

ROOT = Path(__file__).resolve().parents[1]
READ_BY_NOTEBOOKS = ("zfrepro", "diorama", "book", "results", "requirements.lock")
SHOWS_NOWHERE = {"ZFREPRO_CACHE", "ZFREPRO_COMMIT", "ZFREPRO_HTML"}  # variables that change no page


def files_under(path: Path) -> list[Path]:
    """Files at or below `path`, sorted; no bytecode, no hidden files, no notebooks, whose cells the cache compares."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [p for p in found if "__pycache__" not in p.parts and p.suffix != ".ipynb" and p.name[0] != "."]


def variables() -> dict[str, str]:
    """What is set of the package's variables and may change a page; empty counts as not set, as in the package."""
    return {k: v for k, v in sorted(os.environ.items()) if v and k.startswith("ZFREPRO_") and k not in SHOWS_NOWHERE}


def photographs(name: str) -> str:
    """Hash over the photographs of a set, or what is wrong with it, which its pages will say again."""
    try:
        folder = photos.find_folder(name, None)
        return photos.fingerprint(folder, list(photos.class_folders(name, folder)))
    except data.DataError as error:
        return str(error)


def sets_read() -> tuple[str, ...]:
    """The photographs that pages look at: the data set they are built from, and the one it is transferred to."""
    chosen = data.default_name()
    return (chosen, "caltech101") if chosen in data.PHOTOGRAPHS else ()


def key(root: Path = ROOT) -> str:
    """SHA-256 over everything a notebook reads besides its own cells."""
    digest = hashlib.sha256()
    tops = [root / top for top in READ_BY_NOTEBOOKS]
    if own := os.environ.get("ZFREPRO_RESULTS"):
        tops.append(Path(own))
    for top in tops:
        for path in files_under(top):
            digest.update(f"\0{top.name}/{path.relative_to(top)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    for name, value in [*variables().items(), *((name, photographs(name)) for name in sets_read())]:
        digest.update(f"\0{name}={value}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def refresh(build: Path = ROOT / "_build", root: Path = ROOT) -> bool:
    """Empty the cache if the key differs from the one it was filled under. Returns whether it was kept."""
    stamp, now = build / "cache-key", key(root)
    if stamp.is_file() and stamp.read_text() == now:
        return True
    stamp.unlink(missing_ok=True)
    shutil.rmtree(build / ".jupyter_cache", ignore_errors=True)
    build.mkdir(exist_ok=True)
    stamp.write_text(now)
    return False


if __name__ == "__main__":
    print("the cache is kept" if refresh() else "the cache was emptied: every notebook runs again")
