#!/bin/sh
# Says what to do when node or npm is missing or too old; silent when all is well.
set -eu

wanted_major=20
wanted_minor=19

fail() {
	echo "caretaker-emu: $1" >&2
	echo "  Install Node $wanted_major.$wanted_minor or newer with npm (https://nodejs.org, nvm, fnm or your distribution), then run make again." >&2
	exit 1
}

command -v node >/dev/null 2>&1 || fail "node is not installed"
command -v npm >/dev/null 2>&1 || fail "npm is not installed"

version=$(node --version)
major=${version#v}
minor=${major#*.}
major=${major%%.*}
minor=${minor%%.*}
if [ "$major" -lt "$wanted_major" ] || { [ "$major" -eq "$wanted_major" ] && [ "$minor" -lt "$wanted_minor" ]; }; then
	fail "node $version is too old"
fi
