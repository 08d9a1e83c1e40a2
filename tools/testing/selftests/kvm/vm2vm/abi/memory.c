// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_abi_test: what a call takes for itself it gives back.  This is about memory that is
 * no slab's, of which kmemleak does not know, and about kernels without that.
 */
#include <sys/eventfd.h>

#include "abi.h"

#define ROUNDS		5
#define LARGE		0x40000000ull	/* a window whose bitmaps are pages */

/*
 * Whether @nr calls of @once take @size bytes each that do not come back.  Others use memory,
 * too: so it is not one round that says so, but all of them.
 */
static bool leaks(struct env *e, bool (*once)(struct env *e), unsigned int nr, size_t size)
{
	uint64_t before;
	unsigned int i, round;

	for (i = 0; i < nr / 10; i++)
		TEST_ASSERT(once(e), "call %u: %s", i, strerror(errno));
	for (round = 0; round < ROUNDS; round++) {
		before = vm2vm_free_memory();
		for (i = 0; i < nr; i++)
			TEST_ASSERT(once(e), "call %u: %s", i, strerror(errno));
		if (vm2vm_free_memory() + nr * size / 2 > before)
			return false;
	}
	return true;
}

static bool get_dirty(struct env *e)
{
	uint64_t bitmap;

	return !__vm2vm_get_dirty(e->domain, 0, 64 * PG, &bitmap);
}

static bool link_nothing(struct env *e)
{
	return __vm2vm_link(e->backend, e->pipe, SLOT_NEW, NEW, FREE, PG, 0) == -EINVAL;
}

static bool link_and_fill(struct env *e)
{
	return !__vm2vm_link(e->backend, e->domain, SLOT_NEW, NEW, FREE, LARGE, FILL) &&
	       !__vm2vm_unlink(e->backend, SLOT_NEW);
}

/* A VM goes that has doorbells. */
static bool ring_nobody(struct env *e)
{
	int vm = ioctl(resolve(e, FD_KVM), KVM_CREATE_VM, 0), fd = eventfd(0, 0);
	int32_t fds[KVM_VM2VM_MAX_ROUTES];
	struct kvm_vm2vm_doorbell args = {
		.addr = NEW, .len = 4, .fds = (uintptr_t)fds, .nr_fds = ARRAY_SIZE(fds),
		.flags = KVM_VM2VM_DOORBELL_ARRAY,
	};
	unsigned int i;
	bool done;

	for (i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = fd;
	done = vm >= 0 && fd >= 0 && !ioctl(vm, KVM_VM2VM_DOORBELL, &args);
	close(vm);
	close(fd);
	return done;
}

TEST_F_TIMEOUT(abi, memory, 300)
{
	struct env *e = &self->env;

	works(e, "GET_DIRTY leaks", false, leaks(e, get_dirty, 8000, 4096));
	works(e, "LINK of what is no domain leaks", false, leaks(e, link_nothing, 20000, 256));
	works(e, "LINK that fills and UNLINK leak", false, leaks(e, link_and_fill, 300, 4096));
	works(e, "a VM with doorbells leaks", false, leaks(e, ring_nobody, 100, 8192));
}
