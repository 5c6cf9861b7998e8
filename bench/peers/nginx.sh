#!/bin/sh
# nginx with its DAV module and PUT: no offset, no resumption, so not a peer but a bound. Two
# workers, no access log. It writes to a temporary file and renames.
set -eu
nginx=$(command -v nginx || echo /usr/sbin/nginx)
case $1 in
  install)
    test -x "$nginx" || {
      test "$(id -u)" = 0 || { echo "nginx-light is not installed, and only root can" >&2; exit 1; }
      apt-get install -y --no-install-recommends nginx-light
    }
    "$nginx" -V 2>&1 | grep -q dav_module ;;
  version) "$nginx" -v 2>&1 | sed 's/nginx version: //' ;;
  files) echo "$nginx" ;;
  command)
    mkdir -p "$3/files" "$3/.body"
    {
      test "$(id -u)" != 0 || echo 'user root;'
      cat <<CONF
daemon off;
pid $3/nginx.pid;
error_log $3/error.log warn;
worker_processes 2;
worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
  access_log off;
  client_max_body_size 0;
  client_body_temp_path $3/.body;
  proxy_temp_path $3/.proxy;
  fastcgi_temp_path $3/.fastcgi;
  uwsgi_temp_path $3/.uwsgi;
  scgi_temp_path $3/.scgi;
  keepalive_requests 10000000;
  server {
    listen 127.0.0.1:$2;
    root $3;
    location /files/ { dav_methods PUT; dav_access user:rw; }
  }
}
CONF
    } > "$3/nginx.conf"
    printf '%s\n' "$nginx" -p "$3" -c "$3/nginx.conf" -e "$3/error.log" ;;
esac
