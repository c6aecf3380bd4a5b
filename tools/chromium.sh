#!/bin/sh
# chromium.sh: see to it that there is a browser for the tests of the pages: the one that is there,
# else Debian's, else Playwright's. It never fails: without one those tests are skipped, and say so.
# Each is run, not only looked for: Ubuntu's packages leave one that only tells to install a snap.
found() {
    for program in chromium chromium-browser google-chrome; do "$program" --version && return; done >/dev/null 2>&1
    return 1
}
if [ "$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi
found && exit 0
echo "zfrepro: no browser found: installing Debian's chromium, else Playwright's"
{ $root apt-get -qq update && $root apt-get -qq install -y --no-install-recommends chromium; } >/dev/null 2>&1
found || npx --yes playwright install chromium >/dev/null 2>&1 ||
    echo "zfrepro: NO BROWSER could be installed, so the pages are not tested in one. By hand: apt install chromium"
