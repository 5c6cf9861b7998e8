#!/bin/sh
# @tus/server with @tus/s3-store, as their README starts them. Its temporary files go to $TMPDIR.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$CACHE/s3-node
case $1 in
  install)
    mkdir -p "$home"
    cp "$here"/node/package.json "$here"/node/package-lock.json "$here"/node/server.mjs "$home"
    cmp -s "$home/package-lock.json" "$home/node_modules/.installed" || {
      (cd "$home" && npm ci --silent --no-audit --no-fund)
      cp "$home/package-lock.json" "$home/node_modules/.installed"
    } ;;
  version)
    cd "$home"
    echo "@tus/s3-store $(node -p 'require("./node_modules/@tus/s3-store/package.json").version')," \
      "@tus/server $(node -p 'require("./node_modules/@tus/server/package.json").version')," \
      "Node $(node --version)" ;;
  files) command -v node; echo "$home/node_modules" ;;
  command) printf '%s\n' node "$home/server.mjs" "$2" "$S3_BUCKET" "$S3_ENDPOINT" ;;
esac
