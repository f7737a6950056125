# Shared by the scripts beside this folder; sourced, not run.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$PWD/$target
export CARGO_TARGET_DIR=$target
# What was found good once is noted here, so that the next start need not look again.
found=$target/setup

say() { printf '==> %s\n' "$*" >&2; }

# fail STEP REASON WHAT-TO-DO
fail() {
  printf '\nerror: %s: %s\n       %s\n' "$1" "$2" "$3" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

has_libclang() {
  local file
  [[ -z ${LIBCLANG_PATH:-} ]] || return 0
  for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* /usr/local/lib/libclang*.so*; do
    [[ ! -e $file ]] || return 0
  done
  return 1
}

has_pip() {
  local python
  python=$(command -v python3) || return 1
  [[ ! -e $found/pip || $(<"$found/pip") != "$python" ]] || return 0
  "$python" -m pip --version >/dev/null 2>&1 || return 1
  mkdir -p "$found" && printf '%s\n' "$python" >"$found/pip"
}

# Prints the Debian packages that are missing, one a line: lacking PROBE PACKAGE [PROBE PACKAGE]...
lacking() {
  while (($#)); do
    case $1 in
      libclang) has_libclang || echo "$2" ;;
      pip) has_pip || echo "$2" ;;
      *) have "$1" || echo "$2" ;;
    esac
    shift 2
  done
}

install_packages() {
  local -a as_root=()
  local hint="Install by hand what provides: $*"
  have apt-get || fail "system packages" "this is not a Debian-like system, so they cannot be installed from here" "$hint"
  if ((EUID != 0)); then
    have sudo || fail "system packages" "that takes root, and there is no sudo" "As root: apt-get install $*"
    as_root=(sudo)
    if [[ ! -t 0 ]]; then
      as_root=(sudo -n)
      sudo -n true 2>/dev/null ||
        fail "system packages" "sudo wants a password and there is no terminal to ask on" "Run: sudo apt-get install $*"
    fi
  fi
  say "Installing system packages: $*"
  "${as_root[@]}" apt-get update -qq >&2 ||
    fail "system packages" "apt-get update failed" "Look at the network and at /etc/apt/sources.list, then run this again"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
    fail "system packages" "apt-get could not install them" "Run: apt-get install $*"
}

need_packages() {
  local -a missing
  mapfile -t missing < <(lacking "$@" | sort -u)
  ((${#missing[@]})) || return 0
  install_packages "${missing[@]}"
  mapfile -t missing < <(lacking "$@" | sort -u)
  ((${#missing[@]} == 0)) ||
    fail "system packages" "still missing after the installation: ${missing[*]}" "Install them by hand, then run this again"
}

# Rust itself comes from its own installer: Debian's is older than this project needs.
need_rust() {
  local wanted version
  have cargo || PATH=$HOME/.cargo/bin:$PATH
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  have cargo || fail "Rust" "cargo was not found" "Install Rust $wanted or later from https://rustup.rs, then run this again"
  [[ ! -e $found/rust || $(<"$found/rust") != "$wanted $(command -v cargo)" ]] || return 0
  version=$(cargo --version | cut -d' ' -f2)
  [[ $(printf '%s\n%s\n' "$wanted" "${version%%-*}" | sort -V | head -n1) == "$wanted" ]] ||
    fail "Rust" "version $version is older than $wanted" "Run: rustup update stable"
  mkdir -p "$found" && printf '%s\n' "$wanted $(command -v cargo)" >"$found/rust"
}

# What a build needs: llama.cpp is compiled by cmake and bound by libclang; models come through pip. With ccache a second
# build of llama.cpp, in another profile or clone, takes seconds; for that, paths below the target folder must not count.
export CCACHE_BASEDIR=$target CCACHE_NOHASHDIR=1
need_to_build() {
  need_packages cmake cmake make make g++ g++ clang clang libclang libclang-dev ccache ccache \
    pkg-config pkg-config git git python3 python3 pip python3-pip
  need_rust
}
