#!/bin/busybox sh
# Process 1 on the disk: mount what a machine has, run the job, pass on its streams, switch off.
#
# The streams are virtio-serial ports (machine.py), not the serial console: what the kernel prints
# cannot get between them. A port is opened by one process at a time, so `cat` holds it and the job has
# ordinary pipes. Port 1 status, 2 standard input, 3 output, 4 error; hvc0 is the terminal.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /run/minirt-lab
. ./settings

{ /sbin/modprobe -q kvm_amd nested=1 || /sbin/modprobe -q kvm_intel nested=1; } & # the longest step: on the other processor
kvm=$!

mount --make-rshared / # as systemd has it: what a container runtime must cope with
ln -s /proc/self/fd /dev/fd
for fd in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${fd%:*}" "/dev/${fd#*:}"; done
mkdir -p /dev/pts /dev/shm /dev/mqueue /dev/net
mknod -m 666 /dev/net/tun c 10 200 # nodes whose opening loads their module
mknod -m 660 /dev/loop-control c 10 237
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
hostname lab
ip link set lo up
ulimit -Hn 524288

# All controllers for the root's children. The job runs in a leaf, so nothing but process 1 and its
# helpers is in the root, where the kernel makes an exception of the no-internal-process rule.
mkdir /sys/fs/cgroup/lab
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done

port() { for path in /dev/vport*p"$1"; do echo "$path"; done; }
exec 3>"$(port 1)"
wait "$kvm"
# keys.py says why; what it has the kernel patch is patched before the job begins, when a crash costs nothing.
mkfifo held
/usr/bin/python3 -I -S keys.py >held 2>/dev/kmsg 3>&- &
read -r word <held || echo "lab: keys.py failed" >/dev/kmsg
[ -c /dev/kvm ] && echo "ready kvm" >&3 || echo "ready" >&3

job='echo $$ >/sys/fs/cgroup/lab/cgroup.procs; exec /bin/sh /run/minirt-lab/job'
if [ "$tty" = yes ]; then
    stty -F /dev/hvc0 sane rows "$rows" cols "$columns"
    while read -r rows columns; do stty -F /dev/hvc0 rows "$rows" cols "$columns"; done <"$(port 2)" 3>&- &
    /usr/bin/setsid --wait --ctty /bin/sh -c "$job" 3>&- <>/dev/hvc0 >&0 2>&1
    status=$?
    sleep 0.1 # for the terminal's buffer
else
    # Each pipe is first opened both ways, so that no other opening of it waits: one that waits is ended by any
    # child's SIGCHLD (EINTR), and the job would never begin.
    mkfifo in out err
    exec 4<>in 5<>out 6<>err
    cat "$(port 2)" >in 3>&- 4>&- 5>&- 6>&- &
    cat out >"$(port 3)" 3>&- 4>&- 5>&- 6>&- & out=$!
    cat err >"$(port 4)" 3>&- 4>&- 5>&- 6>&- & err=$!
    exec 7<in 8>out 9>err 4>&- 5>&- 6>&-
    /bin/sh -c "$job" 3>&- <&7 >&8 2>&9 7>&- 8>&- 9>&-
    status=$?
    exec 7>&- 8>&- 9>&-
    # What the job left running would hold its pipes open; a cgroup ends it, whatever its session.
    for group in /sys/fs/cgroup/*/; do echo 1 >"$group/cgroup.kill"; done
    wait $out $err
fi
echo "exit $status" >&3
exec poweroff -n -f
