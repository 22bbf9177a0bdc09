# In the Dockerfile: installs a lock file into /opt/derain and leaves nothing to install with.
set -e
pip=/opt/derain/bin/pip
$pip install --no-cache-dir --require-hashes --only-binary :all: --requirement "$1"
$pip uninstall --yes setuptools pip
find /opt/derain -type d -name tests -prune -exec rm -r {} +
