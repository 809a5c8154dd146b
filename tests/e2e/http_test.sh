# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# A person and pprof ask a running program, the C host, over HTTP: the page, the files, the text, and names for its
# addresses, those of Lua functions too.
. "$(dirname "$0")/lib.sh"

serve "$BUILD/bin/example_c_host" 0 || done_testing
BASE=$URL/debug/pprof
HOST=${URL#http://}

page=$(curl -sS --max-time 20 "$BASE/")
like "the page lists the profile with its count" \
    "$(tr -d '\n' <<<"$page")" '<td>800</td><td><a [^>]*>blobstore\.Open</a>'
like "and the command to copy" "$page" "<code>go tool pprof http://$HOST/debug/pprof/blobstore\.Open</code>"

command=$(grep -oE 'go tool pprof http[^<]*' <<<"$page" | head -1)
# shellcheck disable=SC2086 # a command line, as a person pastes it
like "which works as it stands" "$(${command/pprof/pprof -top} 2>/dev/null)" ' 800 total$'

curl -sS --max-time 20 "$BASE/blobstore.Open" >"$TMP/blobs.pb.gz"
like "what is saved is a file that pprof reads" "$(pprof -top "$TMP/blobs.pb.gz")" '^Type: blobstore\.Open$'
is "a gzipped one" "$(head -c 2 "$TMP/blobs.pb.gz" | od -An -tx1)" ' 1f 8b'

text=$(curl -sS --max-time 20 "$BASE/blobstore.Open?debug=1")
is "the text begins as Go's" "$(head -1 <<<"$text")" 'blobstore.Open profile: total 800'
like "C functions are named in it" "$text" \
    '^#[[:space:]]0x[0-9a-f]+[[:space:]]+upload\+0x[0-9a-f]+[[:space:]]+.*main\.c:[0-9]+$'
like "and Lua functions" "$text" '^#[[:space:]]0x[0-9a-f]+[[:space:]]+download.*script\.lua:[0-9]+$'

# The text holds addresses only, for its reader: pprof asks /debug/pprof/symbol for the names.
top=$(pprof -top "$BASE/blobstore.Open?debug=1" 2>/dev/null)
like "pprof sums the text up" "$top" ' 800 total$'
like "with names for C addresses" "$top" ' upload$'
like "and for Lua addresses" "$top" ' download$'

address=$(sed -nE 's/^#[[:space:]](0x[0-9a-f]+)[[:space:]]+download.*/\1/p' <<<"$text" | head -1)
is "a Lua function's address has a name" "$(curl -sS --max-time 20 "$BASE/symbol?0x1+$address")" \
    $'num_symbols: 1\n'"$address download"
is "in a POST, too" "$(curl -sS --max-time 20 --data "$address" "$BASE/symbol" | tail -1)" "$address download"

is "the command line is parted by NUL" "$(curl -sS --max-time 20 "$BASE/cmdline" | tr '\0' '|')" \
    "$BUILD/bin/example_c_host|0"

out=$(pprof -top "$BASE/goroutine" 2>&1)
like "pprof says what is not there" "$out" 'server response: 404 Not Found - Unknown profile'
done_testing
