#!/usr/bin/env bash
# Builds the CPU image and runs it as a cluster would, without a Docker daemon:
#
#   scripts/container_test.sh
#
# On Debian as root, with: apt-get install --no-install-recommends \
#   mmdebstrap buildah podman runc netavark aardvark-dns iptables catatonit uidmap curl
# Where no debian:bookworm-slim can be pulled, it is made from Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

BASE=docker.io/library/debian:bookworm-slim
IMAGE=localhost/derain:container-test
CONTAINER=derain-container-test
PORT=3918
PRIVATE_PORT=3919  # metrics and probes, as in the manifests
LARGEST_MB=700
work=$(mktemp -d)
chmod 755 "$work"  # read from inside by another user

say() { echo "[$SECONDS s] $*"; }
fail() { say "FAILED: $*" >&2; podman logs --tail 40 $CONTAINER >&2 2>/dev/null || true; exit 1; }
# The programs here write notes on cgroups and timers that nobody asked for; they are kept for failures.
quietly() { "$@" > "$work/output" 2>&1 || { cat "$work/output" >&2; fail "$*"; }; }
finish() { podman rm --force --time 0 $CONTAINER > /dev/null 2>&1 || true; rm -rf "$work"; }
trap finish EXIT

# runc, for crun knows no hybrid cgroups; limits within ours, for only the mighty may raise them.
export CONTAINERS_CONF=$work/containers.conf
cat > "$CONTAINERS_CONF" <<C
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=32768:32768"]
[engine]
runtime = "runc"
C

if ! buildah inspect --type image $BASE > /dev/null 2>&1 && ! buildah pull --quiet $BASE > /dev/null 2>&1; then
    leave_out=()  # as the slim image does
    for folder in doc info locale man; do leave_out+=(--dpkgopt="path-exclude=/usr/share/$folder/*"); done
    quietly mmdebstrap --quiet --variant=minbase "${leave_out[@]}" bookworm "$work/root.tar"
    base=$(buildah from scratch)
    quietly buildah add "$base" "$work/root.tar" /
    buildah config --cmd '["bash"]' "$base"
    quietly buildah commit "$base" $BASE
    quietly buildah rm "$base"
    rm "$work/root.tar"
    say "made $BASE of Debian's packages"
fi

commit=$(git rev-parse HEAD)
model_sha256=$(grep -o '[0-9a-f]\{64\}' models/serving.json | tail -n 1)
# This machine's certificates, where it reaches the package index through a proxy of its own; no part of the image.
printf '[global]\ncert = /run/certificates.crt\n' > "$work/pip.conf"
mounts=(--volume "/etc/ssl/certs/ca-certificates.crt:/run/certificates.crt:ro" --volume "$work/pip.conf:/etc/pip.conf:ro")
quietly buildah bud --isolation chroot --format docker --layers --pull-never "${mounts[@]}" --target cpu \
    --build-arg COMMIT="$commit" --build-arg MODEL_SHA256="$model_sha256" --tag $IMAGE .
size_mb=$(($(podman image inspect --format '{{.Size}}' $IMAGE) / 1000000))
say "built $IMAGE: $size_mb MB"
[ "$size_mb" -lt $LARGEST_MB ] || fail "the image has $size_mb MB, not less than $LARGEST_MB"
label() { podman image inspect --format "{{index .Labels \"$1\"}}" $IMAGE; }
[ "$(label org.opencontainers.image.revision)" = "$commit" ] || fail "the label does not name the commit"
[ "$(label derain.model.sha256)" = "$model_sha256" ] || fail "the label does not name the model"

quietly podman run --detach --name $CONTAINER --publish 127.0.0.1:$PORT:3000 \
    --publish 127.0.0.1:$PRIVATE_PORT:3001 --env DERAIN_PRIVATE_PORT=3001 --env DERAIN_PRIVATE_HOST=0.0.0.0 --memory 2g --pids-limit 200 \
    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --env DERAIN_THREADS=1 $IMAGE
url=http://127.0.0.1:$PORT
private=http://127.0.0.1:$PRIVATE_PORT
for _ in $(seq 120); do
    curl --fail --silent --max-time 2 $private/readyz > /dev/null && break
    podman container inspect --format '{{.State.Running}}' $CONTAINER | grep -q true || fail "it ended"
    sleep 0.5
done
curl --fail --silent --max-time 2 $private/readyz > /dev/null || fail "not ready within a minute"
curl --fail --silent $url/metrics > /dev/null && fail "its metrics are public"
say "ready"

inside() { podman exec $CONTAINER "$@" 2> /dev/null; }
[ "$(inside id -u)" = 10001 ] || fail "runs as uid $(inside id -u)"
[ "$(inside grep CapEff /proc/1/status | cut -f2)" = 0000000000000000 ] || fail "has capabilities"
inside touch /srv/derain/written && fail "its root can be written to"
for tool in pip pip3 gcc cc make; do
    inside sh -c "command -v $tool" && fail "it has $tool"
done
inside python -c "import pip" && fail "it has pip"
podman healthcheck run $CONTAINER > /dev/null 2>&1 || fail "its HEALTHCHECK fails"
say "not root, no capabilities, read-only root, no pip, no compiler, healthy"

derain() { curl --fail --silent --show-error --max-time 300 --data-binary @"$1" --output "$2" $url/v1/derain; }
# python that sees $work as /work
python_on_work() {
    podman run --rm --network none --volume "$work:/work" --user 0 --interactive $IMAGE python - "$@" 2> "$work/errors" \
        || { cat "$work/errors" >&2; return 1; }
}
# Is the second picture the first one derained: of its size, alike, and not the same?
check_derained() {
    python_on_work "$@" <<'P' || fail "$2 is not $1 derained"
import sys, cv2
rainy, derained = (cv2.imread(f"/work/{name}") for name in sys.argv[1:])
psnr = cv2.PSNR(rainy, derained)
sys.exit(None if 15 < psnr < 45 else f"PSNR {psnr:.1f} dB")
P
}

cp examples/rain.jpg "$work/rain.jpg"
derain "$work/rain.jpg" "$work/derained.jpg" || fail "no picture came back"
check_derained rain.jpg derained.jpg
say "derained examples/rain.jpg"

reloads() { curl --silent --max-time 5 $private/metrics | grep '^derain_model_reloads_total{outcome="unchanged"}' || true; }
podman kill --signal HUP $CONTAINER > /dev/null 2>&1
for _ in $(seq 50); do
    [ -z "$(reloads)" ] || break
    sleep 0.1
done
[ -n "$(reloads)" ] || fail "SIGHUP made it reload nothing"
say "reloaded on SIGHUP"

# Told to end while a large picture is in work, it delivers it first.
python_on_work <<'P' || fail "no large picture"
import cv2
picture = cv2.imread("/work/rain.jpg")
cv2.imwrite("/work/large.jpg", cv2.repeat(picture, 8, 6))
P
decoded() { curl --silent --max-time 5 $private/metrics | grep '^derain_stage_seconds_count{stage="decode"}' || true; }
before=$(decoded)
derain "$work/large.jpg" "$work/large-derained.jpg" & large=$!
for _ in $(seq 100); do
    [ "$(decoded)" = "$before" ] || break
    sleep 0.1
done
[ "$(decoded)" != "$before" ] || fail "the large picture is not in work"
kill -0 $large 2> /dev/null || fail "the large picture was done too soon to show anything"
podman stop --time 120 $CONTAINER > /dev/null 2>&1
wait $large || fail "the picture in work was lost"
check_derained large.jpg large-derained.jpg
status=$(podman inspect --format '{{.State.ExitCode}}' $CONTAINER)
[ "$status" = 0 ] || fail "it ended with status $status on SIGTERM"
say "ended on SIGTERM with status 0, after it had delivered the picture in work"
