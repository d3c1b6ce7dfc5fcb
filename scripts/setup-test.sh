#!/bin/sh
# Installs what the test rings need on Debian or Ubuntu, as root: a Vulkan loader, a software Vulkan driver
# that Dawn accepts (lavapipe of Mesa 23 or later), and a Chromium. Installs only what is missing, so running
# it again is quick and harmless.
#
#   scripts/setup-test.sh             everything
#   scripts/setup-test.sh vulkan      only the Vulkan loader and driver
#   scripts/setup-test.sh chromium    only the browser
#   scripts/setup-test.sh --print-backports [RELEASE FILE...]   only shows the apt source that would be added
#
# Debian 12 ships Mesa 22.3, whose lavapipe Dawn rejects ("shaderUniform*ArrayDynamicIndexing required").
# There the driver comes from the release's backports, reached through the mirror that the machine's own apt
# sources name. Packages in backports are never taken by an ordinary upgrade.
set -eu

MIN_MESA=23
BACKPORTS_FILE=/etc/apt/sources.list.d/nanoflow-backports

say() { echo "setup-test: $*" >&2; }
die() { say "$*"; exit 1; }

# Reads one-line apt sources on stdin; prints the first line for suite $1 rewritten to suite $2.
from_list() {
  sed -n "s/^[[:space:]]*\(deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}[^[:space:]]\{1,\}\)[[:space:]]\{1,\}$1[[:space:]].*\<main\>.*/\1 $2 main/p" |
    head -n 1
}

# Reads deb822 apt sources on stdin; prints the first enabled stanza for suite $1 rewritten to suite $2.
# Every field but Types, Suites and Components (Signed-By with an embedded key, say) is kept as it stands.
from_deb822() {
  awk -v suite="$1" -v target="$2" '
    function flush() {
      if (!done && is_deb && has_suite && has_main && enabled) {
        printf "Types: deb\nSuites: %s\nComponents: main\n%s", target, kept
        done = 1
      }
      is_deb = has_suite = has_main = 0; enabled = 1; kept = ""; field = ""
    }
    function note(words,   i, n, w) {
      n = split(words, w, /[ \t]+/)
      for (i = 1; i <= n; i++) {
        if (field == "types" && w[i] == "deb") is_deb = 1
        if (field == "suites" && w[i] == suite) has_suite = 1
        if (field == "components" && w[i] == "main") has_main = 1
        if (field == "enabled" && tolower(w[i]) ~ /^(no|false|0)$/) enabled = 0
      }
    }
    BEGIN { enabled = 1 }
    /^#/ { next }
    /^[ \t]*$/ { flush(); next }
    {
      value = $0
      if ($0 !~ /^[ \t]/) { field = tolower($0); sub(/:.*/, "", field); sub(/^[^:]*:/, "", value) }
      note(value)
      if (field !~ /^(types|suites|components|enabled)$/) kept = kept $0 "\n"
    }
    END { flush() }
  '
}

# Prints "FORMAT" (sources or list) on the first line and the backports source on the following ones.
# $1: release name; further arguments: the files to look in.
derive_backports() {
  release=$1
  shift
  for file in "$@"; do
    [ -r "$file" ] || continue
    for suite in "$release" stable oldstable; do
      case $file in
        *.sources) format=sources; entry=$(from_deb822 "$suite" "$release-backports" <"$file") ;;
        *) format=list; entry=$(from_list "$suite" "$release-backports" <"$file") ;;
      esac
      if [ -n "$entry" ]; then
        printf '%s\n%s\n' "$format" "$entry"
        return 0
      fi
    done
  done
  return 1
}

release_name() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }
system_id() { (. /etc/os-release && echo " ${ID:-} ${ID_LIKE:-} "); }

# The version that apt would install of package $1, or nothing.
candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '(none)' || true; }
new_enough() { [ -n "$1" ] && dpkg --compare-versions "$1" ge "$MIN_MESA"; }
installed() { dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p' | head -n 1; }

apt_update_done=
apt_update() {
  [ -z "$apt_update_done" ] || return 0
  say "apt-get update"
  apt-get -o DPkg::Lock::Timeout=300 update -qq >&2 ||
    die "apt-get update failed (its message is above); check the network and the apt sources, then run this again"
  apt_update_done=yes
}

apt_install() {
  say "installing $*"
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
    install -y -qq --no-install-recommends "$@" >/dev/null ||
    die "apt-get install $* failed (its message is above); repair what it names, then run this again"
}

add_backports() {
  release=$(release_name)
  derived=$(derive_backports "$release" /etc/apt/sources.list.d/*.sources /etc/apt/sources.list \
    /etc/apt/sources.list.d/*.list) ||
    die "no apt source names the suite $release, so its backports cannot be derived; add $release-backports by hand and run this again"
  format=$(printf '%s\n' "$derived" | head -n 1)
  printf '%s\n' "$derived" | tail -n +2 >"$BACKPORTS_FILE.$format"
  say "added $release-backports in $BACKPORTS_FILE.$format"
  apt_update_done=
  apt_update
}

setup_vulkan() {
  if [ -n "$(installed libvulkan1)" ] && new_enough "$(installed mesa-vulkan-drivers)"; then return 0; fi
  apt_update
  if new_enough "$(candidate mesa-vulkan-drivers)"; then
    apt_install libvulkan1 mesa-vulkan-drivers
    return 0
  fi
  backports="$(release_name)-backports"
  apt-cache policy | grep -q "n=$backports" || add_backports
  apt_install libvulkan1 mesa-vulkan-drivers -t "$backports"
  new_enough "$(installed mesa-vulkan-drivers)" ||
    die "mesa-vulkan-drivers is $(installed mesa-vulkan-drivers), but Dawn needs Mesa $MIN_MESA or later; use Debian 12+, Ubuntu 22.04+ or install a newer Mesa"
}

setup_chromium() {
  command -v chromium >/dev/null && return 0
  apt_update
  # Ubuntu's chromium-browser is a link to a snap, which does not run without snapd; Playwright has its own build.
  case $(system_id) in
    *ubuntu*)
      cd "$(dirname "$0")/.." && npx --no playwright-core install --with-deps chromium >&2 ||
        die "installing Chromium failed; run: npx playwright-core install --with-deps chromium"
      ;;
    *) apt_install chromium ;;
  esac
}

if [ "${1:-}" = --print-backports ]; then
  shift
  [ $# -gt 0 ] ||
    set -- "$(release_name)" /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list
  derive_backports "$@" | tail -n +2
  exit 0
fi

case $(system_id) in *debian* | *ubuntu*) ;; *) die "knows Debian and Ubuntu only; install a Vulkan loader, Mesa $MIN_MESA+ lavapipe and Chromium by this system's own means" ;; esac
[ "$(id -u)" = 0 ] || die "must run as root: sudo sh $0 $*"

[ $# -gt 0 ] || set -- vulkan chromium
for part in "$@"; do
  case $part in
    vulkan) setup_vulkan ;;
    chromium) setup_chromium ;;
    *) die "unknown part '$part'; expected vulkan or chromium" ;;
  esac
done
