#!/bin/sh
# The floor: recv into 256 KiB and write to a file, a thread per connection. Not a tus server:
# what the same bytes cost with everything left out. Built with the load generator.
set -eu
case $1 in
  install) test -x "$LOADGEN" ;;
  version) echo "bare recv-and-write loop" ;;
  files) echo "$LOADGEN" ;;
  command) printf '%s\n' "$LOADGEN" floor "$2" "$3" ;;
esac
