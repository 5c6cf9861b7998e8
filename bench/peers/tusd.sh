#!/bin/sh
# tusd with its defaults. It is not installed by this benchmark: $TUSD names the binary.
set -eu
case $1 in
  install) test -x "${TUSD:-}" || { echo "TUSD names no tusd binary" >&2; exit 1; } ;;
  version) "$TUSD" -version | head -1 ;;
  files) echo "$TUSD" ;;
  command)
    set -- "$TUSD" -host 127.0.0.1 -port "$2" -upload-dir "$3" -base-path /files/
    test -z "${BENCH_HOOK_URL:-}" ||
      set -- "$@" -hooks-http "$BENCH_HOOK_URL" -hooks-enabled-events "$BENCH_HOOK_EVENTS"
    printf '%s\n' "$@" ;;
esac
