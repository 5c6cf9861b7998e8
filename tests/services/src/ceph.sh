# ceph FOLDER MONITOR-PORT PORT KEY SECRET: an object gateway of Ceph on PORT, with one monitor and one store in
# memory, none of them reachable from outside. It listens when KEY is valid, and ends by SIGTERM, with all of it.
set -eu
dir=$1 monitor=$2 port=$3 key=$4 secret=$5
cluster=4a158d27-f750-41d5-9e7f-26ce4c9d2d45
export CEPH_CONF=$dir/ceph.conf CEPH_ARGS=
mkdir -p "$dir/mon" "$dir/osd" "$dir/run"
cat >"$CEPH_CONF" <<END
[global]
fsid = $cluster
mon host = [v2:127.0.0.1:$monitor/0]
ms bind ipv4 = true
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = $dir/run
admin socket =
log file =
log to stderr = false
err to stderr = true
mon cluster log file = /dev/null
crash dir = $dir/run
mon data = $dir/mon
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1
mon max pg per osd = 1000
paxos propose interval = 0.02
paxos min wait = 0.01
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd heartbeat grace = 600
rgw frontends = beast endpoint=127.0.0.1:$port
rgw run sync thread = false
rgw enable usage log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw data = $dir/run
rgw dns name =
rgw sts key = abcdefghijklmnop
rgw s3 auth use sts = true
END

children=
start() {
  "$@" >/dev/null &
  children="$children $!"
}
run() {
  start "$@"
  wait $!
}
end() {
  trap - EXIT TERM
  # shellcheck disable=SC2086
  kill -KILL $children 2>/dev/null || true
}
trap end EXIT
trap 'end; exit 0' TERM

osd=7a0b2b87-1e04-4c87-8c2b-6e4f6f4f0d11
run monmaptool --create --fsid "$cluster" --addv a "[v2:127.0.0.1:$monitor]" "$dir/monmap"
run ceph-mon --mkfs -i a --monmap "$dir/monmap"
start ceph-mon -f -i a
run ceph --connect-timeout 60 osd new $osd
run ceph-osd --mkfs -i 0 --osd-uuid $osd --no-mon-config
start ceph-osd -f -i 0
run radosgw-admin --no-mon-config user create --uid=tests --display-name=tests \
  --access-key="$key" --secret-key="$secret"
# For temporary credentials: a role that the user may assume.
policy() {
  printf '{"Version":"2012-10-17","Statement":[{"Effect":"Allow",%s}]}' "$1"
}
run radosgw-admin --no-mon-config role create --role-name=uploads --path=/ --assume-role-policy-doc="$(
  policy '"Principal":{"AWS":["arn:aws:iam:::user/tests"]},"Action":["sts:AssumeRole"]'
)"
run radosgw-admin --no-mon-config role-policy put --role-name=uploads --policy-name=all --policy-doc="$(
  policy '"Action":["s3:*"],"Resource":["arn:aws:s3:::*"]'
)"
run radosgw -f --no-mon-config
