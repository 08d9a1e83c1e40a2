// SPDX-License-Identifier: GPL-2.0-only
/*
 * Messages from VM to VM, by the channels of a region
 *
 * The region can go at any moment, a page after the other, and what is read then is all-ones,
 * or what this VM has written there since.  Nothing is begun anew by that: it takes a run that
 * is none of these.  What is written is lost without a sign; so whatever is not taken yet is
 * written again when the region has come back.  x86 keeps stores in order, and loads.
 */
#include <string.h>

#include "../vm2vm.h"
#include "../vm2vm_dev.h"
#include "channel.h"

#define NOWHERE	UINT64_MAX

/* Addresses in the region are of words; the compiler is not to make anything else of them */
#define get(field)	(*(volatile __typeof__(field) *)&(field))
#define set(field, v)	(*(volatile __typeof__(field) *)&(field) = (v))

static struct region_header *header(struct region *r)
{
	return (struct region_header *)r->at;
}

static struct region_channel *channel(struct region *r, unsigned int from, unsigned int to)
{
	return (struct region_channel *)(r->at + region_channel_at(r->vms, from, to));
}

bool region_present(struct region *r)
{
	return r->vms && get(header(r)->magic) == REGION_MAGIC;
}

void region_look(struct region *r, volatile uint8_t *at, uint64_t size, uint64_t link_runs)
{
	uint64_t vms, common, comings;
	unsigned int vm;

	r->at = at;
	r->vms = 0;
	for (vm = 0; vm < REGION_MAX_VMS; vm++)
		r->peers[vm].reached = false;
	if (!at || size < REGION_PAGE || get(header(r)->magic) != REGION_MAGIC)
		return;
	vms = get(header(r)->vms);
	common = get(header(r)->common);
	comings = link_runs << 32 ^ get(header(r)->grants);
	if (vms <= r->me || vms > REGION_MAX_VMS || region_common_at(vms) > size ||
	    common > size - region_common_at(vms))
		return;
	r->vms = vms;
	r->common = common;
	for (vm = 0; vm < vms && r->comings != comings; vm++)
		r->peers[vm].written = false;
	r->comings = comings;
}

/* To the region and from it, by words, as it may be emulated */
static void copy_words(volatile void *to, const volatile void *from, size_t n)
{
	volatile uint64_t *t = to;
	const volatile uint64_t *f = from;
	size_t i;

	for (i = 0; i < n / 8; i++)
		t[i] = f[i];
}

/* A run begins, of this VM's or of the other one's: indices first, so that they go with it */
static void begin(struct peer *p, struct region_channel *mine, uint64_t run)
{
	set(mine->seen, 0);
	set(mine->head, 0);
	set(mine->tail, 0);
	p->run = run;
	p->sent = 0;
	p->taken = 0;
	set(mine->seen, run);
	p->news = true;
}

/*
 * All that the other VM may not have taken yet, and what was taken of its; unless one of the pages
 * is not there yet, of which a slot that nobody has written since is all-ones.
 */
static void write_again(struct peer *p, struct region_channel *mine)
{
	uint64_t n;

	for (n = 0; n < REGION_SLOTS; n++) {
		if (get(mine->slots[n].sum) == NOWHERE)
			return;
	}
	for (n = p->sent > REGION_SLOTS ? p->sent - REGION_SLOTS : 0; n < p->sent; n++)
		copy_words(&mine->slots[n % REGION_SLOTS], &p->kept[n % REGION_SLOTS],
			   sizeof(p->kept[0]));
	set(mine->head, p->sent);
	set(mine->tail, p->taken);
	p->written = true;
	p->news = true;
}

bool region_late(const struct region *r)
{
	unsigned int vm;

	for (vm = 0; vm < r->vms; vm++) {
		if (r->peers[vm].reached && !r->peers[vm].written)
			return true;
	}
	return false;
}

bool region_reach(struct region *r, unsigned int vm)
{
	struct peer *p = &r->peers[vm];
	struct region_channel *mine, *its;
	uint64_t run, seen, own;

	p->reached = false;
	if (!region_present(r) || vm >= r->vms || vm == r->me)
		return false;
	mine = channel(r, r->me, vm);
	its = channel(r, vm, r->me);
	run = get(its->run);
	own = get(mine->run);
	seen = get(mine->seen);
	if (run == NOWHERE || own == NOWHERE || seen == NOWHERE)
		return false;
	if (own != r->run) {
		begin(p, mine, 0);
		set(mine->run, r->run);
		seen = 0;
	}
	if (run && seen != run) {
		begin(p, mine, run);
		p->runs++;
	}
	p->reached = run && get(its->seen) == r->run;
	if (p->reached && !p->written)
		write_again(p, mine);
	return p->reached;
}

/*
 * FNV-1a, of 64 bits.  It is to tell a message from a part of one, and from what an earlier run
 * has left there, not to protect it.  Never all-ones.
 */
static uint64_t message_sum(const struct region_message *m, uint64_t run, uint64_t index)
{
	uint64_t sum = 0xcbf29ce484222325ULL ^ run ^ index ^ (uint64_t)m->kind << 32 ^ m->length;
	uint32_t i;

	for (i = 0; i < m->length; i++)
		sum = (sum ^ m->text[i]) * 0x100000001b3ULL;
	return sum & ~(1ULL << 63);
}

bool region_send(struct region *r, unsigned int vm, uint32_t kind, const void *text, uint32_t len)
{
	struct peer *p = &r->peers[vm];
	struct region_channel *mine;
	struct region_message *m;

	/* An index that makes no sense is a ring that is full */
	if (!p->reached || !p->written || !region_present(r) ||
	    p->sent - get(channel(r, vm, r->me)->tail) >= REGION_SLOTS)
		return false;
	mine = channel(r, r->me, vm);
	m = &p->kept[p->sent % REGION_SLOTS];
	memset(m, 0, sizeof(*m));
	m->kind = kind;
	m->length = len;
	memcpy(m->text, text, len);
	m->sum = message_sum(m, r->run, p->sent);
	copy_words(&mine->slots[p->sent % REGION_SLOTS], m, sizeof(*m));
	p->sent++;
	set(mine->head, p->sent);
	return true;
}

bool region_take(struct region *r, unsigned int vm, struct region_message *m)
{
	struct peer *p = &r->peers[vm];
	struct region_channel *its;
	uint64_t head;

	if (!p->reached || !region_present(r))
		return false;
	its = channel(r, vm, r->me);
	head = get(its->head);
	if (head == p->taken || head - p->taken > REGION_SLOTS)
		return false;
	copy_words(m, &its->slots[p->taken % REGION_SLOTS], sizeof(*m));
	/* Or it is not there, and will be written again */
	if (m->length > REGION_TEXT || m->sum != message_sum(m, p->run, p->taken)) {
		p->again++;
		return false;
	}
	p->taken++;
	set(channel(r, r->me, vm)->tail, p->taken);
	return true;
}

uint32_t region_pattern(uint64_t index, unsigned int from, uint8_t *text)
{
	uint32_t len = 1 + (index * 37 + from) % REGION_TEXT;

	pattern(from + 1, index * REGION_TEXT, text, len);
	return len;
}
