#!/bin/bash
# Installs the Debian packages that a target needs and this machine lacks:
#   tests/setup.sh deb|demo|test|fuzz|deny|bench|train|release|conformance
#   tests/setup.sh root|root-list [smoke|bench]     within a root of another release, and its list of packages
# As root it installs them. Without root it lists them.
set -euo pipefail
cd "$(dirname "$0")/.."

# A package with a command behind `=` counts as installed if the command exists.
building=(ca-certificates gcc=cc libc6-dev libssl-dev pkg-config=pkg-config)
packing=(build-essential dpkg-dev=dpkg-buildpackage debhelper=dh)
trying=(curl=curl)
testing=(
    wget=wget zstd=zstd nghttp2-client=h2load openssl=openssl sslscan=sslscan testssl.sh=testssl
    gunicorn=gunicorn wrk=wrk
    iproute2=ip strace=strace procps=ps man-db=man groff-base=groff systemd=systemd-cat
    slowhttptest=slowhttptest logrotate=logrotate faketime=faketime nftables=nft python3-fusepy
    chromium=chromium nodejs=node npm=npm
    qemu-system-x86=qemu-system-x86_64
    gir1.2-spiceclientglib-2.0 python3-gi python3-websocket
    virt-viewer=remote-viewer xvfb=Xvfb xdotool=xdotool
    python3-prometheus-client
    libanyevent-http-perl libnet-ssleay-perl
    libanyevent-perl libhttp-message-perl libtemplate-perl
    python3-proxmoxer python3-requests python3-requests-toolbelt python3-venv
    lintian=lintian debootstrap=debootstrap systemd-container=systemd-nspawn acl=setfacl
)
# Debian 13 has them apart from the package that they extend.
apart=(qemu-system-modules-spice)
# The packages that a machine needs to make a root of another release and to pack the program for it.
rooting=(debootstrap=debootstrap systemd-container=systemd-nspawn lintian=lintian nodejs=node npm=npm)
# Programs whose packages start a service.
serving=(nginx=nginx haproxy=haproxy caddy=caddy apache2=apache2 fail2ban=fail2ban-regex)
peers=(nginx=nginx haproxy=haproxy caddy=caddy wrk=wrk nghttp2-client=h2load iproute2=ip)
# Peers, and clients whose bursts are suites.
conforming=(
    nginx=nginx haproxy=haproxy caddy=caddy nghttp2-client=h2load nodejs=node default-jdk-headless=javac
    testssl.sh=testssl python3-venv curl=curl
)
training=(iproute2=ip)
# proxmoxer of PyPI beside Debian's, a scanner, and an HTTP/2 library that shares no code with nodegate's.
pypi=(proxmoxer==2.3.0 requests==2.32.5 requests_toolbelt==1.0.0 sslyze==6.3.1 h2==4.3.0)
venv=target/clients
# Client libraries, the scripts that browsers load, and the library that controls Chromium.
npm=(
    proxmox-api@1.1.1 @corsinvest/cv4pve-api-javascript@9.2.0
    @novnc/novnc@1.7.0 @xterm/xterm@6.0.0 playwright-core@1.65.1 axe-core@4.14.1
)
modules=target/browser

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

is_there() {
    local package=${1%%=*} command=${1#*=}
    [ "$command" != "$1" ] && type -P "$command" >/dev/null && return
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ]
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" </dev/null
}

# If another source has installed a newer qemu-utils than the release's, apt would remove it. So downgrade it.
install_qemu() {
    apt_install --no-remove qemu-system-x86 && return
    local version
    version=$(apt-cache policy qemu-system-x86 | awk '$1 == "Candidate:" { print $2 }')
    apt_install --no-remove --allow-downgrades "qemu-system-x86=$version" "qemu-utils=$version"
}

install_missing() {
    local entry missing=()
    for entry in "$@"; do
        is_there "$entry" || missing+=("${entry%%=*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    type -P apt-get >/dev/null || fail "this is no Debian machine; needed are: ${missing[*]}"
    [ "$(id -u)" = 0 ] || fail "packages are missing; install them, then try again:" \
        "  apt-get install --no-install-recommends ${missing[*]}"
    apt-get update
    local others=()
    for entry in "${missing[@]}"; do
        [ "$entry" = qemu-system-x86 ] || others+=("$entry")
    done
    [ ${#others[@]} = ${#missing[@]} ] || install_qemu
    [ ${#others[@]} = 0 ] || apt_install "${others[@]}"
}

require_rust() {
    type -P cargo >/dev/null || fail "cargo is missing: install Rust (https://rustup.rs), then try again"
    local tool found wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d ' ' -f 2)
    printf '%s\n' "$wanted" "${found:-0}" | sort --check=quiet --version-sort ||
        fail "Rust ${found:-?} is too old: nodegate needs $wanted; install it from https://rustup.rs, then try again"
    for tool in "$@"; do
        cargo "$tool" --version >/dev/null 2>&1 || fail "cargo $tool is missing: rustup component add rustfmt clippy"
    done
}

# The tool that reads the counts has to match the compiler's version of LLVM: rustup's llvm-tools, or Debian's.
profdata() {
    local llvm
    llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    compgen -G "$(rustc --print sysroot)/lib/rustlib/*/bin/llvm-profdata" >/dev/null ||
        install_missing "llvm-$llvm=llvm-profdata-$llvm"
}

prepare_venv() {
    local stamp=$venv/installed
    [ "$(cat "$stamp" 2>/dev/null)" = "${pypi[*]}" ] && "$venv/bin/python" -c 'import proxmoxer, sslyze, h2' && return
    # The directory may be a mount point.
    /usr/bin/python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${pypi[@]}"
    echo "${pypi[*]}" >"$stamp"
}

prepare_modules() {
    local stamp=$modules/installed
    [ "$(cat "$stamp" 2>/dev/null)" = "${npm[*]}" ] && return
    rm -rf "$modules"
    mkdir -p "$modules"
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --prefix "$modules" --no-audit --no-fund "${npm[@]}" </dev/null
    echo "${npm[*]}" >"$stamp"
}

# Those of `apart` that this release has.
extending() {
    local package
    for package in "${apart[@]}"; do
        ! apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || echo "$package"
    done
}

# The tests need only the programs. A service that a new package started is turned off; an older one stays as it is.
install_without_services() {
    local entry came=()
    for entry in "${serving[@]}"; do
        is_there "$entry" || came+=("${entry%%=*}")
    done
    install_missing "$@"
    for entry in "${came[@]}"; do
        ! [ -d /run/systemd/system ] || systemctl disable --quiet --now "$entry" 2>/dev/null || true
    done
}

# What a root of another release needs: for all tests, for the smoke test, or for the bench.
case ${2-} in
smoke)
    root=(
        ca-certificates curl wget openssl sslscan testssl.sh nginx chromium nodejs procps iproute2 nghttp2-client faketime
        python3-venv python3-proxmoxer python3-requests python3-requests-toolbelt
        libanyevent-http-perl libnet-ssleay-perl
    )
    apart=()
    ;;
bench)
    root=("${building[@]}" openssl "${peers[@]}")
    apart=()
    pypi=()
    ;;
*)
    # The machine around the root brings the npm packages along.
    root=("${building[@]}" "${packing[@]}" "${trying[@]}" "${testing[@]/#npm=npm/}" "${serving[@]}")
    ;;
esac

case ${1-} in
deb)
    [ -n "${PACK_BINARY-}" ] || require_rust
    install_missing "${building[@]}" "${packing[@]}"
    ;;
demo)
    require_rust
    install_missing "${building[@]}" "${trying[@]}"
    ;;
test)
    require_rust fmt clippy
    install_without_services "${building[@]}" "${packing[@]}" "${trying[@]}" "${testing[@]}" "${serving[@]}"
    mapfile -t apart < <(extending)
    install_missing "${apart[@]}"
    prepare_venv
    prepare_modules
    ;;
release)
    require_rust
    install_missing "${building[@]}" "${packing[@]}" "${rooting[@]}"
    prepare_modules
    ;;
root)
    # Nothing that is installed starts: the root has the processes of no system.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    # A root that a crash leaves incomplete is made again.
    echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/root
    apt-get update
    mapfile -t apart < <(extending)
    apt_install "${root[@]%%=*}" "${apart[@]}"
    apt-get clean
    [ ! -e /etc/ssl/machine.crt ] || export PIP_CERT=/etc/ssl/machine.crt SSL_CERT_FILE=/etc/ssl/machine.crt
    [ ${#pypi[@]} = 0 ] || prepare_venv
    ;;
root-list)
    echo "${root[*]} ${apart[*]} ${pypi[*]}"
    ;;
deny)
    require_rust
    install_missing "${building[@]}"
    cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
    ;;
fuzz)
    require_rust
    install_missing "${building[@]}" g++=c++
    ;;
bench)
    require_rust
    install_without_services "${building[@]}" "${peers[@]}"
    ;;
conformance)
    require_rust
    install_without_services "${building[@]}" "${conforming[@]}"
    tests/conformance/fetch
    ;;
train)
    require_rust
    install_missing "${building[@]}" "${training[@]}"
    profdata
    ;;
*)
    echo "usage: tests/setup.sh deb|demo|test|fuzz|deny|bench|train|release|conformance|root|root-list" >&2
    exit 2
    ;;
esac
