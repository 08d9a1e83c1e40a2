// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_race_test: what race.h declares, the owner and who has windows to it.
 */
#include <sys/mman.h>

#include "race.h"

bool is_half(struct actor *a)
{
	return a->op->counterpart && !strcmp(a->op->counterpart, a->other->name);
}

unsigned int random_page(struct actor *a)
{
	return a->first + rand_r(&a->seed) % a->nr;
}

void *race_mmap(struct race *r, void *addr, unsigned int page, size_t size, int flags)
{
	flags |= r->memfd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	return mmap(addr, size, PROT_READ | PROT_WRITE, flags, r->memfd, page * 4096);
}

void flip(struct actor *a, unsigned int page)
{
	struct race *r = a->race;
	uint64_t *b = &r->backend.ctl->closed[a->idx][page];
	uint64_t *s = &r->second.ctl->closed[a->idx][page];

	WRITE_ONCE(*b, *b + 1);
	if (a->op->factor != LINK)
		WRITE_ONCE(*s, *s + 1);
}

void flip_all(struct actor *a)
{
	unsigned int i;

	for (i = 0; i < a->nr; i++)
		flip(a, a->first + i);
}

void write_page(struct race *r, unsigned int page, void *at)
{
	uint64_t gen = ++r->gen[page];

	WRITE_ONCE(*(uint64_t *)at, NODE_TAG(OWNER, page, gen));
	WRITE_ONCE(r->backend.ctl->floor[page], gen);
	WRITE_ONCE(r->second.ctl->floor[page], gen);
}

void check_errno(const char *call, int r, int e1, int e2)
{
	TEST_ASSERT(r >= 0 || (e1 && r == -e1) || (e2 && r == -e2), "%s: %s", call, strerror(-r));
}

int race_map(struct race *r, unsigned int page)
{
	return __vm2vm_map(r->domain, NODE_IOVA + page * 4096, NODE_OWN + page * 4096, 4096,
			   VM2VM_RW);
}

int race_unmap(struct race *r, unsigned int page, unsigned int nr, uint64_t *size)
{
	return __vm2vm_unmap(r->domain, NODE_IOVA + page * 4096, nr * 4096, size);
}

void race_map_all(struct race *r, int domain)
{
	unsigned int i;
	int e;

	for (i = 0; i < NODE_PAGES; i++) {
		e = __vm2vm_map(domain, NODE_IOVA + i * 4096, NODE_OWN + i * 4096, 4096, VM2VM_RW);
		check_errno("MAP", e, race_has(r, MEMSLOT) ? ENOENT : 0, 0);
	}
}

int race_set_slot(struct race *r, unsigned int slot, uint64_t gpa, size_t size)
{
	return __node_set_memory(r->owner.vm, NODE_SLOT_OWN + slot, gpa, size,
				 page_addr(r, slot * RACE_SLOT_PAGES), 0);
}

void write_pages(struct race *r)
{
	unsigned int i;

	for (i = 0; i < NODE_PAGES; i++)
		write_page(r, i, page_addr(r, i));
}

void race_memory(struct race *r, bool private)
{
	struct node *o = &r->owner;

	r->memfd = -1;
	if (!private) {
		r->memfd = memfd_create("vm2vm", MFD_CLOEXEC);
		TEST_ASSERT(r->memfd >= 0 && !ftruncate(r->memfd, NODE_SIZE), "memfd: %s",
			    strerror(errno));
	}
	r->area = mmap(NULL, 3 * NODE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(r->area != MAP_FAILED, "mmap: %s", strerror(errno));
	munmap(o->own, NODE_SIZE);
	o->own = race_mmap(r, r->area + NODE_SIZE, 0, NODE_SIZE, MAP_FIXED);
	TEST_ASSERT((void *)o->own == r->area + NODE_SIZE, "mmap: %s", strerror(errno));
	write_pages(r);
	r->backend.ctl->zero = private;
	r->second.ctl->zero = private;
}

void race_create_owner(struct race *r)
{
	unsigned int i;
	int e;

	r->owner.vm = NODE_IOCTL(node_template.kvm, KVM_CREATE_VM, NULL);
	for (i = 0; i < RACE_SLOTS; i++) {
		e = race_set_slot(r, i, slot_gpa(i), RACE_SLOT_SIZE);
		TEST_ASSERT(!e, "memslot: %s", strerror(-e));
	}
	r->domain = __node_create_domain(r->owner.vm);
	TEST_ASSERT(r->domain >= 0, "KVM_VM2VM_CREATE_DOMAIN: %s", strerror(-r->domain));
	race_map_all(r, r->domain);
}

void race_create_backend(struct node *n)
{
	node_create(n);
	n->ctl->owners[0] = OWNER;
	n->ctl->nr_windows = 1;
}

void race_init(struct race *r, const struct op * const *ops)
{
	bool split = ops[0]->factor == ops[1]->factor;
	unsigned int i;

	memset(r, 0, sizeof(*r));
	r->gen = node_mmap(4096, MAP_SHARED | MAP_ANONYMOUS, -1);
	for (i = 0; i < 2; i++) {
		r->actor[i] = (struct actor) {
			.op = ops[i], .other = ops[!i], .race = r, .idx = i, .seed = i + 1,
			.nr = NODE_PAGES, .linked = true, .rounds = &r->gen[NODE_PAGES + i],
		};
		if (split && !is_half(&r->actor[i])) {
			r->actor[i].nr = RACE_SLOT_PAGES;
			r->actor[i].first = i * RACE_SLOT_PAGES;
		}
	}
	node_init(&r->owner, OWNER);
	node_init(&r->backend, BACKEND);
	node_init(&r->second, SECOND);
}

void race_fini(struct race *r)
{
	munmap(r->area, 3 * NODE_SIZE);
	node_fini(&r->backend);
	node_fini(&r->second);
	munmap(r->owner.ctl, NODE_CTL_SIZE);
	munmap(r->gen, 4096);
	if (r->memfd >= 0)
		close(r->memfd);
}
