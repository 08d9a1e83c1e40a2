// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: what owner.h declares, the owner and its log.
 */
#include <asm/barrier.h>
#include <sys/mman.h>

#include "owner.h"
#include "vm2vm_peer.h"

void owner_collect_ring(struct dirty_owner *o)
{
	unsigned int slot, page, n = 0;
	struct kvm_dirty_gfn *gfn;
	int r;

	dirty_kick(&o->v);
	for (;;) {
		gfn = &o->v.ring[o->v.fetch % DIRTY_RING];
		/* Pairs with the release in KVM's kvm_dirty_gfn_set_dirtied(). */
		if (smp_load_acquire(&gfn->flags) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		slot = gfn->slot - DIRTY_SLOT_OWN;
		page = owner_first(o, slot) + gfn->offset;
		TEST_ASSERT(slot < 2 && page < owner_end(o, slot),
			    "the ring has offset 0x%llx of memslot %u", gfn->offset, gfn->slot);
		o->ring[page] = true;
		/* Pairs with the acquire in KVM's kvm_dirty_gfn_harvested(). */
		smp_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
		o->v.fetch++;
		n++;
	}
	r = node_ioctl(o->v.vm, KVM_RESET_DIRTY_RINGS, NULL);
	TEST_ASSERT(r == n, "KVM_RESET_DIRTY_RINGS has reset %d entries of %u", r, n);
}

int __owner_set_slot(struct dirty_owner *o, unsigned int slot, bool there, bool log)
{
	unsigned int first = owner_first(o, slot), nr = owner_end(o, slot) - first;

	return __node_set_memory(o->v.vm, DIRTY_SLOT_OWN + slot, DIRTY_OWN + first * 4096ul,
				 there ? nr * 4096ul : 0, o->mem + first * 4096ul,
				 log ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

void owner_set_slot(struct dirty_owner *o, unsigned int slot, bool there, bool log)
{
	unsigned int page;
	int r = __owner_set_slot(o, slot, there, log);

	TEST_ASSERT(!r, "KVM_SET_USER_MEMORY_REGION of the owner, %s, %s its log: %s",
		    there ? "set" : "delete", log ? "with" : "without", strerror(-r));
	o->log[slot] = log;
	if (log || o->style != STYLE_RING)
		return;
	owner_collect_ring(o);
	for (page = owner_first(o, slot); page < owner_end(o, slot); page++)
		o->ring[page] = false;
}

void owner_begin(struct dirty_owner *o, enum dirty_style style, unsigned int id)
{
	uint64_t protect = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	memset(o, 0, sizeof(*o));
	o->style = style;
	dirty_vm_begin(&o->v, id);
	if (style == STYLE_RING) {
		dirty_enable_ring(o->v.vm);
		dirty_enable_cap(o->v.vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0);
	} else if (style != STYLE_GET) {
		if (style == STYLE_INITIALLY_SET)
			protect |= KVM_DIRTY_LOG_INITIALLY_SET;
		dirty_enable_cap(o->v.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, protect);
	}
}

void owner_complete(struct dirty_owner *o, void *mem, unsigned int pages, unsigned int split,
		    bool log)
{
	o->mem = mem;
	o->pages = pages;
	o->split = split;
	dirty_vm_complete(&o->v, o->style == STYLE_RING);
	owner_set_slot(o, 0, true, log);
	owner_set_slot(o, 1, true, log);
	o->domain = __node_create_domain(o->v.vm);
	TEST_ASSERT(o->domain >= 0, "KVM_VM2VM_CREATE_DOMAIN: %s", strerror(-o->domain));
}

void *owner_memory(unsigned int pages)
{
	void *mem = peer_mmap(pages * 4096ul, 0);

	TEST_ASSERT(mem && !madvise(mem, pages * 4096ul, MADV_NOHUGEPAGE), "mmap: %s",
		    strerror(errno));
	return mem;
}

void owner_create(struct dirty_owner *o, enum dirty_style style, unsigned int id,
		  unsigned int pages, unsigned int split)
{
	owner_begin(o, style, id);
	owner_complete(o, owner_memory(pages), pages, split, false);
}

void owner_destroy(struct dirty_owner *o)
{
	node_close(&o->domain);
	dirty_vm_destroy(&o->v);
	munmap(o->mem, o->pages * 4096ul);
}

int __owner_get_log(struct dirty_owner *o, unsigned int slot, uint64_t *log)
{
	struct kvm_dirty_log get = { .slot = DIRTY_SLOT_OWN + slot, .dirty_bitmap = log };

	return node_ioctl(o->v.vm, KVM_GET_DIRTY_LOG, &get);
}

/* At once or by pieces, one after the other. */
static void owner_clear_log(struct dirty_owner *o, unsigned int slot, uint64_t *log)
{
	unsigned int first, nr = owner_end(o, slot) - owner_first(o, slot);
	unsigned int step = o->harvests % 2 ? 64 : nr;

	for (first = 0; first < nr; first += step) {
		struct kvm_clear_dirty_log clear = {
			.slot = DIRTY_SLOT_OWN + slot, .first_page = first,
			.num_pages = min(step, nr - first), .dirty_bitmap = log + first / 64,
		};

		NODE_IOCTL(o->v.vm, KVM_CLEAR_DIRTY_LOG, &clear);
	}
}

void owner_harvest_slot(struct dirty_owner *o, unsigned int slot)
{
	unsigned int first = owner_first(o, slot), end = owner_end(o, slot), i;
	uint64_t log[DIRTY_MAX / 64] = {};
	int r;

	if (o->style == STYLE_RING)
		owner_collect_ring(o);
	r = __owner_get_log(o, slot, log);
	TEST_ASSERT(!r, "KVM_GET_DIRTY_LOG: %s", strerror(-r));
	if (o->style == STYLE_CLEAR || o->style == STYLE_INITIALLY_SET)
		owner_clear_log(o, slot, log);
	for (i = first; i < end; i++) {
		o->dirty[i] = log[(i - first) / 64] >> (i - first) % 64 & 1;
		o->dirty[i] |= o->ring[i];
		o->ring[i] = false;
	}
	o->harvests++;
}

void owner_harvest(struct dirty_owner *o)
{
	unsigned int slot;

	memset(o->dirty, 0, sizeof(o->dirty));
	for (slot = 0; slot < 2; slot++)
		if (o->log[slot])
			owner_harvest_slot(o, slot);
}

void __expect_harvest(struct dirty_owner *o, unsigned int line, const char *what)
{
	unsigned int slot, page, lost = 0, more = 0, first_lost = 0, first_more = 0;

	owner_harvest(o);
	for (slot = 0; slot < 2; slot++) {
		for (page = owner_first(o, slot); page < owner_end(o, slot); page++) {
			if (o->want[page] && o->log[slot] && !o->dirty[page] && !lost++)
				first_lost = page;
			if (!o->want[page] && o->dirty[page] && !more++)
				first_more = page;
		}
	}
	memset(o->want, 0, sizeof(o->want));
	TEST_ASSERT(!lost, "line %u, %s: %u pages were written and are not reported, first page %u",
		    line, what, lost, first_lost);
	TEST_ASSERT(!more, "line %u, %s: %u pages are reported and were not written, first page %u",
		    line, what, more, first_more);
}

void owner_want(struct dirty_owner *o, unsigned int first, unsigned int nr)
{
	while (nr--)
		o->want[first++] = true;
}

void owner_want_first(struct dirty_owner *o, unsigned int slot)
{
	unsigned int first = owner_first(o, slot);

	if (o->style == STYLE_INITIALLY_SET && o->log[slot])
		owner_want(o, first, owner_end(o, slot) - first);
}

void owner_expect_first(struct dirty_owner *o)
{
	owner_want_first(o, 0);
	owner_want_first(o, 1);
	EXPECT_HARVEST(o, "the first harvest");
}

void owner_log_slot(struct dirty_owner *o, unsigned int slot)
{
	owner_set_slot(o, slot, true, true);
	owner_want_first(o, slot);
}

void owner_log(struct dirty_owner *o, bool log)
{
	owner_set_slot(o, 0, true, log);
	owner_set_slot(o, 1, true, log);
}

void owner_log_on(struct dirty_owner *o)
{
	owner_log(o, true);
	owner_expect_first(o);
}

void owner_show(struct dirty_owner *o, struct dirty_vm *v)
{
	domain_map(o->domain, 0, o->pages, VM2VM_RW);
	backend_link(v, 0, o, o->domain, 0);
}

void owner_show_and_log(struct dirty_owner *o, struct dirty_vm *v)
{
	owner_show(o, v);
	owner_log_on(o);
}

void domain_map(int domain, unsigned int page, unsigned int nr, uint32_t flags)
{
	vm2vm_map(domain, DIRTY_IOVA + page * 4096ul, DIRTY_OWN + page * 4096ul, nr * 4096ul,
		  flags);
}

void domain_unmap(int domain, unsigned int page, unsigned int nr)
{
	uint64_t bytes = vm2vm_unmap(domain, DIRTY_IOVA + page * 4096ul, nr * 4096ul);

	TEST_ASSERT(bytes == nr * 4096ul, "UNMAP of %u pages: %lu bytes", nr, bytes);
}

void domain_map_pages(int domain, unsigned int nr, uint32_t flags)
{
	unsigned int page;

	for (page = 0; page < nr; page++)
		domain_map(domain, page, 1, flags);
}

int owner_more_domain_flags(struct dirty_owner *o, uint32_t flags)
{
	struct kvm_vm2vm_create_domain args = { .flags = flags };
	int fd = node_ioctl(o->v.vm, KVM_VM2VM_CREATE_DOMAIN, &args);

	TEST_ASSERT(fd >= 0, "KVM_VM2VM_CREATE_DOMAIN: %s", strerror(-fd));
	return fd;
}

int owner_more_domain(struct dirty_owner *o)
{
	return owner_more_domain_flags(o, 0);
}

void backend_link_at(struct dirty_vm *v, unsigned int window, int domain, uint64_t iova,
		     unsigned int pages, uint32_t flags)
{
	struct kvm_vm2vm_link args = {
		.domain_fd = domain, .slot = DIRTY_SLOT + window, .gpa = DIRTY_WINDOW(window),
		.iova = iova, .size = pages * 4096ul, .flags = flags,
	};

	NODE_IOCTL(v->vm, KVM_VM2VM_LINK, &args);
}

void backend_link(struct dirty_vm *v, unsigned int window, struct dirty_owner *o, int domain,
		  uint32_t flags)
{
	backend_link_at(v, window, domain, DIRTY_IOVA, o->pages, flags);
}

void backend_unlink(struct dirty_vm *v, unsigned int window)
{
	struct kvm_vm2vm_unlink args = { .slot = DIRTY_SLOT + window };

	NODE_IOCTL(v->vm, KVM_VM2VM_UNLINK, &args);
}

uint64_t dirty_next_value(void)
{
	static uint64_t val = 0x1000;

	return ++val;
}

void dirty_write_at(struct dirty_owner *o, struct dirty_vm *v, uint64_t addr, unsigned int page)
{
	uint64_t val = dirty_next_value();

	dirty_do(v, DIRTY_WRITE, addr, 1, val);
	TEST_ASSERT(*owner_word(o, page, 0) == val, "VM %lu's write to page %u has not arrived",
		    v->ctl->id, page);
	o->want[page] = true;
}

void dirty_write(struct dirty_owner *o, struct dirty_vm *v, unsigned int window, unsigned int page)
{
	dirty_write_at(o, v, DIRTY_WINDOW(window) + page * 4096ul, page);
}

void dirty_write_own(struct dirty_owner *o, unsigned int page)
{
	dirty_write_at(o, &o->v, DIRTY_OWN + page * 4096ul, page);
}

void dirty_read(struct dirty_owner *o, struct dirty_vm *v, unsigned int window, unsigned int page,
		unsigned int nr)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = page; i < page + nr; i++)
		sum += *owner_word(o, i, 0);
	dirty_do(v, DIRTY_READ, DIRTY_WINDOW(window) + page * 4096ul, nr, 0);
	TEST_ASSERT(v->ctl->val == sum, "VM %lu has read 0x%lx, not 0x%lx", v->ctl->id,
		    v->ctl->val, sum);
}

void dirty_access(struct dirty_vm *v, enum access_op op, uint64_t dst, uint64_t src, uint64_t count,
		  uint64_t val)
{
	access_set_cmd(&v->ctl->access, op, dst, src, count, val);
	v->ctl->op = DIRTY_ACCESS;
	dirty_run(v);
}

void write_emulated(struct dirty_owner *o, struct dirty_vm *b, unsigned int page)
{
	b->dev_val = dirty_next_value();
	dirty_access(b, ACCESS_MOVSQ_ONE, DIRTY_WINDOW(0) + page * 4096, DEV_GPA, 0, 0);
	TEST_ASSERT(*owner_word(o, page, 0) == b->dev_val,
		    "the emulated write to page %u has not arrived", page);
	o->want[page] = true;
}

void read_emulated(struct dirty_owner *o, struct dirty_vm *b, unsigned int page)
{
	dirty_access(b, ACCESS_MOVSQ_ONE, DEV_GPA, DIRTY_WINDOW(0) + page * 4096, 0, 0);
	TEST_ASSERT(*owner_word(o, page, 0) == b->dev_val, "page %u is read as 0x%lx", page,
		    b->dev_val);
}

void dirty_log_begin(struct dirty_owner *o, struct dirty_vm *b, enum dirty_style style)
{
	unsigned int i;

	dirty_template_init();
	owner_create(o, style, 0, PAGES, SPLIT);
	for (i = 0; i < 4; i++)
		dirty_vm_create(&b[i], i + 1);
}

void dirty_log_end(struct dirty_owner *o, struct dirty_vm *b)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		dirty_vm_destroy(&b[i]);
	owner_destroy(o);
}
