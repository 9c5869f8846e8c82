#!/bin/sh
# Appends a signature to a payload as the kernel's scripts/sign-file does to modules: PKCS#7 by openssl, then
# struct module_signature, then the marker.
#
# sign-payload.sh KEY CERTIFICATE PAYLOAD [OUTPUT] [DIGEST]
set -eu

if [ $# -lt 3 ]; then
	echo "usage: sign-payload.sh KEY CERTIFICATE PAYLOAD [OUTPUT] [DIGEST]" >&2
	exit 2
fi
key=$1 certificate=$2 payload=$3 output=${4:-$3.signed} digest=${5:-sha256}
command -v openssl >/dev/null 2>&1 || {
	echo "sign-payload: openssl is not installed" >&2
	exit 1
}
for file in "$key" "$certificate" "$payload"; do
	[ -r "$file" ] || {
		echo "sign-payload: $file cannot be read" >&2
		exit 2
	}
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl cms -sign -binary -noattr -nocerts -md "$digest" -signer "$certificate" -inkey "$key" \
	-in "$payload" -outform DER -out "$work/signature"
length=$(wc -c <"$work/signature")

# algo, hash, id_type = 2 (PKCS#7), signer_len, key_id_len, padding; then the length, big-endian.
octal() {
	printf '\\%03o' "$1"
}
{
	cat "$payload" "$work/signature"
	printf '\000\000\002\000\000\000\000\000'
	printf "$(octal $((length >> 24 & 255)))$(octal $((length >> 16 & 255)))$(octal $((length >> 8 & 255)))$(octal $((length & 255)))"
	printf '~Module signature appended~\n'
} >"$work/signed"
mv "$work/signed" "$output"
echo "$output: signed with $certificate, $length bytes of PKCS#7"
