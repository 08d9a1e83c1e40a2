// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: what of a device can be mapped
 *
 * A region is a file of its own: it can be passed to a program that is to have the window and
 * nothing else of the device, and be taken from it again.  Each has an inode of its own, by
 * which its mappings are found.
 *
 * What is revoked must not cost a program its life that is busy with others, as a SIGBUS
 * would: a page takes the place of the device's, one for the whole region.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pci.h>
#include <linux/pseudo_fs.h>
#include <linux/rwsem.h>
#include <linux/slab.h>

#include "compat.h"
#include "driver.h"

#define VM2VM_FS_MAGIC	0x4d563256

/* So many pages are mapped with the one that is touched, if they are beside it */
#define AROUND		16UL

/**
 * struct vm2vm_part - a file of a device's
 * @vm: the device, of which it has a reference
 * @giver: the open file that it came from; only compared, as it may be gone
 * @entry: in the device's list, under its lock
 * @mapping: of its inode
 * @pfn: of the device's first page
 * @size: bytes
 * @uncached: registers are
 * @lock: for @revoked.  Taken for reading in page faults, so within mmap_lock.
 * @revoked: it shows @instead everywhere
 * @instead: a page of ours
 */
struct vm2vm_part {
	struct vm2vm *vm;
	struct file *giver;
	struct list_head entry;
	struct address_space *mapping;
	unsigned long pfn;
	u64 size;
	bool uncached;
	struct rw_semaphore lock;
	bool revoked;
	struct page *instead;
};

static struct vfsmount *vm2vm_mount;
static int vm2vm_mount_users;

static int vm2vm_fs_init(struct fs_context *fc)
{
	if (!init_pseudo(fc, VM2VM_FS_MAGIC))
		return -ENOMEM;
	/* So that it cannot be mapped executable, now or by mprotect() */
	fc->s_iflags |= SB_I_NOEXEC;
	return 0;
}

static struct file_system_type vm2vm_fs = {
	.name = "vm2vm",
	.owner = THIS_MODULE,
	.init_fs_context = vm2vm_fs_init,
	.kill_sb = kill_anon_super,
};

static int bar_of(unsigned int which)
{
	switch (which) {
	case VM2VM_REGION_REGISTERS:
		return VM2VM_PCI_REGISTERS_BAR;
	case VM2VM_REGION_WINDOW:
		return VM2VM_PCI_WINDOW_BAR;
	case VM2VM_REGION_INFLIGHT:
		return VM2VM_PCI_INFLIGHT_BAR;
	}
	return -EINVAL;
}

u64 vm2vm_region_size(struct vm2vm *vm, unsigned int which)
{
	return pci_resource_len(vm->pdev, bar_of(which));
}

/* Mappings */

struct fill {
	struct mm_struct *mm;
	unsigned long pfn;
	unsigned long step;
	pgprot_t prot;
};

static int fill_one(pte_t *pte, unsigned long addr, void *data)
{
	struct fill *fill = data;

	if (pte_none(ptep_get(pte)))
		set_pte_at(fill->mm, addr, pte, pte_mkspecial(pfn_pte(fill->pfn, fill->prot)));
	fill->pfn += fill->step;
	return 0;
}

/*
 * The page table entries are made here, as i915 makes its own, and not by vmf_insert_pfn().
 * On x86 that takes the memory type from the list of those that somebody has reserved for
 * physical addresses, and without one uncached.  To reserve write-back the whole window would
 * have to be mapped in the kernel, a hundred times the guest's memory as it may be (KASAN's
 * shadow of that is not to be had); and it would be refused where firmware has set the MTRRs
 * of the PCI hole to uncached.  They mean nothing here: the window is no device's memory but
 * the peer's, which the host has write-back.  With EPT KVM ignores the guest's type, with
 * nested paging on AMD it is what counts.
 */
static vm_fault_t vm2vm_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct vm2vm_part *r = vma->vm_private_data;
	unsigned long start = vmf->address & PAGE_MASK, end = start + PAGE_SIZE;
	struct fill fill = { .mm = vma->vm_mm, .prot = vma->vm_page_prot };
	int err;

	down_read(&r->lock);
	if (r->revoked) {
		fill.pfn = page_to_pfn(r->instead);
	} else {
		start = max(vma->vm_start, ALIGN_DOWN(start, AROUND * PAGE_SIZE));
		end = min(vma->vm_end, ALIGN(end, AROUND * PAGE_SIZE));
		fill.pfn = r->pfn + vma->vm_pgoff + ((start - vma->vm_start) >> PAGE_SHIFT);
		fill.step = 1;
		if (r->uncached)
			fill.prot = pgprot_noncached(fill.prot);
	}
	err = apply_to_page_range(vma->vm_mm, start, end - start, fill_one, &fill);
	up_read(&r->lock);
	return err ? VM_FAULT_OOM : VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct vm2vm_vm_ops = {
	.fault = vm2vm_fault,
};

static int vm2vm_region_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vm2vm_part *r = file->private_data;
	unsigned long pages = r->size >> PAGE_SHIFT;

	/* A private copy of a page would have to be made of a page */
	if (is_cow_mapping(vma->vm_flags))
		return -EINVAL;
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_private_data = r;
	vma->vm_ops = &vm2vm_vm_ops;
	return 0;
}

/* Under the device's lock.  What faults from now on finds another page, and then all do. */
static void revoke(struct vm2vm_part *r)
{
	down_write(&r->lock);
	r->revoked = true;
	up_write(&r->lock);
	unmap_mapping_range(r->mapping, 0, 0, 1);
}

void vm2vm_regions_revoke(struct vm2vm *vm, struct file *giver)
{
	struct vm2vm_part *r;

	lockdep_assert_held(&vm->lock);
	list_for_each_entry(r, &vm->regions, entry) {
		if (!r->revoked && (!giver || r->giver == giver))
			revoke(r);
	}
}

/* The file */

static void region_free(struct vm2vm_part *r)
{
	put_device(&r->vm->dev);
	__free_page(r->instead);
	kfree(r);
}

static int vm2vm_region_release(struct inode *inode, struct file *file)
{
	struct vm2vm_part *r = file->private_data;

	mutex_lock(&r->vm->lock);
	list_del(&r->entry);
	mutex_unlock(&r->vm->lock);
	/* No mapping is left, as each has a reference to the file */
	region_free(r);
	simple_release_fs(&vm2vm_mount, &vm2vm_mount_users);
	return 0;
}

static loff_t vm2vm_region_llseek(struct file *file, loff_t offset, int whence)
{
	struct vm2vm_part *r = file->private_data;

	/* Some ask so for the size of what they are to map */
	return fixed_size_llseek(file, offset, whence, r->size);
}

static const struct file_operations vm2vm_region_fops = {
	.owner = THIS_MODULE,
	.release = vm2vm_region_release,
	.mmap = vm2vm_region_mmap,
	.llseek = vm2vm_region_llseek,
};

int vm2vm_region_revoke(struct vm2vm *vm, struct file *giver, unsigned long fd)
{
	struct file *file = fget(fd);
	struct vm2vm_part *r;
	int ret = -EINVAL;

	lockdep_assert_held(&vm->lock);
	if (!file)
		return -EBADF;
	if (file->f_op == &vm2vm_region_fops) {
		r = file->private_data;
		if (r->vm == vm && r->giver == giver) {
			revoke(r);
			ret = 0;
		}
	}
	fput(file);
	return ret;
}

static struct vm2vm_part *region_alloc(struct vm2vm *vm, struct file *giver, unsigned int which)
{
	struct vm2vm_part *r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);
	int bar = bar_of(which);

	if (!r)
		return NULL;
	r->instead = alloc_page(GFP_KERNEL_ACCOUNT);
	if (!r->instead) {
		kfree(r);
		return NULL;
	}
	memset(page_address(r->instead), 0xff, PAGE_SIZE);
	r->vm = vm;
	get_device(&vm->dev);
	r->giver = giver;
	INIT_LIST_HEAD(&r->entry);
	init_rwsem(&r->lock);
	r->pfn = PHYS_PFN(pci_resource_start(vm->pdev, bar));
	r->size = pci_resource_len(vm->pdev, bar);
	r->uncached = which == VM2VM_REGION_REGISTERS;
	return r;
}

/* Takes over @r if it succeeds */
static struct file *region_file(struct vm2vm_part *r, unsigned int flags)
{
	struct inode *inode;
	struct file *file;
	int ret;

	ret = simple_pin_fs(&vm2vm_fs, &vm2vm_mount, &vm2vm_mount_users);
	if (ret)
		return ERR_PTR(ret);
	inode = alloc_anon_inode(vm2vm_mount->mnt_sb);
	if (IS_ERR(inode)) {
		file = ERR_CAST(inode);
		goto release_fs;
	}
	i_size_write(inode, r->size);
	/* It has a reference to this module, and gives it back */
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, vm2vm_mount, "vm2vm", flags, &vm2vm_region_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
		goto release_fs;
	}
	file->private_data = r;
	r->mapping = inode->i_mapping;
	return file;

release_fs:
	simple_release_fs(&vm2vm_mount, &vm2vm_mount_users);
	return file;
}

int vm2vm_region_get(struct vm2vm *vm, struct file *giver, unsigned int which)
{
	struct vm2vm_part *r;
	struct file *file;
	int fd;

	lockdep_assert_held(&vm->lock);
	if (bar_of(which) < 0)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	r = region_alloc(vm, giver, which);
	if (!r) {
		put_unused_fd(fd);
		return -ENOMEM;
	}
	file = region_file(r, giver->f_flags & O_ACCMODE);
	if (IS_ERR(file)) {
		region_free(r);
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	list_add(&r->entry, &vm->regions);
	fd_install(fd, file);
	return fd;
}
