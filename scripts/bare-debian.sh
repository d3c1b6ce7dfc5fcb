#!/bin/sh
# The two commands on a bare Debian 12 that has Node and a clone, and nothing else: makes such a system with
# debootstrap in a temporary folder, copies this machine's Node and a clone of HEAD into it, and runs
# `npm ci && npm start` (asking the server for a page and a completion) and `npm ci && npm test` inside, as root.
#
#   scripts/bare-debian.sh             both commands; needs root on Debian or Ubuntu, 3 GB of disk, ten minutes
#   scripts/bare-debian.sh --start     only npm ci && npm start
#   scripts/bare-debian.sh --keep      leaves the system in place and prints where it is
set -eu

release=bookworm
start_only=
keep=
for option in "$@"; do
  case $option in
    --start) start_only=yes ;;
    --keep) keep=yes ;;
    *) echo "bare-debian: unknown option $option; expected --start or --keep" >&2; exit 1 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "bare-debian: must run as root: sudo sh $0" >&2; exit 1; }
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; }

here=$(cd "$(dirname "$0")/.." && pwd)
system=$(mktemp -d)
chmod 755 "$system" # apt gives up root inside, and must still see the folder
# Ends npm, its shell and the server together: the server runs in a session of its own.
stop_server() {
  [ -s "$system/tmp/server.pid" ] || return 0
  kill -- "-$(cat "$system/tmp/server.pid")" 2>/dev/null || true
  rm "$system/tmp/server.pid"
}
finish() {
  stop_server
  for folder in dev/shm dev proc; do umount -l "$system/$folder" 2>/dev/null || true; done
  if [ -n "$keep" ]; then echo "bare-debian: kept in $system"; else rm -rf --one-file-system "$system"; fi
}
trap finish EXIT
trap 'exit 1' INT TERM

# The mirror that this machine's own apt uses for Debian.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $release" 'Origin: Debian' | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "bare-debian: this machine's apt knows no mirror of Debian $release" >&2; exit 1; }

echo "bare-debian: making Debian $release"
debootstrap --variant=minbase "$release" "$system" "$mirror" >"$system.log" 2>&1 ||
  { tail -n 20 "$system.log" >&2; echo "bare-debian: debootstrap failed, its log is in $system.log" >&2; exit 1; }
rm -f "$system.log"
mount -t proc proc "$system/proc"
mount --bind /dev "$system/dev"
mount --make-private "$system/dev" # what is mounted below stays ours
mkdir -p "$system/dev/shm"
mount -t tmpfs tmpfs "$system/dev/shm"

# How this machine reaches the network: names, certificates, apt's and npm's settings. Nothing else of it.
cp /etc/resolv.conf /etc/hosts "$system/etc/"
cp /etc/apt/apt.conf.d/* "$system/etc/apt/apt.conf.d/" 2>/dev/null || true
[ ! -d /etc/ssl/certs ] || { mkdir -p "$system/etc/ssl/certs" && cp -L /etc/ssl/certs/ca-certificates.crt "$system/etc/ssl/certs/"; }
[ ! -f "$HOME/.npmrc" ] || cp "$HOME/.npmrc" "$system/root/.npmrc"

# Node as its own archive lays it out: bin/node, lib/node_modules/npm.
mkdir -p "$system/usr/local/bin" "$system/usr/local/lib/node_modules"
cp "$(readlink -f "$(command -v node)")" "$system/usr/local/bin/node"
npm_home=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
cp -r "$npm_home" "$system/usr/local/lib/node_modules/npm"
for tool in npm npx; do ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$system/usr/local/bin/$tool"; done
git clone -q "$here" "$system/root/nanoflow"

inside() {
  env -i HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    ${HTTP_PROXY:+HTTP_PROXY="$HTTP_PROXY"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
    ${NODE_EXTRA_CA_CERTS:+NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt} \
    setsid --wait chroot "$system" sh -c "cd /root/nanoflow && $1"
}
echo "bare-debian: $(git -C "$here" log -1 --format='%h %s'), Node $(inside 'node --version'), $(inside 'dpkg -l | grep -c ^ii') packages"

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
begin=$(date +%s)
inside "echo \$\$ >/tmp/server.pid; npm ci && npm start -- --port $port" &
node "$here/scripts/smoke.js" --url "http://127.0.0.1:$port" --wait 300
echo "bare-debian: npm ci && npm start answered after $(($(date +%s) - begin)) s"
stop_server
wait
[ -z "$start_only" ] || exit 0

begin=$(date +%s)
inside 'npm ci && npm test'
echo "bare-debian: npm ci && npm test passed after $(($(date +%s) - begin)) s"
