#!/usr/bin/env bash
# Try the README's commands on a machine that has nothing: a minimal Debian root (python3, venv, pip, make, certificates),
# an ordinary user, a clone of what is committed, and no other file of this machine. Catches the missing install step
# that a green run at home hides (a system library, a font, a config folder).
#
#   sudo tools/fresh_machine.sh PROJECT 'make run PROMPT="What is the capital of France?"' ['make test' …]
#
# A command that begins with "root: " is run by root: what it installs is there for those after it, not for those before.
#
# Needs root and Debian's debootstrap. The bare root is kept in $FRESH_BASE (default /var/tmp/fresh-debian) for the next call;
# each call runs in a copy that is thrown away ($FRESH_KEEP=1 keeps it). Exit status: that of the first command that fails.
#
# The commands run in namespaces of their own: with the last of them every process ends and every mount is gone, so that
# nothing of this machine can be reached when the copy is deleted.
set -euo pipefail

inside() { # in the namespaces: make the copy a machine and run the commands in it
  root=$1; shift
  mount -t proc proc "$root/proc"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  ln -s pts/ptmx "$root/dev/ptmx"
  for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
    ln -s "${link#*:}" "$root/dev/${link%%:*}"
  done
  if [ -d /opt ]; then mount --bind /opt "$root/opt" && mount -o remount,ro,bind "$root/opt"; fi
  settings=$(env | grep -E '^(CI=|PIP_|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)' || true)
  for cmd in "$@"; do
    echo "fresh machine \$ $cmd"; start=$SECONDS; status=0; user=new; path=/usr/local/bin:/usr/bin:/bin
    case $cmd in "root: "*) cmd=${cmd#root: }; user=root; path=/usr/sbin:/sbin:$path ;; esac
    env -i HOME=/home/new LANG=C.UTF-8 PATH=$path ${settings:+$(printf '%s ' $settings)} \
      /usr/sbin/chroot --userspec=$user:$user "$root" /bin/sh -c "cd /home/new/project && $cmd" </dev/null || status=$?
    echo "fresh machine: exit $status after $((SECONDS - start)) s"
    [ $status -eq 0 ] || exit $status
  done
}

if [ "${1:-}" = --inside ]; then shift; inside "$@"; exit; fi

[ $# -ge 2 ] || { sed -n '2,14p' "$0" >&2; exit 2; }
project=$(cd "$1" && git rev-parse --show-toplevel); shift
base=${FRESH_BASE:-/var/tmp/fresh-debian}
command -v debootstrap >/dev/null || { echo "fresh_machine: install Debian's debootstrap first (apt-get install debootstrap)" >&2; exit 2; }
if [ ! -e "$base/.complete" ]; then
  rm -rf --one-file-system "$base"
  mirror=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || awk '/^deb /{print $2; exit}' /etc/apt/sources.list)
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,make,ca-certificates bookworm "$base" "$mirror" >/dev/null
  chroot "$base" /usr/sbin/useradd -m -u 1000 new
  touch "$base/.complete"
fi
root=$(mktemp -d "${TMPDIR:-/var/tmp}/fresh.XXXXXX")
cleanup() { if [ "${FRESH_KEEP:-}" = 1 ]; then echo "kept: $root"; else rm -rf --one-file-system "$root"; fi; }
trap cleanup EXIT
cp -a "$base/." "$root/"
rm -rf --one-file-system "$root/dev" "$root/proc"
mkdir "$root/dev" "$root/proc"
# How this machine reaches its package index (certificates, pip's settings, files on disk); nothing else of it.
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
for f in /etc/resolv.conf /etc/hosts /etc/pip.conf; do [ -e $f ] && cp -L $f "$root/etc/"; done
[ -d /etc/xdg/pip ] && mkdir -p "$root/etc/xdg" && cp -rL /etc/xdg/pip "$root/etc/xdg/"
git clone -q --no-hardlinks "$project" "$root/home/new/project"
chroot "$root" /bin/chown -R new:new /home/new
unshare --mount --propagation private --pid --fork --kill-child "$0" --inside "$root" "$@"
