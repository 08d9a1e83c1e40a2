// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_abi_test: QUERY, REFUSE and read() as far as nobody waits, and domains of
 * all memory.  What happens when a vCPU misses is in vm2vm_miss_test.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "abi.h"

#define ALL_SIZE	(-PG)	/* of what a domain of all memory maps, from 0 */

static const struct row query_rows[] = {
	{ "flag bit 0", EINVAL, QUERY(M1, 0, 0, 1) },
	{ "flag bit 1", EINVAL, QUERY(M1, 0, 0, 2) },
	{ "flag bits 2 to 30", EINVAL, QUERY(M1, 0, 0, 0x7ffffffc) },
	{ "flag bit 31", EINVAL, QUERY(M1, 0, 0, 1u << 31) },
	{ "pad", EINVAL, QUERY(M1, 0, 0, 0, 1) },
	{ "iova + 1", EINVAL, QUERY(M1 + 1) },
	{ "iova + 2048", EINVAL, QUERY(M1 + PG / 2) },
	{ "iova - 1", EINVAL, QUERY(M1 - 1) },
	{ "iova 2^64 - 1", EINVAL, QUERY(-1) },
	{ "above nothing, and a bad flag", EINVAL, QUERY(TOP, 0, 0, 1) },
	{ "right above the last", ENOENT, QUERY(M2 + 2 * PG) },
	{ "far above the last", ENOENT, QUERY(FREE) },
	{ "highest iova", ENOENT, QUERY(TOP) },
	{ "the last page", ENOENT, QUERY(-PG) },
	{ "other fields do not matter", ENOENT, QUERY(FREE, -1, -1) },
};

/* QUERY at @iova finds this, or what is an error. */
static void finds(struct env *e, const char *name, int d, uint64_t at, int err, uint64_t iova,
		  uint64_t gpa, uint64_t size, uint32_t flags)
{
	struct __test_metadata *_metadata = e->metadata;
	struct kvm_vm2vm_query q = { at, 1, 2 }, want = { iova, gpa, size, flags };
	int r = vm2vm_ioctl(d, KVM_VM2VM_QUERY, &q);

	/* Nothing changes whatever it returns. */
	fails(e, name, err, r);
	if (r)
		return;
	EXPECT_EQ(0, memcmp(&q, &want, sizeof(q)))
		TH_LOG("%s: found %llx, %llx, %llx, %x, %x", name, q.iova, q.gpa, q.size, q.flags,
		       q.pad);
}

TEST_F(abi, query)
{
	struct env *e = &self->env;
	int d = e->domain, other = vm2vm_create_domain(e->owner);

	take_state(e, &e->before);
	run_rows(e, FD_DOMAIN, KVM_VM2VM_QUERY, query_rows, ARRAY_SIZE(query_rows));

	finds(e, "first, from 0", d, 0, 0, M1, MEM, 8 * PG, VM2VM_RW);
	finds(e, "first, from below", d, M1 - PG, 0, M1, MEM, 8 * PG, VM2VM_RW);
	finds(e, "first", d, M1, 0, M1, MEM, 8 * PG, VM2VM_RW);
	finds(e, "first, from inside", d, M1 + PG, 0, M1, MEM, 8 * PG, VM2VM_RW);
	finds(e, "first, from its end", d, M1 + 7 * PG, 0, M1, MEM, 8 * PG, VM2VM_RW);
	finds(e, "second, from the gap", d, M1 + 8 * PG, 0, M2, MEM, 2 * PG, RD);
	finds(e, "second", d, M2, 0, M2, MEM, 2 * PG, RD);
	finds(e, "second, from inside", d, M2 + PG, 0, M2, MEM, 2 * PG, RD);

	works(e, "iova 0", 0, __vm2vm_map(d, 0, RO, PG, RD));
	works(e, "highest iova", 0, __vm2vm_map(d, TOP, MEM2, PG, VM2VM_RW));
	works(e, "adjacent", 0, __vm2vm_map(d, PG, RO + PG, 2 * PG, RD));
	finds(e, "at 0", d, 0, 0, 0, RO, PG, RD);
	finds(e, "adjacent ones are two", d, PG, 0, PG, RO + PG, 2 * PG, RD);
	finds(e, "the highest, from below", d, FREE, 0, TOP, MEM2, PG, VM2VM_RW);
	finds(e, "the highest", d, TOP, 0, TOP, MEM2, PG, VM2VM_RW);
	finds(e, "above it", d, TOP + PG, ENOENT, 0, 0, 0, 0);
	works(e, "as many as there are", 5, e->before.lists[0].nr);
	works(e, "unmap the first", 8 * PG, vm2vm_unmap(d, M1, 8 * PG));
	finds(e, "it is not found", d, M1, 0, M2, MEM, 2 * PG, RD);

	/* An approval stays when its memory goes. */
	works(e, "memslot goes", 0, set_region(e->owner, SLOT_RO, 0, RO, 0, NULL));
	finds(e, "still there", d, 0, 0, 0, RO, PG, RD);

	finds(e, "empty domain", other, 0, ENOENT, 0, 0, 0, 0);
	finds(e, "another VM's", e->peer, 0, ENOENT, 0, 0, 0, 0);
}

static const struct row refuse_rows[] = {
	{ "flag bit 0", EINVAL, REFUSE(M1, PG, 1) },
	{ "flag bits 1 to 30", EINVAL, REFUSE(M1, PG, 0x7ffffffe) },
	{ "flag bit 31", EINVAL, REFUSE(M1, PG, 1u << 31) },
	{ "size 0", EINVAL, REFUSE(M1, 0) },
	{ "size 1", EINVAL, REFUSE(M1, 1) },
	{ "size + 1", EINVAL, REFUSE(M1, PG + 1) },
	{ "size 2^64 - 1", EINVAL, REFUSE(0, -1) },
	{ "iova + 1", EINVAL, REFUSE(M1 + 1, PG) },
	{ "iova + 2048", EINVAL, REFUSE(M1 + PG / 2, PG) },
	{ "wraps", EINVAL, REFUSE(-PG, 2 * PG) },
	{ "wraps far", EINVAL, REFUSE(M1, -PG) },
	{ "ends at 2^64", EINVAL, REFUSE(-PG, PG) },
};

TEST_F(abi, refuse)
{
	struct kvm_vm2vm_refuse args = { M1, PG, 0, -1 };
	struct env *e = &self->env;
	int d = e->domain, other = vm2vm_create_domain(e->owner);

	take_state(e, &e->before);
	run_rows(e, FD_DOMAIN, KVM_VM2VM_REFUSE, refuse_rows, ARRAY_SIZE(refuse_rows));
	fails(e, "no misses", EINVAL, __vm2vm_refuse(other, M1, PG, NULL));
	fails(e, "no misses, and badly", EINVAL, __vm2vm_refuse(other, M1, 0, NULL));

	works(e, "what is mapped", 0, vm2vm_refuse(d, M1, 8 * PG));
	works(e, "a part of that", 0, vm2vm_refuse(d, M1 + PG, PG));
	works(e, "what is not", 0, vm2vm_refuse(d, FREE, PG));
	works(e, "everything", 0, vm2vm_refuse(d, 0, -PG));
	works(e, "highest iova", 0, vm2vm_refuse(d, TOP, PG));
	works(e, "the result may be anything before", 0, vm2vm_ioctl(d, KVM_VM2VM_REFUSE, &args));
	works(e, "and is nobody after", 0, args.refused);
}

/* Nobody waits: what read() and poll() say, and what is wrong with the call. */
TEST_F(abi, read)
{
	struct env *e = &self->env;
	int d = e->domain, other = vm2vm_create_domain(e->owner);
	void *nowhere = mmap(NULL, PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char buf[64];

	ASSERT_NE(MAP_FAILED, nowhere);
	take_state(e, &e->before);
	fails(e, "no misses", EINVAL, __vm2vm_read_misses(other, buf, sizeof(buf)));
	fails(e, "size 0", EINVAL, __vm2vm_read_misses(d, buf, 0));
	fails(e, "size 1", EINVAL, __vm2vm_read_misses(d, buf, 1));
	fails(e, "size 15", EINVAL, __vm2vm_read_misses(d, buf, sizeof(struct kvm_vm2vm_miss) - 1));
	fails(e, "write", EINVAL, write(d, buf, sizeof(buf)) < 0 ? -errno : 0);

	ASSERT_EQ(0, fcntl(d, F_SETFL, O_NONBLOCK));
	fails(e, "one", EAGAIN, __vm2vm_read_misses(d, buf, sizeof(struct kvm_vm2vm_miss)));
	fails(e, "not quite two", EAGAIN, __vm2vm_read_misses(d, buf, 31));
	fails(e, "some", EAGAIN, __vm2vm_read_misses(d, buf, sizeof(buf)));
	fails(e, "size 15, O_NONBLOCK", EINVAL, __vm2vm_read_misses(d, buf, 15));
	fails(e, "nothing to read to nowhere", EAGAIN,
	      __vm2vm_read_misses(d, nowhere, sizeof(buf)));
	fails(e, "to kernel memory", EFAULT,
	      __vm2vm_read_misses(d, (void *)0xffff888000000000, sizeof(buf)));
	fails(e, "no misses, O_NONBLOCK", EINVAL, __vm2vm_read_misses(other, buf, sizeof(buf)));

	works(e, "poll", 0, poll_events(d));
	works(e, "poll without misses", 0, poll_events(other));
}

/* Without misses, too, poll() tells of the end. */
TEST_F(abi, poll_end)
{
	struct env *e = &self->env;
	struct kvm_vm *vm = make_vm(e->mem);
	int plain = vm2vm_create_domain(vm);
	int all = vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_ALL_MEMORY);
	char buf[64];

	take_state(e, &e->before);
	works(e, "plain domain", 0, poll_events(plain));
	works(e, "all memory", 0, poll_events(all));
	kvm_vm_free(vm);
	take_state(e, &e->before);
	works(e, "plain domain, ended", POLLHUP, poll_events(plain));
	works(e, "all memory, ended", POLLHUP, poll_events(all));
	fails(e, "read the plain one", EINVAL, __vm2vm_read_misses(plain, buf, sizeof(buf)));
	fails(e, "refuse", EINVAL, __vm2vm_refuse(plain, M1, PG, NULL));
}

static const struct row all_map_rows[] = {
	{ "map", EEXIST, MAP(FREE, MEM, PG, RD) },
	{ "map iova = gpa", EEXIST, MAP(MEM, MEM, PG, VM2VM_RW) },
	{ "map iova 0", EEXIST, MAP(0, MEM, PG, RD) },
	{ "map highest iova", EEXIST, MAP(TOP, MEM, PG, RD) },
	{ "map all of it", EEXIST, MAP(MEM, MEM, ALL_PAGES * PG, RD) },
	{ "map badly", EINVAL, MAP(MEM, MEM, PG, 0) },
};

static const struct row all_unmap_rows[] = {
	{ "unmap a page", EINVAL, UNMAP(MEM, PG) },
	{ "unmap where no memory is", EINVAL, UNMAP(0, PG) },
	{ "unmap a memslot", EINVAL, UNMAP(MEM, 16 * PG) },
	{ "unmap highest iova", EINVAL, UNMAP(TOP, PG) },
	{ "unmap all but a page", EINVAL, UNMAP(PG, TOP) },
	{ "unmap all", EINVAL, UNMAP(0, ALL_SIZE) },
	{ "unmap badly", EINVAL, UNMAP(0, 0) },
};

/* Each row, and each as a batch of one, on a domain of all memory. */
static void all_rows(struct env *e, int d)
{
	union args args;
	uint32_t nr = 1;
	int i;

	run_rows(e, d, KVM_VM2VM_MAP, all_map_rows, ARRAY_SIZE(all_map_rows));
	run_rows(e, d, KVM_VM2VM_UNMAP, all_unmap_rows, ARRAY_SIZE(all_unmap_rows));
	for (i = 0; i < ARRAY_SIZE(all_map_rows); i++) {
		args = all_map_rows[i].args;
		fails(e, all_map_rows[i].name, all_map_rows[i].err,
		      __vm2vm_map_batch(d, &args.map, &nr));
	}
	for (i = 0; i < ARRAY_SIZE(all_unmap_rows); i++) {
		args = all_unmap_rows[i].args;
		fails(e, all_unmap_rows[i].name, all_unmap_rows[i].err,
		      __vm2vm_unmap_batch(d, &args.unmap, &nr));
	}
}

static void all_query(struct env *e, int d)
{
	finds(e, "from 0", d, 0, 0, 0, 0, ALL_SIZE, VM2VM_RW);
	finds(e, "memory", d, MEM, 0, 0, 0, ALL_SIZE, VM2VM_RW);
	finds(e, "read-only memory", d, RO, 0, 0, 0, ALL_SIZE, VM2VM_RW);
	finds(e, "no memory", d, FREE, 0, 0, 0, ALL_SIZE, VM2VM_RW);
	finds(e, "highest iova", d, TOP, 0, 0, 0, ALL_SIZE, VM2VM_RW);
	finds(e, "the end of the list", d, ALL_SIZE, ENOENT, 0, 0, 0, 0);
}

TEST_F(abi, all_memory)
{
	static const uint32_t flags[] = {
		KVM_VM2VM_DOMAIN_ALL_MEMORY,
		KVM_VM2VM_DOMAIN_ALL_MEMORY | KVM_VM2VM_DOMAIN_MISSES,
	};
	const union args unmap = UNMAP(MEM, PG), map = MAP(MEM, MEM, PG, RD);
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;
	int i, d, plain = e->domain;
	bool misses;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		d = __vm2vm_create_domain_flags(e->owner, flags[i]);
		misses = flags[i] & KVM_VM2VM_DOMAIN_MISSES;
		works(e, "create", 1, d >= 0);
		works(e, "it is a mapping", 3, e->before.stats[0][1]);
		works(e, "O_CLOEXEC", FD_CLOEXEC, fcntl(d, F_GETFD));
		/* The state is that of this domain from now on. */
		e->domain = d;
		take_state(e, &e->before);
		all_rows(e, d);
		all_query(e, d);
		fails(e, "unmap by a stranger", EINVAL, in_child(e, d, KVM_VM2VM_UNMAP, unmap));
		fails(e, "map by a stranger", EPERM, in_child(e, d, KVM_VM2VM_MAP, map));
		works(e, "one mapping", 1, e->before.lists[0].nr);
		works(e, "link", 0, __vm2vm_link(vm, d, SLOT_NEW, NEW, MEM, 16 * PG, 0));
		works(e, "unlink", 0, __vm2vm_unlink(vm, SLOT_NEW));
		works(e, "to wait", misses ? 0 : -EINVAL,
		      __vm2vm_link(vm, d, SLOT_NEW, NEW, MEM, PG, WAIT));
		works(e, "refuse", misses ? 0 : -EINVAL, __vm2vm_refuse(d, MEM, PG, NULL));
		if (misses)
			works(e, "unlink", 0, __vm2vm_unlink(vm, SLOT_NEW));
		e->domain = plain;
		works(e, "close", 0, close(d));
		works(e, "the mapping is gone", 2, e->before.stats[0][1]);
	}
}

/* It is there before there is memory, and does not keep the VM alive. */
TEST_F(abi, all_memory_empty)
{
	struct env *e = &self->env;
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vm2vm_query q;
	int d = vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_ALL_MEMORY);
	uint32_t nr;

	take_state(e, &e->before);
	fails(e, "map without memory", ENOENT, __vm2vm_map(d, MEM, MEM, PG, RD));
	fails(e, "unmap", EINVAL, __vm2vm_unmap(d, MEM, PG, NULL));
	all_query(e, d);
	works(e, "link", 0, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, MEM, PG, 0));
	works(e, "memory that logs", 0,
	      set_region(vm, SLOT_MEM, KVM_MEM_LOG_DIRTY_PAGES, MEM, PG, e->mem));
	works(e, "that does not", 0, set_region(vm, SLOT_MEM, 0, MEM, PG, e->mem));
	fails(e, "map with it", EEXIST, __vm2vm_map(d, MEM, MEM, PG, RD));
	kvm_vm_free(vm);
	take_state(e, &e->before);
	fails(e, "query, owner gone", ENODEV, __vm2vm_query(d, 0, &q));
	fails(e, "map, owner gone", ENODEV, __vm2vm_map(d, MEM, MEM, PG, RD));
	fails(e, "unmap, owner gone", EINVAL, __vm2vm_unmap(d, MEM, PG, NULL));
	nr = 1;
	fails(e, "unmap some, owner gone", ENODEV, __vm2vm_unmap_batch(d, &unmap_entry, &nr));
}
