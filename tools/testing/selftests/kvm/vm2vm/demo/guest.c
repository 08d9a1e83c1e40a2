// SPDX-License-Identifier: GPL-2.0
/*
 * What runs inside the two VMs of vm2vm_demo.
 */
#include "guest.h"

#define DEMO_HOLE		(~0ul)
#define DEMO_WRITE_EVERY	16	/* one write in so many reads */
#define DEMO_SCRATCH_WORDS	2048

struct demo_job demo_job;

static u64 demo_scratch[DEMO_SCRATCH_WORDS];

u64 demo_sum_page(u64 sum, const u64 *page)
{
	size_t i;

	for (i = 0; i < PAGE_SIZE / sizeof(*page); i++)
		sum = sum * 31 + page[i];
	return sum;
}

static u64 *demo_word(u64 base, u64 page, u64 word)
{
	return (u64 *)(base + page * PAGE_SIZE) + word;
}

/*
 * The owner's guest knows its file through a table of places at the beginning
 * of the pool: page i of the file is page table[i] of the pool.
 */
static void owner_guest_sum(struct demo_job *job)
{
	const u32 *table = (const u32 *)DEMO_POOL;
	u64 i;

	job->result = 0;
	for (i = 0; i < job->pages; i++)
		job->result = demo_sum_page(job->result,
					    demo_word(DEMO_POOL, table[i], 0));
}

static void owner_guest_digest(struct demo_job *job)
{
	const u32 *table = (const u32 *)DEMO_POOL;
	int i;

	for (i = 0; i < 4; i++)
		job->digest.word[i] = READ_ONCE(*demo_word(DEMO_POOL,
							   table[job->pages], i));
}

void demo_owner_guest(void)
{
	struct demo_job *job = &demo_job;

	for (;;) {
		switch (job->op) {
		case DEMO_OWNER_SUM:
			owner_guest_sum(job);
			break;
		case DEMO_OWNER_DIGEST:
			owner_guest_digest(job);
			break;
		default:
			GUEST_FAIL("owner: no job %lu", job->op);
		}
		GUEST_SYNC(job->op);
	}
}

/*
 * Make KVM map all of the guest's own memory, page tables included, so that the
 * faults counted later are those of the windows and no others.
 */
static void backend_guest_touch_own(struct demo_job *job)
{
	u64 i;

	for (i = 0; i < job->own_pages; i++) {
		u64 *word = demo_word(DEMO_OWN, i, 0);

		WRITE_ONCE(*word, READ_ONCE(*word));
	}
}

static void backend_guest_hash_even(struct demo_job *job)
{
	struct sha256 s;
	u64 i;

	sha256_init(&s);
	for (i = 0; i < job->pages; i += 2)
		sha256_blocks(&s, demo_word(DEMO_WINDOW, i, 0), PAGE_SIZE);
	sha256_end(&s, NULL, 0, &job->digest);
}

static void backend_guest_put_digest(struct demo_job *job)
{
	int i;

	for (i = 0; i < 4; i++)
		WRITE_ONCE(*demo_word(DEMO_WINDOW, job->pages, i),
			   job->digest.word[i]);
}

/* Reads all over the file; the writes go behind the digest, in its page. */
static void backend_guest_access(struct demo_job *job)
{
	const u64 words = PAGE_SIZE / 8;
	u64 page = 0, i;

	job->result = 0;
	for (i = 0; i < job->accesses; i++) {
		READ_ONCE(*demo_word(DEMO_WINDOW, page, i % words));
		job->result++;
		if (!(i % DEMO_WRITE_EVERY)) {
			WRITE_ONCE(*demo_word(DEMO_WINDOW, job->pages,
					      words / 2 + i % (words / 2)), i);
			job->result++;
		}
		if (++page == job->pages)
			page = 0;
	}
}

static void backend_guest_read_huge(struct demo_job *job)
{
	u64 i, word;

	job->result = 0;
	for (i = 0; i < DEMO_HUGE_PAGES; i++) {
		word = READ_ONCE(*demo_word(DEMO_HUGE_WINDOW, i, 0));
		if (word == demo_huge_mark(i))
			job->result++;
	}
}

static void backend_guest_scan(struct demo_job *job)
{
	u64 i;

	job->result = 0;
	for (i = job->first; i < job->end; i += job->step)
		if (READ_ONCE(*demo_word(job->base, i, 0)) == DEMO_HOLE)
			job->result++;
}

static void backend_guest_poke(struct demo_job *job)
{
	u64 i;

	for (i = job->first; i < job->end; i += job->step)
		WRITE_ONCE(*demo_word(job->base, i, 0), 0);
}

void demo_self(struct sha256_digest *digest)
{
	u64 x = 1;
	size_t i;

	for (i = 0; i < DEMO_SCRATCH_WORDS; i++) {
		x = x * 6364136223846793005ul + 1442695040888963407ul;
		WRITE_ONCE(demo_scratch[i], x);
	}
	sha256_sum(demo_scratch, sizeof(demo_scratch), digest);
}

static void backend_guest_job(struct demo_job *job)
{
	switch (job->op) {
	case DEMO_NOP:
		break;
	case DEMO_TOUCH_OWN:
		backend_guest_touch_own(job);
		break;
	case DEMO_HASH:
		sha256_sum((void *)DEMO_WINDOW, job->bytes, &job->digest);
		break;
	case DEMO_HASH_EVEN:
		backend_guest_hash_even(job);
		break;
	case DEMO_PUT_DIGEST:
		backend_guest_put_digest(job);
		break;
	case DEMO_ACCESS:
		backend_guest_access(job);
		break;
	case DEMO_READ_HUGE:
		backend_guest_read_huge(job);
		break;
	case DEMO_SCAN:
		backend_guest_scan(job);
		break;
	case DEMO_POKE:
		backend_guest_poke(job);
		break;
	case DEMO_SELF:
		demo_self(&job->digest);
		break;
	default:
		GUEST_FAIL("backend: no job %lu", job->op);
	}
}

void demo_backend_guest(void)
{
	for (;;) {
		backend_guest_job(&demo_job);
		GUEST_SYNC(demo_job.op);
	}
}
