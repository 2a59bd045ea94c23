#!/bin/sh
# The first process of the Linux guest: mounts the kernel's file systems, loads the drivers of the devices that the
# machine has, and keeps a shell on the console. busybox's poweroff, halt and reboot ask process 1 by signal.
# With the boot argument mpemu.run=COMMAND or mpemu.run="COMMAND WITH ARGUMENTS" it runs that command instead and powers
# off; the command's exit status becomes the machine's, by way of the test finisher.
export PATH=/bin HOME=/root TERM="${TERM:-linux}" PS1='\w # '
trap 'sync; poweroff -f' USR1 USR2
trap 'sync; reboot -f' TERM
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
echo mpemu >/proc/sys/kernel/hostname
modprobe virtio_mmio
for alias in /sys/bus/virtio/devices/*/modalias; do
    [ -e "$alias" ] && read -r driver <"$alias" && modprobe -q "$driver"
done
cd /root
read -r arguments </proc/cmdline
case " $arguments" in
*" mpemu.run="*)
    command="${arguments#*mpemu.run=}"
    case "$command" in
    '"'*) command="${command#?}" command="${command%%\"*}" ;;
    *) command="${command%% *}" ;;
    esac
    sh -c "$command"
    status=$?
    sync
    stty opost </dev/console # waits until the console has taken everything
    [ $status = 0 ] || devmem 0x100000 32 $((0x3333 | status << 16))
    poweroff -f
    ;;
esac
echo
echo "Linux $(uname -r) on $(nproc) harts. poweroff ends the machine, reboot restarts it; Ctrl-A x ends mpemu."
echo
while :; do
    setsid cttyhack sh -l </dev/console &
    wait $! # not in the foreground: a trap runs only between commands
done
