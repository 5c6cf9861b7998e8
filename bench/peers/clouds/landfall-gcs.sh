#!/bin/sh
# Landfall on Google Cloud Storage, with nothing set but where to listen and which bucket.
set -eu
case $1 in
  install) test -x "$LANDFALL" || { echo "no program at $LANDFALL" >&2; exit 1; } ;;
  version) echo "Landfall $("$LANDFALL" --version | sed -n 's/^Version: *//p')" ;;
  files) echo "$LANDFALL" ;;
  command)
    printf '%s\n' "$LANDFALL" --host 127.0.0.1 --port "$2" \
      --gcs-bucket "$CLOUD_BUCKET" --gcs-endpoint "$CLOUD_ENDPOINT" ;;
esac
