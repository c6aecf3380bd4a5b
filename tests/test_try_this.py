"""Each chapter's *Try this* cell answers to its parameters: other values give another output, which
names them.

Of the cells before it only the statements run that it depends on: the others draw figures."""

import ast
import contextlib
import functools
import io
import itertools
import re
import symtable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.test_book_sources import CHAPTERS, tags


def names_in(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names that code binds, and those that it reads from outside its own functions."""
    module = symtable.symtable(ast.unparse(tree), "cell", "exec")
    names = module.get_symbols()
    bound = {name.get_name() for name in names if name.is_assigned() or name.is_imported()}
    read, tables = set(), [module]
    for table in tables:
        names = table.get_symbols()
        read |= {name.get_name() for name in names if name.is_global() and name.is_referenced()}
        tables += table.get_children()
    return bound, read


def needed_statements(statements: list[ast.stmt], names: set[str]) -> list[ast.stmt]:
    """Those of the statements that values of `names` at their end depend on."""
    needed = []
    for statement in reversed(statements):
        bound, read = names_in(statement)
        if bound & names:
            needed.append(statement)
            # a plain assignment makes a name anew; others may change what it held before
            names = names - bound if isinstance(statement, ast.Assign) else names | bound
            names = names | read
    return needed[::-1]


def before_and_cell(path: Path) -> tuple[ast.Module, str]:
    """What the cell to try needs of the cells before it, and its source."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    (last,) = (i for i, cell in enumerate(cells) if "try-this" in tags(cell))
    source, names = cells[last].source, set()
    for statement in reversed(ast.parse(source).body):
        bound, read = names_in(statement)
        names = names - bound | read
    statements = [s for cell in cells[:last] for s in ast.parse(cell.source).body]
    return ast.Module(needed_statements(statements, names), []), source


def with_parameters(source: str, changes: dict[str, str]) -> str:
    """The cell with other values: its first paragraph holds nothing but parameters."""
    parameters, gap, rest = source.partition("\n\n")
    tree = ast.parse(parameters)
    assert gap and all(isinstance(node, ast.Assign) for node in tree.body)
    assert set(changes) <= names_in(tree)[0]
    return "\n".join([parameters, *(f"{k} = {v}" for k, v in changes.items()), gap, rest])


def words_and_picture(value: Any, printed: str) -> tuple[str, bytes]:
    """The words of an output, and its picture without them."""
    # here, so that test_lab.py starts without it
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    if isinstance(value, Figure):
        words = []
        for text in value.findobj(Text):
            words.append(text.get_text())
            text.set_visible(False)
        value.savefig(stream := io.BytesIO(), dpi=50, metadata={"Software": None})
        return " ".join([printed, *words]), stream.getvalue()
    return printed + getattr(value, "data", ""), b""


def run(source: str, names: dict[str, Any]) -> tuple[str, bytes]:
    *body, last = ast.parse(source).body
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        else:
            exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return words_and_picture(value, printed.getvalue())


UNNAMED = {"frequency", "photo"}  # which is rounded to the picture; which has no name


def names_of(value: Any) -> set[str]:
    """Words by which an output names the value of a parameter."""
    if value is None:
        return set()
    if isinstance(value, list | tuple):
        return set().union(*map(names_of, value))
    return {getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)}


def without(words: str, name: str) -> str:
    """The words but for a name."""
    return re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w]|\.\d)", "", words)


SMALL = {"train": (64, 0), "val": (96, 1)}  # images of the diorama that are drawn, and their seeds
QUICK = {
    "correspondence": {"side_px": "40"},
    "evolution": {"epochs": "(1, 2)", "images": "32"},
    "gallery": {"count": "48"},
    "transfer": {"numbers": "(1, 5)", "folds": "1"},
}
"""Values that keep a cell short, in all its runs."""

CHANGES = {
    "ablation": [{"BASE": '"zfnet"'}, {"WITHOUT": "(7,)"}, {"UNITS": "2048"}, {"CLASSES": "20"},
                 {"IMAGE_SIZE": "128"}, {"WITHOUT": "()", "MAPS": "(96, 256, 512, 512, 256)"}],
    "architecture": [{"arch": '"zfnet"'}, {"number": "3"}, {"image": "2"},
                     {"image": "None", "frequency": "0.4"}, {"image": "None", "degrees": "10"}],
    "correspondence": [{"layer": '"fc6"'}, {"side_px": "20"},
                       {"distance": "correspondence.sign_distance"}],
    "deconvnet": [{"image_number": "5"}, {"layer": '"conv2"'}, {"unit": "(12, 6, 6)"}],
    "evolution": [{"layer": '"conv4"'}, {"maps": "[5, 6]"}, {"epochs": "(1, 3)"},
                  {"images": "48"}, {"seed": "1"}],
    "gallery": [{"layer": '"fc6"'}, {"layer": '"fc8"', "chosen": "[0, 9]"}, {"chosen": "[5]"},
                {"count": "96"}],
    "invariance": [{"scene_number": "12"}, {"architecture": '"zfnet"'}],
    "network": [{"IMAGE": "9"}, {"LAYER": '"conv2"'}, {"ROW": "9"}, {"COLUMN": "0"},
                {"NETWORK": "zfrepro.krizhevsky()"}],
    "occlusion": [{"architecture": '"zfnet"'}, {"images": "[3, 5]"}, {"square_side": "20"},
                  {"shows": '"blur"'}],
    "own_network": [{"layer_name": "net.layers[1]"}, {"layer_name": '"no.such"'},
                    {"photo": 'photographs["coffee"].convert("L")'}],
    "projections": [{"layer": '"conv3"'}, {"number": "9"}, {"way": '"deconvnet"'},
                    {"way": '"another unit"'}],
    "synthetic": [{"IMAGE": "9"}, {"PART": '"ear"'}, {"DEGREES": "90"}],
    "training": [{"CHANGED": '"krizhevsky"'}, {"BASE": '"krizhevsky"'}, {"COLUMN": '"Diorama"'},
                 {"PART": '"one_crop"'}, {"KIND": '"top1_error"'}],
    "transfer": [{"layer": '"fc7"'}, {"kind": '"softmax"'}, {"numbers": "(2,)"}, {"folds": "2"}],
}  # fmt: skip


REFUSED = {
    "deconvnet": ({"unit": "(5000, 6, 6)"}, "map 5000: there are"),
    "gallery": ({"chosen": "[3, 5000]"}, "map 5000: there are"),
    "occlusion": ({"square_side": "5000"}, "5000"),
    "projections": ({"number": "5000"}, "conv5 has maps 0 to"),
}
"""Values that cannot be, and what the error says."""


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_cell_to_try_answers_to_each_parameter(path, tmp_path_factory, monkeypatch):
    for variable in ("ZFREPRO_DATASET", "ZFREPRO_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("zfrepro.data.DIORAMA_SPLITS", SMALL)
    monkeypatch.setattr("zfrepro.occlusion.PAPER_POSITIONS", 8)  # a side, in place of 30
    monkeypatch.setattr("book.occlusion.measure.SCANNED", 16)  # images, in place of 100
    monkeypatch.setattr("book.transfer.targets.NOVEL", 16)  # a class, in place of 80
    monkeypatch.setenv("ZFREPRO_CACHE", str(tmp_path_factory.getbasetemp() / "few"))
    monkeypatch.chdir(path.parent)
    before, source = before_and_cell(path)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(before, path.name, "exec"), names)
    quick = QUICK.get(path.stem, {})

    def shown(change: dict[str, str]) -> tuple[str, bytes]:
        return run(with_parameters(source, quick | change), dict(names))

    def asked(change: dict[str, str]) -> set[str]:
        parts = (eval(v, dict(names)) for k, v in change.items() if k not in UNNAMED)
        return set().union(*map(names_of, parts))

    changes = CHANGES[path.stem]
    first, *outputs = map(shown, [{}, *changes])
    assert shown({}) == first  # run again, the cell shows the same
    for change, (words, _) in zip(changes, outputs, strict=True):
        assert not [name for name in asked(change) if without(words, name) == words], words
    every = set().union(*map(asked, changes))
    answers = []  # what they show besides the names
    for words, picture in (first, *outputs):
        answers.append((functools.reduce(without, sorted(every), words), picture))
    pairs = itertools.combinations(zip([{}, *changes], answers, strict=True), 2)
    assert not [(a, b) for (a, one), (b, other) in pairs if one == other]
    if path.stem in REFUSED:
        change, words = REFUSED[path.stem]
        with pytest.raises((AssertionError, ValueError), match=words):
            shown(change)
