#!/bin/bash
# menuconfig.sh: have a person choose our options, for the kernels that are built after that
. "$(dirname "$0")/../lib.sh"
"$ROOT/lab/build/deps.sh" menu
"$ROOT/lab/build/options.sh" menu >"$BUILD/vm2vm.config.new"
mv "$BUILD/vm2vm.config.new" "$BUILD/vm2vm.config"
cat "$BUILD/vm2vm.config"
say "make takes them from $BUILD/vm2vm.config as long as that is there"
