#!/bin/sh
# Rebuilds the guests of the tests with clang and lld 14 and wabt 1.0.32.
set -eu
cd "$(dirname "$0")"
c() {
	out=$1 source=$2
	shift 2
	clang --target=wasm32 -Oz -nostdlib -fno-builtin -Wall -Wno-unused-parameter -Wl,--no-entry -Wl,--strip-all "$@" -o "$out.wasm" "$source"
}
c probe probe.c
c no-marker probe.c -DNO_MARKER
c start probe.c -DSTART
c malloc probe.c -DMALLOC
c bad-type probe.c -DBAD_TYPE
c invoke invoke.c
# filters of the suites, for the referee
for f in headers local; do
  c "$f-callbacks" "../../../../fixtures/wasm/proxy/$f.c" -ffreestanding -mbulk-memory -include callbacks.h
done
for f in *.wat; do wat2wasm "$f" -o "${f%.wat}.wasm"; done
chmod 644 ./*.wasm
