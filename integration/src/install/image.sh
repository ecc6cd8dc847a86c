# Makes busybox.tar, the image `busybox:latest`, in the working directory. $1 is a static busybox.
# Every date, owner and order is fixed, so that the image has the same id wherever it was made.
set -eu
umask 022
busybox=$1
rm -rf rootfs
mkdir -p rootfs/bin rootfs/dev rootfs/etc rootfs/home rootfs/proc rootfs/root rootfs/sys rootfs/tmp rootfs/usr/bin rootfs/usr/sbin rootfs/var
chmod 1777 rootfs/tmp
chmod 700 rootfs/root
cp "$busybox" rootfs/bin/busybox
chmod 755 rootfs/bin/busybox
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "rootfs/bin/$applet"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > rootfs/etc/passwd
printf 'root:x:0:\nnobody:x:65534:\n' > rootfs/etc/group

pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "$@"; }
pack -C rootfs -cf layer.tar .
layer=$(sha256sum layer.tar | cut -d ' ' -f 1)
machine=$(dpkg --print-architecture)
date=2024-01-01T00:00:00Z
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
printf '{"architecture":"%s","config":{"Env":["PATH=%s"],"Cmd":["sh"]},"created":"%s","history":[{"created":"%s","created_by":"busybox"}],"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$machine" "$path" "$date" "$date" "$layer" > config.json
printf '[{"Config":"config.json","RepoTags":["busybox:latest"],"Layers":["layer.tar"]}]' > manifest.json
pack -cf busybox.tar manifest.json config.json layer.tar
rm -rf rootfs layer.tar config.json manifest.json
