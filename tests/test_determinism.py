"""The same numbers again: in another process, and on pages whatever ran before them.

Tests and pages share nothing but the cache of images, whose files are named after what is in them
and are written whole or not at all (test_survival.py); so their order does not matter, as long as
no page leaves anything behind."""

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import torch

import diorama
from diorama.threads import single_threaded
from tests.datasets import stripes, tiny
from tests.networks import small
from zfrepro import gallery, networks, occlusion, stats, training
from zfrepro.records import ROOT

PAGES = sorted((ROOT / "book").rglob("*.ipynb"))


def hashed(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


@single_threaded()
def numbers(folder: Path) -> str:
    """Return what drawing, training, search, projections, occlusion and intervals find, as JSON."""
    drawing = diorama.draw([0, 5, 11], size=32)
    world, quiet = stripes(train=16, val=6), {"progress": False, "say": lambda *_, **__: None}
    state, mean = training.train(tiny(epochs=1), world, folder, device=torch.device("cpu"), **quiet)
    said = training.predict_proba(
        state.network, world.val.images, mean, scale=64.0, image_size=64, ten=True
    )
    network = small(networks.zfnet(), 64)
    images = torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tops = gallery.top_units(network, images.split(5), progress=False)
    covered = occlusion.occlude(
        network, images[:1], patch=20, stride=22, layer="convs.conv5", progress=False
    )
    values = torch.rand(30, generator=torch.Generator().manual_seed(0))
    found = {
        "drawings": hashed(drawing.images, drawing.labels, drawing.mask),
        "training": hashed(*state.network.state_dict().values()),
        "evaluation": hashed(said),
        "search": [hashed(t.values, t.images, t.rows, t.columns) for t in tops.values()],
        "projections": hashed(gallery.projections(network, images, tops["conv2"], range(8))),
        "occlusion": hashed(covered.probabilities, covered.activity),
        "intervals": list(stats.bootstrap(values)),
    }
    return json.dumps(found, default=float)


def test_another_process_finds_the_same_numbers(tmp_path):
    """From another folder, with another hash seed, which decides the order of sets."""
    program = "from tests.test_determinism import Path, numbers; print(numbers(Path('run')))"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    words, options = [sys.executable, "-c", program], {"cwd": tmp_path, "env": environment}
    other = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, **options)
    here = numbers(tmp_path / "here")
    told, _ = other.communicate()
    assert other.returncode == 0 and told == here + "\n"


# --- pages ---------------------------------------------------------------------------------------

DRAWS = "rand|randn|randint|randperm|rand_like|randn_like|multinomial|normal|choice|shuffle"
FUNCTIONS = re.compile(rf"\b(torch|random|init)\.({DRAWS})$|\.(uniform|normal|random)_$")
WRITES = (
    r"\.write_\w+\(|\bopen\([^)]*[\"'][wax]b?[\"']|savefig\(|\bsave\(|save_file\(|\.to_csv\("
    r"|\bmkdir\(|%store|unlink\("
)


def code_of(path: Path) -> str:
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return "\n".join(re.sub(r"(?m)^\s*[%!].*$", "", cell) for cell in cells)


def unseeded(code: str) -> list[str]:
    """Random draws that name no generator and come before any seed, as `line: call`."""
    seeded, draws = False, []
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    for call in sorted(calls, key=lambda call: call.lineno):
        name = ast.unparse(call.func)
        seeded |= name in ("torch.manual_seed", "np.random.seed", "random.seed")
        given = any(k.arg == "generator" for k in call.keywords)
        if FUNCTIONS.search(name) and not seeded and not given:
            draws.append(f"{call.lineno}: {ast.unparse(call)}")
    return draws


def test_unseeded_draws_are_found():
    code = "g = torch.Generator().manual_seed(0)\ntorch.rand(3, generator=g)\ntorch.rand(2)\n"
    assert unseeded(code) == ["3: torch.rand(2)"]
    assert unseeded("torch.manual_seed(0)\n" + code) == []
    assert unseeded("x.normal_()\nnp.random.rand(3)") == ["1: x.normal_()", "2: np.random.rand(3)"]


def test_pages_draw_by_seed_only_and_leave_nothing_behind():
    for path in PAGES:
        code = code_of(path)
        assert unseeded(code) == [], path.stem
        assert [line for line in code.splitlines() if re.search(WRITES, line)] == [], path.stem
