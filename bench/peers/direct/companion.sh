#!/bin/sh
# @uppy/companion, embedded in an application. As released it asks for a version of one of its
# dependencies that there isn't, so that one is overridden; and its part URLs would carry the checksum
# of no bytes, which S3 servers refuse, unless checksums are made only where they are required.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$CACHE/companion
case $1 in
  install)
    mkdir -p "$home"
    cp "$here"/companion/package.json "$here"/companion/package-lock.json \
      "$here"/companion/server.mjs "$home"
    cmp -s "$home/package-lock.json" "$home/node_modules/.installed" || {
      (cd "$home" && npm ci --silent --no-audit --no-fund)
      cp "$home/package-lock.json" "$home/node_modules/.installed"
    } ;;
  version)
    cd "$home"
    echo "@uppy/companion $(node -p 'require("./node_modules/@uppy/companion/package.json").version')," \
      "Node $(node --version)" ;;
  key) echo - ;;
  files) command -v node; echo "$home/node_modules" ;;
  command)
    printf '%s\n' env NODE_ENV=production AWS_REQUEST_CHECKSUM_CALCULATION=WHEN_REQUIRED \
      AWS_RESPONSE_CHECKSUM_VALIDATION=WHEN_REQUIRED node "$home/server.mjs" "$2" "$3" \
      "$S3_BUCKET" "$S3_ENDPOINT" ;;
esac
