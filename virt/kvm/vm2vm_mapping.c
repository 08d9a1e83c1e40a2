// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: mappings, by iova and by the owner's gfn.
 *
 * There may be a million of them in a domain, so they are small, and what is done to many
 * is done in few steps.
 *
 *  - Faults look an iova up in a maple tree, under RCU.
 *  - Who has the domain's lock goes from one to the next by a list in the order of iovas:
 *    a step in the tree takes a hundred instructions.
 *  - Whoever revokes, harvests or ages pages of the owner's finds in an interval tree by
 *    gfn, under gfn_lock, which parts of the domain to go to each link with.  The fewer
 *    these are, the more is done with each hold of a backend's mmu_lock.
 */
#include <linux/kvm_host.h>
#include <uapi/linux/kvm_vm2vm.h>

#include "vm2vm.h"

/*
 * How many mappings are removed at once.  That is what a revocation of iovas takes for
 * itself, and how many nodes of the tree RCU has to free at a time.
 */
#define VM2VM_REMOVE_BATCH	4096

/* How many mappings to look at with one hold of gfn_lock. */
#define VM2VM_COLLECT		256

/* How many are taken from the tree of gfns with one hold of its lock. */
#define VM2VM_ERASE_BATCH	32

/* How many a callback of RCU's frees. */
#define VM2VM_FREE_BATCH	32

/* What points to the first mapping that ends at @iova or later, or would. */
struct vm2vm_mapping **vm2vm_find_link(struct vm2vm_domain *d, unsigned long iova)
{
	MA_STATE(mas, &d->iovas, iova, iova);
	struct vm2vm_mapping *prev;

	lockdep_assert_held(&d->lock);

	prev = mas_prev(&mas, 0);
	return prev ? &prev->next : &d->mappings;
}

/* Let @m approve what it says: 0, -EEXIST, -ENOSPC, -ENOMEM. */
int vm2vm_insert(struct vm2vm_domain *d, struct vm2vm_mapping *m)
{
	MA_STATE(mas, &d->iovas, m->iova, vm2vm_mapping_last(m));
	struct vm2vm_mapping **link = vm2vm_find_link(d, m->iova);
	int r;

	if (*link && (*link)->iova <= mas.last)
		return -EEXIST;
	if (d->nr_mappings >= KVM_VM2VM_MAX_MAPPINGS)
		return -ENOSPC;

	/* Preallocated, so that the memory is charged. */
	r = mas_preallocate(&mas, m, GFP_KERNEL_ACCOUNT);
	if (r)
		return r;

	/*
	 * First where the owner's invalidations look, then where faults do, so
	 * that there is never a translation that invalidations miss.
	 */
	write_lock(&d->gfn_lock);
	interval_tree_insert(&m->gfns, &d->gfns);
	write_unlock(&d->gfn_lock);
	mas_store_prealloc(&mas, m);
	m->next = *link;
	*link = m;
	d->nr_mappings++;
	return 0;
}

/*
 * Find as many mappings from @few->link on as are to be removed at once, of those that
 * begin at @last at the latest.  Returns whether there are any.
 */
bool vm2vm_next_few(struct vm2vm_few *few, unsigned long last)
{
	struct vm2vm_mapping *m = *few->link;

	few->nr = 0;
	few->size = 0;
	for (; m && m->iova <= last && few->nr < VM2VM_REMOVE_BATCH; m = m->next) {
		few->tail = m;
		few->size += m->gfns.last - m->gfns.start + 1;
		few->nr++;
	}
	return few->nr;
}

/* Take all mappings out of the tree of gfns. */
void vm2vm_erase_all(struct vm2vm_domain *d)
{
	lockdep_assert_held(&d->lock);

	write_lock(&d->gfn_lock);
	d->gfns = RB_ROOT_CACHED;
	write_unlock(&d->gfn_lock);
}

/* Take @few out of the tree of gfns: one by one, or, if these are all, at once. */
static void vm2vm_erase(struct vm2vm_domain *d, const struct vm2vm_few *few)
{
	struct vm2vm_mapping *m = *few->link;
	unsigned int i, left = few->nr;

	if (left == d->nr_mappings)
		vm2vm_erase_all(d);
	/* Only who has the domain's lock, as this caller, fills it. */
	while (left && !RB_EMPTY_ROOT(&d->gfns.rb_root)) {
		write_lock(&d->gfn_lock);
		for (i = 0; left && i < VM2VM_ERASE_BATCH; i++, left--, m = m->next)
			interval_tree_remove(&m->gfns, &d->gfns);
		write_unlock(&d->gfn_lock);
		cond_resched();
	}
}

/* They are in no tree any more, and faults that found them there have let go. */
static void vm2vm_free_batch(struct rcu_head *rcu)
{
	struct vm2vm_mapping *m = container_of(rcu, struct vm2vm_mapping, rcu);
	void *batch[VM2VM_FREE_BATCH];
	size_t nr = 0;

	for (; m; m = m->next)
		batch[nr++] = m;
	kfree_bulk(nr, batch);
}

/* Free @m and what comes after it, once no fault looks at them. */
static void vm2vm_free(struct vm2vm_mapping *m)
{
	struct vm2vm_mapping *tail, *next;
	unsigned int i;

	for (; m; m = next) {
		tail = m;
		for (i = 1; i < VM2VM_FREE_BATCH && tail->next; i++)
			tail = tail->next;
		next = tail->next;
		tail->next = NULL;
		call_rcu(&m->rcu, vm2vm_free_batch);
	}
}

/*
 * Take @few out of both trees, and free them.  @mas is for what they span and has the
 * memory that this needs.
 */
void vm2vm_remove(struct vm2vm_domain *d, struct ma_state *mas, struct vm2vm_few *few)
{
	struct vm2vm_mapping *first = *few->link;

	lockdep_assert_held(&d->lock);

	vm2vm_erase(d, few);
	mas_store_prealloc(mas, NULL);
	d->nr_mappings -= few->nr;
	*few->link = few->tail->next;
	few->tail->next = NULL;
	vm2vm_free(first);
}

/* Which pages of @part, which has no more than BITS_PER_LONG. */
static unsigned long vm2vm_part_mask(const struct vm2vm_part *part)
{
	return part->mask & (~0UL >> (BITS_PER_LONG - 1 - (part->last - part->first)));
}

/*
 * Make @part one with @prev, which is another, if that is all of both and nothing else; or,
 * with @masks, what masks permit.
 */
static bool vm2vm_merge(struct vm2vm_part *prev, const struct vm2vm_part *part, bool masks)
{
	unsigned long first = min(prev->first, part->first);
	unsigned long last = max(prev->last, part->last);
	bool all = prev->mask == ~0UL && part->mask == ~0UL;

	if (all && (part->first == prev->last + 1 || prev->first == part->last + 1)) {
		/* Nothing to add. */
	} else if (masks && last - first < BITS_PER_LONG) {
		prev->mask = vm2vm_part_mask(prev) << (prev->first - first) |
			     vm2vm_part_mask(part) << (part->first - first);
	} else {
		return false;
	}
	prev->first = first;
	prev->last = last;
	return true;
}

/* Add the iovas @first to @last, of which @p has none, where there is room. */
void vm2vm_add_iovas(struct vm2vm_parts *p, unsigned long first, unsigned long last)
{
	struct vm2vm_part part = { .first = first, .last = last, .mask = ~0UL };

	if (!p->nr || !vm2vm_merge(&p->part[p->nr - 1], &part, false))
		p->part[p->nr++] = part;
}

/* Add to @p what mapping @m has of @g, if there is room. */
static bool vm2vm_add_part(struct vm2vm_parts *p, const struct vm2vm_mapping *m,
			   const struct vm2vm_gfns *g)
{
	gfn_t lo = max(m->gfns.start, g->start), hi = min(m->gfns.last, g->last);
	struct vm2vm_part part = {
		.first = m->iova + (lo - m->gfns.start),
		.last = m->iova + (hi - m->gfns.start),
		.mask = g->mask,
	};

	if (part.mask != ~0UL) {
		part.mask >>= lo - g->base;
		part.mask &= ~0UL >> (BITS_PER_LONG - 1 - (hi - lo));
		if (!part.mask)
			return true;
	}
	/* Only write access may be taken by masks. */
	if (p->nr && vm2vm_merge(&p->part[p->nr - 1], &part, g->flags))
		return true;
	if (p->nr == VM2VM_PARTS)
		return false;
	p->part[p->nr++] = part;
	return true;
}

/*
 * Add to @p the iovas that @g has.  If there is not enough room @g is what is left to
 * collect with an empty @p; parts may then come a second time.
 */
enum vm2vm_collected vm2vm_collect(struct vm2vm_domain *d, struct vm2vm_gfns *g,
				   struct vm2vm_parts *p)
{
	enum vm2vm_collected r = VM2VM_ALL;
	struct interval_tree_node *node;
	unsigned int nr = p->nr, left = VM2VM_COLLECT;
	struct vm2vm_mapping *m;

	read_lock(&d->gfn_lock);
	node = interval_tree_iter_first(&d->gfns, g->start, g->last);
	for (; node; node = interval_tree_iter_next(node, g->start, g->last)) {
		m = container_of(node, struct vm2vm_mapping, gfns);
		if (left && (~m->flags & g->flags || vm2vm_add_part(p, m, g))) {
			left--;
			continue;
		}
		/* They come in the order of their first gfns. */
		r = VM2VM_FULL;
		if (nr)
			p->nr = nr;
		else if (node->start > g->start)
			g->start = node->start;
		else
			r = VM2VM_TOO_MANY;
		break;
	}
	read_unlock(&d->gfn_lock);
	return r;
}
