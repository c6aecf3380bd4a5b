"""Empty the cache of executed notebooks when something a notebook reads has changed.

jupyter-cache looks at the code cells only. What the cells read lives elsewhere: the package, the recorded
results, the versions installed, and the data that ZFREPRO_DATASET and ZFREPRO_DATA name. One hash covers all.
"""

import hashlib
import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
READ_BY_NOTEBOOKS = ("zfrepro", "results", "requirements.lock", "book/_static")


def files_under(path: Path) -> list[Path]:
    """Files at or below `path`, sorted, without bytecode and hidden files."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [p for p in found if "__pycache__" not in p.parts and not p.name.startswith(".")]


def data_listing(folder: Path) -> list[str]:
    """Names and sizes in the top two levels of the data folder: notices photographs that came or went."""
    entries = [*folder.glob("*"), *folder.glob("*/*")] if folder.is_dir() else []
    return sorted(f"{p.relative_to(folder)} {p.stat().st_size}" for p in entries)


def key(root: Path = ROOT, environ: dict[str, str] | None = None) -> str:
    """SHA-256 over everything a notebook reads besides its own cells."""
    environ = dict(os.environ) if environ is None else environ
    digest = hashlib.sha256()
    for top in READ_BY_NOTEBOOKS:
        for path in files_under(root / top):
            digest.update(f"\0{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    for name in ("ZFREPRO_DATASET", "ZFREPRO_DATA"):
        digest.update(f"\0{name}={environ.get(name, '')}".encode())
    if environ.get("ZFREPRO_DATA"):
        digest.update("\n".join(data_listing(Path(environ["ZFREPRO_DATA"]))).encode())
    return digest.hexdigest()


def refresh(build: Path = ROOT / "_build") -> bool:
    """Empty the cache if the key differs from the one it was filled under. Returns whether it was kept."""
    stamp, now = build / "cache-key", key()
    if stamp.is_file() and stamp.read_text() == now:
        return True
    stamp.unlink(missing_ok=True)
    shutil.rmtree(build / ".jupyter_cache", ignore_errors=True)
    build.mkdir(exist_ok=True)
    stamp.write_text(now)
    return False


if __name__ == "__main__":
    print("the cache is kept" if refresh() else "the cache was emptied: every notebook runs again")
