// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: doorbells (KVM_VM2VM_DOORBELL).
 *
 * The tests are in vm2vm/doorbell/: which writes ring (match.c), what is behind an
 * eventfd (routes.c), many rings (traffic.c), everything torn down while guests ring
 * (storm.c), and bad input (abi.c).
 *
 * VM2VM_TRIALS in the environment is the number of trials of what is repeated, in
 * thousands where it is rings; 1000 by default.
 */
#include "vm2vm_harness.h"

TEST_HARNESS_MAIN
