// SPDX-License-Identifier: GPL-2.0-only
/*
 * A version for each of the modules: the kernel's own have none. It tells them apart
 * (modinfo, /sys/module/kvm/version), and DKMS does not install what has the version
 * of the kernel's own.
 */
#include <linux/module.h>

MODULE_VERSION("vm2vm-@VERSION@");
