#!/bin/sh
# @tus/server with @tus/file-store, as their README starts them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$CACHE/node
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
    echo "@tus/server $(node -p 'require("./node_modules/@tus/server/package.json").version')," \
      "Node $(node --version)" ;;
  files) command -v node; echo "$home/node_modules" ;;
  command) printf '%s\n' node "$home/server.mjs" "$2" "$3" ;;
esac
