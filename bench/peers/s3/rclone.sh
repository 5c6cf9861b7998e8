#!/bin/sh
# rclone copyto: the other plain parallel multipart upload. It isn't let read the file a first
# time for an MD5 of its own.
set -eu
case $1 in
  install)
    command -v rclone >/dev/null || {
      test "$(id -u)" = 0 || { echo "rclone is not installed, and only root can" >&2; exit 1; }
      apt-get install -y --no-install-recommends rclone
    } ;;
  version) rclone version | head -1 ;;
  files) command -v rclone ;;
  command) printf '%s\n' env RCLONE_CONFIG=/dev/null rclone --s3-provider Other --s3-env-auth \
    --s3-endpoint "$S3_ENDPOINT" --s3-region "$AWS_REGION" --s3-force-path-style \
    --s3-chunk-size 8Mi --s3-upload-cutoff 8Mi --s3-upload-concurrency 10 \
    --s3-no-check-bucket --s3-disable-checksum copyto "$2" ":s3:$S3_BUCKET/$3" ;;
esac
