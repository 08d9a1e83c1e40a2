// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm_view_bench: what views cost, in instructions, against what does the same
 * without them.  For the Intel lab with one CPU, whose clock counts instructions.
 *
 * What the host does on top, for its own interrupts, is not counted: of many rounds
 * the cheapest is taken.
 */
#include "vm2vm_switch.h"
#include "vm2vm_bench_vm.h"

#define TRIPS		1000	/* in a round */
#define ROUNDS_VIEW	20
#define FILLS		64
#define LINKS_VIEW	200
#define COPY		4096
#define BIG		(64ul << 20)
#define PLAIN_VIEW	(KVM_VM2VM_NR_VIEWS + 1)	/* where a plain window would be */
#define SWITCHED	64	/* frames */

enum view_bench_op {
	BENCH_LOOP,	/* nothing, as often as the others do something */
	BENCH_TRIP,	/* into the view and out */
	BENCH_HYPERCALL,	/* two hypercalls that do nothing */
	BENCH_COPY_TRIP,	/* the same as BENCH_TRIP with a copy inside */
	BENCH_COPY,	/* the copy only */
	BENCH_FIRST,	/* into each of @count views for the first time */
	BENCH_FILL_OWN,	/* touch own memory, @count pages */
	BENCH_SWITCH,	/* what switch_job says */
};

static struct {
	u64 op;
	u64 count;
	u64 view;
	u64 gva;
	u64 ticks;
} view_bench;

static u64 view_bench_buffer[COPY / 8];
static u64 view_bench_firsts[FILLS];

/* A hypercall that KVM handles and that does nothing. */
static void view_bench_hypercall(void)
{
	u64 r = KVM_HC_VAPIC_POLL_IRQ;

	asm volatile("vmcall" : "+a" (r) : : "memory");
}

/* One loop for each, all the same but for what is in them. */
#define view_bench_loop(body)						\
	for (i = 0; i < view_bench.count; i++) {			\
		body;							\
		barrier();						\
	}

static void view_bench_loops(void)
{
	const void *window = (void *)view_bench.gva;
	u64 view = view_bench.view, i;

	switch (view_bench.op) {
	case BENCH_TRIP:
		view_bench_loop(vm2vm_view_enter(view); vm2vm_view_leave());
		break;
	case BENCH_HYPERCALL:
		view_bench_loop(view_bench_hypercall(); view_bench_hypercall());
		break;
	case BENCH_COPY_TRIP:
		view_bench_loop(vm2vm_view_enter(view);
				view_guest_copy(view_bench_buffer, window, COPY / 8);
				vm2vm_view_leave());
		break;
	case BENCH_COPY:
		view_bench_loop(view_guest_copy(view_bench_buffer, window, COPY / 8));
		break;
	default:
		view_bench_loop();
	}
}

static void view_bench_firsts_guest(void)
{
	u64 start, v;

	for (v = 0; v < view_bench.count; v++) {
		start = rdtsc();
		vm2vm_view_enter(view_bench.view + v);
		view_bench_firsts[v] = rdtsc() - start;
	}
	vm2vm_view_leave();
}

static void view_bench_guest(void)
{
	u64 start, i;

	for (;;) {
		start = rdtsc();
		if (view_bench.op == BENCH_FIRST)
			view_bench_firsts_guest();
		else if (view_bench.op == BENCH_SWITCH)
			switch_guest();
		else if (view_bench.op == BENCH_FILL_OWN)
			for (i = 0; i < view_bench.count; i++)
				WRITE_ONCE(*(u64 *)(view_bench.gva + i * 4096), i);
		else
			view_bench_loops();
		view_bench.ticks = rdtsc() - start;
		GUEST_SYNC(0);
	}
}

static u64 view_bench_run(struct view *w, enum view_bench_op op, u64 count, u64 view, u64 gva)
{
	int r;

	view_bench.op = op;
	view_bench.count = count;
	view_bench.view = view;
	view_bench.gva = gva;
	sync_global_to_guest(w->vm, view_bench);
	r = __view_run(&w->cpu[0]);
	TEST_ASSERT(!r, "guest: exit reason %d", r);
	sync_global_from_guest(w->vm, view_bench);
	return view_bench.ticks;
}

/* Ticks of one, without the loop around it. */
static double view_bench_best(struct view *w, enum view_bench_op op, u64 view, u64 gva)
{
	u64 best = ~0ull, loop = ~0ull, i;

	view_bench_run(w, op, 1, view, gva);
	for (i = 0; i < ROUNDS_VIEW; i++) {
		best = min_t(u64, best, view_bench_run(w, op, TRIPS, view, gva));
		loop = min_t(u64, loop, view_bench_run(w, BENCH_LOOP, TRIPS, view, gva));
	}
	return (double)(best - loop) / TRIPS;
}

static void view_bench_views(struct view *w, unsigned int first)
{
	unsigned int v;

	for (v = 0; v < FILLS; v++)
		view_link(w, first + v, 0, v % VIEW_PAGES, 1, 0);
}

/* The median of what entering a view for the first time takes. */
static u64 view_bench_first(struct view *w, unsigned int first)
{
	view_bench_run(w, BENCH_FIRST, FILLS, first, 0);
	sync_global_from_guest(w->vm, view_bench_firsts);
	return bench_median(view_bench_firsts, FILLS);
}

static double view_bench_link(struct view *w)
{
	u64 best = ~0ull, start, i;

	for (i = 0; i < LINKS_VIEW; i++) {
		start = rdtsc();
		vm2vm_link(w->vm, w->owner[0].domain, VIEW_SLOT(0), VIEW_GPA(0) - PEER_SIZE_2M * 4,
			   PEER_IOVA, 4096, 0);
		vm2vm_unlink(w->vm, VIEW_SLOT(0));
		best = min_t(u64, best, rdtsc() - start);
	}
	return best;
}

/* Exits of trips alone, other than for the host's interrupts. */
static u64 view_bench_exits(struct view *w)
{
	u64 exits[2], count[2] = { 0, 10000 }, i;

	for (i = 0; i < 2; i++) {
		exits[i] = view_exits(&w->cpu[0]);
		view_bench_run(w, BENCH_TRIP, count[i], 1, 0);
		exits[i] = view_exits(&w->cpu[0]) - exits[i];
	}
	return exits[1] - exits[0];
}

static void views(void)
{
	double trip, hypercall, copy_trip, copy;
	struct bench_memory memory;
	u64 few, many;
	struct view w;

	view_init(&w, VIEW_PAGES);
	w.cpus = 0;
	kvm_vm_free(w.vm);
	w.vm = vm_create(1);
	view_add_cpu(&w, view_bench_guest);
	bench_enter_cgroup();

	view_link(&w, 1, 0, 0, 1, 0);
	trip = view_bench_best(&w, BENCH_TRIP, 1, 0);
	hypercall = view_bench_best(&w, BENCH_HYPERCALL, 1, 0);
	copy_trip = view_bench_best(&w, BENCH_COPY_TRIP, 1, VIEW_GPA(1));
	bench_figure("view_trip_exits", view_bench_exits(&w));
	bench_figure("view_trip_instructions", trip);
	bench_figure("view_hypercall_instructions", hypercall);
	bench_figure("view_trip_ratio", trip / hypercall);

	/* Beyond the windows of views, and their span */
	vm2vm_link(w.vm, w.owner[0].domain, VIEW_SLOT(0), PEER_WINDOW, PEER_IOVA, 4096, 0);
	virt_map(w.vm, PEER_WINDOW, PEER_WINDOW, 1);
	copy = view_bench_best(&w, BENCH_COPY, 0, PEER_WINDOW);
	bench_figure("view_copy_plain_instructions", copy);
	bench_figure("view_copy_ratio", copy_trip / copy);
	vm2vm_unlink(w.vm, VIEW_SLOT(0));

	bench_figure("view_relink_instructions", view_bench_link(&w));

	/* The first time, with little memory of the VM's own and with much */
	view_bench_views(&w, 2);
	few = view_bench_first(&w, 2);
	vm_set_user_memory_region(w.vm, VIEW_SLOT(-1), 0, BENCH_OWN, BIG, peer_mmap(BIG, 0));
	bench_map_guest(&(struct peer) { .backend = w.vm }, BENCH_OWN, BIG);
	view_bench_run(&w, BENCH_FILL_OWN, BIG / 4096, 0, BENCH_OWN);
	view_bench_run(&w, BENCH_TRIP, 1, 1, 0);
	view_bench_views(&w, 2 + FILLS);
	memory = bench_memory();
	many = view_bench_first(&w, 2 + FILLS);
	memory = bench_memory_since(memory);
	bench_figure("view_first_instructions", few);
	bench_figure("view_first_64m_ratio", (double)many / few);
	bench_figure("view_bytes", (double)memory.charged / FILLS);

	bench_leave_cgroup();
	view_free(&w);
}

/* Ticks of a frame, of those that the switch takes with @views or without. */
static double view_bench_switch(struct view *w, u64 own, bool views, u64 batch)
{
	u64 best = ~0ull, i;

	switch_job = (struct switch_job){
		.from = views ? VIEW_GPA(1) : PEER_WINDOW,
		.to = views ? VIEW_GPA(2) : PEER_WINDOW + 0x400000,
		.from_view = views, .to_view = 2 * views, .own = own, .batch = batch,
		.frames = SWITCHED,
	};
	sync_global_to_guest(w->vm, switch_job);
	for (i = 0; i < ROUNDS_VIEW; i++)
		best = min_t(u64, best, view_bench_run(w, BENCH_SWITCH, 0, 0, 0));
	sync_global_from_guest(w->vm, switch_job);
	TEST_ASSERT(!switch_job.bad, "%lu frames went wrong", switch_job.bad);
	return (double)best / SWITCHED;
}

/* A switch between two owners, see vm2vm_switch.h: the same VM has windows of both kinds. */
static void switches(void)
{
	static const u64 lengths[] = { 64, 1500, 9000 };
	struct view w;
	unsigned int i;
	char name[64];
	u64 own;

	view_init(&w, SWITCH_PAGES);
	w.cpus = 0;
	kvm_vm_free(w.vm);
	w.vm = vm_create(1);
	view_add_cpu(&w, view_bench_guest);
	own = switch_add_memory(w.vm);
	for (i = 0; i < VIEW_OWNERS; i++) {
		u64 window = PEER_WINDOW + i * 0x400000;

		view_link(&w, i + 1, i, 0, SWITCH_PAGES, 0);
		vm2vm_link(w.vm, w.owner[i].domain, VIEW_SLOT(-1 - (int)i), window, PEER_IOVA,
			   SWITCH_PAGES * 4096, 0);
		virt_map_level(w.vm, window, window, PEER_SIZE_2M, PG_LEVEL_2M);
	}
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		double plain, one, four;

		switch_port_init(&w.owner[0], SWITCHED, lengths[i]);
		switch_port_init(&w.owner[1], SWITCHED, lengths[i]);
		plain = view_bench_switch(&w, own, false, SWITCH_BATCH);
		one = view_bench_switch(&w, own, true, 1);
		four = view_bench_switch(&w, own, true, SWITCH_BATCH);
		snprintf(name, sizeof(name), "view_switch_plain_%lu", lengths[i]);
		bench_figure(name, plain);
		snprintf(name, sizeof(name), "view_switch_ratio_%lu_one", lengths[i]);
		bench_figure(name, one / plain);
		snprintf(name, sizeof(name), "view_switch_ratio_%lu", lengths[i]);
		bench_figure(name, four / plain);
	}
	view_free(&w);
}

/* An exit and back, in a VM without views. */
static void plain(void)
{
	struct view w = {};

	w.vm = vm_create(1);
	view_add_cpu(&w, view_bench_guest);
	bench_figure("view_plain_exit", view_bench_best(&w, BENCH_HYPERCALL, 0, 0) / 2);
	kvm_vm_free(w.vm);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--plain")) {
		plain();
		return 0;
	}
	TEST_ASSERT(argc == 1, "usage: %s [--plain]", argv[0]);
	TEST_REQUIRE(view_feature());
	plain();
	views();
	switches();
	return 0;
}
