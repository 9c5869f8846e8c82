#!/bin/sh
# Installs the system packages that are missing, on Debian and Ubuntu; elsewhere names them.
#
# Only gcc, g++, make and python3 are essential. The rest are oracles and second machines for tests, which skip
# with a reason when one is absent.
set -eu

packages="gcc g++ clang lld make python3 python3-pip pkg-config libunicorn-dev gdb binutils dwarves
device-tree-compiler abigail-tools openssl bochs bochs-term tmux"

say() {
	echo "caretaker-emu: $*" >&2
}

essentials_or_fail() {
	for tool in gcc g++ make python3; do
		command -v "$tool" >/dev/null 2>&1 || {
			say "cannot go on without $tool: install it, then run make again"
			exit 1
		}
	done
}

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
	missing=
	for tool in gcc g++ clang ld.lld make python3 pip3 pkg-config gdb readelf pahole abidiff dtc openssl bochs tmux; do
		command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
	done
	if [ -n "$missing" ]; then
		say "no apt here; not found:$missing"
		say "the packages that Debian calls: $(echo $packages)"
	fi
	essentials_or_fail
	exit 0
fi

missing=
for package in $packages; do
	case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
	installed) ;;
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		say "neither root nor sudo; ask an administrator for: apt-get install$missing"
		essentials_or_fail
		exit 0
	fi
	sudo="sudo"
	say "using sudo to install:$missing"
else
	say "installing:$missing"
fi

apt_install() {
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

# One package that this release does not have must not keep the others away.
$sudo apt-get update -q >&2 || say "apt-get update failed; trying with the lists that are here"
if ! apt_install $missing; then
	for package in $missing; do
		apt_install "$package" || say "$package could not be installed"
	done
fi
essentials_or_fail
