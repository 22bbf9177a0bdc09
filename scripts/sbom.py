"""Writes down what is in an image, as CycloneDX: `make sbom IMAGE=derain:0.1.0-cpu`.

It asks the image itself, so that it lists what is there and not what was asked for: the Python packages,
and Debian's. ENGINE=podman runs the image with podman instead of docker.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

_TOOLS = Path(__file__).parent.parent / ".venv" / "deploy" / "bin"
_PYTHON_PACKAGES = (
    "from importlib.metadata import distributions\n"
    "print(*sorted(f'{each.name}=={each.version}' for each in distributions()), sep='\\n')"
)
_DEBIAN_PACKAGES = ("dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n")
_VALIDATE = (
    "import sys\n"
    "from cyclonedx.schema import SchemaVersion\n"
    "from cyclonedx.validation.json import JsonStrictValidator\n"
    "sys.exit(JsonStrictValidator(SchemaVersion.V1_5).validate_str(sys.stdin.read()))"
)


def main(image: str, target: Path) -> None:
    python, debian = ask(image, "python", "-c", _PYTHON_PACKAGES), ask(image, *_DEBIAN_PACKAGES)
    cyclonedx = [
        _TOOLS / "cyclonedx-py",
        "requirements",
        "--output-reproducible",
        "--schema-version",
        "1.5",
        "-",
    ]
    made = subprocess.run(cyclonedx, input=python, capture_output=True, text=True, check=True)
    bill = json.loads(made.stdout)
    for line in debian.splitlines():
        name, version, architecture = line.split()
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
        component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        bill["components"].append(component)
    bill["metadata"]["component"] = {"type": "container", "bom-ref": "image", "name": image}
    text = json.dumps(bill, indent=1)
    subprocess.run([_TOOLS / "python", "-c", _VALIDATE], input=text, text=True, check=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")
    print(f"{target}: {len(bill['components'])} packages in {image}")


def ask(image: str, *command: str) -> str:
    """What a program in the image prints."""
    engine = os.environ.get("ENGINE", "docker")
    run = [engine, "run", "--rm", "--network", "none", image, *command]
    return subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except IndexError:
        sys.exit("usage: scripts/sbom.py IMAGE FILE")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} failed: {(error.stderr or '').strip()}")
