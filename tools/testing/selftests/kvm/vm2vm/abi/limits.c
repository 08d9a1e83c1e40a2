// SPDX-License-Identifier: GPL-2.0
/* vm2vm_abi_test: as many as there may be of something, and one more. */
#include <sys/resource.h>

#include "abi.h"

TEST_F_TIMEOUT(abi, domain_limit, 600)
{
	const rlim_t need = KVM_VM2VM_MAX_DOMAINS + 100;
	struct env *e = &self->env;
	struct rlimit lim;
	int fd, n = 0, last = -1;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &lim));
	if (lim.rlim_max < need)
		lim.rlim_max = need;
	if (lim.rlim_cur < need)
		lim.rlim_cur = need;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		SKIP(return, "no %lu descriptors", (unsigned long)need);

	/* The fixture has made one. */
	while (n < KVM_VM2VM_MAX_DOMAINS) {
		fd = __vm2vm_create_domain(e->owner);
		if (fd < 0)
			break;
		last = fd;
		n++;
	}
	works(e, "as many as there may be", KVM_VM2VM_MAX_DOMAINS - 1, n);
	fails(e, "one too many", ENOSPC, __vm2vm_create_domain(e->owner));
	fails(e, "one of all memory too many", ENOSPC,
	      __vm2vm_create_domain_flags(e->owner, KVM_VM2VM_DOMAIN_ALL_MEMORY));
	fd = __vm2vm_create_domain(e->backend);
	works(e, "of another VM", 1, fd >= 0);
	works(e, "the last one is whole", 0, __vm2vm_map(last, M1, MEM, PG, RD));
	works(e, "close it", 0, close(last));
	works(e, "make it again", 1, __vm2vm_create_domain(e->owner) >= 0);
	fails(e, "one too many again", ENOSPC, __vm2vm_create_domain(e->owner));
}

/* Link so often as it works, up to @max times, from slot number @first on. */
static unsigned int link_often(struct env *e, int domain, unsigned int first, unsigned int max)
{
	unsigned int n;

	for (n = 0; n < max; n++) {
		if (__vm2vm_link(e->backend, domain, SLOT_MANY + first + n,
				 NEW + (first + n) * PG, FREE, PG, 0))
			break;
	}
	return n;
}

/* What the owner's other domains have counts, but for a few of each. */
TEST_F_TIMEOUT(abi, link_limit_of_owner, 600)
{
	const unsigned int each = KVM_VM2VM_MAX_LINKS;
	unsigned int all = 1, i;	/* the fixture has made one */
	struct env *e = &self->env;
	int d;

	for (i = 0; all < KVM_VM2VM_MAX_ALL_LINKS; i++) {
		d = vm2vm_create_domain(e->owner);
		all += link_often(e, d, all, each);
	}
	works(e, "as many as there may be", KVM_VM2VM_MAX_ALL_LINKS, all);
	works(e, "of so many domains", KVM_VM2VM_MAX_ALL_LINKS / each, i);
	d = vm2vm_create_domain(e->owner);
	works(e, "a few of another domain", KVM_VM2VM_SURE_LINKS, link_often(e, d, all, each));
	fails(e, "one too many", ENOSPC,
	      __vm2vm_link(e->backend, d, SLOT_NEW, NEW - PG, FREE, PG, 0));
	all += KVM_VM2VM_SURE_LINKS;

	/* Those that are gone, or whose domain has ended, do not count. */
	for (i = 0; i < KVM_VM2VM_SURE_LINKS + 1; i++)
		vm2vm_unlink(e->backend, SLOT_MANY + 1 + i);
	works(e, "one more", 1, link_often(e, d, all, 1));
	fails(e, "one too many again", ENOSPC,
	      __vm2vm_link(e->backend, d, SLOT_NEW, NEW - PG, FREE, PG, 0));
	vm2vm_end(d);
	d = vm2vm_create_domain(e->owner);
	works(e, "as many as the other had", KVM_VM2VM_SURE_LINKS + 1,
	      link_often(e, d, all + 1, each));
}

TEST_F_TIMEOUT(abi, link_limit, 600)
{
	struct env *e = &self->env;
	struct kvm_vm *vm = e->backend;
	int d, n, r = 0;

	/* A link that was not made does not count, */
	fails(e, "over memory", EEXIST, __vm2vm_link(vm, e->domain, SLOT_NEW, MEM, FREE, PG, 0));
	fails(e, "slot in use", EEXIST, __vm2vm_link(vm, e->domain, SLOT_MEM, NEW, FREE, PG, 0));
	fails(e, "beyond any address width", EINVAL,
	      __vm2vm_link(vm, e->domain, SLOT_NEW, 1ull << 52, FREE, PG, 0));

	/* and the fixture has made one. */
	for (n = 0; n < KVM_VM2VM_MAX_LINKS; n++) {
		r = __vm2vm_link(vm, e->domain, SLOT_MANY + n, NEW + n * PG, FREE, PG, 0);
		if (r)
			break;
	}
	works(e, "as many as there may be", KVM_VM2VM_MAX_LINKS - 1, n);
	fails(e, "one too many", ENOSPC, r);
	fails(e, "and badly", EINVAL, __vm2vm_link(vm, e->domain, NR_SLOTS, NEW, FREE, PG, 0));
	fails(e, "and not there", ENOENT, __vm2vm_unlink(vm, SLOT_MANY + n));
	d = vm2vm_create_domain(e->owner);
	works(e, "another domain", 0, __vm2vm_link(vm, d, SLOT_NEW, NEW - PG, FREE, PG, 0));
	works(e, "unlink one", 0, __vm2vm_unlink(vm, SLOT_WIN));
	works(e, "link it again", 0, __vm2vm_link(vm, e->domain, SLOT_WIN, WIN, M1, PG, 0));
	fails(e, "one too many again", ENOSPC,
	      __vm2vm_link(vm, e->domain, SLOT_MANY + n, NEW + n * PG, FREE, PG, 0));
}
