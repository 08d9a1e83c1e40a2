// SPDX-License-Identifier: GPL-2.0
/*
 * The owner of vm2vm_demo: its guest holds the file, scattered page by page, and
 * its VMM approves page by page what the backend may reach.
 */
#include <fcntl.h>

#include "demo.h"
#include "huge.h"
#include "vmm.h"

#define OWNER_POOL_SLOT		1
#define OWNER_HUGE_SLOT		2

struct demo_owner {
	struct demo_vmm vmm;
	int domain;
	u64 sum;		/* of the file, computed while loading it */
	u32 *table;	/* in guest memory: page of the file -> of the pool */
	u64 pool_pages;
};

/*
 * Fisher and Yates: a random order of the pages behind the table, of which the
 * file takes the first demo_job.pages, the digest the next, the rest is spare.
 */
static void owner_shuffle(struct demo_owner *o, u32 seed)
{
	struct guest_random_state rng = new_guest_random_state(seed);
	u64 spread = o->pool_pages - demo_job.table_pages;
	u32 *place = calloc(spread, sizeof(*place));
	u64 i, j;

	TEST_ASSERT(place, "no memory for the order of the pages");
	for (i = 0; i < spread; i++) {
		j = guest_random_u32(&rng) % (i + 1);
		place[i] = place[j];
		place[j] = demo_job.table_pages + i;
	}
	memcpy(o->table, place, (demo_job.pages + 1) * sizeof(*place));
	free(place);
}

static void owner_load_file(struct demo_owner *o, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	u64 i, left = demo_job.bytes;

	TEST_ASSERT(fd >= 0, "cannot open %s: %s", path, strerror(errno));
	for (i = 0; i < demo_job.pages; i++) {
		void *page = addr_gpa2hva(o->vmm.vm,
					  DEMO_POOL + o->table[i] * PAGE_SIZE);
		size_t want = left < PAGE_SIZE ? left : PAGE_SIZE;

		test_read(fd, page, want);
		left -= want;
		o->sum = demo_sum_page(o->sum, page);
	}
	close(fd);
}

/* Every 4 KiB page with a mark of its own, by which the backend knows it. */
static void owner_fill_huge(struct demo_owner *o)
{
	u64 *hva = addr_gpa2hva(o->vmm.vm, DEMO_HUGE);
	u64 i;

	for (i = 0; i < DEMO_HUGE_PAGES; i++)
		hva[i * PAGE_SIZE / sizeof(*hva)] = demo_huge_mark(i);
}

static void owner_check_file(struct demo_owner *o)
{
	demo_run_job(&o->vmm, DEMO_OWNER_SUM);
	TEST_ASSERT(demo_job.result == o->sum,
		    "the owner's guest does not find the file in its memory");
}

/* One approval for each page: the backend sees the file in its order. */
static void owner_approve(struct demo_owner *o, struct demo_msg *msg)
{
	u64 i;

	o->domain = vm2vm_create_domain(o->vmm.vm);
	for (i = 0; i <= demo_job.pages; i++) {
		bool digest = i == demo_job.pages;

		vm2vm_map(o->domain, DEMO_FILE_IOVA + i * PAGE_SIZE,
			  DEMO_POOL + o->table[i] * PAGE_SIZE, PAGE_SIZE,
			  digest ? VM2VM_RW : KVM_VM2VM_MAP_READ);
		if (i && !digest && o->table[i] == o->table[i - 1] + 1)
			msg->neighbours++;
	}
	vm2vm_map(o->domain, DEMO_HUGE_IOVA, DEMO_HUGE, DEMO_HUGE_SIZE,
		  KVM_VM2VM_MAP_READ);
	msg->maps = demo_job.pages + 2;
}

static void owner_start(struct demo_owner *o, struct demo_msg *msg, const char *path, u32 seed,
			int backend)
{
	u64 places = msg->pages + 1;

	demo_job.pages = msg->pages;
	demo_job.bytes = msg->bytes;
	demo_job.table_pages = DIV_ROUND_UP(places * sizeof(*o->table), PAGE_SIZE);
	/* A quarter of the pool stays spare, between the pages of the file. */
	o->pool_pages = demo_job.table_pages + places + places / 4;
	msg->pool = o->pool_pages - demo_job.table_pages;

	o->vmm.vm = __vm_create_with_one_vcpu(&o->vmm.vcpu, o->pool_pages, demo_owner_guest);
	vm_userspace_mem_region_add(o->vmm.vm, VM_MEM_SRC_ANONYMOUS, DEMO_POOL,
				    OWNER_POOL_SLOT, o->pool_pages, 0);
	vm_userspace_mem_region_add(o->vmm.vm, demo_huge_source, DEMO_HUGE,
				    OWNER_HUGE_SLOT, DEMO_HUGE_PAGES, 0);
	virt_map(o->vmm.vm, DEMO_POOL, DEMO_POOL, o->pool_pages);

	o->table = addr_gpa2hva(o->vmm.vm, DEMO_POOL);
	owner_shuffle(o, seed);
	owner_load_file(o, path);
	owner_fill_huge(o);
	msg->huge_bytes = demo_huge_bytes(addr_gpa2hva(o->vmm.vm, DEMO_HUGE),
					  DEMO_HUGE_SIZE);
	owner_check_file(o);

	owner_approve(o, msg);
	demo_send(backend, msg, o->domain);
}

/* Every other page of the file, one call each. */
static void owner_revoke(struct demo_owner *o, struct demo_msg *msg)
{
	u64 i, size;

	for (i = 1; i < demo_job.pages; i += 2) {
		size = vm2vm_unmap(o->domain, DEMO_FILE_IOVA + i * PAGE_SIZE,
				   PAGE_SIZE);
		TEST_ASSERT(size == PAGE_SIZE, "page %lu: %lu bytes unmapped",
			    i, size);
		msg->maps++;
	}
}

void demo_owner_main(int launcher, int backend, const char *path, u32 seed)
{
	struct demo_owner o = {};
	struct demo_msg msg;

	while (demo_recv(launcher, &msg, NULL)) {
		switch (msg.cmd) {
		case CMD_START:
			owner_start(&o, &msg, path, seed, backend);
			break;
		case CMD_DIGEST:
			demo_run_job(&o.vmm, DEMO_OWNER_DIGEST);
			msg.digest = demo_job.digest;
			break;
		case CMD_REVOKE:
			owner_revoke(&o, &msg);
			break;
		case CMD_CHECK:
			owner_check_file(&o);
			break;
		default:
			TEST_FAIL("owner: unknown command %lu", msg.cmd);
		}
		demo_send(launcher, &msg, -1);
	}
}
