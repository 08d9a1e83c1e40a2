// SPDX-License-Identifier: GPL-2.0
/* vm2vm_abi_test: END, by whom and how often, and what there is after it. */
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "abi.h"

static int end_in_child(int domain)
{
	int status;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		_exit(-__vm2vm_end(domain));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status), "child died");
	return -WEXITSTATUS(status);
}

TEST_F(abi, end_badly)
{
	static const struct { const char *name; int fd, err; } kinds[] = {
		{ "on /dev/kvm", FD_KVM, EINVAL },
		{ "on a vCPU", FD_VCPU, EINVAL },
		{ "on a VM", FD_VM, ENOTTY },
		{ "on a pipe", FD_PIPE, ENOTTY },
		{ "on O_PATH", FD_PATH, EBADF },
		{ "on what is closed", FD_CLOSED, EBADF },
	};
	struct env *e = &self->env;
	int i;

	works(e, "feature", KVM_VM2VM_FEATURE_END,
	      kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_END);
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		fails(e, kinds[i].name, kinds[i].err,
		      vm2vm_ioctl(resolve(e, kinds[i].fd), KVM_VM2VM_END, NULL));
	for (i = 0; i < 64; i++)
		fails(e, "an argument", EINVAL,
		      vm2vm_ioctl(e->domain, KVM_VM2VM_END, (void *)(1ul << i)));
	fails(e, "by a stranger", EPERM, end_in_child(e->domain));
	fails(e, "by a stranger, once more", EPERM, end_in_child(e->domain));
}

/* What calls of a domain that has ended give, in the order of errors. */
static void ended(struct env *e, int d)
{
	struct kvm_vm2vm_query q;
	uint64_t bits[1];
	uint32_t nr = 0;
	char buf[16];

	fails(e, "end again", ENODEV, __vm2vm_end(d));
	fails(e, "end again, badly", EINVAL, vm2vm_ioctl(d, KVM_VM2VM_END, buf));
	fails(e, "end by a stranger", EPERM, end_in_child(d));
	fails(e, "map", ENODEV, __vm2vm_map(d, FREE, MEM, PG, RD));
	fails(e, "map badly", EINVAL, __vm2vm_map(d, FREE, MEM, PG, 0));
	/* A domain of all memory has no UNMAP at all. */
	fails(e, "unmap what was", d == e->domain ? ENODEV : EINVAL,
	      __vm2vm_unmap(d, M1, 8 * PG, NULL));
	fails(e, "map none", ENODEV, __vm2vm_map_batch(d, NULL, &nr));
	fails(e, "query", ENODEV, __vm2vm_query(d, 0, &q));
	fails(e, "link", ENODEV, __vm2vm_link(e->backend, d, SLOT_NEW, NEW, M1, PG, 0));
	fails(e, "link by its owner", ENODEV, __vm2vm_link(e->owner, d, SLOT_NEW, NEW, M1, PG, 0));
	fails(e, "link, slot in use", ENODEV,
	      __vm2vm_link(e->backend, d, SLOT_WIN, NEW, M1, PG, 0));
	works(e, "poll shows the end", POLLHUP, poll_events(d));
	if (d != e->domain)
		return;
	fails(e, "refuse", ENODEV, __vm2vm_refuse(d, M1, PG, NULL));
	fails(e, "get dirty", ENODEV, __vm2vm_get_dirty(d, 0, 64 * PG, bits));
	works(e, "read: the end", 0, __vm2vm_read_misses(d, buf, sizeof(buf)));
	fails(e, "read by a stranger", EPERM, read_in_child(d, sizeof(buf)));
}

TEST_F(abi, end)
{
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;
	int d = e->domain, copy = dup(d), plain = vm2vm_create_domain(e->owner), all;

	all = vm2vm_create_domain_flags(e->owner, KVM_VM2VM_DOMAIN_ALL_MEMORY);
	vm2vm_map(plain, M1, MEM, PG, RD);
	take_state(e, &e->before);
	works(e, "domains", 3, e->before.stats[0][0]);
	works(e, "mappings", 4, e->before.stats[0][1]);

	works(e, "end it by another descriptor", 0, __vm2vm_end(copy));
	works(e, "domains then", 2, e->before.stats[0][0]);
	works(e, "mappings then", 2, e->before.stats[0][1]);
	ended(e, d);
	works(e, "the link stays", -EINVAL, probe_slot(e, vm, SLOT_WIN));
	works(e, "until it is removed", 0, __vm2vm_unlink(vm, SLOT_WIN));
	works(e, "other domains", 0, __vm2vm_map(plain, M2, MEM, PG, RD));
	works(e, "linked", 0, __vm2vm_link(vm, plain, SLOT_WIN, WIN, M1, PG, 0));
	works(e, "of all memory", 0, __vm2vm_link(vm, all, SLOT_NEW, NEW, MEM, PG, 0));
	works(e, "end that", 0, __vm2vm_end(all));
	ended(e, all);
	works(e, "domains at last", 1, e->before.stats[0][0]);
	works(e, "mappings at last", 2, e->before.stats[0][1]);

	/* That it is closed and its owner goes is no second end. */
	works(e, "close one of two", 0, close(copy));
	works(e, "close the last", 0, close(all));
	works(e, "domains after that", 1, e->before.stats[0][0]);
	kvm_vm_free(e->owner);
	e->owner = NULL;
	take_state(e, &e->before);
	fails(e, "the owner is gone", ENODEV, __vm2vm_end(d));
	fails(e, "the owner of another", ENODEV, __vm2vm_end(plain));
}

/* Whoever keeps the descriptors of what has ended keeps no place. */
TEST_F_TIMEOUT(abi, end_does_not_count, 600)
{
	const unsigned int nr = KVM_VM2VM_MAX_DOMAINS + 20;
	const struct rlimit many = { 2 * nr, 2 * nr };
	static const uint32_t flags[] = {
		0, KVM_VM2VM_DOMAIN_ALL_MEMORY, KVM_VM2VM_DOMAIN_LOG, KVM_VM2VM_DOMAIN_MISSES,
	};
	struct env *e = &self->env;
	unsigned int i;
	int d = -1, r;

	if (setrlimit(RLIMIT_NOFILE, &many))
		SKIP(return, "no %lu descriptors", (unsigned long)many.rlim_max);
	for (i = 0; i < nr; i++) {
		d = __vm2vm_create_domain_flags(e->owner, flags[i % ARRAY_SIZE(flags)]);
		if (d < 0)
			break;
		r = __vm2vm_end(d);
		TEST_ASSERT(!r, "end: %s", strerror(-r));
	}
	works(e, "one after the other", nr, i);
	works(e, "domains", 1, e->before.stats[0][0]);
}
