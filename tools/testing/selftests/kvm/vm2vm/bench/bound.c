// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bench: what an owner costs its peers that has a page at very many iovas, and very
 * many links.
 *
 * In one of the windows 8,192 pages are touched, which are more translations than the
 * kernel takes away at once.
 */
#include <unistd.h>

#include "bench.h"
#include "vm2vm_bench_vm.h"

#define BOUND_MAPPINGS	1000000ul
#define BOUND_BATCH	10000u
#define BOUND_WINDOW	(4ul << 30)
#define BOUND_VM_LINKS	128u	/* of a VM: what its physical addresses have room for */
#define BOUND_VMS	8u

/* A VM with the first links, whose guest touches one, and others with the rest. */
struct bound {
	struct peer owner;
	struct peer b;
	struct kvm_vm *other[BOUND_VMS];
	unsigned int links;
};

static void bound_approve(int domain)
{
	static struct kvm_vm2vm_map e[BOUND_BATCH];
	unsigned long i, k;
	uint32_t left;

	for (i = 0; i < BOUND_MAPPINGS; i += BOUND_BATCH) {
		for (k = 0; k < BOUND_BATCH; k++)
			e[k] = (struct kvm_vm2vm_map) {
				.iova = (i + k) * PG_SIZE_4K, .gpa = PEER_OWNER_GPA,
				.size = PG_SIZE_4K, .flags = VM2VM_RW,
			};
		left = BOUND_BATCH;
		TEST_ASSERT(!__vm2vm_map_batch(domain, e, &left) && !left, "%u left", left);
	}
}

static void bound_link(struct kvm_vm *vm, int domain, unsigned int links)
{
	unsigned int i;

	for (i = 0; i < links; i++)
		vm2vm_link(vm, domain, PEER_SLOT + i, PEER_WINDOW + i * BOUND_WINDOW, 0,
			   BOUND_MAPPINGS * PG_SIZE_4K, 0);
}

/* Link the first windows, and touch one. */
static void bound_begin(struct bound *t)
{
	struct bench_walk walk = {
		.gva = PEER_WINDOW, .stride = PG_SIZE_4K, .run = BENCH_MAX,
	};
	unsigned int i;

	bench_init_backend(&t->b);
	bound_link(t->b.backend, t->owner.domain, min(t->links, BOUND_VM_LINKS));
	bench_map_guest(&t->b, PEER_WINDOW, 2 * BENCH_MAX * PG_SIZE_4K);
	for (i = 0; i < 2; i++, walk.gva += BENCH_MAX * PG_SIZE_4K)
		bench_touch_all(&t->b, &walk, 1, BENCH_MAX, true);
}

static void bound_figure(const char *name, const char *what, unsigned int links, u64 value)
{
	char line[64];

	snprintf(line, sizeof(line), "bound_%s%s_%u", name, what, links);
	bench_figure(line, value);
}

/* What was begun at @start took until now, and held a backend's mmu_lock for so long. */
static void bound_end(struct bound *t, const char *name, u64 start)
{
	u64 ticks = rdtsc() - start, held;
	unsigned int i;

	held = peer_fd_stat(t->b.backend->fd, "vm2vm_held_max_ns");
	for (i = 0; i < BOUND_VMS && t->other[i]; i++)
		held = max(held, peer_fd_stat(t->other[i]->fd, "vm2vm_held_max_ns"));
	bound_figure(name, "", t->links, ticks);
	bound_figure(name, "_held", t->links, held);
	peer_free(&t->b);
}

static void bound_log(struct bound *t, uint32_t flags)
{
	vm_set_user_memory_region(t->owner.owner, 0, flags, PEER_OWNER_GPA, t->owner.size,
				  t->owner.mem);
}

static void bound_calls(struct bound *t)
{
	uint64_t bitmap = 0;
	u64 start;

	bound_begin(t);
	start = rdtsc();
	TEST_ASSERT(!madvise(t->owner.mem, PG_SIZE_4K, MADV_DONTNEED), "madvise");
	bound_end(t, "notifier", start);

	memset(t->owner.mem, 1, PG_SIZE_4K);
	bound_begin(t);
	start = rdtsc();
	bound_log(t, KVM_MEM_LOG_DIRTY_PAGES);
	bound_end(t, "memslot", start);

	bound_begin(t);
	start = rdtsc();
	kvm_vm_get_dirty_log(t->owner.owner, 0, &bitmap);
	bound_end(t, "harvest", start);
	TEST_ASSERT(bitmap == 1, "0x%lx was logged", bitmap);
	bound_log(t, 0);

	bound_begin(t);
	start = rdtsc();
	vm2vm_unmap(t->owner.domain, 0, BOUND_MAPPINGS * PG_SIZE_4K);
	bound_end(t, "unmap", start);

	bound_approve(t->owner.domain);
	bound_begin(t);
	start = rdtsc();
	close(t->owner.domain);
	t->owner.domain = -1;
	bound_end(t, "end", start);
}

static void bound_links(unsigned int links)
{
	unsigned int i, left = links - min(links, BOUND_VM_LINKS);
	struct bound t = { .links = links };

	bench_init_owner(&t.owner, PG_SIZE_4K, PG_SIZE_4K);
	bound_approve(t.owner.domain);
	for (i = 0; left; i++, left -= BOUND_VM_LINKS) {
		t.other[i] = vm_create_barebones();
		bound_link(t.other[i], t.owner.domain, BOUND_VM_LINKS);
	}
	bound_calls(&t);
	for (i = 0; i < BOUND_VMS && t.other[i]; i++)
		kvm_vm_free(t.other[i]);
	peer_free(&t.owner);
	munmap(t.owner.mem, PG_SIZE_4K);
}

void bench_bounds(void)
{
	bound_links(16);
	bound_links(1024);
}
