/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_dirty_test: the owner, its log, and how others come to its memory.
 *
 * The owner's shared memory is two memslots next to each other.  What a test writes to it
 * with dirty_write() is what the next harvest has to report.
 */
#ifndef SELFTEST_KVM_VM2VM_DIRTY_OWNER_H
#define SELFTEST_KVM_VM2VM_DIRTY_OWNER_H

#include "vm.h"

/* Of the owner, in most tests. */
#define PAGES	96
#define SPLIT	30	/* pages in the first memslot; the second has more than 64 */

#define DIRTY_IOVA	0x700000000ul	/* of DIRTY_OWN */
#define DIRTY_SLOT	100		/* of the first window */
#define DIRTY_SLOT_OWN	2		/* of the first half of the owner's memory */

/* How the owner's log is harvested. */
enum dirty_style {
	STYLE_GET,		/* KVM_GET_DIRTY_LOG clears it */
	STYLE_CLEAR,		/* KVM_CLEAR_DIRTY_LOG does */
	STYLE_INITIALLY_SET,	/* likewise, and all pages are set in the beginning */
	STYLE_RING,		/* the vCPU's ring, and KVM_GET_DIRTY_LOG for the rest */
};

/**
 * struct dirty_owner - a VM that shares memory
 * @v: the VM
 * @style: how its log is harvested
 * @domain: a domain of it
 * @mem: the shared memory
 * @pages: its size
 * @split: pages in the first memslot
 * @log: whether the memslots log
 * @harvests: number of harvests
 * @ring: pages that were found in the ring
 * @dirty: pages that the last harvest reported
 * @want: pages that the next one is to report
 */
struct dirty_owner {
	struct dirty_vm v;
	enum dirty_style style;
	int domain;
	void *mem;
	unsigned int pages;
	unsigned int split;
	bool log[2];
	unsigned int harvests;
	bool ring[DIRTY_MAX];
	bool dirty[DIRTY_MAX];
	bool want[DIRTY_MAX];
};

/* The pages of a memslot, the last exclusively. */
static inline unsigned int owner_first(struct dirty_owner *o, unsigned int slot)
{
	return slot ? o->split : 0;
}

static inline unsigned int owner_end(struct dirty_owner *o, unsigned int slot)
{
	return slot ? o->pages : o->split;
}

/* A word of the shared memory. */
static inline uint64_t *owner_word(struct dirty_owner *o, unsigned int page, unsigned int word)
{
	return (uint64_t *)(o->mem + page * 4096ul) + word;
}

/* Take what is in the ring of the owner's vCPU, and have these pages logged again. */
void owner_collect_ring(struct dirty_owner *o);

/* The call alone: 0 or -errno. */
int __owner_set_slot(struct dirty_owner *o, unsigned int slot, bool there, bool log);

/* Make or delete a memslot, or switch its log.  What an old log had is lost. */
void owner_set_slot(struct dirty_owner *o, unsigned int slot, bool there, bool log);

/* An owner's VM that logs in this way, without any memory. */
void owner_begin(struct dirty_owner *o, enum dirty_style style, unsigned int id);

/* The memory: the first @split of @pages pages are in a memslot of their own. */
void owner_complete(struct dirty_owner *o, void *mem, unsigned int pages, unsigned int split,
		    bool log);

/* Memory that is to be shared, without huge pages. */
void *owner_memory(unsigned int pages);

/* An owner with such memory, which does not log. */
void owner_create(struct dirty_owner *o, enum dirty_style style, unsigned int id,
		  unsigned int pages, unsigned int split);

void owner_destroy(struct dirty_owner *o);

/* 0 or -errno. */
int __owner_get_log(struct dirty_owner *o, unsigned int slot, uint64_t *log);

/* Harvest what a memslot has logged: into o->dirty. */
void owner_harvest_slot(struct dirty_owner *o, unsigned int slot);

/* Likewise of all memslots that log. */
void owner_harvest(struct dirty_owner *o);

/*
 * Harvest: the pages in o->want are reported and no others.  Pages that do not log
 * are reported by nobody.
 */
void __expect_harvest(struct dirty_owner *o, unsigned int line, const char *what);

#define EXPECT_HARVEST(owner, what)	__expect_harvest(owner, __LINE__, what)

/* The next harvest is to report these. */
void owner_want(struct dirty_owner *o, unsigned int first, unsigned int nr);

/* The next harvest is to report what a memslot reports at once when it begins to log. */
void owner_want_first(struct dirty_owner *o, unsigned int slot);

/* Harvest that, of what logs. */
void owner_expect_first(struct dirty_owner *o);

/* A memslot begins to log, or comes back and logs; see owner_want_first(). */
void owner_log_slot(struct dirty_owner *o, unsigned int slot);

/* Switch the log of all of the memory, and leave what that reports at once. */
void owner_log(struct dirty_owner *o, bool log);

/* All of the memory logs, and nothing is in the log. */
void owner_log_on(struct dirty_owner *o);

/* All of the memory is approved, and @v has a window to it. */
void owner_show(struct dirty_owner *o, struct dirty_vm *v);

/* Likewise, and all of it logs. */
void owner_show_and_log(struct dirty_owner *o, struct dirty_vm *v);

/* Approve pages of the owner at their iovas, or revoke them. */
void domain_map(int domain, unsigned int page, unsigned int nr, uint32_t flags);
void domain_unmap(int domain, unsigned int page, unsigned int nr);

/* Each page in a mapping of its own. */
void domain_map_pages(int domain, unsigned int nr, uint32_t flags);

/* One more domain of the owner. */
int owner_more_domain_flags(struct dirty_owner *o, uint32_t flags);
int owner_more_domain(struct dirty_owner *o);

/* A window to some of a domain. */
void backend_link_at(struct dirty_vm *v, unsigned int window, int domain, uint64_t iova,
		     unsigned int pages, uint32_t flags);

/* A window to all of the owner's memory. */
void backend_link(struct dirty_vm *v, unsigned int window, struct dirty_owner *o, int domain,
		  uint32_t flags);

void backend_unlink(struct dirty_vm *v, unsigned int window);

/* A number that was not there before. */
uint64_t dirty_next_value(void);

/* A guest writes to the page of the owner that it has at this address. */
void dirty_write_at(struct dirty_owner *o, struct dirty_vm *v, uint64_t addr, unsigned int page);

/* A backend, by a window to all of the owner's memory. */
void dirty_write(struct dirty_owner *o, struct dirty_vm *v, unsigned int window, unsigned int page);

/* The owner itself. */
void dirty_write_own(struct dirty_owner *o, unsigned int page);

/* A backend reads pages, and finds what the owner has. */
void dirty_read(struct dirty_owner *o, struct dirty_vm *v, unsigned int window, unsigned int page,
		unsigned int nr);

/* The guest has KVM do this. */
void dirty_access(struct dirty_vm *v, enum access_op op, uint64_t dst, uint64_t src, uint64_t count,
		  uint64_t val);

/* The same by KVM, from or to the device; window 0. */
void write_emulated(struct dirty_owner *o, struct dirty_vm *b, unsigned int page);
void read_emulated(struct dirty_owner *o, struct dirty_vm *b, unsigned int page);

/* The owner is VM 0; it does not log yet, and nothing of it is approved.  And four others. */
void dirty_log_begin(struct dirty_owner *o, struct dirty_vm *b, enum dirty_style style);

void dirty_log_end(struct dirty_owner *o, struct dirty_vm *b);

#endif /* SELFTEST_KVM_VM2VM_DIRTY_OWNER_H */
