# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# CPU profiles against the truth, for C and on each runtime. The work is that of `scripts/bench cpu` (tests/bench),
# whose programs answer what they burnt by the kernel's clocks; `go tool pprof -raw` says what the profile shows. Shares
# are asserted, times never: 600 samples stray by two or three points, so six fail no honest sampler.
. "$(dirname "$0")/lib.sh"

POINTS=6
MS=600
WORKER=$ROOT/tests/bench/cpu_worker.lua

for version in 5.2 5.3 5.4; do
    paths=LUA_CPATH_${version/./_}
    export "$paths=$BUILD/bench/lua/$version/?.so;${!paths}"
done
export LUA_CPATH="$BUILD/bench/lua/5.1/?.so;$LUA_CPATH"

# answer WORKER… <<<QUESTION: its answer is in $ANSWER.
answer() {
    if ! ANSWER=$("$@" 2>&1) || [[ $ANSWER == error* ]]; then
        not_ok "$* answers" "$ANSWER"
        return 1
    fi
}

# shares FILE NAME,NAME…: for each list, outermost name first, the nanoseconds of the stacks that have these names,
# others between them allowed; first the total. A Lua function goes by the name at its beginning in the worker's file,
# since a profile names it as it was called.
shares() {
    local file=$1
    shift
    pprof -symbolize=none -raw "$file" 2>/dev/null | awk -v wanted="$*" '
        NR == FNR {
            split($0, word, /[ (]/)
            if (word[1] word[2] == "localfunction") names["cpu_worker.lua:" FNR] = word[3]
            next
        }
        /^(Samples:|Locations|Mappings)$/ { part = $1; next }
        part == "Samples:" && /^ +[0-9]+ +[0-9]+: / {
            value[++samples] = $2 + 0; text = $0; sub(/^ +[0-9]+ +[0-9]+: /, "", text); stack[samples] = text
        }
        part == "Locations" {
            if ($0 ~ /^ +[0-9]+: 0x[0-9a-f]+ /) { id = $1; sub(/:/, "", id) }
            sub(/^ +[0-9]+: 0x[0-9a-f]+ (M=[0-9]+ )?/, ""); sub(/^ +/, ""); name = $0; place = ""
            if (match(name, / [^ ]*:[0-9]+(:[0-9]+)? s=[0-9]+$/)) {
                place = substr(name, RSTART + 1); name = substr(name, 1, RSTART - 1)
                start = place; sub(/.* s=/, "", start); sub(/:[0-9:]+ s=.*/, "", place); sub(/.*\//, "", place)
            }
            if ((place ":" start) in names) name = names[place ":" start]
            frames[id] = frames[id] "\n" name
        }
        END {
            count = split(wanted, lists, " ")
            for (s = 1; s <= samples; s++) {
                all += value[s]; text = ""
                for (n = split(stack[s], ids, " "); n > 0; n--) {
                    k = split(frames[ids[n]], inlined, "\n")
                    for (; k > 1; k--) text = text "\n" inlined[k]
                }
                text = text "\n"
                for (i = 1; i <= count; i++) {
                    rest = text; found = 1
                    for (j = 1; j <= split(lists[i], path, ","); j++) {
                        at = index(rest, "\n" path[j] "\n")
                        if (!at) { found = 0; break }
                        rest = substr(rest, at + length(path[j]) + 1)
                    }
                    if (found) sum[i] += value[s]
                }
            }
            printf "%.0f", all
            for (i = 1; i <= count; i++) printf " %.0f", sum[i]
            print ""
        }' "$WORKER" -
}

# near WHAT FILE NAME,NAME…: the shares of the profile are those in $ANSWER (the process, then each part).
near() {
    local what=$1 seen
    shift
    seen=$(shares "$@")
    shift
    local verdict
    if verdict=$(awk -v truth="$ANSWER" -v seen="$seen" -v names="$*" -v bar=$POINTS 'BEGIN {
        n = split(truth, t, " "); split(seen, s, " "); split(names, name, " "); bad = s[1] == 0
        for (i = 2; i <= n; i++) {
            off = 100 * s[i] / (s[1] ? s[1] : 1) - 100 * t[i] / t[1]
            printf "%s: %.1f%%, truth %.1f%%\n", name[i - 1], 100 * s[i] / (s[1] ? s[1] : 1), 100 * t[i] / t[1]
            if (off > bar || off < -bar) bad = 1
        }
        exit bad }'); then ok "$what"; else not_ok "$what" "$verdict"; fi
}

# within WHAT PERCENT GOT WANTED
within() {
    if awk -v p="$2" -v a="$3" -v b="$4" 'BEGIN { d = a - b; exit !(b > 0 && (d < 0 ? -d : d) * 100 <= p * b) }'; then
        ok "$1"
    else
        not_ok "$1" "got $3, wanted $4 within $2%"
    fi
}

total_is_right() {
    local seen
    seen=$(shares "$2")
    within "$1: the total is that of getrusage" 2 "$seen" "${ANSWER%% *}"
}

c_profiles() {
    local worker=$BUILD/bench/bench_cpu_worker file=$TMP/c.pb.gz
    answer "$worker" <<<"total 2 300 100 $file" && total_is_right "C, two threads" "$file"
    answer "$worker" <<<"lives 5 300 100 $file" && total_is_right "C, threads that live 5 ms" "$file"
    answer "$worker" <<<"split $MS 1000 $file" &&
        near "C: known shares" "$file" burn_parts,alpha burn_parts,beta burn_parts,gamma burn_parts,delta
    answer "$worker" <<<"phases 20 $MS 1000 $file" &&
        near "C: equal phases in 20 ms" "$file" burn_parts,alpha burn_parts,beta burn_parts,gamma
}

lua_profiles() {
    local lua=$1 tail=tail_beta,burn_beta,c_beta kind
    # LuaJIT's tail call of a C function leaves no frame.
    [ "$lua" != luajit ] || tail=burn_parts,burn_beta,c_beta
    local kinds=(lua c coroutine host plain tail collect)
    local -A parts=(
        [lua]="burn_parts,alpha burn_parts,beta burn_parts,gamma"
        [c]="burn_parts,alpha call_beta,burn_beta,c_beta call_gamma,burn_gamma,c_gamma"
        [coroutine]="burn_parts,alpha burn_parts,beta burn_parts,gamma"
        [host]="resume_alpha,alpha catch_beta,call_deep,throw_beta,beta burn_parts,gamma"
        [plain]="call_beta,burn_beta,c_beta burn_parts,alpha"
        [tail]="$tail burn_parts,alpha"
        [collect]="timed_collect,[gc] burn_parts,alpha"
    )
    local -A what=(
        [lua]="known shares in Lua" [c]="known shares of C under Lua" [coroutine]="known shares inside coroutines"
        [host]="known shares where C resumes, and where errors pass through C" [plain]="a C function is the leaf"
        [tail]="a C function is the leaf, also of return cfn()" [collect]="the collector is a leaf"
    )
    local questions='' answers
    for kind in "${kinds[@]}"; do
        questions+="split $kind $MS 1000 $TMP/$lua.$kind.pb.gz"$'\n'
    done
    questions+="total 2 300 100 $TMP/$lua.total.pb.gz"
    answer "$lua" "$WORKER" <<<"$questions" || return
    mapfile -t answers <<<"$ANSWER"
    for kind in "${kinds[@]}"; do
        ANSWER=${answers[0]} answers=("${answers[@]:1}")
        # shellcheck disable=SC2086
        near "$lua: ${what[$kind]}" "$TMP/$lua.$kind.pb.gz" ${parts[$kind]}
        pprof -traces "$TMP/$lua.$kind.pb.gz" 2>/dev/null >>"$TMP/$lua.traces"
    done
    ANSWER=${answers[0]}
    total_is_right "$lua, two states on two threads" "$TMP/$lua.total.pb.gz"
    # At a trace's exit LuaJIT enters itself once more; a walk that the signal finds there may end early.
    internals=$(grep -E 'luaV_|luaD_|luaT_|lj_|lua_p?call|<unknown>' "$TMP/$lua.traces" | sort | uniq -c)
    [ "$lua" = luajit ] && [ "$(awk '{ n += $1 } END { print n + 0 }' <<<"$internals")" -le 5 ] && internals=''
    is "$lua: no internals of the VM in any stack" "$internals" ""
}

# A host's own count hook, interpreted also where there is a compiler (compiled code has no hooks).
watchdog() {
    local lua=$1 count without with
    local -a how=()
    [ "$lua" != luajit ] || how=(interpreter)
    for count in 1000 100000; do
        answer "$lua" "$WORKER" "${how[@]}" <<<"hooks $count 5000000 0"$'\n'"hooks $count 5000000 1000" || return
        read -r without with <<<"${ANSWER/$'\n'/ }"
        within "$lua: a count hook of the host's keeps its rhythm, each $count instructions" 10 "$with" "$without"
    done
}

# Instructions of a script of ROUNDS, with what follows.
instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null lua5.4 "$ROOT/tests/bench/zero.lua" "$@" 2>&1 |
        awk '/Collected : / { print $NF }'
}

required_is_free() {
    local without with
    without=$(($(instructions 300) - $(instructions 100)))
    with=$(($(instructions 300 required) - $(instructions 100 required)))
    within "lua5.4: required and not sampling costs no instructions" 0.5 "$with" "$without"
}

c_profiles
for runtime in lua5.1 lua5.2 lua5.3 lua5.4 luajit; do
    lua_profiles "$runtime"
    watchdog "$runtime"
done
required_is_free
done_testing
