#!/bin/bash
# Sees to it that the tests find a RabbitMQ. There is one already where WARREN_TEST_AMQP_URL names it, where it is
# installed, or where Docker can run it. Otherwise Debian's package is installed, as root, without its service: tests
# start private nodes of their own. Whoever is not root is told what to install.
set -euo pipefail

[ -n "${WARREN_TEST_AMQP_URL:-}" ] && exit
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && exit
timeout 10 docker info >/dev/null 2>&1 && exit

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'No RabbitMQ for the tests. Install one (on Debian: sudo apt-get install rabbitmq-server), start Docker, or set' >&2
    echo 'WARREN_TEST_AMQP_URL to one that may be filled and emptied, such as amqp://guest:guest@localhost/test.' >&2
    exit
fi

echo 'installing rabbitmq-server for the tests …'
# Debian's way to keep packages from starting their services: https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update || true # old lists may do
apt-get -qq install --no-install-recommends rabbitmq-server >/dev/null
if command -v systemctl >/dev/null; then
    systemctl --quiet disable rabbitmq-server 2>/dev/null || true # nor start it at the next boot
fi
