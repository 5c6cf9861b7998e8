#!/bin/sh
# The endpoint that an application writes by hand, with FastAPI on uvicorn. On PostgreSQL a worker for
# each processor; on SQLite, where only one can write at a time, one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$CACHE/fastapi
key=lfk_0123456789abcdefghijklmnopqrstuvwxyz0123456
case $1 in
  install)
    mkdir -p "$home"
    cp "$here/fastapi/app.py" "$home"
    cmp -s "$here/fastapi/requirements.txt" "$home/.installed" || {
      python3 -m venv --clear "$home/env"
      "$home/env/bin/pip" install --quiet --no-deps -r "$here/fastapi/requirements.txt"
      cp "$here/fastapi/requirements.txt" "$home/.installed"
    } ;;
  version)
    "$home/env/bin/python" -c 'import platform, fastapi, uvicorn
print(f"FastAPI {fastapi.__version__}, uvicorn {uvicorn.__version__}, Python {platform.python_version()}")' ;;
  files) echo "$home/env" ;;
  key) echo "$key" ;;
  command)
    workers=1
    test -z "${BENCH_DATABASE:-}" || workers=$(nproc)
    printf '%s\n' env "API_KEY=$key" "DATABASE_URL=${BENCH_DATABASE:-}" \
      "DATABASE_FILE=${BENCH_STATE:-$3}/uploads.db" "$home/env/bin/python" -m uvicorn app:app \
      --app-dir "$home" --host 127.0.0.1 --port "$2" --workers "$workers" --no-access-log \
      --log-level warning ;;
esac
