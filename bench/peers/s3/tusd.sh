#!/bin/sh
# tusd on S3 with its defaults. It is not installed by this benchmark: $TUSD names the binary.
set -eu
case $1 in
  install) test -x "${TUSD:-}" || { echo "TUSD names no tusd binary" >&2; exit 1; } ;;
  version) "$TUSD" -version | head -1 ;;
  files) echo "$TUSD" ;;
  command) printf '%s\n' "$TUSD" -host 127.0.0.1 -port "$2" -base-path /files/ \
    -s3-bucket "$S3_BUCKET" -s3-endpoint "$S3_ENDPOINT" ;;
esac
