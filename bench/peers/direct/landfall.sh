#!/bin/sh
# Landfall in front of a bucket to which clients upload by themselves; nothing set but that, where to
# listen, which bucket, and where it keeps what it has to remember. `key` makes an API key.
set -eu
test "$1" = command || exec "$(dirname "$0")/../landfall.sh" "$@"
set -- "$LANDFALL" --host 127.0.0.1 --port "$2" --direct --s3-bucket "$S3_BUCKET" \
  --s3-endpoint "$S3_ENDPOINT"
test -z "${BENCH_STATE:-}" || set -- "$@" --state-dir "$BENCH_STATE"
test -z "${BENCH_DATABASE:-}" || set -- "$@" --database "$BENCH_DATABASE"
printf '%s\n' "$@"
