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

static struct peer_cmd peer_cmd;

/*
 * An interrupt of the host is to end a stay in the guest, whatever the guest's
 * RFLAGS.IF.  Bochs 2.7 holds it back if IF was clear at VM entry, so guests that
 * would stay for ever set IF.  Nothing injects an interrupt into them.
 */
static inline void peer_guest_interruptible(void)
{
	asm volatile("sti");
}

static __maybe_unused void peer_guest(void)
{
	struct peer_cmd *cmd = &peer_cmd;
	uint64_t i;

	peer_guest_interruptible();
	for (;;) {
		switch (READ_ONCE(cmd->op)) {
		case PEER_READ:
			cmd->val = READ_ONCE(*(uint64_t *)cmd->gva);
			break;
		case PEER_WRITE:
			WRITE_ONCE(*(uint64_t *)cmd->gva, cmd->val);
			break;
		case PEER_READ_STRIDE:
			cmd->val = 0;
			for (i = 0; i < cmd->count; i++)
				cmd->val += READ_ONCE(*(uint64_t *)(cmd->gva +
							i * cmd->stride));
			break;
		case PEER_EXEC:
			((void (*)(void))cmd->gva)();
			break;
		}
		GUEST_SYNC(0);
	}
}

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

/* Fresh memory, aligned to 2 MiB. */
static inline void *peer_mmap(size_t size, int flags)
{
	void *area, *mem;

	area = mmap(NULL, size + PEER_SIZE_2M, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(area != MAP_FAILED, "mmap: %s", strerror(errno));
	mem = (void *)(((uintptr_t)area + PEER_SIZE_2M - 1) & -PEER_SIZE_2M);
	mem = mmap(mem, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
	return mem == MAP_FAILED ? NULL : mem;
}

static inline void peer_set_memory(struct peer *p, void *mem, size_t size,
				   uint32_t flags)
{
	vm_set_user_memory_region(p->owner, 0, flags, PEER_OWNER_GPA, size, mem);
	p->mem = mem;
	p->size = size;
}

/* An owner with @size of 4 KiB pages, and a backend that has no window yet. */
static inline void peer_init(struct peer *p, size_t size)
{
	void *mem = peer_mmap(size, 0);

	TEST_ASSERT(mem, "mmap: %s", strerror(errno));
	TEST_ASSERT(!madvise(mem, size, MADV_NOHUGEPAGE), "MADV_NOHUGEPAGE");

	memset(p, 0, sizeof(*p));
	p->owner = vm_create_barebones();
	peer_set_memory(p, mem, size, 0);
	p->domain = vm2vm_create_domain(p->owner);
	p->backend = vm_create_with_one_vcpu(&p->vcpu, peer_guest);
	p->fill = 0xff;
}

static inline void peer_free(struct peer *p)
{
	if (p->domain >= 0)
		close(p->domain);
	if (p->owner)
		kvm_vm_free(p->owner);
	if (p->backend)
		kvm_vm_free(p->backend);
}

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
static inline void peer_share(struct peer *p, uint32_t map_flags,
			      uint32_t link_flags)
{
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, map_flags);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   p->size, link_flags);
	peer_map_window(p, PEER_WINDOW, p->size);
}

/*
 * Run the guest until it has done @op, answer MMIO as a VMM does for a hole.
 * Returns 0, or the exit reason that it stopped for.
 */
static inline int peer_run(struct peer *p, enum peer_op op, uint64_t gva,
			   uint64_t val, uint64_t count, uint64_t stride)
{
	struct peer_cmd *cmd = addr_gva2hva(p->backend, (uintptr_t)&peer_cmd);
	struct kvm_run *run = p->vcpu->run;
	struct ucall uc;

	*cmd = (struct peer_cmd) {
		.op = op, .gva = gva, .val = val, .count = count,
		.stride = stride,
	};
	for (;;) {
		vcpu_run(p->vcpu);
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
		p->mmio++;
		p->mmio_gpa = run->mmio.phys_addr;
		p->mmio_write = run->mmio.is_write;
		if (!run->mmio.is_write)
			memset(run->mmio.data, p->fill, run->mmio.len);
	}
	if (get_ucall(p->vcpu, &uc) != UCALL_SYNC)
		return run->exit_reason;
	return 0;
}

static inline uint64_t peer_val(struct peer *p)
{
	struct peer_cmd *cmd = addr_gva2hva(p->backend, (uintptr_t)&peer_cmd);

	return cmd->val;
}

static inline uint64_t peer_read(struct peer *p, uint64_t offset)
{
	int r = peer_run(p, PEER_READ, PEER_WINDOW + offset, 0, 0, 0);

	TEST_ASSERT(!r, "guest read: exit reason %d", r);
	return peer_val(p);
}

static inline void peer_write(struct peer *p, uint64_t offset, uint64_t val)
{
	int r = peer_run(p, PEER_WRITE, PEER_WINDOW + offset, val, 0, 0);

	TEST_ASSERT(!r, "guest write: exit reason %d", r);
}

/* Sum up @count words that are @stride bytes apart. */
static inline uint64_t peer_sum(struct peer *p, uint64_t gva, uint64_t count,
				uint64_t stride)
{
	int r = peer_run(p, PEER_READ_STRIDE, gva, 0, count, stride);

	TEST_ASSERT(!r, "guest reads: exit reason %d", r);
	return peer_val(p);
}

/* One of the statistics of a vCPU, by name. */
static inline uint64_t peer_vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc;
	int fd = vcpu_get_stats_fd(vcpu);
	uint64_t val = 0;
	bool found = false;
	uint32_t i;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc && !found; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (strcmp(desc->name, name))
			continue;
		read_stat_data(fd, &header, desc, &val, 1);
		found = true;
	}
	TEST_ASSERT(found, "no vCPU statistic '%s'", name);
	free(descs);
	close(fd);
	return val;
}

#endif /* SELFTEST_KVM_VM2VM_PEER_H */
