#!/usr/bin/env bash
# What is in the images, as CycloneDX: sbom/cpu.json and sbom/gpu.json, of the locks that are installed there.
# Debian's packages are not in them; `dpkg-query --show` in the image names those.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p sbom
.venv/deploy/bin/cyclonedx-py requirements --output-reproducible --output-format JSON -o sbom/cpu.json requirements/serve.txt
.venv/deploy/bin/cyclonedx-py requirements --output-reproducible --output-format JSON -o sbom/gpu.json requirements/serve-gpu.txt
