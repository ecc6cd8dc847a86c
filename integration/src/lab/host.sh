# The first process of a host: builds what is private to it, then does what its standard input says. When the input
# ends, because the owner stopped or died, it ends, and the kernel ends everything else in its process namespace.
# $1 root of the engine's programs, $2 folder of the host, $3 name, $4 address; the rest are flags of the engine.
# LAB_CPUS: the CPUs it runs on, if not all. LAB_MEMORY_KIB: how much memory it says that it has, if not all.
# LAB_SSH: root of the programs of ssh, if sshd is wanted.
set -eu
engine=$1 host=$2 name=$3 address=$4
shift 4

# The lab folder may lie below what is hidden next, so it is reached through /run from here on.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lab/engine /run/lab/host /run/lab/cgroup /run/lock
mount --bind "$engine" /run/lab/engine
mount --bind "$host" /run/lab/host
if [ -n "$LAB_SSH" ]; then
    mkdir -p /run/lab/ssh
    mount --bind "$LAB_SSH" /run/lab/ssh
fi
cd /run/lab/host

# /sys must show this host's network; the groups are mounts of their own and move over.
mount --rbind /sys/fs/cgroup /run/lab/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/lab/cgroup /sys/fs/cgroup
umount -l /run/lab/cgroup
mount -t tmpfs -o mode=1777 tmpfs /dev/shm

mkdir -p etc etc.work lib lib.work data home root srv
rm -rf tmp
mkdir -m 1777 tmp
mount -t overlay overlay -o lowerdir=/etc,upperdir=etc,workdir=etc.work /etc
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=lib,workdir=lib.work /var/lib
hostname "$name"
echo "$name" > /etc/hostname
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" > /etc/hosts
# Nobody answers at this host's own port 53, and says so at once: a look-up fails without waiting.
rm -f /etc/resolv.conf
printf 'nameserver %s\noptions timeout:1 attempts:1\n' "$address" > /etc/resolv.conf
rm -rf /etc/docker
mkdir -p /etc/docker /var/lib/docker
mount --bind data /var/lib/docker
if [ -n "$LAB_SSH" ]; then
    mkdir -m 755 /run/sshd
    grep -v -E '^(root|sshd|guest|bare):' /etc/passwd > /run/lab/passwd || true
    for user in root:0:/root sshd:22001:/run/sshd guest:22002:/home bare:22003:/home; do
        IFS=: read -r name_of number home <<< "$user"
        echo "$name_of:*:$number:$number::$home:/bin/bash" >> /run/lab/passwd
    done
    cp /run/lab/passwd /etc/passwd
fi
for private in home root srv tmp; do
    mount --bind "$private" "/$private"
done
if [ -n "$LAB_MEMORY_KIB" ]; then
    sed "s/^MemTotal:.*/MemTotal: $LAB_MEMORY_KIB kB/" /proc/meminfo > /run/lab/meminfo
    mount --bind /run/lab/meminfo /proc/meminfo
fi
if [ -n "$LAB_CPUS" ]; then
    taskset -cp "$LAB_CPUS" $$ >&2
fi
cd /

bin=/run/lab/engine
PATH=$bin/usr/local/sbin:$bin/usr/local/bin:$bin/usr/sbin:$bin/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
echo ready
while read -r order; do
    case $order in
    network)
        ip link set lo up
        ip address add "$address/24" dev eth0
        ip link set eth0 up
        echo done
        ;;
    engine)
        dockerd "$@" </dev/null >>/run/lab/host/dockerd.log 2>&1 &
        echo done
        ;;
    ssh)
        /run/lab/ssh/usr/sbin/sshd -D -E /run/lab/host/sshd.log -f /run/lab/host/ssh/sshd_config </dev/null >/dev/null &
        echo done
        ;;
    esac
done
