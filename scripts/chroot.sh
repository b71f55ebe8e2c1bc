# shellcheck shell=bash
# Sourced, after apt.sh, by the scripts that try something in a Debian of its own: a minimal one of any suite, made by debootstrap
# from the mirror that the machine uses.

# root_of SUITE FOLDER: unpacks a fresh minimal system with systemd there. The first one of a suite is downloaded, and kept as
# target/roots/SUITE.tar.
root_of() {
    local suite=$1 folder=$2 mirror tar work
    # shellcheck disable=SC2154 # of apt.sh
    tar="$root/target/roots/$suite.tar" work="$root/target/roots/$suite.new"
    if [ "$(id -u)" != 0 ]; then
        echo "only root can make a system to try it in" >&2
        return 1
    fi
    if [ ! -e "$tar" ]; then
        install_packages debootstrap debian-archive-keyring
        mirror=$(debian_mirror)
        echo "downloading a minimal system of $suite"
        rm -rf "$work"
        mkdir -p "$work"
        quietly "debootstrap-$suite" debootstrap --variant=minbase \
            --include=systemd,systemd-sysv,dbus,ca-certificates,procps "$suite" "$work" "$mirror"
        tar -C "$work" -cf "$tar.new" .
        rm -rf "$work"
        mv "$tar.new" "$tar"
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    tar -C "$folder" -xf "$tar" --exclude='./dev/*'
    # What the machine knows of the way to its mirror and of whom it trusts.
    cp -L /etc/resolv.conf "$folder/etc/resolv.conf"
    cp -L /etc/hosts "$folder/etc/hosts"
    cp -L /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
    # The machine's mirror for this suite, its lists however old, and no server that starts in a chroot.
    echo "deb $(debian_mirror) $suite main" >"$folder/etc/apt/sources.list"
    rm -f "$folder"/etc/apt/sources.list.d/*
    echo 'Acquire::Check-Valid-Until "false"; Acquire::Languages "none";' >"$folder/etc/apt/apt.conf.d/90check"
    printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d"
    chmod +x "$folder/usr/sbin/policy-rc.d"
}

# in_root FOLDER COMMAND...: runs it there with /proc, /sys and terminals of its own, and the machine's network.
in_root() {
    local folder=$1
    shift
    # shellcheck disable=SC2016 # for the inner shell
    unshare --mount --pid --fork --kill-child bash -euc '
        folder=$1
        shift
        mount --make-rprivate /
        mount -t tmpfs -o mode=755 tmpfs "$folder/dev"
        mkdir "$folder/dev/pts" "$folder/dev/shm"
        for node in null zero full random urandom tty; do
            : >"$folder/dev/$node"
            mount --bind "/dev/$node" "$folder/dev/$node"
        done
        mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$folder/dev/pts"
        ln -s pts/ptmx "$folder/dev/ptmx"
        ln -s /proc/self/fd "$folder/dev/fd"
        for nth in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${nth%%:*}" "$folder/dev/${nth#*:}"; done
        mount -t tmpfs -o mode=1777 tmpfs "$folder/dev/shm"
        mount -t proc proc "$folder/proc"
        mount -t sysfs -o ro sysfs "$folder/sys"
        if [ -n "${TOOLCHAIN:-}" ]; then mount --bind -o ro "$TOOLCHAIN" "$folder/opt/rust"; fi
        exec chroot "$folder" /usr/bin/env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
            PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' in_root "$folder" "$@"
}
