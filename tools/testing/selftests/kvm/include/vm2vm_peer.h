/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A pair of VMs for the vm2vm selftests: an owner that is nothing but memory,
 * and a backend with a vCPU that accesses its window as it is told.
 */
#ifndef SELFTEST_KVM_VM2VM_PEER_H
#define SELFTEST_KVM_VM2VM_PEER_H

#include <linux/mman.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "vm2vm.h"

#define PEER_SIZE_2M	(2ul << 20)

/* Where things are: the owner's memory, its iova, the window of the backend. */
#define PEER_OWNER_GPA	0x10000000ul
#define PEER_IOVA	0x700000000ul
#define PEER_WINDOW	0x100000000ul	/* gpa and gva */
#define PEER_SLOT	100

enum peer_op { PEER_READ, PEER_WRITE, PEER_READ_STRIDE, PEER_EXEC };

/* What the guest is to do, and what it found; one struct per VM. */
struct peer_cmd {
	uint64_t op;
	uint64_t gva;
	uint64_t val;
	uint64_t count;
	uint64_t stride;
};

/* The guest's own; the host finds it by addr_gva2hva(). */
extern struct peer_cmd peer_cmd;

/**
 * struct peer - an owner and a backend
 * @owner: VM without vCPU
 * @domain: its domain
 * @mem: the owner's memory, at PEER_OWNER_GPA
 * @size: its size
 * @backend: VM with one vCPU
 * @vcpu: it
 * @mmio: number of MMIO exits, each answered with @fill
 * @mmio_gpa: address of the last
 * @mmio_write: whether the last was a write
 */
struct peer {
	struct kvm_vm *owner;
	int domain;
	void *mem;
	size_t size;
	struct kvm_vm *backend;
	struct kvm_vcpu *vcpu;
	unsigned int mmio;
	uint64_t mmio_gpa;
	bool mmio_write;
	uint8_t fill;
};

/*
 * An interrupt of the host is to end a stay in the guest, whatever the guest's
 * RFLAGS.IF.  Bochs 2.7 holds it back if IF was clear at VM entry, so guests that
 * would stay for ever set IF.  Nothing injects an interrupt into them.
 */
static inline void peer_guest_interruptible(void)
{
	asm volatile("sti");
}

/* What the backend's vCPU runs: does what peer_cmd says, again and again. */
void peer_guest(void);

/* Fresh memory, aligned to 2 MiB. */
void *peer_mmap(size_t size, int flags);

void peer_set_memory(struct peer *p, void *mem, size_t size, uint32_t flags);

/* An owner with @size of 4 KiB pages, and a backend that has no window yet. */
void peer_init(struct peer *p, size_t size);

void peer_free(struct peer *p);

static inline uint64_t *peer_word(struct peer *p, uint64_t offset)
{
	return p->mem + offset;
}

/* Give the guest page tables for a window, which has the same gva as gpa. */
static inline void peer_map_window(struct peer *p, uint64_t gpa, uint64_t size)
{
	virt_map(p->backend, gpa, gpa, size / 4096);
}

/* Approve all of the owner's memory and link it. */
void peer_share(struct peer *p, uint32_t map_flags, uint32_t link_flags);

/*
 * Run the guest until it has done @op, answer MMIO as a VMM does for a hole.
 * Returns 0, or the exit reason that it stopped for.
 */
int peer_run(struct peer *p, enum peer_op op, uint64_t gva, uint64_t val, uint64_t count,
	     uint64_t stride);

static inline uint64_t peer_val(struct peer *p)
{
	struct peer_cmd *cmd = addr_gva2hva(p->backend, (uintptr_t)&peer_cmd);

	return cmd->val;
}

uint64_t peer_read(struct peer *p, uint64_t offset);

void peer_write(struct peer *p, uint64_t offset, uint64_t val);

/* Sum up @count words that are @stride bytes apart. */
uint64_t peer_sum(struct peer *p, uint64_t gva, uint64_t count, uint64_t stride);

/* One of the statistics of a VM or a vCPU, by name: @fd is where they are read. */
uint64_t peer_stat(int fd, const char *name);

/* The same for whoever does not keep that: it is got from the VM or the vCPU. */
uint64_t peer_fd_stat(int vm_or_vcpu, const char *name);

static inline uint64_t peer_vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	return peer_fd_stat(vcpu->fd, name);
}

#endif /* SELFTEST_KVM_VM2VM_PEER_H */
