// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: bad input.  Every field of every call is wrong once, and the call must
 * give the errno that linux/kvm_vm2vm.h promises and change nothing: after each
 * case that fails, what can be seen from user space (descriptors, mappings,
 * memslots) is compared with what was there before.
 *
 * Each call has a table of cases, and each case is named when it fails.  What
 * must work right beside the bad input is checked too.
 *
 * Here are domains as such: how they are made, by whom they may be used, and when.
 * vm2vm/abi/ has the calls: what is common to all (calls.c), MAP and UNMAP (map.c),
 * LINK and UNLINK (link.c), QUERY, misses and domains of all memory (query.c), the
 * batches (batch.c), END (end.c), the limits (limits.c), and what comes back (memory.c).
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "vm2vm/abi/abi.h"

static int check_extension(struct env *e, int fd, unsigned long cap)
{
	return vm2vm_ioctl(resolve(e, fd), KVM_CHECK_EXTENSION, (void *)cap);
}

TEST_F(abi, capability)
{
	struct env *e = &self->env;
	struct kvm_enable_cap enable = { .cap = KVM_CAP_VM2VM };
	int mask = check_extension(e, FD_KVM, KVM_CAP_VM2VM);

	works(e, "link feature", KVM_VM2VM_FEATURE_LINK, mask & KVM_VM2VM_FEATURE_LINK);
	works(e, "not an errno", 1, mask > 0);
	works(e, "the same on a VM", mask, check_extension(e, FD_VM, KVM_CAP_VM2VM));
	works(e, "number below", 0, check_extension(e, FD_VM, KVM_CAP_VM2VM - 1));
	works(e, "number above", 0, check_extension(e, FD_VM, KVM_CAP_VM2VM + 1));
	works(e, "low half only", 0, check_extension(e, FD_VM, 1ul << 32 | KVM_CAP_VM2VM));
	fails(e, "on a domain", ENOTTY, check_extension(e, FD_DOMAIN, KVM_CAP_VM2VM));
	fails(e, "on a vCPU", EINVAL, check_extension(e, FD_VCPU, KVM_CAP_VM2VM));
	fails(e, "enable", EINVAL, vm2vm_ioctl(e->owner->fd, KVM_ENABLE_CAP, &enable));
}

TEST_F(abi, create)
{
	static const struct row rows[] = {
		{ "flag bit 3", EINVAL, { .create = { .flags = 8 } } },
		{ "flag bits 4 to 30", EINVAL, { .create = { .flags = 0x7ffffff0 } } },
		{ "all flags", EINVAL, { .create = { .flags = -1 } } },
		{ "flag bit 31", EINVAL, { .create = { .flags = 1u << 31 } } },
		{ "pad", EINVAL, { .create = { .pad = -1 } } },
		{ "reserved[0]", EINVAL, { .create = { .reserved[0] = -1 } } },
		{ "reserved[1]", EINVAL, { .create = { .reserved[1] = -1 } } },
		{ "reserved[2]", EINVAL, { .create = { .reserved[2] = -1 } } },
	};
	struct env *e = &self->env;
	struct rlimit old, none;
	int r;

	run_rows(e, e->owner->fd, KVM_VM2VM_CREATE_DOMAIN, rows, ARRAY_SIZE(rows));

	/* The lowest free descriptor is out of bounds. */
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	none = old;
	none.rlim_cur = resolve(e, FD_CLOSED);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	r = __vm2vm_create_domain(e->owner);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	fails(e, "no descriptor left", EMFILE, r);

	works(e, "O_CLOEXEC", FD_CLOEXEC, fcntl(e->domain, F_GETFD));
	r = vm2vm_create_domain(e->owner);
	works(e, "a second domain is another", 0, __vm2vm_map(r, M1, MEM, PG, RD));
	works(e, "closing one", 0, close(r));
	works(e, "leaves the other", 0, __vm2vm_map(e->domain, M2 + 2 * PG, MEM, PG, RD));
}

/* A descriptor that is 0 is as good as another. */
TEST_F(abi, create_zero)
{
	struct env *e = &self->env;
	int saved = dup(0), r;

	ASSERT_LE(0, saved);
	ASSERT_EQ(0, close(0));
	r = __vm2vm_create_domain(e->owner);
	works(e, "the lowest descriptor", 0, r);
	works(e, "it is a domain", 0, __vm2vm_map(0, M1, MEM, PG, RD));
	works(e, "which can be linked", 0, __vm2vm_link(e->backend, 0, SLOT_NEW, NEW, M1, PG, 0));
	vm2vm_unlink(e->backend, SLOT_NEW);
	ASSERT_EQ(0, dup2(saved, 0));
	close(saved);
}

TEST_F(abi, foreign_process)
{
	static const struct {
		const char *name;
		int err, fd;
		unsigned long nr;
		union args args;
	} rows[] = {
		{ "map", EPERM, FD_DOMAIN, KVM_VM2VM_MAP, MAP(FREE, MEM, PG, RD) },
		{ "map what is", EPERM, FD_DOMAIN, KVM_VM2VM_MAP, MAP(M1, MEM, PG, RD) },
		{ "map no memory", EPERM, FD_DOMAIN, KVM_VM2VM_MAP, MAP(FREE, 0, PG, RD) },
		{ "map badly", EINVAL, FD_DOMAIN, KVM_VM2VM_MAP, MAP(FREE, MEM, PG, 0) },
		{ "unmap", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(M1, 8 * PG) },
		{ "unmap nothing", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(FREE, PG) },
		{ "unmap a part", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(M1, PG) },
		{ "unmap badly", EINVAL, FD_DOMAIN, KVM_VM2VM_UNMAP, UNMAP(FREE, 0) },
		{ "map some", EPERM, FD_DOMAIN, KVM_VM2VM_MAP_BATCH, BATCH(&map_entry, 1) },
		{ "map none", EPERM, FD_DOMAIN, KVM_VM2VM_MAP_BATCH, BATCH(NULL, 0) },
		{ "map some badly", EINVAL, FD_DOMAIN, KVM_VM2VM_MAP_BATCH, BATCH(NULL, 1, 1) },
		{ "unmap some", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP_BATCH, BATCH(&unmap_entry, 1) },
		{ "unmap none", EPERM, FD_DOMAIN, KVM_VM2VM_UNMAP_BATCH, BATCH(NULL, 0) },
		{ "unmap some badly", EINVAL, FD_DOMAIN, KVM_VM2VM_UNMAP_BATCH, BATCH(NULL, 1, 1) },
		{ "query", EPERM, FD_DOMAIN, KVM_VM2VM_QUERY, QUERY(0) },
		{ "query nothing", EPERM, FD_DOMAIN, KVM_VM2VM_QUERY, QUERY(TOP) },
		{ "query badly", EINVAL, FD_DOMAIN, KVM_VM2VM_QUERY, QUERY(1) },
		{ "refuse", EPERM, FD_DOMAIN, KVM_VM2VM_REFUSE, REFUSE(M1, PG) },
		{ "refuse badly", EINVAL, FD_DOMAIN, KVM_VM2VM_REFUSE, REFUSE(M1, 0) },
		{ "create", EIO, FD_VM, KVM_VM2VM_CREATE_DOMAIN, {} },
		{ "create badly", EIO, FD_VM, KVM_VM2VM_CREATE_DOMAIN, { .create = { 4 } } },
		{ "link", EIO, FD_VM, KVM_VM2VM_LINK, LINK_FD(FD_DOMAIN) },
		{ "link nothing", EIO, FD_VM, KVM_VM2VM_LINK, LINK_FD(-1) },
		{ "unlink", EIO, FD_VM, KVM_VM2VM_UNLINK, UNLINK(SLOT_WIN) },
		{ "unlink nothing", EIO, FD_VM, KVM_VM2VM_UNLINK, UNLINK(SLOT_NEW) },
	};
	struct env *e = &self->env;
	int i, r, status;
	pid_t pid;

	unmap_entry.iova = M1;
	unmap_entry.size = 8 * PG;
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		r = in_child(e, rows[i].fd, rows[i].nr, rows[i].args);
		fails(e, rows[i].name, rows[i].err, r);
	}

	fails(e, "read", EPERM, read_in_child(e->domain, 16));
	fails(e, "read much", EPERM, read_in_child(e->domain, 64));
	fails(e, "read too little", EINVAL, read_in_child(e->domain, 15));
	fails(e, "read what has no misses", EINVAL, read_in_child(e->peer, 16));

	/* But who has the descriptor may link it, and that changes nothing here. */
	pid = fork();
	if (!pid)
		_exit(-__vm2vm_link(vm_create_barebones(), e->domain, 1, MEM, M1, PG, 0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	fails(e, "link to a VM of its own", 0, status);
}

static int map_in_memory_of(void *env)
{
	struct env *e = env;

	/* Libraries are not to be used here, where errno is everybody's. */
	return -__vm2vm_map(e->domain, FREE, MEM, PG, RD);
}

/* The owner is an address space: who shares it may do all that the owner may. */
TEST_F(abi, shared_memory)
{
	static char stack[65536] __aligned(16);
	struct env *e = &self->env;
	int status;
	pid_t pid;

	pid = clone(map_in_memory_of, stack + sizeof(stack), CLONE_VM | SIGCHLD, e);
	ASSERT_GT(pid, 0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	works(e, "map", 0, status);
	works(e, "it is mapped", PG, vm2vm_unmap(e->domain, FREE, PG));
}

static void owner_gone_rest(struct env *e)
{
	struct kvm_vm2vm_query q;
	struct kvm_vm2vm_miss miss;
	int d = e->domain;
	uint32_t nr = 1;

	fails(e, "map some", ENODEV, __vm2vm_map_batch(d, &map_entry, &nr));
	fails(e, "unmap some", ENODEV, __vm2vm_unmap_batch(d, &unmap_entry, &nr));
	fails(e, "map some at NULL", ENODEV, __vm2vm_map_batch(d, NULL, &nr));
	nr = 0;
	fails(e, "map none", ENODEV, __vm2vm_map_batch(d, NULL, &nr));
	fails(e, "unmap none", ENODEV, __vm2vm_unmap_batch(d, NULL, &nr));
	fails(e, "query", ENODEV, __vm2vm_query(d, 0, &q));
	fails(e, "query nothing", ENODEV, __vm2vm_query(d, TOP, &q));
	fails(e, "query badly", EINVAL, __vm2vm_query(d, 1, &q));
	fails(e, "refuse", ENODEV, __vm2vm_refuse(d, M1, PG, NULL));
	fails(e, "refuse badly", EINVAL, __vm2vm_refuse(d, M1, 0, NULL));
	fails(e, "link, to wait", ENODEV, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, WAIT));
	works(e, "read: the end", 0, __vm2vm_read_misses(d, &miss, sizeof(miss)));
	works(e, "read again: the end", 0, __vm2vm_read_misses(d, &miss, sizeof(miss)));
	fails(e, "read too little", EINVAL, __vm2vm_read_misses(d, &miss, sizeof(miss) - 1));
	fails(e, "read by a stranger", EPERM, read_in_child(d, sizeof(miss)));
	works(e, "poll shows the end", POLLHUP, poll_events(d));
}

TEST_F(abi, owner_gone)
{
	struct env *e = &self->env;
	int vcpu = __vm_ioctl(e->owner, KVM_CREATE_VCPU, NULL);
	union args map = MAP(FREE, MEM, PG, RD), args = map;
	int d = e->domain;

	ASSERT_GE(vcpu, 0);
	works(e, "poll shows nothing", 0, poll_events(d));
	kvm_vm_free(e->owner);
	e->owner = NULL;
	works(e, "a vCPU is left: the end", -ENODEV, __vm2vm_map(d, FREE, MEM, PG, RD));
	works(e, "poll shows the end", POLLHUP, poll_events(d));
	works(e, "close the vCPU", 0, close(vcpu));

	fails(e, "map", ENODEV, __vm2vm_map(d, FREE, MEM, PG, RD));
	fails(e, "map what was", ENODEV, __vm2vm_map(d, M1, MEM, PG, RD));
	fails(e, "map no memory", ENODEV, __vm2vm_map(d, FREE, 0, PG, RD));
	fails(e, "unmap", ENODEV, __vm2vm_unmap(d, M1, 8 * PG, NULL));
	fails(e, "unmap a part", ENODEV, __vm2vm_unmap(d, M1, PG, NULL));
	fails(e, "unmap nothing", ENODEV, __vm2vm_unmap(d, FREE, PG, NULL));
	fails(e, "link", ENODEV, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, 0));
	fails(e, "link, slot in use", ENODEV,
	      __vm2vm_link(e->backend, d, SLOT_WIN, NEW, M1, PG, 0));
	fails(e, "map badly", EINVAL, __vm2vm_map(d, FREE, MEM, PG, 0));
	fails(e, "unmap badly", EINVAL, __vm2vm_unmap(d, M1, 0, NULL));
	fails(e, "link badly", EINVAL, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, 8));
	fails(e, "map at NULL", EFAULT, vm2vm_ioctl(d, KVM_VM2VM_MAP, NULL));
	fails(e, "create", ENOTTY, vm2vm_ioctl(d, KVM_VM2VM_CREATE_DOMAIN, &args));
	fails(e, "map by a stranger", EPERM, in_child(e, FD_DOMAIN, KVM_VM2VM_MAP, map));

	owner_gone_rest(e);
	works(e, "unlink", 0, __vm2vm_unlink(e->backend, SLOT_WIN));
	fails(e, "unlink twice", ENOENT, __vm2vm_unlink(e->backend, SLOT_WIN));
	works(e, "the other direction", 0, __vm2vm_map(e->peer, FREE, MEM, PG, RD));
}

static int set_log(struct env *e, struct kvm_vm *vm, uint32_t flags)
{
	return set_region(vm, SLOT_MEM, flags, MEM, 16 * PG, e->mem);
}

TEST_F(abi, dirty_log)
{
	const uint32_t log = KVM_MEM_LOG_DIRTY_PAGES;
	struct env *e = &self->env;
	struct kvm_vm *vm = make_vm(e->mem);
	int d, copy;

	/* In bitmaps, whenever it is. */
	take_state(e, &e->before);
	works(e, "start to log", 0, set_log(e, e->owner, log));
	works(e, "create while it does", 1, (d = __vm2vm_create_domain(e->owner)) >= 0);
	works(e, "close it", 0, close(d));
	works(e, "log no more", 0, set_log(e, e->owner, 0));

	/* In rings only. */
	vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING, 65536);
	take_state(e, &e->before);
	works(e, "link", 0, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, PG, 0));
	works(e, "a backend may log", 0, set_log(e, vm, log));
	works(e, "link while it does", 0, __vm2vm_link(vm, e->domain, SLOT_NEW, NEW, M1, PG, 0));
	fails(e, "create", EBUSY, __vm2vm_create_domain(vm));
	fails(e, "create, all memory", EBUSY,
	      __vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_ALL_MEMORY));
	works(e, "log no more", 0, set_log(e, vm, 0));
	d = __vm2vm_create_domain(vm);
	works(e, "create then", 1, d >= 0);
	fails(e, "log again", EBUSY, set_log(e, vm, log));
	fails(e, "read-only", EBUSY, set_region(vm, SLOT_RO, log | KVM_MEM_READONLY, RO,
						4 * PG, e->mem + 24 * PG));
	fails(e, "new memslot", EBUSY,
	      set_region(vm, SLOT_MANY, log, NEW + 64 * PG, PG, e->mem + 60 * PG));
	copy = dup(d);
	works(e, "close one of two", 0, close(d));
	fails(e, "log yet", EBUSY, set_log(e, vm, log));
	works(e, "close the last", 0, close(copy));
	works(e, "log then", 0, set_log(e, vm, log));
	fails(e, "create again", EBUSY, __vm2vm_create_domain(vm));
	works(e, "delete the memslot", 0, set_region(vm, SLOT_MEM, 0, MEM, 0, NULL));
	works(e, "create at last", 1, __vm2vm_create_domain(vm) >= 0);
	kvm_vm_free(vm);
}

static int enable_ring(struct kvm_vm *vm)
{
	return __vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING, 65536) ? -errno : 0;
}

/* The reverse: a VM with a domain, that logs, goes over to rings. */
TEST_F(abi, dirty_ring_later)
{
	const uint32_t log = KVM_MEM_LOG_DIRTY_PAGES;
	struct env *e = &self->env;
	struct kvm_vm *vm = make_vm(e->mem);
	int d;

	take_state(e, &e->before);
	works(e, "log", 0, set_log(e, vm, log));
	works(e, "create", 1, (d = __vm2vm_create_domain(vm)) >= 0);
	fails(e, "rings", EBUSY, enable_ring(vm));
	fails(e, "rings again", EBUSY, enable_ring(vm));
	works(e, "it still logs in bitmaps: end", 0, __vm2vm_end(d));
	works(e, "create another", 1, (d = __vm2vm_create_domain(vm)) >= 0);
	works(e, "log no more", 0, set_log(e, vm, 0));
	works(e, "rings then", 0, enable_ring(vm));
	fails(e, "log again", EBUSY, set_log(e, vm, log));
	works(e, "end it", 0, __vm2vm_end(d));
	works(e, "log then", 0, set_log(e, vm, log));
	fails(e, "create then", EBUSY, __vm2vm_create_domain(vm));
	kvm_vm_free(vm);

	/* Without a domain KVM is as ever. */
	vm = make_vm(e->mem);
	works(e, "log, and no domain", 0, set_log(e, vm, log));
	works(e, "rings, and no domain", 0, enable_ring(vm));
	kvm_vm_free(vm);
}

/* There is no way to private memory of a domain's owner: it cannot have one. */
TEST_F(abi, private_memory)
{
	struct env *e = &self->env;
	struct kvm_vm2vm_create_domain bad = { .flags = 8 };
	struct kvm_vm *vm;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "no KVM_X86_SW_PROTECTED_VM");

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	take_state(e, &e->before);
	fails(e, "create", EOPNOTSUPP, __vm2vm_create_domain(vm));
	fails(e, "create, all memory", EOPNOTSUPP,
	      __vm2vm_create_domain_flags(vm, KVM_VM2VM_DOMAIN_ALL_MEMORY));
	fails(e, "create badly", EINVAL, vm2vm_ioctl(vm->fd, KVM_VM2VM_CREATE_DOMAIN, &bad));
	fails(e, "link", EOPNOTSUPP, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, PG, 0));
	fails(e, "link badly", EINVAL, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, 0, 0));
	fails(e, "unlink", ENOENT, __vm2vm_unlink(vm, SLOT_WIN));
	kvm_vm_free(vm);
}

int main(int argc, char **argv)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_VM2VM));

	count_cases();
	return test_harness_run(argc, argv);
}
