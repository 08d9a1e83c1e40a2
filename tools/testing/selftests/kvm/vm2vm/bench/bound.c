// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_bench: what an owner costs its peers that has a page at very many iovas, or very much
 * memory, and very many links.
 *
 * In one of the windows 8,192 pages are touched, which are more translations than the
 * kernel takes away at once.
 */
#include <unistd.h>

#include "bench.h"
#include "vm2vm_bench_vm.h"

#define BOUND_MAPPINGS	1000000ul
#define BOUND_BATCH	10000u
#define BOUND_VMS	128u
#define BOUND_SPAN	(64ul << 30)
#define BOUND_TOUCHED	(2ul * BENCH_MAX)

/**
 * struct bound_shape - what there is of an owner
 * @name: in the figures' names
 * @links: of all backends
 * @vm_links: of a VM: what its physical addresses have room for
 * @window: bytes from one window of a VM to the next
 * @size: of the owner's memory; a page, which is at all iovas, or all at one place each
 * @stride: from one page that is touched to the next, in bytes
 */
struct bound_shape {
	const char *name;
	unsigned int links;
	unsigned int vm_links;
	u64 window;
	u64 size;
	u64 stride;
};

/* A VM with the first links, whose guest touches one, and others with the rest. */
struct bound {
	const struct bound_shape *shape;
	struct peer owner;
	struct peer b;
	struct kvm_vm *other[BOUND_VMS];
};

static u64 bound_iovas(const struct bound_shape *shape)
{
	return shape->size == PG_SIZE_4K ? BOUND_MAPPINGS * PG_SIZE_4K : shape->size;
}

static void bound_approve(struct bound *t)
{
	static struct kvm_vm2vm_map e[BOUND_BATCH];
	unsigned long i, k;
	uint32_t left;

	if (t->shape->size != PG_SIZE_4K) {
		vm2vm_map(t->owner.domain, 0, PEER_OWNER_GPA, t->shape->size, VM2VM_RW);
		return;
	}
	for (i = 0; i < BOUND_MAPPINGS; i += BOUND_BATCH) {
		for (k = 0; k < BOUND_BATCH; k++)
			e[k] = (struct kvm_vm2vm_map) {
				.iova = (i + k) * PG_SIZE_4K, .gpa = PEER_OWNER_GPA,
				.size = PG_SIZE_4K, .flags = VM2VM_RW,
			};
		left = BOUND_BATCH;
		TEST_ASSERT(!__vm2vm_map_batch(t->owner.domain, e, &left) && !left,
			    "%u left", left);
	}
}

static void bound_link(struct bound *t, struct kvm_vm *vm)
{
	const struct bound_shape *shape = t->shape;
	unsigned int i, links = min(shape->links, shape->vm_links);

	for (i = 0; i < links; i++)
		vm2vm_link(vm, t->owner.domain, PEER_SLOT + i, PEER_WINDOW + i * shape->window, 0,
			   bound_iovas(shape), 0);
}

/* Link the first windows, and touch one. */
static void bound_begin(struct bound *t)
{
	struct bench_walk walk = {
		.gva = PEER_WINDOW, .stride = t->shape->stride, .run = BENCH_MAX,
	};
	u64 touched = BOUND_TOUCHED * t->shape->stride;
	unsigned int i;

	bench_init_backend(&t->b);
	bound_link(t, t->b.backend);
	/* With large pages, for few of the guest's tables to be touched, too */
	virt_map_level(t->b.backend, PEER_WINDOW, PEER_WINDOW, align_up(touched, 1ul << 30),
		       PG_LEVEL_1G);
	for (i = 0; i < 2; i++, walk.gva += BENCH_MAX * t->shape->stride)
		bench_touch_all(&t->b, &walk, 1, BENCH_MAX, true);
}

static void bound_figure(struct bound *t, const char *name, const char *what, u64 value)
{
	char line[64];

	snprintf(line, sizeof(line), "bound_%s%s_%s", name, what, t->shape->name);
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
	bound_figure(t, name, "", ticks);
	bound_figure(t, name, "_held", held);
	peer_free(&t->b);
}

static void bound_log(struct bound *t, uint32_t flags)
{
	vm_set_user_memory_region(t->owner.owner, 0, flags, PEER_OWNER_GPA, t->owner.size,
				  t->owner.mem);
}

/* The pages of @bitmap that were written, which is cleared. */
static u64 bound_dirty(uint64_t *bitmap, u64 size)
{
	u64 i, n = 0;

	for (i = 0; i < (size / PG_SIZE_4K + 63) / 64; i++) {
		n += __builtin_popcountl(bitmap[i]);
		bitmap[i] = 0;
	}
	return n;
}

/* The owner's log, and that of the domain. */
static void bound_logs(struct bound *t)
{
	unsigned long pages = t->shape->size / PG_SIZE_4K, want = min(pages, BOUND_TOUCHED), n;
	uint64_t *bitmap = calloc((pages + 63) / 64, sizeof(*bitmap));
	u64 start;

	TEST_ASSERT(bitmap, "calloc");
	bound_begin(t);
	start = rdtsc();
	bound_log(t, KVM_MEM_LOG_DIRTY_PAGES);
	bound_end(t, "memslot", start);

	bound_begin(t);
	start = rdtsc();
	kvm_vm_get_dirty_log(t->owner.owner, 0, bitmap);
	bound_end(t, "harvest", start);
	n = bound_dirty(bitmap, t->shape->size);
	TEST_ASSERT(n == want, "%lu pages were logged, not %lu", n, want);
	bound_log(t, 0);

	if (t->shape->size != PG_SIZE_4K) {
		bound_begin(t);
		start = rdtsc();
		TEST_ASSERT(!__vm2vm_get_dirty(t->owner.domain, 0, t->shape->size, bitmap),
			    "get_dirty");
		bound_end(t, "get_dirty", start);
		n = bound_dirty(bitmap, t->shape->size);
		TEST_ASSERT(n == want, "%lu pages were logged, not %lu", n, want);
	}
	free(bitmap);
}

static void bound_calls(struct bound *t)
{
	u64 start;

	bound_begin(t);
	start = rdtsc();
	TEST_ASSERT(!madvise(t->owner.mem, t->owner.size, MADV_DONTNEED), "madvise");
	bound_end(t, "notifier", start);

	bound_logs(t);

	bound_begin(t);
	start = rdtsc();
	vm2vm_unmap(t->owner.domain, 0, bound_iovas(t->shape));
	bound_end(t, "unmap", start);

	bound_approve(t);
	bound_begin(t);
	start = rdtsc();
	close(t->owner.domain);
	t->owner.domain = -1;
	bound_end(t, "end", start);
}

/* Memory that is there when it is touched, in pages of 4 KiB. */
static void *bound_mmap(u64 size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(mem != MAP_FAILED && !madvise(mem, size, MADV_NOHUGEPAGE), "mmap");
	return mem;
}

static void bound_run(const struct bound_shape *shape)
{
	struct bound t = { .shape = shape };
	unsigned int i, left;

	t.owner.owner = vm_create_barebones();
	peer_set_memory(&t.owner, bound_mmap(shape->size), shape->size, 0);
	t.owner.domain = vm2vm_create_domain_flags(t.owner.owner, shape->size == PG_SIZE_4K ?
						   0 : KVM_VM2VM_DOMAIN_LOG);
	bound_approve(&t);
	left = shape->links - min(shape->links, shape->vm_links);
	for (i = 0; left; i++, left -= shape->vm_links) {
		t.other[i] = vm_create_barebones();
		bound_link(&t, t.other[i]);
	}
	bound_calls(&t);
	for (i = 0; i < BOUND_VMS && t.other[i]; i++)
		kvm_vm_free(t.other[i]);
	peer_free(&t.owner);
	munmap(t.owner.mem, shape->size);
}

void bench_bounds(void)
{
	static const struct bound_shape shapes[] = {
		{ "16", 16, 128, 4ul << 30, PG_SIZE_4K, PG_SIZE_4K },
		{ "1024", 1024, 128, 4ul << 30, PG_SIZE_4K, PG_SIZE_4K },
		{ "64g", 1024, 8, BOUND_SPAN, BOUND_SPAN, BOUND_SPAN / BOUND_TOUCHED },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		bound_run(&shapes[i]);
}
