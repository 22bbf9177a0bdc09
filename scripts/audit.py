"""Looks the pinned packages up among known weaknesses: `make audit`.

Ends with status 1 for a weakness that is not excused below, or whose excuse has expired; where the database
cannot be reached it says so and ends with 0, for then nothing is known either way.
"""

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_PIP_AUDIT = _ROOT / ".venv" / "deploy" / "bin" / "pip-audit"
_LOCKS = ("serve.txt", "serve-gpu.txt", "ray.txt", "dev.txt", "release.txt")

# Identifier: until when, and why it does not concern us.
EXCUSED: dict[str, tuple[date, str]] = {}


def audit(lock: Path) -> bool | None:
    """Whether a lock is free of weaknesses; None where the database cannot be reached."""
    today = datetime.now(UTC).date()
    command: list[str | Path] = [_PIP_AUDIT, "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    ignored = [
        word for name, (until, _) in EXCUSED.items() if today <= until for word in ("--ignore-vuln", name)
    ]
    done = subprocess.run(
        [*command, *ignored, "--format", "json", "--requirement", lock], capture_output=True, text=True
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:  # it ends in an error of the connection
        print(f"{lock.name}: {done.stderr.strip().splitlines()[-1]}")
        return None
    weak = [(each["name"], weakness) for each in packages for weakness in each.get("vulns", [])]
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    print(
        f"{lock.name}: {len(packages)} packages, {len(weak)} weaknesses, {len(skipped)} not to be looked up"
    )
    for name, weakness in weak:
        print(
            f"  {name}: {weakness['id']}, mended in {', '.join(weakness['fix_versions']) or 'no version yet'}"
        )
    return None if len(skipped) == len(packages) else not weak


def main() -> int:
    found = {name: audit(_ROOT / "requirements" / name) for name in _LOCKS}
    unknown = [name for name, is_free in found.items() if is_free is None]
    if unknown:
        print(f"the database cannot be reached: nothing is known of {', '.join(unknown)}")
    return int(False in found.values())


if __name__ == "__main__":
    sys.exit(main())
