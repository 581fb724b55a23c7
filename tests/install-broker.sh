#!/bin/bash
# Sees to it that the tests find a RabbitMQ. There is one already where WARREN_TEST_AMQP_URL names it, where it is
# installed, or where Docker can run it. Otherwise Debian's package is installed, as root. Whoever is not root is told
# what to install.
set -euo pipefail

[ -n "${WARREN_TEST_AMQP_URL:-}" ] && exit
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && exit
timeout 10 docker info >/dev/null 2>&1 && exit

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'No RabbitMQ for the tests. Install one (on Debian: sudo apt-get install rabbitmq-server), start Docker, or set' >&2
    echo 'WARREN_TEST_AMQP_URL to one that may be filled and emptied, such as amqp://guest:guest@localhost/test.' >&2
    exit
fi

exec "$(dirname "${BASH_SOURCE[0]}")/install-package.sh" rabbitmq-server
