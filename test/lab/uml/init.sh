#!/bin/sh
# First process of a lab guest. The kernel's command line hands over LAB_DIR,
# the guest's directory on the host; it holds
#   env    variables of the guest and its program, NAME=value lines
#   args   the program (a path on the host) and its arguments, one a line
#   hosts  the guest's /etc/hosts
# The program's exit status becomes the exit status of the kernel's process.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb LVM_SUPPRESS_FD_WARNINGS=1

# The kernel may lose the signal for a finished disk request; the next request
# is answered together with the lost one (see inside.go, which does the same
# while the program runs).
kick() {
	while sleep 0.3; do
		dd if=/dev/ubda of=/dev/null bs=4096 count=1 iflag=direct status=none &
	done
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
kick &
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir -p /run/lock /run/lvm /run/drbd/lock
ln -sfn /proc/self/fd /dev/fd
ln -sfn fd/0 /dev/stdin
ln -sfn fd/1 /dev/stdout
ln -sfn fd/2 /dev/stderr
mount -t hostfs none /host -o /
modprobe configfs
mount -t configfs configfs /sys/kernel/config
mount -t cgroup2 none /sys/fs/cgroup
mount --make-rshared /

while IFS= read -r line; do
	export "$line"
done <"/host$LAB_DIR/env"

cat "/host$LAB_DIR/hosts" >/etc/hosts
hostname "$DOZO_LAB_GUEST"
printf '%s' "$DOZO_LAB_GUEST" | md5sum | cut -d ' ' -f 1 >/etc/machine-id
echo "InitiatorName=iqn.2026-01.dev.dozo:$DOZO_LAB_GUEST" >/etc/iscsi/initiatorname.iscsi
ip link set lo up
if [ -n "$DOZO_LAB_ADDRESS" ]; then
	ip address add "$DOZO_LAB_ADDRESS" dev vec0
	ip link set vec0 up
fi

set --
while IFS= read -r line; do
	set -- "$@" "$line"
done <"/host$LAB_DIR/args"
program=$1
shift

cd "/host$DOZO_LAB_CWD" || exit 1
kill $!
"/host$program" "$@" </dev/null
echo $? >/proc/exitcode
kick &
cd /
sync
busybox poweroff -f
