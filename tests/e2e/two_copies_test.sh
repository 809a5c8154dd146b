# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# A second copy of cprof in a process refuses, and says which the first is.
. "$(dirname "$0")/lib.sh"

runs "the host runs" "$BUILD/tests/two_copies"
like "the second copy refuses" "$OUT" 'another copy of cprof is active in this process, in the program itself'
done_testing
