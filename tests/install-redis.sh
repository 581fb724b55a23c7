#!/bin/bash
# Sees to it that the tests find a Redis or a Valkey: the one that WARREN_TEST_REDIS_URL names, or an installed one, or
# else Debian's package, installed as root. Whoever is not root is told what to install.
set -euo pipefail

[ -n "${WARREN_TEST_REDIS_URL:-}" ] && exit
command -v redis-server >/dev/null && exit
command -v valkey-server >/dev/null && exit

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'No Redis for the tests. Install one (on Debian: sudo apt-get install redis-server), or set WARREN_TEST_REDIS_URL' >&2
    echo 'to a database that may be filled, such as redis://localhost/15.' >&2
    exit
fi

exec "$(dirname "${BASH_SOURCE[0]}")/install-package.sh" redis-server
