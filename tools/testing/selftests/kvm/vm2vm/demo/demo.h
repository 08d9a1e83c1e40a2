/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The two processes that vm2vm_demo starts.  They do as the launcher says, by the
 * socket @launcher, until it is closed.
 */
#ifndef SELFTEST_KVM_VM2VM_DEMO_H
#define SELFTEST_KVM_VM2VM_DEMO_H

#include <linux/types.h>

void demo_owner_main(int launcher, int backend, const char *path, u32 seed);

void demo_backend_main(int launcher, int owner);

#endif /* SELFTEST_KVM_VM2VM_DEMO_H */
