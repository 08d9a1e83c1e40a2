/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Owners that are nothing but memory, and a backend that sees each of them in a view of
 * its own.  Its guest does one command for each run.
 */
#ifndef SELFTEST_KVM_VM2VM_VIEW_H
#define SELFTEST_KVM_VM2VM_VIEW_H

#include "../../../../../guest/vm2vm_view.h"
#include "apic.h"
#include "vm2vm_peer.h"

#define VIEW_OWNERS	2
#define VIEW_CPUS	2
#define VIEW_PAGES	16		/* of an owner, if a test does not say otherwise */
#define VIEW_SLOT(v)	(100 + (v))
/* Where window v is: gpa, and gva in pages of 2 MiB. */
#define VIEW_GPA(v)	(KVM_VM2VM_VIEW_SPAN + (v) * 0x400000ull)

#define VIEW_HOLE	(~0ull)
/* What an owner has in the first word of a page. */
#define VIEW_VALUE(owner, page)	(0x5ee0000000000000ull + ((owner) << 16) + (page))

enum view_op {
	VIEW_NOP,
	VIEW_VMFUNC,		/* with EAX @function, ECX @view */
	VIEW_READ,
	VIEW_WRITE,
	VIEW_TRIPS,		/* @count times into @view, copy, and back */
	VIEW_CHECK,		/* @count views from @view on, what is in each */
	VIEW_FILL,		/* in @view @val to each of @count pages at @gva, and back */
	VIEW_ACCESS,		/* what is in access_cmd */
	VIEW_APIC,		/* in @view, change the mode of the local APIC */
};

/**
 * struct view_cmd - what a guest is to do, and what came of it; in its memory
 * @op: enum view_op
 * @function: of VMFUNC
 * @view: of VMFUNC, or the first view
 * @gva: where
 * @val: what is written or was read
 * @count: how often
 * @vector: exception that VMFUNC gave at its own address, or 0
 * @bad: how often something was not as it has to be
 * @cpl: privilege level of the guest
 */
struct view_cmd {
	uint64_t op;
	uint64_t function;
	uint64_t view;
	uint64_t gva;
	uint64_t val;
	uint64_t count;
	uint64_t vector;
	uint64_t bad;
	uint64_t cpl;
};

/* The exception that VMFUNC gives, if at its own address, or 0. */
static inline uint8_t view_guest_vmfunc(uint64_t function, uint64_t view)
{
	uint8_t vector;

	barrier();
	vector = kvm_asm_safe(VM2VM_VMFUNC, "a" (function), "c" (view));
	barrier();
	return vector;
}

static inline void view_guest_copy(void *to, const void *from, uint64_t words)
{
	asm volatile("rep movsq" : "+D" (to), "+S" (from), "+c" (words) : : "memory");
}

/* What a vCPU of the backend runs: one command after the other, each up to a GUEST_SYNC(). */
void view_guest(struct view_cmd *c);

/**
 * struct view_owner - a VM that is memory, all of it approved
 * @vm: the VM
 * @domain: its domain
 * @mem: the memory, at PEER_OWNER_GPA; bus address PEER_IOVA
 * @size: bytes
 */
struct view_owner {
	struct kvm_vm *vm;
	int domain;
	void *mem;
	size_t size;
};

/**
 * struct view_cpu - a vCPU of the backend
 * @vcpu: it
 * @cmd: its guest's command
 * @dev: what the device has, of which access_cmd may be
 * @mmio: number of MMIO exits in holes of windows
 * @mmio_gpa: address of the last
 * @mmio_write: whether that was a write
 */
struct view_cpu {
	struct kvm_vcpu *vcpu;
	struct view_cmd *cmd;
	uint64_t dev;
	unsigned int mmio;
	uint64_t mmio_gpa;
	bool mmio_write;
};

struct view {
	struct view_owner owner[VIEW_OWNERS];
	struct kvm_vm *vm;
	struct view_cpu cpu[VIEW_CPUS];
	unsigned int cpus;
};

static inline bool view_feature(void)
{
	return kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_VIEW;
}

/* @pages pages, each with VIEW_VALUE(); @flags are the domain's. */
void view_owner_init(struct view_owner *o, unsigned int nr, unsigned int pages, uint32_t flags);

void view_owner_free(struct view_owner *o);

static inline uint64_t *view_word(struct view_owner *o, uint64_t offset)
{
	return o->mem + offset;
}

/* Another vCPU, to run @guest with its struct view_cmd. */
void view_add_cpu(struct view *w, void *guest);

/* Two owners, and a backend with one vCPU that has no view yet. */
void view_init(struct view *w, unsigned int pages);

void view_free(struct view *w);

/* A transient link of @view to @size bytes of a domain; 0 or -errno. */
int __view_link(struct view *w, unsigned int view, int domain, uint64_t iova, uint64_t size,
		uint32_t flags);

/* Page tables of the guest for a window. */
void view_map_window(struct view *w, unsigned int view);

/* View @view is @pages pages of an owner from page @page on. */
void view_link(struct view *w, unsigned int view, unsigned int owner, unsigned int page,
	       unsigned int pages, uint32_t flags);

static inline int __view_get(struct view_cpu *cpu, struct kvm_vm2vm_view *args)
{
	return vm2vm_ioctl(cpu->vcpu->fd, KVM_VM2VM_GET_VIEW, args);
}

static inline int __view_set(struct view_cpu *cpu, uint32_t view)
{
	struct kvm_vm2vm_view args = { .view = view };

	return vm2vm_ioctl(cpu->vcpu->fd, KVM_VM2VM_SET_VIEW, &args);
}

/* The view that the vCPU is in; it is not running. */
uint32_t view_get(struct view_cpu *cpu);

void view_set(struct view_cpu *cpu, uint32_t view);

/* A device, and all-ones where a window has a hole. */
void view_mmio(struct view_cpu *cpu);

/* Run the guest to its next GUEST_SYNC(); 0, -errno of KVM_RUN, or an exit's reason. */
int __view_run(struct view_cpu *cpu);

/* The same for a thread; returns NULL if the guest came there. */
void *view_thread(void *cpu);

/* Have the guest do @op with what its command has. */
void view_do(struct view_cpu *cpu, enum view_op op);

/* Have the guest do VMFUNC; returns the exception. */
uint8_t view_vmfunc(struct view_cpu *cpu, uint64_t function, uint64_t view);

void view_enter(struct view_cpu *cpu, unsigned int view);

/* Words of window @view, from the view that the guest is in. */
uint64_t view_read(struct view_cpu *cpu, unsigned int view, uint64_t offset);

void view_write(struct view_cpu *cpu, unsigned int view, uint64_t offset, uint64_t val);

/* @count round trips through page @page of the owner, which has to be the window's first. */
void view_do_trips(struct view_cpu *cpu, unsigned int view, uint64_t *page, uint64_t count);

/* The command of VIEW_ACCESS, in the guest's memory. */
struct access_cmd *view_access(struct view *w);

/* Exits of the vCPU so far, without those for the host's interrupts. */
uint64_t view_exits(struct view_cpu *cpu);

#endif /* SELFTEST_KVM_VM2VM_VIEW_H */
