"""The same numbers again: in another process, and on pages whatever ran before them.

Tests and pages share nothing but the cache of images, whose files are named after what is in them
and are written whole or not at all (test_survival.py); so their order does not matter, as long as
no page leaves anything behind."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat

from zfrepro.records import ROOT

PAGES = sorted((ROOT / "book").rglob("*.ipynb"))
NUMBERS = """
import hashlib, json, pathlib, sys, torch
torch.set_num_threads(1)
from tests.networks import small
from tests.datasets import stripes, tiny
from zfrepro import gallery, networks, occlusion, stats, training
import diorama

numbers = {}

def note(name, *tensors):
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    numbers[name] = digest.hexdigest()[:12]

drawing = diorama.draw([0, 5, 11], size=32)
note("drawings", drawing.images, drawing.labels, drawing.mask)
world, recipe = stripes(train=16, val=6), tiny(epochs=1)
folder = pathlib.Path(sys.argv[1])
quiet = {"progress": False, "say": lambda *_, **__: None}
state, mean = training.train(recipe, world, folder, device=torch.device("cpu"), **quiet)
note("training", *state.network.state_dict().values())
said = training.predict_proba(state.network, world.val.images, mean, scale=64.0, image_size=64,
ten=True)
note("evaluation", said)
network = small(networks.zfnet(), 64)
images = torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
tops = gallery.top_units(network, images.split(5), progress=False)
note("search", *(t for top in tops.values() for t in (top.values, top.images, top.rows,
top.columns)))
note("projections", gallery.projections(network, lambda i: images[i], tops["conv2"], range(8)))
covered = occlusion.occlude(network, images[:1], patch=20, stride=22, layer="convs.conv5",
progress=False)
note("occlusion", covered.probabilities, covered.activity)
values = torch.rand(30, generator=torch.Generator().manual_seed(0))
numbers["intervals"] = list(stats.bootstrap(values))
numbers["sets"] = sorted({"order", "of", "a", "set"})
print(json.dumps(numbers, default=float))
"""


def test_two_processes_find_the_same_numbers(tmp_path):
    """With other hash seeds, which decide the order of sets, and from another folder."""
    running = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", NUMBERS, "run"]
        running.append(
            subprocess.Popen(words, stdout=subprocess.PIPE, cwd=folder, env=environment, text=True)
        )
    one, two = (json.loads(process.communicate()[0]) for process in running)
    assert all(process.returncode == 0 for process in running)
    assert one == two and len(one) == 8


# --- pages ---------------------------------------------------------------------------------------

DRAWS = (
    "rand|randn|randint|randperm|rand_like|randn_like|multinomial|normal|choice|shuffle"
)
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
