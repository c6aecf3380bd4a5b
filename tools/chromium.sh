#!/bin/sh
# chromium.sh: see to it that there is a browser for the tests of the pages: the one that is there, else Debian's, else
# Playwright's. It never fails: without a browser those tests are skipped, and `make test` says so.
say() { echo "zfrepro: $1"; }
# Run, not only looked for: Ubuntu's packages leave a program that only tells to install a snap.
found() {
    for program in chromium chromium-browser google-chrome; do
        if "$program" --version >/dev/null 2>&1; then return 0; fi
    done
    return 1
}

if found; then exit 0; fi
if command -v apt-get >/dev/null; then
    say "no browser found: installing Debian's chromium"
    if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi
    { $root apt-get -qq update && $root apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1
    if found; then exit 0; fi
fi
if command -v npx >/dev/null; then
    say "no browser found: fetching Playwright's"
    if npx --yes playwright install chromium >/dev/null 2>&1; then exit 0; fi
fi
say "NO BROWSER could be installed, so the pages are not tested in one. By hand: apt install chromium"
