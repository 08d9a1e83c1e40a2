/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vm2vm: what Linux 6.1, that of Debian 12, has in another form than later ones
 */
#ifndef VM2VM_COMPAT_H
#define VM2VM_COMPAT_H

#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

static inline void vm2vm_eventfd_signal(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

#endif /* VM2VM_COMPAT_H */
