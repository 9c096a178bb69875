#!/bin/bash
# The browser's side of the console tests, from npm into target/browser: noVNC, xterm.js, and what drives Chromium.
set -euo pipefail
cd "$(dirname "$0")/../../.."

packages=(@novnc/novnc@1.7.0 @xterm/xterm@6.0.0 playwright-core@1.65.1)

for tool in node npm chromium; do
    type -P "$tool" >/dev/null || { echo "setup: $tool is missing: apt-get install nodejs npm chromium" >&2; exit 1; }
done
mkdir -p target/browser
exec 9>target/browser/lock
flock 9 # several tests ask at once
if [ "$(cat target/browser/installed 2>/dev/null)" != "${packages[*]}" ]; then
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --prefix target/browser --no-audit --no-fund "${packages[@]}"
    echo "${packages[*]}" >target/browser/installed
fi
