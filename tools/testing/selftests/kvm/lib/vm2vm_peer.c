// SPDX-License-Identifier: GPL-2.0
/*
 * A pair of VMs for the vm2vm selftests: what include/vm2vm_peer.h declares.
 */
#include <linux/mman.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "vm2vm_peer.h"

struct peer_cmd peer_cmd;

void peer_guest(void)
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

void *peer_mmap(size_t size, int flags)
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

void peer_set_memory(struct peer *p, void *mem, size_t size, uint32_t flags)
{
	vm_set_user_memory_region(p->owner, 0, flags, PEER_OWNER_GPA, size, mem);
	p->mem = mem;
	p->size = size;
}

void peer_init(struct peer *p, size_t size)
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

void peer_free(struct peer *p)
{
	if (p->domain >= 0)
		close(p->domain);
	if (p->owner)
		kvm_vm_free(p->owner);
	if (p->backend)
		kvm_vm_free(p->backend);
}

void peer_share(struct peer *p, uint32_t map_flags, uint32_t link_flags)
{
	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, p->size, map_flags);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
		   p->size, link_flags);
	peer_map_window(p, PEER_WINDOW, p->size);
}

int peer_run(struct peer *p, enum peer_op op, uint64_t gva, uint64_t val, uint64_t count,
	     uint64_t stride)
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

uint64_t peer_read(struct peer *p, uint64_t offset)
{
	int r = peer_run(p, PEER_READ, PEER_WINDOW + offset, 0, 0, 0);

	TEST_ASSERT(!r, "guest read: exit reason %d", r);
	return peer_val(p);
}

void peer_write(struct peer *p, uint64_t offset, uint64_t val)
{
	int r = peer_run(p, PEER_WRITE, PEER_WINDOW + offset, val, 0, 0);

	TEST_ASSERT(!r, "guest write: exit reason %d", r);
}

uint64_t peer_sum(struct peer *p, uint64_t gva, uint64_t count, uint64_t stride)
{
	int r = peer_run(p, PEER_READ_STRIDE, gva, 0, count, stride);

	TEST_ASSERT(!r, "guest reads: exit reason %d", r);
	return peer_val(p);
}

uint64_t peer_stat(int fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc;
	uint64_t val = 0;
	bool found = false;
	uint32_t i;

	TEST_ASSERT(fd >= 0, "KVM_GET_STATS_FD: %s", strerror(errno));
	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc && !found; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (strcmp(desc->name, name))
			continue;
		read_stat_data(fd, &header, desc, &val, 1);
		found = true;
	}
	TEST_ASSERT(found, "no statistic '%s'", name);
	free(descs);
	return val;
}

uint64_t peer_fd_stat(int vm_or_vcpu, const char *name)
{
	int fd = ioctl(vm_or_vcpu, KVM_GET_STATS_FD, NULL);
	uint64_t val = peer_stat(fd, name);

	close(fd);
	return val;
}
