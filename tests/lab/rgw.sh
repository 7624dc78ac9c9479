#!/bin/bash
# rgw.sh install|start|stop|status|wipe|pause|resume|crash: a throwaway Ceph RADOS Gateway (S3) on loopback.
#
# One monitor, one OSD and the gateway, without systemd or a manager daemon; all its files are in RGW_DIR.
# "install" needs root and Debian or Ubuntu (64 MB); nothing else here does. Environment, all optional:
#
#   RGW_DIR=${TMPDIR:-/tmp}/vodbucket-rgw   configuration, logs, pids and data
#   RGW_PORT=7480                           the S3 endpoint
#   RGW_MON_PORTS="46801 46802"             the monitor (protocols v2 and v1)
#   RGW_OSD_PORT=46810                      first of the 90 ports the OSD may use
#   RGW_KEY=LABACCESSKEY RGW_SECRET=labsecretlabsecret
#   RGW_SIZE=32G                            size of the (sparse) block file
#   RGW_LC_DEBUG=                           e.g. 10: one day of lifecycle rules lasts 10 s
set -u
D=${RGW_DIR:-${TMPDIR:-/tmp}/vodbucket-rgw}; PORT=${RGW_PORT:-7480}
KEY=${RGW_KEY:-LABACCESSKEY}; SECRET=${RGW_SECRET:-labsecretlabsecret}
SIZE=${RGW_SIZE:-32G}; LCD=${RGW_LC_DEBUG:-}; OSD_PORT=${RGW_OSD_PORT:-46810}
read -r MON2 MON1 <<<"${RGW_MON_PORTS:-46801 46802}"
C="$D/ceph.conf"; R="$D/run"
say(){ echo "rgw.sh: $*" >&2; }
alive(){ [ -s "$R/$1.pid" ] && kill -0 "$(cat "$R/$1.pid")" 2>/dev/null && grep -q "$2" "/proc/$(cat "$R/$1.pid")/comm" 2>/dev/null; }
die(){ say "FAILED: $*"; say "logs: $D/log"; exit 1; }
ceph_(){ timeout 25 ceph -c "$C" --connect-timeout 4 "$@"; }

install(){ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd ceph-common curl; }

conf(){
  mkdir -p "$D"/{mon,osd,log,run,rgw}
  [ -s "$D/fsid" ] || cat /proc/sys/kernel/random/uuid >"$D/fsid"
  local fe="beast endpoint=127.0.0.1:$PORT tcp_nodelay=1"
  local bytes; bytes=$(numfmt --from=iec "$SIZE")
  cat >"$C" <<X
[global]
fsid = $(cat "$D/fsid")
mon_initial_members = a
mon_host = [v2:127.0.0.1:$MON2,v1:127.0.0.1:$MON1]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = $OSD_PORT
ms_bind_port_max = $((OSD_PORT+89))
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_allow_insecure_global_id_reclaim = true
run_dir = $R
admin_socket = $R/\$cluster-\$name.asok
pid_file = $R/\$name.pid
log_file = $D/log/\$name.log
log_to_stderr = false
crash_dir = $D/log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 2000
mon_data_avail_crit = 1
mon_data_avail_warn = 2
ms_dispatch_throttle_bytes = 268435456
# quiet daemons
debug_default = 0
debug_ms = 0/0
debug_rocksdb = 0/0
[mon]
mon_data = $D/mon/\$id
mon_allow_pool_delete = true
mon_cluster_log_file = $D/log/cluster.log
[osd]
osd_data = $D/osd/\$id
osd_objectstore = bluestore
osd_max_object_name_len = 2048
osd_class_load_list = *
osd_class_default_list = *
osd_memory_target = 1610612736
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
osd_scrub_begin_hour = 0
osd_scrub_min_interval = 31536000
osd_scrub_max_interval = 63072000
osd_deep_scrub_interval = 63072000
bluestore_block_size = $bytes
bluestore_block_create = true
bluestore_block_preallocate_file = false
bluestore_fsck_on_mount = false
osd_heartbeat_interval = 6
[client.rgw]
ms_mon_client_mode = crc
rgw_frontends = $fe
rgw_data = $D/rgw
keyring = /dev/null
rgw_thread_pool_size = 64
rgw_dns_name = localhost
# reclaim deleted/overwritten data soon (defaults: 2 h wait, hourly run)
rgw_gc_obj_min_wait = 60
rgw_gc_processor_period = 60
rgw_gc_processor_max_time = 60
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_lifecycle_work_time = 00:00-23:59
rgw_dynamic_resharding = false
rgw_max_put_size = 53687091200
X
  [ -n "$LCD" ] && echo "rgw_lc_debug_interval = $LCD" >>"$C"
  return 0
}

start(){
  for b in ceph-mon ceph-osd radosgw ceph monmaptool radosgw-admin; do command -v $b >/dev/null || die "no $b: run '$0 install'"; done
  conf; local t0; t0=$(date +%s)
  if ! alive mon.a ceph-mon; then
    if [ ! -d "$D/mon/a/store.db" ]; then
      rm -rf "$D/mon/a" "$D/monmap"; mkdir -p "$D/mon/a"
      monmaptool --create --clobber --fsid "$(cat "$D/fsid")" --addv a "[v2:127.0.0.1:$MON2,v1:127.0.0.1:$MON1]" "$D/monmap" >/dev/null || die monmaptool
      ceph-mon -c "$C" --mkfs -i a --monmap "$D/monmap" --no-log-to-stderr || die "mon mkfs"
    fi
    ceph-mon -c "$C" -i a </dev/null >"$D/log/mon.out" 2>&1 || die "mon"
  fi
  local i ok=; for i in $(seq 12); do ceph_ mon stat >/dev/null 2>&1 && { ok=1; break; }; alive mon.a ceph-mon || break; sleep 0.5; done
  [ -n "$ok" ] || die "mon does not answer"
  if ! alive osd.0 ceph-osd; then
    if [ ! -s "$D/osd/ready" ]; then
      rm -rf "$D/osd/0"; mkdir -p "$D/osd/0"
      ceph_ config set global mon_warn_on_insecure_global_id_reclaim_allowed false >/dev/null 2>&1
      local u; u=$(cat /proc/sys/kernel/random/uuid)
      [ "$(ceph_ osd new "$u" 2>/dev/null)" = 0 ] || die "osd new (stale mon? run '$0 wipe')"
      ceph-osd -c "$C" -i 0 --mkfs --osd-uuid "$u" --no-log-to-stderr >"$D/log/mkfs.out" 2>&1 || die "osd mkfs"
      ceph_ osd crush add osd.0 1.0 host=vm root=default >/dev/null 2>&1 || die "crush add"
      echo "$u" >"$D/osd/ready"
    fi
    ceph-osd -c "$C" -i 0 </dev/null >"$D/log/osd.out" 2>&1 || die "osd"
  fi
  ok=; for i in $(seq 60); do ceph_ osd stat 2>/dev/null | grep -q '1 up' && { ok=1; break; }; alive osd.0 ceph-osd || break; sleep 0.3; done
  [ -n "$ok" ] || die "osd not up"
  if [ ! -s "$D/user" ]; then
    # the admin call also creates the rgw pools and the default zone
    timeout 80 radosgw-admin -c "$C" -n client.rgw user create --uid=test --display-name=test \
       --access-key="$KEY" --secret-key="$SECRET" >"$D/user" 2>"$D/log/user.out" || { rm -f "$D/user"; die "user create: $(tail -1 "$D/log/user.out")"; }
  fi
  if ! alive client.rgw radosgw; then
    radosgw -c "$C" -n client.rgw </dev/null >"$D/log/rgw.out" 2>&1 || die "radosgw"
  fi
  for i in $(seq 120); do curl -s -o /dev/null --max-time 2 "http://127.0.0.1:$PORT/" && break; sleep 0.25; done
  curl -s -o /dev/null --max-time 5 "http://127.0.0.1:$PORT/" || die "radosgw does not answer on $PORT"
  alive client.rgw radosgw || die "radosgw is gone (port $PORT taken by another process?)"
  say "up in $(( $(date +%s) - t0 )) s"
  echo "http://127.0.0.1:$PORT"
}

stop1(){ # name comm
  alive "$1" "$2" || { rm -f "$R/$1.pid"; return 0; }
  local p i; p=$(cat "$R/$1.pid"); kill "$p"
  for i in $(seq 80); do kill -0 "$p" 2>/dev/null || break; sleep 0.25; done
  kill -0 "$p" 2>/dev/null && kill -9 "$p"; rm -f "$R/$1.pid"; say "stopped $1 ($p)"
}
# A paused gateway would not receive SIGTERM.
stop(){ alive client.rgw radosgw && kill -CONT "$(cat "$R/client.rgw.pid")"; stop1 client.rgw radosgw; stop1 osd.0 ceph-osd; stop1 mon.a ceph-mon; }
status(){ local n rc=0; for n in mon.a:ceph-mon osd.0:ceph-osd client.rgw:radosgw; do
  if alive "${n%%:*}" "${n##*:}"; then echo "${n%%:*} up pid $(cat "$R/${n%%:*}.pid")"; else echo "${n%%:*} down"; rc=1; fi; done; return $rc; }

case "${1:-}" in
  install) install;; conf) conf;; start) start;; stop) stop;; status) status;;
  # For tests of failures: pause makes requests hang, crash kills everything without warning; start recovers.
  pause) alive client.rgw radosgw && kill -STOP "$(cat "$R/client.rgw.pid")";;
  resume) alive client.rgw radosgw && kill -CONT "$(cat "$R/client.rgw.pid")";;
  crash) for n in client.rgw:radosgw osd.0:ceph-osd mon.a:ceph-mon; do alive "${n%%:*}" "${n##*:}" && kill -9 "$(cat "$R/${n%%:*}.pid")"; done
         for i in $(seq 100); do "$0" status | grep -q ' up ' || exit 0; sleep 0.1; done; say "still dying"; exit 1;;
  wipe) stop; [ ! -f "$D/fsid" ] || rm -rf "$D";;
  *) echo "usage: $0 install|start|stop|status|wipe|pause|resume|crash" >&2; exit 2;;
esac
