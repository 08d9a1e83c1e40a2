// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_abi_test: MAP_BATCH and UNMAP_BATCH.  A batch fails as the single call
 * does, and stops there: what it did before stays done, and the argument says how
 * far it came.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "abi.h"

#define GOOD	0x500000ull	/* iova of what batches do beside the bad entry */

/* A batch, and the call that it is for. */
struct batch {
	struct env *e;
	unsigned long call;
	struct kvm_vm2vm_batch args;
};

static struct batch make_batch(struct env *e, unsigned long call, void *entries, uint32_t nr)
{
	return (struct batch) { e, call, { (uintptr_t)entries, nr } };
}

/* It fails, and says that it has not done anything. */
static void batch_fails(struct batch *b, const char *name, int err)
{
	struct __test_metadata *_metadata = b->e->metadata;
	struct kvm_vm2vm_batch sent = b->args;
	int r = vm2vm_ioctl(b->e->domain, b->call, &b->args);

	EXPECT_EQ(0, memcmp(&sent, &b->args, sizeof(sent)))
		TH_LOG("%s: moved on", name);
	fails(b->e, name, err, r);
}

/* It does @done entries, and returns 0. */
static void batch_works(struct batch *b, const char *name, uint32_t done)
{
	struct __test_metadata *_metadata = b->e->metadata;
	struct kvm_vm2vm_batch want = b->args;
	int r = vm2vm_ioctl(b->e->domain, b->call, &b->args);

	want.nr -= done;
	want.entries += done * (b->call == KVM_VM2VM_MAP_BATCH ? sizeof(struct kvm_vm2vm_map) :
								 sizeof(struct kvm_vm2vm_unmap));
	EXPECT_EQ(0, memcmp(&want, &b->args, sizeof(want)))
		TH_LOG("%s: %u left, should be %u", name, b->args.nr, want.nr);
	works(b->e, name, 0, r);
}

/* The domain has what is there at first, and @pages more. */
static void batch_left(struct env *e, const char *name, uint64_t pages)
{
	works(e, name, 10 + pages, e->before.lists[0].size / PG);
}

static const struct { const char *name; uint64_t entries; } bad_entries[] = {
	{ "NULL", 0 },
	{ "the last page", -4096ull },
	{ "the last byte", -1 },
	{ "kernel memory", 0xffff888000000000 },
	{ "no address at all", 1ull << 63 },
};

static void batch_fields(struct env *e, unsigned long call, void *entry)
{
	const struct row rows[] = {
		{ "flag bit 0", EINVAL, BATCH(entry, 1, 1) },
		{ "flag bits 1 to 30", EINVAL, BATCH(entry, 1, 0x7ffffffe) },
		{ "flag bit 31", EINVAL, BATCH(entry, 1, 1u << 31) },
		{ "flag without entries", EINVAL, BATCH(NULL, 0, 1) },
		{ "flag and NULL", EINVAL, BATCH(NULL, 1, 1) },
	};
	struct batch b;
	int i;

	run_rows(e, FD_DOMAIN, call, rows, ARRAY_SIZE(rows));
	for (i = 0; i < ARRAY_SIZE(bad_entries); i++) {
		b = make_batch(e, call, (void *)bad_entries[i].entries, 1);
		batch_fails(&b, bad_entries[i].name, EFAULT);
		b.args.nr = -1;
		batch_fails(&b, bad_entries[i].name, EFAULT);
		b.args.nr = 0;
		batch_works(&b, bad_entries[i].name, 0);
	}
	b = make_batch(e, call, entry, 0);
	batch_works(&b, "no entries", 0);
}

TEST_F(abi, batch_fields)
{
	unmap_entry.iova = M1;
	unmap_entry.size = 8 * PG;
	batch_fields(&self->env, KVM_VM2VM_MAP_BATCH, &map_entry);
	batch_fields(&self->env, KVM_VM2VM_UNMAP_BATCH, &unmap_entry);
	batch_left(&self->env, "nothing was done", 0);
}

/* Everything that MAP does not take, alone and behind what it takes. */
TEST_F_TIMEOUT(abi, map_batch, 120)
{
	struct env *e = &self->env;
	struct kvm_vm2vm_map entries[4] = {
		{ GOOD, MEM, PG, RD }, { GOOD + PG, MEM, 2 * PG, VM2VM_RW },
		{}, { GOOD + 3 * PG, MEM, PG, RD },
	};
	const struct row *row;
	struct batch b;
	int k;

	for (row = map_rows; row < map_rows + nr_map_rows; row++) {
		entries[2] = row->args.map;
		b = make_batch(e, KVM_VM2VM_MAP_BATCH, entries + 2, 1);
		batch_fails(&b, row->name, row->err);
		b.args.nr = 2;
		batch_fails(&b, row->name, row->err);
		k = 1 + (row - map_rows) % 2;
		b = make_batch(e, KVM_VM2VM_MAP_BATCH, entries + 2 - k, k + 2);
		batch_works(&b, row->name, k);
		batch_left(e, row->name, k == 1 ? 2 : 3);
		batch_fails(&b, row->name, row->err);
		works(e, row->name, (k == 1 ? 2 : 3) * PG, vm2vm_unmap(e->domain, GOOD, 4 * PG));
	}
}

TEST_F_TIMEOUT(abi, unmap_batch, 120)
{
	struct env *e = &self->env;
	struct kvm_vm2vm_unmap entries[3] = { { GOOD, PG }, {}, { M2, 2 * PG } };
	const struct row *row;
	struct batch b;

	for (row = unmap_rows; row < unmap_rows + nr_unmap_rows; row++) {
		entries[1] = row->args.unmap;
		b = make_batch(e, KVM_VM2VM_UNMAP_BATCH, entries + 1, 2);
		batch_fails(&b, row->name, row->err);
		works(e, row->name, 0, __vm2vm_map(e->domain, GOOD, MEM, PG, RD));
		b = make_batch(e, KVM_VM2VM_UNMAP_BATCH, entries, 3);
		batch_works(&b, row->name, 1);
		works(e, row->name, PG, entries[0].unmapped);
		batch_left(e, row->name, 0);
		batch_fails(&b, row->name, row->err);
	}
}

TEST_F(abi, batch_works)
{
	struct kvm_vm2vm_map maps[16];
	struct kvm_vm2vm_unmap unmaps[] = {
		{ GOOD, PG, 0, 0, -1 },		/* one */
		{ GOOD, PG, 0, 0, -1 },		/* which is gone now */
		{ GOOD + PG, 7 * PG, 0, 0, -1 },	/* some */
		{ 0, M2, 0, 0, -1 },		/* another */
		{ 0, -PG, 0, 0, -1 },		/* everything */
		{ 0, -PG, 0, 0, -1 },		/* which is nothing now */
	};
	static const uint64_t pages[] = { 1, 0, 7, 8, 10, 0 };
	struct env *e = &self->env;
	struct batch b;
	int i;

	for (i = 0; i < ARRAY_SIZE(maps); i++)
		maps[i] = (struct kvm_vm2vm_map) { GOOD + i * PG, MEM + i * PG, PG, RD };
	b = make_batch(e, KVM_VM2VM_MAP_BATCH, maps, 5);
	batch_works(&b, "some", 5);
	batch_works(&b, "none", 0);
	b.args.nr = ARRAY_SIZE(maps) - 5;
	batch_works(&b, "go on", ARRAY_SIZE(maps) - 5);
	batch_left(e, "all are there", ARRAY_SIZE(maps));
	works(e, "each is a mapping", 2 + ARRAY_SIZE(maps), e->before.stats[0][1]);

	b = make_batch(e, KVM_VM2VM_UNMAP_BATCH, unmaps, ARRAY_SIZE(unmaps));
	batch_works(&b, "unmap", ARRAY_SIZE(unmaps));
	for (i = 0; i < ARRAY_SIZE(unmaps); i++)
		works(e, "unmapped by entry", pages[i] * PG, unmaps[i].unmapped);
	works(e, "no mapping is left", 0, e->before.stats[0][1]);

	/* One batch's entries may be in each other's way. */
	maps[1].iova = maps[0].iova;
	b = make_batch(e, KVM_VM2VM_MAP_BATCH, maps, 3);
	batch_works(&b, "twice the same", 1);
	batch_fails(&b, "twice the same", EEXIST);
	b.args.entries += sizeof(maps[0]);
	b.args.nr--;
	batch_works(&b, "pass it over", 1);
}

/* Two pages for entries; what is behind them cannot be accessed. */
static void *entry_pages(void)
{
	void *pages = mmap(NULL, 3 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	TEST_ASSERT(pages != MAP_FAILED && !mprotect(pages + 2 * PG, PG, PROT_NONE), "mmap: %s",
		    strerror(errno));
	return pages;
}

TEST_F(abi, map_batch_memory)
{
	struct env *e = &self->env;
	void *pages = entry_pages(), *end = pages + 2 * PG;
	struct kvm_vm2vm_map *m;
	struct batch b;
	int i;

	m = end - 2 * sizeof(*m);
	for (i = 0; i < 2; i++)
		m[i] = (struct kvm_vm2vm_map) { GOOD + i * PG, MEM, PG, RD };
	b = make_batch(e, KVM_VM2VM_MAP_BATCH, m, -1);
	batch_works(&b, "the memory ends behind two", 2);
	works(e, "as many are left", -1u - 2, b.args.nr);
	batch_fails(&b, "no memory", EFAULT);

	works(e, "unmap", 2 * PG, vm2vm_unmap(e->domain, GOOD, 2 * PG));
	m = end - sizeof(*m) - 8;
	*m = (struct kvm_vm2vm_map) { GOOD, MEM, PG, RD };
	memset(m + 1, 0, 8);
	b = make_batch(e, KVM_VM2VM_MAP_BATCH, m, 2);
	batch_works(&b, "the memory ends in the second", 1);
	batch_fails(&b, "not all memory", EFAULT);

	/* It need not be writable, nor aligned. */
	m = pages + PG - 13;
	*m = (struct kvm_vm2vm_map) { GOOD + PG, MEM, PG, RD };
	ASSERT_EQ(0, mprotect(pages, 2 * PG, PROT_READ));
	b = make_batch(e, KVM_VM2VM_MAP_BATCH, m, 1);
	batch_works(&b, "read-only, not aligned", 1);
	batch_left(e, "it is there", 2);
}

/* What an entry has unmapped is to be told, so it must be possible. */
TEST_F(abi, unmap_batch_memory)
{
	struct env *e = &self->env;
	void *pages = entry_pages(), *end = pages + 2 * PG;
	struct kvm_vm2vm_unmap *u;
	struct batch b;

	works(e, "map", 0, __vm2vm_map(e->domain, GOOD, MEM, PG, RD));
	u = pages + PG - sizeof(*u);
	u[0] = (struct kvm_vm2vm_unmap) { GOOD, PG, 0, 0, -1 };
	u[1] = (struct kvm_vm2vm_unmap) { M1, 8 * PG, 0, 0, -1 };
	ASSERT_EQ(0, mprotect(pages + PG, PG, PROT_READ));
	b = make_batch(e, KVM_VM2VM_UNMAP_BATCH, u, 2);
	batch_works(&b, "the second is read-only", 1);
	works(e, "the first is told", PG, u[0].unmapped);
	batch_fails(&b, "read-only", EFAULT);
	batch_left(e, "nothing was done by it", 0);

	/* All of it can be read, all but the result written. */
	ASSERT_EQ(0, mprotect(pages + PG, PG, PROT_READ | PROT_WRITE));
	u = pages + PG - offsetof(struct kvm_vm2vm_unmap, unmapped);
	*u = (struct kvm_vm2vm_unmap) { M1, 8 * PG };
	ASSERT_EQ(0, mprotect(pages + PG, PG, PROT_READ));
	b = make_batch(e, KVM_VM2VM_UNMAP_BATCH, u, 1);
	batch_fails(&b, "the result is read-only", EFAULT);
	batch_left(e, "nothing was done", 0);

	ASSERT_EQ(0, mprotect(pages + PG, PG, PROT_READ | PROT_WRITE));
	u = end - sizeof(*u);
	*u = (struct kvm_vm2vm_unmap) { M1, 8 * PG, 0, 0, -1 };
	b = make_batch(e, KVM_VM2VM_UNMAP_BATCH, u, 7);
	batch_works(&b, "the memory ends behind one", 1);
	works(e, "it is told", 8 * PG, u->unmapped);
	batch_fails(&b, "no memory", EFAULT);
}

/*
 * A thread in a call that waits for a page of its input, so that it can be told
 * when it has a signal pending: before it looks at what the page has.
 */
struct stalled {
	struct batch *b;
	void *page;
	int uffd;
	pthread_t thread;
	int r;
};

static void on_signal(int sig)
{
}

static void *stalled_call(void *arg)
{
	struct stalled *s = arg;

	s->r = vm2vm_ioctl(s->b->e->domain, s->b->call, (void *)s->b->args.entries);
	return NULL;
}

/* False if there is no userfaultfd. */
static bool stall_page(struct stalled *s, void *page)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, PG }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_api api = { .api = UFFD_API };

	s->page = page;
	s->uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (s->uffd < 0 || ioctl(s->uffd, UFFDIO_API, &api))
		return false;
	TEST_ASSERT(!madvise(page, PG, MADV_DONTNEED), "MADV_DONTNEED: %s", strerror(errno));
	TEST_ASSERT(!ioctl(s->uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
		    strerror(errno));
	return true;
}

/* Make the call with @arg, and give it a signal and then @contents for the page. */
static int stall_call(struct stalled *s, struct batch *b, void *arg, void *contents)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)s->page, .src = (uintptr_t)contents, .len = PG,
	};
	struct batch call = *b;
	struct uffd_msg msg;

	call.args.entries = (uintptr_t)arg;
	s->b = &call;
	TEST_ASSERT(!pthread_create(&s->thread, NULL, stalled_call, s), "pthread_create");
	TEST_ASSERT(read(s->uffd, &msg, sizeof(msg)) == sizeof(msg), "userfaultfd: %s",
		    strerror(errno));
	TEST_ASSERT(!pthread_kill(s->thread, SIGUSR1), "pthread_kill");
	TEST_ASSERT(!ioctl(s->uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY: %s", strerror(errno));
	TEST_ASSERT(!pthread_join(s->thread, NULL), "pthread_join");
	close(s->uffd);
	return s->r;
}

TEST_F(abi, batch_signal)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct env *e = &self->env;
	void *pages = entry_pages(), *page = entry_pages();
	struct kvm_vm2vm_batch *args = pages, left;
	struct kvm_vm2vm_map *m = page;
	struct stalled s;
	struct batch b;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < 3; i++)
		m[i] = (struct kvm_vm2vm_map) { GOOD + i * PG, MEM, PG, RD };

	/* The argument itself: the signal is there before the first entry. */
	b = make_batch(e, KVM_VM2VM_MAP_BATCH, m, 3);
	if (!stall_page(&s, pages))
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	*(struct kvm_vm2vm_batch *)(page + PG) = b.args;
	fails(e, "before the first", EINTR, stall_call(&s, &b, args, page + PG));
	EXPECT_EQ(0, memcmp(args, &b.args, sizeof(*args)));
	batch_left(e, "nothing was done", 0);

	/* The second entry: it is done, and the signal found behind it. */
	m = pages + PG - sizeof(*m);
	ASSERT_TRUE(stall_page(&s, pages + PG));
	*m = (struct kvm_vm2vm_map) { GOOD + 7 * PG, MEM, PG, RD };
	left = (struct kvm_vm2vm_batch) { (uintptr_t)m, 4 };
	works(e, "in the second", 0, stall_call(&s, &b, &left, page));
	works(e, "two are left", 2, left.nr);
	works(e, "and these are", (uintptr_t)(m + 2), left.entries);
	batch_left(e, "two were done", 2);
	b.args = left;
	batch_works(&b, "go on", 2);
	batch_left(e, "all were done", 4);
}

/* Signals all the time: what comes of it is what comes without. */
TEST_F_TIMEOUT(abi, batch_interrupted, 120)
{
	const struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = {};
	struct sigaction sa = { .sa_handler = on_signal };
	uint32_t i, left, nr = vm2vm_trials(1000) * 10;
	struct kvm_vm2vm_map *m = calloc(nr, sizeof(*m));
	struct kvm_vm2vm_unmap *u = calloc(nr, sizeof(*u));
	struct env *e = &self->env;
	uint64_t sum = 0;
	int r = 0;

	for (i = 0; i < nr; i++) {
		m[i] = (struct kvm_vm2vm_map) { GOOD + i * PG, MEM, PG, RD };
		u[i] = (struct kvm_vm2vm_unmap) { GOOD + (nr - 1 - i) * PG, PG, 0, 0, -1 };
	}
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (left = nr; left && (!r || r == -EINTR);)
		r = __vm2vm_map_batch(e->domain, m + nr - left, &left);
	setitimer(ITIMER_REAL, &never, NULL);
	works(e, "map", 0, left);
	works(e, "each is a mapping", 2 + nr, e->before.stats[0][1]);
	batch_left(e, "each is there", nr);

	r = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	for (left = nr; left && (!r || r == -EINTR);)
		r = __vm2vm_unmap_batch(e->domain, u + nr - left, &left);
	setitimer(ITIMER_REAL, &never, NULL);
	works(e, "unmap", 0, left);
	for (i = 0; i < nr; i++)
		sum += u[i].unmapped;
	works(e, "each was there", nr * PG, sum);
	batch_left(e, "none is there", 0);
}
