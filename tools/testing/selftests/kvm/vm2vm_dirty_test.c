// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: what backends write is in the owner's dirty log, however that is harvested.
 *
 * Here is what each write, read and change does to the next harvest.  In vm2vm/dirty/
 * there are pages of 2 MiB (huge.c), emulated writes (emulated.c), the dirty ring (ring.c),
 * the log of a domain alone (domain.c), many guests at once with a model of what the logs
 * have to have (shadow.c), and migrations (copy.c).
 *
 * VM2VM_TRIALS in the environment scales what is repeated, 100 is the standard.
 * VM2VM_DIRTY_LONG=1 makes ten times as many writes in the model.
 */
#include <sys/mman.h>

#include "vm2vm_harness.h"
#include "vm2vm_peer.h"
#include "vm2vm/dirty/fixture.h"
#include "vm2vm/dirty/owner.h"

TEST_F_TIMEOUT(dirty_log, write, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	owner_show_and_log(o, b);

	dirty_write(o, b, 0, 3);
	dirty_write(o, b, 0, 95);
	EXPECT_HARVEST(o, "a write to either memslot");
	EXPECT_HARVEST(o, "nothing since");
	for (i = 0; i < 3; i++) {
		dirty_write(o, b, 0, 3);
		EXPECT_HARVEST(o, "once more after a harvest");
	}
	dirty_write(o, b, 0, 3);
	dirty_write(o, b, 0, 3);
	EXPECT_HARVEST(o, "twice");
	for (i = 0; i < PAGES; i++)
		dirty_write(o, b, 0, i);
	EXPECT_HARVEST(o, "all pages");
	EXPECT_HARVEST(o, "nothing since all pages");
	for (i = 0; i < PAGES; i += 3)
		dirty_write(o, b, 0, i);
	EXPECT_HARVEST(o, "every third page");
	EXPECT_HARVEST(o, "nothing since every third page");
	EXPECT_EQ(0, b->mmio);
}

TEST_F_TIMEOUT(dirty_log, read, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	owner_show_and_log(o, b);

	/* Half of the pages are the owner's already, and could be written to. */
	for (i = 0; i < PAGES; i += 2)
		*owner_word(o, i, 0) = i + 1;
	dirty_read(o, b, 0, 0, PAGES);
	EXPECT_HARVEST(o, "pages that were read first");
	dirty_write(o, b, 0, 5);
	EXPECT_HARVEST(o, "written after it was read");
	dirty_read(o, b, 0, 0, PAGES);
	EXPECT_HARVEST(o, "read after it was written");
	for (i = 0; i < PAGES; i++)
		dirty_write(o, b, 0, i);
	dirty_read(o, b, 0, 0, PAGES);
	EXPECT_HARVEST(o, "written and read");
	dirty_read(o, b, 0, 0, PAGES);
	EXPECT_HARVEST(o, "read only, since they were written");

	/* What the owner's host takes from it comes back by reading. */
	*owner_word(o, 7, 0) = 0;
	EXPECT_EQ(0, madvise(o->mem + 7 * 4096, 4096, MADV_DONTNEED));
	*owner_word(o, 7, 0) = 1;
	dirty_read(o, b, 0, 7, 1);
	EXPECT_HARVEST(o, "read after it was replaced");
	dirty_write(o, b, 0, 7);
	EXPECT_HARVEST(o, "written after it was replaced");
	EXPECT_EQ(0, madvise(o->mem + 7 * 4096, 4096, MADV_DONTNEED));
	dirty_write(o, b, 0, 7);
	EXPECT_EQ(0, madvise(o->mem + 7 * 4096, 4096, MADV_DONTNEED));
	EXPECT_HARVEST(o, "replaced after it was written");
	EXPECT_EQ(0, b->mmio);
}

/* One write over the border between two pages, which are in two memslots. */
TEST_F_TIMEOUT(dirty_log, write_across_pages, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	owner_show_and_log(o, b);
	for (i = 0; i < 2; i++) {
		dirty_do(b, DIRTY_WRITE, DIRTY_WINDOW(0) + SPLIT * 4096 - 3, 1, ~0ull);
		owner_want(o, SPLIT - 1, 2);
		EXPECT_HARVEST(o, "a write to two pages");
	}
	EXPECT_HARVEST(o, "nothing since");
}

/* The owner's own vCPU is one more that writes, and nobody hides another. */
TEST_F_TIMEOUT(dirty_log, owner_writes, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	owner_show_and_log(o, b);
	for (i = 0; i < 3; i++) {
		dirty_write_own(o, 7);
		EXPECT_HARVEST(o, "the owner");
		dirty_write_own(o, 8);
		dirty_write(o, b, 0, 9);
		EXPECT_HARVEST(o, "the owner, and a backend elsewhere");
		dirty_write_own(o, 40);
		dirty_write(o, b, 0, 40);
		EXPECT_HARVEST(o, "the owner, then a backend");
		dirty_write(o, b, 0, 40);
		EXPECT_HARVEST(o, "the backend after both");
		dirty_write_own(o, 40);
		EXPECT_HARVEST(o, "the owner after the backend");
		EXPECT_HARVEST(o, "nothing since");
	}
}

/* Logging is on before there is a domain, and a backend comes with every harvest. */
TEST_F_TIMEOUT(dirty_log, log_at_creation, 120)
{
	struct dirty_owner *o = &self->o;
	unsigned int i, j;

	owner_destroy(o);
	owner_begin(o, variant->style, 0);
	owner_complete(o, owner_memory(PAGES), PAGES, SPLIT, true);
	owner_expect_first(o);

	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	EXPECT_HARVEST(o, "MAP");
	for (i = 0; i < 4; i++) {
		backend_link(&self->b[i], 0, o, o->domain, 0);
		EXPECT_HARVEST(o, "LINK");
		for (j = 0; j <= i; j++)
			dirty_write(o, &self->b[j], 0, 10 * i + j);
		EXPECT_HARVEST(o, "one more backend");
	}
	EXPECT_HARVEST(o, "nothing since");
}

/* What is written while nothing logs is not reported later, and takes nothing along. */
TEST_F_TIMEOUT(dirty_log, log_on_off_on, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	uint64_t log[DIRTY_MAX / 64];
	unsigned int i;

	owner_show(o, b);
	for (i = 0; i < 4; i++) {
		dirty_write(o, b, 0, 1);
		dirty_write(o, b, 0, 50);
		EXPECT_EQ(-ENOENT, __owner_get_log(o, 0, log));
		memset(o->want, 0, sizeof(o->want));
		owner_log_on(o);
		dirty_read(o, b, 0, 0, PAGES);
		EXPECT_HARVEST(o, "written while nothing logs");
		dirty_write(o, b, 0, 1);
		dirty_write(o, b, 0, 50);
		EXPECT_HARVEST(o, "after logging is on");
		dirty_write(o, b, 0, 2);
		owner_log(o, false);
	}

	/* One memslot with, and one without. */
	memset(o->want, 0, sizeof(o->want));
	for (i = 0; i < 4; i++) {
		owner_set_slot(o, i % 2, true, true);
		owner_expect_first(o);
		dirty_write(o, b, 0, 3);
		dirty_write(o, b, 0, 60);
		EXPECT_HARVEST(o, "one memslot logs");
		dirty_write(o, b, 0, 3);
		dirty_write(o, b, 0, 60);
		EXPECT_HARVEST(o, "one memslot logs, again");
		owner_set_slot(o, i % 2, true, false);
	}
	/* The second begins and ends to log while the first does. */
	owner_set_slot(o, 0, true, true);
	owner_expect_first(o);
	for (i = 0; i < 3; i++) {
		dirty_write(o, b, 0, 4);
		owner_log_slot(o, 1);
		dirty_write(o, b, 0, 70);
		EXPECT_HARVEST(o, "the other memslot logs, too");
		dirty_write(o, b, 0, 4);
		dirty_write(o, b, 0, 70);
		owner_set_slot(o, 1, true, false);
		EXPECT_HARVEST(o, "the other memslot does not any more");
	}
}

/* The owner's memslot goes and comes back, here or with the other's pages. */
TEST_F_TIMEOUT(dirty_log, memslots, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	owner_show_and_log(o, b);
	for (i = 0; i < 4; i++) {
		dirty_write(o, b, 0, 2);
		dirty_write(o, b, 0, 80);
		owner_set_slot(o, i % 2, false, false);
		EXPECT_HARVEST(o, "one of two memslots is deleted");
		dirty_write(o, b, 0, i % 2 ? 5 : 85);
		owner_log_slot(o, i % 2);
		EXPECT_HARVEST(o, "it comes back");
		dirty_write(o, b, 0, 2);
		dirty_write(o, b, 0, 80);
		EXPECT_HARVEST(o, "after it came back");
	}
	EXPECT_EQ(0, b->mmio);

	/* What was in the first memslot is in the second. */
	owner_set_slot(o, 0, false, false);
	owner_set_slot(o, 1, false, false);
	o->split = PAGES - SPLIT;
	owner_log_on(o);
	dirty_write(o, b, 0, SPLIT);
	dirty_write(o, b, 0, PAGES - SPLIT);
	EXPECT_HARVEST(o, "divided otherwise");
	EXPECT_HARVEST(o, "nothing since");
}

/* The page is the owner's, and reported, though nobody can write to it any more. */
TEST_F_TIMEOUT(dirty_log, revoked_before_harvest, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;
	int domain;

	domain_map_pages(o->domain, PAGES, VM2VM_RW);
	backend_link(b, 0, o, o->domain, 0);
	owner_log_on(o);
	for (i = 0; i < 3; i++) {
		dirty_write(o, b, 0, 20);
		dirty_write(o, b, 0, 21);
		domain_unmap(o->domain, 20, 1);
		EXPECT_HARVEST(o, "UNMAP");
		dirty_do(b, DIRTY_WRITE, DIRTY_WINDOW(0) + 20 * 4096, 1, ~0ull);
		EXPECT_NE(~0ull, *owner_word(o, 20, 0));
		EXPECT_HARVEST(o, "a write to a hole");
		domain_map(o->domain, 20, 1, VM2VM_RW);
		EXPECT_HARVEST(o, "MAP");
		dirty_write(o, b, 0, 20);
		EXPECT_HARVEST(o, "after MAP");

		dirty_write(o, b, 0, 40);
		backend_unlink(b, 0);
		EXPECT_HARVEST(o, "UNLINK");
		backend_link(b, 0, o, o->domain, 0);
		dirty_read(o, b, 0, 0, PAGES);
		EXPECT_HARVEST(o, "LINK");
		dirty_write(o, b, 0, 40);
		EXPECT_HARVEST(o, "after LINK");

		domain = owner_more_domain(o);
		domain_map(domain, 0, PAGES, VM2VM_RW);
		backend_link(b, 1, o, domain, 0);
		dirty_write(o, b, 1, 60 + i);
		node_close(&domain);
		EXPECT_HARVEST(o, "the end of the domain");
		backend_unlink(b, 1);
	}
	EXPECT_HARVEST(o, "nothing since");
}

/* A backend that writes until it is killed. */
static void killed_backend(struct dirty_owner *o, bool *ready)
{
	struct dirty_vm v;

	dirty_vm_create(&v, 5);
	backend_link(&v, 0, o, o->domain, 0);
	dirty_write(o, &v, 0, 11);
	dirty_go(&v, DIRTY_PASSES, DIRTY_WINDOW(0) + 77 * 4096, 1);
	dirty_wait_passes(&v, 2);
	WRITE_ONCE(*ready, true);
	for (;;)
		pause();
}

TEST_F_TIMEOUT(dirty_log, backend_dies, 120)
{
	struct dirty_owner *o = &self->o;
	bool *ready = node_mmap(4096, MAP_SHARED | MAP_ANONYMOUS, -1);
	struct dirty_vm v;
	unsigned int i;
	uint64_t val;
	pid_t pid;

	/* A fork is not to make the owner's memory copy-on-write. */
	TEST_ASSERT(mmap(o->mem, PAGES * 4096, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == o->mem, "mmap");
	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	owner_log_on(o);
	for (i = 0; i < 3; i++) {
		dirty_vm_create(&v, 5);
		backend_link(&v, 0, o, o->domain, 0);
		dirty_write(o, &v, 0, 10 + i);
		dirty_write(o, &v, 0, 90);
		dirty_vm_destroy(&v);
		EXPECT_HARVEST(o, "the end of the backend");

		*ready = false;
		pid = node_fork();
		if (!pid)
			killed_backend(o, ready);
		NODE_WAIT(READ_ONCE(*ready), "the backend does not begin");
		owner_want(o, 11, 1);
		owner_want(o, 77, 1);
		if (i) {
			EXPECT_HARVEST(o, "a backend in another process");
			val = READ_ONCE(*owner_word(o, 77, DIRTY_WORD(5)));
			NODE_WAIT(READ_ONCE(*owner_word(o, 77, DIRTY_WORD(5))) != val,
				  "the backend does not go on");
			owner_want(o, 77, 1);
		}
		node_kill(pid);
		EXPECT_HARVEST(o, "the end of the backend's process");
		EXPECT_HARVEST(o, "nothing since");
	}
	munmap(ready, 4096);
}

#define APART	(64 * 4096ul)

/* One page at 16 iovas, too far apart to be taken together: a harvest has to come to each. */
TEST_F_TIMEOUT(dirty_log, sixteen_iovas, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i, j, page;

	for (i = 0; i < 16; i++)
		vm2vm_map(o->domain, DIRTY_IOVA + i * APART,
			  DIRTY_OWN + (i % 2 ? 60 : 5) * 4096, 4096, VM2VM_RW);
	for (i = 0; i < 2; i++)
		backend_link_at(&self->b[i], 0, o->domain, DIRTY_IOVA, DIRTY_MAX, 0);
	owner_log_on(o);
	for (i = 0; i < 16; i++) {
		for (j = 0; j < 16; j++) {
			page = j % 2 ? 60 : 5;
			dirty_write_at(o, b, DIRTY_WINDOW(0) + j * APART, page);
		}
		EXPECT_HARVEST(o, "all iovas");
		EXPECT_HARVEST(o, "nothing since");
		page = i % 2 ? 60 : 5;
		dirty_write_at(o, b, DIRTY_WINDOW(0) + i * APART, page);
		EXPECT_HARVEST(o, "one iova");
		dirty_write_at(o, &self->b[1], DIRTY_WINDOW(0) + i * APART, page);
		EXPECT_HARVEST(o, "the other backend");
	}
	/* All but one go, and it still counts. */
	for (i = 0; i < 15; i++)
		vm2vm_unmap(o->domain, DIRTY_IOVA + i * APART, 4096);
	for (i = 0; i < 3; i++) {
		dirty_write_at(o, b, DIRTY_WINDOW(0) + 15 * APART, 60);
		EXPECT_HARVEST(o, "the iova that is left");
	}
}

/* Where pages are, in a window to a domain that has mappings of a page in some order. */
static unsigned int scattered_at(unsigned int order, unsigned int page)
{
	return order == 0 ? page : order == 1 ? PAGES - 1 - page : 2 * page;
}

/*
 * Pages are written here and there, by mappings of a page each that are in this order or in
 * that, or with gaps.  A harvest comes to each of them, be it that there are so few that
 * they are looked up, or so many that all are taken.
 */
TEST_F_TIMEOUT(dirty_log, scattered, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int order, page, step;
	int domain[3];

	for (order = 0; order < 3; order++) {
		domain[order] = order ? owner_more_domain(o) : o->domain;
		for (page = 0; page < PAGES; page++)
			vm2vm_map(domain[order], DIRTY_IOVA + scattered_at(order, page) * 4096ul,
				  DIRTY_OWN + page * 4096ul, 4096, VM2VM_RW);
		backend_link_at(b, order, domain[order], DIRTY_IOVA, 2 * PAGES, 0);
	}
	owner_log_on(o);
	for (step = 1; step < 15; step++) {
		for (order = 0; order < 3; order++) {
			for (page = step / 2; page < PAGES; page += step)
				dirty_write_at(o, b, DIRTY_WINDOW(order) +
					       scattered_at(order, page) * 4096ul, page);
			EXPECT_HARVEST(o, "some pages");
			EXPECT_HARVEST(o, "nothing since");
			for (page = step / 2; page < PAGES; page += step)
				dirty_write_at(o, b, DIRTY_WINDOW(order) +
					       scattered_at(order, page) * 4096ul, page);
			EXPECT_HARVEST(o, "the same pages");
		}
	}
	EXPECT_EQ(0, b->mmio);
	for (order = 1; order < 3; order++)
		node_close(&domain[order]);
}

/* Several domains and windows, that show the same pages. */
TEST_F_TIMEOUT(dirty_log, domains, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i, w;
	int domain[3];

	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	owner_log_on(o);
	domain[0] = o->domain;
	for (w = 1; w < 3; w++) {
		domain[w] = owner_more_domain(o);
		domain_map_pages(domain[w], PAGES, VM2VM_RW);
	}
	for (w = 0; w < 3; w++)
		backend_link(b, w, o, domain[w], 0);
	/* And a window to a part of what another shows. */
	backend_link_at(b, 3, domain[1], DIRTY_IOVA + 20 * 4096, 40, 0);
	for (i = 0; i < 2; i++) {
		for (w = 0; w < 3; w++) {
			dirty_write(o, b, w, 31);
			dirty_write(o, b, w, w);
		}
		dirty_write_at(o, b, DIRTY_WINDOW(3) + 11 * 4096, 31);
		EXPECT_HARVEST(o, "by all windows");
		for (w = 0; w < 3; w++) {
			dirty_write(o, b, w, 31);
			EXPECT_HARVEST(o, "by one window");
			EXPECT_HARVEST(o, "nothing since");
		}
		dirty_write_at(o, b, DIRTY_WINDOW(3) + 11 * 4096, 31);
		EXPECT_HARVEST(o, "by the small window");
	}
	for (w = 1; w < 3; w++)
		node_close(&domain[w]);
	dirty_write(o, b, 0, 31);
	EXPECT_HARVEST(o, "by the window that is left");
}

TEST_F_TIMEOUT(dirty_log, all_memory, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i, j;
	int domain;

	for (i = 0; i < 3; i++) {
		if (i)
			owner_log_on(o);
		domain = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_ALL_MEMORY);
		/* The window begins before the memory, and ends after it. */
		backend_link_at(b, 0, domain, DIRTY_OWN - 4096, PAGES + 2, 0);
		if (!i)
			owner_log_on(o);
		for (j = 0; j < 3; j++) {
			dirty_write_at(o, b, DIRTY_WINDOW(0) + 4096, 0);
			dirty_write_at(o, b, DIRTY_WINDOW(0) + (1 + SPLIT) * 4096, SPLIT);
			dirty_write_at(o, b, DIRTY_WINDOW(0) + PAGES * 4096, PAGES - 1);
			EXPECT_HARVEST(o, "a domain of all memory");
			EXPECT_HARVEST(o, "nothing since");
		}
		dirty_write_at(o, b, DIRTY_WINDOW(0) + 4096, 0);
		owner_set_slot(o, 1, false, false);
		EXPECT_HARVEST(o, "a memslot is gone");
		owner_log_slot(o, 1);
		EXPECT_HARVEST(o, "it comes back");
		dirty_write_at(o, b, DIRTY_WINDOW(0) + (1 + SPLIT) * 4096, SPLIT);
		EXPECT_HARVEST(o, "after it came back");
		backend_unlink(b, 0);
		node_close(&domain);
		owner_log(o, false);
	}
}

/* Four backends: some write, others only read, and then the other way round. */
TEST_F_TIMEOUT(dirty_log, backends, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	unsigned int i, pass;

	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	for (i = 0; i < 4; i++) {
		backend_link(&b[i], 0, o, o->domain, 0);
		dirty_write(o, &b[i], 0, i);
	}
	memset(o->want, 0, sizeof(o->want));
	owner_log_on(o);
	for (pass = 0; pass < 4; pass++) {
		dirty_write(o, &b[pass], 0, 40 + pass);
		dirty_write(o, &b[(pass + 1) % 4], 0, 41 + pass);
		dirty_read(o, &b[(pass + 2) % 4], 0, 0, PAGES);
		dirty_read(o, &b[(pass + 3) % 4], 0, 0, PAGES);
		EXPECT_HARVEST(o, "two write and two read");
		for (i = 0; i < 4; i++)
			dirty_read(o, &b[i], 0, 0, PAGES);
		EXPECT_HARVEST(o, "all read");
		for (i = 0; i < 4; i++)
			dirty_write(o, &b[i], 0, 5);
		EXPECT_HARVEST(o, "all write to one page");
		for (i = 0; i < 4; i++) {
			dirty_write(o, &b[i], 0, 5);
			EXPECT_HARVEST(o, "one after the other");
		}
	}
	EXPECT_HARVEST(o, "nothing since");
}

/* Whoever may only read makes nothing dirty, and does not hide who writes. */
TEST_F_TIMEOUT(dirty_log, readonly, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	int domain = owner_more_domain(o);
	unsigned int i, w;
	uint64_t val;

	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	domain_map_pages(domain, PAGES, KVM_VM2VM_MAP_READ);
	backend_link(&b[0], 0, o, o->domain, KVM_VM2VM_LINK_READONLY);
	backend_link(&b[0], 1, o, domain, 0);
	backend_link(&b[0], 2, o, o->domain, 0);
	backend_link(&b[1], 0, o, o->domain, KVM_VM2VM_LINK_READONLY);
	owner_log_on(o);
	for (i = 0; i < 3; i++) {
		val = *owner_word(o, 9, 0);
		for (w = 0; w < 2; w++) {
			dirty_read(o, &b[0], w, 0, PAGES);
			b[0].mmio = 0;
			dirty_do(&b[0], DIRTY_WRITE, DIRTY_WINDOW(w) + 9 * 4096, 1, ~val);
			EXPECT_EQ(8, b[0].mmio);
			EXPECT_EQ(val, *owner_word(o, 9, 0));
		}
		dirty_read(o, &b[1], 0, 0, PAGES);
		EXPECT_HARVEST(o, "writes that are not permitted");
		dirty_write(o, &b[0], 2, 9);
		dirty_write(o, &b[0], 2, 33);
		EXPECT_HARVEST(o, "a write by another window");
		dirty_read(o, &b[0], 2, 0, PAGES);
		EXPECT_HARVEST(o, "reads by all windows");
	}
	node_close(&domain);
}

/*
 * Without the kick of a harvest the vCPU stays in its guest, and with it what the TLB
 * has: the writes after each harvest are in the next one.
 */
static void harvest_spinning(struct dirty_owner *o, struct dirty_vm *b, unsigned int rounds)
{
	unsigned int i;

	for (i = 0; i < rounds; i++) {
		dirty_wait_passes(b, 1 + i % 3);
		owner_want(o, 43, 1);
		EXPECT_HARVEST(o, "a guest that goes on writing");
	}
}

TEST_F_TIMEOUT(dirty_log, spinning, 300)
{
	unsigned int trials = vm2vm_trials(100), i;
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;

	owner_show(o, &b[0]);
	dirty_go(&b[0], DIRTY_PASSES, DIRTY_WINDOW(0) + 43 * 4096, 1);
	for (i = 0; i < 3 + trials / 10; i++) {
		dirty_wait_passes(&b[0], 10);
		owner_log(o, true);
		dirty_wait_passes(&b[0], 1);
		if (o->style == STYLE_INITIALLY_SET)
			owner_want(o, 0, PAGES);
		owner_want(o, 43, 1);
		EXPECT_HARVEST(o, "logging begins while a guest writes");
		harvest_spinning(o, &b[0], 3);
		owner_log(o, false);
	}
	owner_log(o, true);
	owner_harvest(o);
	harvest_spinning(o, &b[0], 20 * trials);
	dirty_stop(&b[0]);
	owner_harvest(o);
	EXPECT_HARVEST(o, "nobody writes any more");
	EXPECT_EQ(0, b[0].mmio);
}

TEST_HARNESS_MAIN
