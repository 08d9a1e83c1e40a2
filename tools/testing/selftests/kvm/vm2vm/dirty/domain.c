// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_dirty_test: the log of a domain, which has what was written by that domain.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "vm2vm_harness.h"
#include "fixture.h"
#include "owner.h"

#define LOG_PAGES	128	/* that are asked for: all of the owner's, and holes */
#define LOG_SIZE	(LOG_PAGES * 4096ul)

FIXTURE(domain)
{
	struct dirty_owner o;
	struct dirty_vm b[2];
};

/* The owner's memslots do not log, the domain does. */
FIXTURE_SETUP(domain)
{
	struct dirty_owner *o = &self->o;
	unsigned int i;

	dirty_template_init();
	owner_create(o, STYLE_GET, 0, PAGES, SPLIT);
	node_close(&o->domain);
	o->domain = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_LOG);
	domain_map_pages(o->domain, PAGES, VM2VM_RW);
	for (i = 0; i < 2; i++) {
		dirty_vm_create(&self->b[i], i + 1);
		backend_link(&self->b[i], 0, o, o->domain, 0);
	}
}

FIXTURE_TEARDOWN(domain)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		dirty_vm_destroy(&self->b[i]);
	owner_destroy(&self->o);
}

/* The log of @domain from @iova on has exactly the pages of @want, by iova. */
static void __expect_log(int domain, uint64_t iova, bool *want, unsigned int line, const char *what)
{
	uint64_t log[LOG_PAGES / 64];
	unsigned int i;
	bool is;
	int r;

	memset(log, 0x55, sizeof(log));
	r = __vm2vm_get_dirty(domain, iova, LOG_SIZE, log);
	TEST_ASSERT(!r, "line %u, %s: KVM_VM2VM_GET_DIRTY: %s", line, what, strerror(-r));
	for (i = 0; i < LOG_PAGES; i++) {
		is = log[i / 64] >> i % 64 & 1;
		TEST_ASSERT(is == want[i], "line %u, %s: page %u of the domain %s", line, what, i,
			    is ? "is reported and was not written" :
				 "was written and is not reported");
		want[i] = false;
	}
}

static void __expect_owner_log(struct dirty_owner *o, unsigned int line, const char *what)
{
	__expect_log(o->domain, DIRTY_IOVA, o->want, line, what);
}

#define EXPECT_LOG_OF(domain, iova, want, what)	__expect_log(domain, iova, want, __LINE__, what)
#define EXPECT_LOG(owner, what)			__expect_owner_log(owner, __LINE__, what)

TEST_F_TIMEOUT(domain, write, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	unsigned int i;

	EXPECT_LOG(o, "nothing yet");
	for (i = 0; i < 3; i++) {
		dirty_write(o, &b[0], 0, 3);
		dirty_write(o, &b[0], 0, 95);
		EXPECT_LOG(o, "two writes");
		EXPECT_LOG(o, "nothing since");
		dirty_read(o, &b[0], 0, 0, PAGES);
		EXPECT_LOG(o, "reads");
		dirty_write_own(o, 40);
		memset(o->want, 0, sizeof(o->want));
		EXPECT_LOG(o, "a write of the owner's");
		dirty_write(o, &b[0], 0, 40);
		dirty_write(o, &b[1], 0, 40);
		dirty_write(o, &b[1], 0, 41);
		EXPECT_LOG(o, "both backends");
		dirty_write(o, &b[1], 0, 40);
		EXPECT_LOG(o, "one of them");
	}
	for (i = 0; i < PAGES; i++)
		dirty_write(o, &b[i % 2], 0, i);
	EXPECT_LOG(o, "all pages");
	EXPECT_LOG(o, "nothing since all pages");
	EXPECT_EQ(0, b[0].mmio + b[1].mmio);
}

/* A part of the domain is taken, and the rest stays. */
TEST_F_TIMEOUT(domain, parts, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	bool want[DIRTY_MAX] = {};
	unsigned int i;
	uint64_t log;

	for (i = 0; i < 3; i++) {
		dirty_write(o, &b[0], 0, 7);
		dirty_write(o, &b[0], 0, 63);
		dirty_write(o, &b[0], 0, 64);
		EXPECT_LOG_OF(o->domain, DIRTY_IOVA - LOG_SIZE, want, "below");
		EXPECT_LOG_OF(o->domain, DIRTY_IOVA + LOG_SIZE, want, "above");
		EXPECT_LOG_OF(o->domain, 1ull << 62, want, "far above");
		EXPECT_EQ(0, __vm2vm_get_dirty(o->domain, DIRTY_IOVA + 64 * 4096, 64 * 4096, &log));
		EXPECT_EQ(1, log);
		EXPECT_EQ(0, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, 64 * 4096, &log));
		EXPECT_EQ(BIT(7) | BIT(63), log);
		EXPECT_EQ(0, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, 64 * 4096, &log));
		EXPECT_EQ(0, log);
		memset(o->want, 0, sizeof(o->want));
	}
	/* By iova, whatever the owner's page. */
	for (i = 0; i < 64; i++)
		vm2vm_map(o->domain, DIRTY_IOVA + (128 + i) * 4096, DIRTY_OWN + (95 - i) * 4096,
			  4096, VM2VM_RW);
	backend_link_at(&b[0], 1, o->domain, DIRTY_IOVA + 128 * 4096, 64, 0);
	for (i = 0; i < 64; i += 21) {
		dirty_write_at(o, &b[0], DIRTY_WINDOW(1) + i * 4096, 95 - i);
		memset(o->want, 0, sizeof(o->want));
		want[i] = true;
		EXPECT_LOG_OF(o->domain, DIRTY_IOVA + 128 * 4096, want, "another iova");
		EXPECT_LOG(o, "by another iova");
		dirty_write(o, &b[0], 0, 95 - i);
		EXPECT_LOG(o, "by the first iova");
	}
}

TEST_F_TIMEOUT(domain, revoked, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		dirty_write(o, &b[0], 0, 20);
		domain_unmap(o->domain, 20, 1);
		EXPECT_LOG(o, "UNMAP");
		dirty_do(&b[0], DIRTY_WRITE, DIRTY_WINDOW(0) + 20 * 4096, 1, ~0ull);
		EXPECT_LOG(o, "a write to a hole");
		domain_map(o->domain, 20, 1, KVM_VM2VM_MAP_READ);
		dirty_do(&b[0], DIRTY_WRITE, DIRTY_WINDOW(0) + 20 * 4096, 1, ~0ull);
		EXPECT_LOG(o, "a write that is not permitted");
		domain_unmap(o->domain, 20, 1);
		domain_map(o->domain, 20, 1, VM2VM_RW);
		dirty_write(o, &b[0], 0, 20);
		EXPECT_LOG(o, "after MAP");
		dirty_write(o, &b[0], 0, 50);
		backend_unlink(&b[0], 0);
		EXPECT_LOG(o, "UNLINK");
		backend_link(&b[0], 0, o, o->domain, 0);
		dirty_write(o, &b[0], 0, 50);
		owner_set_slot(o, 1, false, false);
		EXPECT_LOG(o, "without the owner's memslot");
		owner_set_slot(o, 1, true, false);
		dirty_write(o, &b[0], 0, 50);
		EXPECT_LOG(o, "it is back");
		EXPECT_LOG(o, "nothing since");
	}
}

/* Two domains, the first backend has one, the second the other. */
TEST_F_TIMEOUT(domain, two, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	bool want[2][DIRTY_MAX] = {};
	int domain[2];
	unsigned int i, d;

	domain[0] = o->domain;
	domain[1] = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_LOG);
	domain_map(domain[1], 0, PAGES, VM2VM_RW);
	backend_unlink(&b[1], 0);
	backend_link(&b[1], 0, o, domain[1], 0);
	for (i = 0; i < 4; i++) {
		for (d = 0; d < 2; d++) {
			dirty_write(o, &b[d], 0, 9);
			dirty_write(o, &b[d], 0, 60 + 3 * i + d);
			want[d][9] = true;
			want[d][60 + 3 * i + d] = true;
		}
		for (d = 0; d < 2; d++) {
			EXPECT_LOG_OF(domain[d], DIRTY_IOVA, want[d], "what its backend wrote");
			EXPECT_LOG_OF(domain[d], DIRTY_IOVA, want[d], "nothing since");
		}
		dirty_write(o, &b[i % 2], 0, 9);
		EXPECT_LOG_OF(domain[!(i % 2)], DIRTY_IOVA, want[0], "written by the other");
		want[0][9] = true;
		EXPECT_LOG_OF(domain[i % 2], DIRTY_IOVA, want[0], "written by its own");
	}
	node_close(&domain[1]);
	dirty_write(o, &b[0], 0, 5);
	want[0][5] = true;
	EXPECT_LOG_OF(domain[0], DIRTY_IOVA, want[0], "the one that is left");
}

TEST_F_TIMEOUT(domain, all_memory, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	bool want[DIRTY_MAX] = {};
	unsigned int i;
	int domain;

	domain = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_ALL_MEMORY | KVM_VM2VM_DOMAIN_LOG);
	backend_link_at(b, 1, domain, DIRTY_OWN, PAGES, 0);
	for (i = 0; i < 3; i++) {
		dirty_write(o, b, 1, i);
		dirty_write(o, b, 1, 90);
		want[i] = true;
		want[90] = true;
		EXPECT_LOG_OF(domain, DIRTY_OWN, want, "all memory");
		EXPECT_LOG_OF(domain, DIRTY_OWN, want, "nothing since");
		owner_set_slot(o, 0, false, false);
		owner_set_slot(o, 0, true, i % 2);
		EXPECT_LOG_OF(domain, DIRTY_OWN, want, "a memslot was gone");
	}
	node_close(&domain);
}

/* What cannot be delivered is not lost, and what is wrong takes nothing. */
TEST_F_TIMEOUT(domain, errors, 120)
{
	struct dirty_owner *o = &self->o;
	struct kvm_vm2vm_get_dirty args, good = { .iova = DIRTY_IOVA, .size = LOG_SIZE };
	struct dirty_vm *b = self->b;
	uint64_t log[LOG_PAGES / 64];
	void *half, *none;
	unsigned int i;
	int domain;

	half = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, half);
	none = half + 4096;
	ASSERT_EQ(0, mprotect(none, 4096, PROT_NONE));
	good.bitmap = (uintptr_t)log;

	dirty_write(o, &b[0], 0, 2);
	dirty_write(o, &b[0], 0, 70);
	for (i = 0; i < 9; i++) {
		args = good;
		args.iova += (i == 0) * 4096 + (i == 1) * 63 * 4096 + (i == 2);
		args.size += (i == 3) * 4096 + (i == 4) * 8;
		args.size = i == 5 ? 0 : args.size;
		args.flags = i == 6;
		args.pad = i == 7;
		args.iova = i == 8 ? -64 * 4096ul : args.iova;
		TEST_ASSERT(vm2vm_ioctl(o->domain, KVM_VM2VM_GET_DIRTY, &args) == -EINVAL,
			    "field %u is wrong, and there is no EINVAL", i);
	}
	EXPECT_EQ(-EFAULT, vm2vm_ioctl(o->domain, KVM_VM2VM_GET_DIRTY, none));
	EXPECT_EQ(-EFAULT, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, none));
	EXPECT_EQ(-EFAULT, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, none - 8));
	EXPECT_EQ(-ENOTTY, vm2vm_ioctl(o->v.vm, KVM_VM2VM_GET_DIRTY, &good));
	EXPECT_LOG(o, "after all these errors");
	/* Also what is written since. */
	dirty_write(o, &b[0], 0, 2);
	EXPECT_EQ(-EFAULT, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, none));
	dirty_write(o, &b[0], 0, 2);
	dirty_write(o, &b[0], 0, 3);
	EXPECT_LOG(o, "after an error, and writes");
	EXPECT_LOG(o, "nothing since");

	domain = owner_more_domain(o);
	EXPECT_EQ(-EINVAL, __vm2vm_get_dirty(domain, DIRTY_IOVA, LOG_SIZE, log));
	node_close(&domain);

	node_close(&o->v.vm);
	EXPECT_EQ(-ENODEV, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, log));
	munmap(half, 8192);
}

/* A harvest that waits for the page where its first result goes. */
struct waiting {
	int domain;
	uint64_t size;
	void *bitmap;
	int uffd;
	pthread_t thread;
	int r;
};

static void *waiting_harvest(void *arg)
{
	struct waiting *w = arg;

	w->r = __vm2vm_get_dirty(w->domain, DIRTY_IOVA, w->size, w->bitmap);
	return NULL;
}

/* False if there is no userfaultfd. */
static bool waiting_begin(struct waiting *w, int domain, unsigned int pages)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffd_msg msg;

	w->domain = domain;
	w->size = pages * 4096ul * 8 * 4096;
	w->bitmap = node_mmap(pages * 4096, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	w->uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (w->uffd < 0 || ioctl(w->uffd, UFFDIO_API, &api))
		return false;
	reg.range = (struct uffdio_range) { (uintptr_t)w->bitmap, 4096 };
	TEST_ASSERT(!ioctl(w->uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
		    strerror(errno));
	TEST_ASSERT(!pthread_create(&w->thread, NULL, waiting_harvest, w), "pthread_create");
	TEST_ASSERT(read(w->uffd, &msg, sizeof(msg)) == sizeof(msg), "userfaultfd: %s",
		    strerror(errno));
	return true;
}

/* The page comes, or is unmapped. */
static int waiting_end(struct waiting *w, bool comes)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)w->bitmap, 4096 } };

	if (comes)
		TEST_ASSERT(!ioctl(w->uffd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE: %s",
			    strerror(errno));
	else
		munmap(w->bitmap, 4096);
	close(w->uffd);
	TEST_ASSERT(!pthread_join(w->thread, NULL), "pthread_join");
	return w->r;
}

/* The domain ends while a harvest has bits that it cannot deliver. */
TEST_F_TIMEOUT(domain, end_before_put_back, 120)
{
	struct dirty_owner *o = &self->o;
	struct waiting w;

	dirty_write(o, &self->b[0], 0, 2);
	dirty_write(o, &self->b[0], 0, 70);
	if (!waiting_begin(&w, o->domain, 1))
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	vm2vm_end(o->domain);
	EXPECT_EQ(-EFAULT, waiting_end(&w, false));
}

/* It ends between two parts of a harvest. */
TEST_F_TIMEOUT(domain, end_between_parts, 120)
{
	struct dirty_owner *o = &self->o;
	struct waiting w;
	uint64_t *log;

	dirty_write(o, &self->b[0], 0, 2);
	if (!waiting_begin(&w, o->domain, 2))
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	vm2vm_end(o->domain);
	log = w.bitmap;
	EXPECT_EQ(-ENODEV, waiting_end(&w, true));
	EXPECT_EQ(BIT(2), log[0]);
	munmap(log, 2 * 4096);
}

/*
 * It ends while a guest writes to pages that were just protected: those writes are to be in
 * the log of a domain that has no owner any more.  They wait, or are done before; and what
 * comes when the domain has ended gets nowhere.
 */
TEST_F_TIMEOUT(domain, end_while_written, 300)
{
	unsigned int trials = 40 * vm2vm_trials(20), i, page;
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	uint64_t log[LOG_PAGES / 64], left[PAGES];

	dirty_go(b, DIRTY_PASSES, DIRTY_WINDOW(0), PAGES);
	for (i = 0; i < trials; i++) {
		dirty_wait_passes(b, 1);
		ASSERT_EQ(0, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, log));
		vm2vm_end(o->domain);
		for (page = 0; page < PAGES; page++)
			left[page] = READ_ONCE(*owner_word(o, page, 0));
		EXPECT_EQ(-ENODEV, __vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, log));
		dirty_wait_passes(b, 1);
		for (page = 0; page < PAGES; page++)
			EXPECT_EQ(left[page], READ_ONCE(*owner_word(o, page, 0)));

		node_close(&o->domain);
		o->domain = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_LOG);
		domain_map_pages(o->domain, PAGES, VM2VM_RW);
		backend_unlink(b, 0);
		backend_link(b, 0, o, o->domain, 0);
	}
	dirty_stop(b);
}

/* Whoever has the descriptor may link the domain, but not take its log. */
TEST_F_TIMEOUT(domain, foreigner, 120)
{
	struct dirty_owner *o = &self->o;
	uint64_t log[LOG_PAGES / 64];
	int status;
	pid_t pid;

	/* A fork is not to make the owner's memory copy-on-write. */
	ASSERT_EQ(0, madvise(o->mem, PAGES * 4096, MADV_DONTFORK));
	dirty_write(o, &self->b[0], 0, 7);
	pid = node_fork();
	if (!pid)
		_exit(-__vm2vm_get_dirty(o->domain, DIRTY_IOVA, LOG_SIZE, log));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(EPERM, WEXITSTATUS(status));
	EXPECT_LOG(o, "another process has asked for it");
}

/* KVM's writes for the guest, which find the page mapped or not. */
TEST_F_TIMEOUT(domain, emulated, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		write_emulated(o, b, 10 + 40 * i);
		EXPECT_LOG(o, "KVM's write");
		write_emulated(o, b, 10 + 40 * i);
		EXPECT_LOG(o, "KVM's second write");
		dirty_write(o, b, 0, 10 + 40 * i);
		EXPECT_LOG(o, "the guest's own write");
		read_emulated(o, b, 11 + 40 * i);
		EXPECT_LOG(o, "KVM's read");
	}
}

TEST_F_TIMEOUT(domain, spinning, 300)
{
	unsigned int trials = 20 * vm2vm_trials(100), i;
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = &self->b[0];

	dirty_go(b, DIRTY_PASSES, DIRTY_WINDOW(0) + 43 * 4096, 1);
	for (i = 0; i < trials; i++) {
		dirty_wait_passes(b, 1 + i % 3);
		owner_want(o, 43, 1);
		EXPECT_LOG(o, "a guest that goes on writing");
	}
	dirty_stop(b);
}

/* The memslots' logs and the domain's: none takes from the other. */
TEST_F_TIMEOUT(dirty_log, and_domain, 120)
{
	struct dirty_owner *o = &self->o;
	struct dirty_vm *b = self->b;
	bool want[DIRTY_MAX] = {};
	unsigned int i;
	int domain;

	domain_map(o->domain, 0, PAGES, VM2VM_RW);
	domain = owner_more_domain_flags(o, KVM_VM2VM_DOMAIN_LOG);
	domain_map(domain, 0, PAGES, VM2VM_RW);
	backend_link(&b[0], 0, o, domain, 0);
	backend_link(&b[1], 0, o, o->domain, 0);
	owner_log_on(o);
	for (i = 0; i < 4; i++) {
		dirty_write(o, &b[0], 0, 4);
		dirty_write(o, &b[1], 0, 5);
		dirty_write_own(o, 50);
		want[4] = true;
		if (i % 2)
			EXPECT_LOG_OF(domain, DIRTY_IOVA, want, "both logs, the domain's first");
		EXPECT_HARVEST(o, "both logs, the memslots'");
		if (!(i % 2))
			EXPECT_LOG_OF(domain, DIRTY_IOVA, want, "both logs, the domain's last");

		dirty_write(o, &b[0], 0, 4);
		EXPECT_HARVEST(o, "the memslots' log");
		dirty_write(o, &b[0], 0, 4);
		want[4] = true;
		EXPECT_LOG_OF(domain, DIRTY_IOVA, want, "two writes, with a harvest between");
		EXPECT_HARVEST(o, "the memslots' log after the domain's");
		EXPECT_HARVEST(o, "nothing since");
		EXPECT_LOG_OF(domain, DIRTY_IOVA, want, "nothing since in the domain");
		owner_log(o, false);
		dirty_write(o, &b[0], 0, 4);
		want[4] = true;
		memset(o->want, 0, sizeof(o->want));
		EXPECT_LOG_OF(domain, DIRTY_IOVA, want, "the memslots do not log");
		owner_log_on(o);
	}
	node_close(&domain);
}
