// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI device that shows another VM's memory: found in sysfs, mapped, and by VFIO its
 * interrupts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vm2vm_dev.h"
#include "vm2vm_pci.h"

#define PCI_DEVICES	"/sys/bus/pci/devices"

/*
 * Linux fills in all page tables of such a mapping at once, and the window may be many
 * times the guest's memory: it is mapped piece by piece, as far as it is used.
 */
#define PIECE		(16ULL << 20)
#define MAX_PIECES	64

static uint8_t **pieces;
static unsigned int nr_pieces;
static int window_fd = -1;

struct vm2vm_dev dev;

void die(const char *format, ...)
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

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int64_t deadline_in(uint64_t seconds)
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

void find_device(const char *wanted, uint64_t index)
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
 * while it is open.  Its memory is all that is needed.  When nobody has it open, vfio-pci
 * also puts it to rest; if the guest sleeps meanwhile, its registers and its BARs are only
 * restored by an end of that rest.
 */
static void enable_device(void)
{
	char path[PATH_MAX];
	uint16_t command;
	int fd;

	dev_path(path, "power/control");
	write_file(path, "on");
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

void ring_doorbell(uint32_t queue)
{
	set_reg32(dev.doorbells, queue);
}

void open_device(void)
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
	if (dev.regs_size < VM2VM_PCI_REGISTERS_BAR_SIZE)
		die("%s: too small for the registers", path);
	dev.regs = mmap(NULL, dev.regs_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (dev.regs == MAP_FAILED)
		die("%s: %m", path);
	close(fd);
	/* A later version only adds */
	if (reg32(VM2VM_PCI_MAGIC) != VM2VM_PCI_MAGIC_VALUE ||
	    reg32(VM2VM_PCI_VERSION) < VM2VM_PCI_VERSION_VALUE)
		die("%s: the registers do not look like ours: magic 0x%x, version %u", dev.name,
		    reg32(VM2VM_PCI_MAGIC), reg32(VM2VM_PCI_VERSION));
	dev.doorbells = reg32(VM2VM_PCI_DOORBELL_OFFSET);
	if (dev.doorbells % 4 || dev.doorbells > dev.regs_size - 4)
		die("%s: the doorbells are said to be at 0x%x of BAR 0", dev.name, dev.doorbells);
	dev.size = reg64(VM2VM_PCI_SIZE);
	dev.base = reg64(VM2VM_PCI_BASE);

	dev_path(path, "resource%d_wc", VM2VM_PCI_WINDOW_BAR);
	window_fd = open(path, O_RDWR | O_CLOEXEC);
	if (window_fd < 0) {
		dev_path(path, "resource%d", VM2VM_PCI_WINDOW_BAR);
		window_fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (window_fd < 0 || fstat(window_fd, &st))
		die("%s: %m", path);
	if ((uint64_t)st.st_size < dev.size)
		die("%s: 0x%" PRIx64 " bytes, for a window of 0x%" PRIx64, path,
		    (uint64_t)st.st_size, dev.size);
	pieces = calloc(dev.size / PIECE + 1, sizeof(*pieces));
	if (!pieces)
		die("%m");
}

volatile void *open_inflight(void)
{
	static volatile void *memory;
	char path[PATH_MAX];
	int fd;

	if (memory)
		return memory;
	dev_path(path, "resource%d", VM2VM_PCI_INFLIGHT_BAR);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %m", path);
	memory = mmap(NULL, VM2VM_PCI_INFLIGHT_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		die("%s: %m", path);
	close(fd);
	return memory;
}

/* The window */

bool in_window(uint64_t iova, uint64_t len)
{
	return iova >= dev.base && iova - dev.base <= dev.size &&
	       len <= dev.size - (iova - dev.base);
}

void need_window(uint64_t iova, uint64_t len)
{
	if (!in_window(iova, len))
		die("0x%" PRIx64 "+0x%" PRIx64 " is not in the window, 0x%" PRIx64 "+0x%" PRIx64,
		    iova, len, dev.base, dev.size);
}

volatile void *window(uint64_t iova)
{
	uint64_t offset = iova - dev.base, i = offset / PIECE, start = i * PIECE, len;
	uint64_t n;

	if (!pieces[i]) {
		if (nr_pieces == MAX_PIECES) {
			for (n = 0; n <= dev.size / PIECE; n++) {
				if (!pieces[n])
					continue;
				len = dev.size - n * PIECE;
				munmap(pieces[n], len < PIECE ? len : PIECE);
				pieces[n] = NULL;
			}
			nr_pieces = 0;
		}
		len = dev.size - start < PIECE ? dev.size - start : PIECE;
		pieces[i] = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, window_fd, start);
		if (pieces[i] == MAP_FAILED)
			die("mapping the window at 0x%" PRIx64 ": %m", dev.base + start);
		nr_pieces++;
	}
	return pieces[i] + (offset - start);
}

/* How many bytes the next access has */
static unsigned int step(uint64_t iova, uint64_t len)
{
	unsigned int n = 8;

	while (iova % n || n > len)
		n /= 2;
	return n;
}

/* How many of them are mapped together, and where */
static volatile uint8_t *stretch(uint64_t iova, uint64_t len, uint64_t *n)
{
	*n = PIECE - (iova - dev.base) % PIECE;
	if (*n > len)
		*n = len;
	return window(iova);
}

static void stretch_read(volatile uint8_t *from, uint8_t *to, uint64_t len)
{
	unsigned int n;
	uint64_t v;

	for (; len; from += n, to += n, len -= n) {
		n = step((uintptr_t)from, len);
		switch (n) {
		case 8:
			v = *(volatile uint64_t *)from;
			break;
		case 4:
			v = *(volatile uint32_t *)from;
			break;
		case 2:
			v = *(volatile uint16_t *)from;
			break;
		default:
			v = *from;
		}
		memcpy(to, &v, n);
	}
}

static void stretch_write(volatile uint8_t *to, const uint8_t *from, uint64_t len)
{
	unsigned int n;
	uint64_t v = 0;

	for (; len; from += n, to += n, len -= n) {
		n = step((uintptr_t)to, len);
		memcpy(&v, from, n);
		switch (n) {
		case 8:
			*(volatile uint64_t *)to = v;
			break;
		case 4:
			*(volatile uint32_t *)to = v;
			break;
		case 2:
			*(volatile uint16_t *)to = v;
			break;
		default:
			*to = v;
		}
	}
}

void window_read(uint64_t iova, void *to, uint64_t len)
{
	volatile uint8_t *from;
	uint64_t n;

	for (; len; iova += n, to += n, len -= n) {
		from = stretch(iova, len, &n);
		stretch_read(from, to, n);
	}
}

void window_write(uint64_t iova, const void *from, uint64_t len)
{
	volatile uint8_t *to;
	uint64_t n;

	for (; len; iova += n, from += n, len -= n) {
		to = stretch(iova, len, &n);
		stretch_write(to, from, n);
	}
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

unsigned int open_vectors(unsigned int n, const bool *wanted, struct pollfd *events)
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

uint64_t take_event(const struct pollfd *event)
{
	uint64_t count;

	if (event->fd < 0 || read(event->fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

bool wait_events(struct pollfd *events, unsigned int n, int64_t deadline)
{
	int ret;

	do {
		ret = poll(events, n, ms_left(deadline));
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		die("poll: %m");
	return ret > 0;
}

void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}
