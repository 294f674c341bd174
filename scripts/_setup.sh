# Sourced by the other scripts: makes .venv with pinned dependencies, once, and puts it on PATH.
# Needs Python 3.11 or 3.12, a C compiler, and a package index that pip reaches.
#
#   HWNAS_PYTHON        the Python to use (default: python3.12, python3.11 or python3, the first that fits)
#   HWNAS_TORCH_INDEX   package index to take torch from: PyTorch's CPU index on a machine without an NVIDIA GPU,
#                       one of its CUDA indexes on a machine with one (default: pip's own index)

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "hwnas: $*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in ${HWNAS_PYTHON:-} python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# A build of torch for CUDA weighs gigabytes, so it is taken only where there is a GPU to use it.
install_torch() {
    local pinned plan
    pinned=$(grep '^torch==' constraints.txt)
    if [ -n "${HWNAS_TORCH_INDEX:-}" ]; then
        .venv/bin/pip install --quiet --index-url "$HWNAS_TORCH_INDEX" "$pinned"
        return
    fi
    plan=$(.venv/bin/pip install --dry-run --no-deps "$pinned" 2>/dev/null || true)
    if ! nvidia-smi -L >/dev/null 2>&1 && [[ "$plan" != *+cpu* ]]; then
        echo "hwnas: no NVIDIA GPU here, and pip's index offers torch with CUDA (gigabytes)." >&2
        echo "       Set HWNAS_TORCH_INDEX to PyTorch's CPU index to avoid that (README, 'Two commands'). Going on." >&2
    fi
    .venv/bin/pip install --quiet "$pinned"
}

# pip reads constraints before it knows the local version label of a CPU build, so torch goes first and alone.
install_all() {
    local python
    python=$(find_python) || fail "Python 3.11 or 3.12 was not found; install one, or name it in HWNAS_PYTHON."
    echo "hwnas: installing into .venv with $($python --version) (a few minutes, once)" >&2
    rm -rf .venv
    "$python" -m venv .venv || fail "'$python -m venv' failed; install the venv module of that Python."
    install_torch || fail "torch could not be installed; see the messages above."
    .venv/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]' ||
        fail "the dependencies could not be installed; see the messages above."
}

wanted=$(cat constraints.txt pyproject.toml | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/.hwnas-installed 2>/dev/null)" != "$wanted" ]; then
    install_all
    echo "$wanted" > .venv/.hwnas-installed
fi
export PATH="$PWD/.venv/bin:$PATH"
