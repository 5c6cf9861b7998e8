#!/bin/sh
# rustus (Rust, actix-web). By default it answers 413 to a PATCH of more than 256 KiB, so the limit
# is raised; each body is held in memory before it is written.
set -eu
version=0.5.10
bin=$CACHE/rustus-$version/bin/rustus
case $1 in
  install)
    test -x "$bin" || cargo install --quiet rustus --version "$version" \
      --root "$CACHE/rustus-$version" ;;
  version) echo "rustus $version" ;;
  files) echo "$bin" ;;
  command)
    mkdir -p "$3/data" "$3/info"
    printf '%s\n' "$bin" --host 127.0.0.1 --port "$2" --url /files --data-dir "$3/data" \
      --info-dir "$3/info" --log-level WARN --max-body-size 8589934592 ;;
esac
