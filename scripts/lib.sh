# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the scripts share; each sources it first. It finds the repository from its own place, so that the scripts work
# from any folder and through links, and leaves the caller's folder as it is.

set -euo pipefail

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
SELF=${0##*/}
# The build that the scripts use where none is named.
PRESET=${CPROF_PRESET:-release}
export ROOT PRESET

say() {
    printf '%s\n' "$*"
}

# An error ends the script with 1, misuse with 2.
die() {
    printf '%s: %s\n' "$SELF" "$*" >&2
    exit 1
}

misuse() {
    printf '%s: %s (try --help)\n' "$SELF" "$*" >&2
    exit 2
}

# The help is the script's own head: the comment below the SPDX line.
help() {
    awk 'NR > 2 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
    exit 0
}

# Calls help where the first argument asks for it.
help_if_asked() {
    case ${1:-} in
    -h | --help | help) help ;;
    esac
}

need() {
    command -v "$1" >/dev/null || die "'$1' is not installed; run $ROOT/scripts/setup"
}

# Milliseconds that only ever count up.
now_ms() {
    local up
    read -r up _ </proc/uptime
    echo $((10#${up/./} * 10))
}

seconds_since() {
    local ms=$(($(now_ms) - $1))
    printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# Go without a home folder, a network or settings of the user's; `go tool pprof` keeps its files in the build folder.
go_settings() {
    local dir=$ROOT/build/go
    mkdir -p "$dir/pprof"
    export GOCACHE=$dir/cache GOPATH=$dir/path GOENV=off GOFLAGS=-mod=mod GOPROXY=off GO111MODULE=on
    export PPROF_TMPDIR=$dir/pprof PPROF_BINARY_PATH=$dir/pprof
}
