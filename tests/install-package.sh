#!/bin/bash
# Installs a package of Debian's for the tests, as root, without its service: tests start private servers of their own.
set -euo pipefail
package=$1

echo "installing $package for the tests …"
# Debian's way to keep packages from starting their services: https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update || true # old lists may do
apt-get -qq install --no-install-recommends "$package" >/dev/null
if command -v systemctl >/dev/null; then
    systemctl --quiet disable "$package" 2>/dev/null || true # nor start it at the next boot
fi
