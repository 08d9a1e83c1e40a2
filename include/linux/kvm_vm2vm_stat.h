/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vm2vm: its part of KVM's statistics.  These are macros, as the members and their
 * descriptors become part of structures and arrays of KVM; nothing if
 * CONFIG_KVM_VM2VM is off.
 */
#ifndef __LINUX_KVM_VM2VM_STAT_H
#define __LINUX_KVM_VM2VM_STAT_H

#ifdef CONFIG_KVM_VM2VM

/*
 * Of a VM.  As an owner: its domains and mappings, how many mappings MAP has made and
 * UNMAP has taken away, and how often it has revoked (calls and invalidations that had
 * something to look for).  As a backend: links, and
 * the longest time, in nanoseconds, that a revocation, a harvest or ageing by an owner
 * has held its mmu_lock; and approved accesses to which the link's answer was that of a
 * page that is not approved, because the owner had no page there, no memory for it, or
 * one that the hardware has lost; or, KVM's own accesses only, because it did not come in
 * time, or was revoked again and again.
 */
#define KVM_VM2VM_VM_STAT						\
	u64 vm2vm_domains;						\
	atomic64_t vm2vm_mappings;					\
	atomic64_t vm2vm_mapped;					\
	atomic64_t vm2vm_unmapped;					\
	atomic64_t vm2vm_revokes;					\
	u64 vm2vm_links;						\
	u64 vm2vm_held_max_ns;						\
	atomic64_t vm2vm_owner_nopage;					\
	atomic64_t vm2vm_owner_nomem;					\
	atomic64_t vm2vm_owner_poison;					\
	atomic64_t vm2vm_owner_slow;					\
	atomic64_t vm2vm_owner_busy

#define KVM_VM2VM_VM_STATS()						\
	STATS_DESC_ICOUNTER(VM, vm2vm_domains),				\
	STATS_DESC_ICOUNTER(VM, vm2vm_mappings),			\
	STATS_DESC_COUNTER(VM, vm2vm_mapped),				\
	STATS_DESC_COUNTER(VM, vm2vm_unmapped),				\
	STATS_DESC_COUNTER(VM, vm2vm_revokes),				\
	STATS_DESC_ICOUNTER(VM, vm2vm_links),				\
	STATS_DESC_PEAK(VM, vm2vm_held_max_ns, KVM_STATS_UNIT_SECONDS,	\
			KVM_STATS_BASE_POW10, -9),			\
	STATS_DESC_COUNTER(VM, vm2vm_owner_nopage),			\
	STATS_DESC_COUNTER(VM, vm2vm_owner_nomem),			\
	STATS_DESC_COUNTER(VM, vm2vm_owner_poison),			\
	STATS_DESC_COUNTER(VM, vm2vm_owner_slow),			\
	STATS_DESC_COUNTER(VM, vm2vm_owner_busy),

/*
 * Of a backend's vCPU: accesses to windows that gave a page, that found a hole, that
 * had one filled, that went to the VMM, and that waited for the owner's answer.  Of a vCPU that
 * rings: rings that injected the interrupt, that left it to a work item, and that
 * signalled the eventfd.
 */
#define KVM_VM2VM_VCPU_STAT						\
	u64 vm2vm_faults;						\
	u64 vm2vm_holes;						\
	u64 vm2vm_fills;						\
	u64 vm2vm_exits;						\
	u64 vm2vm_waits;							\
	u64 vm2vm_rings_direct;						\
	u64 vm2vm_rings_deferred;					\
	u64 vm2vm_rings_signalled

#define KVM_VM2VM_VCPU_STATS()						\
	STATS_DESC_COUNTER(VCPU, vm2vm_faults),				\
	STATS_DESC_COUNTER(VCPU, vm2vm_holes),				\
	STATS_DESC_COUNTER(VCPU, vm2vm_fills),				\
	STATS_DESC_COUNTER(VCPU, vm2vm_exits),				\
	STATS_DESC_COUNTER(VCPU, vm2vm_waits),				\
	STATS_DESC_COUNTER(VCPU, vm2vm_rings_direct),			\
	STATS_DESC_COUNTER(VCPU, vm2vm_rings_deferred),			\
	STATS_DESC_COUNTER(VCPU, vm2vm_rings_signalled),

#else

#define KVM_VM2VM_VM_STAT
#define KVM_VM2VM_VM_STATS()
#define KVM_VM2VM_VCPU_STAT
#define KVM_VM2VM_VCPU_STATS()

#endif

#endif /* __LINUX_KVM_VM2VM_STAT_H */
