/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * vm2vm: the PCI device that shows a backend's guest its peer (QEMU's vm2vm-pci).
 *
 * It has three regions, besides the configuration space:
 *
 *	BAR 0	registers, below, and the doorbells
 *	BAR 1	the MSI-X table
 *	BAR 2	the window, 64-bit and prefetchable: the owner's memory
 *
 * Registers are little-endian.  Each is read and written as one aligned access of 4
 * bytes; the 64-bit ones, of which the lower half comes first, also as one of 8.  All
 * are for reading unless said otherwise; a write to those has no effect, and what is
 * not listed reads as 0.
 *
 * A bus address (iova) of the owner's device is at offset iova - VM2VM_PCI_BASE of the
 * window.  What the owner's IOMMU does not map there reads as all-ones, and a write
 * to it vanishes; both are counted.
 */
#ifndef VM2VM_PCI_H
#define VM2VM_PCI_H

/* Provisional, until there are numbers of our own. */
#define VM2VM_PCI_VENDOR_ID		0x1234
#define VM2VM_PCI_DEVICE_ID		0x5632

#define VM2VM_PCI_REGISTERS_BAR		0
#define VM2VM_PCI_MSIX_BAR		1
#define VM2VM_PCI_WINDOW_BAR		2

#define VM2VM_PCI_MAX_QUEUES		32

/* "V2VM", and the version of this layout. A later one only adds. */
#define VM2VM_PCI_MAGIC			0x00
#define   VM2VM_PCI_MAGIC_VALUE		0x4d563256
#define VM2VM_PCI_VERSION		0x04
#define   VM2VM_PCI_VERSION_VALUE	1
/* What there is now; vector VM2VM_PCI_VECTOR_STATE tells of changes. */
#define VM2VM_PCI_STATE			0x08
#define   VM2VM_PCI_STATE_CONNECTED	0x1	/* a peer, and we understand each other */
#define   VM2VM_PCI_STATE_WINDOW	0x2	/* the window shows what it approves */
#define   VM2VM_PCI_STATE_DRIVER_OK	0x4	/* its device runs, with the queues below */
/* How many peers there have been; one that has gone and come again counts anew. */
#define VM2VM_PCI_GENERATION		0x0c
/* Bytes of the window, and the bus address that its first byte shows: 64 bits each. */
#define VM2VM_PCI_SIZE			0x10
#define VM2VM_PCI_BASE			0x18
/* Of the owner's virtio device: ID (0 if there is none), number of queues, status. */
#define VM2VM_PCI_DEVICE_TYPE		0x20
#define VM2VM_PCI_NR_QUEUES		0x24
#define VM2VM_PCI_DEVICE_STATUS		0x28
/* Offset of the doorbells in this BAR. */
#define VM2VM_PCI_DOORBELL_OFFSET	0x2c
/* The features that the owner's driver has taken: 64 bits. */
#define VM2VM_PCI_FEATURES		0x30
/* Accesses to the window that were not approved, since reset: 64 bits each. */
#define VM2VM_PCI_REFUSED_READS		0x40
#define VM2VM_PCI_REFUSED_WRITES	0x48

/* The queues of the owner's device, by index. */
#define VM2VM_PCI_QUEUE(q)		(0x100 + (q) * 0x40)
#define   VM2VM_PCI_QUEUE_ENABLED	0x00	/* 1: the rest is valid */
#define   VM2VM_PCI_QUEUE_SIZE		0x04	/* descriptors */
#define   VM2VM_PCI_QUEUE_NEXT		0x08	/* where to start in the available ring */
#define   VM2VM_PCI_QUEUE_DESC		0x10	/* 64 bits each, bus addresses */
#define   VM2VM_PCI_QUEUE_AVAIL		0x18
#define   VM2VM_PCI_QUEUE_USED		0x20
#define   VM2VM_PCI_QUEUE_KICKS		0x28	/* those that came without an interrupt */

/*
 * The doorbells: write the queue's index, 4 bytes, at VM2VM_PCI_DOORBELL_OFFSET, and the
 * owner's driver gets the queue's interrupt ("used buffer notification").  KVM does it,
 * without an exit to the VMM.
 */

/* MSI-X vectors: something in the registers has changed; queue q was kicked. */
#define VM2VM_PCI_VECTOR_STATE		0
#define VM2VM_PCI_VECTOR_QUEUE(q)	(1 + (q))

#endif /* VM2VM_PCI_H */
