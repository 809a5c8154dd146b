# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# ngx_lua: loaded before nginx forks its workers, one of which records itself while requests take turns, each with
# labels of its own and with light threads, while requests end under labels, and while the state is made anew.
. "$(dirname "$0")/lib.sh"

MODULES=/usr/lib/nginx/modules
PATH=$PATH:/usr/sbin

cat >"$TMP/nginx.conf" <<N
load_module $MODULES/ndk_http_module.so;
load_module $MODULES/ngx_http_lua_module.so;
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log error.log notice;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    lua_package_path '$ROOT/lua/?.lua;;';
    lua_package_cpath '$BUILD/lib/lua/5.1/?.so;;';
    init_by_lua_block {
        cprof = require "cprof"
        spawn, create = ngx.thread.spawn, coroutine.create -- as modules cache them
        master = assert(cprof.start_cpu_profile { hz = 1000, output = "$TMP/master.pb.gz" })
        function spin(seconds)
            local sum, clock = 0, os.clock() + seconds
            while os.clock() < clock do
                for i = 1, 20000 do
                    sum = sum + i % 7
                end
            end
            return sum
        end
        function unlabelled()
            local sum = spin(0.01)
            return sum
        end
        function chew(seconds)
            local text, clock = ("x"):rep(5000), os.clock() + seconds
            while os.clock() < clock do
                text:gsub("x", "yy")
            end
        end
        spin(0.1)
    }
    init_worker_by_lua_block {
        local data, message = master:stop()
        ngx.log(ngx.NOTICE, "of the master's: ", tostring(data), ", ", message)
        assert(cprof.start_cpu_profile { hz = 1000, output = "$TMP/worker.%p.pb.gz" })
    }
    server {
        listen unix:$TMP/socket;
        location / {
            content_by_lua_block {
                local function handle()
                    spin(0.01)
                    ngx.sleep(0.02)
                    chew(0.03)
                    local thread = spawn(function()
                        spin(0.01)
                        ngx.sleep(0.02)
                        spin(0.01)
                    end)
                    ngx.thread.wait(thread)
                    coroutine.resume(create(function()
                        spin(0.01)
                        ngx.sleep(0.01)
                        spin(0.01)
                    end))
                    return "handled"
                end
                ngx.say(cprof.with_labels({ route = ngx.var.uri }, handle))
            }
        }
        location /exit {
            content_by_lua_block {
                cprof.with_labels({ ended = "exit" }, function()
                    cprof.with_labels({ inner = 1 }, spin, 0.01)
                    ngx.sleep(0.01)
                    spin(0.01)
                    ngx.exit(204)
                end)
            }
        }
        location /redirect {
            content_by_lua_block {
                cprof.with_labels({ ended = "redirect" }, function()
                    spin(0.02)
                    ngx.redirect("/unlabelled")
                end)
            }
        }
        location /left {
            content_by_lua_block {
                cprof.set_labels { ended = "left" }
                return (function()
                    ngx.sleep(0.01)
                    spin(0.02)
                end)()
            }
        }
        location /either {
            content_by_lua_block {
                if ngx.var.arg_exit then
                    cprof.with_labels({ ended = "either" }, function()
                        spin(0.02)
                        ngx.exit(204)
                    end)
                end
                unlabelled()
            }
        }
        location /unlabelled {
            content_by_lua_block { unlabelled() }
        }
    }
}
N

# ask URI: what is answered.
ask() {
    curl -s --max-time 30 --unix-socket "$TMP/socket" "http://localhost$1"
}

# all URI…: that many requests at once.
all() {
    local uri asked=()
    for uri; do
        ask "$uri" >>"$TMP/answers" &
        asked+=($!)
    done
    wait "${asked[@]}"
}

cd "$TMP" || exit 1
nginx -p "$TMP/" -c nginx.conf >out 2>&1 </dev/null &
SERVERS+=($!)
for _ in $(seq 100); do
    [ -S socket ] && [ -s nginx.pid ] && break
    sleep 0.1
done
for _ in 1 2 3 4 5; do
    all /a /b /a /b
done
for uri in /exit /redirect /left '/either?exit=1' /either; do
    for asked in "$uri" /unlabelled /unlabelled; do
        ask "$asked" >>out
    done
done
kill -HUP "$(<nginx.pid)"
for _ in $(seq 100); do
    [ -n "$(find . -name 'worker.*.pb.gz')" ] && break
    sleep 0.1
done
all /c /c /c
kill -QUIT "$(<nginx.pid)"
wait "${SERVERS[0]}"
is "nginx ends as it would" "$?" 0
unlike "no worker crashed" "$(<error.log)" 'exited on signal|core dumped'
is "all requests were answered" "$(sort answers | uniq -c | awk '{ print $1, $2 }')" "23 handled"
like "a worker is told that it has no part in the master's recording" "$(<error.log)" \
    'of the master.s: nil, this recording belongs to process [0-9]+, before a fork'
like "the master's own is written" "$(pprof -top master.pb.gz 2>&1)" '^Type: cpu$'
is "each worker wrote its own" "$(find . -name 'worker.*.pb.gz' | wc -l)" 2

# share TAG FILE: what of the time has it, in whole per cent.
share() {
    pprof -top -tagfocus="route=^$1\$" "$2" 2>/dev/null | sed -nE 's/^Showing .*, ([0-9]+)[0-9.]*% of .*/\1/p'
}

first='' second=''
for file in worker.*.pb.gz; do
    if [ -n "$(share /a "$file")" ] && [ "$(share /a "$file")" != 0 ]; then
        first=$file
    else
        second=$file
    fi
done
a=$(share /a "$first") b=$(share /b "$first")
if ((${a:-0} >= 35 && ${a:-0} <= 60 && ${b:-0} >= 35 && ${b:-0} <= 60)); then
    ok "labels stay with their requests, across yields and in light threads"
else
    not_ok "labels stay with their requests, across yields and in light threads" \
        "/a: $a%, /b: $b%"$'\n'"$(pprof -tags "$first" 2>/dev/null)"
fi
for ended in exit redirect left either; do
    like "what a request that ends so takes is labelled: $ended" \
        "$(pprof -top "-tagfocus=ended=^$ended\$" "$first" 2>/dev/null)" ' spin$'
done
like "later requests in the same coroutines are there" "$(pprof -top -cum "$first" 2>/dev/null)" ' unlabelled$'
unlike "and have none of these labels" "$(pprof -top -cum -tagfocus=ended "$first" 2>/dev/null)" ' unlabelled$'
c=$(share /c "$second")
if ((${c:-0} >= 75)); then
    ok "the first worker after a reload has them, too"
else
    not_ok "the first worker after a reload has them, too" "/c: $c%"$'\n'"$(pprof -tags "$second" 2>/dev/null)"
fi
like "the Lua function is shown" "$(pprof -top "$first" 2>/dev/null)" ' spin$'
like "and that which called a C function" "$(pprof -traces "$first" 2>/dev/null | grep -A 2 ' string\.gsub$')" ' chew$'
like "under ngx_lua's own" "$(pprof -top -cum "$first" 2>/dev/null)" ' ngx_http_lua_run_thread$'
done_testing
