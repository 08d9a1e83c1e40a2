// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_access_test: what access.h declares, the pair of VMs with a device.
 */
#include "access.h"
#include "mem.h"

void access_guest(void)
{
	peer_guest_interruptible();
	for (;;) {
		guest_do(&access_cmd);
		GUEST_SYNC(0);
	}
}

void access_init(struct access *a, size_t size, void *guest)
{
	memset(a, 0, sizeof(*a));
	peer_init(&a->p, size);
	vcpu_arch_set_entry_point(a->p.vcpu, guest);
	virt_map(a->p.backend, DEV_GPA, DEV_GPA, DEV_SIZE / 4096);
	a->cmd = addr_gva2hva(a->p.backend, (uintptr_t)&access_cmd);
}

void access_mmio(struct access *a)
{
	struct kvm_run *run = a->p.vcpu->run;
	uint64_t offset = run->mmio.phys_addr - DEV_GPA;

	if (offset < DEV_SIZE) {
		a->dev_exits++;
		if (run->mmio.is_write)
			memcpy(a->dev + offset, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, a->dev + offset, run->mmio.len);
		return;
	}
	a->holes += run->mmio.len;
	a->last = run->mmio.phys_addr;
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, run->mmio.len);
}

int access_run(struct access *a)
{
	struct kvm_run *run = a->p.vcpu->run;

	for (;;) {
		vcpu_run(a->p.vcpu);
		if (run->exit_reason == KVM_EXIT_MMIO)
			access_mmio(a);
		else if (run->exit_reason == KVM_EXIT_IO && run->io.port == DEV_PORT)
			memcpy(&a->port, (void *)run + run->io.data_offset, sizeof(a->port));
		else
			break;
	}
	return get_ucall(a->p.vcpu, NULL) == UCALL_SYNC ? 0 : run->exit_reason;
}

int __access_do(struct access *a, enum access_op op, uint64_t dst, uint64_t src, uint64_t count,
		uint64_t val)
{
	access_set_cmd(a->cmd, op, dst, src, count, val);
	return access_run(a);
}

/* How often something did not come in time, if that is no reason to fail. */
static uint64_t access_slow(struct access *a)
{
	return a->patient ? peer_fd_stat(a->p.backend->fd, "vm2vm_owner_slow") : 0;
}

void access_do(struct access *a, enum access_op op, uint64_t dst, uint64_t src, uint64_t count,
	       uint64_t val)
{
	unsigned int holes = a->holes;
	uint64_t slow;
	double start;
	int r;

	do {
		a->holes = holes;
		slow = access_slow(a);
		start = mem_now();
		r = __access_do(a, op, dst, src, count, val);
		TEST_ASSERT(!r, "command %u of the guest: exit reason %d", op, r);
		slow = access_slow(a) - slow;
		TEST_ASSERT(!slow || mem_now() - start > 10 * mem_tick(), "KVM did not wait");
	} while (slow);
}

uint64_t access_read(struct access *a, uint64_t offset)
{
	access_do(a, ACCESS_MOVSQ_ONE, DEV_GPA, PEER_WINDOW + offset, 0, 0);
	return *(uint64_t *)a->dev;
}

void access_write(struct access *a, uint64_t offset, uint64_t val)
{
	*(uint64_t *)a->dev = val;
	access_do(a, ACCESS_MOVSQ_ONE, PEER_WINDOW + offset, DEV_GPA, 0, 0);
}

uint32_t access_out(struct access *a, uint64_t offset)
{
	access_do(a, ACCESS_OUTS, 0, PEER_WINDOW + offset, 0, 0);
	return a->port;
}

uint64_t owner_offset(uint64_t offset)
{
	return (PAGES - 1 - offset / 4096) * 4096 + offset % 4096;
}

void approve(struct peer *p, uint32_t flags)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * 4096,
			  PEER_OWNER_GPA + owner_offset(i * 4096), 4096, flags);
}

void share(struct peer *p, uint32_t map_flags, uint32_t link_flags)
{
	approve(p, map_flags);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, p->size,
		   link_flags);
	peer_map_window(p, PEER_WINDOW, p->size);
}

bool memory_is(struct peer *p, const uint8_t *model)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		if (memcmp(p->mem + owner_offset(i * 4096), model + i * 4096, 4096))
			return false;
	}
	return true;
}

uint64_t *word_at(struct peer *p, uint64_t offset)
{
	return p->mem + owner_offset(offset);
}

void access_fill(struct access *a, uint8_t *model)
{
	unsigned int i;

	for (i = 0; i < SIZE; i++) {
		model[i] = i * 7 + i / 256;
		((uint8_t *)a->p.mem)[owner_offset(i)] = model[i];
	}
	for (i = 0; i < DEV_SIZE; i++)
		a->dev[i] = i * 11 + i / 128;
}
