/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vm2vm: tracepoints.  A VM is named by the process that made it, "owner" and
 * "backend"; 0 for an owner that is gone.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_vm2vm

#if !defined(__KVM_VM2VM_TRACE_H__) || defined(TRACE_HEADER_MULTI_READ)
#define __KVM_VM2VM_TRACE_H__

#include <linux/kvm_host.h>
#include <linux/tracepoint.h>

#include "vm2vm.h"
#include "vm2vm_irq.h"

TRACE_EVENT(kvm_vm2vm_map,
	TP_PROTO(const struct kvm *owner, const struct kvm_vm2vm_map *map),
	TP_ARGS(owner, map),

	TP_STRUCT__entry(
		__field(pid_t,	owner)
		__field(u64,	iova)
		__field(u64,	gpa)
		__field(u64,	size)
		__field(u32,	flags)
	),

	TP_fast_assign(
		__entry->owner	= owner->userspace_pid;
		__entry->iova	= map->iova;
		__entry->gpa	= map->gpa;
		__entry->size	= map->size;
		__entry->flags	= map->flags;
	),

	TP_printk("owner %d iova 0x%llx gpa 0x%llx size 0x%llx flags 0x%x",
		  __entry->owner, __entry->iova, __entry->gpa, __entry->size,
		  __entry->flags)
);

TRACE_EVENT(kvm_vm2vm_unmap,
	TP_PROTO(const struct kvm *owner, const struct kvm_vm2vm_unmap *unmap),
	TP_ARGS(owner, unmap),

	TP_STRUCT__entry(
		__field(pid_t,	owner)
		__field(u64,	iova)
		__field(u64,	size)
		__field(u64,	unmapped)
	),

	TP_fast_assign(
		__entry->owner		= owner->userspace_pid;
		__entry->iova		= unmap->iova;
		__entry->size		= unmap->size;
		__entry->unmapped	= unmap->unmapped;
	),

	TP_printk("owner %d iova 0x%llx size 0x%llx unmapped 0x%llx",
		  __entry->owner, __entry->iova, __entry->size,
		  __entry->unmapped)
);

DECLARE_EVENT_CLASS(kvm_vm2vm_link_class,
	TP_PROTO(const struct vm2vm_link *link, u32 slot),
	TP_ARGS(link, slot),

	TP_STRUCT__entry(
		__field(pid_t,	backend)
		__field(u32,	slot)
		__field(u64,	gpa)
		__field(u64,	iova)
		__field(u64,	size)
		__field(u32,	flags)
	),

	TP_fast_assign(
		__entry->backend	= link->kvm->userspace_pid;
		__entry->slot		= slot;
		__entry->gpa		= gfn_to_gpa(link->base_gfn);
		__entry->iova		= (u64)link->iova << PAGE_SHIFT;
		__entry->size		= (u64)link->npages << PAGE_SHIFT;
		__entry->flags		= link->flags;
	),

	TP_printk("backend %d slot %u gpa 0x%llx iova 0x%llx size 0x%llx flags 0x%x",
		  __entry->backend, __entry->slot, __entry->gpa, __entry->iova,
		  __entry->size, __entry->flags)
);

DEFINE_EVENT(kvm_vm2vm_link_class, kvm_vm2vm_link,
	TP_PROTO(const struct vm2vm_link *link, u32 slot),
	TP_ARGS(link, slot)
);

DEFINE_EVENT(kvm_vm2vm_link_class, kvm_vm2vm_unlink,
	TP_PROTO(const struct vm2vm_link *link, u32 slot),
	TP_ARGS(link, slot)
);

/* A translation that was found; it may still turn out to be stale. */
TRACE_EVENT(kvm_vm2vm_fault,
	TP_PROTO(const struct vm2vm_link *link, gfn_t gfn, bool write,
		 const struct kvm_vm2vm_fault *fault,
		 const struct kvm_vm2vm_page *page),
	TP_ARGS(link, gfn, write, fault, page),

	TP_STRUCT__entry(
		__field(pid_t,	backend)
		__field(u64,	gpa)
		__field(u64,	owner_gpa)
		__field(bool,	write)
		__field(bool,	writable)
		__field(u8,	order)
	),

	TP_fast_assign(
		__entry->backend	= link->kvm->userspace_pid;
		__entry->gpa		= gfn_to_gpa(gfn);
		__entry->owner_gpa	= gfn_to_gpa(fault->gfn);
		__entry->write		= write;
		__entry->writable	= page->writable;
		__entry->order		= page->order;
	),

	TP_printk("backend %d gpa 0x%llx owner gpa 0x%llx %s writable %d order %u",
		  __entry->backend, __entry->gpa, __entry->owner_gpa,
		  __entry->write ? "write" : "read", __entry->writable,
		  __entry->order)
);

#define KVM_VM2VM_MISS_HOLE	0	/* there was a hole */
#define KVM_VM2VM_MISS_EXIT	1	/* the VMM was told */
#define KVM_VM2VM_MISS_WAIT	2	/* the owner is asked */
#define KVM_VM2VM_MISS_AGAIN	3	/* and something has changed */
#define KVM_VM2VM_MISS_REFUSED	4	/* and has refused */
#define KVM_VM2VM_MISS_FILL	5	/* there was a hole that is filled */

/* An access that was not approved, and what became of it. */
TRACE_EVENT(kvm_vm2vm_miss,
	TP_PROTO(const struct kvm *backend, gfn_t gfn, bool write, u32 what),
	TP_ARGS(backend, gfn, write, what),

	TP_STRUCT__entry(
		__field(pid_t,	backend)
		__field(u64,	gpa)
		__field(bool,	write)
		__field(u32,	what)
	),

	TP_fast_assign(
		__entry->backend	= backend->userspace_pid;
		__entry->gpa		= gfn_to_gpa(gfn);
		__entry->write		= write;
		__entry->what		= what;
	),

	TP_printk("backend %d gpa 0x%llx %s %s", __entry->backend, __entry->gpa,
		  __entry->write ? "write" : "read",
		  __print_symbolic(__entry->what,
				   { KVM_VM2VM_MISS_HOLE, "hole" },
				   { KVM_VM2VM_MISS_EXIT, "exit" },
				   { KVM_VM2VM_MISS_WAIT, "wait" },
				   { KVM_VM2VM_MISS_AGAIN, "again" },
				   { KVM_VM2VM_MISS_REFUSED, "refused" },
				   { KVM_VM2VM_MISS_FILL, "fill" }))
);

/* The owner's iovas, or gfns, @first to @last are revoked; before it is done. */
TRACE_EVENT(kvm_vm2vm_revoke,
	TP_PROTO(const struct kvm *owner, bool by_gfn, u64 first, u64 last),
	TP_ARGS(owner, by_gfn, first, last),

	TP_STRUCT__entry(
		__field(pid_t,	owner)
		__field(bool,	by_gfn)
		__field(u64,	first)
		__field(u64,	last)
	),

	TP_fast_assign(
		__entry->owner	= owner ? owner->userspace_pid : 0;
		__entry->by_gfn	= by_gfn;
		__entry->first	= first;
		__entry->last	= last;
	),

	TP_printk("owner %d %s pages 0x%llx to 0x%llx", __entry->owner,
		  __entry->by_gfn ? "gfn" : "iova", __entry->first,
		  __entry->last)
);

/* A doorbell was made, or removed. */
TRACE_EVENT(kvm_vm2vm_doorbell,
	TP_PROTO(const struct kvm *kvm, const struct kvm_vm2vm_doorbell *doorbell),
	TP_ARGS(kvm, doorbell),

	TP_STRUCT__entry(
		__field(pid_t,	pid)
		__field(u64,	addr)
		__field(u64,	datamatch)
		__field(u32,	len)
		__field(u32,	nr_fds)
		__field(u32,	flags)
	),

	TP_fast_assign(
		__entry->pid		= kvm->userspace_pid;
		__entry->addr		= doorbell->addr;
		__entry->datamatch	= doorbell->datamatch;
		__entry->len		= doorbell->len;
		__entry->nr_fds		= doorbell->nr_fds;
		__entry->flags		= doorbell->flags;
	),

	TP_printk("vm %d addr 0x%llx len %u datamatch 0x%llx fds %u flags 0x%x",
		  __entry->pid, __entry->addr, __entry->len,
		  __entry->datamatch, __entry->nr_fds, __entry->flags)
);

/* A write rang; or could not with interrupts off, and will again. */
TRACE_EVENT(kvm_vm2vm_ring,
	TP_PROTO(const struct kvm_vcpu *vcpu, u64 addr, u32 how, bool atomic),
	TP_ARGS(vcpu, addr, how, atomic),

	TP_STRUCT__entry(
		__field(u32,	vcpu_id)
		__field(u64,	addr)
		__field(u32,	how)
		__field(bool,	atomic)
	),

	TP_fast_assign(
		__entry->vcpu_id	= vcpu->vcpu_id;
		__entry->addr		= addr;
		__entry->how		= how;
		__entry->atomic		= atomic;
	),

	TP_printk("vcpu %u addr 0x%llx %s%s", __entry->vcpu_id, __entry->addr,
		  __print_symbolic(__entry->how,
				   { VM2VM_RING_DIRECT, "direct" },
				   { VM2VM_RING_DEFERRED, "deferred" },
				   { VM2VM_RING_SIGNALLED, "signalled" }),
		  __entry->atomic ? " atomic" : "")
);

#endif /* __KVM_VM2VM_TRACE_H__ */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH ../../virt/kvm
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vm2vm_trace

/* This part must be outside protection */
#include <trace/define_trace.h>
