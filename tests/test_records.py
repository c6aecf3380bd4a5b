"""Records: written whole or not at all, read with clear errors."""

import json
import os
import re
import subprocess

import pytest

from zfrepro import records


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFREPRO_RESULTS", str(tmp_path))
    return tmp_path


def test_a_record_comes_back(root):
    names = ["Köter", "château", os.fsdecode(b"caf\xe9.png")]
    content = {"errors": {"top1": 12.5}, "names": names, "none": None}
    records.write_json(root / "networks" / "a.json", content)
    assert records.read("networks/a") == content
    text = (root / "networks" / "a.json").read_text(encoding="utf-8")
    assert text.endswith("}\n") and "Köter" in text


def test_a_missing_record_names_file_and_command(root):
    with pytest.raises(FileNotFoundError, match="x.json: .*python -m zfrepro train"):
        records.read("x")


@pytest.mark.parametrize("content", [b'{"a": 1', b"[1]", b"\xff\xfe"])
def test_a_damaged_record_is_named(root, content):
    (root / "x.json").write_bytes(content)
    with pytest.raises(ValueError) as error:
        records.read("x")
    assert str(root / "x.json") in str(error.value) and "give its command again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(root, monkeypatch, moment):
    file = root / "a.json"
    records.write_json(file, {"old": True})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync" if moment == "write" else "replace", full)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{file}'")):
        records.write_json(file, {"new": True})
    assert json.loads(file.read_text()) == {"old": True}
    assert [f.name for f in root.iterdir()] == ["a.json"]


def test_provenance_says_what_is_needed_to_repeat():
    origin = records.provenance("make it")
    assert origin["command"] == "make it" and {"python", "torch"} <= set(origin["versions"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", origin["date"])
    json.dumps(origin)


def test_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.delenv("ZFREPRO_COMMIT", raising=False)
    assert records.git_commit() == "unknown"  # not a checkout
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commands = (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"])
    for command in (*commands, [*identity, "tag", "-a", "v1", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "copy").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(records, "ROOT", tmp_path / "copy")
        assert records.git_commit() == "unknown"  # a copy in a checkout of something else
    (tmp_path / "a").write_text("1")
    assert re.fullmatch("[0-9a-f]{12}", records.git_commit())
    subprocess.run(["git", "add", "a"], cwd=tmp_path, check=True)
    assert re.fullmatch("[0-9a-f]{12}-dirty", records.git_commit())
    monkeypatch.setenv("PATH", "")  # no git
    monkeypatch.setenv("ZFREPRO_COMMIT", "0123456789ab")
    assert records.git_commit() == "0123456789ab"
