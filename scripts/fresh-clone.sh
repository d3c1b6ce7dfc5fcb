#!/bin/sh
# The two commands as a newcomer types them: clones HEAD into a temporary folder and, with an empty npm cache and
# nothing on PATH but Node and the system's own tools, runs `npm ci && npm start` and asks the server for a page
# and a completion.
#
#   scripts/fresh-clone.sh           npm ci && npm start
#   scripts/fresh-clone.sh --test    and then npm ci && npm test
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
# Ends npm, its shell and the server together: the server runs in a session of its own.
stop_server() {
  [ -s "$work/server.pid" ] || return 0
  kill -- "-$(cat "$work/server.pid")" 2>/dev/null || true
  rm "$work/server.pid"
}
finish() {
  stop_server
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# Node in a folder of its own, so that nothing else that is installed beside it can help.
mkdir "$work/bin"
for tool in node npm npx; do ln -s "$(readlink -f "$(command -v $tool)")" "$work/bin/$tool"; done

git clone -q "$here" "$work/clone"
cd "$work/clone"
echo "fresh-clone: $(git log -1 --format='%h %s'), Node $(node --version)"

# Only the network's own settings (proxies, certificates) come along.
fresh() {
  env -i HOME="$work/home" PATH="$work/bin:/usr/sbin:/usr/bin:/sbin:/bin" TERM=dumb NPM_CONFIG_CACHE="$work/npm-cache" \
    NPM_CONFIG_USERCONFIG="${NPM_CONFIG_USERCONFIG:-$HOME/.npmrc}" \
    ${HTTP_PROXY:+HTTP_PROXY="$HTTP_PROXY"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
    ${NODE_EXTRA_CA_CERTS:+NODE_EXTRA_CA_CERTS="$NODE_EXTRA_CA_CERTS"} "$@"
}
mkdir "$work/home"

port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
begin=$(date +%s)
fresh setsid sh -c "echo \$\$ >'$work/server.pid'; npm ci && npm start -- --port $port" &
node "$here/scripts/smoke.js" --url "http://127.0.0.1:$port" --wait 300
echo "fresh-clone: npm ci && npm start answered after $(($(date +%s) - begin)) s"
stop_server
wait

if [ "${1:-}" = --test ]; then
  fresh sh -c 'npm ci && npm test'
fi
