// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_doorbell_test: bad input, the errno it gets, and that nothing has changed.
 * There are always the doorbells of made[]; all the rest is at AT, a port and a gpa.
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include "doorbell.h"

#define AT		0x2000ull
#define F_MATCH		KVM_VM2VM_DOORBELL_DATAMATCH
#define F_PIO		KVM_VM2VM_DOORBELL_PIO
#define F_OFF		KVM_VM2VM_DOORBELL_DEASSIGN
#define F_ARRAY		KVM_VM2VM_DOORBELL_ARRAY
#define MAX_FDS		KVM_VM2VM_MAX_ROUTES

/* Descriptors, always with these numbers; FD_MADE and the next six are of made[]. */
enum {
	FD_MADE = 300, FD_EVENT = FD_MADE + 7, FD_OTHER, FD_PIPE, FD_FILE, FD_KVM, FD_VM,
	FD_VCPU, FD_DOMAIN, FD_PATH, FD_CLOSED,
};

/* What is made, and what is near to that; then others. */
enum { A_MADE, A_SWAPPED, A_MIDDLE, A_GOOD };
static const int32_t arrays[][5] = {
	{ FD_MADE + 3, FD_MADE + 4, FD_MADE + 5, FD_MADE + 6, FD_MADE + 3 },
	{ FD_MADE + 4, FD_MADE + 3, FD_MADE + 5, FD_MADE + 6 },
	{ FD_MADE + 3, FD_EVENT, FD_MADE + 5, FD_MADE + 6 },
	{ FD_EVENT, FD_OTHER, FD_EVENT },
};

static char pages[2][4096] __aligned(4096);	/* the second one is not there */
#define PAGE_END(size)	((uintptr_t)pages[1] - (size))

#define ONE(_addr, _len, _fd, _flags, ...)						\
	{ .addr = (_addr), .len = (_len), .fd = (_fd), .flags = (_flags), ##__VA_ARGS__ }
#define FDS(_addr, _len, _fds, _nr, _flags, ...)					\
	{ .addr = (_addr), .len = (_len), .fds = (_fds), .nr_fds = (_nr),		\
	  .flags = F_ARRAY | (_flags), ##__VA_ARGS__ }
#define ARR(addr, len, array, ...) FDS(addr, len, (uintptr_t)arrays[array], __VA_ARGS__)

/* With all that is valid, at AT, if not said otherwise; to be varied. */
#define ANY(addr, len, ...)	ONE(addr, len, FD_EVENT, 0, ##__VA_ARGS__)
#define ALL(len, ...)		ANY(AT, len, ##__VA_ARGS__)
#define IO(port, len, ...)	ONE(port, len, FD_EVENT, F_PIO, ##__VA_ARGS__)
#define VAL(len, val, ...)	ONE(AT, len, FD_OTHER, F_MATCH, .datamatch = (val), ##__VA_ARGS__)
#define ARR3(len, ...)		ARR(AT, len, A_GOOD, 3, 0, ##__VA_ARGS__)

struct bell_abi_row {
	const char *name;
	struct kvm_vm2vm_doorbell args, other;
};

static const struct kvm_vm2vm_doorbell made[] = {
	ONE(BELL_PORT, 2, FD_MADE, F_PIO),
	ONE(BELL_PORT + 16, 4, FD_MADE + 1, F_PIO | F_MATCH, .datamatch = 0x80000001),
	ONE(BELL_MMIO, 0, FD_MADE + 2, 0),
	ARR(BELL_MMIO + 256, 4, A_MADE, 4, 0),
};

/* What writes do: the vector of the interrupt, or -1, then the VMM gets them. */
static const struct { struct bell_at at; uint64_t val; int vector; } writes[] = {
	{ { true, BELL_PORT, 2 }, 7, 0 }, { { true, BELL_PORT, 4 }, 7, -1 },
	{ { true, BELL_PORT + 16, 4 }, 0x80000001, 1 }, { { true, BELL_PORT + 16, 4 }, 1, -1 },
	{ { false, BELL_MMIO, 1 }, 0, 2 }, { { false, BELL_MMIO, 8 }, -1, 2 },
	{ { false, BELL_MMIO + 1, 1 }, 0, -1 }, { { false, BELL_MMIO + 256, 4 }, 4, -1 },
	{ { false, BELL_MMIO + 256, 4 }, 0, 3 }, { { false, BELL_MMIO + 256, 4 }, 1, 4 },
	{ { false, BELL_MMIO + 256, 4 }, 2, 5 }, { { false, BELL_MMIO + 256, 4 }, 3, 6 },
	{ { false, BELL_MMIO + 256, 2 }, 0, -1 }, { { true, AT, 4 }, 0, -1 },
};

struct bell_abi {
	struct __test_metadata *metadata;
	struct bell_vm *a, *b;	/* whose doorbells, and whom they ring */
	int vm, next;		/* descriptors: to call, and the lowest that is not open */
	int id;			/* what the kernel calls the eventfd that was made last */
};

static int bell_abi_next(void)
{
	int fd = dup(FD_EVENT);

	close(fd);
	return fd;
}

/* The kernel gives an eventfd the lowest number that none has that still exists. */
static int bell_abi_id(int fd)
{
	char path[64];
	FILE *f;
	int id;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	TEST_ASSERT(f && fscanf(f, "%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s eventfd-id: %d", &id) == 1,
		    "no number in %s", path);
	fclose(f);
	return id;
}

static void bell_abi_check(struct bell_abi *t, const char *name, int err,
			   struct kvm_vm2vm_doorbell args, int r)
{
	struct __test_metadata *_metadata = t->metadata;

	EXPECT_EQ(-err, r)
		TH_LOG("%s (length %u, flags %x): %d, should be %d (%s)", name, args.len,
		       args.flags, r, -err, strerror(err));
	EXPECT_EQ(t->next, bell_abi_next());
}

/* To make, or with F_OFF to remove, gives @err. */
static void bell_abi_gives(struct bell_abi *t, const char *name, int err,
			   struct kvm_vm2vm_doorbell args, uint32_t flags)
{
	args.flags |= flags;
	bell_abi_check(t, name, err, args, vm2vm_ioctl(t->vm, KVM_VM2VM_DOORBELL, &args));
}

/* Neither made nor removed, in memory and among the ports if it can be there. */
static void bell_abi_refused(struct bell_abi *t, const char *name, int err,
			     struct kvm_vm2vm_doorbell args)
{
	bell_abi_gives(t, name, err, args, 0);
	bell_abi_gives(t, name, err, args, F_OFF);
	if (args.addr != AT || args.len == 8)
		return;
	bell_abi_gives(t, name, err, args, F_PIO);
	bell_abi_gives(t, name, err, args, F_PIO | F_OFF);
}

/* Let @fd be @file, which is not needed any more. */
static void bell_abi_move(int fd, int file)
{
	TEST_ASSERT(file >= 0 && dup2(file, fd) == fd, "%d: %s", fd, strerror(errno));
	close(file);
}

static struct bell_abi bell_abi_init(struct __test_metadata *metadata, struct _test_data_bell *self)
{
	struct bell_abi t = { metadata, &self->a, &self->b, self->a.vm->fd };
	int i, pipes[2], bad = pipe(pipes), fds[] = {
		pipes[0], memfd_create("file", 0), dup(t.a->vm->kvm_fd), dup(t.vm),
		dup(t.a->vcpu->fd), vm2vm_create_domain(t.a->vm), open("/", O_PATH), pipes[1],
	};

	TEST_ASSERT(!bad && !munmap(pages[1], 4096), "pipe or munmap: %s", strerror(errno));
	for (i = FD_PIPE; i <= FD_CLOSED; i++)
		bell_abi_move(i, fds[i - FD_PIPE]);
	close(FD_CLOSED);
	for (i = FD_MADE; i <= FD_OTHER; i++)
		bell_abi_move(i, bell_eventfd());
	for (i = FD_MADE; i < FD_EVENT; i++)
		bell_irqfd(t.b, i, BELL_GSI + i - FD_MADE);
	t.id = bell_abi_id(FD_OTHER);
	for (i = 0; i < MAX_FDS; i++)
		((int32_t *)pages[0])[i] = FD_EVENT;
	t.next = bell_abi_next();
	for (i = 0; i < ARRAY_SIZE(made); i++)
		bell_abi_gives(&t, "made", 0, made[i], 0);
	return t;
}

/* made[] is all that rings, and rings as ever. */
static void bell_abi_rings(struct bell_abi *t, const char *name)
{
	struct __test_metadata *_metadata = t->metadata;
	struct bell_ctl *b = t->b->ctl;
	int i, vector;

	for (i = 0; i < ARRAY_SIZE(writes); i++) {
		vector = writes[i].vector;
		b->total = 0;
		memset(b->hits, 0, sizeof(b->hits));
		t->a->exits = 0;
		bell_ring(t->a, writes[i].at, writes[i].val, 0, 1);
		bell_take(t->b);
		EXPECT_TRUE(vector < 0 ? t->a->exits == 1 && !b->total :
			    !t->a->exits && b->total == 1 && b->hits[vector] == 1)
			TH_LOG("after %s: write %d", name, i);
	}
}

/* Make doorbells at one address until there are @max in all; how many there are. */
static int bell_abi_fill(struct bell_abi *t, int max)
{
	struct kvm_vm2vm_doorbell args = ONE(BELL_MMIO + 512, 8, FD_EVENT, F_MATCH);
	int n = ARRAY_SIZE(made) + 1;	/* of which length 0 counts twice */

	for (; n < max && !vm2vm_ioctl(t->vm, KVM_VM2VM_DOORBELL, &args); n++)
		args.datamatch++;
	return n;
}

/* Nothing but made[] is left: no doorbell, though it does not ring, and no eventfd. */
static void bell_abi_done(struct bell_abi *t, const char *name)
{
	struct __test_metadata *_metadata = t->metadata;
	int i;

	bell_abi_rings(t, name);
	EXPECT_EQ(0, close_range(FD_EVENT, FD_OTHER, 0));
	for (i = FD_EVENT; i <= FD_OTHER; i++)
		bell_abi_move(i, bell_eventfd());
	EXPECT_EQ(t->id, bell_abi_id(FD_OTHER));
	EXPECT_EQ(KVM_VM2VM_MAX_DOORBELLS, bell_abi_fill(t, KVM_VM2VM_MAX_DOORBELLS + 1));
}

/* EINVAL, alone or with an errno that would come later */
static const struct bell_abi_row field_rows[] = {
	{ "reserved[0]", ALL(4, .reserved = { 1 }) },
	{ "reserved[1]", ARR3(4, .reserved = { 0, 1ull << 63 }) },
	{ "match, length 0", VAL(0, 0) }, { "array, length 0", ARR3(0) },
	{ "array and match", ARR(AT, 4, A_GOOD, 3, F_MATCH) },
	{ "port, length 8", IO(AT, 8) }, { "its array", ARR(AT, 8, A_GOOD, 3, F_PIO) },
	{ "port 2^16", IO(1 << 16, 1) }, { "port 2^16, length 0", IO(1 << 16, 0) },
	{ "port 2^32", IO(1ull << 32, 4) }, { "port 2^64 - 1", IO(-1, 0) },
	{ "ends at 2^64, 1", ANY(-1, 1) }, { "ends at 2^64, 8", ANY(-8, 8) },
	{ "wraps", ANY(-1, 8) }, { "wraps, array", ARR(-3, 4, A_GOOD, 3, 0) },
	{ "no match, but 1", ALL(4, .datamatch = 1) }, { "0 bytes", ALL(0, .datamatch = 1) },
	{ "but 2^63", ALL(8, .datamatch = 1ull << 63) }, { "array", ARR3(4, .datamatch = 1) },
	{ "match 2^8", VAL(1, 1 << 8) }, { "match 2^16", VAL(2, 1 << 16) },
	{ "match 2^32", VAL(4, 1ull << 32) }, { "match 2^64 - 1", VAL(4, -1) },
	{ "no array, but fds", ALL(4, .fds = PAGE_END(4)) }, { "nr_fds", ALL(4, .nr_fds = 1) },
	{ "match, but nr_fds", VAL(4, 5, .nr_fds = 1) }, { "0, nr_fds", ALL(0, .nr_fds = 1) },
	{ "array, and fd", ARR3(4, .fd = FD_EVENT) }, { "and fd -1", ARR3(4, .fd = -1) },
	{ "array of 0", ARR(AT, 4, A_GOOD, 0, 0) }, { "2^32 - 1", ARR(AT, 4, A_GOOD, -1, 0) },
	{ "array of 1025", FDS(AT, 4, (uintptr_t)pages, MAX_FDS + 1, 0) },
	{ "length 3, fd -1", ONE(AT, 3, -1, 0) }, { "flag, fd -1", ONE(AT, 4, -1, 1 << 4) },
	{ "port 2^16, fd -1", ONE(1 << 16, 4, -1, F_PIO) }, { "3, NULL", FDS(AT, 3, 0, 3, 0) },
};

/* What is right by itself */
static const struct bell_abi_row good_rows[] = {
	{ "port 0", IO(0, 1) }, { "port 2^16 - 1", IO(0xffff, 1) }, { "gpa 0", ANY(0, 0) },
	{ "gpa 2^64 - 1", ANY(-1, 0) }, { "up to that", ANY(-9, 8) }, { "value 0", VAL(4, 0) },
	{ "length 0", ALL(0) }, { "1", ALL(1) }, { "2", ALL(2) }, { "4", ALL(4) }, { "8", ALL(8) },
	{ "match 2^8 - 1", VAL(1, 0xff) }, { "2^16 - 1", VAL(2, 0xffff) },
	{ "match 2^32 - 1", VAL(4, -1u) }, { "match 2^64 - 1", VAL(8, -1) },
	{ "1", ARR(AT, 1, A_GOOD, 1, 0) }, { "1024", FDS(AT, 4, PAGE_END(4096), MAX_FDS, 0) },
};

/* EEXIST: one of them may be there, whichever, in memory and among the ports. */
static const struct bell_abi_row overlap_rows[] = {
	{ "all, other fd", ALL(2), ONE(AT, 2, FD_OTHER, 0) }, { "all, match", ALL(4), VAL(4, 5) },
	{ "value", VAL(2, 5), ONE(AT, 2, FD_EVENT, F_MATCH, .datamatch = 5) },
	{ "all, match, 8", ALL(8), VAL(8, -1) }, { "0, 0", ALL(0), ONE(AT, 0, FD_OTHER, 0) },
	{ "0, 1", ALL(0), ALL(1) }, { "0, 8", ALL(0), ALL(8) }, { "0, match", ALL(0), VAL(2, 0) },
	{ "0, array", ALL(0), ARR3(4) }, { "array, all", ARR3(4), ALL(4) },
	{ "array, match 0", ARR3(4), VAL(4, 0) }, { "array, match 2", ARR3(4), VAL(4, 2) },
	{ "array, array", ARR3(2), ARR(AT, 2, A_SWAPPED, 1, 0) },
};

/* These are apart. */
static const struct bell_abi_row apart_rows[] = {
	{ "all 2, 4", ALL(2), ALL(4) }, { "match 1, 2", VAL(1, 5), VAL(2, 5) },
	{ "all 1, match 4", ALL(1), VAL(4, 5) }, { "array 2, 4", ARR3(2), ARR3(4) },
	{ "array 2, all 1", ARR3(2), ALL(1) }, { "other value", VAL(4, 5), VAL(4, 6) },
	{ "addresses", ALL(4), ANY(AT + 1, 4) }, { "length 0", ALL(0), ANY(AT + 1, 0) },
	{ "4, 0", ALL(4), ANY(AT + 2, 0) }, { "arrays", ARR3(4), ARR(AT + 4, 4, A_GOOD, 3, 0) },
};

#define P1(len, flags)		ONE(BELL_PORT, len, FD_MADE, flags)
#define P2(port, fd, flags, val) ONE(BELL_PORT + (port), 4, FD_MADE + (fd), flags, .datamatch = val)
#define M1(addr, len, fd, flags) ONE(BELL_MMIO + (addr), len, FD_MADE + (fd), flags)
#define M2(addr, len, array, nr) ARR(BELL_MMIO + (addr), len, array, nr, 0)
#define PM			(F_PIO | F_MATCH)

/* ENOENT: not quite what is made */
static const struct bell_abi_row miss_rows[] = {
	{ "nothing", ALL(0) }, { "port + 1", ONE(BELL_PORT + 1, 2, FD_MADE, F_PIO) },
	{ "port, length 0", P1(0, F_PIO) }, { "port, length 1", P1(1, F_PIO) },
	{ "port, other fd", IO(BELL_PORT, 2) }, { "port, match", P1(2, PM) },
	{ "port, in memory", P1(2, 0) }, { "value 0", P2(16, 1, PM, 0) },
	{ "value + 1", P2(16, 1, PM, 0x80000002) }, { "its fd", P2(16, 0, PM, 0x80000001) },
	{ "its port", P2(0, 1, PM, 0x80000001) }, { "no match", P2(16, 1, F_PIO, 0) },
	{ "value, in memory", P2(16, 1, F_MATCH, 0x80000001) }, { "gpa + 1", M1(1, 0, 2, 0) },
	{ "length 8", M1(0, 8, 2, 0) }, { "gpa, match", M1(0, 4, 2, F_MATCH) },
	{ "gpa, other fd", M1(0, 0, 1, 0) }, { "array, other gpa", M2(0, 4, A_MADE, 4) },
	{ "array, length 2", M2(256, 2, A_MADE, 4) }, { "only one", M2(256, 4, A_MADE, 1) },
	{ "one less", M2(256, 4, A_MADE, 3) }, { "one more", M2(256, 4, A_MADE, 5) },
	{ "swapped", M2(256, 4, A_SWAPPED, 4) }, { "other in it", M2(256, 4, A_MIDDLE, 4) },
	{ "no array", M1(256, 4, 3, 0) }, { "array, match", M1(256, 4, 3, F_MATCH) },
};

static const struct { const char *name; int fd, err; } not_events[] = {
	{ "fd -1", -1, EBADF }, { "2^31 - 1", 0x7fffffff, EBADF }, { "-2^31", 1 << 31, EBADF },
	{ "closed", FD_CLOSED, EBADF }, { "O_PATH", FD_PATH, EBADF }, { "pipe", FD_PIPE, EINVAL },
	{ "file", FD_FILE, EINVAL }, { "/dev/kvm", FD_KVM, EINVAL }, { "VM", FD_VM, EINVAL },
	{ "vCPU", FD_VCPU, EINVAL }, { "domain", FD_DOMAIN, EINVAL },
};

/* Where neither an argument nor an array of three can be */
static const struct { const char *name; uint64_t addr; } holes[] = {
	{ "NULL", 0 }, { "no page", PAGE_END(0) }, { "ends in a hole", PAGE_END(8) },
	{ "one of them", PAGE_END(4) }, { "kernel", 0xffff888000000000 }, { "high", -4ull },
	{ "no address at all", 1ull << 63 },
};

TEST_F_TIMEOUT(bell, abi_fields, 240)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	static const uint32_t lens[] = { 3, 5, 6, 7, 9, 10, 12, 15, 16, 32, 64, 1u << 31, -1u };
	static const struct kvm_vm2vm_doorbell forms[] = { ALL(4), VAL(4, 5), ARR3(4) };
	struct kvm_vm2vm_doorbell args;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		args = forms[i];
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			args.len = lens[j];
			bell_abi_refused(&t, "length", EINVAL, args);
		}
		args.len = 4;
		for (j = 4; j < 32; j++) {
			args.flags = forms[i].flags | 1u << j;
			bell_abi_refused(&t, "flag", EINVAL, args);
		}
	}
	for (i = 0; i < ARRAY_SIZE(field_rows); i++)
		bell_abi_refused(&t, field_rows[i].name, EINVAL, field_rows[i].args);
	bell_abi_done(&t, "fields");
}

TEST_F_TIMEOUT(bell, abi_descriptors, 240)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	const struct kvm_vm2vm_doorbell forms[] = { ALL(4), ALL(0), VAL(4, 5), made[0] };
	struct kvm_vm2vm_doorbell args;
	int i, j, fds[3];

	for (i = 0; i < ARRAY_SIZE(not_events); i++) {
		for (j = 0; j < ARRAY_SIZE(forms); j++) {
			args = forms[j];
			args.fd = not_events[i].fd;
			bell_abi_refused(&t, not_events[i].name, not_events[i].err, args);
		}
		args = (struct kvm_vm2vm_doorbell)FDS(AT, 4, (uintptr_t)fds, 3, 0);
		for (j = 0; j < 3; j++) {
			memcpy(fds, arrays[A_GOOD], sizeof(fds));
			fds[j] = not_events[i].fd;
			bell_abi_refused(&t, not_events[i].name, not_events[i].err, args);
		}
	}
	args = (struct kvm_vm2vm_doorbell)FDS(AT, 4, PAGE_END(4092), MAX_FDS, 0);
	bell_abi_refused(&t, "the last of 1024", EFAULT, args);
	for (i = 0; i < ARRAY_SIZE(holes); i++) {
		args = (struct kvm_vm2vm_doorbell)FDS(AT, 4, holes[i].addr, 3, 0);
		bell_abi_refused(&t, holes[i].name, EFAULT, args);
		bell_abi_check(&t, holes[i].name, EFAULT, args,
			       vm2vm_ioctl(FD_VM, KVM_VM2VM_DOORBELL, (void *)holes[i].addr));
	}
	bell_abi_done(&t, "descriptors and memory");
}

/* Where the call is not known, or not for the caller, with nothing else wrong */
TEST_F_TIMEOUT(bell, abi_callers, 240)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	static const struct { const char *name; int fd, err; } rows[] = {
		{ "/dev/kvm", FD_KVM, EINVAL }, { "vCPU", FD_VCPU, EINVAL },
		{ "domain", FD_DOMAIN, ENOTTY }, { "eventfd", FD_OTHER, ENOTTY },
		{ "pipe", FD_PIPE, ENOTTY }, { "closed", FD_CLOSED, EBADF },
	};
	struct kvm_vm2vm_doorbell args = ALL(4);
	int i, pid, status;

	EXPECT_NE(0, kvm_check_cap(KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_DOORBELL);
	EXPECT_NE(0, vm_check_cap(self->a.vm, KVM_CAP_VM2VM) & KVM_VM2VM_FEATURE_DOORBELL);
	for (; args.flags <= F_OFF; args.flags += F_OFF) {
		for (i = 0; i < ARRAY_SIZE(rows); i++)
			bell_abi_check(&t, rows[i].name, rows[i].err, args,
				       vm2vm_ioctl(rows[i].fd, KVM_VM2VM_DOORBELL, &args));
		pid = fork();
		if (!pid)
			_exit(-vm2vm_ioctl(t.vm, KVM_VM2VM_DOORBELL, &args));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		bell_abi_check(&t, "child", EIO, args, -WEXITSTATUS(status));
	}
	args.flags = 0;
	bell_abi_gives(&t, "the VM itself", 0, args, 0);
	bell_abi_gives(&t, "the VM itself", 0, args, F_OFF);
	t.vm = self->b.vm->fd;
	bell_abi_gives(&t, "other VM", ENOENT, made[0], F_OFF);
	t.vm = self->a.vm->fd;
	bell_abi_done(&t, "callers");
}

/* The first is there; @err for the other. */
static void bell_abi_pair(struct bell_abi *t, const char *name, int err, uint32_t pio,
			  struct kvm_vm2vm_doorbell first, struct kvm_vm2vm_doorbell second)
{
	bell_abi_gives(t, name, 0, first, pio);
	bell_abi_gives(t, name, EEXIST, first, pio);
	bell_abi_gives(t, name, err, second, pio);
	bell_abi_gives(t, name, err ? ENOENT : 0, second, pio | F_OFF);
	bell_abi_gives(t, name, 0, first, pio | F_OFF);
	bell_abi_gives(t, name, ENOENT, first, pio | F_OFF);
}

static void bell_abi_pairs(struct bell_abi *t, int err, const struct bell_abi_row *row, int n)
{
	for (; n; n--, row++) {
		bell_abi_pair(t, row->name, err, 0, row->args, row->other);
		bell_abi_pair(t, row->name, err, 0, row->other, row->args);
		if (row->args.len == 8 || row->other.len == 8)
			continue;
		bell_abi_pair(t, row->name, err, F_PIO, row->args, row->other);
		bell_abi_pair(t, row->name, err, F_PIO, row->other, row->args);
	}
}

TEST_F_TIMEOUT(bell, abi_overlaps, 240)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	struct kvm_vm2vm_doorbell args, other;
	int i;

	bell_abi_pairs(&t, EEXIST, overlap_rows, ARRAY_SIZE(overlap_rows));
	bell_abi_pairs(&t, 0, apart_rows, ARRAY_SIZE(apart_rows));
	/* Memory and ports are apart. */
	for (i = 0; i < ARRAY_SIZE(good_rows); i++) {
		args = good_rows[i].args;
		other = args.addr > 0xffff || args.len == 8 ? apart_rows[0].args : args;
		other.flags ^= F_PIO;
		bell_abi_pair(&t, good_rows[i].name, 0, 0, args, other);
	}
	for (i = 0; i < ARRAY_SIZE(miss_rows); i++)
		bell_abi_gives(&t, miss_rows[i].name, ENOENT, miss_rows[i].args, F_OFF);
	for (i = 0; i < ARRAY_SIZE(made); i++) {
		bell_abi_gives(&t, "made", EEXIST, made[i], 0);
		bell_abi_gives(&t, "made", 0, made[i], F_OFF);
		bell_abi_gives(&t, "removed", ENOENT, made[i], F_OFF);
		bell_abi_gives(&t, "removed", 0, made[i], 0);
	}
	bell_abi_done(&t, "overlaps and misses");
}

TEST_F_TIMEOUT(bell, abi_limit, 240)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	static const struct kvm_vm2vm_doorbell forms[] = { ALL(4), VAL(4, 5), ARR3(4), IO(AT, 0) };
	struct kvm_vm2vm_doorbell zero = ANY(BELL_MMIO + 768, 0);
	int i;

	ASSERT_EQ(KVM_VM2VM_MAX_DOORBELLS - 1, bell_abi_fill(&t, KVM_VM2VM_MAX_DOORBELLS - 1));
	for (i = 0; i < ARRAY_SIZE(forms); i++) {
		/* What counts twice has no room, and no half of it remains. */
		bell_abi_gives(&t, "one is left", ENOSPC, zero, 0);
		bell_abi_gives(&t, "the last", 0, forms[i], 0);
		bell_abi_gives(&t, "full", ENOSPC, miss_rows[1].args, 0);
		bell_abi_gives(&t, "full", ENOSPC, zero, 0);
		bell_abi_gives(&t, "the last", 0, forms[i], F_OFF);
	}
	bell_abi_rings(&t, "limit");
}

/* Each eventfd of an array counts. */
TEST_F_TIMEOUT(bell, abi_bells, 120)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	const uint64_t fds = PAGE_END(4096);
	struct kvm_vm2vm_doorbell args = FDS(BELL_MMIO + 512, 4, fds, MAX_FDS, 0), last, zero;
	int i, n = 5 + 3;	/* those of made[] */

	for (; n + MAX_FDS <= KVM_VM2VM_MAX_BELLS; n += MAX_FDS) {
		bell_abi_gives(&t, "one of many", 0, args, 0);
		args.addr += 4;
	}
	bell_abi_gives(&t, "one too many", ENOSPC, args, 0);
	args.nr_fds = KVM_VM2VM_MAX_BELLS - n;
	last = args;
	zero = (struct kvm_vm2vm_doorbell)ANY(args.addr + 4, 0);
	for (i = 0; i < 2; i++) {
		last.nr_fds = args.nr_fds + 1;
		bell_abi_gives(&t, "longer than there is room for", ENOSPC, last, 0);
		/* What counts twice has no room, and no half of it remains. */
		last.nr_fds = args.nr_fds - 1;
		bell_abi_gives(&t, "one is left", 0, last, 0);
		bell_abi_gives(&t, "two are not", ENOSPC, zero, 0);
		bell_abi_gives(&t, "the last", 0, last, F_OFF);
		bell_abi_gives(&t, "all of it", 0, args, 0);
		bell_abi_gives(&t, "full", ENOSPC, miss_rows[1].args, 0);
		bell_abi_gives(&t, "all of it", 0, args, F_OFF);
	}
	bell_abi_rings(&t, "bells");
}

/* As many different eventfds as an array can have */
TEST_F_TIMEOUT(bell, abi_max_array, 120)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	struct rlimit files = { 2048, 2048 };
	int32_t i, fds[MAX_FDS + 1];
	struct kvm_vm2vm_doorbell args = FDS(AT, 4, (uintptr_t)fds, MAX_FDS + 1, F_PIO);

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	for (i = 0; i <= MAX_FDS; i++)
		fds[i] = bell_eventfd();
	t.next = bell_abi_next();
	bell_abi_refused(&t, "1025", EINVAL, args);
	args.nr_fds--;
	bell_abi_gives(&t, "1024", 0, args, 0);
	bell_ring(t.a, (struct bell_at) { true, AT, 4 }, 0, 1, MAX_FDS + 1);
	EXPECT_EQ(1, t.a->exits);
	for (i = 0; i <= MAX_FDS; i++)
		EXPECT_EQ(i < MAX_FDS, bell_pending(fds[i]));
	fds[MAX_FDS - 1] = fds[MAX_FDS];
	bell_abi_gives(&t, "another is the last", ENOENT, args, F_OFF);
}

/* An array has the values beyond it, too; what cannot be read counts first. */
TEST_F_TIMEOUT(bell, abi_odd, 120)
{
	struct bell_abi t = bell_abi_init(_metadata, self);
	static const struct bell_abi_row rows[] = {
		{ "beyond an array", ARR3(4), VAL(4, 3) },
		{ "-1, then a hole", FDS(AT, 4, PAGE_END(8), 3, 0) },
	};

	bell_abi_pairs(&t, EEXIST, rows, 1);
	*(int32_t *)PAGE_END(8) = -1;
	bell_abi_refused(&t, rows[1].name, EFAULT, rows[1].args);
}
