#!/bin/sh
# aws s3 cp: no server, but what a plain parallel multipart upload of a file comes to.
set -eu
version=1.46.2
home=$CACHE/awscli-$version
case $1 in
  install)
    test -x "$home/bin/aws" || {
      python3 -m venv "$home" && "$home/bin/pip" install --quiet "awscli==$version"
    }
    cat > "$home/config" <<CONF
[default]
s3 =
  multipart_threshold = 8MB
  multipart_chunksize = 8MB
  max_concurrent_requests = 10
  addressing_style = path
CONF
    ;;
  version) "$home/bin/aws" --version 2>&1 | sed 's/ .*botocore/, botocore/' ;;
  files) echo "$home" ;;
  command) printf '%s\n' env AWS_CONFIG_FILE="$home/config" "$home/bin/aws" \
    --endpoint-url "$S3_ENDPOINT" s3 cp --only-show-errors "$2" "s3://$S3_BUCKET/$3" ;;
esac
