// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: what an owner has very many of is revoked, aged and logged like the rest, though
 * in pieces, or by the link instead of by the page.
 *
 * What that costs is for vm2vm_bench to say.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "vm2vm_harness.h"
#include "vm2vm_lru.h"
#include "vm2vm_peer.h"

#define PAGES		1200ul		/* of the owner */
#define AREA		(8ul << 20)	/* what the kernel knows of a link as touched, or not */
#define PARTS		32		/* how many mappings of a page it looks at one by one */
#define APART		8192		/* iovas that are looked at one by one */
#define WINDOW_SIZE	(2ul << 30)

FIXTURE(bound)
{
	struct peer p;
};

FIXTURE_SETUP(bound)
{
	struct peer *p = &self->p;

	peer_init(p, PAGES * 4096);
	virt_map_level(p->backend, PEER_WINDOW, PEER_WINDOW, WINDOW_SIZE, PG_LEVEL_1G);
}

FIXTURE_TEARDOWN(bound)
{
	peer_free(&self->p);
}

/* Approve iovas number @first up to @end for the owner's first page. */
static void approve_from(struct peer *p, uint64_t first, uint64_t end)
{
	for (; first < end; first++)
		vm2vm_map(p->domain, PEER_IOVA + first * 4096, PEER_OWNER_GPA, 4096, VM2VM_RW);
}

/* Approve @nr iovas, @stride bytes apart, for the owner's pages from the first on. */
static void approve(struct peer *p, uint64_t nr, uint64_t stride, uint64_t pages)
{
	uint64_t i;

	for (i = 0; i < nr; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * stride, PEER_OWNER_GPA + i % pages * 4096,
			  4096, VM2VM_RW);
}

static void link_all(struct peer *p, uint64_t size)
{
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, size, 0);
}

/*
 * The owner's host takes the pages away, and has others in their place, with @val.  They
 * are there before, so they are no pages that were just freed.
 */
static void replace(struct peer *p, uint64_t pages, uint64_t val)
{
	void *mem = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	uint64_t i;

	TEST_ASSERT(mem != MAP_FAILED && !madvise(mem, pages * 4096, MADV_NOHUGEPAGE), "mmap");
	for (i = 0; i < pages; i++)
		*(uint64_t *)(mem + i * 4096) = val;
	TEST_ASSERT(mremap(mem, pages * 4096, pages * 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
			   p->mem) == p->mem, "mremap: %s", strerror(errno));
}

/* All of @nr iovas of one page, in as many areas as @stride makes of them. */
static void check_aliases(struct peer *p, uint64_t nr, uint64_t stride)
{
	uint64_t round;

	approve(p, nr, stride, 1);
	link_all(p, nr * stride);
	for (round = 1; round < 5; round++) {
		replace(p, 1, round);
		TEST_ASSERT_EQ(nr * round, peer_sum(p, PEER_WINDOW, nr, stride));
	}
	/* Those that are not touched again are not there either. */
	replace(p, 1, 100);
	TEST_ASSERT_EQ(100, peer_read(p, (nr - 1) * stride));
	replace(p, 1, 200);
	TEST_ASSERT_EQ(nr * 200, peer_sum(p, PEER_WINDOW, nr, stride));
	TEST_ASSERT_EQ(0, p->mmio);
}

TEST_F(bound, aliases_as_many_as_parts)
{
	check_aliases(&self->p, PARTS, APART);
}

TEST_F(bound, aliases_one_more)
{
	check_aliases(&self->p, PARTS + 1, APART);
}

TEST_F(bound, aliases_many)
{
	check_aliases(&self->p, 1000, APART);
}

/* One after the other they are one part. */
TEST_F(bound, aliases_in_a_row)
{
	check_aliases(&self->p, PARTS + 1, 4096);
}

TEST_F(bound, aliases_in_areas_as_many_as_parts)
{
	check_aliases(&self->p, PARTS, AREA);
}

TEST_F(bound, aliases_in_areas_one_more)
{
	check_aliases(&self->p, PARTS + 1, AREA);
}

/* The window begins and ends in the middle of an area, and of what is approved. */
TEST_F(bound, aliases_around_window)
{
	struct peer *p = &self->p;
	const uint64_t stride = AREA + 4096, nr = 60, skip = 7 * (AREA + 4096);
	uint64_t round;

	approve(p, nr, stride, 1);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA + skip,
		   40 * stride + 4096, 0);
	for (round = 1; round < 4; round++) {
		replace(p, 1, round);
		TEST_ASSERT_EQ(41 * round, peer_sum(p, PEER_WINDOW, 41, stride));
	}
	EXPECT_EQ(0, p->mmio);
}

/* One invalidation of more pages, each by a mapping of its own, than are done at once. */
static void check_pages(struct peer *p, uint64_t pages)
{
	uint64_t round;

	approve(p, pages, 8192, pages);
	link_all(p, pages * 8192);
	for (round = 1; round < 4; round++) {
		replace(p, pages, round);
		TEST_ASSERT_EQ(pages * round, peer_sum(p, PEER_WINDOW, pages, 8192));
	}
	TEST_ASSERT_EQ(0, p->mmio);
}

TEST_F(bound, pages_several_times)
{
	check_pages(&self->p, 3 * PARTS + 1);
}

TEST_F(bound, pages_too_many)
{
	check_pages(&self->p, PAGES);
}

/* Mappings that overlap, long and short ones, of which a page has fewer than it takes. */
TEST_F(bound, pages_overlapping)
{
	struct peer *p = &self->p;
	const uint64_t each = 10, pages = 600;
	uint64_t i, round;

	for (i = 0; i < pages; i++)
		vm2vm_map(p->domain, PEER_IOVA + i * each * 4096, PEER_OWNER_GPA + i * 4096,
			  each * 4096, VM2VM_RW);
	link_all(p, pages * each * 4096);
	for (round = 1; round < 4; round++) {
		replace(p, pages + each, round);
		EXPECT_EQ(pages * each * round, peer_sum(p, PEER_WINDOW, pages * each, 4096));
	}
	EXPECT_EQ(0, p->mmio);
}

/* The owner's memslot goes, whose pages have more iovas than are looked at. */
TEST_F(bound, memslot)
{
	struct peer *p = &self->p;
	const uint64_t nr = 3 * PARTS;
	unsigned int i;

	approve(p, nr, 4096, 1);
	link_all(p, nr * 4096);
	*peer_word(p, 0) = 5;
	p->fill = 0xff;
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(nr * 5, peer_sum(p, PEER_WINDOW, nr, 4096));
		EXPECT_EQ(0, p->mmio);
		peer_set_memory(p, p->mem, 0, 0);
		EXPECT_EQ(-nr, peer_sum(p, PEER_WINDOW, nr, 4096));
		EXPECT_EQ(nr, p->mmio);
		p->mmio = 0;
		peer_set_memory(p, p->mem, PAGES * 4096, 0);
	}
}

/* UNMAP of more than it removes at once leaves what is around it, and nothing else. */
TEST_F(bound, unmap)
{
	struct peer *p = &self->p;
	const uint64_t nr = 10000, gap = 100, stride = 33 * 4096;
	struct kvm_vm2vm_query found;

	approve(p, nr + gap, 4096, PAGES);
	vm2vm_map(p->domain, PEER_IOVA + (nr + 2 * gap) * 4096, PEER_OWNER_GPA, 4096, VM2VM_RW);
	link_all(p, (nr + 3 * gap) * 4096);
	p->fill = 0xff;
	replace(p, PAGES, 1);
	EXPECT_EQ(nr / 33, peer_sum(p, PEER_WINDOW, nr / 33, stride));
	EXPECT_EQ(0, p->mmio);

	EXPECT_EQ((nr - 1) * 4096, vm2vm_unmap(p->domain, PEER_IOVA + 4096, (nr - 1) * 4096));
	EXPECT_EQ(1, peer_read(p, 0));
	EXPECT_EQ(1, peer_read(p, nr * 4096));
	EXPECT_EQ(0, p->mmio);
	EXPECT_EQ(-(nr / 33), peer_sum(p, PEER_WINDOW + 4096, nr / 33, stride));
	EXPECT_EQ(nr / 33, p->mmio);
	EXPECT_EQ(0, __vm2vm_query(p->domain, PEER_IOVA + 4096, &found));
	EXPECT_EQ(PEER_IOVA + nr * 4096, found.iova);

	/* What is left, by a range with gaps. */
	EXPECT_EQ((gap + 2) * 4096, vm2vm_unmap(p->domain, PEER_IOVA, (nr + 3 * gap) * 4096));
	EXPECT_EQ(-ENOENT, __vm2vm_query(p->domain, 0, &found));
}

/* The lowest iova is like any other. */
TEST_F(bound, unmap_lowest)
{
	struct peer *p = &self->p;
	struct kvm_vm2vm_query found;

	vm2vm_map(p->domain, 0, PEER_OWNER_GPA, 4096, VM2VM_RW);
	vm2vm_map(p->domain, 8192, PEER_OWNER_GPA, 4096, VM2VM_RW);
	EXPECT_EQ(4096, vm2vm_unmap(p->domain, 4096, 1 << 20));
	EXPECT_EQ(0, __vm2vm_query(p->domain, 0, &found));
	EXPECT_EQ(0, found.iova);
	EXPECT_EQ(4096, vm2vm_unmap(p->domain, 0, 4096));
	EXPECT_EQ(-ENOENT, __vm2vm_query(p->domain, 0, &found));
}

/* A harvest of a page with many iovas takes the write access from each. */
static void check_harvest(struct peer *p, uint64_t nr, uint64_t stride)
{
	uint64_t bitmap[(PAGES + 63) / 64], i;

	approve(p, nr, stride, 1);
	link_all(p, nr * stride);
	vm_set_user_memory_region(p->owner, 0, KVM_MEM_LOG_DIRTY_PAGES, PEER_OWNER_GPA, p->size,
				  p->mem);
	for (i = 0; i < nr; i++)
		peer_write(p, i * stride, i);
	kvm_vm_get_dirty_log(p->owner, 0, bitmap);
	TEST_ASSERT_EQ(1, bitmap[0]);

	/* Each write through any of them is in the next harvest, if it is the only one. */
	for (i = 0; i < nr; i += nr / 10) {
		peer_write(p, i * stride, i);
		kvm_vm_get_dirty_log(p->owner, 0, bitmap);
		TEST_ASSERT(bitmap[0] == 1, "iova %lu is not in the log", i);
	}
	kvm_vm_get_dirty_log(p->owner, 0, bitmap);
	TEST_ASSERT_EQ(0, bitmap[0]);
}

TEST_F(bound, harvest_as_many_as_parts)
{
	check_harvest(&self->p, PARTS, APART);
}

TEST_F(bound, harvest_many)
{
	check_harvest(&self->p, 500, APART);
}

TEST_F(bound, harvest_many_in_areas)
{
	check_harvest(&self->p, 100, AREA);
}

/* 64 pages, logged by one word, that are in two areas of the window and begin before it. */
TEST_F(bound, harvest_across_areas)
{
	const uint64_t before = AREA - 32 * 4096, iova[] = { PEER_IOVA, PEER_IOVA + before };
	uint64_t bitmap[(PAGES + 63) / 64], i, k;
	struct peer *p = &self->p;
	const uint64_t skip = 5;

	for (i = 0; i < 2; i++)
		vm2vm_map(p->domain, iova[i], PEER_OWNER_GPA, 64 * 4096, VM2VM_RW);
	vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA + skip * 4096,
		   2 * AREA, 0);
	vm_set_user_memory_region(p->owner, 0, KVM_MEM_LOG_DIRTY_PAGES, PEER_OWNER_GPA, p->size,
				  p->mem);
	for (k = 0; k < 2; k++) {
		for (i = skip; i < 64; i += 7) {
			peer_write(p, iova[k] - PEER_IOVA + (i - skip) * 4096, i);
			kvm_vm_get_dirty_log(p->owner, 0, bitmap);
			peer_write(p, iova[k] - PEER_IOVA + (i - skip) * 4096, i);
			kvm_vm_get_dirty_log(p->owner, 0, bitmap);
			TEST_ASSERT(bitmap[0] == 1ul << i, "0x%lx for %lu", bitmap[0], i);
		}
	}
}

/* A mapping of more pages than a word of the log has. */
TEST_F(bound, harvest_of_long_mapping)
{
	const uint64_t pages[] = { 0, 1, 62, 63, 64, 65, 127, 128 }, nr = 129;
	uint64_t bitmap[(PAGES + 63) / 64], i, k;
	struct peer *p = &self->p;

	vm2vm_map(p->domain, PEER_IOVA, PEER_OWNER_GPA, nr * 4096, VM2VM_RW);
	link_all(p, nr * 4096);
	vm_set_user_memory_region(p->owner, 0, KVM_MEM_LOG_DIRTY_PAGES, PEER_OWNER_GPA, p->size,
				  p->mem);
	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		/* What was written before is protected again each time. */
		for (k = 0; k < 2; k++) {
			peer_write(p, pages[i] * 4096, i);
			kvm_vm_get_dirty_log(p->owner, 0, bitmap);
			EXPECT_EQ(1ul << pages[i] % 64, bitmap[pages[i] / 64]);
		}
	}
}

#define LOG_SIZE	(512ul << 30)
#define LOG_IOVA	((300ul << 30) + PG_SIZE_2M - 8192)	/* two pages, and two more */

/* The log of a domain, most of which was never written to. */
TEST_F_TIMEOUT(bound, get_dirty_512g, 120)
{
	const size_t size = LOG_SIZE / 4096 / 8;
	struct peer *p = &self->p;
	uint64_t *bitmap, i, word = LOG_IOVA / 4096 / 64;
	int domain;

	domain = vm2vm_create_domain_flags(p->owner, KVM_VM2VM_DOMAIN_LOG);
	vm2vm_map(domain, LOG_IOVA, PEER_OWNER_GPA, 4 * 4096, VM2VM_RW);
	vm2vm_link(p->backend, domain, PEER_SLOT, PEER_WINDOW, LOG_IOVA, 4 * 4096, 0);
	bitmap = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(bitmap != MAP_FAILED, "mmap");

	for (i = 1; i < 4; i++)
		peer_write(p, i * 4096, i);
	EXPECT_EQ(0, __vm2vm_get_dirty(domain, 0, LOG_SIZE, bitmap));
	EXPECT_EQ(1ul << 63, bitmap[word]);
	EXPECT_EQ(3, bitmap[word + 1]);
	bitmap[word] = 0;
	bitmap[word + 1] = 0;
	for (i = 0; i < size / 8; i++)
		TEST_ASSERT(!bitmap[i], "word %lu is 0x%lx", i, bitmap[i]);

	/* Each of them was write-protected. */
	peer_write(p, 2 * 4096, 5);
	EXPECT_EQ(0, __vm2vm_get_dirty(domain, 0, LOG_SIZE, bitmap));
	EXPECT_EQ(0, bitmap[word]);
	EXPECT_EQ(1, bitmap[word + 1]);
	munmap(bitmap, size);
	close(domain);
}

static uint64_t idle_pfn(void *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	TEST_ASSERT(fd >= 0 && pread(fd, &entry, 8, (uintptr_t)mem / 4096 * 8) == 8 &&
		    entry >> 63, "pagemap: %s", strerror(errno));
	close(fd);
	return entry & ((1ull << 55) - 1);
}

static int idle_open(void)
{
	int fd = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);

	TEST_ASSERT(fd >= 0, "page_idle: %s", strerror(errno));
	return fd;
}

/* Have the kernel clear the accessed bits of the page, and call it idle. */
static void set_idle(int fd, uint64_t pfn)
{
	uint64_t bits = 1ull << pfn % 64;

	TEST_ASSERT(pwrite(fd, &bits, 8, pfn / 64 * 8) == 8, "page_idle: %s", strerror(errno));
}

static bool is_idle(int fd, uint64_t pfn)
{
	uint64_t bits;

	TEST_ASSERT(pread(fd, &bits, 8, pfn / 64 * 8) == 8, "page_idle: %s", strerror(errno));
	return bits >> pfn % 64 & 1;
}

/* Only an access makes a page young, or that it has too many iovas to know. */
static void check_age(struct peer *p, uint64_t nr, bool known)
{
	int fd = idle_open();
	uint64_t pfn;

	approve(p, nr, APART, 1);
	link_all(p, nr * APART);
	*peer_word(p, 0) = 3;
	TEST_ASSERT_EQ(nr * 3, peer_sum(p, PEER_WINDOW, nr, APART));
	/* It may still be on its way to the lists of pages, on any CPU. */
	lru_settle();
	pfn = idle_pfn(p->mem);

	set_idle(fd, pfn);
	TEST_ASSERT_EQ(known, is_idle(fd, pfn));
	TEST_ASSERT_EQ(3, peer_read(p, (nr - 1) * APART));
	TEST_ASSERT(!is_idle(fd, pfn), "the last access was not seen");
	set_idle(fd, pfn);
	TEST_ASSERT_EQ(known, is_idle(fd, pfn));
	close(fd);
}

TEST_F(bound, age_few)
{
	check_age(&self->p, 4, true);
}

TEST_F(bound, age_too_many)
{
	check_age(&self->p, 500, false);
}

/* More memslots that have the page, times domains, than are looked at: the rest is unknown. */
TEST_F(bound, age_many_memslots)
{
	const unsigned int nr = 500, domains = 10;	/* 5000 of 4096 */
	int fd = idle_open();
	struct peer *p = &self->p;
	unsigned int i;
	uint64_t pfn;

	for (i = 0; i < domains; i++)
		vm2vm_create_domain(p->owner);
	*peer_word(p, 0) = 3;
	lru_settle();
	pfn = idle_pfn(p->mem);
	set_idle(fd, pfn);
	EXPECT_TRUE(is_idle(fd, pfn));

	for (i = 0; i < nr; i++)
		vm_set_user_memory_region(p->owner, PEER_SLOT + i, 0, (1ull << 36) + i * 4096,
					  4096, p->mem);
	*peer_word(p, 0) = 4;
	set_idle(fd, pfn);
	EXPECT_FALSE(is_idle(fd, pfn));
	close(fd);
}

/* A page that no iova has is known not to be young, however many windows show another one. */
TEST_F_TIMEOUT(bound, age_unmapped, 300)
{
	int fd = idle_open(), domain = -1;
	struct peer *p = &self->p;
	unsigned int i;
	uint64_t pfn;

	for (i = 0; i < KVM_VM2VM_MAX_ALL_LINKS; i++) {
		if (i % KVM_VM2VM_MAX_LINKS == 0) {
			domain = vm2vm_create_domain(p->owner);
			vm2vm_map(domain, PEER_IOVA, PEER_OWNER_GPA + 4096, 4096, VM2VM_RW);
		}
		vm2vm_link(p->backend, domain, PEER_SLOT + i, PEER_WINDOW + i * 4096, PEER_IOVA,
			   4096, 0);
	}
	*peer_word(p, 0) = 3;
	*peer_word(p, 4096) = 1;
	EXPECT_EQ(i, peer_sum(p, PEER_WINDOW, i, 4096));
	lru_settle();
	pfn = idle_pfn(p->mem);
	set_idle(fd, pfn);
	EXPECT_TRUE(is_idle(fd, pfn));
	close(fd);
}

#define IDLE_LINKS	200u

/* Windows that nobody has touched are between those that were: these are revoked. */
TEST_F(bound, idle_between)
{
	struct peer *p = &self->p;
	unsigned int i, round;

	approve(p, 1, 4096, 1);
	for (i = 0; i < IDLE_LINKS; i++)
		vm2vm_link(p->backend, p->domain, PEER_SLOT + i, PEER_WINDOW + i * 8192, PEER_IOVA,
			   4096, 0);
	for (round = 1; round < 6; round++) {
		replace(p, 1, round);
		for (i = 0; i < IDLE_LINKS; i += 33 * round)
			EXPECT_EQ(round, peer_read(p, i * 8192));
		EXPECT_EQ(round, peer_read(p, (IDLE_LINKS - 1) * 8192));
	}
	EXPECT_EQ(0, p->mmio);
}

/* What another thread does until it is told to stop. */
struct churn {
	struct peer *p;
	bool stop;
	unsigned long rounds;
	pthread_t thread;
};

static void churn_start(struct churn *c, struct peer *p, void *(*fn)(void *arg))
{
	*c = (struct churn) { .p = p };
	TEST_ASSERT(!pthread_create(&c->thread, NULL, fn, c), "pthread_create");
}

/* The same, for what is done over and over; returns when it has been done once. */
static void churn_begin(struct churn *c, struct peer *p, void *(*fn)(void *arg))
{
	churn_start(c, p, fn);
	while (!READ_ONCE(c->rounds))
		usleep(1000);
}

static void churn_stop(struct churn *c)
{
	WRITE_ONCE(c->stop, true);
	pthread_join(c->thread, NULL);
	TEST_ASSERT(c->rounds, "it did nothing");
}

/* The first of the owner's pages is taken away, over and over. */
static void *churn_dontneed(void *arg)
{
	struct churn *c = arg;

	while (!READ_ONCE(c->stop)) {
		TEST_ASSERT(!madvise(c->p->mem, 4096, MADV_DONTNEED), "madvise");
		WRITE_ONCE(c->rounds, c->rounds + 1);
	}
	return NULL;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

#define LINK_ROUNDS	41
#define LINK_STOPS	2	/* in so many of them the machine may have been stopped */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* How long LINK and UNLINK take in @p's backend; returns the longest but LINK_STOPS. */
static double link_time(struct peer *p, const char *when)
{
	double t[LINK_ROUNDS];
	unsigned int i;

	for (i = 0; i < LINK_ROUNDS; i++) {
		t[i] = seconds();
		vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA, 4096, 0);
		vm2vm_unlink(p->backend, PEER_SLOT);
		t[i] = seconds() - t[i];
	}
	qsort(t, LINK_ROUNDS, sizeof(*t), compare);
	ksft_print_msg("LINK and UNLINK of a stranger, %s: median %.4f s, longest %.4f s\n", when,
		       t[LINK_ROUNDS / 2], t[LINK_ROUNDS - 1]);
	return t[LINK_ROUNDS - 1 - LINK_STOPS];
}

/*
 * Whether that took less than a second.  In a process of its own: VMs of one
 * process have their memslots wait for each other's MMU notifiers.
 */
static bool links_quickly(const char *when)
{
	struct peer stranger;
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		peer_init(&stranger, 4096);
		_exit(link_time(&stranger, when) >= 1);
	}
	TEST_ASSERT(pid > 0 && waitpid(pid, &status, 0) == pid, "fork: %s", strerror(errno));
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

#define STRANGER_LINKS	500u

/* Others' windows come and go as fast as ever while somebody walks over a lot of links. */
TEST_F_TIMEOUT(bound, stranger, 120)
{
	struct peer *p = &self->p, none = { .mem = peer_mmap(4096, 0) };
	struct churn c;
	unsigned int i;

	approve(p, PARTS + 1, APART, 1);
	for (i = 0; i < STRANGER_LINKS; i++)
		vm2vm_link(p->backend, p->domain, PEER_SLOT + i, PEER_WINDOW + i * PG_SIZE_2M,
			   PEER_IOVA, 128 * 4096, 0);

	EXPECT_TRUE(links_quickly("alone"));
	/* The same work for the host's CPUs, without a walk. */
	churn_begin(&c, &none, churn_dontneed);
	EXPECT_TRUE(links_quickly("beside a busy thread"));
	churn_stop(&c);
	churn_begin(&c, p, churn_dontneed);
	EXPECT_TRUE(links_quickly("beside a walk"));
	churn_stop(&c);
}

/* Windows of the domain itself, too; what is linked anew shows what there is then. */
TEST_F_TIMEOUT(bound, links_go, 120)
{
	unsigned int i, rounds = vm2vm_trials(100);
	struct peer *p = &self->p;
	struct churn c;

	approve(p, PARTS + 1, APART, 1);
	*peer_word(p, 4096) = 7;
	vm2vm_map(p->domain, PEER_IOVA + PG_SIZE_2M, PEER_OWNER_GPA + 4096, 4096, VM2VM_RW);
	churn_begin(&c, p, churn_dontneed);
	for (i = 0; i < rounds; i++) {
		vm2vm_link(p->backend, p->domain, PEER_SLOT, PEER_WINDOW, PEER_IOVA,
			   2 * PG_SIZE_2M, 0);
		vm2vm_link(p->backend, p->domain, PEER_SLOT + 1, PEER_WINDOW + 2 * PG_SIZE_2M,
			   PEER_IOVA, 2 * PG_SIZE_2M, 0);
		EXPECT_EQ(7, peer_read(p, PG_SIZE_2M));
		EXPECT_EQ(7, peer_read(p, 3 * PG_SIZE_2M));
		vm2vm_unlink(p->backend, PEER_SLOT + i % 2);
		vm2vm_unlink(p->backend, PEER_SLOT + 1 - i % 2);
	}
	churn_stop(&c);
	EXPECT_EQ(0, p->mmio);
}

static void *churn_map(void *arg)
{
	const uint64_t iova = PEER_IOVA + 100 * 4096;
	struct churn *c = arg;

	while (!READ_ONCE(c->stop)) {
		vm2vm_map(c->p->domain, iova, PEER_OWNER_GPA, 4096, VM2VM_RW);
		vm2vm_unmap(c->p->domain, iova, 4096);
		WRITE_ONCE(c->rounds, c->rounds + 1);
	}
	return NULL;
}

/* Mappings of the page come and go while it is revoked: each that stays follows it. */
TEST_F_TIMEOUT(bound, mappings_go, 120)
{
	const uint64_t nr = PARTS + 2;
	struct peer *p = &self->p;
	struct churn c;
	uint64_t i;

	approve(p, nr, 4096, 1);
	link_all(p, 200 * 4096);
	churn_begin(&c, p, churn_map);
	for (i = 1; i < vm2vm_trials(100) + 1; i++) {
		/* As many as are looked at one by one and more, in turns. */
		if (i % 2)
			vm2vm_unmap(p->domain, PEER_IOVA + (nr - 4) * 4096, 4 * 4096);
		else
			approve_from(p, nr - 4, nr);
		replace(p, 1, i);
		EXPECT_EQ((nr - 4) * i, peer_sum(p, PEER_WINDOW, nr - 4, 4096));
	}
	churn_stop(&c);
	EXPECT_EQ(0, p->mmio);
}

/* VMs end, with so many windows that a walk stops at one that nobody has touched. */
TEST_F_TIMEOUT(bound, backends_go, 120)
{
	unsigned int i, k, rounds = vm2vm_trials(20);
	struct peer *p = &self->p;
	struct kvm_vm *vm;
	struct churn c;

	churn_begin(&c, p, churn_map);
	for (i = 0; i < rounds; i++) {
		vm = vm_create_barebones();
		for (k = 0; k < 64; k++)
			vm2vm_link(vm, p->domain, PEER_SLOT + k, PEER_WINDOW + k * 4096,
				   PEER_IOVA + 100 * 4096, 4096, 0);
		usleep(10000);
		kvm_vm_free(vm);
	}
	churn_stop(&c);
}

static void *churn_unmap(void *arg)
{
	struct churn *c = arg;

	vm2vm_unmap(c->p->domain, PEER_IOVA, 4096);
	c->rounds++;
	return NULL;
}

#define FAULT_TIME	1.5	/* seconds: what waits for an UNMAP that takes long takes more */
#define FAULT_TRIALS	5

/*
 * While UNMAP is at it, what else the domain approves can be faulted in.  The least of a few
 * times tells: the machine may be stopped in others.
 */
TEST_F_TIMEOUT(bound, fault_elsewhere, 120)
{
	double start, time, least = 2 * FAULT_TIME;
	struct peer *p = &self->p;
	struct churn c;
	unsigned int i;

	approve(p, 2, 4096, PAGES);
	*peer_word(p, 4096) = 9;
	for (i = 0; i < FAULT_TRIALS && least >= FAULT_TIME; i++) {
		/* A link that is new has no page yet. */
		link_all(p, 2 * 4096);
		start = seconds();
		churn_start(&c, p, churn_unmap);
		usleep(100000);
		EXPECT_EQ(9, peer_read(p, 4096));
		time = seconds() - start;
		least = time < least ? time : least;
		churn_stop(&c);
		vm2vm_unlink(p->backend, PEER_SLOT);
		approve(p, 1, 4096, PAGES);
	}
	EXPECT_LT(least, FAULT_TIME);
}

#define BATCH	4096ul		/* how many mappings UNMAP removes at once */

static void *churn_unmap_batch(void *arg)
{
	struct churn *c = arg;

	vm2vm_unmap(c->p->domain, PEER_IOVA, BATCH * 4096);
	WRITE_ONCE(c->rounds, 1);
	return NULL;
}

/* What UNMAP is at is not faulted in again meanwhile, neither the first page nor the last. */
TEST_F_TIMEOUT(bound, fault_at_the_edges, 120)
{
	const uint64_t offset[] = { 0, 4096, (BATCH - 2) * 4096, (BATCH - 1) * 4096 };
	struct peer *p = &self->p;
	struct churn c;
	unsigned int i;

	link_all(p, BATCH * 4096);
	for (i = 0; i < ARRAY_SIZE(offset); i++) {
		approve(p, BATCH, 4096, PAGES);
		p->mmio = 0;
		peer_read(p, offset[i]);
		EXPECT_EQ(0, p->mmio);
		churn_start(&c, p, churn_unmap_batch);
		while (!READ_ONCE(c.rounds))
			peer_read(p, offset[i]);
		churn_stop(&c);
		p->mmio = 0;
		peer_read(p, offset[i]);
		EXPECT_EQ(1, p->mmio);
	}
}

TEST_HARNESS_MAIN
