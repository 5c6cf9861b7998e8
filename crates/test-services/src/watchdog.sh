# watchdog FOLDER PROGRAM [ARGUMENT]...: runs a program until standard input ends, which it does when
# the process at the other end of the pipe is gone: killed, panicked or done. Then nothing of the
# program is left, nor of its folder. The program writes to FOLDER/log.
dir=$1
shift
exec 3<&0
"$@" 3<&- </dev/null >"$dir/log" 2>&1 &
service=$!
trap '' HUP INT TERM
( read -r _ <&3; : >"$dir/over"; kill -KILL "$service" ) 2>/dev/null &
guard=$!
wait "$service" 2>/dev/null
if [ ! -e "$dir/over" ]; then
  kill -KILL "$guard"
  echo "$1 has ended by itself; its last words:" >&2
  tail -n 20 "$dir/log" >&2
fi
rm -rf "$dir"
