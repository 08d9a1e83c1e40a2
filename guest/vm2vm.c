// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: reach another VM's memory from a Linux guest, by QEMU's vm2vm-pci.
 *
 * Everything of the PCI device by hand: its registers, the window, the doorbells, and
 * by VFIO its interrupts.  Also the device behind the other VM's virtio-rng, which is
 * about the least that a backend can be.
 *
 * Exit status: 0 is yes, 1 is no (or failed, with a message), 2 is wrong usage.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vm2vm_pci.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "registers and rings are little-endian, and are read as they are"
#endif

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define NR_VECTORS	(1 + VM2VM_PCI_MAX_QUEUES)
#define PAGE		4096ULL
#define NONE		UINT64_MAX

/*
 * Linux fills in all page tables of such a mapping at once, and the window may be many
 * times the guest's memory: it is mapped piece by piece, as far as it is used.
 */
#define PIECE		(16ULL << 20)
#define MAX_PIECES	64

static struct {
	char name[32];
	volatile uint8_t *regs;
	size_t regs_size;
	int window_fd;
	uint64_t size, base;
	uint8_t **pieces;
	unsigned int nr_pieces;
} dev = { .window_fd = -1 };

static const char usage_text[] =
	"usage: vm2vm [-d DEVICE | -n INDEX] COMMAND\n"
	"  info                        registers and queues\n"
	"  read [-r] IOVA LEN          a hex dump, or the bytes as they are\n"
	"  write IOVA HEX|-            - reads the bytes from stdin\n"
	"  fill IOVA LEN SEED          write a pattern\n"
	"  check IOVA LEN SEED         is it there?\n"
	"  scan [IOVA LEN]             what is approved: START-END, end exclusive\n"
	"  ring Q                      the doorbell of queue Q\n"
	"  wait VECTOR [SECONDS]       for an interrupt\n"
	"  watch SECONDS               all interrupts\n"
	"  queue Q                     a virtqueue, read through the window\n"
	"  serve-rng [-s SEED] [SECONDS] [COUNT]\n"
	"                              be the device of the peer's virtio-rng, for so long,\n"
	"                              0 is for ever, or for COUNT buffers\n";

static void __attribute__((noreturn)) usage(void)
{
	fputs(usage_text, stderr);
	exit(2);
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("vm2vm: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-') {
		fprintf(stderr, "vm2vm: '%s' is not a number\n", text);
		exit(2);
	}
	return value;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Seconds from now, 0 is never: as for ms_left(). */
static int64_t deadline_in(uint64_t seconds)
{
	return seconds ? now_ms() + (int64_t)(seconds < INT_MAX ? seconds : INT_MAX) * 1000 : -1;
}

static int ms_left(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - now_ms();
	if (left <= 0)
		return 0;
	return left < INT_MAX ? left : INT_MAX;
}

/* The device in sysfs */

static void __attribute__((format(printf, 2, 3))) dev_path(char *path, const char *format, ...)
{
	va_list args;
	int n;

	n = snprintf(path, PATH_MAX, PCI_DEVICES "/%s/", dev.name);
	va_start(args, format);
	vsnprintf(path + n, PATH_MAX - n, format, args);
	va_end(args);
}

/* 0 or the error, negative */
static int write_file(const char *path, const char *text)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static bool is_ours(const char *name)
{
	static const char * const files[] = { "vendor", "device" };
	static const unsigned long want[] = { VM2VM_PCI_VENDOR_ID, VM2VM_PCI_DEVICE_ID };
	char path[PATH_MAX], text[16];
	unsigned int i;
	FILE *f;

	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", name, files[i]);
		f = fopen(path, "re");
		if (!f)
			return false;
		if (!fgets(text, sizeof(text), f))
			text[0] = '\0';
		fclose(f);
		if (strtoul(text, NULL, 16) != want[i])
			return false;
	}
	return true;
}

static void find_device(const char *wanted, uint64_t index)
{
	struct dirent **entries;
	uint64_t seen = 0;
	char full[32];
	int i, n;

	if (wanted) {
		/* The domain may be left out */
		snprintf(full, sizeof(full), "%s%.24s", strlen(wanted) < 12 ? "0000:" : "", wanted);
		if (strchr(full, '/') || !is_ours(full))
			die("%s is not a vm2vm device", wanted);
		strcpy(dev.name, full);
		return;
	}
	n = scandir(PCI_DEVICES, &entries, NULL, alphasort);
	if (n < 0)
		die("%s: %m", PCI_DEVICES);
	for (i = 0; i < n; i++) {
		if (!dev.name[0] && strlen(entries[i]->d_name) < sizeof(dev.name) &&
		    is_ours(entries[i]->d_name) && seen++ == index)
			strcpy(dev.name, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	if (!dev.name[0])
		die("no vm2vm device%s", seen ? " with this index" : "");
}

/*
 * Linux does not enable a device for us that has a driver, and vfio-pci does so only
 * while it is open.  Its memory is all that is needed.
 */
static void enable_device(void)
{
	char path[PATH_MAX];
	uint16_t command;
	int fd;

	dev_path(path, "enable");
	write_file(path, "1");

	dev_path(path, "config");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, &command, 2, PCI_COMMAND) != 2)
		die("%s: %m", path);
	if (!(command & PCI_COMMAND_MEMORY)) {
		command |= PCI_COMMAND_MEMORY;
		if (pwrite(fd, &command, 2, PCI_COMMAND) != 2)
			die("%s: %m", path);
	}
	close(fd);
}

/* Registers */

static uint32_t reg32(uint32_t offset)
{
	return *(volatile uint32_t *)(dev.regs + offset);
}

static uint64_t reg64(uint32_t offset)
{
	return *(volatile uint64_t *)(dev.regs + offset);
}

static void set_reg32(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(dev.regs + offset) = value;
}

static void ring_doorbell(uint32_t queue)
{
	uint32_t offset = reg32(VM2VM_PCI_DOORBELL_OFFSET);

	if (offset % 4 || offset > dev.regs_size - 4)
		die("%s: the doorbells are said to be at 0x%x of BAR 0", dev.name, offset);
	set_reg32(offset, queue);
}

static void open_device(void)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	enable_device();
	dev_path(path, "resource%d", VM2VM_PCI_REGISTERS_BAR);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		die("%s: %m", path);
	dev.regs_size = st.st_size;
	if (dev.regs_size < VM2VM_PCI_QUEUE(VM2VM_PCI_MAX_QUEUES))
		die("%s: too small for the registers", path);
	dev.regs = mmap(NULL, dev.regs_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (dev.regs == MAP_FAILED)
		die("%s: %m", path);
	close(fd);
	if (reg32(VM2VM_PCI_MAGIC) != VM2VM_PCI_MAGIC_VALUE || !reg32(VM2VM_PCI_VERSION))
		die("%s: the registers do not look like ours: magic 0x%x, version %u", dev.name,
		    reg32(VM2VM_PCI_MAGIC), reg32(VM2VM_PCI_VERSION));
	dev.size = reg64(VM2VM_PCI_SIZE);
	dev.base = reg64(VM2VM_PCI_BASE);

	dev_path(path, "resource%d_wc", VM2VM_PCI_WINDOW_BAR);
	dev.window_fd = open(path, O_RDWR | O_CLOEXEC);
	if (dev.window_fd < 0) {
		dev_path(path, "resource%d", VM2VM_PCI_WINDOW_BAR);
		dev.window_fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (dev.window_fd < 0 || fstat(dev.window_fd, &st))
		die("%s: %m", path);
	if ((uint64_t)st.st_size < dev.size)
		die("%s: 0x%" PRIx64 " bytes, for a window of 0x%" PRIx64, path,
		    (uint64_t)st.st_size, dev.size);
	dev.pieces = calloc(dev.size / PIECE + 1, sizeof(*dev.pieces));
	if (!dev.pieces)
		die("%m");
}

/*
 * The window
 *
 * It is reached only by plain loads and stores of at most 8 bytes, naturally aligned:
 * what is not approved is emulated by KVM, which does not know every instruction that
 * memcpy() may use, and what is counted is accesses.
 */

static bool in_window(uint64_t iova, uint64_t len)
{
	return iova >= dev.base && iova - dev.base <= dev.size &&
	       len <= dev.size - (iova - dev.base);
}

static void need_window(uint64_t iova, uint64_t len)
{
	if (!in_window(iova, len))
		die("0x%" PRIx64 "+0x%" PRIx64 " is not in the window, 0x%" PRIx64 "+0x%" PRIx64,
		    iova, len, dev.base, dev.size);
}

/* The caller knows that it is in the window, and aligned. */
static volatile void *window(uint64_t iova)
{
	uint64_t offset = iova - dev.base, i = offset / PIECE, start = i * PIECE, len;
	uint64_t n;

	if (!dev.pieces[i]) {
		if (dev.nr_pieces == MAX_PIECES) {
			for (n = 0; n <= dev.size / PIECE; n++) {
				if (!dev.pieces[n])
					continue;
				len = dev.size - n * PIECE;
				munmap(dev.pieces[n], len < PIECE ? len : PIECE);
				dev.pieces[n] = NULL;
			}
			dev.nr_pieces = 0;
		}
		len = dev.size - start < PIECE ? dev.size - start : PIECE;
		dev.pieces[i] = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
				     dev.window_fd, start);
		if (dev.pieces[i] == MAP_FAILED)
			die("mapping the window at 0x%" PRIx64 ": %m", dev.base + start);
		dev.nr_pieces++;
	}
	return dev.pieces[i] + (offset - start);
}

static uint16_t window16(uint64_t iova)
{
	return *(volatile uint16_t *)window(iova);
}

static uint32_t window32(uint64_t iova)
{
	return *(volatile uint32_t *)window(iova);
}

static uint64_t window64(uint64_t iova)
{
	return *(volatile uint64_t *)window(iova);
}

/* How many bytes the next access has */
static unsigned int step(uint64_t iova, uint64_t len)
{
	unsigned int n = 8;

	while (iova % n || n > len)
		n /= 2;
	return n;
}

static void window_read(uint64_t iova, void *to, uint64_t len)
{
	uint8_t *p = to;
	unsigned int n;
	uint64_t v;

	for (; len; iova += n, p += n, len -= n) {
		n = step(iova, len);
		switch (n) {
		case 8:
			v = window64(iova);
			break;
		case 4:
			v = window32(iova);
			break;
		case 2:
			v = window16(iova);
			break;
		default:
			v = *(volatile uint8_t *)window(iova);
		}
		memcpy(p, &v, n);
	}
}

static void window_write(uint64_t iova, const void *from, uint64_t len)
{
	const uint8_t *p = from;
	unsigned int n;
	uint64_t v = 0;

	for (; len; iova += n, p += n, len -= n) {
		n = step(iova, len);
		memcpy(&v, p, n);
		switch (n) {
		case 8:
			*(volatile uint64_t *)window(iova) = v;
			break;
		case 4:
			*(volatile uint32_t *)window(iova) = v;
			break;
		case 2:
			*(volatile uint16_t *)window(iova) = v;
			break;
		default:
			*(volatile uint8_t *)window(iova) = v;
		}
	}
}

/*
 * The window may be mapped write-combining, where x86 keeps no order at all, neither of
 * stores nor of loads.  Only a full fence will do, whatever the algorithm needs.
 */
static void fence(void)
{
	__builtin_ia32_mfence();
}

/* A pattern that tells where it was written, and by whom */

static uint64_t pattern64(uint64_t seed, uint64_t iova)
{
	uint64_t v = seed * 0x9e3779b97f4a7c15ULL + iova / 8;

	/* The finalizer of splitmix64 */
	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
	return v ^ (v >> 31);
}

static void pattern(uint64_t seed, uint64_t iova, uint8_t *to, uint64_t len)
{
	uint64_t i;

	for (i = 0; i < len; i++)
		to[i] = pattern64(seed, iova + i) >> (8 * ((iova + i) % 8));
}

/* Commands without interrupts */

static int cmd_info(void)
{
	uint32_t state = reg32(VM2VM_PCI_STATE), q, at;

	printf("device %s\n", dev.name);
	printf("magic 0x%x\n", reg32(VM2VM_PCI_MAGIC));
	printf("version %u\n", reg32(VM2VM_PCI_VERSION));
	printf("state 0x%x\n", state);
	printf("connected %d\n", !!(state & VM2VM_PCI_STATE_CONNECTED));
	printf("window %d\n", !!(state & VM2VM_PCI_STATE_WINDOW));
	printf("driver_ok %d\n", !!(state & VM2VM_PCI_STATE_DRIVER_OK));
	printf("generation %u\n", reg32(VM2VM_PCI_GENERATION));
	printf("size 0x%" PRIx64 "\n", dev.size);
	printf("base 0x%" PRIx64 "\n", dev.base);
	printf("device_type %u\n", reg32(VM2VM_PCI_DEVICE_TYPE));
	printf("nr_queues %u\n", reg32(VM2VM_PCI_NR_QUEUES));
	printf("device_status 0x%x\n", reg32(VM2VM_PCI_DEVICE_STATUS));
	printf("doorbell_offset 0x%x\n", reg32(VM2VM_PCI_DOORBELL_OFFSET));
	printf("features 0x%" PRIx64 "\n", reg64(VM2VM_PCI_FEATURES));
	printf("refused_reads %" PRIu64 "\n", reg64(VM2VM_PCI_REFUSED_READS));
	printf("refused_writes %" PRIu64 "\n", reg64(VM2VM_PCI_REFUSED_WRITES));
	for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
		at = VM2VM_PCI_QUEUE(q);
		if (!reg32(at + VM2VM_PCI_QUEUE_ENABLED))
			continue;
		printf("queue%u.size %u\n", q, reg32(at + VM2VM_PCI_QUEUE_SIZE));
		printf("queue%u.next %u\n", q, reg32(at + VM2VM_PCI_QUEUE_NEXT));
		printf("queue%u.desc 0x%" PRIx64 "\n", q, reg64(at + VM2VM_PCI_QUEUE_DESC));
		printf("queue%u.avail 0x%" PRIx64 "\n", q, reg64(at + VM2VM_PCI_QUEUE_AVAIL));
		printf("queue%u.used 0x%" PRIx64 "\n", q, reg64(at + VM2VM_PCI_QUEUE_USED));
		printf("queue%u.kicks %u\n", q, reg32(at + VM2VM_PCI_QUEUE_KICKS));
	}
	return 0;
}

static int cmd_read(uint64_t iova, uint64_t len, bool raw)
{
	uint8_t bytes[PAGE];
	uint64_t n, i;

	need_window(iova, len);
	for (; len; iova += n, len -= n) {
		n = raw ? sizeof(bytes) : 16;
		if (n > len)
			n = len;
		window_read(iova, bytes, n);
		if (raw) {
			fwrite(bytes, 1, n, stdout);
			continue;
		}
		printf("%016" PRIx64 ":", iova);
		for (i = 0; i < n; i++)
			printf(" %02x", bytes[i]);
		putchar('\n');
	}
	return 0;
}

static int hex_digit(char c)
{
	if (!isxdigit((unsigned char)c))
		usage();
	return isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

static int cmd_write(uint64_t iova, const char *what)
{
	size_t len = 0, size = 0, n, i;
	uint8_t *bytes = NULL;

	if (!strcmp(what, "-")) {
		do {
			size += 1 << 16;
			bytes = realloc(bytes, size);
			if (!bytes)
				die("%m");
			n = fread(bytes + len, 1, size - len, stdin);
			len += n;
		} while (n);
		if (ferror(stdin))
			die("stdin: %m");
	} else {
		len = strlen(what) / 2;
		if (!len || strlen(what) % 2)
			usage();
		bytes = malloc(len);
		if (!bytes)
			die("%m");
		for (i = 0; i < len; i++)
			bytes[i] = hex_digit(what[2 * i]) << 4 | hex_digit(what[2 * i + 1]);
	}
	need_window(iova, len);
	window_write(iova, bytes, len);
	fence();
	printf("wrote %zu bytes\n", len);
	free(bytes);
	return 0;
}

static int cmd_fill(uint64_t iova, uint64_t len, uint64_t seed)
{
	uint64_t left, n;
	uint8_t bytes[PAGE];

	need_window(iova, len);
	for (left = len; left; iova += n, left -= n) {
		n = PAGE - iova % PAGE;
		if (n > left)
			n = left;
		pattern(seed, iova, bytes, n);
		window_write(iova, bytes, n);
	}
	fence();
	printf("filled %" PRIu64 " bytes\n", len);
	return 0;
}

static int cmd_check(uint64_t iova, uint64_t len, uint64_t seed)
{
	uint64_t left, n, i, wrong = 0, first = 0;
	uint8_t want[PAGE], is[PAGE];

	need_window(iova, len);
	for (left = len; left; iova += n, left -= n) {
		n = PAGE - iova % PAGE;
		if (n > left)
			n = left;
		pattern(seed, iova, want, n);
		window_read(iova, is, n);
		for (i = 0; i < n; i++) {
			if (is[i] != want[i] && !wrong++)
				first = iova + i;
		}
	}
	printf("checked %" PRIu64 " bytes\n", len);
	if (wrong)
		die("%" PRIu64 " bytes are wrong, the first at 0x%" PRIx64, wrong, first);
	return 0;
}

/* All-ones, which may also be what is there: then it was not counted as refused. */
static bool page_approved(uint64_t iova)
{
	uint64_t before = reg64(VM2VM_PCI_REFUSED_READS);

	return window32(iova) != UINT32_MAX || reg64(VM2VM_PCI_REFUSED_READS) == before;
}

static void scan_page(uint64_t iova, bool approved, uint64_t *start)
{
	if (approved && *start == NONE) {
		*start = iova;
	} else if (!approved && *start != NONE) {
		printf("%" PRIx64 "-%" PRIx64 "\n", *start, iova);
		fflush(stdout);
		*start = NONE;
	}
}

static int cmd_scan(uint64_t iova, uint64_t len)
{
	uint64_t start = NONE, end, n, i, before, refused;
	bool ones[64];
	unsigned int nr_ones;

	need_window(iova, len);
	end = iova + len;
	iova -= iova % PAGE;
	if (iova < dev.base)
		iova = dev.base;
	/* The counter costs an exit, as does each page that is not approved: ask seldom. */
	for (; iova < end; iova += n * PAGE) {
		n = (end - iova + PAGE - 1) / PAGE;
		if (n > 64)
			n = 64;
		nr_ones = 0;
		before = reg64(VM2VM_PCI_REFUSED_READS);
		for (i = 0; i < n; i++) {
			ones[i] = window32(iova + i * PAGE) == UINT32_MAX;
			nr_ones += ones[i];
		}
		refused = nr_ones ? reg64(VM2VM_PCI_REFUSED_READS) - before : 0;
		for (i = 0; i < n; i++) {
			bool approved = !ones[i] || !refused;

			if (ones[i] && refused && refused != nr_ones)
				approved = page_approved(iova + i * PAGE);
			scan_page(iova + i * PAGE, approved, &start);
		}
	}
	scan_page(iova < end ? iova : end, false, &start);
	return 0;
}

static uint32_t queue_arg(const char *text)
{
	uint64_t q = number(text);

	if (q >= VM2VM_PCI_MAX_QUEUES) {
		fprintf(stderr, "vm2vm: there are %d queues at most\n", VM2VM_PCI_MAX_QUEUES);
		exit(2);
	}
	return q;
}

/* Virtqueues */

struct queue {
	uint32_t index, size;
	uint64_t desc, avail, used;
	uint16_t next, used_idx;
};

/* What of the peer's queue can be used; NULL, or what is wrong with it */
static const char *queue_load(struct queue *q, uint32_t index)
{
	uint32_t at = VM2VM_PCI_QUEUE(index);

	q->index = index;
	if (!reg32(at + VM2VM_PCI_QUEUE_ENABLED))
		return "is not enabled";
	q->size = reg32(at + VM2VM_PCI_QUEUE_SIZE);
	q->desc = reg64(at + VM2VM_PCI_QUEUE_DESC);
	q->avail = reg64(at + VM2VM_PCI_QUEUE_AVAIL);
	q->used = reg64(at + VM2VM_PCI_QUEUE_USED);
	q->next = reg32(at + VM2VM_PCI_QUEUE_NEXT);
	if (!q->size || q->size > 32768 || (q->size & (q->size - 1)))
		return "has a size that is not a power of two";
	if (q->desc % VRING_DESC_ALIGN_SIZE || q->avail % VRING_AVAIL_ALIGN_SIZE ||
	    q->used % VRING_USED_ALIGN_SIZE)
		return "is not aligned";
	if (!in_window(q->desc, q->size * sizeof(struct vring_desc)) ||
	    !in_window(q->avail, sizeof(struct vring_avail) + q->size * 2) ||
	    !in_window(q->used, sizeof(struct vring_used) + q->size * sizeof(struct vring_used_elem)))
		return "is not in the window";
	return NULL;
}

static uint64_t avail_slot(const struct queue *q, uint16_t i)
{
	return q->avail + offsetof(struct vring_avail, ring) + (i % q->size) * 2;
}

static uint64_t used_slot(const struct queue *q, uint16_t i)
{
	return q->used + offsetof(struct vring_used, ring) +
	       (i % q->size) * sizeof(struct vring_used_elem);
}

static uint16_t avail_idx(const struct queue *q)
{
	return window16(q->avail + offsetof(struct vring_avail, idx));
}

static void read_desc(const struct queue *q, uint32_t i, struct vring_desc *d)
{
	window_read(q->desc + i * sizeof(*d), d, sizeof(*d));
}

static int cmd_queue(uint32_t index)
{
	struct vring_used_elem e;
	struct vring_desc d;
	const char *wrong;
	struct queue q;
	uint32_t i;

	wrong = queue_load(&q, index);
	if (wrong)
		die("queue %u %s", index, wrong);
	printf("size %u\n", q.size);
	printf("next %u\n", q.next);
	printf("desc 0x%" PRIx64 "\n", q.desc);
	printf("avail 0x%" PRIx64 "\n", q.avail);
	printf("used 0x%" PRIx64 "\n", q.used);
	printf("avail.flags 0x%x\n", window16(q.avail));
	printf("avail.idx %u\n", avail_idx(&q));
	printf("used.flags 0x%x\n", window16(q.used));
	printf("used.idx %u\n", window16(q.used + offsetof(struct vring_used, idx)));
	for (i = 0; i < q.size; i++) {
		read_desc(&q, i, &d);
		printf("desc%u 0x%" PRIx64 " %u 0x%x %u\n", i, (uint64_t)d.addr, d.len, d.flags, d.next);
	}
	for (i = 0; i < q.size; i++)
		printf("avail%u %u\n", i, window16(avail_slot(&q, i)));
	for (i = 0; i < q.size; i++) {
		window_read(used_slot(&q, i), &e, sizeof(e));
		printf("used%u %u %u\n", i, e.id, e.len);
	}
	return 0;
}

/* Interrupts, by VFIO */

static void bind_vfio(void)
{
	char path[PATH_MAX], link[PATH_MAX];
	const char *driver = "";
	ssize_t n;
	int ret;

	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		die("there is no vfio-pci: is the module loaded?");
	dev_path(path, "driver");
	n = readlink(path, link, sizeof(link) - 1);
	if (n > 0) {
		link[n] = '\0';
		driver = strrchr(link, '/') ? strrchr(link, '/') + 1 : link;
	}
	/* Without an IOMMU, and with one that does not check interrupts */
	write_file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "1");
	write_file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "1");
	if (!strcmp(driver, "vfio-pci"))
		return;
	dev_path(path, "driver_override");
	ret = write_file(path, "vfio-pci");
	if (ret)
		die("%s: %s", path, strerror(-ret));
	if (driver[0]) {
		dev_path(path, "driver/unbind");
		ret = write_file(path, dev.name);
		if (ret)
			die("%s: %s", path, strerror(-ret));
	}
	ret = write_file("/sys/bus/pci/drivers_probe", dev.name);
	dev_path(path, "driver");
	if (readlink(path, link, sizeof(link)) < 0)
		die("%s: vfio-pci does not take it%s%s", dev.name, ret ? ": " : "",
		    ret ? strerror(-ret) : "");
}

/* Without an IOMMU its group has a name that says so. */
static int open_group(bool *noiommu)
{
	char path[PATH_MAX], link[PATH_MAX];
	const char *group;
	ssize_t n;
	int fd;

	dev_path(path, "iommu_group");
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		die("%s: no IOMMU group, not even an unsafe one: %m", dev.name);
	link[n] = '\0';
	group = strrchr(link, '/') ? strrchr(link, '/') + 1 : link;
	*noiommu = true;
	snprintf(path, sizeof(path), "/dev/vfio/noiommu-%.16s", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		*noiommu = false;
		snprintf(path, sizeof(path), "/dev/vfio/%.16s", group);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		die("%s: %m%s", path, errno == EBUSY ? " (is another vm2vm waiting?)" : "");
	return fd;
}

/*
 * An event for each of the first n vectors of which wanted[] says so, or NULL: for all
 * that there are.  Everything stays open as long as the program runs.  Returns n.
 */
static unsigned int open_vectors(unsigned int n, const bool *wanted, struct pollfd *events)
{
	char buffer[sizeof(struct vfio_irq_set) + NR_VECTORS * sizeof(int32_t)]
		__attribute__((aligned(8)));
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	struct vfio_irq_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
	};
	struct vfio_irq_set *set = (void *)buffer;
	int container, group, device;
	int32_t fds[NR_VECTORS];
	uint16_t command;
	bool noiommu;
	unsigned int i;

	bind_vfio();
	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		die("/dev/vfio/vfio: %m");
	group = open_group(&noiommu);
	if (ioctl(group, VFIO_GROUP_GET_STATUS, &status))
		die("VFIO_GROUP_GET_STATUS: %m");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("%s: another device of its IOMMU group has a driver", dev.name);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container))
		die("VFIO_GROUP_SET_CONTAINER: %m");
	if (ioctl(container, VFIO_SET_IOMMU, noiommu ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU))
		die("VFIO_SET_IOMMU: %m");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, dev.name);
	if (device < 0)
		die("VFIO_GROUP_GET_DEVICE_FD: %m");

	if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info))
		die("VFIO_DEVICE_GET_IRQ_INFO: %m");
	if (!wanted && n > info.count)
		n = info.count;
	if (n > info.count)
		die("%s has %u vectors", dev.name, info.count);
	for (i = 0; i < n; i++) {
		fds[i] = -1;
		if (!wanted || wanted[i]) {
			fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			if (fds[i] < 0)
				die("eventfd: %m");
		}
		events[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	}
	*set = (struct vfio_irq_set){
		.argsz = sizeof(*set) + n * sizeof(fds[0]),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = n,
	};
	memcpy(set->data, fds, n * sizeof(fds[0]));
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, set))
		die("VFIO_DEVICE_SET_IRQS: %m");

	/* Message-signalled interrupts are writes of the device, which VFIO has forbidden. */
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config))
		die("VFIO_DEVICE_GET_REGION_INFO: %m");
	if (pread(device, &command, 2, config.offset + PCI_COMMAND) != 2)
		die("reading PCI_COMMAND: %m");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(device, &command, 2, config.offset + PCI_COMMAND) != 2)
		die("writing PCI_COMMAND: %m");
	return n;
}

static uint64_t take_event(const struct pollfd *event)
{
	uint64_t count;

	if (event->fd < 0 || read(event->fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

/* false: it is over */
static bool wait_events(struct pollfd *events, unsigned int n, int64_t deadline)
{
	int ret;

	do {
		ret = poll(events, n, ms_left(deadline));
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		die("poll: %m");
	return ret > 0;
}

/* From here on no interrupt is missed: who starts us can wait for this line. */
static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

static int cmd_wait(uint64_t vector, uint64_t seconds)
{
	struct pollfd events[NR_VECTORS];
	bool wanted[NR_VECTORS] = {};

	if (vector >= NR_VECTORS) {
		fprintf(stderr, "vm2vm: there are %d vectors at most\n", NR_VECTORS);
		exit(2);
	}
	wanted[vector] = true;
	open_vectors(vector + 1, wanted, events);
	say_ready();
	if (!wait_events(events, vector + 1, deadline_in(seconds)))
		die("vector %" PRIu64 ": no interrupt in %" PRIu64 " s", vector, seconds);
	printf("vector %" PRIu64 " count %" PRIu64 "\n", vector, take_event(&events[vector]));
	return 0;
}

static int cmd_watch(uint64_t seconds)
{
	int64_t deadline = deadline_in(seconds);
	struct pollfd events[NR_VECTORS];
	unsigned int i, n;
	uint64_t count;

	n = open_vectors(NR_VECTORS, NULL, events);
	say_ready();
	while (wait_events(events, n, deadline)) {
		for (i = 0; i < n; i++) {
			count = take_event(&events[i]);
			if (count)
				printf("vector %u count %" PRIu64 "\n", i, count);
		}
		fflush(stdout);
	}
	return 0;
}

/* A virtio-rng's device */

struct rng {
	struct queue q;
	bool running, seeded;
	uint64_t seed, bytes, buffers;
	uint32_t generation;
};

#define RNG_STATE	(VM2VM_PCI_STATE_CONNECTED | VM2VM_PCI_STATE_WINDOW | \
			 VM2VM_PCI_STATE_DRIVER_OK)

/*
 * The peer's driver is set up, or set up anew: look at everything again.  What cannot be
 * served is an error, not something to wait for.
 */
static void rng_start(struct rng *r)
{
	uint32_t state = reg32(VM2VM_PCI_STATE), generation = reg32(VM2VM_PCI_GENERATION);
	uint64_t features;
	const char *wrong;

	if ((state & RNG_STATE) != RNG_STATE) {
		r->running = false;
		return;
	}
	if (r->running && r->generation == generation)
		return;
	if (reg32(VM2VM_PCI_DEVICE_TYPE) != VIRTIO_ID_RNG)
		die("the peer's device has type %u: it is no virtio-rng", reg32(VM2VM_PCI_DEVICE_TYPE));
	features = reg64(VM2VM_PCI_FEATURES);
	if (!(features & 1ULL << VIRTIO_F_VERSION_1))
		die("the peer's driver uses the legacy interface");
	if (features & (1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_RING_F_EVENT_IDX))
		die("the peer's driver has taken features that are not served: 0x%" PRIx64, features);
	wrong = queue_load(&r->q, 0);
	if (wrong)
		die("queue 0 %s", wrong);
	/*
	 * Buffers are served in order, each at once: those used are those taken.  A backend
	 * before us may have taken more and not finished, and so they are served now.
	 */
	r->q.used_idx = window16(r->q.used + offsetof(struct vring_used, idx));
	r->q.next = r->q.used_idx;
	r->generation = generation;
	r->running = true;
}

/*
 * Something in the queue makes no sense.  If its driver is being reset, or the peer gone,
 * we have read what is no longer approved, and the registers will say so in a moment.
 */
static void __attribute__((format(printf, 2, 3)))
rng_bad(struct rng *r, const char *format, ...)
{
	char text[128];
	va_list args;

	usleep(100000);
	r->running = false;
	if ((reg32(VM2VM_PCI_STATE) & RNG_STATE) != RNG_STATE ||
	    reg32(VM2VM_PCI_GENERATION) != r->generation)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	die("queue %u: %s", r->q.index, text);
}

/*
 * Serve the buffer that starts with this descriptor, and tell its length.  The chain
 * is in memory that the peer may change at any time: each descriptor is read once, and
 * the whole chain is looked at before a byte is written.
 */
static bool rng_fill(struct rng *r, uint16_t head, uint32_t *filled)
{
	static struct vring_desc chain[32768];
	uint32_t i, n = 0, id = head, chunk, len;
	uint64_t total = 0, iova;
	uint8_t bytes[256];

	for (;;) {
		struct vring_desc *d = &chain[n];

		if (id >= r->q.size) {
			rng_bad(r, "bad descriptor index %u of %u", id, r->q.size);
			return false;
		}
		if (n == r->q.size) {
			rng_bad(r, "the chain at %u is a loop", head);
			return false;
		}
		read_desc(&r->q, id, d);
		if (d->flags & VRING_DESC_F_INDIRECT) {
			rng_bad(r, "descriptor %u is indirect, which is not served", id);
			return false;
		}
		if (!in_window(d->addr, d->len)) {
			rng_bad(r, "descriptor %u, 0x%" PRIx64 "+0x%x, is not in the window",
				id, (uint64_t)d->addr, d->len);
			return false;
		}
		if (d->flags & VRING_DESC_F_WRITE)
			total += d->len;
		n++;
		if (!(d->flags & VRING_DESC_F_NEXT))
			break;
		id = d->next;
	}
	if (total > UINT32_MAX) {
		rng_bad(r, "the chain at %u has %" PRIu64 " bytes", head, total);
		return false;
	}

	for (i = 0; i < n; i++) {
		if (!(chain[i].flags & VRING_DESC_F_WRITE))
			continue;
		iova = chain[i].addr;
		for (len = chain[i].len; len; len -= chunk, iova += chunk) {
			chunk = len < sizeof(bytes) ? len : sizeof(bytes);
			/* Up to 256 bytes it gives all of them */
			if (r->seeded)
				pattern(r->seed, iova, bytes, chunk);
			else if (getrandom(bytes, chunk, 0) != chunk)
				die("getrandom: %m");
			window_write(iova, bytes, chunk);
		}
	}
	*filled = total;
	return true;
}

static void rng_serve(struct rng *r, uint64_t max)
{
	struct queue *q = &r->q;
	uint16_t available = avail_idx(q), flags;
	struct vring_used_elem e;
	bool any = false;

	if ((uint16_t)(available - q->next) > q->size) {
		rng_bad(r, "bad available index %u after %u", available, q->next);
		return;
	}
	/* The entries only after the index that says they are there */
	fence();
	for (; q->next != available && (!max || r->buffers < max); q->next++) {
		e.id = window16(avail_slot(q, q->next));
		if (!rng_fill(r, e.id, &e.len))
			return;
		window_write(used_slot(q, q->used_idx), &e, sizeof(e));
		/* The bytes and the entry before the index */
		fence();
		q->used_idx++;
		window_write(q->used + offsetof(struct vring_used, idx), &q->used_idx, 2);
		r->bytes += e.len;
		r->buffers++;
		any = true;
	}
	if (!any)
		return;
	/* The index before looking whether the driver wants to hear of it */
	fence();
	flags = window16(q->avail + offsetof(struct vring_avail, flags));
	if (!(flags & VRING_AVAIL_F_NO_INTERRUPT))
		ring_doorbell(q->index);
}

static int cmd_serve_rng(uint64_t seconds, uint64_t max, bool seeded, uint64_t seed)
{
	bool wanted[2] = { true, true };
	struct rng r = { .seeded = seeded, .seed = seed };
	int64_t deadline = deadline_in(seconds);
	struct pollfd events[2];

	/* Before the first look at the queue, so that no kick is lost after it */
	open_vectors(2, wanted, events);
	say_ready();
	do {
		if (take_event(&events[VM2VM_PCI_VECTOR_STATE])) {
			/* A driver that was reset and set up again between two looks */
			r.running = false;
		}
		take_event(&events[VM2VM_PCI_VECTOR_QUEUE(0)]);
		rng_start(&r);
		if (r.running)
			rng_serve(&r, max);
	} while ((!max || r.buffers < max) && wait_events(events, 2, deadline));
	printf("served %" PRIu64 " bytes in %" PRIu64 " buffers\n", r.bytes, r.buffers);
	return max && r.buffers < max;
}

int main(int argc, char **argv)
{
	const char *wanted = NULL, *command;
	bool raw = false, seeded = false;
	uint64_t index = 0, seed = 0;
	int opt, n;

	while ((opt = getopt(argc, argv, "+d:n:")) != -1) {
		switch (opt) {
		case 'd':
			wanted = optarg;
			break;
		case 'n':
			index = number(optarg);
			break;
		default:
			usage();
		}
	}
	if (optind == argc)
		usage();
	command = argv[optind];

	/* Options of the command */
	argc -= optind;
	argv += optind;
	optind = 1;
	while ((opt = getopt(argc, argv, "+rs:")) != -1) {
		if (opt == 'r' && !strcmp(command, "read")) {
			raw = true;
		} else if (opt == 's' && !strcmp(command, "serve-rng")) {
			seeded = true;
			seed = number(optarg);
		} else {
			usage();
		}
	}
	argv += optind;
	n = argc - optind;

	find_device(wanted, index);
	open_device();
	if (!strcmp(command, "info") && n == 0)
		return cmd_info();
	if (!strcmp(command, "read") && n == 2)
		return cmd_read(number(argv[0]), number(argv[1]), raw);
	if (!strcmp(command, "write") && n == 2)
		return cmd_write(number(argv[0]), argv[1]);
	if (!strcmp(command, "fill") && n == 3)
		return cmd_fill(number(argv[0]), number(argv[1]), number(argv[2]));
	if (!strcmp(command, "check") && n == 3)
		return cmd_check(number(argv[0]), number(argv[1]), number(argv[2]));
	if (!strcmp(command, "scan") && n == 0)
		return cmd_scan(dev.base, dev.size);
	if (!strcmp(command, "scan") && n == 2)
		return cmd_scan(number(argv[0]), number(argv[1]));
	if (!strcmp(command, "ring") && n == 1) {
		ring_doorbell(queue_arg(argv[0]));
		return 0;
	}
	if (!strcmp(command, "wait") && (n == 1 || n == 2))
		return cmd_wait(number(argv[0]), n == 2 ? number(argv[1]) : 0);
	if (!strcmp(command, "watch") && n == 1)
		return cmd_watch(number(argv[0]));
	if (!strcmp(command, "queue") && n == 1)
		return cmd_queue(queue_arg(argv[0]));
	if (!strcmp(command, "serve-rng") && n <= 2)
		return cmd_serve_rng(n > 0 ? number(argv[0]) : 0, n > 1 ? number(argv[1]) : 0,
				     seeded, seed);
	usage();
}
