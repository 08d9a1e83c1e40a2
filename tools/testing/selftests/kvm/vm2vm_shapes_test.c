// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm: who links whom, and how it ends.
 *
 * VMs that link each other or make a ring, many links, many backends, a page at
 * many iovas; descriptors closed in every order, thousands of lives that must
 * leave nothing behind, and deaths at any moment.
 *
 * VM2VM_TRIALS in the environment is the number of cycles of make, link, use and
 * end, and of the deaths; 1000 each by default.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "vm2vm_harness.h"
#include "vm2vm/shapes/shapes.h"

/* Much of a VM's making and ending is waiting: so do more than one at a time. */
#define WORKERS		4

FIXTURE(shapes)
{
	unsigned int trials;
};

FIXTURE_SETUP(shapes)
{
	self->trials = vm2vm_trials(1000);
	node_template_init();
}

FIXTURE_TEARDOWN(shapes)
{
}

/* Run @fn(i) for all i below @nr, in processes. */
static void spread(unsigned int workers, unsigned int nr,
		   void (*fn)(unsigned int worker, unsigned int workers, unsigned int nr))
{
	pid_t pid[WORKERS];
	unsigned int i;
	int status;

	for (i = 0; i < workers; i++) {
		pid[i] = node_fork();
		if (!pid[i]) {
			fn(i, workers, nr);
			fflush(NULL);
			_exit(0);
		}
	}
	for (i = 0; i < workers; i++) {
		TEST_ASSERT(waitpid(pid[i], &status, 0) == pid[i], "waitpid");
		TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status),
			    "worker %u failed: status 0x%x", i, status);
	}
}

/* Every method in every order; with few trials each in some of them. */
static void run_world(unsigned int trials, unsigned int nr, bool processes, unsigned int methods)
{
	unsigned int method, order, step = trials < 500 ? 3 : 1;

	for (method = 0; method < NR_METHODS; method++) {
		if (!(methods & BIT(method)))
			continue;
		for (order = method % step; order < factorial(nr); order += step)
			world_run(nr, processes, method, order);
	}
}

#define METHODS_HERE	(BIT(BY_UNMAP) | BIT(BY_UNLINK) | BIT(BY_CLOSE) | BIT(BY_DESTROY))

TEST_F_TIMEOUT(shapes, each_other, 120)
{
	run_world(1000, 2, false, METHODS_HERE);
}

TEST_F_TIMEOUT(shapes, each_other_processes, 120)
{
	run_world(1000, 2, true, METHODS_HERE | BIT(BY_KILL));
}

TEST_F_TIMEOUT(shapes, ring, 120)
{
	run_world(self->trials, 3, false, METHODS_HERE);
}

TEST_F_TIMEOUT(shapes, ring_processes, 120)
{
	run_world(self->trials, 3, true, METHODS_HERE | BIT(BY_KILL));
}

/* An owner without vCPU, every page of which has its tag. */
static void init_owner(struct node *o)
{
	unsigned int p;

	node_init(o, NODE_MAX - 1);
	node_create_owner(o);
	node_create_domain(o);
	for (p = 0; p < NODE_PAGES; p++)
		o->own[p][NODE_WORD_OWNER] = NODE_TAG(NODE_MAX - 1, p, 1);
}

static void free_node(struct node *n)
{
	node_destroy(n);
	node_fini(n);
}

/* What the guest reads on page @p of a window that shows @o; or a hole. */
static void check_page(struct node *n, struct node *o, unsigned int w, unsigned int p, bool hole)
{
	uint64_t val = node_read(n, NODE_WINDOW(w) + p * 4096);

	TEST_ASSERT(val == (hole ? NODE_HOLE : o->own[p][NODE_WORD_OWNER]),
		    "window %u, page %u: 0x%lx", w, p, val);
}

#define LINKS	64

static void check_windows(struct node *n, struct node *o, unsigned int holes)
{
	unsigned int w, p;

	for (w = 0; w < LINKS; w++)
		for (p = 0; p < NODE_PAGES; p += 3)
			check_page(n, o, w, p, holes & BIT(p));
}

/* One domain at 64 places of a backend: all show the same, and lose the same. */
TEST_F_TIMEOUT(shapes, links_64, 120)
{
	unsigned int w, odd = NODE_WORD_FROM(0) * 8;
	struct node o, b;

	init_owner(&o);
	node_init(&b, 0);
	node_create(&b);
	for (w = 0; w < LINKS; w++)
		node_link(&b, o.domain, w);
	check_windows(&b, &o, 0);
	for (w = 0; w < LINKS; w++) {
		node_write(&b, NODE_WINDOW(w) + odd, w);
		TEST_ASSERT_EQ(node_read(&b, NODE_WINDOW(LINKS - 1 - w) + odd), w);
	}

	vm2vm_unmap(o.domain, NODE_IOVA, NODE_SIZE);
	check_windows(&b, &o, ~0);
	vm2vm_map(o.domain, NODE_IOVA, NODE_OWN, 4096, VM2VM_RW);
	vm2vm_map(o.domain, NODE_IOVA + 2 * 4096, NODE_OWN + 2 * 4096, NODE_SIZE - 2 * 4096,
		  VM2VM_RW);
	check_windows(&b, &o, 0);
	vm2vm_unmap(o.domain, NODE_IOVA, 4096);
	check_windows(&b, &o, BIT(0));

	for (w = 0; w < LINKS; w += 2)
		node_unlink(&b, w);
	for (w = 0; w < LINKS; w++)
		check_page(&b, &o, w, 3, !(w % 2));
	node_close(&o.domain);
	for (w = 0; w < LINKS; w++)
		check_page(&b, &o, w, 3, true);
	free_node(&b);
	free_node(&o);
}

#define BACKENDS	32

/* All backends read and write at once while the owner revokes, and approves again. */
static void backends_revoke(struct node *o, struct node *b)
{
	unsigned int i, p;

	node_wait_passes(b, BACKENDS, 1);
	for (i = 0; i < BACKENDS; i++)
		for (p = 0; p < NODE_PAGES; p++)
			TEST_ASSERT(READ_ONCE(o->own[p][NODE_WORD_FROM(i)]) ==
				    NODE_TAG(i, p, NODE_GEN(o->own[p][NODE_WORD_FROM(i)])),
				    "backend %u, page %u", i, p);

	vm2vm_unmap(o->domain, NODE_IOVA, NODE_SIZE);
	for (p = 0; p < NODE_PAGES; p++)
		for (i = 0; i <= BACKENDS; i++)
			WRITE_ONCE(o->own[p][i], NODE_CANARY);
	node_wait_passes(b, BACKENDS, 1);
	for (i = 0; i < BACKENDS; i++)
		node_check(&b[i]);
	for (p = 0; p < NODE_PAGES; p++) {
		for (i = 0; i < BACKENDS; i++)
			TEST_ASSERT(READ_ONCE(o->own[p][NODE_WORD_FROM(i)]) == NODE_CANARY,
				    "backend %u has still overwritten page %u", i, p);
		o->own[p][NODE_WORD_OWNER] = NODE_TAG(NODE_MAX - 1, p, 2);
	}
	node_map_all(o);
	for (i = 0; i < BACKENDS; i++)
		NODE_WAIT(READ_ONCE(b[i].ctl->seen[0][NODE_PAGES - 1]) == 2,
			  "backend %u does not see what is approved again", i);
}

TEST_F_TIMEOUT(shapes, backends_32, 120)
{
	struct node o, b[BACKENDS];
	unsigned int i;

	init_owner(&o);
	for (i = 0; i < BACKENDS; i++) {
		node_init(&b[i], i);
		node_create(&b[i]);
		node_link(&b[i], o.domain, 0);
		b[i].ctl->owners[0] = NODE_MAX - 1;
		b[i].ctl->nr_windows = 1;
	}
	for (i = 0; i < BACKENDS; i++)
		node_go(&b[i]);
	backends_revoke(&o, b);

	for (i = 0; i < BACKENDS; i++)
		node_stop(&b[i]);
	/* Each is left alone by the end of others. */
	for (i = 0; i < BACKENDS; i += 2)
		free_node(&b[i]);
	for (i = 1; i < BACKENDS; i += 2)
		check_page(&b[i], &o, 0, i % NODE_PAGES, false);
	node_destroy(&o);
	for (i = 1; i < BACKENDS; i += 2) {
		check_page(&b[i], &o, 0, i % NODE_PAGES, true);
		free_node(&b[i]);
	}
	node_fini(&o);
}

#define IOVAS	16

/* What the guest reads at the 16 iovas of the page. */
static void check_iovas(struct node *b, uint64_t val, unsigned int holes)
{
	unsigned int i;

	for (i = 0; i < IOVAS; i++)
		TEST_ASSERT_EQ(node_read(b, NODE_WINDOW(0) + i * 4096),
			       holes & BIT(i) ? NODE_HOLE : val);
}

/* One page of the owner at 16 iovas: whatever takes it away takes it from all. */
TEST_F_TIMEOUT(shapes, iovas_16, 120)
{
	uint64_t (*other)[512] = node_mmap(4096, MAP_SHARED | MAP_ANONYMOUS, -1);
	struct node o, b;
	unsigned int i;

	init_owner(&o);
	vm2vm_unmap(o.domain, NODE_IOVA, NODE_SIZE);
	for (i = 0; i < IOVAS; i++)
		vm2vm_map(o.domain, NODE_IOVA + i * 4096, NODE_OWN + 4096, 4096, VM2VM_RW);
	node_init(&b, 0);
	node_create(&b);
	node_link(&b, o.domain, 0);
	TEST_ASSERT(!__node_link(b.vm, o.domain, 1, NODE_IOVA + NODE_SIZE), "LINK");
	check_iovas(&b, NODE_TAG(NODE_MAX - 1, 1, 1), 0);
	node_write(&b, NODE_WINDOW(0) + 4096 * 5, 0x1234);
	check_iovas(&b, 0x1234, 0);

	vm2vm_unmap(o.domain, NODE_IOVA + 3 * 4096, 4096);
	check_iovas(&b, 0x1234, BIT(3));

	other[0][0] = 0x5678;
	TEST_ASSERT(mremap(other, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, &o.own[1]) ==
		    &o.own[1], "mremap: %s", strerror(errno));
	check_iovas(&b, 0x5678, BIT(3));

	node_set_memory(o.vm, NODE_SLOT_OWN, NODE_OWN, 0, o.own);
	check_iovas(&b, 0, ~0);
	node_set_memory(o.vm, NODE_SLOT_OWN, NODE_OWN, NODE_SIZE, o.own);
	check_iovas(&b, 0x5678, BIT(3));
	munmap(&o.own[1], 4096);
	check_iovas(&b, 0, ~0);

	free_node(&o);
	check_iovas(&b, 0, ~0);
	free_node(&b);
}

static void work_close(unsigned int worker, unsigned int workers, unsigned int nr_parts)
{
	unsigned int i;

	for (i = worker; i < factorial(nr_parts); i += workers)
		close_in_order(i, nr_parts);
}

TEST_F_TIMEOUT(shapes, close_orders, 120)
{
	spread(WORKERS, NR_PARTS_MEMORY_OWNER, work_close);
}

TEST_F_TIMEOUT(shapes, close_orders_vcpu, 120)
{
	spread(WORKERS, NR_PARTS, work_close);
}

static void work_cycles(unsigned int worker, unsigned int workers, unsigned int nr)
{
	int fds, vms = count_vms();
	struct pair p;
	unsigned int i;

	pair_init(&p);
	fds = vm2vm_count_fds();
	for (i = worker; i < nr; i += workers)
		cycle(&p, i);
	TEST_ASSERT_EQ(vm2vm_count_fds(), fds);
	TEST_ASSERT_EQ(count_vms(), vms);
	pair_fini(&p);
}

/*
 * What the kernel's memory may grow by for reasons of its own, and for each cycle:
 * less than any object of which one cycle makes one.
 */
#define NOISE		(160 * 1024)
#define NOISE_CYCLE	64

TEST_F_TIMEOUT(shapes, cycles, 240)
{
	long before, after, most;
	unsigned int i;

	/* The first fill caches. */
	spread(WORKERS, self->trials / 5 + WORKERS, work_cycles);
	before = kernel_memory();
	spread(WORKERS, self->trials, work_cycles);
	most = before + NOISE + NOISE_CYCLE * self->trials;
	/* What RCU is to free takes its time. */
	for (i = 0; (after = kernel_memory()) > most && i < 100; i++)
		usleep(100000);
	printf("# %u cycles: kernel memory grew by %ld bytes\n", self->trials, after - before);
	EXPECT_LE(after, most);
}

static void work_kill(unsigned int worker, unsigned int workers, unsigned int nr)
{
	struct kill k;
	unsigned int i;

	srandom(worker + 1);
	kill_init(&k);
	for (i = worker; i < nr; i += workers)
		kill_round(&k, i);
	printf("# worker %u: %u died before they had a domain, %u in their guest; up in %lu us\n",
	       worker, k.early, k.late, k.up);
	kill_fini(&k);
}

TEST_F_TIMEOUT(shapes, kill, 240)
{
	spread(WORKERS, self->trials, work_kill);
}

TEST_HARNESS_MAIN
