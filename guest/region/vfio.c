// SPDX-License-Identifier: GPL-2.0-only
/*
 * The owner's side of a link: a driver of any virtio device on PCI, by VFIO
 *
 * Of the device it takes queue 0, for its two doorbells: the driver's notification, and the
 * queue's interrupt.  The ring stays empty.  What the IOMMU maps for the device the other VM
 * sees, and that is what this is for.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../vm2vm_dev.h"
#include "link.h"
#include "region.h"

#define MAPS	(REGION_MAX_VMS * REGION_MAX_VMS)
#define VECTORS	2	/* of the device itself, and of the queue */
#define QUEUE_SIZE	8

/* Whatever the device is, it is used behind its IOMMU, as virtio 1 */
static const uint32_t features[2] = { 0, 1u << (VIRTIO_F_VERSION_1 - 32) |
					 1u << (VIRTIO_F_ACCESS_PLATFORM - 32) };

struct owned {
	int container, device;
	struct region_card *card;
	uint64_t region, size;	/* what it says */
	/* Where virtio's registers are in the device's file */
	uint64_t common;
	unsigned int maps;
	struct {
		uint64_t iova, size;
	} map[MAPS];
};

static void device_read(struct link *l, uint64_t at, void *to, size_t n)
{
	if (pread(l->owned->device, to, n, at) != (ssize_t)n)
		die("%s: its registers cannot be read: %m", l->name);
}

static void device_write(struct link *l, uint64_t at, const void *from, size_t n)
{
	if (pwrite(l->owned->device, from, n, at) != (ssize_t)n)
		die("%s: its registers cannot be written: %m", l->name);
}

/* Registers of virtio's common configuration, VIRTIO_PCI_COMMON_*, each of its own size */

static uint32_t common_get(struct link *l, uint32_t reg, size_t size)
{
	uint32_t value = 0;

	device_read(l, l->owned->common + reg, &value, size);
	return value;
}

static void common_set(struct link *l, uint32_t reg, size_t size, uint32_t value)
{
	device_write(l, l->owned->common + reg, &value, size);
}

static uint8_t status(struct link *l)
{
	return common_get(l, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(struct link *l, uint8_t value)
{
	common_set(l, VIRTIO_PCI_COMMON_STATUS, 1, value);
}

/* The lower half, of which the upper one is the next register */
static void set_address(struct link *l, uint32_t low, uint64_t iova)
{
	common_set(l, low, 4, iova);
	common_set(l, low + 4, 4, iova >> 32);
}

/* Opening it */

static void open_vfio(struct link *l)
{
	char path[128], group[128];
	struct vfio_group_status status = { .argsz = sizeof(status) };
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.32s/iommu_group", l->name);
	n = readlink(path, group, sizeof(group) - 1);
	if (n < 0)
		die("%s: there is no such device, or it is not behind an IOMMU", l->name);
	group[n] = '\0';
	snprintf(path, sizeof(path), "/dev/vfio/%.16s", strrchr(group, '/') + 1);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s: %m%s", l->name, path, errno == ENOENT ?
		    " (has vfio-pci the device?)" : errno == EBUSY ?
		    " (another program has it, or it is there twice)" : "");
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status) || !(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		die("%s: another driver has a device of the same IOMMU group", l->name);
	/* Of its own: rights differ from device to device */
	l->owned->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (l->owned->container < 0 || ioctl(fd, VFIO_GROUP_SET_CONTAINER, &l->owned->container) ||
	    ioctl(l->owned->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		die("%s: VFIO: %m%s", l->name, errno != EPERM ? "" :
		    " (vfio_iommu_type1 may want allow_unsafe_interrupts=1)");
	l->owned->device = ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, l->name);
	if (l->owned->device < 0)
		die("%s: VFIO: %m", l->name);
}

static struct vfio_region_info region_info(struct link *l, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(l->owned->device, VFIO_DEVICE_GET_REGION_INFO, &info) || !info.size)
		die("%s: has no region %u", l->name, index);
	return info;
}

/* What one of virtio's capabilities tells: the BAR, and what is in it */
struct place {
	uint8_t bar;
	uint32_t offset, multiplier;
};

static struct place find_place(struct link *l, uint64_t config, uint8_t type)
{
	struct virtio_pci_notify_cap cap;
	uint8_t at;
	int n = 0;

	device_read(l, config + PCI_CAPABILITY_LIST, &at, 1);
	/* A list may have a loop */
	for (; at && n < 64; at = cap.cap.cap_next, n++) {
		device_read(l, config + at, &cap, sizeof(cap));
		if (cap.cap.cap_vndr == PCI_CAP_ID_VNDR && cap.cap.cfg_type == type &&
		    cap.cap.bar <= VFIO_PCI_BAR5_REGION_INDEX)
			return (struct place){ cap.cap.bar, cap.cap.offset,
					       cap.notify_off_multiplier };
	}
	die("%s: is no virtio device of version 1", l->name);
}

static void map_notification(struct link *l, struct place p)
{
	struct vfio_region_info bar = region_info(l, p.bar);
	uint64_t at = p.offset +
		      (uint64_t)common_get(l, VIRTIO_PCI_COMMON_Q_NOFF, 2) * p.multiplier;
	void *mapped;

	if (at + 2 > bar.size || !(bar.flags & VFIO_REGION_INFO_FLAG_MMAP))
		die("%s: its notifications cannot be mapped", l->name);
	mapped = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, l->owned->device,
		      bar.offset);
	if (mapped == MAP_FAILED)
		die("%s: mapping its notifications: %m", l->name);
	l->bell_16 = true;
	l->bell_out = (void *)((uint8_t *)mapped + at);
}

static void set_vectors(struct link *l)
{
	struct {
		struct vfio_irq_set set;
		int fds[VECTORS];
	} irqs = {
		.set = {
			.argsz = sizeof(irqs),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = VECTORS,
		},
		.fds = { new_eventfd(), new_eventfd() },
	};

	if (ioctl(l->owned->device, VFIO_DEVICE_SET_IRQS, &irqs))
		die("%s: its interrupts: %m (it needs vectors=%d or more)", l->name, VECTORS);
	l->bell_in = irqs.fds[1];
}

/* As virtio has it, "Device Initialization" */
static void start_device(struct link *l, uint64_t card)
{
	unsigned int i;

	set_status(l, 0);
	for (i = 0; status(l); i++) {
		if (i == 1000)
			die("%s: does not reset", l->name);
		usleep(1000);
	}
	set_status(l, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	for (i = 0; i < 2; i++) {
		common_set(l, VIRTIO_PCI_COMMON_DFSELECT, 4, i);
		if (features[i] & ~common_get(l, VIRTIO_PCI_COMMON_DF, 4))
			die("%s: has no iommu_platform, or there is no back-end yet", l->name);
		common_set(l, VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		common_set(l, VIRTIO_PCI_COMMON_GF, 4, features[i]);
	}
	set_status(l, status(l) | VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(status(l) & VIRTIO_CONFIG_S_FEATURES_OK))
		die("%s: does not take the features", l->name);
	common_set(l, VIRTIO_PCI_COMMON_MSIX, 2, 0);
	common_set(l, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	if (common_get(l, VIRTIO_PCI_COMMON_Q_SIZE, 2) < QUEUE_SIZE)
		die("%s: has a queue that is too small", l->name);
	common_set(l, VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUE_SIZE);
	common_set(l, VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
	if (common_get(l, VIRTIO_PCI_COMMON_Q_MSIX, 2) != 1)
		die("%s: has no vector for its queue", l->name);
	set_address(l, VIRTIO_PCI_COMMON_Q_DESCLO, card + offsetof(struct region_card, desc));
	set_address(l, VIRTIO_PCI_COMMON_Q_AVAILLO, card + offsetof(struct region_card, avail));
	set_address(l, VIRTIO_PCI_COMMON_Q_USEDLO, card + offsetof(struct region_card, used));
	common_set(l, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	set_status(l, status(l) | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void *map_memory(struct link *l, uint64_t iova, void *at, uint64_t size, bool write)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | (write ? VFIO_DMA_MAP_FLAG_WRITE : 0),
		.vaddr = (uintptr_t)at,
		.iova = iova,
		.size = size,
	};

	if (ioctl(l->owned->container, VFIO_IOMMU_MAP_DMA, &map))
		die("%s: mapping 0x%" PRIx64 "+0x%" PRIx64 ": %m", l->name, iova, size);
	return at;
}

void link_own(struct link *l, uint64_t iova, uint64_t size)
{
	struct vfio_region_info config;
	struct place place;
	uint16_t command;
	void *card;

	l->owned = calloc(1, sizeof(*l->owned));
	card = mmap(NULL, REGION_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!l->owned || card == MAP_FAILED)
		die("%s: no memory", l->name);
	open_vfio(l);
	l->owned->card = map_memory(l, iova, card, REGION_PAGE, true);
	l->owned->region = iova + REGION_HUGE;
	l->owned->size = size;
	link_mend(l);

	config = region_info(l, VFIO_PCI_CONFIG_REGION_INDEX);
	device_read(l, config.offset + PCI_COMMAND, &command, sizeof(command));
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	device_write(l, config.offset + PCI_COMMAND, &command, sizeof(command));
	place = find_place(l, config.offset, VIRTIO_PCI_CAP_COMMON_CFG);
	l->owned->common = region_info(l, place.bar).offset + place.offset;
	set_vectors(l);
	start_device(l, iova);
	map_notification(l, find_place(l, config.offset, VIRTIO_PCI_CAP_NOTIFY_CFG));
}

void link_mend(struct link *l)
{
	volatile struct region_card *card = l->owned->card;

	if (card->magic == REGION_CARD_MAGIC && card->region == l->owned->region &&
	    card->size == l->owned->size && !*(volatile uint32_t *)card->avail &&
	    !*(volatile uint32_t *)card->used)
		return;
	memset((void *)card, 0, sizeof(*card));
	card->region = l->owned->region;
	card->size = l->owned->size;
	card->magic = REGION_CARD_MAGIC;
}

void link_map(struct link *l, uint64_t iova, volatile void *at, uint64_t size, bool write)
{
	struct owned *o = l->owned;

	if (o->maps == MAPS)
		die("%s: too many mappings", l->name);
	map_memory(l, iova, (void *)at, size, write);
	o->map[o->maps].iova = iova;
	o->map[o->maps++].size = size;
}

void link_unmap(struct link *l)
{
	struct owned *o = l->owned;

	while (o->maps) {
		struct vfio_iommu_type1_dma_unmap unmap = {
			.argsz = sizeof(unmap),
			.iova = o->map[o->maps - 1].iova,
			.size = o->map[o->maps - 1].size,
		};

		if (ioctl(o->container, VFIO_IOMMU_UNMAP_DMA, &unmap) ||
		    unmap.size != o->map[o->maps - 1].size)
			die("%s: unmapping 0x%" PRIx64 ": %m", l->name, o->map[o->maps - 1].iova);
		o->maps--;
	}
}
