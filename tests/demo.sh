#!/bin/bash
# `make demo`: the three profiles on loopback, in front of stand-in daemons, with a temporary root directory.
# With DEMO_ONCE=1 it runs its own commands, checks their output, and ends. `tests/demo.sh ports` only looks whether its
# ports are free.
set -euo pipefail
cd "$(dirname "$0")/.."

pve_port=${DEMO_PVE_PORT:-18006}
pmg_port=${DEMO_PMG_PORT:-18007}
spice_port=${DEMO_SPICE_PORT:-13128}
pve_daemon_port=${DEMO_PVE_DAEMON_PORT:-18085}
pmg_daemon_port=${DEMO_PMG_DAEMON_PORT:-18086}
machine_port=${DEMO_MACHINE_PORT:-61000}
console_port=${DEMO_CONSOLE_PORT:-5999}
status_port=${DEMO_STATUS_PORT:-18090}
root=${DEMO_ROOT:-target/demo}
bin=${DEMO_BIN:-${CARGO_TARGET_DIR:-target}/debug}

children=()
started=

fail() {
    printf 'demo: %s\n' "$@" >&2
    exit 1
}

clean_up() {
    local child
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || true
    done
    [ ${#children[@]} = 0 ] || wait "${children[@]}" 2>/dev/null || true
    [ -z "$started" ] || rm -rf "$root"
}

refuse_taken_ports() {
    local name
    for name in pve_port pmg_port spice_port pve_daemon_port pmg_daemon_port machine_port \
        console_port status_port; do
        if (exec 3<>"/dev/tcp/127.0.0.1/${!name}") 2>/dev/null; then
            fail "port ${!name} is taken; choose another with DEMO_${name^^}=…"
        fi
    done
}

# start NAME COMMAND…: starts a child in the background and writes its output to a file.
start() {
    local name=$1
    shift
    "$@" >"$root/$name.out" 2>&1 </dev/null &
    children+=("$!")
}

# wait_for NAME TEXT: waits until the last child has written TEXT.
wait_for() {
    local child=${children[-1]}
    for _ in $(seq 600); do
        grep -q "$2" "$root/$1.out" && return
        kill -0 "$child" 2>/dev/null || break
        sleep 0.05
    done
    fail "$1 did not start:" "$(cat "$root/$1.out")"
}

# serve PROFILE PORT [DAEMON_PORT]: the settings are in a file, so that check and status know them too.
serve() {
    local profile=$1 port=$2
    {
        printf '[listen]\naddress = "127.0.0.1"\nport = %s\n' "$port"
        [ $# -lt 3 ] || printf '\n[backend]\naddress = "127.0.0.1:%s"\n' "$3"
        [ "$profile" != pve ] || printf '\n[metrics]\nlisten = "127.0.0.1:%s"\n' "$status_port"
    } >"$root/etc/nodegate/$profile.toml"
    start "$profile" "$bin/nodegate" --root "$root" run "$profile"
    wait_for "$profile" "listening on"
}

# complete PROFILE PAGE: the directories and the templates that a product's packages bring, so check has nothing to warn of.
# Each page that is missing is a copy of the start page PAGE.
complete() {
    local profile=$1 page=$2 text path
    text=$("$bin/nodegate" profiles "$profile")
    for path in $(sed -nE 's|^path = "(/usr/share/[^".]*)".*|\1|p' <<<"$text"); do
        mkdir -p "$root$path"
    done
    for path in $(grep -oE '/usr/share/[^"]*\.(tpl|tt)"' <<<"$text" | tr -d '"'); do
        [ -e "$root$path" ] || { mkdir -p "$root${path%/*}" && cp "$root$page" "$root$path"; }
    done
}

start_all() {
    [ ! -e "$root" ] || [ -e "$root/standin" ] || [ -z "$(ls -A "$root")" ] || fail "$root is in use and no demo's"
    started=yes
    rm -rf "$root"
    mkdir -p "$root"
    "$bin/standin" demo "$root"
    chmod o-r "$root"/etc/pve/local/pve-ssl.key "$root"/etc/pmg/pmg-api.pem
    complete pve /usr/share/pve-manager/index.html.tpl
    complete pmg /usr/share/javascript/pmg-gui/pmg-index.html.tt
    start standin "$bin/standin" serve "$root" --console "127.0.0.1:$console_port" --pve "127.0.0.1:$pve_daemon_port" \
        --pmg "127.0.0.1:$pmg_daemon_port" --echo "127.0.0.1:$machine_port"
    wait_for standin "echo on"
    mkdir -p "$root/etc/nodegate"
    serve pve "$pve_port" "$pve_daemon_port"
    serve pmg "$pmg_port" "$pmg_daemon_port"
    serve spice "$spice_port"
}

# A title, a command to paste (they share one shell), and a pattern that its output has to match.
titles=() commands=() expectations=()
try() {
    titles+=("$1") commands+=("$2") expectations+=("$3")
}

list_commands() {
    local pve=https://127.0.0.1:$pve_port pmg=https://127.0.0.1:$pmg_port
    local curl="curl -sS --cacert $root/etc/pve/pve-root-ca.pem"
    local call="nodegate --root $root"
    local login='-d username=root@pam -d password=demo'

    try "Log in to Proxmox VE: a ticket, and the token for writes" \
        "login=\$($curl $login $pve/api2/json/access/ticket); echo \"\$login\"" '"ticket":"PVE:root@pam:'
    try "Read the version with that ticket" \
        "ticket=\$(sed 's/.*\"ticket\":\"\\([^\"]*\\)\".*/\\1/' <<<\"\$login\")
$curl -b \"PVEAuthCookie=\$ticket\" $pve/api2/json/version" '"version":"9'
    try "Write without the token: refused, after three seconds" \
        "$curl -i -b \"PVEAuthCookie=\$ticket\" -X PUT -d keyboard=de $pve/api2/json/cluster/options" \
        '401 Permission denied - invalid csrf token'
    try "Write with it" \
        "token=\$(sed 's/.*\"CSRFPreventionToken\":\"\\([^\"]*\\)\".*/\\1/' <<<\"\$login\")
$curl -i -b \"PVEAuthCookie=\$ticket\" -H \"CSRFPreventionToken: \$token\" -X PUT -d keyboard=de $pve/api2/json/cluster/options" \
        'HTTP/1.1 200 OK'
    local machine="$pve/api2/json/nodes/\$(hostname -s)/qemu/100"
    try "A console, as noVNC opens it: a ticket for its port, then a websocket, which curl ends after two seconds" \
        "console=\$($curl -b \"PVEAuthCookie=\$ticket\" -H \"CSRFPreventionToken: \$token\" -d websocket=1 $machine/vncproxy)
vncticket=\$(sed 's/.*\"ticket\":\"\\([^\"]*\\)\".*/\\1/' <<<\"\$console\")
port=\$(sed 's/.*\"port\":\"\\([0-9]*\\)\".*/\\1/' <<<\"\$console\")
upgrade=(-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==')
($curl -i -G --max-time 2 -b \"PVEAuthCookie=\$ticket\" \"\${upgrade[@]}\" --data-urlencode \"vncticket=\$vncticket\" -d port=\$port $machine/vncwebsocket; true) &
sleep 1; $call status pve | grep -A1 consoles; wait \$!" '1 open.*101 Switching Protocols'
    try "A file of the GUI, compressed on the way" \
        "$curl --compressed -D - -o $root/script.js $pve/pve2/js/pvemanagerlib.js" '[Cc]ontent-[Ee]ncoding: '
    try "An address on the deny list (DENY_FROM in $root/etc/default/pveproxy) is rejected" \
        "$curl --interface 127.0.0.9 $pve/ || { sleep 0.1; tail -n 1 $root/var/log/pveproxy/access.log; }" '127.0.0.9 - - .* 403 '
    try "Why that is so" "$call acl pve 127.0.0.1 127.0.0.9" '127.0.0.9 deny '
    try "The Mail Gateway, by the same engine" \
        "ticket=\$($curl $login $pmg/api2/json/access/ticket | sed 's/.*\"ticket\":\"\\([^\"]*\\)\".*/\\1/')
$curl -b \"PMGAuthCookie=\$ticket\" $pmg/api2/json/version" '"version":"9'
    try "A SPICE tunnel, as a viewer opens it, to a machine that echoes each byte" \
        "target=\$(standin spice $root \"\$(hostname -s)\" 100 $machine_port)
exec 3<>/dev/tcp/127.0.0.1/$spice_port
printf 'CONNECT %s HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\nhello, machine\\n' \"\$target\" \"\$target\" >&3
head -n 3 <&3; exec 3>&-" 'HTTP/1.0 200 OK.*hello, machine'
    try "The same with a ticket for another machine's port: refused" \
        "target=\${target%:*}:61999
exec 3<>/dev/tcp/127.0.0.1/$spice_port
printf 'CONNECT %s HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n' \"\$target\" \"\$target\" >&3
cat <&3; echo; exec 3>&-" '401 invalid ticket'
    try "Where a request would go, and whether it needs a login" \
        "$call route pve GET /api2/json/version" 'daemon login '
    try "Every setting in effect, and its origin" "$call check pve" "listen.port = $pve_port .*etc/nodegate/pve.toml"
    try "Why it does not work, if it does not" "$call doctor pve" 'pve: 0 errors'
    try "The status page, in a browser at http://127.0.0.1:$status_port" \
        "curl -sS http://127.0.0.1:$status_port/ | grep -o '<title>.*</title>'" '<title>'

    try "The state of the running process" "$call status pve" "connections"
    local settings=$root/etc/nodegate/pve.toml
    try "A reload: one more address is denied" \
        "cp $settings $root/before; printf '\\n[acl]\\ndeny_from = [\"127.0.0.8\", \"127.0.0.9\"]\\n' >>$settings
$call reload pve; $call acl pve 127.0.0.8" 'reloaded; changed: acl.deny_from.*127.0.0.8 deny'
    try "A reload that nodegate reverts, because you do not confirm it within two seconds" \
        "cp $root/before $settings; $call reload pve --confirm 2; sleep 3; $call status pve | grep 'last reload'" 'reverted'
    try "The same, confirmed" "$call reload pve --confirm 10 --force; $call confirm pve" 'changed: acl.deny_from.*confirmed'
    try "The start page, which a browser shows at $pve" "$curl $pve/" 'nodegate serves the Proxmox VE demo'
    try "The start page of the Mail Gateway, at $pmg" "$curl $pmg/" 'nodegate serves the Mail Gateway demo'
}

print_commands() {
    local index
    echo
    echo "Serving: pve on https://127.0.0.1:$pve_port, pmg on https://127.0.0.1:$pmg_port, SPICE on 127.0.0.1:$spice_port."
    echo "Open the first two in a browser; it warns you of the demo's own certificate authority."
    echo "Users root@pam and bob@pve, password demo. The root is $root, with every log."
    echo "In another terminal (bash), one after another:"
    echo
    echo "cd $PWD; PATH=$(realpath "$bin"):\$PATH"
    for index in "${!titles[@]}"; do
        printf '\n# %s\n%s\n' "${titles[index]}" "${commands[index]}"
    done
    echo
}

# Runs each command and checks its output.
try_commands() {
    local index output failed=0
    PATH=$(realpath "$bin"):$PATH
    for index in "${!titles[@]}"; do
        # In this shell, because the commands share variables.
        eval "${commands[index]}" >"$root/tried" 2>&1 </dev/null || true
        output=$(tr '\r\n' '  ' <"$root/tried")
        if grep -q -- "${expectations[index]}" <<<"$output"; then
            echo "ok    ${titles[index]}"
        else
            failed=1
            printf 'WRONG %s\n%s\n' "${titles[index]}" "$(cat "$root/tried")"
        fi
    done
    return $failed
}

trap clean_up EXIT
trap 'exit 0' INT TERM
refuse_taken_ports
[ "${1-}" != ports ] || exit 0
start_all
list_commands
if [ -n "${DEMO_ONCE-}" ]; then
    try_commands
else
    print_commands
    echo "Ctrl-C ends it."
    wait -n "${children[@]}" || true
    fail "one of the servers has ended:" "$(tail -n 3 "$root"/*.out)"
fi
