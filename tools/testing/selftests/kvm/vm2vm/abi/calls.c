// SPDX-License-Identifier: GPL-2.0
/* vm2vm_abi_test: what is wrong with any call alike. */
#include <sys/mman.h>

#include "abi.h"

struct kvm_vm2vm_map map_entry = { FREE, MEM, PG, VM2VM_RW };
struct kvm_vm2vm_unmap unmap_entry = { FREE, PG };
static uint64_t dirty_word;

/* A valid argument of each call; MAP undoes UNMAP and LINK undoes UNLINK. */
static const struct call {
	const char *name;
	unsigned long nr;
	bool on_domain;
	union args args;
	size_t zeros;		/* where what must be zero starts, */
	uint32_t not_zero;	/* but for these bits of its first word, */
	size_t end;		/* and ends, if not with the argument */
} calls[] = {
	{ "create", KVM_VM2VM_CREATE_DOMAIN, false, { .create = {} },
	  offsetof(struct kvm_vm2vm_create_domain, flags), 7 },
	{ "map", KVM_VM2VM_MAP, true, { .map = { FREE, MEM, PG, VM2VM_RW } },
	  offsetof(struct kvm_vm2vm_map, flags), VM2VM_RW },
	{ "unmap", KVM_VM2VM_UNMAP, true, { .unmap = { FREE, PG } },
	  offsetof(struct kvm_vm2vm_unmap, flags), 0, offsetof(struct kvm_vm2vm_unmap, unmapped) },
	{ "link", KVM_VM2VM_LINK, false, { .link = { FD_DOMAIN, SLOT_NEW, NEW, FREE, PG } },
	  offsetof(struct kvm_vm2vm_link, flags), 7 | KVM_VM2VM_LINK_FILL },
	{ "unlink", KVM_VM2VM_UNLINK, false, { .unlink = { SLOT_NEW } },
	  offsetof(struct kvm_vm2vm_unlink, flags) },
	{ "map_batch", KVM_VM2VM_MAP_BATCH, true, { .batch = { (uintptr_t)&map_entry, 1 } },
	  offsetof(struct kvm_vm2vm_batch, flags) },
	{ "unmap_batch", KVM_VM2VM_UNMAP_BATCH, true, { .batch = { (uintptr_t)&unmap_entry, 1 } },
	  offsetof(struct kvm_vm2vm_batch, flags) },
	{ "query", KVM_VM2VM_QUERY, true, { .query = { M1 } },
	  offsetof(struct kvm_vm2vm_query, flags) },
	{ "refuse", KVM_VM2VM_REFUSE, true, { .refuse = { M1, PG } },
	  offsetof(struct kvm_vm2vm_refuse, flags), 0, offsetof(struct kvm_vm2vm_refuse, refused) },
	{ "get_dirty", KVM_VM2VM_GET_DIRTY, true,
	  { .get_dirty = { M1, 64 * PG, (uintptr_t)&dirty_word } },
	  offsetof(struct kvm_vm2vm_get_dirty, flags) },
};

/* Every bit that must be zero, one at a time; and it is that bit that is wrong. */
TEST_F_TIMEOUT(abi, zero_bits, 120)
{
	struct env *e = &self->env;
	const struct call *c;
	union args args;
	char name[64];
	int bit, end, r;

	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		end = c->end ?: _IOC_SIZE(c->nr);
		for (bit = 0; bit < (end - (int)c->zeros) * 8; bit++) {
			if (bit < 32 && c->not_zero & 1u << bit)
				continue;
			args = c->args;
			((uint8_t *)&args)[c->zeros + bit / 8] |= 1 << bit % 8;
			snprintf(name, sizeof(name), "%s: bit %d", c->name, bit);
			fails(e, name, EINVAL,
			      do_call(e, c->on_domain ? FD_DOMAIN : FD_VM, c->nr, &args));
		}
		args = c->args;
		r = do_call(e, c->on_domain ? FD_DOMAIN : FD_VM, c->nr, &args);
		works(e, c->name, 1, r >= 0);
		if (c->nr == KVM_VM2VM_CREATE_DOMAIN)
			close(r);
		take_state(e, &e->before);
	}
}

TEST_F(abi, bad_pointer)
{
	static const char * const names[] = {
		"NULL", "the last page", "kernel memory", "no address at all",
		"no access", "last byte out", "first byte in",
	};
	struct env *e = &self->env;
	void *page = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct call *c;
	char name[64];
	int i;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, mprotect(page + PG, PG, PROT_NONE));
	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		void *ptrs[] = {
			NULL, (void *)-4096l, (void *)0xffff888000000000, (void *)(1ul << 63),
			page + PG, page + PG + 1 - _IOC_SIZE(c->nr), page + PG - 1,
		};

		for (i = 0; i < ARRAY_SIZE(names); i++) {
			snprintf(name, sizeof(name), "%s: %s", c->name, names[i]);
			fails(e, name, EFAULT,
			      vm2vm_ioctl(c->on_domain ? e->domain : e->owner->fd,
					  c->nr, ptrs[i]));
		}
	}

	/* What cannot be told its result does nothing. */
	unmap_entry.iova = M1;
	unmap_entry.size = 8 * PG;
	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		if (!(_IOC_DIR(c->nr) & _IOC_READ))
			continue;
		ASSERT_EQ(0, mprotect(page, PG, PROT_READ | PROT_WRITE));
		memcpy(page, &c->args, sizeof(c->args));
		if (c->nr == KVM_VM2VM_UNMAP)
			memcpy(page, &unmap_entry, sizeof(unmap_entry));
		ASSERT_EQ(0, mprotect(page, PG, PROT_READ));
		snprintf(name, sizeof(name), "%s: read-only", c->name);
		fails(e, name, EFAULT, vm2vm_ioctl(e->domain, c->nr, page));
	}

	/* Nor does a batch without entries succeed if it cannot be told so. */
	ASSERT_EQ(0, mprotect(page, PG, PROT_READ | PROT_WRITE));
	memset(page, 0, sizeof(union args));
	ASSERT_EQ(0, mprotect(page, PG, PROT_READ));
	fails(e, "map nothing", EFAULT, vm2vm_ioctl(e->domain, KVM_VM2VM_MAP_BATCH, page));
	fails(e, "unmap nothing", EFAULT, vm2vm_ioctl(e->domain, KVM_VM2VM_UNMAP_BATCH, page));
}

TEST_F(abi, wrong_descriptor)
{
	static const struct { const char *name; int fd, err; } kinds[] = {
		{ "/dev/kvm", FD_KVM, EINVAL },		/* as for all that it does not know */
		{ "vCPU", FD_VCPU, EINVAL },		/* likewise */
		{ "VM", FD_VM, ENOTTY },
		{ "domain", FD_DOMAIN, ENOTTY },
		{ "pipe", FD_PIPE, ENOTTY },
		{ "O_PATH", FD_PATH, EBADF },
		{ "closed", FD_CLOSED, EBADF },
		{ "-1", -1, EBADF },
	};
	struct env *e = &self->env;
	const struct call *c;
	unsigned long nrs[3];
	union args args;
	char name[64];
	int i, fd;

	for (c = calls; c < calls + ARRAY_SIZE(calls); c++) {
		for (i = 0; i < ARRAY_SIZE(kinds); i++) {
			if (kinds[i].fd == (c->on_domain ? FD_DOMAIN : FD_VM))
				continue;
			args = c->args;
			snprintf(name, sizeof(name), "%s: on %s", c->name, kinds[i].name);
			fails(e, name, kinds[i].err, do_call(e, kinds[i].fd, c->nr, &args));
		}
		/* The number with another size or direction is another number. */
		nrs[0] = c->nr ^ 8 << _IOC_SIZESHIFT;
		nrs[1] = c->nr & ~(_IOC_WRITE << _IOC_DIRSHIFT);
		nrs[2] = _IO(KVMIO, _IOC_NR(c->nr));
		fd = c->on_domain ? e->domain : e->backend->fd;
		for (i = 0; i < ARRAY_SIZE(nrs); i++) {
			snprintf(name, sizeof(name), "%s: number %lx", c->name, nrs[i]);
			args = c->args;
			fails(e, name, ENOTTY, vm2vm_ioctl(fd, nrs[i], &args));
		}
	}
	fails(e, "no such call of a domain", ENOTTY,
	      vm2vm_ioctl(e->domain, _IO(KVMIO, 0xff), NULL));
	fails(e, "no such call of a VM", ENOTTY,
	      vm2vm_ioctl(e->backend->fd, _IO(KVMIO, 0xff), NULL));
}
