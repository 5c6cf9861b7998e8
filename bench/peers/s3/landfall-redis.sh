#!/bin/sh
# The same, with its leases in Redis, as several nodes on one bucket would run it.
set -eu
test "$1" != install || command -v redis-server >/dev/null || {
  echo "redis-server is not installed" >&2
  exit 1
}
LEASES=${REDIS_URL:-} exec "$(dirname "$0")/landfall.sh" "$@"
