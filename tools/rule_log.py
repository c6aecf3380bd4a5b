"""Write results/rule_log.json: every commit that changed claims or the rules that judge them, from
the git history.

python tools/rule_log.py"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from zfrepro import records  # noqa: E402

PATHS = ("zfrepro/claims", "zfrepro/claims.py", "book/*/claims.py", "zfrepro/studies/claims*")

if __name__ == "__main__":
    command = ["git", "log", "--reverse", "--no-merges", "--date=short", "--format=%ad%x09%h%x09%s"]
    run = subprocess.run(
        [*command, "--", *PATHS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    keys = ("date", "commit", "change")
    lines = run.stdout.splitlines()
    changes = [dict(zip(keys, line.split("\t"), strict=True)) for line in lines]
    records.write_json(
        records.results_root() / "rule_log.json", {"kind": "log", "changes": changes}
    )
    print(f"{len(changes)} commits")
