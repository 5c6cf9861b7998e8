#!/bin/sh
# Landfall, with nothing set but where to listen, where to store, and the durability of the run; with
# hooks, whom to ask and to tell; and where it keeps what it has to remember. `key` makes an API key.
set -eu
with_state() {
  test -z "${BENCH_STATE:-}" || set -- "$@" --state-dir "$BENCH_STATE"
  test -z "${BENCH_DATABASE:-}" || set -- "$@" --database "$BENCH_DATABASE"
  "$@"
}
case $1 in
  install) test -x "$LANDFALL" || { echo "no program at $LANDFALL" >&2; exit 1; } ;;
  version) echo "Landfall $("$LANDFALL" --version | sed -n 's/^Version: *//p')" ;;
  files) echo "$LANDFALL" ;;
  key) with_state "$LANDFALL" keys add "${2:-bench}" ;;
  command)
    set -- "$LANDFALL" --host 127.0.0.1 --port "$2" --upload-dir "$3" \
      --durability "${DURABILITY:-none}"
    test -z "${BENCH_HOOK_URL:-}" ||
      set -- "$@" --hooks-http "$BENCH_HOOK_URL" --hooks-enabled-events "$BENCH_HOOK_EVENTS"
    test -z "${BENCH_GRANTS:-}" || set -- "$@" "$BENCH_GRANTS"
    # Several, without blanks in them.
    test -z "${BENCH_OPTIONS:-}" || set -- "$@" $BENCH_OPTIONS
    with_state printf '%s\n' "$@" ;;
esac
